"""Files that a plan names are opened before any server starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from rocbench import console
from rocbench.commands.sweeping import plan, sweep
from rocbench.conduct.bind import ClientOptions
from rocbench.conduct.inputs import examined
from rocbench.errors import ConfigError
from virtual import SMALL, plan_of

MOONCAKE = [
    {"timestamp": i * 1000, "input_length": 9000, "output_length": 4, "hash_ids": [0]} for i in range(4)
]


def written(folder: Path, rows: list[Any], name: str = "d.jsonl") -> str:
    """A file of these rows."""
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def workload(folder: Path, **changes: Any) -> str:
    """A workload's file."""
    path = folder / "w.yaml"
    path.write_text(yaml.dump({"name": "w", "isl": {"mean": 16}, "osl": {"mean": 8}} | changes))
    return str(path)


def told(changes: dict[str, Any], client: ClientOptions | None = None) -> tuple[str, str]:
    """Faults and notes of a plan."""
    found = examined(plan_of(SMALL | changes), client or ClientOptions())
    return "\n".join(f"{f.where}: {f.message}" for f in found.faults), "\n".join(found.notes)


def of_trace(path: str, **changes: Any) -> dict[str, Any]:
    """A sweep that replays a trace."""
    return {"load": {"shape": {"kind": "trace", "path": path, **changes}}, "concurrency": []}


def test_a_missing_dataset_is_one_fault_of_the_plan(tmp_path):
    """Each file is reported once, for any number of cells."""
    faults, _ = told({"workloads": [workload(tmp_path, dataset={"path": "none.jsonl"})]})
    assert faults.count("no such file") == 1
    assert faults.startswith("none.jsonl: ")


def test_a_trace_tells_its_unit_and_length_or_is_refused(tmp_path, capsys):
    """Its form is the stated one, the recognised one, or an error."""
    path = written(tmp_path, MOONCAKE)
    faults, notes = told(of_trace(path))
    assert not faults
    assert f"{path}: 4 requests are replayed over 3 s; timestamps are in milliseconds" in notes
    assert "share no prefix. In the trace, 75 %" in notes
    console.show_plan(plan_of(SMALL | of_trace(path)))
    assert capsys.readouterr().out.count("in file") == 2
    assert (
        "over 1,500 s; timestamps are in seconds, as set by `unit`"
        in told(of_trace(path, unit="s", speed=2))[1]
    )
    bare = written(tmp_path, [{**row, "hash_ids": None} for row in MOONCAKE], "bare.jsonl")
    faults, _ = told(of_trace(bare))
    assert (
        "`timestamp` has no unit: the replay lasts 3 s if timestamps are in milliseconds, 3,000 s if they are in seconds"
        in faults
    )


def test_a_trace_beside_a_dataset_is_a_fault(tmp_path):
    """A cell cannot send both."""
    path = written(tmp_path, MOONCAKE)
    faults, _ = told(of_trace(path) | {"workloads": [workload(tmp_path, dataset={"path": path})]})
    assert "not the dataset of workload w" in faults


def test_requests_that_the_planned_server_refuses_are_told(tmp_path):
    """The lengths in the file exceed --max-model-len."""
    changes = of_trace(written(tmp_path, MOONCAKE)) | {"serve_args": {"max-model-len": 4096}}
    assert (
        "will refuse 4 of 4 requests in the file: they need more tokens than --max-model-len 4096"
        in told(changes)[1]
    )


def test_a_token_beyond_the_model_s_vocabulary_is_a_fault(tmp_path):
    """By the profile's vocabulary size, or the given one."""
    changes = {
        "workloads": [workload(tmp_path, dataset={"path": written(tmp_path, [{"prompt": [1, 200_000]}])})]
    }
    assert (
        "d.jsonl:1: `prompt[1]` must be a token id, not 200000 (the vocabulary has 128,256 tokens)"
        in told(changes)[0]
    )
    assert not told(changes, ClientOptions(vocab_size=200_001))[0]


def test_ids_are_not_sent_as_chat_wherever_they_stand(tmp_path):
    """Also where only the last entry has them."""
    path = written(tmp_path, [{"prompt": "words"}, {"prompt": [1, 2]}])
    assert (
        "cannot be sent to the chat API"
        in told({"workloads": [workload(tmp_path, api="chat", dataset={"path": path})]})[0]
    )


@pytest.mark.parametrize("run", [plan, sweep])
def test_nothing_is_started_or_written(tmp_path, monkeypatch, run):
    """`bench plan` and `bench sweep` end alike: bad input, file and line."""
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, [{"prompt": "a", "output_len": 0}])
    given = {
        "name": "s",
        "server": {"kind": "attached", "base_url": "http://127.0.0.1:9"},
        "models": ["m"],
        "workloads": [workload(tmp_path, dataset={"path": path})],
        "concurrency": [1],
    }
    (tmp_path / "s.yaml").write_text(yaml.dump(given))
    with pytest.raises(ConfigError, match=r"d\.jsonl:1: `output_len` must be .*, not 0"):
        run(str(tmp_path / "s.yaml"))
    assert not (tmp_path / "results").exists()


def test_notes_of_files_reach_the_load(tmp_path):
    """They are among the notes of the load, and so in its row."""
    from rocbench.load.requestfactory import RequestFactory
    from rocbench.load.spec import Closed, Dataset, Dialect, Lengths, LoadSpec, RequestPlan, Target

    path = written(tmp_path, [{"prompt": "a", "completion": "b"}])
    plan_ = RequestPlan(Lengths(16), Lengths(4), dataset=Dataset(path))
    source = RequestFactory(LoadSpec(Target("http://127.0.0.1:9", "m"), plan_, Closed(1)), Dialect())
    (note,) = source.notes
    assert "without a tokenizer (--tokenizer), the lengths of 1 recorded answers are unknown" in note
