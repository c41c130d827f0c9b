"""Any split of the bytes, any framing, any shape of events: the records equal what was sent."""

from __future__ import annotations

import json
import struct
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from rocbench.load.answer import Answer
from rocbench.load.framing import Framing
from rocbench.records import NONE, Doubt, Failure

TRAPS = (
    " tok",
    "",
    "0\r\n\r\n",
    "data: [DONE]\n\n",
    '{"completion_tokens": 9}',
    "\u2028é漢😀",
    '"error"',
    "\\",
)


@dataclass
class Sent:
    """One event as a server sends it, and what it holds."""

    payload: str
    tokens: int = 0
    is_token: bool = False
    is_json: bool = True


@dataclass
class Case:
    """A whole answer: its wire bytes, split into reads, and the truth about it."""

    events: list[Sent]
    wire: bytes
    ends: list[int]
    """Offset on the wire just behind each event."""
    reads: list[bytes] = field(default_factory=list)
    counted: str = "continuous"

    def stamp_of(self, event: int) -> int:
        """Stamp of the read that held the event's last byte."""
        bounds = list(accumulate(len(read) for read in self.reads))
        return 1_000 + bisect_left(bounds, self.ends[event])


def choice_json(kind: str, text: str, finish: str | None, ids: list[int] | None) -> dict:
    """One choice, in the shape of completions or of chat."""
    choice: dict = {"index": 0, "finish_reason": finish}
    if kind == "text":
        choice["text"] = text
    elif kind == "tool":
        choice["delta"] = {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
    else:
        choice["delta"] = {kind: text}
    if ids is not None:
        choice["token_ids"] = ids
    return choice


@st.composite
def answers(draw) -> Case:
    """A successful answer in any of the shapes that servers use."""
    counted = draw(st.sampled_from(["continuous", "final", "ids", "none"]))
    kind = draw(st.sampled_from(["text", "content", "reasoning", "reasoning_content", "tool"]))
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=8))
    events, done = [], 0
    if kind != "text" and draw(st.booleans()):
        role = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
        if counted == "continuous":
            role["usage"] = {"prompt_tokens": 7, "completion_tokens": 0}
        events.append(Sent(json.dumps(role)))
    for index, size in enumerate(sizes):
        done += size
        # Only a counted token may be without text: nobody could know of it otherwise.
        some = [trap for trap in TRAPS if trap] if counted in {"final", "none"} or index == 0 else TRAPS
        text = draw(st.sampled_from(some))
        finish = "length" if index == len(sizes) - 1 else None
        ids = list(range(size)) if counted == "ids" else None
        body: dict = {"id": "x", "choices": [choice_json(kind, text, finish, ids)]}
        if counted == "continuous":
            body["usage"] = {"prompt_tokens": 7, "total_tokens": 7 + done, "completion_tokens": done}
        events.append(Sent(json.dumps(body, ensure_ascii=draw(st.booleans())), size, is_token=True))
    if counted in {"continuous", "final"}:
        usage = {"prompt_tokens": 7, "total_tokens": 7 + done, "completion_tokens": done}
        events.append(Sent(json.dumps({"choices": [], "usage": usage})))
    events.append(Sent("[DONE]", is_json=False))
    case = frame(draw, events)
    case.counted = counted
    return case


