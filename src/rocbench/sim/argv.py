"""Parser for the argv of `vllm serve`, with vLLM's errors. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rocbench.rules.flags import Names, canonical, lives

FlagText = str | bool | tuple[str, ...]


class UsageError(Exception):
    """The message that argparse prints before it exits with code 2."""


@dataclass(frozen=True, slots=True)
class ServeArgv:
    """The model, and flags by name without dashes: True or False for switches, text, or texts."""

    model: str
    flags: dict[str, FlagText]

    def text(self, name: str) -> str | None:
        """The flag's value; None if it is not given."""
        value = self.flags.get(name)
        return value if isinstance(value, str) else None

    def integer(self, name: str, default: int) -> int:
        """The flag as an integer. `32k` and `32K` are 32,000 and 32,768, as in vLLM."""
        value = self.text(name)
        return default if value is None else human_integer(value, name)

    def number(self, name: str, default: float) -> float:
        """The flag as a float."""
        value = self.text(name)
        try:
            return default if value is None else float(value)
        except ValueError:
            raise UsageError(f"argument --{name}: invalid float value: {value!r}") from None

    def switch(self, name: str, *, default: bool = False) -> bool:
        """True if a switch is on."""
        value = self.flags.get(name)
        return value if isinstance(value, bool) else default


def human_integer(text: str, name: str) -> int:
    """`4096`, `32k` (x1000), `32K` (x1024)."""
    scale = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:])
    try:
        return int(text) if scale is None else int(float(text[:-1]) * scale)
    except ValueError:
        raise UsageError(f"argument --{name}: invalid int value: {text!r}") from None


def parse(argv: Sequence[str], version: str, names: Names) -> ServeArgv:
    """Parse the arguments after `vllm serve`. Raises UsageError with argparse's message."""
    flags: dict[str, FlagText] = {}
    model: str | None = None
    unknown: list[str] = []
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        if not word.startswith("-"):
            if model is None:
                model = word
            else:
                unknown.append(word)
            continue
        spelling, equals, value = word.partition("=")
        leaf, positive = canonical(spelling, names)
        name = leaf.partition(".")[0]
        if not lives(name, version, names):
            unknown.append(word)
        elif names.flags[name].kind in {"bool", "switch"}:
            flags[name] = positive
        else:
            values = [value] if equals else []
            while not equals and position < len(argv) and not _is_flag(argv[position]):
                values.append(argv[position])
                position += 1
                if name != "served-model-name":
                    break
            if not values:
                raise UsageError(f"argument --{name}: expected one argument")
            flags[name] = values[0] if len(values) == 1 else tuple(values)
    if unknown:
        raise UsageError("unrecognized arguments: " + " ".join(unknown))
    chosen = model or flags.get("model")
    if not isinstance(chosen, str):
        raise UsageError("a model must be named: vllm serve MODEL")
    return ServeArgv(chosen, flags)


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not word[1:2].isdigit()
