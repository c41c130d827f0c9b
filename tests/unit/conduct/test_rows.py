"""Columns of a row that describe its cell, and stored plans."""

from __future__ import annotations

import json

import pytest

from rocbench import console
from rocbench.commands import asking, options, rulesshown
from rocbench.conduct import bind, rows
from rocbench.errors import InputError, ServerFault
from rocbench.plan.expand import Overrides
from rocbench.redact import marked
from rocbench.settings.schema import Load, Workload
from virtual import SMALL, plan_of


def test_a_row_says_what_a_request_is_beside_its_means():
    """A workload of the same name with other content, and a load with another end, differ; defaults are omitted."""
    plain = {"name": "w", "isl": {"mean": 100}, "osl": {"mean": 10}}
    drawn = {"osl": {"kind": "uniform", "mean": 10, "low": 5, "high": 15}, "shared_prefix_ratio": 0.5}

    assert rows._workload_spec(Workload.model_validate(plain | {"note": "mine"})) == {}
    assert rows._workload_spec(Workload.model_validate(plain | drawn)) == {
        "osl": {"kind": "uniform", "low": 5, "high": 15},
        "shared_prefix_ratio": 0.5,
    }
    assert rows._load_spec(Load.model_validate({"duration_s": 5})) == {}
    bursts = {"shape": {"kind": "open", "arrival": "gamma", "burstiness": 0.5}, "max_requests": 100}
    assert rows._load_spec(Load.model_validate(bursts)) == {
        "arrival": "gamma",
        "burstiness": 0.5,
        "max_requests": 100,
    }


def test_a_key_among_the_flags_stands_nowhere(capsys):
    """A key, even a short one, is not in the plan, the rows or on the screen."""
    given = {"api-key": "k3y", "hf_token": "t0k"}
    overrides = Overrides(args={"api_key": "k3z"}, env={"AWS_SECRET_ACCESS_KEY": "s3c"})
    plan = plan_of(SMALL | {"serve_args": given}, overrides)
    run = plan.launches[0].runs[0]
    written = json.dumps(rows.plan_json(plan, overrides, None)) + str(rows.tags(plan, plan.launches[0], run))
    console.show_plan(plan)
    set_ = ["api-key=k3y", "hf-token=t0k", "env.AWS_SECRET_ACCESS_KEY=s3c"]
    for as_json in (True, False):
        rulesshown.show_resolution(
            asking.resolution("qwen3-235b", options.overrides("0.14.1", None, None, None, set_)),
            as_json=as_json,
        )

    output = written + capsys.readouterr().out
    assert "VLLM_API_KEY" in output
    assert not [secret for secret in ("k3y", "k3z", "t0k", "s3c") if secret in output]


def test_a_masked_secret_is_asked_for_on_resuming(monkeypatch):
    """A run folder stores no secret, and no server starts with the mask in its place."""
    monkeypatch.delenv("MY_TOKEN", raising=False)
    with pytest.raises(InputError, match="MY_TOKEN is not stored"):
        bind._unmasked_value("MY_TOKEN", "***")
    monkeypatch.setenv("MY_TOKEN", "t0k")
    assert bind._unmasked_value("MY_TOKEN", "***") == "t0k"
    monkeypatch.setenv("HF_ENDPOINT", "http://me:t0k@hub")
    assert bind._unmasked_value("HF_ENDPOINT", "http://***@hub") == "http://me:t0k@hub"
    monkeypatch.setenv("MINE", "TRUE")
    assert bind._unmasked_value("MINE", marked("MINE", "TRUE")) == "TRUE"
    with pytest.raises(InputError, match="MINE differs from its value"):
        bind._unmasked_value("MINE", marked("MINE", "FALSE"))
    assert bind._unmasked_argv(("m", "--port", "1")) == ("m", "--port", "1")
    with pytest.raises(InputError, match="--url: the value contains a secret"):
        bind._unmasked_argv(("m", "--url", "http://***@h"))


def test_a_variable_that_is_not_listed_decides():
    """Two values are two cells, with different ids and rows; a stored plan gives the same cells."""
    plans = [plan_of(SMALL | {"env": {"MINE": value}}) for value in ("TRUE", "FALSE")]
    ids = {plan.groups[0].cells[0].cell_id for plan in plans}
    environments = {
        str(rows.tags(plan, plan.launches[0], plan.launches[0].runs[0])["serve_env"]) for plan in plans
    }
    stored = rows.plan_json(plans[0], Overrides(), None)
    again = rows.stored(stored, rows.manifest(plans[0], "r", "", {}))

    assert (len(ids), len(environments)) == (2, 2)
    assert "TRUE" not in json.dumps(stored["servers"][0]["env"])
    assert again.groups[0].cells[0].cell_id == plans[0].groups[0].cells[0].cell_id
    assert rows.unlike(stored) is None


