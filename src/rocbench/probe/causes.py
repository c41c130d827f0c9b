"""Reasons why a server does not answer, or refuses: the cause, the server's own words, and the remedy."""

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
_INSECURE = "or --insecure (`insecure: true`) to measure without checking it"
_CERTIFICATES = {
    # OpenSSL's X509_V_ERR_* (x509_vfy.h)
    9: ("is not valid yet", f"check the clocks of both machines, {_INSECURE}"),
    10: ("has expired", f"renew it, {_INSECURE}"),
    18: ("is self-signed", f"export SSL_CERT_FILE=THE-CERTIFICATE.pem, {_INSECURE}"),
    19: ("is of an authority that this machine does not know", f"export SSL_CERT_FILE=CA.pem, {_INSECURE}"),
    20: ("is of an authority that this machine does not know", f"export SSL_CERT_FILE=CA.pem, {_INSECURE}"),
    21: ("comes without its chain", f"serve the whole chain, or export SSL_CERT_FILE=CA.pem, {_INSECURE}"),
    23: ("was revoked", f"renew it, {_INSECURE}"),
    62: ("is for another host name", f"give the name that stands in it, {_INSECURE}"),
    64: ("is for another address", f"give the host name that stands in it, {_INSECURE}"),
}
_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
_WANTS_CERTIFICATE = {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE"}


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause and its remedy."""

    what: str
    fix: str
    lasting: bool = True
    """True if waiting would not help."""


def of_error(error: BaseException, base_url: str) -> Cause:
    """The reason for a missing answer. May try a TLS handshake, to tell a TLS port from one that hangs up."""
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
            f"{at} does not answer as a model server: {reason}",
            "check the URL: another service may have the port, or a gateway stand before the server",
        )
    if isinstance(reason, TimeoutError):
        return Cause(
            f"{at} takes connections and gives no whole answer in time",
            "see whether the server is overloaded or still loads its model",
            lasting=False,
        )
    if where.scheme == "http" and proxy is None and _speaks_tls(where):
        return Cause(
            f"{where.authority} speaks TLS, and was asked in plain HTTP", "give the URL with https://"
        )
    if isinstance(reason, ConnectionError | http.client.RemoteDisconnected):
        return Cause(f"{at} closes the connection without an answer", "read the server's log", lasting=False)
    return Cause(
        f"{at} does not answer in HTTP: {one_line(str(reason))}",
        "check the port: another service may have it",
    )


def _of_certificate(reason: ssl.SSLCertVerificationError, where: Endpoint) -> Cause:
    told = _CERTIFICATES.get(reason.verify_code)
    if told is None:
        told = (
            f"cannot be verified ({one_line(reason.verify_message)})",
            f"export SSL_CERT_FILE=CA.pem, {_INSECURE}",
        )
    return Cause(f"the TLS certificate of {where.authority} {told[0]}", told[1])


def _of_tls(reason: ssl.SSLError, where: Endpoint) -> Cause:
    code = str(reason.reason or "")
    if code in _NO_TLS:
        return Cause(
            f"{where.authority} answers without TLS", "give the URL with http://, or the port of its TLS"
        )
    if code in _WANTS_CERTIFICATE:
        return Cause(
            f"{where.authority} wants a certificate of its clients", "measure from behind that gateway"
        )
    if "UNEXPECTED_EOF" in code:
        return Cause(
            f"{where.authority} hangs up in the TLS handshake",
            "check the port: it may speak plain HTTP (http://)",
        )
    return Cause(
        f"TLS with {where.authority} fails: {one_line(code or str(reason))}",
        "check its TLS versions and name",
    )


def _of_name(reason: socket.gaierror, host: str) -> Cause:
    passing = reason.errno == socket.EAI_AGAIN
    fix = "check its spelling, /etc/hosts and the DNS server of this machine"
    return Cause(
        f"the name {host!r} does not resolve ({one_line(reason.strerror or str(reason))})", fix, not passing
    )


def _of_tunnel(told: str, at: str, where: Endpoint) -> Cause:
    """The cause for a proxy that refuses the connection: `Tunnel connection failed: 407 ...`."""
    found = re.search(r"failed: (\d{3})", told)
    status = int(found[1]) if found else 0
    if status == 407:
        return _no_credentials(at)
    return Cause(f"{at} opens no way to {where.authority}: {one_line(told)}", _bypass(where))


def _no_credentials(at: str) -> Cause:
    return Cause(
        f"{at} wants credentials",
        "export https_proxy (or http_proxy) as http://USER:PASSWORD@HOST:PORT, or name the server in no_proxy",
    )


def _bypass(where: Endpoint) -> str:
    return f"let the proxy allow it, or go around it: export no_proxy={where.host}"


def _of_connection(reason: BaseException, at: str, *, proxied: bool) -> Cause:
    behind = ", or name the server in no_proxy" if proxied else ""
    if isinstance(reason, ConnectionRefusedError):
        return Cause(f"{at} refuses connections", f"check the port, and that it is up{behind}", lasting=False)
    if isinstance(reason, TimeoutError) and "handshake" in str(reason):
        return Cause(
            f"{at} takes connections and answers no TLS handshake in time",
            "give the URL with http:// if the server speaks plain HTTP; else see whether it is overloaded",
        )
    if isinstance(reason, TimeoutError):
        return Cause(f"no connection to {at} in time", f"check the host, and firewalls on the way{behind}")
    number = getattr(reason, "errno", None)
    if number in {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}:
        return Cause(f"there is no route to {at}", f"check the host, and this machine's network{behind}")
    if number in {errno.EMFILE, errno.ENFILE}:
        return Cause(
            "this machine has no file left for a connection", "raise the limit of open files (ulimit -n)"
        )
    return Cause(
        f"no connection to {at}: {one_line(str(reason) or type(reason).__name__)}",
        f"check the URL, and that the server is up{behind}",
        lasting=False,
    )


def _speaks_tls(where: Endpoint) -> bool:
    """Return whether a TLS handshake gets an answer on the server's port."""
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


def of_status(status: int, words: str, base_url: str, *, location: str = "", api: str = "") -> Cause:
    """The reason for a server's refusal, from its status, its words and its redirect.

    Args:
        status: of its answer.
        words: the message of its answer.
        base_url: base URL of the request.
        location: the header of a redirect.
        api: `completions` or `chat` if the request was for a completion.
    """
    where, said = baseurl.parse(base_url), _said(status, words)
    if 300 <= status < 400:
        return _redirect(status, location, base_url)
    if "plain HTTP request was sent to HTTPS port" in words or status == 426:
        return Cause(
            f"{where.authority} speaks TLS, and was asked in plain HTTP", "give the URL with https://"
        )
    match status:
        case 407:
            proxy = proxy_of(where)
            return _no_credentials(f"the proxy {proxy.url}" if proxy else where.authority)
        case 401:
            return Cause(
                f"the server wants a key that it knows: {said}",
                "name the variable that holds it: --api-key-env NAME, or --header 'NAME: $VARIABLE'",
            )
        case 403:
            return Cause(
                f"the server, or a gateway before it, refuses this key or this client: {said}",
                "ask its operator for access; a key goes in by --api-key-env or --header",
            )
        case 404 | 405 | 501:
            return _not_found(said, words, base_url, api)
        case 413:
            return Cause(
                f"the request is too large for the server, or for a gateway before it: {said}",
                "lower --isl or the images, or raise the gateway's limit of the body's size",
            )
        case 429:
            return Cause(
                f"the server, or a gateway before it, limits the rate: {said}",
                "raise that limit for this client, or lower --concurrency or --rate",
                lasting=False,
            )
        case 502 | 503 | 504:
            return Cause(
                f"the server is not ready, or a gateway does not reach it: {said}",
                "wait until it has loaded its model, and look at what stands behind the gateway",
                lasting=False,
            )
    if status >= 500:
        return Cause(f"the server fails: {said}", "read the server's log", lasting=False)
    return Cause(f"the server refuses the request: {said}", _advice(words, api))


def _said(status: int, words: str) -> str:
    """`400: text`, or the status alone if there is no text."""
    text = one_line(words.removeprefix(f"{status}:"))
    return f"{status}: {text}" if text else f"HTTP {status} {http.client.responses.get(status, '')}".strip()


def _redirect(status: int, location: str, base_url: str) -> Cause:
    """The cause for a redirect. Redirects are not followed: each request of the load would be sent twice."""
    target = base_of(location, base_url)
    if target is None:
        return Cause(
            f"the server redirects (HTTP {status}) and does not say where to", "give the URL of its target"
        )
    return Cause(
        f"the server redirects (HTTP {status}) to {target}",
        f"give its target: --base-url {target} (`base_url`)",
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


def _not_found(said: str, words: str, base_url: str, api: str) -> Cause:
    if api == "completions" and _NO_COMPLETIONS.search(words):
        return Cause(
            f"the server does not serve completions: {said}", "use --api chat (`api: chat` of a workload)"
        )
    if api == "chat" and _NO_CHAT.search(words):
        return Cause(f"the server does not serve chat: {said}", "use --api completions (`api: completions`)")
    if _MODEL.search(words):
        return Cause(f"the server does not know the model: {said}", f"ask {base_url}/v1/models for its names")
    other = {"completions": "chat", "chat": "completions"}.get(api, "")
    fix = f"give what stands before /v1 of its URL, and a model that {base_url}/v1/models names"
    return Cause(f"the server does not serve this: {said}", f"{fix}; or --api {other}" if other else fix)


_TOO_LONG = re.compile(
    r"maximum (?:context|model|input) length|max_model_len|context (?:length|window)|too long", re.IGNORECASE
)
_INSTEAD = re.compile(r"\buse\s+[`'\"]?(\w+)[`'\"]?\s+instead", re.IGNORECASE)
_TEMPERATURE = re.compile(r"\btemperature\b", re.IGNORECASE)
_IDS = re.compile(
    r"prompt.*\b(?:must be|should be|valid) (?:a )?str|token[ _]?ids?.*not supported", re.IGNORECASE
)


def _advice(words: str, api: str) -> str:
    """The remedy for a refusal, from its words."""
    if _TOO_LONG.search(words):
        return "lower --isl or --osl: together they must fit the server's longest context"
    if _TEMPERATURE.search(words):
        return "set one that it takes: --extra-body '{\"temperature\": 1}' (`temperature` of a workload)"
    if instead := _INSTEAD.search(words):
        return f"the server wants {instead[1]}: give it by --extra-body, or measure a server that takes the other"
    if api == "completions" and (_NO_COMPLETIONS.search(words) or _IDS.search(words)):
        return "use --api chat (`api: chat` of a workload)"
    if api == "chat" and _NO_CHAT.search(words):
        return "use --api completions (`api: completions` of a workload)"
    if _MODEL.search(words):
        return "name a model that /v1/models lists"
    return "change what its words name: --isl, --osl, --api, --extra-body"
