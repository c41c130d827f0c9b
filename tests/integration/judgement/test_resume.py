"""A run that was ended anywhere goes on where its rows end: nothing is lost, nothing is measured twice."""

from __future__ import annotations

import json
import os

import pandas as pd
import pytest

from rocbench.conduct import run as run_module
from rocbench.errors import EnvironmentFault, Exit, InputError, Interrupted, LoadFault, NodeFault, ServerFault
from rocbench.store import writing
from rocbench.store.folder import RunFolder
from virtual import Killed, World, bench, json_of, keys, plan_of

TINY = {
    "name": "tiny",
    "vllm": "0.14.1",
    "models": ["llama-3.1-405b"],
    "workloads": ["short"],
    "concurrency": [1, 2],
    "load": {"duration_s": 1, "max_duration_s": 10, "min_requests_per_user": 5},
    "simulation": {"efficiency": 0.9, "load_s": 0},
}
TABLES = ("cells", "requests", "histograms", "timeline")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run."""
    path = tmp_path_factory.mktemp("whole") / "run"
    bench(path, TINY | {"repeats": 2})
    return path


@pytest.fixture
def killer(monkeypatch):
    """`kill -9` at the n-th rename: every write is one, so nothing lies between two of them but a half-written file."""
    count = {"left": None, "done": 0}
    real, finish = os.replace, run_module._finish

    def replace(source, target):
        count["done"] += 1
        if count["left"] is not None:
            count["left"] -= 1
            if count["left"] < 0:
                raise Killed
        real(source, target)

    def no_last_words(*words):
        if count["left"] is None or count["left"] >= 0:
            finish(*words)

    monkeypatch.setattr(writing.os, "replace", replace)
    monkeypatch.setattr(run_module, "_finish", no_last_words)
    return count


def tables(folder):
    """Columns and rows of each joined table."""
    frames = {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}
    return {name: (list(frame.columns), len(frame)) for name, frame in frames.items()}


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_write_and_resumed(killer, tmp_path, step):
    """After every single write of a run, kill and resume: the same cells once each, all tables whole."""
    bench(tmp_path / "counted", TINY, World(joined=True))
    writes = killer["done"]
    assert writes > 20

    for n in range(0, writes, step):
        folder = tmp_path / f"run{n}"
        killer["left"] = n
        with pytest.raises(Killed):
            bench(folder, TINY, World(joined=True))
        killer["left"] = None
        before = keys(folder) if (folder / "manifest.json").exists() else []
        world = World()
        if (folder / "manifest.json").exists():
            outcome = bench(folder, world=world)
        else:
            with pytest.raises(InputError, match="ended before its first measurement"):
                bench(folder)
            outcome = bench(folder, TINY, world)

        assert outcome.exit_code == Exit.DONE
        assert keys(folder) == keys(tmp_path / "counted")
        assert len(world.runs) == 2 - len(before)  # what had its row is not measured again
        assert tables(folder) == tables(tmp_path / "counted")
        assert len(pd.read_csv(folder / "cells.csv")) == 2
        assert (folder / "summary.csv").exists()
        assert not list(folder.rglob(".*.tmp"))
        assert json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["event"] == "end"


def test_killed_again_and_again(killer, tmp_path, whole):
    """Killed after each few writes, resumed each time, until it is through: as if nothing had happened."""
    folder, kills = tmp_path / "run", 0
    killer["left"] = 12
    with pytest.raises(Killed):
        bench(folder, TINY | {"repeats": 2}, World(joined=True))
    while True:
        killer["left"] = 12
        try:
            bench(folder, world=World(joined=True))
            break
        except Killed:
            kills += 1
    assert kills >= 2
    assert [k[1:] for k in keys(folder)] == [k[1:] for k in keys(whole)]
    assert tables(folder)["cells"] == tables(whole)["cells"]


def test_a_cut_off_cell_is_not_used(tmp_path):
    """Ended within a cell: it has no row, its parts are in no table, and the resumed run measures it."""

    def cut(run):
        if run.cell.level.concurrency == 2:
            raise Killed

    folder = tmp_path / "run"
    with pytest.raises(Killed):
        bench(folder, TINY, World(before_cell=cut))
    # parts without a row, as a kill between the two leaves them
    (part,) = (folder / "parts" / "requests").glob("*.parquet")
    left = part.with_name("0123456789ab-001.parquet")
    left.write_bytes(part.read_bytes())
    world = World()
    bench(folder, world=world)

    assert world.runs == [("c2", 1, False)]
    requests = pd.read_parquet(folder / "requests.parquet")
    assert sorted(set(requests["cell_id"])) == [key[0] for key in keys(folder)]


def test_what_is_done_starts_no_server(whole):
    """Resuming a whole run starts nothing and says the same."""
    before = (whole / "cells.csv").read_text()
    world = World()
    outcome = bench(whole, world=world)

    assert (world.starts, world.runs, outcome.exit_code) == ([], [], Exit.DONE)
    assert (whole / "cells.csv").read_text() == before
    assert len(json_of(whole, "manifest.json")["resumed"]) == 1


def test_invalid_rows_are_measured_again_and_unknown_ones_not(tmp_path):
    """An invalid row is replaced; one of unknown validity stands."""
    folder = tmp_path / "run"

    def spoil(run, columns):
        if run.cell.level.concurrency == 1:
            columns["jit_lines"] = 3
        else:
            columns["prefix_cache_hits"] = None

    assert bench(folder, TINY, World(change=spoil)).exit_code == Exit.DONE_WITH_FAULTS
    world = World()
    outcome = bench(folder, world=world)

    assert world.runs == [("c1", 1, False)]
    assert outcome.exit_code == Exit.DONE
    assert len(outcome.cells) == 2


def test_a_resumed_run_always_gets_on(tmp_path):
    """Resumed and ended after each measurement, while cells stay invalid: what is missing is made first all the same."""
    folder, two = tmp_path / "run", TINY | {"models": ["llama-3.1-405b", "kimi-k2.5"], "vllm": "0.16.0"}

    def once():
        world = World(
            change=lambda run, columns: (
                columns.update(jit_lines=3) if run.cell.level.concurrency == 1 else None
            )
        )

        def stop(_):
            if world.runs:
                raise Interrupted("now")

        world.before_cell = stop
        return world

    with pytest.raises(Interrupted):
        bench(folder, two, once())
    for _ in range(3):
        with pytest.raises(Interrupted):
            bench(folder, world=once())
    assert len(keys(folder)) == 4

    last = World()
    assert bench(folder, world=last).exit_code == Exit.DONE
    assert last.runs == [("c1", 1, False)] * 2


def test_the_server_of_the_last_missing_cell_is_not_started_twice(tmp_path):
    """It makes its invalid ones too; the servers before it are started for theirs afterwards."""
    folder, two = tmp_path / "run", TINY | {"models": ["llama-3.1-405b", "kimi-k2.5"], "vllm": "0.16.0"}
    begun = World(change=lambda _, columns: columns.update(jit_lines=3))

    def stop(_):
        if len(begun.runs) == 3:
            raise Interrupted("now")

    begun.before_cell = stop
    with pytest.raises(Interrupted):
        bench(folder, two, begun)
    world = World()
    bench(folder, world=world)

    assert world.runs == [("c2", 1, False), ("c1", 1, False), ("c1", 1, False), ("c2", 1, False)]
    assert [name.split(".")[0] for name in world.starts] == ["02-kimi-k2", "01-llama-3"]


def test_a_cut_off_cell_sends_other_prompts_when_it_is_resumed(tmp_path):
    """A server that somebody else runs lives on, and still holds what it was sent."""
    folder = tmp_path / "run"
    cut, resumed = World(), World()

    def stop(_):
        if cut.runs:
            raise Interrupted("now")

    cut.before_cell = stop
    with pytest.raises(Interrupted):
        bench(folder, TINY, cut)
    bench(folder, world=resumed)

    assert resumed.runs == [("c2", 1, False)]
    assert resumed.prompts[0] not in cut.prompts


def test_what_this_machine_spoiled_is_measured_again_at_once(tmp_path):
    """A row void by the client's own doing is made again while `again` lasts; the void one stays on disk."""
    folder = tmp_path / "run"
    world = World(
        change=lambda _, columns: columns.update(clock_step_ms=9.0 if len(world.runs) != 2 else 0.0)
    )
    outcome = bench(folder, TINY | {"retries": 2}, world)

    assert world.runs == [("c1", 1, False)] * 2 + [("c2", 1, False)] * 2
    assert outcome.exit_code == Exit.DONE_WITH_FAULTS
    # A server may still hold an attempt's prompts, in an offload tier say.
    assert world.prompts[0] != world.prompts[1]
    assert outcome.cells[["attempt", "valid"]].to_numpy().tolist() == [[2, True], [2, False]]
    replaced = [json.loads(line) for line in (folder / "replaced.jsonl").read_text().splitlines()]
    assert [(row["attempt"], row["reasons"].split(";")[0]) for row in replaced] == [(1, "clock_stepped")] * 2
    assert all(codes.startswith("clock_stepped") for codes in outcome.cells["replaced_reasons"])


