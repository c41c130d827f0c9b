"""Remaining measurements, given the rows on disk."""

from __future__ import annotations

import json

import numpy as np

from rocbench.conduct.remaining import Goal, invalid, key_of_run
from rocbench.tables.row import Row
from virtual import plan_of

BASE = {
    "name": "remaining",
    "vllm": "0.14.1",
    "models": ["llama-3.1-405b"],
    "workloads": ["short"],
    "concurrency": [1, 2],
}


def row(run, figure=100.0, **more):
    """A row of a run."""
    known = {"cell_id": run.cell.cell_id, "repeat": run.repeat, "discarded": run.discarded, "valid": True}
    return Row(known | {"output_throughput": figure} | more)


def todo(plan, rows, redo=(), launch=0, **more):
    """(level, repeat, discarded) of the due runs of a launch."""
    runs = Goal.of(plan).todo(plan.launches[launch], rows, set(redo), **more)
    return [(run.cell.level.concurrency, run.repeat, run.discarded) for run in runs]


def test_all_then_the_rest_then_nothing():
    """Rows on disk are not measured again."""
    plan = plan_of(BASE | {"repeats": 2})
    runs = plan.launches[0].runs

    assert todo(plan, []) == [(1, 1, False), (2, 1, False), (1, 2, False), (2, 2, False)]
    assert todo(plan, [row(run) for run in runs[:3]]) == [(2, 2, False)]
    assert todo(plan, [row(run) for run in runs]) == []


def test_an_invalid_row_is_made_again_only_by_a_resumed_run():
    """An invalid row is measured again by a resumed run only; a row of unknown validity never."""
    plan = plan_of(BASE)
    first, second = plan.launches[0].runs
    rows = [row(first, valid=False), row(second, valid=None)]

    assert todo(plan, rows) == []
    assert todo(plan, rows, invalid(rows)) == [(1, 1, False)]
    assert invalid(rows) == {key_of_run(first)}


def test_what_is_missing_comes_before_what_was_invalid():
    """Each after the discarded repeat of its cell, once; invalid ones can all be left for later."""
    plan = plan_of(BASE | {"discard_first": True, "repeats": 2})
    runs = [run for run in plan.launches[0].runs if not run.discarded]
    rows = [row(run, valid=run.cell.level.concurrency == 2) for run in runs[:2]]
    redo = invalid(rows)

    assert [(run.cell.level.concurrency, run.repeat) for run in runs] == [(1, 1), (2, 1), (1, 2), (2, 2)]
    discarded = [(1, 1, True), (2, 1, True)]
    assert todo(plan, rows, redo) == [*discarded, (1, 1, False), (1, 2, False), (2, 2, False)]
    assert todo(plan, rows, redo, late=redo) == [*discarded, (1, 2, False), (2, 2, False), (1, 1, False)]
    assert todo(plan, rows, redo, late=redo, with_late=False) == [*discarded, (1, 2, False), (2, 2, False)]
    whole = [row(run, valid=run.repeat == 1) for run in runs]
    again = invalid(whole)
    assert todo(plan, whole, again, late=again, with_late=False) == []


def test_discarded_repeats_are_made_when_something_follows():
    """After a new server start the missing cells have a discarded repeat first, the others are not measured."""
    plan = plan_of(BASE | {"discard_first": True, "repeats": 2})
    runs = plan.launches[0].runs
    done = [row(run) for run in runs if not (run.cell.level.concurrency == 2 and run.repeat == 2)]

    assert todo(plan, done) == [(2, 1, True), (2, 2, False)]
    assert todo(plan, [row(run) for run in runs]) == []


def test_until_ends_when_the_interval_is_narrow():
    """At least three repeats; then only the cell with the wide interval continues."""
    plan = plan_of(BASE | {"until": {"interval_half_width": "2%", "max": 6}})
    runs = plan.launches[0].runs
    narrow, wide = {1: 100.0, 2: 100.1, 3: 99.9}, {1: 100.0, 2: 110.0, 3: 90.0}
    rows = [
        row(r, (narrow if r.cell.level.concurrency == 1 else wide)[r.repeat]) for r in runs if r.repeat < 4
    ]

    assert todo(plan, rows[:2]) == [(c, n, False) for n in range(2, 7) for c in (1, 2)]
    assert todo(plan, rows) == [(2, 4, False), (2, 5, False), (2, 6, False)]


