"""Our launcher, proof and probes against real vLLM on the CPU: start, prove, die in known ways, stop."""

import os
import signal
import time

import pytest

from rocbench import server
from rocbench.errors import ServerFault
from rocbench.probe.fetch import exchange, read_body
from rocbench.probe.scrape import Scraper, load_view
from rocbench.processes import is_alive
from rocbench.server import orphans, proof
from rocbench.server.spec import ServerSpec
from rocbench.server.versions import packages_of

pytestmark = pytest.mark.real_vllm


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """The node's state of this test alone."""
    monkeypatch.setenv("ROCBENCH_STATE", str(tmp_path / "state"))


@pytest.fixture
def make_spec(real_vllm, tmp_path):
    """A spec for a tiny model and more flags."""

    def make(name: str, *flags: str, **env: str) -> ServerSpec:
        command = (str(real_vllm.vllm), "serve", str(real_vllm.model(name)), *real_vllm.flags(name), *flags)
        return ServerSpec(
            kind="process",
            model=str(real_vllm.model(name)),
            folder=tmp_path / name,
            command=command,
            env=real_vllm.environment() | env,
            ready_timeout_s=240.0,
        )

    return make


def test_start_prove_kill(make_spec):
    """A GQA model: progress is told, everything planned is proved, tokens are counted; and SIGKILL of the API server
    leaves engine core and worker running, which the stop ends.
    """
    told = []
    with server.start(make_spec("tiny-llama-gqa"), lambda *step: told.append(step[0])) as running:
        found = proof.prove(running, {"block_size": 128, "prefix_caching": True, "vllm": running.version})
        assert (found.mismatches, found.unknown) == ((), ())
        assert found.found["kv_capacity_tokens"] > 100_000
        assert found.config["scheduler_config"]["max_num_seqs"] == 128
        assert proof.reset_prefix_cache(running) == "reset"
        assert packages_of(running)["torch"].startswith("2.")
        scraper = Scraper(running.base_url)
        before = scraper.read_now()
        ask = {
            "model": running.served_name,
            "prompt": list(range(1000, 1100)),
            "max_tokens": 7,
            "ignore_eos": True,
        }
        with exchange(running.base_url, "/v1/completions", method="POST", body=ask, timeout_s=60) as answer:
            read_body(answer)
        assert answer.status == 200
        view = load_view(before, scraper.read_now())
        assert (view["server_prompt_tokens"], view["server_output_tokens"], view["prefix_cache_hits"]) == (
            100,
            7,
            0,
        )
        members = running.processes()
        assert len(members) >= 3
        os.kill(running.pid, signal.SIGKILL)
        while running.exit_code() is None:
            time.sleep(0.05)
        assert sum(map(is_alive, members)) >= 2
    assert any(step.startswith("KV cache of") for step in told)
    assert not any(map(is_alive, members))
    assert orphans.find() == ()


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--block-size", "1"), "block_size"),
        (("--kv-offloading-size", "1"), "offload_unsupported"),
        (("--tensor-parallel-size", "2"), "numa_binding"),
        (("--no-such-flag",), "unknown_flag"),
        (("--max-model-len", "999999"), "max_model_len"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_known_failures(make_spec, flags, code):
    """What real vLLM refuses is told by its root cause, the worker's line, not by the last generic one."""
    with pytest.raises(ServerFault) as caught, server.start(make_spec("tiny-llama-gqa", *flags)):
        pass

    assert caught.value.code == code, caught.value.text()
    assert "Engine core initialization failed" not in caught.value.line


def test_too_little_memory(make_spec):
    """Without a KV cache size the CPU engine wants nearly all memory: the cause names the variable to set."""
    spec = make_spec("tiny-llama-gqa", VLLM_CPU_KVCACHE_SPACE="100000")
    with pytest.raises(ServerFault) as caught, server.start(spec):
        pass

    assert caught.value.code, caught.value.text()
