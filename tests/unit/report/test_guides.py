"""The quick start and the guides: their links lead somewhere, and every command in them exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from rocbench.cli import app
from rocbench.judgement.gaterules import GateRules
from rocbench.settings.schema import Sweep

DOCS = Path(__file__).parents[3] / "docs"
PAGES = ["quickstart.md", "guide-shell.md", "guide-nightly.md", "guide-comparing.md", "exports.md"]
COMMAND = re.compile(r"(?:^ *|`)(?:scripts/)?bench ((?:[^`#\n]|\\\n)+)", re.MULTILINE)


def text(name):
    """A page."""
    return (DOCS / name).read_text(encoding="utf-8")


ALL = sorted([*DOCS.rglob("*.md"), DOCS.parent / "README.md"])


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    """Every relative link is a file of the checkout."""
    written = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", written):
        assert (page.parent / target).exists(), target
    for target in re.findall(r"`((?:docs|src|tests|benchmarks)/[\w./-]+|scripts/[\w-]+)`", written):
        assert (DOCS.parent / target).exists(), target


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_commands_exist_with_their_options(page):
    """No page names a command or an option that `bench --help` does not know."""
    found = COMMAND.findall(page.read_text(encoding="utf-8"))
    assert found or page.name not in PAGES
    for line in found:
        words = line.replace("\\\n", " ").split()
        command = get_command(app)
        while words and hasattr(command, "commands") and not words[0].startswith("-"):
            assert re.split(r"[|,.;:]", words[0])[0] in command.commands, line
            command = command.commands[re.split(r"[|,.;:]", words.pop(0))[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        for word in words[1:]:
            if word.startswith("--"):
                assert word in known, line


def test_yaml_of_the_guides_is_taken():
    """The sweeps and the gate's rules that the pages show are valid as they stand."""
    for name in PAGES:
        for block in re.findall(r"```yaml\n(.*?)```", text(name), re.DOTALL):
            content = yaml.safe_load(block)
            (GateRules if "relative" in content else Sweep).model_validate(content)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_rows_have_the_cells_of_their_table(page):
    """A bar that is not escaped would end a cell: every row has as many as its table's head."""
    cells = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        mine = line.replace("\\|", "").count("|") if line.startswith("|") else None
        assert mine is None or cells is None or mine == cells, f"{page.name}:{number}"
        cells = mine
