"""Repeats, searches and shards through the whole conductor, in virtual time."""

from __future__ import annotations

from unittest.mock import patch

import pandas as pd
import pytest

from rocbench import ledger
from rocbench.errors import Exit, InputError
from rocbench.judgement.repeats import summary
from rocbench.plan import promised, shards
from virtual import SMALL, Killed, World, bench, json_of, keys, plan_of

QUICK = {"duration_s": 1, "max_duration_s": 20}
SEARCH = {
    "name": "search",
    "vllm": "0.14.1",
    "models": ["llama-3.1-405b"],
    "workloads": ["short"],
    "load": QUICK,
    "simulation": {"efficiency": 0.9, "load_s": 0},
    "search": {"slo": {"median_tpot_ms": 11.2}, "high": 64, "max_measurements": 20},
}


# --- repeats


def test_until_stops_each_cell_by_itself(tmp_path):
    """With noise of 0.4 % an interval of +-2 % takes three repeats, not the ten that are allowed."""
    outcome = bench(tmp_path / "run", SMALL | {"until": {"interval_half_width": "2%", "max": 10}})

    assert list(outcome.cells.groupby("cell_id")["repeat"].max()) == [3, 3]


def test_until_gives_up_at_the_most_repeats(tmp_path):
    """Under wild noise it ends at `max`."""
    wild = SMALL | {"simulation": {"run_cv": 0.3, "load_s": 0}, "concurrency": [2], "load": QUICK}
    outcome = bench(tmp_path / "run", wild | {"until": {"interval_half_width": "0.1%", "max": 4}})

    assert list(outcome.cells["repeat"]) == [1, 2, 3, 4]


def test_a_resumed_until_counts_what_is_there(tmp_path):
    """Killed after two repeats: the resumed run adds what the interval still needs, and no more."""
    seen = []

    def kill(run):
        seen.append(run)
        if len(seen) == 5:
            raise Killed

    folder = tmp_path / "run"
    with pytest.raises(Killed):
        bench(folder, SMALL | {"until": {"interval_half_width": "2%", "max": 10}}, World(before_cell=kill))
    world = World()
    outcome = bench(folder, world=world)

    assert world.runs == [("c2", 3, False), ("c8", 3, False)]
    assert len(outcome.cells) == 6


def test_each_server_discards_its_own_first_repeat(tmp_path):
    """A resumed run starts the server anew: the missing cell is measured once more before it counts."""
    seen = []

    def kill(run):
        seen.append(run)
        if len(seen) == 6:
            raise Killed

    folder = tmp_path / "run"
    sweep = SMALL | {"repeats": 2, "discard_first": True, "load": QUICK}
    with pytest.raises(Killed):
        bench(folder, sweep, World(before_cell=kill))
    world = World()
    outcome = bench(folder, world=world)

    assert world.runs == [("c8", 1, True), ("c8", 2, False)]
    counted = outcome.cells[~outcome.cells["discarded"]]
    assert len(counted) == 4
    assert set(summary(outcome.cells, ["output_throughput"])["n"]) == {2}


def test_restarts_start_servers(tmp_path):
    """per_repeat: a fresh server for each repeat, and the rows say so."""
    world = World()
    outcome = bench(tmp_path / "run", SMALL | {"repeats": 3, "restart": "per_repeat", "load": QUICK}, world)

    assert len(world.starts) == 3
    assert set(outcome.cells["restart"]) == {"per_repeat"}
    assert outcome.cells["server_id"].nunique() == 3


def test_repeats_of_one_server_differ_by_its_noise(tmp_path):
    """Repeats are measurements, not copies; the summary's CoV is about what the simulation was given."""
    outcome = bench(tmp_path / "run", SMALL | {"repeats": 8, "concurrency": [2]})
    (line,) = summary(outcome.cells, ["output_throughput"]).to_dict("records")

    assert outcome.cells["output_throughput"].nunique() == 8
    assert 0.001 < line["cov"] < 0.02
    assert line["low"] < line["mean"] < line["high"]
    written = pd.read_csv(tmp_path / "run" / "summary.csv")
    assert set(written["metric"]) == {"output_throughput", "median_ttft_ms", "median_tpot_ms", "p99_e2el_ms"}
    assert set(written["n"]) <= {0, 8}


def test_goodput_counts_requests_within_the_limits(tmp_path):
    """An SLO that every request meets gives all requests, one that none meets gives none."""
    for limit, share in ((10_000.0, 1.0), (0.001, 0.0)):
        outcome = bench(
            tmp_path / f"run{share}", SMALL | {"load": QUICK, "slo": {"ttft_ms": limit, "tpot_ms": 1000.0}}
        )
        assert list(outcome.cells["goodput_share"]) == [share, share]
        assert list(outcome.cells["goodput"]) == pytest.approx(
            [share * x for x in outcome.cells["request_throughput"]]
        )


