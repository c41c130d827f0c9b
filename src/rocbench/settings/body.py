"""Further fields of each request's body, as a user names them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rocbench import jsontext
from rocbench.errors import InputError
from rocbench.variables import is_secret

OURS = {
    "model": "--model, or the sweep's `models`",
    "prompt": "the workload",
    "prompt_embeds": "the workload",
    "messages": "the workload",
    "max_tokens": "--osl, or the workload's `osl`",
    "max_completion_tokens": "--osl, or the workload's `osl`",
    "min_tokens": "the workload's `ignore_eos`",
    "ignore_eos": "the workload's `ignore_eos`",
    "stream": "answers are always streamed",
    "stream_options": "token counts are always asked for",
    "return_token_ids": "token counts are always asked for",
    "n": "one answer is measured for each request",
    "best_of": "one answer is measured for each request",
    "use_beam_search": "one answer is measured for each request",
    "echo": "a prompt that is repeated would count as output",
    "request_id": "each request has its own",
}
"""Fields that decide what is measured, and what decides them instead."""


def check(fields: Mapping[str, Any]) -> None:
    """Refuse fields that are the load's own, and secrets, which would stand in files.

    Raises:
        ValueError: which field, and what decides it.
    """
    for name in fields:
        if name in OURS:
            raise ValueError(f"`extra_body` may not set {name!r}: {OURS[name]}")
    for name in _names(fields):
        if is_secret(name):
            raise ValueError(
                f"`extra_body` may not hold {name!r}: a secret in a body would stand in files; give it as a header"
            )


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, held in value.items():
            yield str(name)
            yield from _names(held)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _names(item)


def parse(text: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: it is none, or names a field twice.
    """
    fix = "give an object: '{\"top_p\": 0.9}'"
    found = jsontext.parse(text, "--extra-body", fix=fix)
    if not isinstance(found, dict):
        raise InputError("this is JSON, and no object", where="--extra-body", fix=fix)
    return found
