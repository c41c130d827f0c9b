"""The way to a server: TLS, proxies, names; the same for the load and for every call beside it."""

from __future__ import annotations

import socket
import ssl
import time

import pytest

from certificates import certificate, server_context
from forward_proxy import forward_proxy
from loads import load_spec
from rocbench.errors import ServerFault
from rocbench.load import drive
from rocbench.load.spec import Target, WindowPlan
from rocbench.probe import causes
from rocbench.probe.fetch import exchange, fetch
from rocbench.records import NONE
from rocbench.server import attached
from rocbench.server.spec import ServerSpec
from scripted import answer, scripted


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """A certificate for localhost."""
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """No proxy but the test's own."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def told(url, **options):
    """What an attached server's start says, and how long it took."""
    began = time.monotonic()
    with pytest.raises(ServerFault) as caught:
        attached.reach(ServerSpec("attached", "m", base_url=url, folder=None, **options))
    return caught.value, time.monotonic() - began


@pytest.mark.parametrize(
    ("kind", "what", "fix"),
    [
        ("self-signed", "is self-signed", "SSL_CERT_FILE"),
        ("expired", "has expired", "renew"),
        ("another name", "is for another", "host name in the certificate"),
        ("unknown authority", "authority that this machine does not trust", "SSL_CERT_FILE"),
    ],
)
def test_certificates_are_told_as_such(tmp_path, monkeypatch, pem, kind, what, fix):
    """By the control calls and by the load's probe alike; --insecure takes them all."""
    made, url_of = pem, lambda url: url
    if kind == "expired":
        made = certificate(tmp_path / "old", days=-1)
        monkeypatch.setenv("SSL_CERT_FILE", str(made))
    if kind == "another name":
        made = certificate(tmp_path / "other", name="elsewhere.example", also="")
        monkeypatch.setenv("SSL_CERT_FILE", str(made))
        url_of = lambda url: url.replace("127.0.0.1", "localhost")  # noqa: E731
    if kind == "unknown authority":
        pytest.importorskip("ssl")
        made = signed(tmp_path)
    with scripted(answer, tls=server_context(made)) as url:
        fault, took = told(url_of(url))
        with pytest.raises(ServerFault) as probed:
            drive(load_spec(url_of(url), window=WindowPlan(max_requests=2)))
        result = drive(
            load_spec(
                url,
                target=Target(url, "reference", insecure=True),
                window=WindowPlan(max_requests=4),
                users=2,
            )
        )
    for error in (fault, probed.value):
        assert what in error.what
        assert fix in error.fix
        assert "--insecure" in error.fix
    assert took < 20  # on a busy machine; 0.1 s on an idle one
    assert (result.requests["failure"] == NONE).all()
    assert any("not checked" in note for note in result.notes)


def signed(folder):
    """A certificate of an authority that nobody knows, with its key."""
    from certificates import _openssl

    certificate(folder / "ca", name="ca.example")
    key, request, made = folder / "k.pem", folder / "r.pem", folder / "m.pem"
    _openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=localhost"
    )
    ca, ca_key = folder / "ca" / "made.pem", folder / "ca" / "key.pem"
    _openssl(
        "x509",
        "-req",
        "-in",
        request,
        "-CA",
        ca,
        "-CAkey",
        ca_key,
        "-CAcreateserial",
        "-days",
        2,
        "-out",
        made,
    )
    both = folder / "both.pem"
    both.write_text(key.read_text() + made.read_text())
    return both


def test_https_where_there_is_none_and_the_reverse(pem):
    """A port that speaks the other of the two is told as that."""
    with scripted(answer) as url:
        fault, _ = told(url.replace("http://", "https://"))
    assert "answers without TLS" in fault.what
    assert "http://" in fault.fix

    with scripted(answer, tls=server_context(pem)) as url:
        fault, _ = told(url.replace("https://", "http://"))
    assert "speaks TLS" in fault.what
    assert "https://" in fault.fix


def test_nobody_there(monkeypatch):
    """A port without a server, a name without an address: each in its own words, soon."""
    monkeypatch.setattr(attached, "REFUSED_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    fault, took = told(f"http://127.0.0.1:{port}")
    assert "refuses connections" in fault.what
    assert took < 5
    fault, _ = told("http://no-such-host.invalid:8000")
    assert "does not resolve" in fault.what


def test_something_else_on_the_port():
    """A service that speaks no HTTP is not called a server that is down."""
    from scripted import raw

    with raw(lambda sock, _: sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")) as url:
        with pytest.raises(OSError, match="HTTP") as caught:
            fetch(url, "/health")
        assert "does not answer in HTTP" in causes.of_error(caught.value, url).what


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_one_proxy_for_the_load_and_all_beside_it(monkeypatch, pem, scheme):
    """Control calls, the probe and the load go by the proxy of the environment, with its credentials."""
    tls = {"tls": server_context(pem)} if scheme == "https" else {}
    with scripted(answer, **tls) as url, forward_proxy(url.split("://")[1]) as (proxy, seen):
        port = url.rsplit(":", 1)[1]
        monkeypatch.setenv(f"{scheme}_proxy", proxy.replace("http://", "http://user:pass@"))
        far = f"{scheme}://bench.invalid:{port}"
        request = exchange(far, "/v1/completions", method="POST", body={"max_tokens": 1}, insecure=True)
        with request as response:
            assert response.status == 200
        spec = load_spec(
            far, target=Target(far, "reference", insecure=True), window=WindowPlan(max_requests=6), users=2
        )
        result = drive(spec)
        by_proxy = list(seen.lines)
        near = drive(
            load_spec(url, target=Target(url, "reference", insecure=True), window=WindowPlan(max_requests=3))
        )

    assert (result.requests["failure"] == NONE).all(), result.errors
    assert (near.requests["failure"] == NONE).all()
    assert result.transport == "aiohttp"
    assert len(by_proxy) >= 3
    assert all("bench.invalid" in line for line in by_proxy)
    assert set(seen.credentials) == {"Basic dXNlcjpwYXNz"}
    assert seen.lines == by_proxy  # a loopback address never has a proxy


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_credentials(monkeypatch, scheme):
    """It is the proxy that is named, and what to do about it; its password is not."""
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with forward_proxy("127.0.0.1:9", refusal) as (proxy, _):
        monkeypatch.setenv(f"{scheme}_proxy", proxy.replace("http://", "http://me:hidden@"))
        fault, _ = told(f"{scheme}://bench.invalid:8000")

    assert f"the proxy {proxy} requires credentials" in fault.what
    assert "no_proxy" in fault.fix
    assert "hidden" not in fault.text()


def test_redirects_are_not_followed_by_the_load():
    """A load that follows redirects measures two ways: both transports refuse alike (see test_refusals)."""
    hops = []

    def handler(exchange):
        hops.append(exchange.path)
        if len(hops) == 1:
            answer(exchange)
            return
        exchange.respond(307, b"", headers=(("Location", "/elsewhere"),))

    with scripted(handler) as url:
        result = drive(load_spec(url, transport="aiohttp", users=1, window=WindowPlan(max_requests=2)))
    assert set(hops) == {"/v1/completions"}
    assert (result.requests["http_status"] == 307).sum() == 2


def test_tls_context_is_strict_by_default():
    """Only --insecure opens it."""
    from rocbench.address import tls_context

    assert tls_context().verify_mode is ssl.CERT_REQUIRED
    assert tls_context(insecure=True).verify_mode is ssl.CERT_NONE
