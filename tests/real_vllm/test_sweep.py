"""Whole sweeps on real vLLM on the CPU: counts agree with the engine's own, faults cost only their own cells."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request

import pandas as pd
import pytest

from realrows import UNTRUE, check_counts
from sweeps import Terminal

pytestmark = pytest.mark.real_vllm


@pytest.mark.timeout(1800)
def test_three_tiny_models_in_one_command(bench):
    """`bench sweep tiny-real`, but for the model of the other tests: the server's own view in every row."""
    less = ("--only", "tiny-[dq]*", "--concurrency", "1,8")
    ended = bench.run("sweep", "tiny-real", *less, "--out", str(bench.out), timeout=1700)
    bench.check(ended)

    assert ended.code in (0, 1), ended.stderr
    rows = ended.rows
    assert len(rows) == 6
    assert rows["model"].nunique() == 3
    assert set(rows["server_kind"]) == {"process"}
    check_counts(ended)
    for name in (
        "server_running_max",
        "server_kv_usage_max",
        "server_mean_ttft_ms",
        "preemptions",
        "block_size",
    ):
        assert rows[name].notna().all(), name
    assert (rows["server_running_max"] >= 1).all()
    assert set(rows[rows["model"] == "tiny-deepseek-v3-mla-moe"]["block_size"]) == {16}
    vision = rows[rows["model"] == "tiny-qwen3-vl"]
    assert (vision["image_token_throughput"] > 0).all()
    requests = pd.read_parquet(ended.folder / "requests.parquet")
    sent = requests[requests["cell_id"].isin(vision["cell_id"]) & (requests["images"] > 0)]
    assert set(sent["image_tokens"]) == {
        66
    }  # 256 x 256 pixels, 32 x 32 of them a token, and two that mark the ends
    assert (vision["isl_had"] < 200).all()
    assert (rows[rows["model"] != "tiny-qwen3-vl"]["image_token_throughput"].isna()).all()


@pytest.mark.timeout(1200)
def test_real_faults_cost_their_own_cells(bench):
    """A block size that vLLM changed voids the row; an engine that its first request kills is told by its cause.

    The failed server comes first: the row after it is measured.
    """
    mla = {"profile": "tiny-deepseek-v3-mla-moe", "path": ".venv-vllm/models/tiny-deepseek-v3-mla-moe"}
    made = {
        "name": "real-faults",
        "vllm": "0.32.0",
        "hardware": "cpu",
        "server": {"kind": "process", "command": [".venv-vllm/bin/vllm"], "ready_timeout_s": 300},
        "models": [
            mla | {"serve_args": {"kv-cache-dtype": "fp8"}},
            mla | {"serve_args": {"block-size": 1}},
        ],
        "workloads": ["short"],
        "concurrency": [2],
        "load": {"duration_s": 2, "min_requests_per_user": 0},
    }
    ended = bench.sweep(made, "--force", timeout=1100)  # a rule knows better than to start the first

    assert ended.code == 1, ended.stderr
    fp8, block = (row for _, row in ended.rows.sort_values("server_id").iterrows())
    assert set(fp8["reasons"].split(";")) == {"server_failed", "kernel_dtype", "forced_rules"}
    assert "Float8_e4m3fn" in fp8["failure_message"]
    assert "server_differs_from_plan" in block["reasons"]
    assert block["block_size"] == 16
    assert "planned 1" in block["plan_differences"]
    assert bool(block["valid"]) is False
    assert block["attention_backend"] == "CPU_MLA"
    assert block["completed"] > 0
    assert set(block["reasons"].split(";")) & UNTRUE == {"server_differs_from_plan"}


def health_until_the_end(base_url):
    """The statuses that a server's /health has until nobody answers."""
    statuses = set()
    while True:
        try:
            with urllib.request.urlopen(f"{base_url}/health", timeout=30) as answer:
                statuses.add(answer.status)
        except urllib.error.HTTPError as error:
            statuses.add(error.code)
        except OSError:
            return statuses
        time.sleep(0.1)


@pytest.mark.timeout(1200)
def test_engine_killed_in_the_window_then_sigterm(bench):
    """An engine killed under load costs its cell, the next cell gets a new server; SIGTERM then leaves nothing.

    vLLM's API server looks at its engine every 5 s, says 503 then, and ends.
    """
    made = {
        "name": "real-stop",
        "vllm": "0.32.0",
        "hardware": "cpu",
        "server": {"kind": "process", "command": [".venv-vllm/bin/vllm"], "ready_timeout_s": 300},
        "models": [{"profile": "tiny-llama-gqa", "path": ".venv-vllm/models/tiny-llama-gqa"}],
        "workloads": ["short"],
        "concurrency": [2, 4],
        "load": {"duration_s": 300, "request_timeout_s": 20},
    }
    terminal = Terminal(bench, "sweep", bench.write(made), "--out", str(bench.out))
    terminal.wait_for(r"(?s)c2.* measure [2-9] s", timeout=400)
    engine = next(line for line in bench.left() if "EngineCore" in line)
    (record,) = bench.servers()
    os.kill(int(engine.split()[0]), signal.SIGKILL)
    assert 503 in health_until_the_end(record["base_url"])
    terminal.wait_for(r"(?s)c4.* measure [2-9] s", timeout=400)
    assert len(bench.left()) > 3

    began = time.monotonic()
    terminal.process.send_signal(signal.SIGTERM)
    ended = terminal.end()

    assert ended.code == 130
    assert time.monotonic() - began < 15
    bench.check(ended)
    (row,) = (json.loads(path.read_text()) for path in (bench.out / "parts" / "cells").iterdir())
    assert row["concurrency"] == 2
    assert row["valid"] is False
    assert {"server_changed", "health_failed"} & set(row["reasons"].split(";"))
