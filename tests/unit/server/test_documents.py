"""docs/faults.md and docs/node.md say what is there."""

import re
from pathlib import Path

from rocbench.probe import doctor
from rocbench.server.failures import signatures

ROOT = Path(__file__).parents[3]
FAULTS = (ROOT / "docs" / "faults.md").read_text()
NODE = (ROOT / "docs" / "node.md").read_text()


def test_every_named_test_is_there():
    """Each test that the fault table names exists, under that name."""
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", FAULTS)

    assert len(named) > 25
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text()]
    assert not missing, missing


def test_every_known_cause_is_listed():
    """The table of causes in the document is the table in the package, row by row."""
    for signature in signatures():
        code = f"| `{signature.id}`{' (generic)' if signature.generic else ''} |"
        cells = (signature.cause, signature.fix, signature.source)
        row = " | ".join([code.removesuffix(" |"), *(cell.replace("|", "\\|") for cell in cells)]) + " |"
        assert row in FAULTS, f"docs/faults.md lacks this row:\n{row}"


def test_every_check_is_listed(monkeypatch, tmp_path):
    """Each check of the doctor stands in the document's table."""
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path))

    for check in doctor.examine(tmp_path, environs=[{}]):
        assert f"`{check.id}`" in NODE, check.id
