"""`bench sweep --base-url` against servers that refuse, fail every request, want headers, or are not there."""

from __future__ import annotations

import json
import socket
import threading

import psutil
import pytest

from certificates import certificate, server_context
from scripted import answer, scripted
from sweeps import Bench

TOKEN = "planted-header-token-0123456789"
MODELS = {"object": "list", "data": [{"id": "m", "max_model_len": 64}]}


@pytest.fixture
def bench(tmp_path):
    """`bench` with a secret in its environment."""
    made = Bench(tmp_path, env={"GATE_TOKEN": TOKEN, "SSL_CERT_FILE": ""})
    made.env.pop("SSL_CERT_FILE")
    yield made
    made.kill_left()


def server(complete, models=MODELS):
    """A server with /health and /v1/models whose completions `complete` answers."""

    def handler(exchange):
        if exchange.path == "/health":
            exchange.respond(200)
        elif exchange.path == "/v1/models":
            exchange.respond_json(200, models)
        elif exchange.method == "POST":
            complete(exchange)
        else:
            exchange.respond(404)

    return handler


def words(url, bench, *more):
    """A short ad-hoc sweep."""
    return (
        "sweep", "--base-url", url, "--model", "m", "--concurrency", "1,2", "--isl", "16", "--osl", "8",
        "--duration", "0.3", "--out", str(bench.out), *more,
    )  # fmt: skip


def refuse(status, text):
    """Answer every completion so."""
    return lambda exchange: exchange.respond_json(status, {"error": {"message": text}})


def test_a_server_that_refuses_is_told_once_and_never_dead(bench):
    """Two cells, one message with the server's words and the fix; each row says it; nothing says that it died."""
    with scripted(server(refuse(404, "The model does not support Completions API"))) as url:
        ended = bench.run(*words(url, bench))

    assert ended.code == 4
    assert ended.stderr.count("The model does not support Completions API") == 1
    assert "use --api chat" in ended.stderr
    assert "died" not in ended.stdout + ended.stderr
    assert set(ended.rows["reasons"]) == {"request_refused"}
    assert all("Completions API" in text for text in ended.rows["failure_message"])


def test_what_the_load_generator_has_to_say_is_on_screen_in_the_row_in_the_log_and_in_the_report(bench):
    """A gateway that refuses ignore_eos is measured without it, and nobody has to guess that."""

    def complete(exchange):
        if "ignore_eos" in exchange.json():
            refuse(400, "Unrecognized request argument supplied: ignore_eos")(exchange)
        else:
            answer(exchange)

    note = "the server refused ignore_eos and min_tokens"
    with scripted(server(complete)) as url:
        ended = bench.run(*words(url, bench))
    made = bench.run("report", str(bench.out))

    assert all(note in json.loads(said)[0] for said in ended.rows["load_notes"])
    assert ended.stderr.count(note) == 1
    assert f"load: {note}" in ended.stdout
    assert note in (bench.out / "log.jsonl").read_text()
    assert made.code == 0, made.stderr
    assert note in next(bench.out.rglob("report.md")).read_text()


@pytest.mark.slow
def test_words_of_a_server_that_fails_every_request(bench):
    """A server that takes the probe and no request: its words are on the screen, in the row and in the report."""
    said = "engine \x1b[31mfell over at step 123"

    def complete(exchange):
        if exchange.json()["max_tokens"] <= 4:
            answer(exchange)
        else:
            refuse(400, said)(exchange)

    with scripted(server(complete)) as url:
        ended = bench.run(*words(url, bench))
    made = bench.run("report", str(bench.out))

    assert ended.code == 1
    row = ended.rows.iloc[0]
    assert row["common_error"] == "400: engine [31mfell over at step 123"
    assert row["common_error_count"] > 0
    assert "fell over at step 123" in ended.stderr
    assert "fell over at step 123" in ended.stdout
    assert "\x1b[31mfell" not in ended.stdout + ended.stderr
    assert made.code == 0, made.stderr
    assert "fell over at step 123" in next(bench.out.rglob("report.md")).read_text()
    assert "Traceback" not in ended.stderr + made.stderr