def test_until_makes_the_repeats_that_were_asked_for():
    """`repeats: 5` with `until`: five, even if the interval is narrow after three."""
    plan = plan_of(
        BASE | {"concurrency": [1], "repeats": 5, "until": {"interval_half_width": "2%", "max": 8}}
    )
    rows = [row(run, 100 + run.repeat / 100) for run in plan.launches[0].runs[:5]]

    assert todo(plan, rows[:4])[0] == (1, 5, False)
    assert todo(plan, rows) == []


def test_until_looks_only_when_a_look_is_due():
    """Looks after 3, 4, 6, 8: repeat 5 is not looked at, and what ended at 4 stays ended when other cells go on."""
    plan = plan_of(BASE | {"until": {"interval_half_width": "2%", "max": 8}})
    runs = plan.launches[0].runs
    quiet, loud = {1: 100.0, 2: 103.0, 3: 97.0}, {1: 100.0, 2: 108.0, 3: 92.0}
    rows = [
        row(r, {1: quiet, 2: loud}[r.cell.level.concurrency].get(r.repeat, 100.0))
        for r in runs
        if r.repeat < 4
    ]
    assert [run[:2] for run in todo(plan, rows)[:2]] == [(1, 4), (2, 4)]
    rows += [row(r) for r in runs if r.repeat == 4 or (r.cell.level.concurrency == 1 and r.repeat == 5)]
    goal = Goal.of(plan)
    ended = goal.ended(rows)
    rows += [
        row(r, 100 + 10 * (-1) ** r.repeat) for r in runs if r.repeat > 4 and r.cell.level.concurrency == 2
    ]
    assert ended <= goal.ended(rows)


def test_invalid_and_discarded_figures_make_no_interval_narrow():
    """Only rows that count affect the interval."""
    plan = plan_of(BASE | {"concurrency": [1], "until": {"interval_half_width": "2%", "max": 4}})
    runs = plan.launches[0].runs
    rows = [row(runs[0]), row(runs[1]), row(runs[2], valid=False)]

    assert todo(plan, rows) == [(1, 4, False)]


def test_arms_go_on_together():
    """One arm with a wide interval makes its partner continue: effects need whole repeats."""
    plan = plan_of(
        BASE
        | {
            "concurrency": [1],
            "factors": {"aiter": ["off", "on"]},
            "until": {"interval_half_width": "2%", "max": 4},
        }
    )
    wide = {"off": {1: 100.0, 2: 100.0, 3: 100.0}, "on": {1: 100.0, 2: 120.0, 3: 80.0}}
    rows = [
        row(run, wide[launch.group.axes["aiter"]][run.repeat])
        for launch in plan.launches
        for run in launch.runs
        if run.repeat < 4
    ]

    assert [todo(plan, rows, launch=i) for i in (6, 7)] == [[(1, 4, False)], [(1, 4, False)]]
    level = [row | {"output_throughput": 100.0} for row in rows]
    assert [todo(plan, level, launch=i) for i in (6, 7)] == [[], []]


def test_until_told_repeats_the_arms_of_a_level_until_all_is_told():
    """A level without effect and one 10 % faster end; at the minimum effect it stays open, and all arms go on."""
    levels, noise = [1, 8, 64], np.random.default_rng(3)
    plan = plan_of(
        BASE
        | {
            "concurrency": levels,
            "factors": {"aiter": ["off", "on"]},
            "until": {"told": "2%", "max": 8, "metrics": ["output_throughput"]},
        }
    )
    gain = {1: 1.0, 8: 1.1, 64: 1.02}
    rows = []
    for launch in plan.launches:
        on = launch.group.axes["aiter"] == "on"
        for run in launch.runs:
            level = run.cell.level.concurrency
            figure = 100 * (gain[level] if on else 1.0) * float(np.exp(0.002 * noise.standard_normal()))
            facts = {"model": "m", "workload": "short", "concurrency": level}
            rows.append(row(run, figure, axes=json.dumps(launch.group.axes), **facts))
    goal = Goal.of(plan)
    made = [each for each in rows if each["repeat"] <= 4]
    assert goal.ended([each for each in rows if each["repeat"] <= 2]) == set()
    open_ = {each["concurrency"] for each in rows if each["cell_id"] not in goal.ended(made)}
    assert open_ == {64}
    assert [sorted(level for level, repeat, _ in todo(plan, made, launch=i)) for i in range(8, 16)] == [
        [64]
    ] * 8
