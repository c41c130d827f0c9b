"""Names that a sweep gives and that nothing has are told with their line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rocbench.commands import planning
from rocbench.errors import ConfigError, InputError
from rocbench.plan.expand import Overrides
from rocbench.tables.row import Row
from virtual import plan_of

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


def test_earlier_runs_give_the_spread_and_damaged_ones_are_ignored(tmp_path, monkeypatch):
    """The rows of the newest runs in the folder; a run that cannot be read, or no folder, is no reason to stop."""
    plan = plan_of(
        {
            "name": "p",
            "vllm": "0.14.1",
            "models": ["llama-3.1-405b"],
            "workloads": ["short"],
            "concurrency": [8],
        }
        | {"repeats": 3}
    )
    (cell,) = plan.groups[0].cells
    known = {"key": cell.key, "cell_id": cell.cell_id, "hardware": "mi325x", "simulated": True, "valid": True}

    class Run:
        def __init__(self, name, figures):
            self.rows = [
                Row(known | {"run_id": name, "repeat": i, "output_throughput": x})
                for i, x in enumerate(figures)
            ]

    class Damaged:
        @property
        def rows(self):
            raise InputError("damaged")

    folders = [Run("a", [100, 101, 102]), Damaged(), Run("b", [90, 91, 92])]
    monkeypatch.setattr(planning.runs, "find", lambda *_: folders)
    (promise,) = planning.promises(plan, tmp_path)
    assert (promise.runs, promise.metric) == (2, "output_throughput")
    assert promise.cov == pytest.approx(0.0105, rel=0.03)
    (unknown,) = planning.promises(plan, tmp_path / "none")
    assert unknown.cov is None
