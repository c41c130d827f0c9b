"""docs/faults.md, docs/node.md and tests/faults.md say what is there."""

import re
from pathlib import Path

import nasty
from rocbench.probe import doctor
from rocbench.server import orphans

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


def faults_of(page: Path) -> list[str]:
    """The first cell of each row of the page's first table."""
    table = page.read_text(encoding="utf-8").partition("|---|---|\n")[2].partition("\n\n")[0]
    return [row.split(" | ")[0] for row in table.splitlines()]


def test_every_fault_of_the_page_has_a_test_that_exists():
    """docs/faults.md and tests/faults.md have the same rows, and each test named in the latter exists."""
    page = ROOT / "tests" / "faults.md"
    faults = faults_of(page)
    assert len(faults) > 60
    assert faults == faults_of(DOCS / "faults.md")
    for row in page.read_text(encoding="utf-8").splitlines():
        if row.rpartition(" | ")[0] not in faults:
            continue
        named = re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py)(?:::(test_\w+))?", row.rpartition(" | ")[2])
        assert named, row
        for file, name in named:
            assert (
                f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")
                if name
                else (ROOT / file).exists()
            )


def test_the_nasty_answers_are_those_of_the_page():
    """The table of docs/faults.md has every mode of tests/nasty.py, with the same words for its answer."""
    table = re.findall(
        r"^\| `(\w+)` \| (.+?) \| `", (DOCS / "faults.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert dict(table) == {mode.name: mode.what for mode in nasty.MODES.values()}


def test_pages_for_users_name_no_test():
    """Pages for users describe faults and outcomes; tests/faults.md has the names of the tests."""
    pages = sorted(DOCS.rglob("*.md"))
    assert len(pages) > 20
    for page in pages:
        if page.name not in {"architecture.md", "style.md"}:  # pages for developers
            assert not re.findall(r"\btest_\w+\.py|::test_\w+|`tests/", page.read_text(encoding="utf-8")), (
                page.name
            )


def test_every_check_is_listed(monkeypatch, tmp_path):
    """Each check of the doctor is in the page's table."""
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path))
    node = (DOCS / "node.md").read_text(encoding="utf-8")

    for check in doctor.examine(tmp_path, left_servers=orphans.check(), environs=[{}]):
        assert f"`{check.id}`" in node, check.id
