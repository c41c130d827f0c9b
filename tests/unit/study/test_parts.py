"""The packaged study's parts: every sweep plans without a fault, and holds what was published."""

from __future__ import annotations

import pytest

from rocbench.commands import planning
from rocbench.errors import ConfigError
from rocbench.plan.estimate import max_requests
from rocbench.study import agreement, folder, parts
from rocbench.tables.row import Row
from studycases import NAME, all_parts, part, plan_of, study

MODELS = {"deepseek-v3.2", "kimi-k2.5", "llama-3.1-405b", "qwen3-vl-235b"}


def test_the_study_is_found_and_others_are_not():
    """By name, with the nearest name in the message."""
    assert NAME in folder.names()
    with pytest.raises(ConfigError, match=NAME):
        folder.read("mi325x-2603")


def test_every_part_plans_without_a_fault():
    """Replay on the study's vLLM, corrected on it and on today's."""
    ids = [found.id for found in all_parts()]
    assert ids == [
        "replay-thorough-0.14.1",
        "replay-quick-0.14.1",
        "replay-runs-0.14.1",
        "replay-ablation-0.14.1",
        "corrected-curves-0.14.1",
        "corrected-runs-0.14.1",
        "corrected-ablation-0.14.1",
        "corrected-curves-0.33.0",
        "corrected-runs-0.33.0",
        "corrected-ablation-0.33.0",
    ]
    assert not [fault for found in all_parts() for fault in found.plan.faults]
    assert {group.model for found in all_parts() for group in found.plan.groups} == MODELS


def test_replay_is_bound_by_count_and_corrected_by_turnovers():
    """The two methods' loads, requests and lengths."""
    for found in all_parts():
        for group in found.plan.groups:
            for cell in group.cells:
                replay = found.method == "replay"
                assert (cell.load.max_requests is not None) == replay
                assert (cell.workload.prompt_pool is not None) == replay
                assert cell.workload.ignore_eos != replay
                if not replay:
                    assert cell.load.min_requests_per_user >= 5


def test_requests_of_a_level_follow_the_study():
    """300 while scaling, one a user but 450 at most while looking for saturation, 100 in the five runs."""
    cells = {
        (cell.workload.name, cell.level.concurrency, cell.load.max_requests): max_requests(
            cell.load, cell.level.concurrency
        )
        for found in all_parts()
        if found.method == "replay"
        for group in found.plan.groups
        for cell in group.cells
    }
    assert cells["replay-short-200", 5, 300] == 300
    assert cells["replay-short-100", 150, 450] == 150
    assert cells["replay-short-100", 1000, 450] == 450
    assert cells["replay-2048-512", 1000, 100] == 100


def test_the_thorough_replay_is_about_as_large_as_the_study():
    """17,406 requests and 18.9 M tokens by the abstract; ours within a fifth, since two pages were not readable."""
    requests = tokens = 0
    for launch in part("replay-thorough-0.14.1").plan.launches:
        for run in launch.runs:
            workload = run.cell.workload
            images = 1026 * workload.images.count if workload.images else 0
            sent = max_requests(run.cell.load, run.cell.level.concurrency) or 0
            requests += sent
            tokens += sent * (workload.isl.mean + images + workload.osl.mean)
    assert requests == pytest.approx(17_406, rel=0.2)
    assert tokens == pytest.approx(18.9e6, rel=0.2)


def test_every_published_level_has_its_cell():
    """Tables and sweeps agree on models, workloads, counts and users."""
    tables = study().tables
    assert tables is not None
    for curve in tables.curves:
        assert len(agreement.places(curve, plan_of(curve.sweep))) == len(curve.rows)
    held_out = {curve.page for curve in tables.curves if curve.held_out and not curve.peak}
    assert held_out == {
        "benchmarks/stress-testing/llama-3-1",
        "benchmarks/stress-testing/qwen3-vl",
        "benchmarks/validation-testing/qwen3-vl",
    }


def test_a_study_served_by_others_takes_another_kind_of_server():
    """--simulate and --container change how servers are had, not what they are."""
    for kind in ("simulated", "container"):
        (found, *_) = parts.parts(study(), planning.sources, method="replay", kind=kind)
        assert found.plan.sweep.server.kind == kind
        assert [g.resolution.argv() for g in found.plan.groups if g.resolution] == [
            g.resolution.argv() for g in all_parts()[0].plan.groups if g.resolution
        ]


def test_small_keeps_every_method_and_fewer_levels():
    """Fewer runs, shorter requests, faster servers."""
    small = all_parts(small=True)
    assert {found.method for found in small} == {"replay", "corrected"}
    assert sum(found.plan.runs for found in small) < 150
    assert all(found.plan.sweep.simulation.speed > 1 for found in small)
    cells = [cell for found in small for group in found.plan.groups for cell in group.cells]
    assert max(cell.workload.osl.mean for cell in cells) <= 128


@pytest.mark.parametrize(("option", "known"), [("method", "corrected"), ("variant", "0.33.0")])
def test_an_unknown_method_or_variant_is_named(option, known):
    """With what there is."""
    with pytest.raises(ConfigError, match=known):
        parts.parts(study(), planning.sources, **{option: "other"})


def test_rows_without_a_figure_are_beside_no_published_one():
    """A server that failed has no error against the study."""
    tables, plan = study().tables, plan_of("replay-quick")
    assert tables is not None
    rows = [Row({"cell_id": cell.cell_id, "valid": False}) for group in plan.groups for cell in group.cells]
    assert agreement.predicted_levels(tables, {"replay-quick": plan}, rows) == []


def test_only_drops_runs_and_servers_without_any():
    """What is not kept is not started."""
    plan = parts.only(part("replay-quick-0.14.1").plan, lambda run: run.cell.key.startswith("llama"))
    assert {group.model for group in plan.groups} == {"llama-3.1-405b"}
    assert {launch.group.model for launch in plan.launches} == {"llama-3.1-405b"}
    assert 0 < plan.runs < part("replay-quick-0.14.1").plan.runs
