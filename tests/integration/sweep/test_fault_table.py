"""The fault table in the docs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_test_of_the_table_is_there():
    """Each test that docs/faults.md names exists, and each row names one."""
    table = [line for line in (ROOT / "docs" / "faults.md").read_text().splitlines() if "::test_" in line]
    assert len(table) > 20
    for line in table:
        for path, name in re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", line.rpartition(" | ")[2]):
            assert f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"
