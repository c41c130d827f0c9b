"""Learns, with one short request, which body fields a server takes and what it says of token counts.

vLLM takes all of ours; a plain OpenAI-shaped server may answer 400 to fields it does not know. What is refused
is left out, one thing after the other, and the notes of the result say so.
"""

from __future__ import annotations

import socket
import struct
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, replace

from rocbench.errors import ServerFault
from rocbench.load import bodies
from rocbench.load.address import Place, addresses, place
from rocbench.load.answer import Answer
from rocbench.load.framing import Framing
from rocbench.load.source import Prepared, Source
from rocbench.load.spec import Dialect, LoadSpec, TextCost
from rocbench.load.tally import Ended
from rocbench.records import NONE

PROBE_ID = 2**40
"""request_id of the first probe; their rows are warm-up."""

_LADDER = (
    (Dialect(), ""),
    (Dialect(continuous_usage=False), "stream_options.continuous_usage_stats"),
    (Dialect(vllm_fields=False), "ignore_eos and min_tokens"),
    (
        Dialect(vllm_fields=False, continuous_usage=False),
        "ignore_eos, min_tokens and stream_options.continuous_usage_stats",
    ),
    (Dialect(include_usage=False, continuous_usage=False), "stream_options"),
    (
        Dialect(vllm_fields=False, include_usage=False, continuous_usage=False),
        "stream_options, ignore_eos and min_tokens",
    ),
)
_TRIES = 3
_WORDS = (8, 40)


@dataclass(slots=True)
class Learned:
    """What the probe found."""

    dialect: Dialect
    addresses: tuple[tuple[int, object], ...]
    """The server's addresses, the one that answered first."""
    text_cost: TextCost | None
    notes: tuple[str, ...]
    ended: tuple[Ended, ...]
    """The probes that the server answered, for their rows."""


class Probe:
    """Sends probes one at a time, by blocking calls."""

    def __init__(self, spec: LoadSpec, transport: str) -> None:
        self.spec = spec
        self.where: Place = place(spec.target.base_url)
        self.direct = transport == "wire" or self.where.scheme == "unix"
        self.source = Source(spec, Dialect(), wire=self.direct)
        self.addresses = addresses(self.where)
        self.asked = 0
        self.ended: list[Ended] = []

    def ask(self, words: int, dialect: Dialect) -> Answer:
        """One probe. Raises OSError if the server cannot be reached."""
        self.asked += 1
        payload, isl = self.source.probe(words, dialect, PROBE_ID + self.asked)
        sent = time.time_ns()
        answer = self._over_socket(payload) if self.direct else self._over_urllib(payload)
        if answer.status == 200:
            number = PROBE_ID + self.asked
            prepared = Prepared(number, NONE, 0, isl, 4, 0, NONE, "probe", b"", intended_ns=sent)
            self.ended.append(Ended(prepared, answer, sent, max(answer.last_ns, sent), complete=True))
        return answer

    def _over_socket(self, payload: bytes) -> Answer:
        fault: OSError | None = None
        for index, (family, where) in enumerate(self.addresses):
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.settimeout(10.0)
                try:
                    sock.connect(where)  # type: ignore[arg-type]
                except OSError as error:
                    fault = error
                    continue
                self.addresses = (
                    self.addresses[index],
                    *self.addresses[:index],
                    *self.addresses[index + 1 :],
                )
                sock.settimeout(self.spec.request_timeout_s)
                sock.sendall(payload)
                return _read(sock)
        raise fault or OSError("no address")

    def _over_urllib(self, payload: bytes) -> Answer:
        url = f"{self.where.scheme}://{self.where.authority}{bodies.path(self.where, is_chat=self.source.is_chat)}"
        headers = {
            **bodies.headers(self.spec.target),
            "X-Request-Id": f"rb-{self.source.name}-probe{PROBE_ID + self.asked}",
        }
        request = urllib.request.Request(url, payload, headers)  # noqa: S310 - http(s) only
        handlers = [urllib.request.ProxyHandler({})] if self.where.loopback else []
        opener = urllib.request.build_opener(*handlers)
        answer = Answer()
        try:
            with opener.open(request, timeout=self.spec.request_timeout_s) as got:
                answer.status = got.status
                answer.plain = "event-stream" not in got.headers.get("content-type", "")
                body = got.read()
        except urllib.error.HTTPError as error:
            answer.status, answer.plain, body = error.code, True, error.read()
        answer.last_ns = time.time_ns()
        answer.piece(body, answer.last_ns)
        answer.end()
        return answer


