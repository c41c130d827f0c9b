"""Requests of the OpenAI API as the engine sees them, with vLLM's errors. Pure.

A token is four bytes: its id, or a hash of a word. The simulated tokenizer counts words: any text between
spaces is one token, so that an answer sent back counts the same.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from rocbench.model.images import ImageRule

TOKEN_BYTES = 4
WORDS = tuple(b" %c%c%c" % (97 + i % 26, 97 + i // 26 % 26, 97 + i * 7 % 26) for i in range(997))
"""Texts of the answer tokens, in turn."""
_WORD_TOKENS = tuple((hash(word.decode().strip()) & 0xFFFFFFFF).to_bytes(4, "little") for word in WORDS)
FIRST_ID = 1000
"""First id of these tokens."""
CHAT_MARKS = 5
"""Tokens that the chat template adds per message."""
ONE_PROMPT = "The simulated server takes one prompt per request."


class ApiError(Exception):
    """An error body: `{"error": {"message", "type", "param", "code"}}`."""

    def __init__(
        self, code: int, message: str, kind: str = "BadRequestError", param: str | None = None
    ) -> None:
        self.code = code
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        super().__init__(message)


Wording = Literal["0.14", "0.17", "0.32"]
"""Version of vLLM's messages: those of 0.14.1 and 0.16; of 0.20.2 to 0.30; of 0.32 and 0.33."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits for requests."""

    served_names: tuple[str, ...]
    max_model_len: int
    vocab_size: int
    image: ImageRule | None
    max_images: int
    wording: Wording


@dataclass(slots=True)
class ApiRequest:
    """A checked request."""

    chat: bool
    tokens: bytes
    """The prompt, four bytes per token."""
    image_tokens: int
    max_tokens: int
    min_tokens: int
    ignore_eos: bool
    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool
    by_id: bool
    """True if the prompt came as token ids."""
    salt: str
    model: str

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt, image tokens included."""
        return len(self.tokens) // TOKEN_BYTES

    @property
    def prompt_ids(self) -> list[int]:
        """The prompt as token ids."""
        return array("I", self.tokens).tolist()


def parse_request(body: bytes, limits: Limits, *, chat: bool) -> ApiRequest:
    """Parse and check a body. Raises ApiError."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"[{{'type': 'json_invalid', 'msg': '{error}'}}]", "Bad Request") from None
    if not isinstance(fields, dict):
        raise ApiError(400, "The body must be a JSON object.", "Bad Request")
    _check_model(fields, limits)
    if fields.get("n") not in (None, 1):
        raise ApiError(400, "The simulated server answers with one choice only (n=1).", param="n")
    temperature = fields.get("temperature") or 0.0
    if not isinstance(temperature, (int, float)) or temperature < 0:
        raise ApiError(400, f"temperature must be non-negative, got {temperature}.", param="temperature")
    tokens, image_tokens, by_id = _chat_prompt(fields, limits) if chat else _prompt(fields, limits)
    options = fields.get("stream_options") or {}
    if options and not fields.get("stream"):
        raise ApiError(400, "Stream options can only be defined when `stream=True`.", param="stream_options")
    max_tokens = _max_tokens(fields, len(tokens) // TOKEN_BYTES, limits, chat=chat)
    min_tokens = int(fields.get("min_tokens") or 0)
    if min_tokens > max_tokens:
        raise ApiError(
            400, f"min_tokens must be less than or equal to max_tokens={max_tokens}, got {min_tokens}."
        )
    return ApiRequest(
        chat=chat,
        tokens=tokens,
        image_tokens=image_tokens,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        ignore_eos=bool(fields.get("ignore_eos")),
        stream=bool(fields.get("stream")),
        include_usage=bool(options.get("include_usage")),
        continuous_usage=bool(options.get("continuous_usage_stats")),
        return_token_ids=bool(fields.get("return_token_ids")),
        by_id=by_id,
        salt=str(fields.get("cache_salt") or ""),
        model=fields.get("model") or limits.served_names[0],
    )


def block_hashes(tokens: bytes, block_size: int, salt: str) -> tuple[int, ...]:
    """Hashes of the full blocks, each covering all tokens before it."""
    size = block_size * TOKEN_BYTES
    chain, hashes = hash(salt), []
    for start in range(0, len(tokens) - size + 1, size):
        chain = hash((chain, tokens[start : start + size]))
        hashes.append(chain)
    return tuple(hashes)


def answer_tokens(offset: int, count: int, *, by_id: bool) -> bytes:
    """The answer that starts with word `offset`, four bytes per token."""
    places = [(offset + place) % len(WORDS) for place in range(count)]
    if by_id:
        return array("I", [FIRST_ID + place for place in places]).tobytes()
    return b"".join([_WORD_TOKENS[place] for place in places])


def text_tokens(text: str) -> bytes:
    """One token per word."""
    return array("I", [hash(word) & 0xFFFFFFFF for word in text.split()]).tobytes()


def _check_model(fields: Mapping[str, Any], limits: Limits) -> None:
    model = fields.get("model")
    if model and model not in limits.served_names:
        aliases = f" Valid aliases: {', '.join(limits.served_names)}." if limits.wording == "0.32" else ""
        raise ApiError(404, f"The model `{model}` does not exist.{aliases}", "NotFoundError", "model")


def _prompt(fields: Mapping[str, Any], limits: Limits) -> tuple[bytes, int, bool]:
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], (list, str)):
        prompt = prompt[0]
    if isinstance(prompt, str) and prompt.strip():
        return text_tokens(prompt), 0, False
    if isinstance(prompt, list) and len(prompt) > 1 and all(isinstance(item, (list, str)) for item in prompt):
        raise ApiError(400, ONE_PROMPT, param="prompt")
    if not isinstance(prompt, list) or not all(type(token) is int for token in prompt[:1]):
        raise ApiError(400, "Either prompt or prompt_embeds must be provided and non-empty.", param="prompt")
    if not prompt:
        raise ApiError(400, "The decoder prompt cannot be empty")
    try:
        highest, lowest = max(prompt), min(prompt)
        if highest < limits.vocab_size and lowest >= 0:
            return array("I", prompt).tobytes(), 0, True
    except TypeError:
        raise ApiError(400, ONE_PROMPT, param="prompt") from None
    wrong = highest if lowest >= 0 else lowest
    raise ApiError(
        400, f"Token id {wrong} is out of vocabulary", param="prompt" if limits.wording == "0.32" else None
    )


