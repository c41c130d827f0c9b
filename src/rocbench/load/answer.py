"""One answer, read event by event: stamps, token counts, and its outcome. Pure.

An event is received when the last byte of its closing blank line is received. A token event holds text,
reasoning or a tool call, or its usage or token ids say that tokens were added (a token may have no text). A
role chunk is not a token event. Text always sets the stamps, independent of the counts.

Tokens come from usage (of each event where the server gives it), else from token ids, never from the number
of events. If text came without a count, the next count that grows is shared out evenly over it. Counts and
text that contradict each other raise a doubt (`doubts`); an impossible count is ignored.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from rocbench.load.events import NO_EVENT, TYPED, Choice, Event, PromptDetails, Usage, decode, error_message
from rocbench.load.eventstream import BOM, blocks, event_and_data, is_plain
from rocbench.load.othertext import OtherText, other_text
from rocbench.records import BURST_EVENTS, BURST_TOKENS, NONE, Doubt, Failure

_KEEP = 5000
"""Characters kept of an error's text: more than are shown, as secrets are masked before the text is cut."""
MOST_EVENT = 8 << 20
"""Bytes of one event, or of a body that is one value. The largest hold a prompt's ids: 7 MB per million."""
MOST_EVENTS = 1 << 20
"""Maximum token events of one answer: more than the context of any model."""
_MOST_REFUSAL = 1 << 20
"""Maximum bytes of a body with a status other than 200."""
COMPLETE = frozenset(
    {
        "stop", "length", "tool_calls", "function_call",  # OpenAI's
        "repetition",  # vLLM: repeated tokens, which it treats as a stop
        "eos", "eos_token", "stop_sequence", "end_turn", "max_tokens", "model_length", "tool_use",  # others
    }
)  # fmt: skip
"""`finish_reason` values of a complete answer."""
ABORTED = frozenset(
    {
        "abort", "error",  # vLLM's
        "content_filter",  # OpenAI's: a part was removed
        "aborted", "cancelled", "canceled", "failed", "timeout", "insufficient_system_resource",  # others
    }
)  # fmt: skip
"""`finish_reason` values of an answer that the server aborted."""
BURST_NS = 50_000
"""Tokens with smaller gaps were not streamed as they were generated: 20,000 tokens/s in one answer."""


