"""Servers that differ: how they close, frame, refuse, count and die."""

from __future__ import annotations

import base64
import io
import json
import shutil
import signal
import ssl
import subprocess
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from loads import load_spec
from referenceserver import serving
from rocbench.errors import EnvironmentFault, InputError, ServerFault
from rocbench.load import drive
from rocbench.load.spec import Images, Lengths, RequestPlan, Target, WindowPlan
from rocbench.records import FAILURES, NONE, Doubt, Phase
from rocbench.tables import metrics
from scripted import answer, asked, raw, read_request, scripted, token, whole

BOTH = pytest.mark.parametrize("transport", ["wire", "aiohttp"])
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def counted(url, requests=12, users=3, **changes):
    """Drive a load of so many requests."""
    return drive(load_spec(url, users=users, window=WindowPlan(max_requests=requests), **changes))


def of_load(result):
    """Rows without the probes'."""
    return result.requests[result.requests["request_id"] < 2**40]


def assert_good(result, requests=12):
    """Every request has one row, completed, with all its tokens."""
    rows = of_load(result)
    assert sorted(rows["request_id"]) == list(range(requests)), result.errors
    assert (rows["failure"] == NONE).all(), result.errors
    assert (rows["output_tokens"] == 10).all()


@BOTH
def test_connection_close_after_each_answer(transport):
    """Answers that say `Connection: close` each cost a connection, and nothing else."""

    def handler(sock, _):
        request = read_request(sock)
        body = whole(request["max_tokens"])
        sock.sendall(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with raw(handler) as url:
        result = counted(url, transport=transport)
    assert_good(result)
    assert sum(worker.connections_opened for worker in result.workers) >= 9


@BOTH
def test_bodies_that_end_with_the_connection(transport):
    """A body without a length ends with [DONE] or with the server's closing."""

    def handler(sock, _):
        request = read_request(sock)
        if request:
            sock.sendall(HEAD + b"\r\n" + whole(request["max_tokens"]))

    with raw(handler) as url:
        assert_good(counted(url, transport=transport))


def test_done_ends_a_body_without_an_end():
    """A server that says [DONE] and neither closes nor counts does not hold up its user."""
    release = threading.Event()

    def handler(sock, _):
        request = read_request(sock)
        if request:
            sock.sendall(HEAD + b"\r\n" + whole(request["max_tokens"]))
            release.wait(30)

    with raw(handler) as url:
        try:
            spec = load_spec(
                url, users=3, window=WindowPlan(max_requests=9), request_timeout_s=20, probe=False
            )
            result = drive(spec)
        finally:
            release.set()
    assert_good(result, 9)


def one_event(count, finish="length"):
    """A whole answer in one event."""
    body = {"choices": [{"text": " tok" * count, "finish_reason": finish}]}
    return json.dumps(body | {"usage": {"prompt_tokens": 5, "completion_tokens": count}}).encode()


@BOTH
@pytest.mark.parametrize(
    ("kind", "framed"),
    [
        ("application/json", b"%b"),
        ("text/event-stream", b"%b"),
        ("text/event-stream", b"data: %b\n\ndata: [DONE]\n\n"),
    ],
)
def test_a_server_that_does_not_stream_is_refused(transport, kind, framed):
    """One JSON value, whatever its head says, or one event for the whole answer: there is no TTFT to measure."""
    with (
        scripted(
            lambda exchange: exchange.respond(200, framed.replace(b"%b", one_event(asked(exchange))), kind)
        ) as url,
        pytest.raises(ServerFault, match="does not stream"),
    ):
        counted(url, transport=transport)


@BOTH
def test_an_answer_in_one_piece_is_told_in_its_row(transport):
    """Where the probe was streamed to and the load is not, or nobody probed, the rows say so."""
    with scripted(lambda exchange: exchange.respond(200, one_event(asked(exchange)))) as url:
        result = counted(url, transport=transport, probe=False)
    assert_good(result)
    assert (of_load(result)["chunks"] == 1).all()
    assert (of_load(result)["doubts"] == Doubt.ONE_PIECE).all()
    row = metrics.summarise(result, gpus=None)
    assert row["one_piece_share"] == 1


@BOTH
def test_few_tokens_in_one_event_are_speculation(transport):
    """A probe whose four tokens come at once is asked again for more, and then streams."""

    def handler(exchange):
        count = asked(exchange)
        exchange.begin_stream()
        for at in range(0, count, 5):
            done = min(at + 5, count)
            exchange.write(token(done - 1, " tok" * (done - at), "length" if done == count else None))
        exchange.write(b"data: [DONE]\n\n")
        exchange.end()

    with scripted(handler) as url:
        result = counted(url, transport=transport)
    assert_good(result)
    assert not (of_load(result)["doubts"] & Doubt.USAGE).any()


@BOTH
def test_bytes_in_any_pieces(transport):
    """Events cut at odd places, a ping between them and CRLF lines give the same rows."""

    def handler(sock, _):
        while (request := read_request(sock)) is not None:
            body = whole(request["max_tokens"]).replace(b"\n", b"\r\n")
            body = b": ping\r\n\r\n" + body
            chunks = b"".join(
                b"%x;x=1\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:333], body[333:])
            )
            wire = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nTrailer: 1\r\n\r\n"
            for at in range(0, len(wire), 211):
                sock.sendall(wire[at : at + 211])

    with raw(handler) as url:
        assert_good(counted(url, transport=transport))


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (("--refuse-field", "continuous_usage_stats"), "refused stream_options.continuous_usage_stats"),
        (("--refuse-field", "min_tokens"), "refused ignore_eos"),
        (("--no-continuous-usage",), "counts the token ids"),
        (("--no-continuous-usage", "--no-token-ids"), "spread evenly"),
        (("--no-continuous-usage", "--refuse-field", "return_token_ids"), "spread evenly"),
    ],
)
def test_servers_that_know_less_still_count(arguments, note):
    """What a server refuses is left out, said in the notes, and the tokens still add up."""
    with serving(("--step-ms", "3", "--chunk-tokens", "1-3", *arguments)) as (url, _):
        result = counted(url)
    assert any(note in text for text in result.notes), result.notes
    assert_good(result)
    assert result.output_tokens_in_window == 120
    assert result.itl.total > 0


