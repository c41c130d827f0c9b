"""Learn the body fields that a server accepts and its token counts, with one short request.

vLLM accepts all our fields; a plain OpenAI-shaped server may answer 400 to unknown fields. Refused fields
are omitted, one after the other, and the notes of the result say so.
"""

from __future__ import annotations

import http.client
import re
import socket
import struct
import time
from dataclasses import dataclass, replace

from rocbench import baseurl
from rocbench.address import addresses
from rocbench.baseurl import Endpoint
from rocbench.errors import RequestRefused, ServerUnreachable
from rocbench.load import bodies
from rocbench.load.answer import MOST_EVENT, Answer
from rocbench.load.framing import Framing
from rocbench.load.requestfactory import Request, RequestFactory
from rocbench.load.spec import Dialect, LoadSpec, TextCost
from rocbench.load.tally import FinishedRequest
from rocbench.probe import causes
from rocbench.probe.fetch import NoConnection, exchange, left_s, read_body
from rocbench.records import BURST_TOKENS, NONE, Failure
from rocbench.redact import redacted
from rocbench.units import one_line

PROBE_ID = 2**40
"""request_id of the first probe; rows of probes are warm-up."""

_LADDER: tuple[dict[str, bool], ...] = (
    {},
    {"continuous_usage": False},
    {"vllm_fields": False},
    {"vllm_fields": False, "continuous_usage": False},
    {"include_usage": False, "continuous_usage": False},
    {"vllm_fields": False, "include_usage": False, "continuous_usage": False},
)
"""Omissions to try, one after the other, if a refusal names no field."""
_NAMES = {
    "continuous_usage_stats": {"continuous_usage": False},
    "stream_options": {"include_usage": False, "continuous_usage": False},
    "ignore_eos": {"vllm_fields": False},
    "min_tokens": {"vllm_fields": False},
}
"""Fields by their names in a refusal."""
_PASSING = {429, *range(500, 600)} - {501, 505}
"""Statuses of a server with a temporary problem: they do not say which fields it accepts."""
_FEW = 3
"""Maximum fields that a refusal names; one with more repeats the whole body, and counts as naming none."""
_UNKNOWN = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not permitted|deprecated", re.IGNORECASE
)
_MARKUP = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_BROKEN = {Failure.TRUNCATED, Failure.IN_BAND_ERROR, Failure.ABORTED}
"""Failures of a probe that may not recur in another try."""
_ELSEWHERE = "give the base URL of the API itself; a gateway or login in front of the API may need a key (--api-key-env, --header)"
_MOST_CHARS = 300
"""Characters kept of an answer that is not a completion."""
_TRIES = 3
_TOKENS = 4
_MORE_TOKENS = 32
"""Tokens requested if all tokens of the first probe came in one event; speculation makes fewer at once."""
_WORDS = (8, 40)


@dataclass(slots=True)
class Learned:
    """Results of the probe."""

    dialect: Dialect
    addresses: tuple[tuple[int, object], ...]
    """The server's addresses, the first to answer first; empty if a proxy or aiohttp resolves them."""
    text_cost: TextCost | None
    notes: tuple[str, ...]
    ended: tuple[FinishedRequest, ...]
    """The answered probes, for their rows."""