def test_a_manifest_of_an_earlier_version():
    """The hardware key `idle_power_w` is gone; runs that hold it are resumed and merged."""
    plan = plan_of(SMALL)
    manifest = rows.manifest(plan, "r", "", {})
    manifest["hardware"]["gpu"]["idle_power_w"] = None

    again = rows.stored(rows.plan_json(plan, Overrides(), None), manifest)

    assert again.groups[0].cells[0].cell_id == plan.groups[0].cells[0].cell_id


def test_a_manifest_that_lacks_a_workload_of_its_plan():
    """The missing workload is named."""
    plan = plan_of(SMALL)
    manifest = rows.manifest(plan, "r", "", {})
    name, _ = manifest["workloads"].popitem()

    with pytest.raises(InputError, match=f"workload {name} is missing"):
        rows.stored(rows.plan_json(plan, Overrides(), None), manifest)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"args": "x"}, "args: Input should be a valid dictionary"),
        ({"args": None}, "args: Input should be a valid dictionary"),
        ({"env": {"A": {}}}, "env.A: Input should be a valid string"),
        ({"tp": 0}, "tp: Input should be greater than or equal to 1"),
        ({"mine": 1}, "unexpected keyword argument 'mine'"),
        ([], "must be a mapping"),
    ],
)
def test_overrides_that_no_command_line_gave(overrides, message):
    """Overrides of another type are refused."""
    plan = plan_of(SMALL)
    stored = rows.plan_json(plan, Overrides(), None) | {"overrides": overrides}

    with pytest.raises(InputError, match=f"are not a valid plan: .*{message}"):
        rows.stored(stored, rows.manifest(plan, "r", "", {}))


def test_the_client_s_options_are_read_as_they_were_written():
    """Client options of another type are refused."""
    assert rows.client({"client": {"cpus": [1, 2], "tokenizer": None}}) == bind.ClientOptions(cpus=(1, 2))
    assert rows.client({"client": None}) == rows.client({}) == bind.ClientOptions()
    for odd in ({"cpus": 5}, {"mine": 1}, {"vocab_size": "many"}):
        with pytest.raises(InputError, match=r"`client` in plan.json"):
            rows.client({"client": odd})


def test_a_plan_stored_with_an_open_value(monkeypatch):
    """$ROCBENCH_SHOWN gives the same cells, and the message says so."""
    plan = plan_of(SMALL | {"env": {"MINE": "TRUE"}})
    monkeypatch.setattr("rocbench.variables._more", {"MINE"})
    old = plan_of(SMALL | {"env": {"MINE": "TRUE"}})
    stored, manifest = rows.plan_json(old, Overrides(), None), rows.manifest(old, "r", "", {})
    assert rows.unlike(stored) is None
    assert rows.stored(stored, manifest).groups[0].cells[0].cell_id == old.groups[0].cells[0].cell_id
    monkeypatch.setattr("rocbench.variables._more", set())

    assert rows.stored(stored, manifest).groups[0].cells[0].cell_id == plan.groups[0].cells[0].cell_id
    assert "ROCBENCH_SHOWN=MINE" in str(rows.unlike(stored))
    stored["servers"][0]["env"]["PGPASSWORD"] = "open"
    assert "rocbench version that started it" in str(rows.unlike(stored))


def test_what_a_plan_names_is_no_secret(monkeypatch):
    """A variable with a secret name may hold the image's registry or the server's address."""
    plan = plan_of(SMALL | {"server": {"kind": "container", "image": "reg.example.com/v@sha256:" + "0" * 64}})
    monkeypatch.setenv("A_KEY", "reg.example.com")

    assert "reg.example.com" in bind.server_secrets(plan.sweep.server)
    assert "reg.example.com" not in bind.server_secrets(plan.sweep.server, known=rows.public_names(plan))


def test_a_failed_row_says_that_it_was_forced():
    """Forced rules are often the reason why the server failed."""
    overrides = Overrides(tp=3, force=True)
    plan = plan_of(SMALL | {"models": ["deepseek-r1"]}, overrides)
    launch = plan.launches[0]
    assert launch.group.resolution is not None
    assert launch.group.resolution.forced

    row = rows.failed_columns(plan, launch, launch.runs[0], "s", ServerFault("x", code="heads_not_divisible"))
    assert row["reasons"] == "server_failed;heads_not_divisible;forced_rules"
