"""Whole sweeps on real vLLM on the CPU: counts agree with the engine's own, faults cost only their own cells."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import pandas as pd
import pytest

from sweeps import Bench, Ended, Terminal

pytestmark = pytest.mark.real_vllm

UNTRUE = {
    "no_measurement",
    "server_failed",
    "server_changed",
    "health_failed",
    "error_rate",
    "wrong_input_length",
    "wrong_output_length",
    "prefix_cache_hits",
    "token_count_disagrees",
    "server_differs_from_plan",
    "simulator_late",
    "above_hardware_limit",
}
"""Codes that cannot be true of a sound server here. Others may be: two cores are soon a limit, and answers few."""


@pytest.fixture
def bench(tmp_path, real_vllm) -> Iterator[Bench]:
    """`bench` in a folder of its own, beside the install as in the project's folder."""
    (tmp_path / ".venv-vllm").symlink_to(real_vllm.folder)
    made = Bench(tmp_path)
    yield made
    made.kill_left()


def counted(ended: Ended, cell_id: str) -> tuple[int, int]:
    """Prompt and output tokens of a cell, image tokens in, as the client counted them: every request of the load."""
    requests = pd.read_parquet(ended.folder / "requests.parquet")
    mine = requests[requests["cell_id"] == cell_id]
    return int(mine["prompt_tokens"].sum()), int(mine["output_tokens"].sum())


def check_counts(ended: Ended) -> None:
    """In every row: no failure, no untrue reason, and the server's token counters exactly as the client's."""
    for row in ended.rows.to_dict("records"):
        what = f"{row['key']}: {row['reasons']}"
        assert not set(str(row["reasons"]).split(";")) & UNTRUE, what
        assert row["failed"] == 0, what
        assert row["completed"] > 0, what
        assert row["simulated"] == 0, what
        assert (row["server_prompt_tokens"], row["server_output_tokens"]) == counted(ended, row["cell_id"]), (
            what
        )


@pytest.mark.timeout(1800)
def test_four_tiny_models_in_one_command(bench):
    """`bench sweep tiny-real`: three levels on each of four real servers, the server's own view in every row."""
    ended = bench.run("sweep", "tiny-real", "--out", str(bench.out), timeout=1700)
    bench.check(ended)

    assert ended.code in (0, 1), ended.stderr
    rows = ended.rows
    assert len(rows) == 12
    assert rows["model"].nunique() == 4
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


@pytest.mark.parametrize("real_server", ["tiny-llama-gqa"], indirect=True)
def test_attached_at_1_64_and_1000_streams(real_server, bench, record_property):
    """Against a server we did not start: totals equal its counters; TTFT lies by its own histogram's bucket."""
    ended = bench.run(
        *("sweep", "--base-url", real_server.base_url, "--model", real_server.name, "--out", str(bench.out)),
        *(
            "--concurrency",
            "1,64,1000",
            "--isl",
            "64",
            "--osl",
            "16",
            "--duration",
            "4",
            "--max-duration",
            "90",
        ),
        timeout=500,
    )
    bench.check(ended)

    assert ended.code in (0, 1), ended.stderr
    check_counts(ended)
    rows = ended.rows.set_index("concurrency")
    for users in (1, 64, 1000):
        row = rows.loc[users]
        told = {
            "client": row["median_ttft_ms"],
            "low": row["server_median_ttft_low_ms"],
            "high": row["server_median_ttft_high_ms"],
        }
        record_property(f"median TTFT at {users}, ms", told)
        print(users, told, row["reasons"])  # noqa: T201 - with 1,000 streams the difference is reported
        if users < 1000:  # the client's clock starts earlier and ends later; its window is without warm-up
            assert told["low"] * 0.7 <= told["client"] <= told["high"] * 1.5 + 10, told
    assert rows.loc[1000, "output_throughput"] > rows.loc[1, "output_throughput"]


@pytest.mark.timeout(1200)
def test_real_faults_cost_their_own_cells(bench):
    """A block size that vLLM changed voids the row; an engine that its first request kills is told by its cause."""
    mla = {"profile": "tiny-deepseek-v3-mla-moe", "path": ".venv-vllm/models/tiny-deepseek-v3-mla-moe"}
    made = {
        "name": "real-faults",
        "vllm": "0.32.0",
        "hardware": "cpu",
        "server": {"kind": "process", "command": [".venv-vllm/bin/vllm"], "ready_timeout_s": 300},
        "models": [
            mla | {"serve_args": {"kv-cache-dtype": "fp8"}},
            mla | {"serve_args": {"block-size": 1}},
            {"profile": "tiny-llama-gqa", "path": ".venv-vllm/models/tiny-llama-gqa"},
        ],
        "workloads": ["short"],
        "concurrency": [2],
        "load": {"duration_s": 2, "min_requests_per_user": 0},
    }
    ended = bench.sweep(made, "--force", timeout=1100)  # a rule knows better than to start the first

    assert ended.code == 1, ended.stderr
    fp8, block, sound = (row for _, row in ended.rows.sort_values("server_id").iterrows())
    assert set(fp8["reasons"].split(";")) == {"server_failed", "kernel_dtype"}
    assert "Float8_e4m3fn" in fp8["failure_message"]
    assert "server_differs_from_plan" in block["reasons"]
    assert block["block_size"] == 16
    assert "planned 1" in block["plan_differences"]
    assert bool(block["valid"]) is False
    assert sound["completed"] > 0
    assert not set(sound["reasons"].split(";")) & UNTRUE


@pytest.mark.timeout(1200)
def test_engine_killed_in_the_window_then_sigterm(bench):
    """An engine killed under load costs its cell, the next cell gets a new server; SIGTERM then leaves nothing."""
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
    os.kill(int(engine.split()[0]), signal.SIGKILL)
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