class Probe:
    """Sends probes one at a time, with blocking calls."""

    def __init__(self, spec: LoadSpec, transport: str) -> None:
        self.spec = spec
        self.where: Endpoint = baseurl.parse(spec.target.base_url)
        self.direct = transport == "wire"
        self.factory = RequestFactory(spec, Dialect(), wire=self.direct)
        self.addresses = addresses(self.where) if self.direct else ()
        self.sent = 0
        self.location = ""
        """Target of the last answer, if it is a redirect."""
        self.whole = False
        """True if the last answer's body was complete."""
        self.ended: list[FinishedRequest] = []

    def ask(self, words: int, dialect: Dialect, tokens: int = _TOKENS) -> Answer:
        """Send one probe. Raises OSError if the server cannot be reached."""
        self.sent += 1
        payload, isl = self.factory.probe(words, dialect, PROBE_ID + self.sent, tokens)
        sent = time.time_ns()
        answer = self._over_socket(payload) if self.direct else self._by_fetch(payload)
        if answer.status == 200:
            number = PROBE_ID + self.sent
            request = Request(number, NONE, 0, isl, tokens, 0, NONE, "probe", b"", intended_ns=sent)
            self.ended.append(
                FinishedRequest(request, answer, sent, max(answer.last_ns, sent), complete=self.whole)
            )
        return answer

    def error_of(self, answer: Answer) -> str:
        """The text of a failed answer, without secrets and not yet cut."""
        return redacted(answer.error, self.spec.secrets)

    def _over_socket(self, payload: bytes) -> Answer:
        fault: OSError | None = None
        for index, (family, where) in enumerate(self.addresses):
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.settimeout(10.0)
                try:
                    sock.connect(where)  # type: ignore[arg-type]
                except OSError as error:
                    fault = NoConnection(str(error))
                    fault.__cause__ = error
                    continue
                self.addresses = (
                    self.addresses[index],
                    *self.addresses[:index],
                    *self.addresses[index + 1 :],
                )
                until_s = time.monotonic() + self.spec.request_timeout_s
                sock.settimeout(self.spec.request_timeout_s)
                sock.sendall(payload)
                framing = _read(sock, until_s)
                self.location, self.whole = framing.location, framing.complete
                return framing.answer
        raise fault or OSError("no address")

    def _by_fetch(self, payload: bytes) -> Answer:
        target = self.spec.target
        headers = {
            **bodies.headers(target),
            "X-Request-Id": f"rb-{self.factory.name}-probe{PROBE_ID + self.sent}",
        }
        answer = Answer()
        with exchange(
            f"{self.where.scheme}://{self.where.authority}",
            bodies.path(self.where, is_chat=self.factory.is_chat),
            method="POST",
            headers=headers,
            body=payload,
            timeout_s=self.spec.request_timeout_s,
            insecure=target.insecure,
            most_bytes=MOST_EVENT,
        ) as response:
            answer.status, self.location = response.status, response.getheader("location", "")
            answer.plain = response.status != 200 or "event-stream" not in response.getheader(
                "content-type", ""
            )
            self.whole = True
            try:
                body = read_body(response)
            except http.client.IncompleteRead as error:
                body, self.whole = error.partial, False
        answer.last_ns = time.time_ns()
        answer.piece(body, answer.last_ns)
        if self.whole:
            answer.end()
        return answer


def _read(sock: socket.socket, until_s: float) -> Framing:
    framing = Framing()
    while not framing.complete and not framing.broken:
        sock.settimeout(left_s(until_s))
        data = sock.recv(65536)
        if not data:
            framing.eof()
            break
        framing.feed([data], [struct.pack("qq", *divmod(time.time_ns(), 1_000_000_000))])
    if framing.broken and not framing.headers_complete:
        raise OSError(framing.broken)
    if not framing.any_bytes:
        raise ConnectionResetError("the server closed the connection before it answered")
    return framing


def learn(spec: LoadSpec, transport: str) -> Learned:
    """Probe the server. Raises ServerFault if it cannot be reached or does not know the model."""
    probe = Probe(spec, transport)
    words = _WORDS[0] if probe.factory.is_chat else min(16, spec.requests.isl.mean)
    notes = list(probe.factory.notes)
    dialect, answer = _accepted(probe, words, notes)
    if answer is None:
        return Learned(dialect, probe.addresses, None, tuple(notes), ())
    _must_stream(probe, words, dialect, answer)
    if answer.uncounted:
        dialect = _with_token_ids(probe, words, dialect, notes)
    cost = _text_cost(probe, dialect, answer) if probe.factory.is_chat else None
    return Learned(dialect, probe.addresses, cost, tuple(notes), tuple(probe.ended))


