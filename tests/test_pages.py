"""Names that pages for developers give: every file, module and function exists, so that a rename mends the pages too."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest

from walls import Module, read_modules

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "rocbench"
PAGES = ("docs/architecture.md", "docs/request.md", "CONTRIBUTING.md")
QUOTED = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w./-]+\.(?:py|md|yaml|yml|toml|lock)|(?:[\w.-]+/)+")
DOTTED = re.compile(r"\w+(?:\.\w+)+")
NAME = re.compile(r"[a-z_]+")


def missing(text: str, modules: dict[str, Module]) -> list[str]:
    """Names of files, and dotted names of ours, that do not exist."""
    found = []
    for quoted in QUOTED.findall(text):
        if "NAME" in quoted:
            continue
        if FILE.fullmatch(quoted):
            roots = (ROOT, SOURCE)
            exists = any((root / quoted).exists() for root in roots) or quoted.startswith("/")
        elif DOTTED.fullmatch(quoted) and quoted.split(".")[0] in modules:
            exists = is_ours(quoted, modules)
        else:
            continue
        if not exists:
            found.append(quoted)
    return found


def is_ours(name: str, modules: dict[str, Module]) -> bool:
    """Whether a dotted name is a module, or a name at the top of one, or a member of a class there."""
    module, members = name, []
    while module not in modules:
        module, _, last = module.rpartition(".")
        members.insert(0, last)
    body = modules[module].tree.body
    for member in members:
        node = next((node for node in body if member in defined(node)), None)
        if node is None:
            return False
        body = node.body if isinstance(node, ast.ClassDef) else []
    return True


def defined(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


def missing_modules(text: str, modules: dict[str, Module]) -> list[str]:
    """In the table of architecture.md: words beside a package's name (`settings/`: `schema`) that are no module of it."""
    found = []
    for line in text.splitlines():
        cells = line.split("|")
        quoted = QUOTED.findall(cells[2]) if len(cells) > 3 else []
        packages = [name.rstrip("/") for name in quoted if name.endswith("/")]
        for name in quoted:
            if packages and NAME.fullmatch(name):
                places = [name, *(f"{package.replace('/', '.')}.{name}" for package in packages)]
                found += [f"{'/'.join(packages)}: {name}"] if not set(places) & set(modules) else []
    return found


@pytest.fixture(scope="module")
def package() -> dict[str, Module]:
    """Every module of the package."""
    return read_modules(SOURCE)


@pytest.mark.parametrize("page", PAGES)
def test_every_name_in_the_page_exists(page, package):
    """Files, modules, functions and classes, as the page names them."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert len(QUOTED.findall(text)) > 20
    assert missing(text, package) == []


def test_the_table_of_modules_is_true(package):
    """The table in architecture.md names modules that stand in the package it names them in."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert missing_modules(text, package) == []


def test_a_name_that_is_gone_is_found(package):
    """Each kind of name is seen when it does not exist."""
    gone = [
        "load.driver.drives",
        "load.parse",
        "load/nothing.py",
        "load.sockets.Sockets.transmitted",
        "docs/none.md",
    ]
    there = [
        "load.driver.drive",
        "load.sockets.Sockets.transmit",
        "load/aio.py",
        "records.LoadResult",
        "aiohttp.web",
    ]
    assert missing(" ".join(f"`{name}`" for name in gone + there), package) == gone
    assert missing_modules("| a | `settings/`: `schema`, `nowhere` | b |", package) == ["settings: nowhere"]


def test_the_readme_names_what_is_supported():
    """Versions, GPUs and models in the README's table are those of configs/."""
    generator = runpy.run_path(str(ROOT / "scripts" / "generate-docs"), run_name="pages")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == generator["readme"](text), "run .venv/bin/python scripts/generate-docs"


def test_the_page_of_the_rules_counts_them():
    """The table of proved, read and reported rules in docs/rules.md is that of the rule table."""
    generator = runpy.run_path(str(ROOT / "scripts" / "generate-docs"), run_name="pages")
    text = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    assert text == generator["rules"](text), "run .venv/bin/python scripts/generate-docs"