@dataclass(slots=True, eq=False)
class Answer:
    """The state of one answer. Feed it pieces of the body, then ask `verdict` and `doubts`."""

    status: int = NONE
    plain: bool = False
    """The body is not an event stream: it is kept whole, as an error's text or one JSON value. The first
    bytes of a 200 body overrule its headers."""
    stamps: array[int] = field(default_factory=lambda: array("q"))
    """Receive time of each token event, in ns."""
    counts: array[int] = field(default_factory=lambda: array("i"))
    """Tokens of each token event; 0 if the event has no count."""
    counted: int = 0
    """Completion tokens reported so far, by usage or by the token ids of single events."""
    uncounted: bool = False
    """True if some text came without a count."""
    first_chunk_ns: int = NONE
    first_token_ns: int = NONE
    last_token_ns: int = NONE
    last_ns: int = NONE
    completion_tokens: int = NONE
    prompt_tokens: int = NONE
    cached_tokens: int = NONE
    image_tokens: int = NONE
    finish_reason: str | None = None
    done: bool = False
    failure: Failure | None = None
    error: str = ""
    body: bytearray = field(default_factory=bytearray)
    _rest: bytearray = field(default_factory=bytearray)
    """Bytes of an incomplete event."""
    _kind_known: bool = False
    _uncounted_events: int = 0
    """Number of the last token events without a token count."""
    _stalled: int = 0
    """Events with text whose usage count did not grow."""
    _fell: bool = False
    """True if a count was lower than an earlier count."""
    _grew: bool = False
    """True if a count was higher than an earlier count."""
    _summed: bool = False
    """True if the last usage came in its own event: it is the total."""
    _blanks: int = 0
    """Events whose `finish_reason` is an empty string."""
    _other: str = ""
    """The name of text of an unknown kind."""
    _doubts: Doubt = field(default_factory=lambda: Doubt(0))

    # --- bytes in

    def take(self, pieces: Sequence[bytes], stamps: Sequence[int]) -> None:
        """Take pieces of the body, in order, with their receive times.

        The hot path is an event in one piece that adds tokens by its usage. All other pieces take the slow
        path.
        """
        add_stamp, add_count, typed = self.stamps.append, self.counts.append, TYPED.decode
        counted = self.counted
        usual = not self.plain and not self._rest and not self._uncounted_events and self.first_token_ns >= 0
        for piece, stamp in zip(pieces, stamps, strict=True):
            # With more than one line of data it would not be JSON.
            if usual and piece[:6] == b"data: " and piece[-2:] == b"\n\n":
                try:
                    event = typed(piece[6:-2])
                except (ValueError, RecursionError):
                    event = NO_EVENT
                usage, choices = event.usage, event.choices
                if choices and usage is not None and event.error is None:
                    done = usage.completion_tokens
                    if done is not None and done > counted and usage.prompt_tokens_details is None:
                        add_stamp(stamp)
                        add_count(done - counted)
                        counted = done
                        if choices[0].finish_reason is not None:
                            self._finish(choices[0].finish_reason)
                        continue
            self._sync(counted)
            self.piece(piece, stamp)
            counted = self.counted
            usual = (
                not self.plain and not self._rest and not self._uncounted_events and self.first_token_ns >= 0
            )
        self._sync(counted)
        if len(self.stamps) > MOST_EVENTS:
            self.too_large(f"the answer has more than {MOST_EVENTS:,} events with tokens")

    def _sync(self, counted: int) -> None:
        """Write back the state that the hot path kept in local variables."""
        if counted != self.counted:
            self.counted = self.completion_tokens = counted
            self.last_token_ns = self.stamps[-1]
            self._grew, self._summed = True, False

    def piece(self, data: bytes, stamp: int) -> None:
        """Take a piece of the body, in order, with its receive time."""
        if not self._kind_known and self.status in {200, NONE}:
            self._rest += data
            data = bytes(self._rest)
            plain = is_plain(data, self.plain)
            if plain is None:
                return
            self._rest.clear()
            self.plain, self._kind_known = plain, True
            data = data.removeprefix(BOM)
        if self.failure is not None and self.failure is Failure.TOO_LARGE:
            return
        if self.plain:
            self.body += data
            most = MOST_EVENT if self.status in {200, NONE} else _MOST_REFUSAL
            if len(self.body) > most:
                self.too_large(f"the answer is not a stream and is larger than {most >> 20} MiB")
            return
        for block in blocks(self._rest, data):
            self._block(block, stamp)
        if len(self._rest) > MOST_EVENT:
            self.too_large(f"an event is larger than {MOST_EVENT >> 20} MiB")

    def too_large(self, what: str) -> None:
        """Fail the answer because `what` is too large; stop keeping its bytes."""
        self._fail(Failure.TOO_LARGE, what)
        self._rest.clear()

    def _block(self, block: bytes, stamp: int) -> None:
        """Handle the lines of one event."""
        kind, payload = event_and_data(block)
        if not payload:
            return  # a reader of server-sent events dispatches nothing for empty data: a heartbeat
        if kind == b"error":
            self._fail(Failure.IN_BAND_ERROR, payload.decode("utf-8", "replace"))
        self.event(payload, stamp)

    def event(self, payload: bytes, stamp: int) -> None:
        """Handle the data of one event."""
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            self._event(decode(payload), payload, stamp)
        except (ValueError, RecursionError):
            self._fail(Failure.BAD_JSON, payload[:_KEEP].decode("utf-8", "replace"))

    def _event(self, event: Event, payload: bytes, stamp: int) -> None:
        if self.first_chunk_ns < 0:
            self.first_chunk_ns = stamp
        added = None if event.usage is None else self._usage(event.usage, alone=not event.choices)
        if event.error or event.object == "error":
            self._fail(Failure.IN_BAND_ERROR, error_message(event) or "")
        elif event.choices:
            self._choice(event.choices[0], added, payload, stamp)
        elif event.usage is None:
            self._look_for_text(payload, known=False)

    def _usage(self, usage: Usage, *, alone: bool) -> int | None:
        """Take a usage; return the tokens that its count added, or None if it has no usable count."""
        if usage.prompt_tokens is not None:
            self.prompt_tokens = usage.prompt_tokens
        if usage.prompt_tokens_details is not None:
            self._details(usage.prompt_tokens_details)
        done = usage.completion_tokens
        if done is None:
            return None
        if done < 0:
            self._doubts |= Doubt.USAGE
            return None
        self.completion_tokens, self._summed = done, alone
        if done < self.counted:
            self._fell = True
            return None
        return done - self.counted

    def _choice(self, choice: Choice, added: int | None, payload: bytes, stamp: int) -> None:
        """Count the tokens that a choice adds."""
        if choice.finish_reason is not None:
            self._finish(choice.finish_reason)
        if choice.message is not None and choice.delta is None:
            self._doubts |= Doubt.ONE_PIECE
        if not added and choice.token_ids is not None:
            added = len(choice.token_ids)
        if not added and not choice.visible and (added is not None or not self._look_for_text(payload)):
            return
        if self.first_token_ns < 0:
            self.first_token_ns = stamp
        self.last_token_ns = stamp
        self.stamps.append(stamp)
        self.counts.append(added or 0)
        if not added:
            self._uncounted_events += 1
            self._stalled += added is not None
            self.uncounted |= added is None
            return
        self._grew |= self.counted > 0
        self.counted += added
        if self._uncounted_events:
            self._share(added, self._uncounted_events + 1)

    def _look_for_text(self, payload: bytes, *, known: bool = True) -> bool:
        """True if an event without known text has text under another name; doubt unknown names.

        Without choices, every name is unknown.
        """
        name, kind = other_text(payload)
        if kind is OtherText.UNKNOWN or (kind is OtherText.TEXT and not known):
            self._other = self._other or name
            self._doubts |= Doubt.UNKNOWN_TEXT
        return kind is OtherText.TEXT

    def _share(self, tokens: int, events: int) -> None:
        """Share tokens out evenly over the last events."""
        first = len(self.counts) - events
        for i in range(events):
            self.counts[first + i] = tokens * (i + 1) // events - tokens * i // events
        self._uncounted_events = 0

    def _finish(self, reason: str) -> None:
        """Record why the answer ended; an empty reason never replaces a word."""
        if reason:
            self.finish_reason = reason
            return
        self._blanks += 1
        self.finish_reason = self.finish_reason or ""

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

    @property
    def can_end(self) -> bool:
        """True if a body that only the connection's end can end has everything it needs."""
        return self.done or self.plain or bool(self.finish_reason)

    def end(self) -> None:
        """End a complete body: read a last event without a blank line, or a body that is not a stream."""
        if self.plain:
            body = bytes(self.body.strip())
            if self.status == 200 and body:
                self.event(body, self.last_ns)
                self.done = self.failure is None
            return
        rest = bytes(self._rest.strip())
        self._rest.clear()
        if rest:
            quiet = self.failure
            self._block(rest, self.last_ns)
            if quiet is None and self.failure is Failure.BAD_JSON:
                # Half an event at the end is a truncation, not a fault of its JSON.
                self.failure, self.error = Failure.TRUNCATED, "the answer ended inside an event"

    def output_tokens(self) -> int:
        """Tokens of the answer: usage, else token ids; NONE if neither came, or the count is impossible.

        A sum below the number of events with text is believed only if it came in its own event, at the end,
        or grew with the text.
        """
        total, events = self.completion_tokens, len(self.stamps)
        if total < 0:
            known = not self._uncounted_events and self.first_chunk_ns >= 0 and not self._doubts & Doubt.USAGE
            return self.counted if known else NONE
        if total >= max(self._texts(), self.counted):
            return total
        if total and (self._summed or (self._grew and not self._fell)):
            return total
        return NONE if events else total

    def _texts(self) -> int:
        """Token events, less those that may have shown the text of an already counted token."""
        events = len(self.stamps)
        return events - min(self._stalled, _held_back(events))

    def token_counts(self) -> array[int]:
        """Tokens of each token event; zeros if the server gave no counts. Call it after the last piece.

        Missing counts are shared out evenly over the events without one; what the sum has beyond the events'
        own counts belongs to the last event.
        """
        total, events = self.output_tokens(), len(self.counts)
        if not events:
            return self.counts
        if total < 0:
            self.counts = array("i", bytes(4 * events))
        elif self._fell or total < self.counted:
            self._share(total, events)
        elif total > self.counted:
            left, self.counted = total - self.counted, total
            if self._uncounted_events:
                self._share(left, self._uncounted_events)
            else:
                self.counts[-1] += left
        return self.counts

    def doubts(self, osl_asked: int) -> Doubt:
        """Contradictions in a completed answer. Call it before `token_counts`."""
        doubts, reported, events = self._doubts, self.completion_tokens, len(self.stamps)
        if events and reported >= 0:
            leap = reported - self.counted if self.counted and not self._uncounted_events else 0
            if self._fell or self._texts() > reported or leap > 1 or self._stalled > _held_back(events):
                doubts |= Doubt.USAGE
        tokens = self.output_tokens()
        most = max(tokens, events)
        if (events >= BURST_EVENTS or most >= BURST_TOKENS) and (
            self.last_token_ns - self.first_token_ns < BURST_NS * (most - 1)
        ):
            doubts |= Doubt.ONE_PIECE
        if self.plain:
            doubts |= Doubt.ONE_PIECE
        if not 0 <= osl_asked <= tokens and _word(self.finish_reason) not in COMPLETE:
            doubts |= Doubt.END
        return doubts

    def verdict(self, *, complete: bool, osl_asked: int, ignore_eos: bool) -> Failure | None:
        """The failure class of the ended answer, None for success.

        Args:
            complete: True if the body's end was received.
            osl_asked: requested tokens.
            ignore_eos: True if the server was told not to stop earlier.
        """
        if self.status not in {200, NONE}:
            self.error = self._status_error()
            return Failure.HTTP_STATUS
        if self.failure is not None:
            return self.failure
        if not complete or not (self.done or self.finish_reason):
            self.error = "the answer ended without a finish_reason or [DONE]"
            return Failure.TRUNCATED
        tokens, reason = self.output_tokens(), self.finish_reason
        # An empty reason is null in many events; alone at the end it hides the true reason.
        hidden = reason == "" and self._blanks == 1 and tokens < osl_asked
        if hidden or _word(reason) in ABORTED:
            self.error = (
                f"finish_reason {reason!r} after {max(tokens, len(self.stamps))} of {osl_asked} tokens"
            )
            return Failure.ABORTED
        if not self.stamps or (ignore_eos and 0 <= tokens < osl_asked):
            self.error = f"{max(tokens, 0)} of {osl_asked} tokens, finish_reason {reason}"
            if self._other:
                self.error += f"; the text was in the unknown field `{self._other}`"
            return Failure.EARLY_STOP
        return None

    def _status_error(self) -> str:
        try:
            message = error_message(decode(self.body))
        except (ValueError, RecursionError):
            message = None
        text = message or self.body.decode("utf-8", "replace")
        return f"{self.status}: {text}"[:_KEEP]


def _held_back(events: int) -> int:
    """Maximum number of events that may show text held back from already counted tokens."""
    return 1 + events // 10


def _word(reason: str | None) -> str:
    return (reason or "").lower().replace("-", "_")
