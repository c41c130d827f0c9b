"""User-defined fields of each request's body. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rocbench import jsontext
from rocbench.errors import InputError
from rocbench.variables import is_secret

OURS = {
    "model": "use --model, or the sweep's `models`",
    "prompt": "the workload sets it",
    "prompt_embeds": "the workload sets it",
    "messages": "the workload sets it",
    "max_tokens": "use --osl, or the workload's `osl`",
    "max_completion_tokens": "use --osl, or the workload's `osl`",
    "min_tokens": "use the workload's `ignore_eos`",
    "ignore_eos": "use the workload's `ignore_eos`",
    "stream": "answers are always streamed",
    "stream_options": "token counts are always requested",
    "return_token_ids": "token counts are always requested",
    "n": "one answer is measured for each request",
    "best_of": "one answer is measured for each request",
    "use_beam_search": "one answer is measured for each request",
    "echo": "an echoed prompt would count as output",
    "request_id": "bench gives each request its own id",
}
"""Fields that users may not set: they decide what is measured. Each with the setting that decides it."""


def check(fields: Mapping[str, Any]) -> None:
    """Refuse fields that the load sets itself, and secrets, which would be written to files.

    Raises:
        ValueError: names the field and the setting that decides it.
    """
    for name in fields:
        if name in OURS:
            raise ValueError(f"`extra_body` may not set {name!r}: {OURS[name]}")
    for name in _names(fields):
        if is_secret(name):
            raise ValueError(
                f"`extra_body` may not contain {name!r}: this is a secret, and bodies are written to files; send it in a header"
            )


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name)
            yield from _names(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _names(item)


def parse(text: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        InputError: the text is not a JSON object, or repeats a field.
    """
    fix = "give a JSON object: '{\"top_p\": 0.9}'"
    fields = jsontext.parse(text, "--extra-body", fix=fix)
    if not isinstance(fields, dict):
        raise InputError("is JSON, but not an object", where="--extra-body", fix=fix)
    return fields
