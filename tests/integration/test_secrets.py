"""A planted token and key reach no file of a run folder, no log and no output, whether all goes well or not."""

import json
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import pytest

import planted
from rocbench.store.folder import RunFolder
from sweeps import LEAKY, Bench, Ended, as_process, sweep, wait_until

TOKEN, KEY, WRONG = (
    "hf_plantedTokenabcdefghijklmnop012345",
    "sk-planted-key-0123456789abcdef",
    "sk-wrong-9876543210fedcba",
)
MODEL = "meta-llama/Llama-3.1-405B-Instruct"
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


@pytest.fixture
def surrounded(tmp_path):
    """`bench` among planted secrets."""
    made = Bench(tmp_path, env=planted.SURROUNDINGS | {"LEAKY_ECHO": " ".join(planted.ECHOED)})
    for name in ("out", "state", "cache"):
        (tmp_path / name).mkdir()
    yield made
    made.kill_left()


def planted_sweep(tmp_path):
    """A sweep with secrets in its variables and flags, and a prompt file that holds one."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": f"my key is {planted.key(0)}", "output_len": 16}) + "\n")
    model = {"profile": GOOD, "env": planted.SET["model_env"]}
    return sweep(
        [model],
        server=as_process(api_key_env="MY_KEY"),
        concurrency=[32],
        load={"duration_s": 2, "max_tail_s": 1},
        env=planted.SET["env"],
        serve_args=planted.SET["serve_args"],
    )


@pytest.mark.slow
def test_planted_everywhere(surrounded, tmp_path):
    """In no file, also during the run, none that others may read, and in no output: whole, in half or cut."""
    path = surrounded.write(planted_sweep(tmp_path))
    with planted.watched(surrounded.out) as found, planted.watched(surrounded.state) as state:
        ended = surrounded.run(
            "sweep", path, "--out", str(surrounded.out), "--set", planted.SET["override"], timeout=200
        )
    surrounded.check(ended)

    assert ended.row(GOOD)["failed"] > 41, ended.stderr
    assert found == set()
    assert not [text for text in state if "read by others" not in text]  # locks are for all users
    assert planted.planted_in((ended.stdout + ended.stderr).encode()) == []
    (log,) = surrounded.out.glob("servers/*/server.log")
    assert "INFO environment {" in log.read_text()  # they were there to be found
    assert "***" in ended.row(GOOD)["common_error"]
    assert "VLLM_EXTRA_SECRET=***" in log.read_text()
    for name in ("plan.json", "manifest.json"):
        assert json.loads((surrounded.out / name).read_text())


@pytest.mark.slow
def test_planted_at_a_running_server(surrounded, tmp_path):
    """A server of someone else that repeats all it is sent, a header with a key, and pages and exports of the run."""
    from simnodes import serving

    folder = tmp_path / "server"
    folder.mkdir()
    program = (sys.executable, str(LEAKY))
    with serving(folder, env=surrounded.env | {"VLLM_API_KEY": planted.key(46)}, program=program) as served:
        words = [
            "--base-url",
            served.url,
            "--model",
            MODEL,
            "--concurrency",
            "32",
            "--isl",
            "64",
            "--osl",
            "16",
        ]
        words += [
            "--duration",
            "2",
            "--header",
            "X-Api-Key: $MY_KEY",
            "--header",
            "Authorization: Bearer $MY_KEY",
        ]
        with planted.watched(surrounded.out) as found:
            ended = surrounded.run("sweep", *words, "--out", str(surrounded.out))
    report = surrounded.run("report", str(surrounded.out))
    history = surrounded.run("query", str(surrounded.out), "select error, count(*) from requests group by 1")

    assert RunFolder.open(surrounded.out).rows[0]["failed"] > 41, ended.stderr
    assert found == set()
    shared = [text for text in planted.leaks(surrounded.out) if f"{surrounded.out}/report/" in text]
    assert {text.partition(" may ")[2] for text in shared} == {"be read by others"}  # pages are for others
    for told in (ended, report, history):
        assert planted.planted_in((told.stdout + told.stderr).encode()) == []


@pytest.mark.slow
def test_a_log_is_filtered_when_bench_was_killed(surrounded, tmp_path):
    """The server writes on, and so does its filter, until both are ended."""
    process = surrounded.begin(
        "sweep",
        surrounded.write(planted_sweep(tmp_path)),
        "--out",
        str(surrounded.out),
        "--set",
        planted.SET["override"],
    )
    surrounded.server_pid()
    wait_until(
        lambda: any(
            "startup complete" in log.read_text() for log in surrounded.out.glob("servers/*/server.log")
        )
    )
    process.kill()
    process.communicate()
    (log,) = surrounded.out.glob("servers/*/server.log")
    size = log.stat().st_size
    (record,) = surrounded.servers()
    with suppress(HTTPError):
        urlopen(f"{record['base_url']}/v1/models")
    wait_until(lambda: log.stat().st_size > size)

    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert list(planted.leaks(surrounded.out)) == []
    psutil.Process(record["leader"]["pid"]).kill()
    wait_until(lambda: surrounded.left() == [])
