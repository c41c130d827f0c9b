"""The cause of a missing answer or a refusal, and its fix."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench import baseurl
from rocbench.address import proxy_of
from rocbench.errors import InputError
from rocbench.probe import causes
from rocbench.probe.fetch import NoConnection
from rocbench.units import one_line

URL = "http://node7:8000"


def cause_of(error: OSError, url: str = URL, *, connected: bool = False) -> causes.Cause:
    """The cause of an error before or after the connection was made."""
    if connected:
        return causes.of_error(error, url)
    fault = NoConnection(str(error))
    fault.__cause__ = error
    return causes.of_error(fault, url)


def unverified(code: int) -> ssl.SSLCertVerificationError:
    """Python's error for a certificate."""
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "what OpenSSL says"
    return error


def broken(reason: str) -> ssl.SSLError:
    """Python's error in a handshake."""
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "what", "fix", "lasting"),
    [
        (unverified(18), "is self-signed", "SSL_CERT_FILE", True),
        (unverified(20), "authority that this machine does not trust", "--insecure", True),
        (unverified(10), "has expired", "renew", True),
        (unverified(62), "for another host name", "host name in the certificate", True),
        (unverified(77), "what OpenSSL says", "--insecure", True),
        (broken("WRONG_VERSION_NUMBER"), "answers without TLS", "http://", True),
        (broken("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "requires a client certificate", "gateway", True),
        (broken("UNEXPECTED_EOF_WHILE_READING"), "closes the connection during", "plain HTTP", True),
        (broken("NO_PROTOCOLS_AVAILABLE"), "NO_PROTOCOLS_AVAILABLE", "TLS versions", True),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "does not resolve", "DNS", True),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "does not resolve", "DNS", False),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "refuses connections", "port", False),
        (TimeoutError("timed out"), "connecting to node7:8000 timed out", "firewalls", True),
        (
            TimeoutError("_ssl.c:983: The handshake operation timed out"),
            "does not complete the TLS handshake",
            "http://",
            True,
        ),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route", "network", True),
        (OSError("Tunnel connection failed: 407 Auth"), "requires credentials", "USER:PASSWORD", True),
        (OSError("Tunnel connection failed: 403 No"), "refuses a connection", "no_proxy=node7", True),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else None,
)
def test_faults_before_an_answer(error, what, fix, lasting):
    """Certificate, TLS, name, connection and proxy errors each have their own message and fix."""
    cause = cause_of(error, "https://node7:8000" if isinstance(error, ssl.SSLError) else URL)

    assert what in cause.what
    assert fix in cause.fix
    assert cause.lasting is lasting
    assert "check the URL" not in cause.fix


@pytest.mark.parametrize(
    ("status", "words", "fix"),
    [
        (400, "This model's maximum context length is 4096 tokens.", "lower --isl or --osl"),
        (400, "`temperature` must be strictly positive", "temperature"),
        (400, "Use 'max_output_tokens' instead.", "max_output_tokens"),
        (400, "something else", "--extra-body"),
        (401, "bad key", "--api-key-env"),
        (403, "no", "access"),
        (404, "The model does not support Completions API", "--api chat"),
        (404, "This is a chat model and not supported in the v1/completions endpoint.", "--api chat"),
        (404, "The model `x` does not exist.", "/v1/models"),
        (404, '{"detail":"Not Found"}', "without /v1"),
        (405, "Method Not Allowed", "without /v1"),
        (407, "", "USER:PASSWORD"),
        (413, "Entity too large", "--isl"),
        (426, "", "https://"),
        (400, "400 The plain HTTP request was sent to HTTPS port", "https://"),
        (429, "slow down", "limit"),
        (500, "boom", "log"),
        (502, "Bad gateway", "behind the gateway"),
        (503, "loading", "loaded its model"),
    ],
)
def test_statuses(status, words, fix):
    """Each status has its fix, and the message quotes the server's words."""
    cause = causes.of_status(status, words, URL, api="completions")

    assert fix in cause.fix
    assert words in cause.what or status in {407, 426} or "plain HTTP request" in words


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/real/v1/completions", "http://node7:8000/real"),
        ("https://api.example:8443/v1/chat/completions", "https://api.example:8443"),
        ("https://user:secret@other/v1/completions?token=secret", "https://other"),
        ("//other/x/v1/models", "http://other/x"),
        ("http://[::1]:9/v1/completions", "http://[::1]:9"),
        ("", None),
        ("http://[bad", None),
        ("/a\x1b[31m", None),
    ],
)
def test_where_a_redirect_leads(location, target):
    """The base URL to use instead, without the API's path and without secrets."""
    assert causes.base_of(location, URL) == target
    if target:
        assert f"--base-url {target}" in causes.of_status(307, "", URL, location=location).fix


@given(st.text(max_size=2000))
def test_words_are_safe_for_a_terminal(text):
    """Any text of a server becomes one line without control characters, of bounded length."""
    shown = one_line(text)

    assert len(shown) <= 500
    assert shown.isprintable()
    assert "\n" not in shown


@given(st.integers(300, 599), st.text(max_size=80), st.sampled_from(["", "completions", "chat"]))
def test_every_refusal_has_words_and_a_fix(status, words, api):
    """Every status and text has a message and a fix."""
    cause = causes.of_status(status, words, URL, api=api)

    assert cause.what
    assert cause.fix
    assert cause.what.isprintable()


@pytest.mark.parametrize(
    ("url", "proxied"),
    [
        ("http://node7:8000", True),
        ("https://node7", True),
        ("http://localhost:1", False),
        ("http://a.localhost:1", False),
        ("http://127.9.9.9:1", False),
        ("http://127.1:1", False),
        ("http://0.0.0.0:1", False),
        ("http://[::1]:1", False),
        ("http://[::ffff:127.0.0.1]:1", False),
        ("http://inside.corp:1", False),
        ("http://exact:8080", False),
        ("http://exact:8081", True),
    ],
)
def test_who_has_a_proxy(monkeypatch, url, proxied):
    """Loopback in all its forms and hosts in no_proxy are reached directly, all others through the proxy."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv(name, "http://us%40er:p%3Ass@proxy:3128")
    monkeypatch.setenv("no_proxy", "corp,exact:8080")
    found = proxy_of(baseurl.parse(url))

    assert (found is not None) is proxied
    if found is not None:
        assert (found.url, found.credentials) == ("http://proxy:3128", "us@er:p:ss")
        assert "p:ss" not in repr(found)


@pytest.mark.parametrize("value", ["socks5://p:1", "https://p:1", "http://", "http://p:x", "http://[::1"])
def test_proxies_that_cannot_be_used(monkeypatch, value):
    """The error names the variable, before anything is sent."""
    monkeypatch.setenv("http_proxy", value)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(InputError, match="http_proxy"):
        proxy_of(baseurl.parse(URL))