def test_cells_longer_than_the_server_takes(bench):
    """/v1/models tells max_model_len: nothing is sent, and the row says why."""
    asked = []
    with scripted(server(lambda exchange: (asked.append(1), answer(exchange)))) as url:
        ended = bench.run(*words(url, bench, "--osl", "49"))

    assert asked == []
    assert set(ended.rows["reasons"]) == {"request_refused"}
    assert "ISL + OSL = 16 + 49 tokens exceed the server's max_model_len of 64" in ended.stderr


def test_a_server_that_is_not_there(bench):
    """One message, no table, no run folder."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    ended = bench.run(*words(f"http://127.0.0.1:{port}", bench))

    assert ended.code == 4
    assert ended.stdout == ""
    assert "refuses connections" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 2
    assert not bench.out.exists()


@pytest.mark.slow
def test_headers_body_and_certificate(bench, tmp_path):
    """A secret by its variable's name reaches the server on every way, and no file, screen or argv; --resume keeps it."""
    heads, bodies, lines = [], [], []

    def complete(exchange):
        bodies.append(exchange.json())
        if bodies[-1]["max_tokens"] > 4 and len(bodies) % 3 == 0:
            refuse(500, f"no: {exchange.headers.get('x-gate')}")(exchange)
        else:
            answer(exchange)

    def handler(exchange):
        heads.append(exchange.headers.get("x-gate"))
        server(complete)(exchange)

    def watch(process):
        while process.poll() is None:
            try:
                lines.extend(
                    " ".join(p.cmdline()) for p in psutil.Process(process.pid).children(recursive=True)
                )
            except psutil.Error:
                return

    more = ("--header", "X-Gate: Gate $GATE_TOKEN", "--insecure", "--extra-body", '{"top_p": 0.5}')
    with scripted(handler, tls=server_context(certificate(tmp_path / "tls"))) as url:
        process = bench.begin(*words(url, bench, *more))
        thread = threading.Thread(target=watch, args=(process,))
        thread.start()
        ended = bench.end(process)
        thread.join()
        again = bench.run("sweep", "--resume", str(bench.out))
        bench.env.pop("GATE_TOKEN")
        lacking = bench.run("sweep", "--resume", str(bench.out))

    assert ended.code == 1, ended.stderr
    assert set(heads) == {f"Gate {TOKEN}"}
    assert all(body["top_p"] == 0.5 for body in bodies)
    assert again.code == 1, again.stderr
    assert "GATE_TOKEN is not set" in lacking.stderr
    assert lines
    texts = {str(path): path.read_bytes() for path in bench.folder.rglob("*") if path.is_file()}
    texts |= {"screen": "".join(e.stdout + e.stderr for e in (ended, again, lacking)).encode()}
    texts |= {"argv": "\n".join(lines).encode()}
    import pyarrow.parquet as pq

    texts |= {
        f"{path} read": str(pq.read_table(path).to_pylist()).encode()
        for path in bench.folder.rglob("*.parquet")
    }
    assert [name for name, text in texts.items() if TOKEN.encode() in text] == []
    plan = json.loads((bench.out / "plan.json").read_text())
    assert plan["sweep"]["server"]["headers"] == {"X-Gate": "Gate $GATE_TOKEN"}
    assert json.loads(ended.rows.iloc[0]["workload_spec"])["extra_body"] == {"top_p": 0.5}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--header", f"Authorization: Bearer {TOKEN}"), "single quotes"),
        (("--extra-body", '{"stream": false}'), "'stream'"),
    ],
)
def test_options_that_are_refused(bench, more, said):
    """One message, exit code 2, no traceback, and the value of a secret is not repeated."""
    ended = bench.run(*words("http://127.0.0.1:9", bench, *more))

    assert ended.code == 2
    assert said in ended.stderr
    assert TOKEN not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert not bench.out.exists()
