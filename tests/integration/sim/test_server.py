"""The simulated server as a process, over HTTP."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from simnodes import Served, argv_of, context, serving

MODEL = "meta-llama/Llama-3.1-405B-Instruct"
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    """A server of Llama at 0.14.1 in development mode."""
    folder = tmp_path_factory.mktemp("served")
    with serving(folder, env={"VLLM_SERVER_DEV_MODE": "1"}) as running:
        yield running


def test_what_a_client_asks_first(served):
    """Health, models, version, and the paths that do not exist."""
    assert served.get("/health") == (200, "")
    card = json.loads(served.get("/v1/models")[1])["data"][0]
    assert (card["id"], card["max_model_len"]) == (MODEL, 32768)
    assert json.loads(served.get("/version")[1]) == {"version": "0.14.1"}
    assert served.get("/nonsense")[0] == 404
    assert served.get(COMPLETIONS)[0] == 405


def test_a_stream_has_the_tokens_asked_for(served):
    """One event a token, the last with the reason, then usage and [DONE]."""
    body = {
        "prompt": [5, 6, 7],
        "max_tokens": 6,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }
    *tokens, usage, done = served.events(COMPLETIONS, body)
    assert [event["choices"][0]["finish_reason"] for event in tokens] == [None] * 5 + ["length"]
    assert usage["usage"] == {"prompt_tokens": 3, "total_tokens": 9, "completion_tokens": 6}
    assert done == "[DONE]"


def test_a_whole_answer_has_the_same_tokens(served):
    """Without streaming, text, reason and usage come at once."""
    answer = json.loads(served.post(COMPLETIONS, {"prompt": "a b", "max_tokens": 4, "ignore_eos": True})[1])
    assert len(answer["choices"][0]["text"].split()) == answer["usage"]["completion_tokens"] == 4
    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "ignore_eos": True}
    message = json.loads(served.post(CHAT, chat)[1])["choices"][0]["message"]
    assert message["role"] == "assistant"
    assert len(message["content"].split()) == 4


def test_answers_end_by_themselves_where_the_end_of_text_counts(served):
    """Without ignore_eos some end early with `stop`, none before min_tokens or after max_tokens."""
    reasons = set()
    for _ in range(12):
        answer = json.loads(served.post(COMPLETIONS, {"prompt": [1], "max_tokens": 300, "min_tokens": 10})[1])
        assert 10 <= answer["usage"]["completion_tokens"] <= 300
        reasons.add(answer["choices"][0]["finish_reason"])
    assert "stop" in reasons


def test_errors_have_the_bodies_of_vllm(served):
    """404 for a model it does not serve, 400 for what cannot be."""
    status, body = served.post(COMPLETIONS, {"model": "nope", "prompt": [1]})
    assert (status, json.loads(body)["error"]["type"]) == (404, "NotFoundError")
    status, body = served.post(COMPLETIONS, {"prompt": [10**9]})
    assert (status, json.loads(body)["error"]["message"]) == (400, "Token id 1000000000 is out of vocabulary")


def test_a_prompt_sent_twice_hits_the_prefix_cache_until_it_is_reset(served):
    """500 tokens hold 31 full blocks of 16; in 0.14.1 the reset answers with an empty 200."""
    body = {"prompt": list(range(2000, 2500)), "max_tokens": 2}
    served.post(COMPLETIONS, body)
    before = served.metric("vllm:prefix_cache_hits_total")
    served.post(COMPLETIONS, body)
    assert served.metric("vllm:prefix_cache_hits_total") - before == 31 * 16
    assert served.post("/reset_prefix_cache", {}) == (200, "")
    before = served.metric("vllm:prefix_cache_hits_total")
    served.post(COMPLETIONS, body)
    assert served.metric("vllm:prefix_cache_hits_total") == before


def test_a_second_turn_finds_the_first(served):
    """An answer sent back is in the cache, since its tokens count the same."""
    ask = [{"role": "user", "content": "tell me a story " * 20}]
    answer = json.loads(served.post(CHAT, {"messages": ask, "max_tokens": 64, "ignore_eos": True})[1])
    turns = [*ask, answer["choices"][0]["message"], {"role": "user", "content": "go on"}]
    before = served.metric("vllm:prefix_cache_hits_total")
    served.post(CHAT, {"messages": turns, "max_tokens": 2})
    hits = served.metric("vllm:prefix_cache_hits_total") - before
    assert hits == (80 + 10 + 64 - 1) // 16 * 16


def test_many_streams_at_once_lose_nothing(served):
    """200 streams in parallel: every one has its tokens, and the server's counters agree."""
    tokens = served.metric("vllm:generation_tokens_total")
    done = served.metric("vllm:request_success_total")

    def one(number):
        body = {"prompt": [number + 5] * 8, "max_tokens": 20, "ignore_eos": True}
        return len(served.events(COMPLETIONS, body)) - 1

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        assert list(pool.map(one, range(200))) == [20] * 200
    assert served.metric("vllm:generation_tokens_total") - tokens == 4000
    assert served.metric("vllm:request_success_total") - done == 200
    assert served.metric("vllm:num_requests_running") == served.metric("vllm:num_requests_waiting") == 0
    assert served.metric("rocbench_sim:steps_total") > 20


