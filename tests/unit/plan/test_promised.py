"""The comparison that a plan's repeats allow: counted as the judgement counts it."""

from __future__ import annotations

import pandas as pd
import pytest

from rocbench.judgement.ablate import ablate
from rocbench.judgement.verdicts import DEFAULT_METRICS as METRICS
from rocbench.plan import promised
from rocbench.tables.row import Row
from virtual import plan_of

BASE = {
    "name": "power",
    "vllm": "0.14.1",
    "models": ["llama-3.1-405b"],
    "workloads": ["short"],
    "concurrency": [1, 8, 64],
    "repeats": 3,
}
TWO = {"aiter": ["off", "on"], "max_num_seqs": [256, 512]}


def rows_of(plan, **more):
    """A row for each run of a plan, with figures that differ."""
    return [
        {
            "run_id": "earlier",
            "key": run.cell.key,
            "cell_id": run.cell.cell_id,
            "repeat": run.repeat,
            "discarded": False,
            "valid": True,
            "model": launch.group.model,
            "workload": run.cell.workload.name,
            "concurrency": run.cell.level.concurrency,
            "axes": pd.Series(launch.group.axes).to_json() if launch.group.axes else None,
            "simulated": True,
            "hardware": launch.group.hardware.name,
            "output_throughput": 1000.0 + index % 7,
            "median_ttft_ms": 100.0 + index % 5,
            "median_tpot_ms": 10.0 + index % 3,
            "p99_e2el_ms": 900.0 + index % 11,
        }
        | more
        for index, (launch, run) in enumerate((each, run) for each in plan.launches for run in each.runs)
    ]


@pytest.mark.parametrize("design", ["full", "one_at_a_time", "leave_one_out", "pairwise"])
def test_the_verdicts_are_counted_as_the_ablation_counts_them(design):
    """Holm's family is the ablation's table."""
    plan = plan_of(BASE | {"factors": TWO, "design": design})
    wanted = promised.design(plan)
    table = ablate(pd.DataFrame(rows_of(plan)), TWO).table
    assert wanted.tests == len(table)
    assert set(table["metric"]) == set(METRICS)
    assert wanted.paired
    single = table[~table["factor"].str.contains(" x ")]
    assert wanted.cells == len(single[single["metric"] == "output_throughput"])
    assert wanted.averaged == (2 if design in ("full", "pairwise") else 1)


def test_arms_of_a_matrix_are_two_sides():
    """Two values of an axis: half of the cells on each side, not paired."""
    wanted = promised.design(plan_of(BASE | {"matrix": {"product": {"aiter": ["off", "on"]}}}))
    assert (wanted.measured, wanted.cells, wanted.tests, wanted.paired) == (6, 3, 12, False)


def test_looks_of_until_cost_power():
    """At most 12 repeats with looks at 3, 4, 6, 8, 11 and 12."""
    wanted = promised.design(plan_of(BASE | {"until": {"interval_half_width": "2%", "max": 12}}))
    assert (wanted.repeats, wanted.looks) == (12, 6)


def test_earlier_runs_of_the_same_cells_are_the_history():
    """Rows of other cells, hardware or origin do not count; a stated CoV comes first."""
    plan = plan_of(BASE)
    known = [Row(row) for row in rows_of(plan)]
    assert {each.metric for each in promised.of(plan, known)} >= {"output_throughput", "p99_e2el_ms"}
    for other in ({"hardware": "mi355x"}, {"simulated": False}, {"key": "other/short/c1"}):
        (unknown,) = promised.of(plan, [Row(row) for row in rows_of(plan, **other)])
        assert unknown.cov is None
    (stated,) = promised.of(plan_of(BASE | {"power": {"cov": "1%", "effect": "3%"}}), known)
    assert (stated.cov, stated.runs, stated.effect) == (0.01, 0, 0.03)
