"""Causes of network errors: why a server does not answer or refuses a request, with the remedy."""

from __future__ import annotations

import errno
import http.client
import re
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from rocbench import baseurl
from rocbench.address import proxy_of, tls_context
from rocbench.baseurl import Endpoint
from rocbench.errors import InputError
from rocbench.probe.fetch import NoConnection, TooLarge
from rocbench.units import one_line

_HANDSHAKE_S = 2.0
_NO_PROXY = ", or name the server in no_proxy"
_INSECURE = "or --insecure (`insecure: true`) to measure without checking the certificate"
_UNKNOWN_CA = (
    "is issued by a certificate authority that this machine does not trust",
    "export SSL_CERT_FILE=CA.pem",
)
_CERTIFICATES = {
    # OpenSSL's X509_V_ERR_* (x509_vfy.h): the fault, and the remedy
    9: ("is not valid yet", "check the clocks of both machines"),
    10: ("has expired", "renew the certificate"),
    18: ("is self-signed", "export SSL_CERT_FILE=THE-CERTIFICATE.pem"),
    19: _UNKNOWN_CA,
    20: _UNKNOWN_CA,
    21: (
        "is sent without its intermediate certificates",
        "serve the whole certificate chain, or export SSL_CERT_FILE=CA.pem",
    ),
    23: ("was revoked", "renew the certificate"),
    62: ("is for another host name", "use the host name in the certificate"),
    64: ("is for another address", "use the host name in the certificate"),
}
_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
_NEEDS_CLIENT_CERTIFICATE = {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE"}


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause and its remedy."""

    what: str
    fix: str
    lasting: bool = True
    """True if waiting would not help."""


def of_error(error: BaseException, base_url: str) -> Cause:
    """The cause of a missing answer. May try a TLS handshake, to recognise a TLS port asked in plain HTTP."""
    where = baseurl.parse(base_url)
    reason = error.__cause__ if isinstance(error, NoConnection) and error.__cause__ else error
    proxy = proxy_of(where)
    at = f"the proxy {proxy.url}" if proxy else where.authority
    if isinstance(reason, ssl.SSLCertVerificationError):
        return _of_certificate(reason, where)
    if isinstance(reason, ssl.SSLError):
        return _of_tls(reason, where)
    if isinstance(reason, socket.gaierror):
        return _of_name(reason, proxy.host if proxy else where.host)
    if "Tunnel connection failed" in str(reason):
        return _of_tunnel(str(reason), at, where)
    if isinstance(error, NoConnection):
        return _of_connection(reason, at, proxied=proxy is not None)
    if isinstance(reason, TooLarge):
        return Cause(
            f"{at} does not answer like a model server: {reason}",
            "check the URL: another service may use the port, or a gateway may be in front of the server",
        )
    if isinstance(reason, TimeoutError):
        return Cause(
            f"{at} accepts connections, but does not complete an answer in time",
            "check whether the server is overloaded, or is still loading its model",
            lasting=False,
        )
    if where.scheme == "http" and proxy is None and _speaks_tls(where):
        return _plain_http_to_tls(where)
    if isinstance(reason, ConnectionError | http.client.RemoteDisconnected):
        return Cause(f"{at} closes the connection without an answer", "read the server's log", lasting=False)
    return Cause(
        f"{at} does not answer in HTTP: {one_line(str(reason))}",
        "check the port: another service may use it",
    )


def _plain_http_to_tls(where: Endpoint) -> Cause:
    return Cause(f"{where.authority} speaks TLS, but the URL is plain HTTP", "give the URL with https://")


def _of_certificate(reason: ssl.SSLCertVerificationError, where: Endpoint) -> Cause:
    unlisted = f"cannot be verified ({one_line(reason.verify_message)})", "export SSL_CERT_FILE=CA.pem"
    fault, fix = _CERTIFICATES.get(reason.verify_code, unlisted)
    return Cause(f"the TLS certificate of {where.authority} {fault}", f"{fix}, {_INSECURE}")


def _of_tls(reason: ssl.SSLError, where: Endpoint) -> Cause:
    code = str(reason.reason or "")
    if code in _NO_TLS:
        return Cause(
            f"{where.authority} answers without TLS",
            "give the URL with http://, or use the TLS port of the server",
        )
    if code in _NEEDS_CLIENT_CERTIFICATE:
        return Cause(
            f"{where.authority} requires a client certificate, which bench does not support",
            "give the URL of the server itself, without the gateway that requires the certificate",
        )
    if "UNEXPECTED_EOF" in code:
        return Cause(
            f"{where.authority} closes the connection during the TLS handshake",
            "check the port: it may speak plain HTTP (http://)",
        )
    return Cause(
        f"TLS with {where.authority} fails: {one_line(code or str(reason))}",
        "check which TLS versions the server supports, and the host name in the URL",
    )


def _of_name(reason: socket.gaierror, host: str) -> Cause:
    return Cause(
        f"the host name {host!r} does not resolve ({one_line(reason.strerror or str(reason))})",
        "check its spelling, /etc/hosts and the DNS server of this machine",
        lasting=reason.errno != socket.EAI_AGAIN,
    )


def _of_tunnel(message: str, at: str, where: Endpoint) -> Cause:
    """The cause for a proxy that refuses the connection: `Tunnel connection failed: 407 ...`."""
    if "failed: 407" in message:
        return _no_credentials(at)
    return Cause(
        f"{at} refuses a connection to {where.authority}: {one_line(message)}",
        f"allow this connection in the proxy, or bypass the proxy: export no_proxy={where.host}",
    )


def _no_credentials(at: str) -> Cause:
    return Cause(
        f"{at} requires credentials",
        f"export https_proxy (or http_proxy) as http://USER:PASSWORD@HOST:PORT{_NO_PROXY}",
    )


def _of_connection(reason: BaseException, at: str, *, proxied: bool) -> Cause:
    bypass = _NO_PROXY if proxied else ""
    if isinstance(reason, ConnectionRefusedError):
        return Cause(
            f"{at} refuses connections", f"check the port, and that the server is up{bypass}", lasting=False
        )
    if isinstance(reason, TimeoutError) and "handshake" in str(reason):
        return Cause(
            f"{at} accepts connections, but does not complete the TLS handshake in time",
            "give the URL with http:// if the server speaks plain HTTP; otherwise check whether the server is overloaded",
        )
    if isinstance(reason, TimeoutError):
        return Cause(
            f"connecting to {at} timed out",
            f"check the host, and the firewalls between this machine and the host{bypass}",
        )
    number = getattr(reason, "errno", None)
    if number in {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}:
        return Cause(f"there is no route to {at}", f"check the host, and this machine's network{bypass}")
    if number in {errno.EMFILE, errno.ENFILE}:
        return Cause(
            f"too many open files for a connection to {at}", "raise the limit of open files (ulimit -n)"
        )
    return Cause(
        f"cannot connect to {at}: {one_line(str(reason) or type(reason).__name__)}",
        f"check the URL, and that the server is up{bypass}",
        lasting=False,
    )


def _speaks_tls(where: Endpoint) -> bool:
    """True if the server's port answers a TLS handshake."""
    try:
        with (
            socket.create_connection((where.host, where.port), _HANDSHAKE_S) as sock,
            tls_context(insecure=True).wrap_socket(sock, server_hostname=where.host),
        ):
            return True
    except ssl.SSLError as error:  # an alert is TLS too; other bytes are not
        return "ALERT" in str(error.reason or "")
    except OSError:
        return False


# --- answers with a status

_NOT_READY = (
    "the server is not ready, or a gateway cannot reach it",
    "wait until the server has loaded its model, and check the servers behind the gateway",
)
_STATUSES = {
    401: (
        "the server requires a valid API key",
        "name the environment variable that holds the key: --api-key-env NAME, or --header 'NAME: $VARIABLE'",
    ),
    403: (
        "the server, or a gateway in front of it, refuses this key or this client",
        "ask the operator of the server or gateway for access; pass a key with --api-key-env or --header",
    ),
    413: (
        "the request is too large for the server, or for a gateway in front of it",
        "lower --isl or the size of the images, or raise the gateway's limit on the size of a request body",
    ),
    429: (
        "the server, or a gateway in front of it, limits the request rate",
        "raise that rate limit for this client, or lower --concurrency or --rate",
    ),
    **dict.fromkeys((502, 503, 504), _NOT_READY),
}
"""HTTP status to the cause and the remedy."""


def of_status(status: int, words: str, base_url: str, *, location: str = "", api: str = "") -> Cause:
    """The cause of a server's refusal.

    Args:
        status: HTTP status of the answer.
        words: message of the answer.
        base_url: base URL of the request.
        location: `Location` header of a redirect.
        api: `completions` or `chat` if the request was for a completion.
    """
    where, answer = baseurl.parse(base_url), _status_and_text(status, words)
    if 300 <= status < 400:
        return _redirect(status, location, base_url)
    if "plain HTTP request was sent to HTTPS port" in words or status == 426:
        return _plain_http_to_tls(where)
    if status == 407:
        proxy = proxy_of(where)
        return _no_credentials(f"the proxy {proxy.url}" if proxy else where.authority)
    if status in {404, 405, 501}:
        return _not_found(answer, words, base_url, api)
    if status >= 500 or status in _STATUSES:
        what, fix = _STATUSES.get(status, ("the server reports an error", "read the server's log"))
        return Cause(f"{what}: {answer}", fix, lasting=status in {401, 403, 413})
    return Cause(f"the server refuses the request: {answer}", _advice(words, api))


def _status_and_text(status: int, words: str) -> str:
    """`400: text`, or the status alone if there is no text."""
    text = one_line(words.removeprefix(f"{status}:"))
    return f"{status}: {text}" if text else f"HTTP {status} {http.client.responses.get(status, '')}".strip()


def _redirect(status: int, location: str, base_url: str) -> Cause:
    """The cause for a redirect. Redirects are not followed: each request of the load would be sent twice."""
    target = base_of(location, base_url)
    if target is None:
        return Cause(
            f"the server redirects (HTTP {status}) without a target URL",
            "give the URL that the server redirects to",
        )
    return Cause(
        f"the server redirects (HTTP {status}) to {target}",
        f"give this URL: --base-url {target} (`base_url`)",
    )


def base_of(location: str, base_url: str) -> str | None:
    """The base URL that a redirect's Location leads to: without the API's path, user, password and query. Pure."""
    if not location or one_line(location) != location:
        return None
    try:
        target = urlsplit(urljoin(base_url, location))
        path = re.sub(
            r"/(?:v1(?:/(?:chat/completions|completions|models))?|health|metrics|version)/?$", "", target.path
        )
        url = f"{target.scheme}://{target.netloc.rpartition('@')[2]}{path.rstrip('/')}"
        baseurl.parse(url)
    except (ValueError, InputError):
        return None
    return url


_MODEL = re.compile(
    r"\bmodel\b.*\b(?:not exist|not found|unknown|no such|not available)|no such model", re.IGNORECASE
)
_NO_COMPLETIONS = re.compile(
    r"(?:not|n't|only).*\b(?:text )?completions?\b(?: api)?|chat model|only.*\bchat\b|use.*chat/completions"
    r"|/v1/completions",
    re.IGNORECASE,
)
_NO_CHAT = re.compile(r"chat template|(?:not|n't).*\bchat\b|not a chat model", re.IGNORECASE)


def _not_found(answer: str, words: str, base_url: str, api: str) -> Cause:
    if other := _other_api(words, api):
        return Cause(f"the server does not serve {api}: {answer}", other)
    if _MODEL.search(words):
        return Cause(f"the server does not know the model: {answer}", _NAME_A_MODEL)
    fix = (
        f"check the URL (without /v1 or anything after it), and name a model that {base_url}/v1/models lists"
    )
    other = {"completions": "; or --api chat", "chat": "; or --api completions"}.get(api, "")
    return Cause(f"the server has no such endpoint or model: {answer}", fix + other)


def _other_api(words: str, api: str) -> str:
    """The remedy if the message says that the server serves only the other API; else empty."""
    if api == "completions" and _NO_COMPLETIONS.search(words):
        return _USE_CHAT
    if api == "chat" and _NO_CHAT.search(words):
        return "use --api completions (`api: completions` of a workload)"
    return ""


_NAME_A_MODEL = "name a model that /v1/models lists"
_USE_CHAT = "use --api chat (`api: chat` of a workload)"
_TOO_LONG = re.compile(
    r"maximum (?:context|model|input) length|max_model_len|context (?:length|window)|too long", re.IGNORECASE
)
_INSTEAD = re.compile(r"\buse\s+[`'\"]?(\w+)[`'\"]?\s+instead", re.IGNORECASE)
_TEMPERATURE = re.compile(r"\btemperature\b", re.IGNORECASE)
_IDS = re.compile(
    r"prompt.*\b(?:must be|should be|valid) (?:a )?str|token[ _]?ids?.*not supported", re.IGNORECASE
)


def _advice(words: str, api: str) -> str:
    """The remedy for a refusal, from its message."""
    if _TOO_LONG.search(words):
        return "lower --isl or --osl: their sum must fit the server's maximum context length"
    if _TEMPERATURE.search(words):
        return "set a value that the server accepts, for example --extra-body '{\"temperature\": 1}' (`temperature` of a workload)"
    if parameter := _INSTEAD.search(words):
        return f"the server expects {parameter[1]}: set it with --extra-body, or measure another server"
    if other := _other_api(words, api):
        return other
    if api == "completions" and _IDS.search(words):
        return _USE_CHAT
    if _MODEL.search(words):
        return _NAME_A_MODEL
    return "change the option that the server's message is about: --isl, --osl, --api or --extra-body"