def test_a_client_that_goes_away_is_forgotten(served):
    """A dropped connection aborts its request and frees its blocks."""
    import http.client

    host = served.url.removeprefix("http://")
    before = served.metric('vllm:request_success_total{engine="0",finished_reason="abort"')
    connection = http.client.HTTPConnection(host, timeout=30)
    body = json.dumps({"prompt": [1] * 100, "max_tokens": 30_000, "ignore_eos": True, "stream": True})
    connection.request("POST", COMPLETIONS, body)
    answer = connection.getresponse()
    assert answer.read(10)
    connection.close()
    answer.close()
    while served.metric("vllm:num_requests_running"):
        pass
    assert served.metric('vllm:request_success_total{engine="0",finished_reason="abort"') - before == 1
    assert served.metric("vllm:kv_cache_usage_perc") == 0


def test_the_server_tells_its_configuration(served):
    """In development mode as JSON; the cache's in the metrics."""
    info = json.loads(served.get("/server_info?config_format=json")[1])
    assert info["vllm_config"]["cache_config"]["block_size"] == 16
    assert info["vllm_env"]["VLLM_SERVER_DEV_MODE"] == "1"
    assert 'vllm:cache_config_info{block_size="16"' in served.get("/metrics")[1]
    assert "GPU KV cache size: " in served.log


def test_nothing_is_answered_while_the_model_loads(tmp_path):
    """503 until the load is over, and SIGTERM ends it at once."""
    with serving(tmp_path, simulation={"load_s": 600.0}, wait=False) as server:
        assert server.get("/health")[0] == 503
        assert server.post(COMPLETIONS, {"prompt": [1]})[0] == 503
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_it_in_order(tmp_path, number):
    """Exit code 0, also with a stream under way."""
    body = {"prompt": [1], "max_tokens": 9000, "stream": True, "ignore_eos": True}
    with (
        serving(tmp_path, simulation={"speed": 1.0}) as server,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        stream = pool.submit(server.post, COMPLETIONS, body)
        while not server.metric("vllm:num_requests_running"):
            pass
        server.process.send_signal(number)
        assert server.process.wait(10) == 0
        assert stream.exception(timeout=10) is not None


def test_a_newer_version_speaks_its_own_dialect(tmp_path):
    """0.33: reset answers with success, aliases are named, development endpoints need their switch."""
    with serving(tmp_path, vllm="0.33.0", env={"VLLM_SERVER_DEV_MODE": "1"}) as server:
        assert json.loads(server.post("/reset_prefix_cache", {})[1]) == {"success": True}
        assert "Valid aliases" in server.post(COMPLETIONS, {"model": "x", "prompt": [1]})[1]
        assert "Maximum concurrency" in next(
            line for line in server.log.splitlines() if "KV cache size" in line
        )


def test_keys_are_asked_for(tmp_path):
    """With --api-key nothing under /v1 is answered without it; there are no development endpoints by default."""
    with serving(tmp_path, ["--api-key", "secret", "--served-model-name", "short"]) as server:
        assert server.get("/v1/models")[0] == 401
        assert server.get("/health")[0] == 200
        assert server.post("/reset_prefix_cache", {})[0] == 404


def test_data_parallel_engines_share_the_requests(tmp_path):
    """Two engines of four GPUs: each has its own row in the metrics and takes its part."""
    flags = ["--tensor-parallel-size", "4", "--data-parallel-size", "2"]
    with serving(tmp_path, flags, simulation={"speed": 1.0}) as server:
        body = {"prompt": [1], "max_tokens": 20, "ignore_eos": True}
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: server.post(COMPLETIONS, body), range(6)))
        tokens = [server.metric(f'vllm:generation_tokens_total{{engine="{n}"') for n in (0, 1)]
    assert sum(tokens) == 120
    assert min(tokens) > 0


def start(tmp_path, argv, **more):
    """Run it to its end; exit code and output."""
    path = tmp_path / "simulation.json"
    path.write_text(context(simulation={"load_s": 0.0}, **more).model_dump_json())
    ended = subprocess.run(
        [sys.executable, "-m", "rocbench.sim", *argv],
        env=os.environ | {"ROCBENCH_SIM": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_it_refuses_as_vllm_does(tmp_path):
    """Unknown flags end with 2, a configuration that cannot start with 1, and no traceback of ours is shown."""
    argv, _ = argv_of()
    code, text = start(tmp_path, ["serve", *argv, "--nonsense"])
    assert (code, "unrecognized arguments: --nonsense" in text) == (2, True)
    code, text = start(tmp_path, ["serve", MODEL, "-tp", "8", "--block-size", "1", "--max-model-len", "4096"])
    assert (code, "Engine core initialization failed" in text) == (1, True)
    code, text = start(tmp_path, ["dance"])
    assert code == 2
    assert "Traceback" not in text


def test_a_taken_port_is_an_error(tmp_path, served):
    """vLLM's words: address already in use."""
    argv, _ = argv_of()
    code, text = start(tmp_path, ["serve", *argv, "--port", served.url.rpartition(":")[2]])
    assert code == 1
    assert "Address already in use" in text


def test_without_a_context_it_says_what_is_missing():
    """ROCBENCH_SIM is named."""
    env = {name: value for name, value in os.environ.items() if name != "ROCBENCH_SIM"}
    ended = subprocess.run(
        [sys.executable, "-m", "rocbench.sim", "serve", "m"], env=env, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "ROCBENCH_SIM" in ended.stderr