def _read(sock: socket.socket) -> Answer:
    framing = Framing()
    while not framing.complete and not framing.broken:
        data = sock.recv(65536)
        if not data:
            framing.eof()
            break
        framing.feed([data], [struct.pack("qq", *divmod(time.time_ns(), 1_000_000_000))])
    return framing.answer


def learn(spec: LoadSpec, transport: str) -> Learned:
    """Probe the server. Raises ServerFault if it cannot be reached or does not know the model."""
    probe = Probe(spec, transport)
    words = _WORDS[0] if probe.source.is_chat else min(16, spec.requests.isl.mean)
    notes = list(probe.source.notes)
    dialect, answer = _accepted(probe, words, notes)
    if answer is None:
        return Learned(dialect, probe.addresses, None, tuple(notes), ())
    if answer.uncounted:
        dialect = _with_token_ids(probe, words, dialect, notes)
    cost = _text_cost(probe, dialect, answer) if probe.source.is_chat else None
    return Learned(dialect, probe.addresses, cost, tuple(notes), tuple(probe.ended))


def _accepted(probe: Probe, words: int, notes: list[str]) -> tuple[Dialect, Answer | None]:
    """The richest dialect that the server takes, and its answer (None if the server is merely troubled)."""
    url, message = probe.spec.target.base_url, ""
    for dialect, without in _LADDER:
        answer = _ask(probe, words, dialect, url)
        if answer is None or answer.status >= 500 or answer.status == 429:
            said = f" ({answer.verdict(complete=True, osl_asked=0, ignore_eos=False)})" if answer else ""
            notes.append(f"the server did not answer the probe{said}; its dialect is taken for vLLM's")
            return Dialect(), None
        if answer.status == 200:
            if without:
                notes.append(f"the server refused {without}: {message}")
            return dialect, answer
        answer.verdict(complete=True, osl_asked=0, ignore_eos=False)
        message = message or answer.error
        if answer.status in {401, 403}:
            raise ServerFault(
                f"the server refuses the key: {answer.error}", where=url, fix="give its API key"
            )
        if answer.status in {404, 405}:
            raise ServerFault(
                f"the server does not serve this: {answer.error}",
                where=url,
                fix=f"ask {url}/v1/models for names",
            )
    raise ServerFault(f"the server refuses even the plainest request: {message}", where=url)


def _ask(probe: Probe, words: int, dialect: Dialect, url: str) -> Answer | None:
    """An answer, after a few tries; None if it never came whole. Raises ServerFault if nobody answers."""
    answer = None
    for attempt in range(_TRIES):
        try:
            answer = probe.ask(words, dialect)
        except TimeoutError:
            return None
        except (ConnectionRefusedError, urllib.error.URLError, socket.gaierror) as error:
            raise ServerFault(f"nothing answers: {error}", where=url, fix="start the server first") from None
        except OSError as error:
            if attempt == _TRIES - 1:
                raise ServerFault(f"the server does not answer: {error}", where=url) from None
            continue
        if answer.status != NONE and answer.status < 500 and answer.status != 429:
            return answer
        time.sleep(0.1 * attempt)
    return answer


def _with_token_ids(probe: Probe, words: int, dialect: Dialect, notes: list[str]) -> Dialect:
    """Ask for token ids where usage does not come with each chunk."""
    wanted = replace(dialect, token_ids=True)
    answer = probe.ask(words, wanted)
    if answer.status == 200 and answer.stamps and not answer.uncounted:
        notes.append("the server gives no usage with each chunk: tokens are counted by their ids")
        return wanted
    if answer.status == 200 and answer.completion_tokens == NONE:
        notes.append("the server tells no token counts: output tokens, TPOT and ITL are unknown")
    else:
        notes.append("the server tells only the sum of tokens: it is spread evenly over an answer's chunks")
    return dialect


def _text_cost(probe: Probe, dialect: Dialect, first: Answer) -> TextCost | None:
    """What words cost in tokens, from two probes of unlike lengths."""
    second = probe.ask(_WORDS[1], dialect)
    if first.prompt_tokens < 0 or second.prompt_tokens < 0:
        return None
    per_word = (second.prompt_tokens - first.prompt_tokens) / (_WORDS[1] - _WORDS[0])
    if per_word <= 0:
        return None
    overhead = first.prompt_tokens - per_word * _WORDS[0]
    return TextCost(per_word, overhead, exact=per_word == 1.0)
