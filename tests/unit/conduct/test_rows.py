"""What a row says of its cell before anything was measured."""

from __future__ import annotations

import json

import pytest

from rocbench import console
from rocbench.commands import asking
from rocbench.conduct import bind, rows
from rocbench.errors import InputError, ServerFault
from rocbench.plan.expand import Overrides
from rocbench.settings.schema import Load, Workload
from virtual import SMALL, plan_of


def test_a_row_says_what_a_request_is_beside_its_means():
    """A workload of the same name with other content, and a load with another end, are told apart; defaults are not."""
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
    """Neither in the plan, the rows, nor on the screen, however short it is."""
    given = {"api-key": "k3y", "hf_token": "t0k"}
    overrides = Overrides(args={"api_key": "k3z"}, env={"AWS_SECRET_ACCESS_KEY": "s3c"})
    plan = plan_of(SMALL | {"serve_args": given}, overrides)
    run = plan.launches[0].runs[0]
    written = json.dumps(rows.plan_json(plan, overrides, None)) + str(rows.tags(plan, plan.launches[0], run))
    console.show_plan(plan)
    set_ = ["api-key=k3y", "hf-token=t0k", "env.AWS_SECRET_ACCESS_KEY=s3c"]
    for as_json in (True, False):
        console.show_resolution(
            asking.resolution("qwen3-235b", "0.14.1", None, None, None, set_), as_json=as_json
        )

    told = written + capsys.readouterr().out
    assert "VLLM_API_KEY" in told
    assert not [secret for secret in ("k3y", "k3z", "t0k", "s3c") if secret in told]


def test_a_masked_secret_is_asked_for_on_resuming(monkeypatch):
    """A run folder keeps no secret, and no server is started with the mask in its place."""
    monkeypatch.delenv("MY_TOKEN", raising=False)
    with pytest.raises(InputError, match="MY_TOKEN is not kept"):
        bind._kept_value("MY_TOKEN", "***")
    monkeypatch.setenv("MY_TOKEN", "t0k")
    assert bind._kept_value("MY_TOKEN", "***") == "t0k"
    monkeypatch.setenv("HF_ENDPOINT", "http://me:t0k@hub")
    assert bind._kept_value("HF_ENDPOINT", "http://***@hub") == "http://me:t0k@hub"
    assert bind._kept_words(("m", "--port", "1")) == ("m", "--port", "1")
    with pytest.raises(InputError, match="--url: its value holds a secret"):
        bind._kept_words(("m", "--url", "http://***@h"))


def test_a_failed_row_says_that_it_was_forced():
    """Forced rules are often why the server failed."""
    overrides = Overrides(tp=3, force=True)
    plan = plan_of(SMALL | {"models": ["deepseek-r1"]}, overrides)
    launch = plan.launches[0]
    assert launch.group.resolution is not None
    assert launch.group.resolution.forced

    row = rows.failed_row(plan, launch, launch.runs[0], "s", ServerFault("x", code="heads_not_divisible"))
    assert row["reasons"] == "server_failed;heads_not_divisible;forced_rules"
