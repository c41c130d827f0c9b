"""Answers as vLLM's bytes: SSE events of a stream, prebuilt as far as possible, and whole answers.

The shapes are those of vLLM's `CompletionStreamResponse` and `ChatCompletionStreamResponse`: 0.14.1 writes
every field of a completion event, later versions only those that were set.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rocbench.sim.prompts import FIRST_ID, WORDS, ApiRequest
from rocbench.sim.steps import Sequence

DONE = b"data: [DONE]\n\n"
WORD_COUNT = len(WORDS)
ENGINE_DEAD = {
    "error": {
        "message": "EngineCore encountered an issue. See stack trace (above) for the root cause.",
        "type": "InternalServerError",
        "param": None,
        "code": 500,
    }
}
"""Answer to requests when the engine dies (seen with vLLM 0.32 on the CPU)."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Version-specific properties of answers."""

    full_completion_events: bool
    """True if completion events contain unset fields (to 0.20.2; no longer in 0.24)."""
    reasoning_content: bool
    """True if the deprecated field accompanies `reasoning` (before 0.16)."""
    prompt_details: bool
    """True with `--enable-prompt-tokens-details`."""
    reasoning_parser: bool
    all_details: bool = False
    """True if details include image tokens, and cached tokens also if they are 0 (from 0.24)."""
    interval: int = 1
    """`--stream-interval`: tokens per event."""
    force_usage: bool = False
    """True with `--enable-force-include-usage`."""


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Stream:
    """One running answer: the engine's tokens call `first`, `token`, ..., `finish`."""

    __slots__ = (
        "_counted",
        "_dialect",
        "_head",
        "_simple",
        "_split",
        "_tail",
        "arrived_s",
        "created",
        "emitted",
        "end",
        "first_s",
        "id",
        "miscount",
        "offset",
        "reason",
        "request",
        "sequence",
        "write",
    )

    def __init__(
        self,
        identity: str,
        created: int,
        request: ApiRequest,
        sequence: Sequence,
        dialect: Dialect,
        write: Callable[[bytes], None],
        end: Callable[[], None],
    ) -> None:
        self.id = identity
        self.created = created
        self.request = request
        self.sequence = sequence
        self.write = write
        self.end = end
        self.emitted = 0
        self.offset = sequence.id % WORD_COUNT
        self.arrived_s = sequence.arrived_s
        self.first_s = 0.0
        self.reason = "length"
        self.miscount = 0
        self._dialect = dialect
        kind = "chat.completion.chunk" if request.chat else "text_completion"
        self._head = (
            f'data: {{"id":"{identity}","object":"{kind}","created":{created},'
            f'"model":{json.dumps(request.model)},"choices":['
        )
        self._simple: tuple[bytes, bytes] | None = None
        self._counted: bytes | None = None
        self._split = sequence.output_tokens // 2 if dialect.reasoning_parser and request.chat else 0
        if not (request.return_token_ids or self._split):
            if request.continuous_usage:
                self._counted = self._template()
            else:
                self._simple = self._halves()

    # --- events

    def token(self) -> None:
        """Send the next token's event."""
        simple = self._simple
        place = self.emitted
        self.emitted = place + 1
        if simple is not None:
            self.write(simple[0] + WORDS[(self.offset + place) % WORD_COUNT] + simple[1])
        elif self._counted is not None:
            output = place + 1 + self.miscount
            word = WORDS[(self.offset + place) % WORD_COUNT]
            event = self._counted % (word, self.sequence.prompt_tokens + output, output)
            self.write(b"%x\r\n%b\r\n" % (len(event), event))
        else:
            self.write(chunk(self._event(place, None)))

    def first(self) -> None:
        """Send the first token's event; in a chat, send the event with the role before it."""
        self.emitted = 1
        events = self._event(0, None)
        if self.request.chat:
            events = self._role() + events
        self.write(chunk(events))

    def finish(self, reason: str) -> None:
        """Send the last token's event, the usage if requested, and the end."""
        self._finish(reason, 1)

    def _finish(self, reason: str, count: int) -> None:
        place = self.emitted
        self.emitted = place + 1
        events = self._role() if self.request.chat and not place else b""
        events += self._event(place, reason, count)
        if self.request.include_usage:
            usage = json.dumps(self.usage(), separators=(",", ":"))
            events += f'{self._head}],"usage":{usage}}}\n\n'.encode()
        self.write(chunk(events + DONE))
        self.end()

    def fail(self) -> None:
        """End as after an engine crash: an error event after status 200, then [DONE]."""
        self.write(chunk(b"data: " + json.dumps(ENGINE_DEAD).encode() + b"\n\n" + DONE))
        self.end()

    def usage(self) -> dict[str, Any]:
        """The usage object."""
        prompt, output = self.request.prompt_tokens, self.emitted + self.miscount
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "total_tokens": prompt + output,
            "completion_tokens": output,
        }
        if self._dialect.prompt_details and (self._dialect.all_details or self.sequence.cached_tokens):
            details: dict[str, Any] = {"cached_tokens": self.sequence.cached_tokens}
            if self._dialect.all_details and self.request.image_tokens:
                details["multimodal_tokens"] = {"image": self.request.image_tokens}
            usage["prompt_tokens_details"] = details
        return usage

    def _halves(self) -> tuple[bytes, bytes]:
        """The bytes around the token's text, as one HTTP chunk of constant length."""
        event = self._event(0, None)
        word = WORDS[self.offset]
        before, _, after = chunk(event).rpartition(word)
        return before, after

    def _template(self) -> bytes:
        """Template of the event with running usage, for text, total and output tokens."""
        before, _, after = self._event(0, None).rpartition(WORDS[self.offset])
        prompt = self.sequence.prompt_tokens
        usage = b'"total_tokens":%d,"completion_tokens":%d' % (prompt + 1, 1)
        middle, _, end = after.rpartition(usage)
        plain = [part.replace(b"%", b"%%") for part in (before, middle, end)]
        return plain[0] + b"%b" + plain[1] + b'"total_tokens":%d,"completion_tokens":%d' + plain[2]

    def _event(self, place: int, reason: str | None, count: int = 1) -> bytes:
        """The event of the last `count` tokens up to `place`."""
        places = [(self.offset + at) % WORD_COUNT for at in range(place - count + 1, place + 1)]
        text = b"".join([WORDS[at] for at in places]).decode()
        ids = "null"
        if self.request.return_token_ids:
            ids = f"[{','.join(str(FIRST_ID + at) for at in places)}]"
        write = self._chat_choice if self.request.chat else self._text_choice
        return f"{self._head}{write(text, ids, place, reason)}]{self._usage_field(place)}}}\n\n".encode()

    def _text_choice(self, word: str, token_ids: str, place: int, reason: str | None) -> str:
        prompt_ids = "null"
        if self.request.return_token_ids and not place:
            prompt_ids = json.dumps(self.request.prompt_ids, separators=(",", ":"))
        return (
            f'{{"index":0,"text":"{word}","logprobs":null,"finish_reason":{json.dumps(reason)},'
            f'"stop_reason":null,"prompt_token_ids":{prompt_ids},"token_ids":{token_ids}}}'
        )

    def _chat_choice(self, word: str, ids: str, place: int, reason: str | None) -> str:
        field = "reasoning" if place < self._split else "content"
        delta = f'"{field}":"{word}"'
        if self._dialect.reasoning_content:
            delta += f',"reasoning_content":{json.dumps(word) if field == "reasoning" else "null"}'
        ending = "" if reason is None else ',"stop_reason":null'
        return (
            f'{{"index":0,"delta":{{{delta}}},"logprobs":null,"finish_reason":{json.dumps(reason)}{ending},'
            f'"token_ids":{ids}}}'
        )

    def _role(self) -> bytes:
        old = ',"reasoning_content":null' if self._dialect.reasoning_content else ""
        ids = json.dumps(self.request.prompt_ids) if self.request.return_token_ids else "null"
        usage = self._usage_field(-1) if self.request.continuous_usage else ""
        return (
            f'{self._head}{{"index":0,"delta":{{"role":"assistant","content":""{old}}},"logprobs":null,'
            f'"finish_reason":null}}]{usage},"prompt_token_ids":{ids}}}\n\n'
        ).encode()

    def _usage_field(self, place: int) -> str:
        full = self._dialect.full_completion_events and not self.request.chat
        if not self.request.continuous_usage:
            return ',"usage":null' if full else ""
        prompt, output = self.request.prompt_tokens, place + 1 + self.miscount * (place >= 0)
        details = ',"prompt_tokens_details":null' if full else ""
        return (
            f',"usage":{{"prompt_tokens":{prompt},"total_tokens":{prompt + output},'
            f'"completion_tokens":{output}{details}}}'
        )