def _chat_prompt(fields: Mapping[str, Any], limits: Limits) -> tuple[bytes, int, bool]:
    parts: list[bytes] = []
    image_tokens = images = 0
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "List should have at least 1 item after validation", param="messages")
    for message in messages:
        parts.append(_mark(message.get("role", "user")))
        content = message.get("content") or ""
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part.get("type") == "text":
                parts.append(text_tokens(part.get("text") or ""))
                continue
            images += 1
            if limits.image is None:
                raise ApiError(400, f"{fields.get('model')} is not a multimodal model")
            if images > limits.max_images:
                raise ApiError(
                    400, f"At most {limits.max_images} image(s) may be provided in one prompt.", param="image"
                )
            data = _image_bytes(part)
            count = limits.image.tokens(*image_size(data))
            image_tokens += count
            parts.append(struct.pack("<I", zlib.crc32(data)) * count)
    parts.append(_mark("assistant"))
    return b"".join(parts), image_tokens, False


def _mark(role: object) -> bytes:
    """The tokens that the chat template puts before a message."""
    return text_tokens(f"<|{role}|>") * CHAT_MARKS


def _image_bytes(part: Mapping[str, Any]) -> bytes:
    url = (part.get("image_url") or {}).get("url", "")
    head, comma, data = url.partition(",")
    if not (comma and head.startswith("data:image/") and head.endswith(";base64")):
        raise ApiError(400, "The simulated server takes images as base64 data URLs only.", param="image")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ApiError(400, f"Failed to load image: {error}", param="image") from None


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height from a PNG or JPEG header. Raises ApiError."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    position = 2
    while data[:2] == b"\xff\xd8" and position + 9 < len(data):
        marker, length = data[position + 1], struct.unpack(">H", data[position + 2 : position + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return width, height
        position += 2 + length
    raise ApiError(400, "cannot identify image file", param="image")


def _max_tokens(fields: Mapping[str, Any], prompt_tokens: int, limits: Limits, *, chat: bool) -> int:
    longest = limits.max_model_len
    name = "max_completion_tokens" if chat and fields.get("max_completion_tokens") else "max_tokens"
    given = fields.get(name)
    if given is None:
        given = longest - prompt_tokens if chat else 16
    if not isinstance(given, int) or given < 1:
        raise ApiError(400, f"max_tokens must be at least 1, got {given}.", param=name)
    if given > longest:
        doubled = "max_total_tokens=" if limits.wording == "0.17" else ""
        message = (
            f"'max_tokens' ({given}) cannot be greater than the model's maximum context length ({longest})."
            if limits.wording == "0.14"
            else f"{name}={given} cannot be greater than max_model_len={doubled}{longest}. "
            "Please request fewer output tokens."
        )
        raise ApiError(400, message, param=name)
    cut = limits.wording == "0.32"  # the answer is cut silently if prompt and answer are too long together
    if prompt_tokens >= longest or (prompt_tokens + given > longest and not cut):
        raise _too_long(prompt_tokens, given, longest, limits, chat=chat)
    return min(given, longest - prompt_tokens)


def _too_long(prompt_tokens: int, given: int, longest: int, limits: Limits, *, chat: bool) -> ApiError:
    message = f"This model's maximum context length is {longest} tokens. However, "
    if limits.wording == "0.32":
        message += (
            f"your prompt contains {prompt_tokens} input tokens, which exceeds this limit even without any "
            "output tokens. Please reduce the length of the input prompt."
        )
    elif limits.wording == "0.17":
        message += (
            f"you requested {given} output tokens and your prompt contains {prompt_tokens} input tokens, for a "
            f"total of {prompt_tokens + given} tokens. Please reduce the length of the input prompt or the "
            "number of requested output tokens."
        )
    elif prompt_tokens >= longest or not chat:
        room = longest if chat else longest - given
        message = (
            f"This model's maximum context length is {room} tokens. However, your request has {prompt_tokens} "
            "input tokens. Please reduce the length of the input messages."
        )
    else:
        message = (
            f"'max_tokens' or 'max_completion_tokens' is too large: {given}. This model's maximum context "
            f"length is {longest} tokens and your request has {prompt_tokens} input tokens "
            f"({given} > {longest} - {prompt_tokens})."
        )
        return ApiError(400, message, param="max_tokens")
    return ApiError(400, message, param="input_tokens")
