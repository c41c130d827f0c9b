"""Names that a sweep gives and that nothing has are told with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocbench.commands import planning
from rocbench.errors import ConfigError
from rocbench.plan.expand import Overrides

SWEEP = """\
name: mine
models:
  - deepseek
workloads:
  - short
  - shrt
concurrency: [1]
hardware: mi3
blocks:
  - workloads: [srt]
  - {}
"""


def test_a_name_that_nothing_has_is_told_with_its_line(tmp_path: Path) -> None:
    """Models, workloads (those of blocks too) and hardware, all at once."""
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP)

    with pytest.raises(ConfigError) as caught:
        planning.plan(str(path), Overrides())

    told = [line for line in caught.value.text().splitlines() if not line.startswith("  fix")]
    assert [
        f"{path}:3: no model named 'deepseek'",
        f"{path}:6: no workload named 'shrt'",
        f"{path}:10: no workload named 'srt'",
        f"{path}:8: no hardware named 'mi3'",
    ] == told