def test_a_failed_server_is_tried_again(tmp_path):
    """Rows of a server that did not start are made by the resumed run; its second folder is its own."""

    def broken(name):
        raise ServerFault("the server did not start", where=name)

    folder = tmp_path / "run"
    assert bench(folder, TINY, World(before_start=broken)).exit_code == Exit.ENVIRONMENT
    outcome = bench(folder)

    assert outcome.exit_code == Exit.DONE
    assert set(outcome.cells["server_id"]) == {"01-llama-3.1-405b.2"}
    assert outcome.cells["failure_message"].isna().all()


def test_a_load_worker_that_dies_or_hangs_costs_its_cell_and_no_server(tmp_path):
    """The server did nothing: the next cell is measured on it."""
    world = World()

    def crash(run):
        if run.cell.level.concurrency == 1:
            raise LoadFault("load worker 0 made no progress for 30 s")

    world.before_cell = crash
    outcome = bench(tmp_path / "run", TINY, world)

    assert (len(world.starts), world.runs) == (1, [("c2", 1, False)])
    assert outcome.cells["failure_message"].tolist()[0].startswith("load worker 0 made no progress")
    assert outcome.cells["reasons"].tolist()[0] == "load_failed"
    assert outcome.cells["valid"].tolist() == [False, True]


