"""Facts on what a vLLM release knows: values of flags, and architecture classes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rocbench.rules.flags import Name, Names, lives, present, takes
from rocbench.rules.versions import release


def choices(
    flags: Mapping[str, Any], vllm: str | None, names: Names, skip: Collection[str]
) -> dict[str, Any]:
    """The facts of the first flag whose value argparse refuses, except those in `skip`."""
    valid: bool | None = True
    for flag, value in flags.items():
        known = names.values.get(flag)
        if known is None or flag in skip or not isinstance(value, str | int) or isinstance(value, bool):
            continue  # a bare flag, or a list
        if value in _NO_CHOICE:
            continue
        taken = takes(flag, value, vllm, names)
        if taken is False and lives(flag, vllm, names):
            there = [choice for choice, name in known.items() if present(name, vllm, names)]
            numbers = all(choice.isdigit() for choice in there)
            listed = ", ".join(map(str, sorted(map(int, there))) if numbers else map(repr, sorted(there)))
            return {
                "choices_valid": False,
                "choices_said": f"--{flag}: invalid choice: {value!r} (choose from {listed})",
            }
        valid = None if taken is None else valid
    return {"choices_valid": valid, "choices_said": ""}


_NO_CHOICE = ("", "None")
"""Values that are not checked against a fixed set, because argparse may read them as None."""


def missing(known: Sequence[Name], named: Sequence[str], vllm: str | None, names: Names) -> bool | None:
    """True if this vLLM is older than every architecture class of the model. None if unknown: vLLM serves some
    classes that it removed or never had through Transformers."""
    if any(present(entry, vllm, names) for entry in known) and vllm is not None:
        return False
    if len(known) < len(named) or not known:
        return None if any(_GENERATES.search(name) for name in named) and not known else False
    if vllm is None:
        return None if all(entry.spans[0][0] for entry in known) else False
    return all(older(vllm, entry.spans[0][0]) for entry in known) or None


_GENERATES = re.compile(r"For(CausalLM|ConditionalGeneration)$")
"""Architecture classes that architectures.yaml lists."""


def older(vllm: str | None, first: str | None) -> bool | None:
    """True if this vLLM is older than the release `first`; None if unknown."""
    if first is None:
        return False
    return None if vllm is None else release(vllm) < release(first)
