"""The fields of one SSE event's JSON that a benchmark needs. Pure."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from rocbench.load.othertext import holds_text

MOST = 1 << 30
"""Maximum token count."""
NO_COUNT = -1
"""Replaces an impossible count: a fraction, negative, too large, or not a number."""

TokenCount = Annotated[int, msgspec.Meta(ge=0, le=MOST)]

# Typed decoding skips unused fields: 0.6 us for an event of vLLM, against 1.1 us for all of it.


class PromptDetails(msgspec.Struct, gc=False):
    """`usage.prompt_tokens_details`."""

    cached_tokens: TokenCount | None = None
    multimodal_tokens: TokenCount | None = None
    """vLLM >= 0.33 with --enable-prompt-tokens-details."""
    image_tokens: TokenCount | None = None


class Usage(msgspec.Struct, gc=False):
    """`usage`."""

    prompt_tokens: TokenCount | None = None
    completion_tokens: TokenCount | None = None
    prompt_tokens_details: PromptDetails | None = None


class Delta(msgspec.Struct, gc=False):
    """`choices[].delta` of chat."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    """The name of vLLM before 0.16."""
    tool_calls: list[msgspec.Raw] | None = None


class Choice(msgspec.Struct, gc=False):
    """`choices[]`, of completions and of chat."""

    text: str | None = None
    delta: Delta | None = None
    message: Delta | None = None
    """In answers that are not streamed."""
    finish_reason: str | None = None
    token_ids: list[int] | None = None

    @property
    def visible(self) -> bool:
        """True if it holds text, reasoning or a tool call."""
        if self.text:
            return True
        delta = self.delta or self.message
        return delta is not None and bool(
            delta.content or delta.reasoning or delta.reasoning_content or delta.tool_calls
        )


class Event(msgspec.Struct, gc=False):
    """One event."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None
    object: str | None = None
    message: Any = None


TYPED = msgspec.json.Decoder(Event)
"""Raises ValueError also for fields of unexpected types; `decode` does not."""

NO_EVENT = Event()


def decode(payload: bytes | bytearray) -> Event:
    """The event. Raises ValueError if it is not JSON, or nested too deep; mistyped fields count as absent."""
    try:
        return TYPED.decode(payload)
    except msgspec.ValidationError:
        pass
    except RecursionError as error:
        raise ValueError(str(error)) from None
    try:
        return _lenient(msgspec.json.decode(payload))
    except RecursionError as error:
        raise ValueError(str(error)) from None


def _lenient(value: Any) -> Event:
    """The readable parts of an event with unexpected types."""
    if not isinstance(value, dict):
        raise ValueError("an event must be a JSON object")  # noqa: TRY004 - it is the wire that is wrong
    event = Event(error=value.get("error"), message=value.get("message"))
    if isinstance(value.get("object"), str):
        event.object = value["object"]
    choices = value.get("choices")
    if isinstance(choices, list):
        event.choices = [_lenient_choice(choice) for choice in choices if isinstance(choice, dict)]
    usage = value.get("usage")
    if isinstance(usage, dict):
        prompt = _count(usage.get("prompt_tokens"))
        event.usage = Usage(None if prompt == NO_COUNT else prompt, _count(usage.get("completion_tokens")))
        event.usage.prompt_tokens_details = _lenient_details(usage.get("prompt_tokens_details"))
    return event


def _lenient_details(details: Any) -> PromptDetails | None:
    if not isinstance(details, dict):
        return None
    by_kind = details.get("multimodal_tokens")
    if isinstance(by_kind, dict):  # vLLM counts the tokens of each kind of input
        by_kind = by_kind.get("image")
    counts = (_count(value) for value in (details.get("cached_tokens"), by_kind, details.get("image_tokens")))
    return PromptDetails(*(None if count == NO_COUNT else count for count in counts))


def _lenient_choice(choice: dict[str, Any]) -> Choice:
    content = choice.get("delta") or choice.get("message")
    content = content if isinstance(content, dict) else {}
    parts = [
        choice.get("text"),
        *(content.get(name) for name in ("content", "reasoning", "reasoning_content")),
    ]
    ids = choice.get("token_ids")
    delta = Delta(tool_calls=[msgspec.Raw(b"{}")]) if content.get("tool_calls") else None
    return Choice(
        text="".join(str(part) for part in parts if holds_text(part) or isinstance(part, (int, float))),
        delta=delta,
        message=Delta() if isinstance(choice.get("message"), dict) and "delta" not in choice else None,
        finish_reason=None if (reason := choice.get("finish_reason")) is None else str(reason),
        token_ids=ids if isinstance(ids, list) else None,
    )


def _count(value: Any) -> int | None:
    """A token count; None if absent, NO_COUNT if impossible."""
    if value is None:
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST:
        return NO_COUNT
    return int(value) if value == int(value) else NO_COUNT


def error_message(event: Event) -> str | None:
    """The message of an in-band error, or None. vLLM sends {"error": {...}}, before 0.9 {"object": "error"}."""
    error = event.error
    if not error:
        if event.object != "error":
            return None
        error = event.message or "error"
    if isinstance(error, dict):
        error = error.get("message") or error
    return str(error)