def test_a_server_that_tells_no_counts():
    """Without usage and token ids the counts are absent, not guessed from chunks."""
    options = ("--step-ms", "3", "--no-continuous-usage", "--no-usage", "--no-token-ids")
    with serving(options) as (url, _):
        result = counted(url)
    rows = of_load(result)
    assert (rows["failure"] == NONE).all()
    assert (rows["output_tokens"] == NONE).all()
    assert result.output_tokens_in_window == 0
    assert result.itl.total == 0
    assert result.icl.total == 12 * 9
    assert any("reports no token counts" in note for note in result.notes)


def test_a_plain_openai_server():
    """A server that refuses every field it does not know is loaded all the same."""
    fields = ("continuous_usage_stats", "stream_options", "ignore_eos", "min_tokens", "return_token_ids")
    options = [part for name in fields for part in ("--refuse-field", name)]
    with serving(("--step-ms", "3", *options)) as (url, _):
        result = counted(url)
    assert len(of_load(result)) == 12
    assert (of_load(result)["failure"] == NONE).all()


@pytest.mark.parametrize("status", [401, 404])
def test_a_request_that_can_never_work_is_an_error(status):
    """A wrong key or model is said once, before the load, with the server's own words."""
    with (
        scripted(
            lambda exchange: exchange.respond_json(status, {"error": {"message": "no such thing"}})
        ) as url,
        pytest.raises(ServerFault, match="no such thing"),
    ):
        counted(url)


def test_the_key_is_sent_and_hidden():
    """The key stands in the header and in no text made of the spec."""
    seen = []

    def handler(exchange):
        seen.append(exchange.headers["authorization"])
        answer(exchange)

    with scripted(handler) as url:
        spec = load_spec(
            url, target=Target(url, "reference", api_key="s3cret"), window=WindowPlan(max_requests=2)
        )
        drive(spec)
    assert set(seen) == {"Bearer s3cret"}
    assert "s3cret" not in repr(spec)


@BOTH
def test_ipv6_and_names(transport):
    """A literal IPv6 address works, and a name is tried at all its addresses."""
    with scripted(answer, host="::1") as url:
        assert_good(counted(url, transport=transport))
    with scripted(answer) as url:
        assert_good(counted(url.replace("127.0.0.1", "localhost"), transport=transport))


def test_https_goes_by_aiohttp(tmp_path, monkeypatch):
    """An https target takes the aiohttp transport and says so; the wire refuses it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "k.pem", tmp_path / "c.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate),
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with scripted(answer, tls=context) as url:
        result = counted(url)
        with pytest.raises(InputError, match="plain HTTP"):
            counted(url, transport="wire")
    assert result.transport == "aiohttp"
    assert_good(result)


@BOTH
def test_no_proxy_captures_a_loopback_address(transport, monkeypatch):
    """HTTP_PROXY without NO_PROXY leaves a local server alone."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with scripted(answer) as url:
        assert_good(counted(url, transport=transport))