def _accepted(probe: Probe, words: int, notes: list[str]) -> tuple[Dialect, Answer | None]:
    """The richest dialect that the server accepts, and its answer (None for a temporary problem)."""
    url, message = probe.spec.target.base_url, ""
    dialect = Dialect()
    tried: set[Dialect] = set()
    while True:
        tried.add(dialect)
        answer = _ask(probe, words, dialect, url)
        if answer is None or answer.status in _PASSING:
            reason = f" ({answer.verdict(complete=True, osl_asked=0, ignore_eos=False)})" if answer else ""
            notes.append(
                f"the server did not answer the probe{reason}; bench assumes that the server accepts vLLM's request fields"
            )
            return Dialect(), None
        failure = _no_completion(answer)
        if failure is None:
            notes += _left_out(dialect, one_line(message))
            return dialect, answer
        message = message or probe.error_of(answer)
        if 200 <= answer.status < 300 and failure is not Failure.IN_BAND_ERROR:
            raise _nonsense(probe, answer, failure)
        if answer.status not in {200, 400, 422}:
            raise _refusal(probe, answer)
        next_dialect = _next(dialect, probe.error_of(answer), tried, probe.spec)
        if next_dialect is None:
            raise (
                _nonsense(probe, answer, failure)
                if answer.status == 200
                else _refusal(probe, answer, message)
            )
        dialect = next_dialect


def _no_completion(answer: Answer) -> Failure | None:
    """The reason why an answer is not a completion, even with status 200; None if it is one."""
    failure = answer.verdict(complete=True, osl_asked=0, ignore_eos=False)
    textless = failure is Failure.EARLY_STOP and answer.finish_reason is not None
    return None if textless else failure


def _nonsense(probe: Probe, answer: Answer, failure: Failure) -> RequestRefused:
    """The error for a server that is not a model: it would answer all requests of the load in this way."""
    words = one_line(
        _MARKUP.sub(" ", redacted(answer.body.decode("utf-8", "replace"), probe.spec.secrets)), _MOST_CHARS
    )
    if not words and not answer.plain:
        words = (
            "a stream without a token"
            if failure is Failure.EARLY_STOP
            else one_line(probe.error_of(answer), _MOST_CHARS)
        )
    failed = failure in {Failure.IN_BAND_ERROR, Failure.ABORTED}
    return RequestRefused(
        f"the answer is not a completion: HTTP {answer.status}, {words or 'no body'}",
        fix="read the server's log: the server accepted the request and then failed"
        if failed
        else _ELSEWHERE,
    )


def _refusal(probe: Probe, answer: Answer, words: str = "") -> RequestRefused:
    """The error for a refusal: the server's own words, and their consequence."""
    url, api = probe.spec.target.base_url, "chat" if probe.factory.is_chat else "completions"
    cause = causes.of_status(
        answer.status, words or probe.error_of(answer), url, location=probe.location, api=api
    )
    return RequestRefused(cause.what, fix=cause.fix)


def _next(dialect: Dialect, message: str, tried: set[Dialect], spec: LoadSpec) -> Dialect | None:
    """The next dialect to try: without the fields that a refusal names, else the next on the ladder."""
    named = [name for name in _NAMES if name in message]
    if "continuous_usage_stats" in named and "stream_options" in named:
        named.remove("stream_options")  # where the other stands
    changes: dict[str, object] = {}
    if len(named) <= _FEW:
        for name in named:
            changes |= _NAMES[name]
        if "max_completion_tokens" in message and "max_tokens" in message:
            changes["length_field"] = "max_completion_tokens"
        elif (
            dialect.length_field != "max_tokens"
            and "max_completion_tokens" in message
            and _UNKNOWN.search(message)
        ):
            changes["length_field"] = "max_tokens"
        chosen = spec.requests.temperature or "temperature" in spec.requests.extra_body
        if re.search(r"\btemperature\b", message) and not chosen:
            changes["temperature"] = False
    candidates = [replace(dialect, **changes)] if changes else []  # type: ignore[arg-type]
    candidates += [
        replace(Dialect(length_field=dialect.length_field, temperature=dialect.temperature), **left_out)  # type: ignore[arg-type]
        for left_out in _LADDER
    ]
    return next((candidate for candidate in candidates if candidate not in tried), None)