class IntervalStream(Stream):
    """A stream with `--stream-interval` tokens per event, and the first token alone.

    Source: v0.14.1 v1/engine/output_processor.py (make_request_output).
    """

    __slots__ = ("sent",)

    sent: int

    def first(self) -> None:
        """Send the first token at once."""
        super().first()
        self.sent = 1

    def token(self) -> None:
        """Hold tokens back until an event is full."""
        self.emitted += 1
        count = self.emitted - self.sent
        if count >= self._dialect.interval:
            self.sent = self.emitted
            self.write(chunk(self._event(self.emitted - 1, None, count)))

    def finish(self, reason: str) -> None:
        """Send the held tokens with the last one."""
        self._finish(reason, self.emitted + 1 - (self.sent if self.emitted else 0))


class Whole(Stream):
    """An answer sent in one piece, by `respond`."""

    __slots__ = ("respond",)

    respond: Callable[[int, dict[str, Any]], None]
    """Callback with status and body."""

    def token(self) -> None:
        """Do nothing: no data is sent before the end."""
        self.emitted += 1

    first = token

    def finish(self, reason: str) -> None:
        """Send the whole answer."""
        self.emitted += 1
        self.respond(200, self._answer(reason))

    def fail(self) -> None:
        """Answer with an error status, since no data was sent yet."""
        self.respond(500, ENGINE_DEAD)

    def _answer(self, reason: str) -> dict[str, Any]:
        count = self.sequence.output_tokens
        places = [(self.offset + place) % WORD_COUNT for place in range(count)]
        text = b"".join([WORDS[place] for place in places]).decode()
        ids = [FIRST_ID + place for place in places]
        with_ids = self.request.return_token_ids
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": reason, "stop_reason": None}
        choice["token_ids"] = ids if with_ids else None
        answer: dict[str, Any] = {"id": self.id, "created": self.created, "model": self.request.model}
        if self.request.chat:
            cut = self._split * 4
            choice["message"] = {
                "role": "assistant",
                "content": text[cut:],
                "refusal": None,
                "tool_calls": [],
                "reasoning": text[:cut] or None,
            }
            if self._dialect.reasoning_content:
                choice["message"]["reasoning_content"] = text[:cut] or None
            answer["object"] = "chat.completion"
        else:
            choice |= {"text": text, "prompt_logprobs": None}
            choice["prompt_token_ids"] = self.request.prompt_ids if with_ids else None
            answer["object"] = "text_completion"
        return answer | {
            "choices": [choice],
            "service_tier": None,
            "system_fingerprint": None,
            "usage": self.usage(),
            "kv_transfer_params": None,
        }
