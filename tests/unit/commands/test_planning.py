"""Names that a sweep gives and that nothing has are told with their line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rocbench.commands import planning
from rocbench.errors import ConfigError, InputError
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


LOADED = "name: mine\nmodels: [llama-3.1-405b]\nvllm: 0.14.1\nworkloads: [short]\n"


@pytest.mark.parametrize(
    ("text", "changes", "told"),
    [
        (
            "rate: [1]\nload: {shape: {kind: open}}\n",
            {"concurrency": [2]},
            "`concurrency` needs a closed loop",
        ),
        ("load: {shape: {kind: trace, path: t.jsonl}}\n", {"osl": 5}, "--osl has no effect on a trace"),
    ],
)
def test_a_change_without_effect_is_refused(
    tmp_path: Path, text: str, changes: dict[str, Any], told: str
) -> None:
    """What the command line asks for is done or refused."""
    path = tmp_path / "sweep.yaml"
    path.write_text(LOADED + text)
    with pytest.raises(InputError, match=told):
        planning.plan(str(path), Overrides(), changes)


def test_a_length_beside_a_dataset_is_refused_and_a_rate_opens_the_loop(tmp_path: Path) -> None:
    """`--isl` where prompts come from a file; `--rate` in place of the file's users."""
    path = tmp_path / "sweep.yaml"
    (tmp_path / "w.yaml").write_text("name: w\nisl: {mean: 9}\nosl: {mean: 9}\ndataset: {path: d.jsonl}\n")
    path.write_text(LOADED.replace("short", str(tmp_path / "w.yaml")) + "concurrency: [1, 8]\n")
    with pytest.raises(ConfigError, match="--isl has no effect on workload w: its prompts come from d"):
        planning.plan(str(path), Overrides(), {"isl": 5})
    made = planning.plan(str(path), Overrides(), {"rate": [2.0]})
    assert [cell.level.rate for group in made.groups for cell in group.cells] == [2.0]