def test_a_promise_is_stored_and_held_against_what_came(tmp_path):
    """plan.json has what the plan could tell; the end of the run says what its spread allows."""
    sweep = SMALL | {"repeats": 3, "power": {"cov": "0.1%"}}
    promises = promised.of(plan_of(sweep))
    outcome = bench(tmp_path / "run", sweep, promises=promises)

    (stored,) = json_of(tmp_path / "run", "plan.json")["promises"]
    assert stored["change"] == promises[0].change
    (sentence,) = outcome.held
    assert sentence.startswith(
        "planned to tell 2.1% in output_throughput with 3 repeats at CoV 0.1%; the spread was 0."
    )


# --- the search


def test_the_search_finds_the_largest_load_that_meets_the_slo(searched):
    """TPOT grows with the users: the answer is bracketed, and right by the rows themselves."""
    path, outcome, world = searched
    (found,) = json_of(path, "search.json")
    tpot = outcome.cells.groupby("concurrency")["median_tpot_ms"].mean()

    assert outcome.exit_code == Exit.DONE
    assert found["ended"]
    assert tpot[found["best"]] <= 11.2 < tpot[found["failed"]]
    assert found["failed"] - found["best"] <= max(1, 0.05 * found["best"])
    assert found["measurements"] == len(world.runs) == len(outcome.cells) <= 20
    assert [run[0] for run in world.runs[:4]] == ["c1", "c2", "c4", "c8"]
    assert outcome.searches == [found]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search that ran to its end, and what was seen of it."""
    world, path = World(), tmp_path_factory.mktemp("searched") / "run"
    return path, bench(path, SEARCH, world), world


def test_a_killed_search_goes_on(searched, tmp_path):
    """Killed in its middle and resumed: the same levels in all, none twice, and the same answer."""
    seen = []

    def kill(run):
        seen.append(run)
        if len(seen) == 6:
            raise Killed

    with pytest.raises(Killed):
        bench(tmp_path / "run", SEARCH, World(before_cell=kill))
    world = World()
    bench(tmp_path / "run", world=world)

    assert len(world.runs) + 5 == len(searched[2].runs)
    assert keys(tmp_path / "run") == keys(searched[0])
    one, other = (json_of(path, "search.json")[0] for path in (tmp_path / "run", searched[0]))
    assert (one["best"], one["failed"]) == (other["best"], other["failed"])


def test_a_whole_search_starts_no_server(searched):
    """Resuming a search that has its answer measures nothing."""
    world = World()
    bench(searched[0], world=world)

    assert (world.starts, world.runs) == ([], [])


def test_listed_levels_are_trials_too(tmp_path):
    """Levels measured beside the search are not measured again by it, and do not count against its bound."""
    world = World()
    bench(tmp_path / "run", SEARCH | {"concurrency": [1, 4, 16]}, world)
    levels = [run[0] for run in world.runs]

    assert levels[:3] == ["c1", "c4", "c16"]
    assert not set(levels[3:]) & {"c1", "c2", "c4"}
    assert json_of(tmp_path / "run", "search.json")[0]["ended"]


def test_a_search_for_a_rate(tmp_path):
    """Open loop: requests/s that meet the SLO. A queue that grows is an answer and no fault of the run."""
    wanted = {
        "slo": {"p90_ttft_ms": 500},
        "low": 1,
        "high": 200,
        "max_measurements": 14,
        "relative_step": 0.2,
    }
    outcome = bench(
        tmp_path / "run",
        SEARCH
        | {
            "search": wanted,
            "load": {"duration_s": 8, "max_duration_s": 30, "shape": {"kind": "open"}},
        },
    )
    (found,) = json_of(tmp_path / "run", "search.json")

    assert found["unit"] == "requests/s"
    assert found["best"] is not None
    assert outcome.exit_code == Exit.DONE, outcome.cells[["request_rate", "valid", "reasons"]]


def test_users_that_were_not_delivered_are_said(tmp_path):
    """A client that cannot deliver 32 users: the search ends there and says so, and saturation is not claimed."""

    def lose(run, columns):
        if (run.cell.level.concurrency or 0) >= 32:
            columns["client_busy_share_max"] = 1.0
            columns["predicted"] = None

    bench(
        tmp_path / "run", SEARCH | {"search": {"slo": {"median_tpot_ms": 50}, "high": 64}}, World(change=lose)
    )
    (found,) = json_of(tmp_path / "run", "search.json")

    assert found["best"] < 32
    assert "the requested load was not reached" in found["why"]
    assert "the requested load was not reached at 32" in found["saturation"]["note"]


def test_restarts_give_the_search_a_server_of_its_own(tmp_path):
    """With restarts per repeat the search runs on one server, after the listed levels."""
    world = World()
    sweep = SEARCH | {"concurrency": [1, 2], "repeats": 2, "restart": "per_repeat", "discard_first": True}
    bench(tmp_path / "run", sweep | {"search": SEARCH["search"] | {"max_measurements": 2}}, world)

    assert len(world.starts) == 3
    first = world.runs[8:10]
    assert first[0][2]
    assert not first[1][2]
    assert first[0][0] == first[1][0]


# --- shards

MANY = {
    "name": "many",
    "vllm": "0.14.1",
    "models": ["llama-3.1-405b", "qwen3-235b", "deepseek-r1"],
    "workloads": ["short"],
    "concurrency": [1, 2],
    "load": QUICK,
    "simulation": {"efficiency": 0.9, "load_s": 0},
}


@pytest.fixture(scope="module", name="halves")
def _halves(tmp_path_factory):
    """Both shards of two, each in a folder of its own."""
    folder, paths = tmp_path_factory.mktemp("shards"), []
    for index in (1, 2):
        part = shards.shard(plan_of(MANY), index, 2)
        paths.append(folder / f"shard{index}")
        with patch("virtual.plan_of", lambda *_, part=part: part):
            bench(paths[-1], MANY, shard=f"{index}/2")
    return paths


def test_two_shards_merged_equal_the_whole(halves, tmp_path):
    """Cell for cell: ids, repeats and plan; each shard has some, none has another's."""
    bench(tmp_path / "whole", MANY)
    paths = halves
    merged = ledger.merge(paths, tmp_path / "merged")

    assert all(keys(path) for path in paths)
    assert sorted(keys(paths[0]) + keys(paths[1])) == keys(tmp_path / "whole")
    assert keys(merged.path) == keys(tmp_path / "whole")
    plans = [json_of(path, "plan.json") for path in (merged.path, tmp_path / "whole")]
    for plan in plans:
        plan.pop("client")
    assert plans[0] == plans[1]
    for name in ("requests", "histograms", "timeline"):
        one, other = (pd.read_parquet(path / f"{name}.parquet") for path in (merged.path, tmp_path / "whole"))
        assert list(one.columns) == list(other.columns)
        assert set(one["cell_id"]) == set(other["cell_id"])
    assert sorted(p.name for p in (merged.path / "servers").iterdir()) == sorted(
        p.name for p in (tmp_path / "whole" / "servers").iterdir()
    )


