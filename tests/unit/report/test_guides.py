"""The quick start and the guides: their links lead somewhere, and every command in them exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from rocbench.cli import app
from rocbench.judgement.gate import GateRules
from rocbench.settings.schema import Sweep

DOCS = Path(__file__).parents[3] / "docs"
PAGES = ["quickstart.md", "guide-shell.md", "guide-nightly.md", "guide-comparing.md", "exports.md"]
COMMAND = re.compile(r"(?:^ *|`)(?:scripts/)?bench ((?:[^`#\n]|\\\n)+)", re.MULTILINE)


def text(name):
    """A page."""
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files(name):
    """Every relative link is a file of the checkout."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text(name)):
        assert (DOCS / target).exists(), target
    for target in re.findall(r"`(docs/[\w./-]+|scripts/[\w-]+)`", text(name)):
        assert (DOCS.parent / target).exists(), target


@pytest.mark.parametrize("name", PAGES)
def test_commands_exist_with_their_options(name):
    """No page names a command or an option that `bench --help` does not know."""
    root = get_command(app)
    found = COMMAND.findall(text(name))
    assert found
    for line in found:
        words = line.replace("\\\n", " ").split()
        command = root.commands.get(words[0])
        assert command is not None, line
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
