"""What follows what: restarts, interleaving, random order, discarded repeats."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rocbench.settings.schema import Sweep
from virtual import plan_of

BASE = {
    "name": "order",
    "vllm": "0.14.1",
    "models": ["llama-3.1-405b"],
    "workloads": ["short"],
    "concurrency": [1, 2, 4],
}
TWO = {"matrix": {"product": {"max_num_seqs": [256, 512]}}}


def launches(**changes):
    """(server, [(level, repeat, discarded)]) of each launch."""
    return [
        (
            launch.group.axes.get("max_num_seqs", launch.group.axes.get("aiter")),
            [(run.cell.level.concurrency, run.repeat, run.discarded) for run in launch.runs],
        )
        for launch in plan_of(BASE | changes).launches
    ]


def test_discarded_repeats_come_after_each_load():
    """Each fresh server measures each of its cells once more first, and only then what counts."""
    found = launches(discard_first=True, restart="per_repeat", repeats=2, concurrency=[1, 2])

    assert [runs for _, runs in found] == [
        [(1, 1, True), (2, 1, True), (1, 1, False), (2, 1, False)],
        [(1, 2, True), (2, 2, True), (1, 2, False), (2, 2, False)],
    ]


def test_a_server_that_stays_discards_once():
    """Without restarts only the first repeat after the one load is discarded."""
    ((_, runs),) = launches(discard_first=True, repeats=3, concurrency=[1])

    assert runs == [(1, 1, True), (1, 1, False), (1, 2, False), (1, 3, False)]


def test_servers_started_anew_are_interleaved_too():
    """Every second repeat runs the servers backwards: drift of the node falls on both alike."""
    found = launches(**TWO, restart="per_repeat", order="interleaved", repeats=2, concurrency=[1])

    assert [server for server, _ in found] == [256, 512, 512, 256]


def test_each_cell_on_a_server_of_its_own():
    """per_cell: a launch per cell and repeat, in interleaved order."""
    found = launches(restart="per_cell", order="interleaved", repeats=2)

    assert [runs for _, runs in found] == [
        [(1, 1, False)],
        [(2, 1, False)],
        [(4, 1, False)],
        [(4, 2, False)],
        [(2, 2, False)],
        [(1, 2, False)],
    ]


def test_random_order_is_the_seeds():
    """The same seed gives the same order, another seed another one; every run is there once."""
    one, again, other = (launches(order="random", repeats=5, seed=seed) for seed in (1, 1, 2))

    assert one == again
    assert one != other
    assert sorted(one[0][1]) == [(level, repeat, False) for level in (1, 2, 4) for repeat in range(1, 6)]


def test_arms_can_restart_for_each_cell():
    """An ablation restarts its arms for every repeat, and for every cell where that is asked for."""
    found = launches(factors={"aiter": ["off", "on"]}, restart="per_cell", repeats=2, concurrency=[1, 2])

    assert [len(runs) for _, runs in found] == [1] * 8
    assert [server for server, _ in found[::2]] == [server for server, _ in found[::2]][::-1]


def test_until_plans_the_most_repeats():
    """Repeats until the interval is narrow: the plan holds as many as it may take."""
    found = launches(until={"interval_half_width": "2%", "max": 6}, concurrency=[1])

    assert [repeat for _, repeat, _ in found[0][1]] == [1, 2, 3, 4, 5, 6]


def test_a_search_comes_last_and_needs_no_levels():
    """A sweep with a search alone has one launch without runs; with restarts the search has one of its own."""
    search = {"slo": {"median_ttft_ms": 100}}
    (alone,) = plan_of({k: v for k, v in BASE.items() if k != "concurrency"} | {"search": search}).launches
    assert (alone.runs, [w.name for w in alone.searches]) == ((), ["short"])

    restarted = plan_of(BASE | {"search": search, "restart": "per_repeat", "repeats": 2}).launches
    assert [(len(x.runs), len(x.searches)) for x in restarted] == [(3, 0), (3, 0), (0, 1)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search": {"slo": {"model": 1}}}, "not a result"),
        ({"search": {"slo": {}}}, "at least 1"),
        ({"search": {"slo": {"median_ttft_ms": 1}, "low": 8, "high": 4}}, "`low` must be at most `high`"),
        ({"search": {"slo": {"median_ttft_ms": 1}, "repeats": 9}}, "at most `max_repeats`"),
        ({"search": {"slo": {"median_ttft_ms": 1}}, "factors": {"a": [1, 2]}}, "cannot be combined"),
        ({"until": {"interval_half_width": "x%", "max": 5}}, "not a share"),
        ({"until": {"interval_half_width": "1%", "max": 2}}, "greater than or equal to 3"),
        ({"until": {"max": 4}}, "exactly one of `interval_half_width` and `told`"),
        ({"until": {"interval_half_width": "1%", "told": "2%", "max": 4}}, "exactly one of"),
        ({"until": {"told": "2%", "max": 4}}, "`until.told` needs `factors`"),
        ({"until": {"interval_half_width": 0.01, "max": 4}, "repeats": 5}, "at least `repeats`"),
        ({"concurrency": []}, "or a `search`"),
    ],
)
def test_goals_that_make_no_sense_are_refused(change, message):
    """Each is refused where the sweep is read, with its reason."""
    with pytest.raises(ValidationError, match=message):
        Sweep.model_validate(BASE | change)