def test_figures_of_an_earlier_attempt_leave_with_its_row(tmp_path):
    """A measured, invalid cell whose server then fails to start keeps none of its old requests."""
    folder = tmp_path / "run"
    bench(folder, TINY, World(change=lambda _, columns: columns.update(jit_lines=3)))

    def broken(name):
        raise ServerFault("the server did not start", where=name)

    outcome = bench(folder, world=World(before_start=broken))
    assert set(outcome.cells["reasons"]) == {"server_failed"}
    assert not (folder / "requests.parquet").exists()


def test_a_half_written_log_line_is_ended(tmp_path):
    """The log stays one JSON a line, whatever the last writer left."""
    folder = tmp_path / "run"
    bench(folder, TINY)
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"at": "2026-01-')
    bench(folder)

    lines = (folder / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines[-2:]] == ["resume", "end"]


def test_two_benches_cannot_write_one_folder(whole):
    """A folder that is being written is refused, and let go of when its writer ends."""
    with RunFolder.open(whole).locked(), pytest.raises(NodeFault, match="another bench is writing to"):
        bench(whole)
    bench(whole)


def test_another_plan_is_refused(tmp_path):
    """When rules or defaults have changed since, new rows would not fit to old ones: refused with the version."""
    folder = tmp_path / "run"
    bench(folder, TINY)
    plan = json_of(folder, "plan.json")
    plan["launches"][0]["runs"][0]["cell_id"] = "0123456789ab"
    (folder / "plan.json").write_text(json.dumps(plan))

    with pytest.raises(InputError, match="plan different cells"):
        bench(folder)


def test_the_client_options_are_kept(tmp_path):
    """A resumed run loads with the same tokenizer and vocabulary."""
    from rocbench.commands import planning
    from rocbench.conduct.bind import ClientOptions

    folder = tmp_path / "run"
    bench(folder, TINY)
    plan = json_of(folder, "plan.json")
    plan["client"] |= {"vocab_size": 4096, "cpus": [0, 1]}
    (folder / "plan.json").write_text(json.dumps(plan))

    _, client = planning.resumed(folder, ClientOptions())
    assert client == ClientOptions(vocab_size=4096, cpus=(0, 1))
    _, client = planning.resumed(folder, ClientOptions(cpus=(3,)))
    assert (client.vocab_size, client.cpus) == (4096, (3,))


def test_a_folder_that_is_none_says_so(tmp_path):
    """An empty folder cannot be resumed; a full one cannot be begun again."""
    with pytest.raises(InputError, match=r"manifest\.json is missing"):
        bench(tmp_path)
    bench(tmp_path / "run", TINY)
    with pytest.raises(InputError, match="already contains a run"):
        bench(tmp_path / "run", TINY)


def test_a_full_disk_ends_the_run_and_it_can_be_resumed(tmp_path, monkeypatch):
    """No space: the run stops with the environment's code; with space it goes on."""
    folder, real = tmp_path / "run", writing.os.replace
    full = {"now": False}

    def replace(source, target):
        if full["now"]:
            raise OSError(28, "No space left on device")
        real(source, target)

    def fill(run):
        full["now"] = run.cell.level.concurrency == 2

    monkeypatch.setattr(writing.os, "replace", replace)
    with pytest.raises(EnvironmentFault, match="No space left"):
        bench(folder, TINY, World(before_cell=fill))
    full["now"] = False

    assert bench(folder).exit_code == Exit.DONE
    assert len(keys(folder)) == 2


def test_the_same_plan_is_made_from_the_folder(tmp_path):
    """What plan.json keeps is enough to make every launch and id again."""
    from rocbench.commands import planning
    from rocbench.conduct.bind import ClientOptions

    sweep = TINY | {
        "repeats": 3,
        "order": "random",
        "seed": 5,
        "restart": "per_repeat",
        "discard_first": True,
    }
    bench(tmp_path / "run", sweep)
    made, _ = planning.resumed(tmp_path / "run", ClientOptions())

    def runs(plan):
        return [(r.cell.cell_id, r.repeat, r.discarded) for launch in plan.launches for r in launch.runs]

    assert runs(made) == runs(plan_of(sweep))
