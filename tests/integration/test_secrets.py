"""A planted token and key reach no file of a run folder, no log and no output, whether all goes well or not."""

import os
from pathlib import Path

import pytest

from sweeps import Bench, Ended, as_process, sweep

TOKEN, KEY, WRONG = (
    "hf_plantedTokenabcdefghijklmnop012345",
    "sk-planted-key-0123456789abcdef",
    "sk-wrong-9876543210fedcba",
)
GOOD, BAD = "qwen3-235b", "deepseek-r1"


@pytest.fixture
def bench(tmp_path):
    """`bench` with a token and a key in its environment."""
    made = Bench(tmp_path, env={"HF_TOKEN": TOKEN, "MY_KEY": KEY, "WRONG_KEY": WRONG})
    yield made
    made.kill_left()


def leaks(folder: Path, ended: Ended) -> list[str]:
    """Files (and streams) that hold a secret, packed ones unpacked by their readers."""
    secrets = [word.encode() for word in (TOKEN, KEY, WRONG)]
    texts = {"stdout": ended.stdout.encode(), "stderr": ended.stderr.encode()}
    for path in folder.rglob("*"):
        if path.is_file():
            texts[str(path)] = path.read_bytes()
            if path.suffix == ".parquet":  # compressed: grep would not see it
                import pyarrow.parquet as pq

                texts[f"{path} read"] = str(pq.read_table(path).to_pylist()).encode()
    return [name for name, text in texts.items() if any(secret in text for secret in secrets)]


def test_launched_servers(bench):
    """Servers that log both, one of them failing requests and dying: the key is asked for, and nowhere written."""
    bench.env["LEAKY_FAULTS"] = '{"deepseek-r1": {"fail": {"http_status": 0.1}, "die_after_requests": 40}}'
    ended = bench.sweep(
        sweep([BAD, GOOD], server=as_process(api_key_env="MY_KEY"), concurrency=[4], load={"duration_s": 1.5})
    )

    assert ended.code == 1
    assert ended.row(GOOD)["completed"] > 0  # the server refuses whoever has no key
    assert ended.row(BAD)["failed"] > 0
    assert "VLLM_API_KEY=" in ended.log(GOOD)
    assert "HF_TOKEN=" in ended.log(GOOD)
    assert leaks(bench.folder, ended) == []


@pytest.mark.slow
def test_key_in_arguments_of_a_server_that_dies_at_load(bench):
    """A key given as a flag, and one in the environment of the server, which dies at load with both in its log."""
    bench.env["LEAKY_FAULTS"] = '{"deepseek-r1": {"die_at_load": true}}'
    made = sweep([BAD], server=as_process(api_key_env="MY_KEY"))
    ended = bench.run(
        "sweep", bench.write(made), "--out", str(bench.out), "--set", f"env.OTHER_API_KEY={WRONG}"
    )
    bench.check(ended)

    assert ended.code == 4
    (bench.folder / "sweep.yaml").unlink()
    assert leaks(bench.folder, ended) == []


@pytest.mark.slow
def test_wrong_key_at_a_running_server(bench, tmp_path):
    """A server that refuses the key, and repeats it in the error: told as such, and masked."""
    from simnodes import serving

    folder = tmp_path / "server"
    folder.mkdir()
    with serving(folder, env={"VLLM_API_KEY": KEY}) as served:
        words = [
            "--base-url",
            served.url,
            "--model",
            "meta-llama/Llama-3.1-405B-Instruct",
            "--concurrency",
            "2",
        ]
        words += ["--isl", "64", "--osl", "16", "--duration", "1", "--out", str(bench.out)]
        refused = bench.run("sweep", *words, "--api-key-env", "WRONG_KEY")
        fine = bench.run("sweep", *words[:-1], str(bench.out) + "-2", "--api-key-env", "MY_KEY")

    assert refused.code in (1, 2, 4)
    assert "key" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert fine.code in (0, 1), fine.stderr
    (folder / "server.log").unlink(missing_ok=True)
    for ended in (refused, fine):
        assert leaks(bench.folder, ended) == []


def test_secrets_are_really_planted(bench):
    """The search finds what it looks for."""
    (bench.folder / "x").write_text(f"a {TOKEN} b")
    ended = Ended(0, "", "", bench.out)

    assert leaks(bench.folder, ended) == [str(bench.folder / "x")]
    assert "HF_TOKEN" not in os.environ