@BOTH
def test_images_are_real_and_unique_and_their_tokens_are_told(transport):
    """Large bodies are sent whole; each image is a real file of the size asked, none comes twice."""
    pictures, texts = [], []

    def handler(exchange):
        body = exchange.json()
        content = body["messages"][0]["content"]
        parts = [content] if isinstance(content, str) else content
        tokens = 3  # the template's own
        for part in parts:
            if isinstance(part, str):
                tokens += len(part.split())
            elif part["type"] == "text":
                tokens += len(part["text"].split())
                texts.append(part["text"])
            else:
                kind, data = part["image_url"]["url"].split(";base64,")
                assert kind == "data:image/png"
                pictures.append(base64.b64decode(data))
                tokens += 100
        exchange.begin_stream()
        count = asked(exchange)
        for i in range(count):
            delta = {
                "choices": [
                    {"delta": {"content": "x"}, "finish_reason": "length" if i == count - 1 else None}
                ]
            }
            usage = {"prompt_tokens": tokens, "completion_tokens": i + 1}
            exchange.write(f"data: {json.dumps(delta | {'usage': usage})}\n\n".encode())
        exchange.write(b"data: [DONE]\n\n")
        exchange.end()

    plan = RequestPlan(Lengths(20), Lengths(10), images=Images(2, 900, 500, "png"))
    with scripted(handler) as url:
        result = (
            counted(url, requests=8, transport=transport, requests_plan=None)
            if False
            else drive(
                load_spec(url, users=3, requests=plan, transport=transport, window=WindowPlan(max_requests=8))
            )
        )
    assert_good(result, 8)
    rows = of_load(result)
    assert len(pictures) == len(set(pictures)) == 16
    assert all(Image.open(io.BytesIO(picture)).size == (900, 500) for picture in pictures)
    assert len({" ".join(text.split()[:16]) for text in texts}) == 8
    assert (rows["images"] == 2).all()
    assert (rows["image_tokens"] == 200).all()
    assert (rows["isl_asked"] == 20).all()
    assert result.image_tokens_in_window == 8 * 200
    assert result.input_tokens_in_window == 8 * 20


@pytest.mark.parametrize("transport", ["wire", pytest.param("aiohttp", marks=pytest.mark.slow)])
def test_a_server_that_dies_ends_the_load(transport):
    """When nobody answers any more the load ends by itself and tells why; what came before is kept."""
    with serving(("--step-ms", "4")) as (url, process):
        killed = []

        def on_progress(progress):
            if progress.phase == "measure" and progress.completed > 20 and not killed:
                killed.append(True)
                process.send_signal(signal.SIGKILL)

        window = WindowPlan(duration_s=60, max_duration_s=60)
        result = drive(load_spec(url, users=4, window=window, transport=transport), on_progress)
    assert result.window.ended_by == "server_unresponsive"
    assert result.window.seconds < 40
    classes = {FAILURES[code].value for code in result.requests["failure"] if code != NONE}
    assert "connect" in classes
    assert classes <= {"connect", "reset", "truncated"}
    assert (result.requests["failure"] == NONE).sum() > 20


def test_a_worker_that_dies_is_an_error_and_nothing_stays():
    """A load worker that is killed is reported as such; the others are ended."""
    import psutil

    with serving(("--step-ms", "4")) as (url, _):

        def on_progress(progress):
            if progress.phase == "measure":
                for child in psutil.Process().children():
                    if "rocbench.load.worker" in " ".join(child.cmdline()):
                        child.kill()
                        return

        window = WindowPlan(duration_s=60, max_duration_s=60)
        with pytest.raises(EnvironmentFault, match="load worker"):
            drive(load_spec(url, users=4, window=window, workers=2), on_progress)


def test_a_capped_server_queues_and_the_rows_show_it():
    """Behind a server that runs few at once, the asked users are all in flight and TTFT holds their queue."""
    with serving(("--step-ms", "4", "--max-running", "4")) as (url, _):
        result = drive(load_spec(url, users=16))
    rows = result.requests[(result.requests["phase"] == Phase.MEASURED)]
    assert (rows["failure"] == NONE).all()
    ttft = (rows["first_token_ns"] - rows["sent_ns"]) / 1e6
    assert np.median(ttft) > 4 * 4 * 10 / 4


def test_shared_prefixes_only_when_asked():
    """Prompts share no first token unless a ratio is asked for, and then exactly that share."""
    prompts = []

    def handler(exchange):
        prompts.append(exchange.json()["prompt"])
        answer(exchange)

    with scripted(handler) as url:
        counted(url, requests=50, isl=64)
        first = {prompt[0] for prompt in prompts if len(prompt) == 64}
        assert len(first) == 50
        prompts.clear()
        plan = replace(load_spec(url).requests, isl=Lengths(64), shared_prefix_ratio=0.5)
        drive(load_spec(url, requests=plan, window=WindowPlan(max_requests=20)))
    own = [prompt for prompt in prompts if len(prompt) == 64]
    assert len({tuple(prompt[:32]) for prompt in own}) == 1
    assert len({prompt[32] for prompt in own}) == len(own) == 20


def test_text_that_looks_like_an_end():
    """Token text of any kind, also such as looks like the end of a body, is only text."""

    def handler(exchange):
        count = asked(exchange)
        exchange.begin_stream()
        for i in range(count):
            exchange.write(
                token(i, text="0\r\n\r\ndata: [DONE]\n\n", finish="length" if i == count - 1 else None)
            )
        exchange.write(b": 0\r\n\r\n")
        exchange.write(b"data: [DONE]\n\n")
        exchange.end()

    with scripted(handler) as url:
        assert_good(counted(url))
