"""One answer, read event by event: stamps, token counts, and how it ended. Pure.

An event counts as received when the last byte of the blank line that ends it was. A token event is one that
holds text, reasoning or a tool call, or whose usage or token ids say that tokens were added (a token may
have no text of its own); a role chunk is neither. Tokens come from usage (of each event where the server
gives it), else from token ids, never from the number of events.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence

from rocbench.load.events import NO_EVENT, TYPED, Choice, PromptDetails, Usage, decode, error_message
from rocbench.records import NONE, Failure

_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n|\Z))(?:\r\n|\n|\r(?!\n|\Z))")
_KEEP = 500
"""Characters kept of an error's text."""
_MOST_BODY = 1 << 20


class Answer:
    """The state of one answer. Feed it with pieces of the body, then ask `verdict`."""

    __slots__ = (
        "_rest",
        "body",
        "cached_tokens",
        "completion_tokens",
        "counted",
        "counts",
        "done",
        "error",
        "failure",
        "finish_reason",
        "first_chunk_ns",
        "first_token_ns",
        "image_tokens",
        "last_ns",
        "last_token_ns",
        "plain",
        "prompt_tokens",
        "stamps",
        "status",
        "uncounted",
    )

    def __init__(self) -> None:
        self.status = NONE
        self.plain = False
        """The body is no event stream: kept whole, as an error's text or one JSON value."""
        self.stamps = array("q")
        """When each token event was received, ns."""
        self.counts = array("i")
        """Tokens of each token event; 0 where the event did not say."""
        self.counted = 0
        """Completion tokens told so far, by usage or token ids of single events."""
        self.uncounted = False
        """Some token event did not say how many tokens it holds."""
        self.first_chunk_ns = self.first_token_ns = self.last_token_ns = self.last_ns = NONE
        self.completion_tokens = self.prompt_tokens = self.cached_tokens = self.image_tokens = NONE
        self.finish_reason: str | None = None
        self.done = False
        self.failure: Failure | None = None
        self.error = ""
        self.body = b""
        self._rest = b""

    # --- bytes in

    def take(self, pieces: Sequence[bytes], stamps: Sequence[int]) -> None:
        """Pieces of the body, in order, and when each was received.

        The hot path: one event in one piece that adds tokens by its usage. Everything else goes the long way.
        """
        add_stamp, add_count, typed = self.stamps.append, self.counts.append, TYPED.decode
        counted = self.counted
        usual = not self.plain and not self._rest and not self.uncounted and self.first_token_ns >= 0
        for piece, stamp in zip(pieces, stamps, strict=True):
            # Were there more than one line of data in it, it would not be JSON.
            if usual and piece[:6] == b"data: " and piece[-2:] == b"\n\n":
                try:
                    event = typed(piece[6:-2])
                except ValueError:
                    event = NO_EVENT
                usage, choices = event.usage, event.choices
                if choices and usage is not None and event.error is None:
                    done = usage.completion_tokens
                    if done is not None and done > counted and usage.prompt_tokens_details is None:
                        add_stamp(stamp)
                        add_count(done - counted)
                        counted = done
                        if choices[0].finish_reason is not None:
                            self.finish_reason = choices[0].finish_reason
                        continue
            self._sync(counted)
            self.piece(piece, stamp)
            counted = self.counted
            usual = not self.plain and not self._rest and not self.uncounted and self.first_token_ns >= 0
        self._sync(counted)

    def _sync(self, counted: int) -> None:
        """Write back what the hot path kept aside."""
        if counted != self.counted:
            self.counted = self.completion_tokens = counted
            self.last_token_ns = self.stamps[-1]

    def piece(self, data: bytes, stamp: int) -> None:
        """A piece of the body, in order, and when it was received."""
        if self.plain:
            if len(self.body) < _MOST_BODY:
                self.body += data
            return
        self._rest = self._split(self._rest + data, stamp)

    def _split(self, data: bytes, stamp: int) -> bytes:
        """Take the whole events off `data` and return what is left."""
        at = 0
        for blank in _BLANK_LINE.finditer(data):
            self._lines(data[at : blank.start()], stamp)
            at = blank.end()
        return data[at:] if at else data

    def _lines(self, block: bytes, stamp: int) -> None:
        """One event as lines of `field: value`; comments and other fields are left out."""
        values, kind = [], b""
        for line in block.splitlines():
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                values.append(value)
            elif name == b"event":
                kind = value
        if not values:
            return
        payload = b"\n".join(values)
        if kind == b"error":
            self._fail(Failure.IN_BAND_ERROR, payload.decode("utf-8", "replace"))
        self.event(payload, stamp)

    def event(self, payload: bytes, stamp: int) -> None:
        """One event's data."""
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            event = decode(payload)
        except ValueError:
            self._fail(Failure.BAD_JSON, payload[:_KEEP].decode("utf-8", "replace"))
            return
        if self.first_chunk_ns < 0:
            self.first_chunk_ns = stamp
        usage = event.usage
        if usage is not None:
            if usage.prompt_tokens is not None:
                self.prompt_tokens = usage.prompt_tokens
            if usage.completion_tokens is not None:
                self.completion_tokens = usage.completion_tokens
            if usage.prompt_tokens_details is not None:
                self._details(usage.prompt_tokens_details)
        if event.error or event.object == "error":
            self._fail(Failure.IN_BAND_ERROR, error_message(event) or "")
        elif event.choices:
            self._choice(event.choices[0], usage, stamp)

    def _choice(self, choice: Choice, usage: Usage | None, stamp: int) -> None:
        """Count what a choice adds, if it adds anything."""
        if choice.finish_reason is not None:
            self.finish_reason = choice.finish_reason
        told = 0
        if usage is not None and usage.completion_tokens is not None:
            told = usage.completion_tokens - self.counted
        elif choice.token_ids is not None:
            told = len(choice.token_ids)
        if choice.visible:
            # A count after events without one is a sum, not this event's own.
            if self.uncounted or (told <= 0 and not self.counted):
                self.uncounted = True
                told = 0
            elif told <= 0:
                return  # text held back from a token that was counted before
        elif told <= 0 or self.uncounted:
            return
        self.counted += told
        if self.first_token_ns < 0:
            self.first_token_ns = stamp
        self.last_token_ns = stamp
        self.stamps.append(stamp)
        self.counts.append(told)

    def _details(self, details: PromptDetails) -> None:
        if details.cached_tokens is not None:
            self.cached_tokens = details.cached_tokens
        image = details.multimodal_tokens if details.image_tokens is None else details.image_tokens
        if image is not None:
            self.image_tokens = image

    def _fail(self, failure: Failure, message: str) -> None:
        if self.failure is None:
            self.failure, self.error = failure, message[:_KEEP]

    # --- the end

    def end(self) -> None:
        """The body is complete: read a last event without its blank line, or a body that is no stream."""
        if self.plain:
            if self.status == 200:
                self.event(self.body.strip(), self.last_ns)
                self.done = self.failure is None
            return
        rest, self._rest = self._rest.strip(), b""
        if rest:
            quiet = self.failure
            self._lines(rest, self.last_ns)
            if quiet is None and self.failure is Failure.BAD_JSON:
                # Half an event at the end is a truncation, not a fault of its JSON.
                self.failure, self.error = Failure.TRUNCATED, "the answer ended inside an event"

    def output_tokens(self) -> int:
        """Tokens of the answer: usage, else token ids; NONE if neither came."""
        if self.completion_tokens >= 0:
            return self.completion_tokens
        return NONE if self.uncounted or self.first_chunk_ns < 0 else self.counted

    def token_counts(self) -> array[int]:
        """Tokens of each token event. Where the server told only the sum, it is spread evenly over them.

        What the sum has beyond the events' own counts belongs to the last one.
        """
        total, events = self.output_tokens(), len(self.counts)
        if not events:
            return self.counts
        if self.uncounted:
            if total < 0:
                return array("i", bytes(4 * events))
            return array("i", [total * (i + 1) // events - total * i // events for i in range(events)])
        if total > self.counted:
            self.counts[-1] += total - self.counted
            self.counted = total
        return self.counts

    def verdict(self, *, complete: bool, osl_asked: int, ignore_eos: bool) -> Failure | None:
        """The failure class of the ended answer, None for success.

        Args:
            complete: the body's end was received.
            osl_asked: tokens asked for.
            ignore_eos: the server was told not to stop before them.
        """
        if self.status not in {200, NONE}:
            self.error = self._status_error()
            return Failure.HTTP_STATUS
        if self.failure is not None:
            return self.failure
        if not complete or not (self.done or self.finish_reason is not None):
            self.error = "the answer ended without a finish_reason or [DONE]"
            return Failure.TRUNCATED
        tokens = self.output_tokens()
        if not self.stamps or (ignore_eos and 0 <= tokens < osl_asked):
            self.error = f"{max(tokens, 0)} of {osl_asked} tokens, finish_reason {self.finish_reason}"
            return Failure.EARLY_STOP
        return None

    def _status_error(self) -> str:
        try:
            message = error_message(decode(self.body))
        except ValueError:
            message = None
        text = message or self.body.decode("utf-8", "replace")
        return f"{self.status}: {text}"[:_KEEP]