def test_a_merged_run_can_be_resumed(halves, tmp_path):
    """Merging one shard of two leaves the other's cells missing; a resumed run makes them."""
    paths = halves
    merged = ledger.merge(paths[:1], tmp_path / "merged")
    world = World()
    bench(merged.path, world=world)

    assert len(world.runs) == len(keys(paths[1]))
    assert sorted(keys(paths[0]) + keys(paths[1])) == keys(merged.path)


def test_a_resumed_shard_stays_one(halves):
    """Resuming a shard makes its own cells only."""
    before = keys(halves[0])
    world = World()
    bench(halves[0], world=world)

    assert world.runs == []
    assert keys(halves[0]) == before


def test_a_shard_without_a_server_is_done(halves, tmp_path, monkeypatch):
    """More shards than servers: what has nothing to do says so, ends well, is resumed, and merges with the others."""
    told, folder, part = [], tmp_path / "run", shards.shard(plan_of(MANY), 4, 4)
    monkeypatch.setattr("virtual._Silent.note", lambda _, text: told.append(text))
    with patch("virtual.plan_of", lambda *_: part):
        assert bench(folder, MANY, shard="4/4").exit_code == Exit.DONE
    assert bench(folder).exit_code == Exit.DONE
    assert told == ["shard 4/4 contains no cell of this plan"] * 2
    assert len(keys(ledger.merge([folder, *halves], tmp_path / "merged").path)) == 6


def test_what_is_no_shard_of_the_same_plan_is_refused(halves, tmp_path):
    """Another sweep, and the same measurement twice, are refused with what differs."""
    paths = halves
    bench(tmp_path / "other", MANY | {"models": ["qwen3-235b"]})

    with pytest.raises(InputError, match="not shards of the same plan: they differ in sweep"):
        ledger.merge([paths[0], tmp_path / "other"], tmp_path / "m1")
    with pytest.raises(InputError, match=r"is also in .*shard1"):
        ledger.merge([paths[0], paths[0]], tmp_path / "m2")
    with pytest.raises(InputError, match="already contains a run"):
        ledger.merge(paths, paths[0])


@pytest.mark.parametrize("total", [1, 2, 3, 5])
def test_shards_cover_the_plan_once(total):
    """Any number of shards: every launch is in exactly one, in its order."""
    plan = plan_of(MANY)
    parts = [shards.shard(plan, index, total) for index in range(1, total + 1)]

    told = [launch.group.server_id for part in parts for launch in part.launches]
    assert sorted(told) == sorted(launch.group.server_id for launch in plan.launches)


def test_arms_of_an_ablation_stay_together():
    """All arms of a model are on one shard: they are compared with each other."""
    plan = plan_of(MANY | {"factors": {"max_num_seqs": [256, 512]}})
    for index in (1, 2):
        models = [group.model for group in shards.shard(plan, index, 2).groups]
        assert all(models.count(model) == 2 for model in models)