def frame(draw, events: list[Sent]) -> Case:
    """Put events into a body, the body into HTTP, and cut it into reads."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    body, ends = b"", []
    for event in events:
        if draw(st.integers(0, 9)) == 0:
            body += f": ping{newline}{newline}".encode()
        if draw(st.integers(0, 9)) == 0:
            body += f"id: 3{newline}event: message{newline}".encode()
        space = draw(st.sampled_from([" ", ""]))
        body += f"data:{space}{event.payload}{newline}{newline}".encode()
        ends.append(len(body))
    style = draw(st.sampled_from(["chunked", "length", "close"]))
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    if style == "chunked":
        wire = bytearray(head + b"Transfer-Encoding: chunked\r\n\r\n")
        cuts = sorted({*draw(st.lists(st.integers(1, len(body)), max_size=12)), len(body)})
        at, where = 0, {}
        for cut in cuts:
            wire += b"%x\r\n" % (cut - at)
            where.update({end: len(wire) + end - at for end in ends if at < end <= cut})
            wire += body[at:cut] + b"\r\n"
            at = cut
        wire += b"0\r\n\r\n"
        case = Case(events, bytes(wire), [where[end] for end in ends])
    else:
        head += b"Content-Length: %d\r\n\r\n" % len(body) if style == "length" else b"\r\n"
        case = Case(events, head + body, [len(head) + end for end in ends])
    size = len(case.wire)
    cuts = sorted({0, size, *draw(st.lists(st.integers(1, size - 1), max_size=30))})
    case.reads = [case.wire[a:b] for a, b in pairwise(cuts)]
    return case


def run(case: Case, batches: list[int]) -> Framing:
    """Feed the reads in batches of the given sizes, as the pauses of a loop would."""
    framing = Framing()
    framing.begin(Answer())
    stamps = [struct.pack("qq", 0, 1_000 + index) for index in range(len(case.reads))]
    at = 0
    for size in [*batches, len(case.reads)]:
        if at < len(case.reads):
            framing.feed(case.reads[at : at + size], stamps[at : at + size])
        at += size
    framing.eof()
    return framing


@settings(max_examples=300, deadline=None)
@given(case=answers(), batches=st.lists(st.integers(1, 5), max_size=20))
def test_every_split_gives_the_same_records(case, batches):
    """Stamps, counts, usage and the verdict are those of the events sent, however the bytes came."""
    framing = run(case, batches)
    answer = framing.answer
    assert framing.complete
    tokens = [(i, event.tokens) for i, event in enumerate(case.events) if event.is_token]
    assert list(answer.stamps) == [case.stamp_of(i) for i, _ in tokens]
    total = sum(n for _, n in tokens)
    if case.counted in {"continuous", "ids"}:
        assert list(answer.token_counts()) == [n for _, n in tokens]
    if case.counted == "none":
        assert answer.output_tokens() == NONE
        assert sum(answer.token_counts()) == 0
    else:
        assert answer.output_tokens() == total
        assert sum(answer.token_counts()) == total
    assert answer.prompt_tokens == (7 if case.counted in {"continuous", "final"} else NONE)
    assert answer.first_chunk_ns == case.stamp_of(0)
    assert answer.first_token_ns == case.stamp_of(tokens[0][0])
    assert answer.last_token_ns == case.stamp_of(tokens[-1][0])
    assert answer.verdict(complete=framing.complete, osl_asked=total, ignore_eos=True) is None
    assert not answer.doubts(total) & ~Doubt.ONE_PIECE  # the stamps here are of the reads' order


@settings(max_examples=200, deadline=None)
@given(case=answers(), data=st.data())
def test_a_cut_answer_is_never_a_success(case, data):
    """Cut anywhere before the end of its last words, the answer is truncated; its tokens so far are kept.

    A cut behind the last words' JSON leaves nothing out that the connection's end would not end.
    """
    last_word = case.ends[len([e for e in case.events if e.is_token]) - 1]
    cut = data.draw(st.integers(0, last_word - 1))
    whole, kept = 0, []
    for read in case.reads:
        kept.append(read[: max(0, cut - whole)])
        whole += len(read)
    case.reads = [read for read in kept if read]
    framing = run(case, [])
    answer = framing.answer
    came = [
        event.tokens
        for event, end in zip(case.events, case.ends, strict=True)
        if event.is_token and end <= cut
    ]
    assert len(answer.stamps) <= len(came) + 1  # the last event may lack only its blank line
    assert len(answer.stamps) >= len(came)
    total = sum(event.tokens for event in case.events)
    verdict = answer.verdict(complete=framing.complete, osl_asked=total, ignore_eos=True)
    if framing.complete and len(answer.stamps) > len(came):
        assert answer.finish_reason == "length"
    else:
        assert verdict in {Failure.TRUNCATED, Failure.EARLY_STOP}
    if not framing.complete:
        assert verdict is Failure.TRUNCATED


@settings(max_examples=200, deadline=None)
@given(
    case=answers(),
    where=st.integers(0, 8),
    fault=st.sampled_from(["error", "old error", "event error", "bad json", "not an object"]),
    data=st.data(),
)
def test_a_fault_inside_a_200_is_found_at_any_place(case, where, fault, data):
    """An in-band error or broken JSON fails the answer with its class, and the tokens around it still count."""
    payload = {
        "error": '{"error": {"message": "EngineCore died", "code": 500}}',
        "old error": '{"object": "error", "message": "EngineCore died", "code": 500}',
        "event error": '{"message": "EngineCore died"}',
        "bad json": '{"choices": [{"te',
        "not an object": "[1, 2]",
    }[fault]
    where = min(where, len(case.events) - 1)
    events = list(case.events)
    events.insert(where, Sent(payload))
    counted = case.counted
    case = frame(data.draw, events)
    if fault == "event error":
        case = frame_error_event(case, payload)
    framing = run(case, [])
    answer = framing.answer
    total = sum(event.tokens for event in events)
    verdict = answer.verdict(complete=True, osl_asked=total, ignore_eos=True)
    assert verdict is (Failure.BAD_JSON if fault in {"bad json", "not an object"} else Failure.IN_BAND_ERROR)
    assert answer.error
    assert len(answer.stamps) == sum(event.is_token for event in events)
    if counted in {"continuous", "ids"}:
        assert sum(answer.token_counts()) == total


def frame_error_event(case: Case, payload: str) -> Case:
    """Name the faulty event `error`, as some servers do, in one plain body."""
    body = b""
    for event in case.events:
        body += b"event: error\n" if event.payload == payload else b""
        body += f"data: {event.payload}\n\n".encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body)
    return Case(case.events, head + body, [], [head + body])
