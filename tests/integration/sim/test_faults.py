"""Configured faults of the simulated server, as a client sees them."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import time
import urllib.error

import psutil
import pytest

from simnodes import serving

COMPLETIONS = "/v1/completions"
ASK = {"prompt": [1, 2, 3], "max_tokens": 8, "ignore_eos": True, "stream": True}


def stream(server, **changes):
    """The text of a streamed answer, or the error's name."""
    import http.client

    try:
        return server.post(COMPLETIONS, ASK | changes)[1]
    except (http.client.HTTPException, urllib.error.URLError, ConnectionError, TimeoutError) as error:
        return type(error).__name__


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ({"die_at_load": True}, "simulated death at load"),
        ({"oom_at_load": "torch.OutOfMemoryError: HIP out of memory."}, "HIP out of memory"),
    ],
)
def test_deaths_at_load(tmp_path, faults, words):
    """Exit code 1, the root cause, then vLLM's last line."""
    with serving(tmp_path, faults=faults, wait=False) as server:
        assert server.process.wait(20) == 1
        assert words in server.log
        assert "Engine core initialization failed" in server.log


def test_hanging_at_load_answers_503_for_ever(tmp_path):
    """It never becomes ready and still stops on a signal."""
    with serving(tmp_path, faults={"hang_at_load": True}, wait=False) as server:
        assert server.get("/health")[0] == 503
        server.process.terminate()
        assert server.process.wait(10) == 0


def test_death_after_requests(tmp_path):
    """It is gone right after the second answer."""
    with serving(tmp_path, faults={"die_after_requests": 2}) as server:
        assert "[DONE]" in stream(server)
        stream(server)
        assert server.process.wait(10) == 1


def test_a_dead_engine_ends_streams_in_band(tmp_path):
    """After 200: an error event and [DONE]; new requests get 500, health 503."""
    faults = {"engine_dead_after_s": 0.5}
    with serving(tmp_path, faults=faults, simulation={"speed": 0.1}) as server:
        text = stream(server, max_tokens=20_000)
        assert "EngineCore encountered an issue" in text
        assert text.rstrip().endswith("data: [DONE]")
        assert server.get("/health")[0] == 503
        assert server.post(COMPLETIONS, ASK)[0] == 500


@pytest.mark.parametrize(
    ("failure", "sign"),
    [
        ("http_status", '"code": 500'),
        ("in_band_error", "EngineCore encountered"),
        ("truncated", "IncompleteRead"),
        ("reset", "ConnectionResetError"),
        ("bad_json", '"text":" bro\n'),
        ("early_stop", '"finish_reason":"stop"'),
        ("connect", "RemoteDisconnected"),
    ],
)
def test_requests_fail_in_each_class(tmp_path, failure, sign):
    """A share of 1 makes every request fail in its way."""
    with serving(tmp_path, faults={"fail": {failure: 1.0}}) as server:
        text = stream(server)
        others = {"IncompleteRead", "RemoteDisconnected"}
        assert sign in text or (sign in others and text in others), text


def test_a_share_of_requests_fails(tmp_path):
    """About half, drawn from the seed."""
    with serving(tmp_path, faults={"fail": {"http_status": 0.5}}) as server:
        bad = sum("[DONE]" not in stream(server) for _ in range(60))
    assert 15 < bad < 45


def test_silence_is_a_timeout(tmp_path):
    """Half the tokens come, then nothing more, and the server goes on."""
    with (
        serving(tmp_path, faults={"fail": {"timeout": 1.0}}) as server,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(stream, server)
        while not server.metric('vllm:request_success_total{engine="0",finished_reason="error"'):
            pass
        assert not waiting.done()
        server.process.kill()
        assert "[DONE]" not in waiting.result(10)


def test_timed_faults(tmp_path):
    """Health goes and comes back, metrics go for good, a build line appears, the log grows."""
    faults = {
        "health_503_after_s": 0.3,
        "health_503_for_s": 0.5,
        "metrics_gone_after_s": 0.3,
        "jit_line_after_s": 0.1,
        "log_flood_bytes": 100_000,
    }
    with serving(tmp_path, faults=faults) as server:
        seen, until = [], time.monotonic() + 20
        while seen[-2:] != [503, 200] and time.monotonic() < until:
            status = server.get("/health")[0]
            if seen[-1:] != [status]:
                seen.append(status)
        assert seen == [200, 503, 200]
        assert server.get("/metrics")[0] == 404
        assert "start build [module_" in server.log
        assert len(server.log) > 100_000


def test_a_worker_can_be_left_behind(tmp_path):
    """A child that ignores signals outlives the server."""
    with serving(tmp_path, faults={"orphan": True}) as server:
        (child,) = psutil.Process(server.process.pid).children()
        server.process.terminate()
        server.process.wait(10)
        try:
            assert child.is_running()
            child.terminate()
            assert psutil.pid_exists(child.pid)
        finally:
            child.kill()


def test_stops_can_be_slow_or_refused(tmp_path):
    """It takes its time, or takes no notice of SIGTERM."""
    with serving(tmp_path, faults={"ignore_sigterm": True}) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.get("/health")[0] == 200
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 0
    with serving(tmp_path, faults={"slow_stop_s": 0.5}) as server:
        began = time.monotonic()
        os.kill(server.process.pid, signal.SIGTERM)
        server.process.wait(10)
        assert time.monotonic() - began >= 0.5


def test_false_figures(tmp_path):
    """A wrong block size and backend, false cache hits, miscounted and repeated tokens, fewer seats."""
    faults = {
        "wrong_block_size": 32,
        "wrong_backend": "ROCM_ATTN",
        "extra_prefix_hits": 64,
        "miscount_tokens": 1,
        "duplicate_tokens": 1.0,
        "max_running": 3,
    }
    with serving(tmp_path, faults=faults, simulation={"speed": 1.0}) as server:
        text = stream(server, stream_options={"include_usage": True})
        assert text.count('"text":"') == 8 + 6
        usage = json.loads(text.split("data: ")[-2])["usage"]
        assert usage["completion_tokens"] == 9
        assert server.metric("vllm:prefix_cache_hits_total") == 64
        assert 'block_size="32"' in server.get("/metrics")[1]
        assert "Using Rocm Attention backend." in server.log
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(stream, server, max_tokens=30) for _ in range(8)]
            most = 0.0
            while not all(answer.done() for answer in answers):
                most = max(most, server.metric("vllm:num_requests_running"))
            assert most == 3