def _left_out(dialect: Dialect, message: str) -> list[str]:
    """Notes on fields that were omitted or sent under another name."""
    without = []
    if not dialect.vllm_fields:
        without.append("ignore_eos and min_tokens")
    if not dialect.include_usage:
        without.append("stream_options")
    elif not dialect.continuous_usage:
        without.append("stream_options.continuous_usage_stats")
    if not dialect.temperature:
        without.append("temperature (the server's default sampling applies)")
    notes = [f"the server refused {' and '.join(without)}: {message}"] if without else []
    if dialect.length_field != "max_tokens":
        notes.append(f"the server refused max_tokens; bench sends {dialect.length_field} instead: {message}")
    return notes


def _ask(probe: Probe, words: int, dialect: Dialect, url: str, tokens: int = _TOKENS) -> Answer | None:
    """An answer, after a few tries; None if none was complete. Raises ServerUnreachable."""
    answer = None
    for attempt in range(_TRIES):
        try:
            answer = probe.ask(words, dialect, tokens)
        except OSError as error:
            if isinstance(error, TimeoutError):
                return None
            if isinstance(error, NoConnection) or attempt == _TRIES - 1:
                cause = causes.of_error(error, url)
                raise ServerUnreachable(cause.what, fix=cause.fix) from None
            continue
        broken = answer.status == 200 and _no_completion(answer) in _BROKEN
        if answer.status != NONE and answer.status not in _PASSING and not broken:
            return answer
        time.sleep(0.1 * attempt)
    return answer


def _must_stream(probe: Probe, words: int, dialect: Dialect, answer: Answer) -> None:
    """Raise RequestRefused if the server sends an answer in one piece: it has no TTFT and no TPOT.

    A replay of a finished answer in many events looks like a fast server here; its rows show the difference.
    """
    if len(answer.stamps) != 1 or answer.failure is not None:
        return
    how = "a single JSON value"
    if not answer.plain:
        if answer.output_tokens() == 1:
            return
        answer = _ask(probe, words, dialect, probe.spec.target.base_url, _MORE_TOKENS) or answer
        how = f"a single event with {answer.output_tokens()} tokens"
        if len(answer.stamps) != 1 or not (answer.plain or answer.output_tokens() >= BURST_TOKENS):
            return
    raise RequestRefused(
        f"the server does not stream: the answer to `stream: true` was {how}",
        where=probe.spec.target.base_url,
        fix="give the model server's own URL, or turn off buffering in the proxy in front of the server",
    )


def _with_token_ids(probe: Probe, words: int, dialect: Dialect, notes: list[str]) -> Dialect:
    """Request token ids if usage does not come with each chunk."""
    with_ids = replace(dialect, token_ids=True)
    answer = _ask(probe, words, with_ids, probe.spec.target.base_url) or Answer()
    if answer.status == 200 and answer.stamps and not answer.uncounted:
        notes.append("the server sends no usage with each chunk: bench counts the token ids of each chunk")
        return with_ids
    if answer.status == 200 and answer.completion_tokens == NONE:
        notes.append("the server reports no token counts: output tokens, TPOT and ITL are unknown")
    else:
        notes.append(
            "the server reports no token count with each chunk: the token count of an answer is spread evenly over its chunks"
        )
    return dialect


def _text_cost(probe: Probe, dialect: Dialect, first: Answer) -> TextCost | None:
    """The cost of words in tokens, from two probes of different lengths."""
    second = _ask(probe, _WORDS[1], dialect, probe.spec.target.base_url) or Answer()
    if first.prompt_tokens < 0 or second.prompt_tokens < 0:
        return None
    per_word = (second.prompt_tokens - first.prompt_tokens) / (_WORDS[1] - _WORDS[0])
    if per_word <= 0:
        return None
    overhead = first.prompt_tokens - per_word * _WORDS[0]
    return TextCost(per_word, overhead, exact=per_word == 1.0)
