"""Node hours and budgets: the formula against the scheduler, shares, and what is kept."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rocbench.model.architecture import from_config
from rocbench.physics import layout
from rocbench.physics.steps import StepModel
from rocbench.plan import estimate
from rocbench.predict import predicting
from rocbench.sim import calibration
from rocbench.study import budget, hours
from rocbench.study.hours import NodeTime
from rocbench.study.parts import only
from rocbench.study.schema import Question
from studycases import all_parts, part, study


def nodes(found):
    """Step times of a part's servers."""
    cal = calibration.read_calibration(found.plan.sweep.simulation.calibration)
    return lambda group: predicting.node_of(group, found.plan.sweep, cal)


@pytest.mark.parametrize(
    ("id_", "key"),
    [
        ("corrected-curves-0.14.1", "llama-3.1-405b/study-short/c50"),
        ("corrected-curves-0.14.1", "qwen3-vl-235b/study-vision/c25"),
        ("corrected-curves-0.33.0", "deepseek-v3.2/study-short/c100"),
        ("replay-quick-0.14.1", "llama-3.1-405b/replay-short-200/c25"),
        ("replay-runs-0.14.1", "kimi-k2.5/replay-2048-512/c500"),
    ],
)
def test_the_formula_agrees_with_the_scheduler(id_, key):
    """The time that a measurement is said to take is what the scheduler takes, within a fifth."""
    found = part(id_)
    plan = only(found.plan, lambda run: run.cell.key == key and run.repeat == 1)
    (predicted,) = predicting.predictions(plan)
    requests = predicted.measured.result.requests
    took = (requests["end_ns"].max() - requests["sent_ns"].min()) / 1e9
    cell = plan.launches[0].runs[0].cell
    said = hours.of_cell(cell, nodes(found)(plan.groups[0]))
    assert said.measured_s == pytest.approx(predicted.row["duration_s"], rel=0.2)
    assert said.total_s - estimate.FIXED_S == pytest.approx(took, rel=0.2)


@pytest.mark.parametrize("id_", ["corrected-curves-0.14.1", "replay-quick-0.14.1"])
def test_the_plan_and_the_study_estimate_alike(id_):
    """With the plan's step times the study's estimate of a cell is the plan's."""
    plan = part(id_).plan
    for group in plan.groups:
        flags = group.resolution.flags()
        steps = StepModel(
            from_config(group.profile.config),
            group.profile.checkpoint,
            group.hardware,
            layout.from_args(flags),
        )
        node = SimpleNamespace(
            engine=SimpleNamespace(max_num_seqs=flags["max-num-seqs"]),
            times=SimpleNamespace(
                step_s=lambda batch, steps=steps: steps.cost(*batch) / plan.sweep.assume.efficiency
            ),
            api_request_s=0.0,
        )
        for cell in group.cells:
            assert hours.of_cell(cell, node).total_s == pytest.approx(cell.estimate.duration_s, rel=0.01)


def test_most_of_the_corrected_study_is_measured():
    """More than four fifths of its node time."""
    total = sum(
        (hours.of_plan(found.plan, nodes(found)) for found in all_parts() if found.method == "corrected"),
        NodeTime(),
    )
    assert total.share > 0.8
    assert total.loads == 68


def test_a_budget_takes_questions_in_order_and_passes_over_what_does_not_fit():
    """Nothing is priced twice, and the sum stays within the budget."""
    chosen = budget.choose(all_parts(), study().study.questions, 8 * 3600, nodes)
    assert chosen.total.total_s <= 8 * 3600
    assert chosen.choices[0].kept
    assert any(not choice.kept for choice in chosen.choices)
    kept = sum((choice.added for choice in chosen.choices if choice.kept), NodeTime())
    assert kept.total_s == pytest.approx(chosen.total.total_s)
    again = sum((hours.of_plan(each.plan, nodes(each)) for each in chosen.parts), NodeTime())
    assert again.total_s == pytest.approx(chosen.total.total_s)
    assert again.runs == chosen.total.runs


def test_every_question_asks_for_cells_that_there_are():
    """With no limit each question adds runs, or all of its runs were kept before."""
    chosen = budget.choose(all_parts(), study().study.questions, float("inf"), nodes)
    assert all(choice.kept or choice.added.runs == 0 for choice in chosen.choices)
    assert {each.id for each in chosen.parts} == {each.id for each in all_parts()}


def test_a_question_asked_twice_costs_once():
    """The second time there is nothing left to add."""
    question = Question(
        asks="?", method="replay", variant="0.14.1", sweep="replay-quick", models=("llama-3.1-405b",)
    )
    chosen = budget.choose([part("replay-quick-0.14.1")], [question, question], 1e9, nodes)
    assert [choice.kept for choice in chosen.choices] == [True, False]
    assert chosen.choices[1].added == NodeTime()
