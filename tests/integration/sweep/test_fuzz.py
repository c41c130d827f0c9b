"""A sample of benchmarks/fuzz.py: no broken file ends `bench` other than with its message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "benchmarks/fuzz.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        ("yaml", "--seeds", "250"),
        ("config", "--seeds", "100"),
        ("run", "--seeds", "8"),
        ("yaml", "--seeds", "3", "--command-line"),
    ],
    ids=["settings", "config.json", "run folders", "command line"],
)
def test_mutated_files_end_with_a_message(asked: tuple[str, ...]) -> None:
    """No traceback, no hang, no exit code outside the table, bounded memory."""
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), *asked], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
