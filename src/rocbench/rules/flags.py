"""Serve flags as leaves: `-`, `_` and dotted spellings are one flag, and JSON flags are merged key by key.

`tensor_parallel_size`, `tp` and `--tensor-parallel-size` are `tensor-parallel-size`. The keys of a JSON flag are
leaves of their own (`compilation-config.cudagraph_mode`), so that a rule can set one next to a user's others.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import isfinite
from typing import Any, Literal

from packaging.version import Version

from rocbench import jsontext
from rocbench.errors import InputError
from rocbench.redact import masked_entry
from rocbench.rules.versions import release
from rocbench.settings.schema import FlagValue

Kind = Literal["bool", "switch", "int", "float", "str", "json"]
"""A switch is a boolean without a `--no-` form: False leaves it unset."""
_HUMAN = re.compile(r"(\d+(?:\.\d+)?)([kmgtKMGT])")
LARGEST = 2**63
"""Maximum number of any flag: vLLM and PyTorch use 64 bits."""
_SAME = {"attention-config.backend": "attention-backend"}
"""Keys of JSON flags that are also separate flags; vLLM refuses both at once."""
_SHORT = {"cc": "compilation-config", "ac": "attention-config", "sc": "speculative-config"}


ANY = "*"
"""In the values of a flag: the releases in which it takes any value."""


@dataclass(frozen=True, slots=True)
class Name:
    """A flag or variable: its type, and the releases that have it."""

    kind: Kind = "str"
    spans: tuple[tuple[str | None, str | None], ...] = ((None, None),)
    """First and last release of each run of releases that have it (None: no bound); several if it went and came back."""
    also: tuple[str, ...] = ()

    @property
    def tested_as(self) -> Literal["bool", "int", "float", "str"]:
        """The type of a rule's test of its value."""
        match self.kind:
            case "switch":
                return "bool"
            case "json":
                return "str"
            case kind:
                return kind


@dataclass(frozen=True, slots=True)
class Names:
    """All flags and variables of the checked releases."""

    releases: tuple[str, ...]
    flags: Mapping[str, Name]
    env: Mapping[str, Name]
    values: Mapping[str, Mapping[str, Name]] = field(default_factory=dict)
    """Allowed values of flags with a fixed set."""

    def choices(self, flag: str) -> Iterable[str]:
        """The values of a flag with a fixed set in every release that has it; empty for the others."""
        known = self.values.get(flag, {})
        return () if ANY in known else known

    def aliases(self) -> dict[str, str]:
        """Short names to full ones."""
        return _SHORT | {short: full for full, name in self.flags.items() for short in name.also}


def lives(name: str, vllm: str | None, names: Names) -> bool:
    """True if this vLLM version, or any if it is unknown, has a flag (any leaf of it) or variable.

    A name last seen in 0.16.0 is assumed to exist until the next checked release.
    """
    return present(
        names.env.get(name) if name.isupper() else names.flags.get(name.partition(".")[0]), vllm, names
    )


def missing(name: str, vllm: str | None, names: Names) -> str | None:
    """A hint on a flag (any leaf of it) or variable that this vLLM version lacks; None if it has it.

    The hint names the releases with the name, or the nearest known name; it can be empty. Without a version,
    the name is missing if no release has it.
    """
    if lives(name, vllm, names):
        return None
    known = names.env if name.isupper() else names.flags
    root = name.partition(".")[0]
    entry = known.get(root)
    return nearest(root, known) if entry is None else f" ({where(entry)})"


def where(entry: Name) -> str:
    """The releases that have a name, as text."""
    if len(entry.spans) == 1:
        ((since, until),) = entry.spans
        if since is None or until is None:
            return f"vLLM has it since {since}" if since else f"vLLM had it until {until}"
    runs = [
        f"{since} to {until}" if since and until else f"{since} on" if since else f"up to {until}"
        for since, until in entry.spans
    ]
    return f"only vLLM {' and '.join(runs)} have it"


FOLDED = frozenset({"moe-backend", "linear-backend", "sparse-indexer-topk-backend"})
"""Flags whose value vLLM reads in lower case and with `_` for `-` (engine/arg_utils.py)."""


def takes(flag: str, value: Any, vllm: str | None, names: Names) -> bool | None:
    """True if this vLLM version accepts a value of a flag; None if only an unchecked release could."""
    known = names.values.get(flag)
    text = str(value).lower().replace("-", "_") if flag in FOLDED else str(value)
    if known is None or any(present(known.get(entry), vllm, names) for entry in (text, ANY)):
        return True
    return None if vllm is None or newer(vllm, names) else False


def newer(vllm: str, names: Names) -> bool:
    """True if this version is newer than the last checked release, so that its names and rules are assumed."""
    return release(vllm) > release(names.releases[-1])


def assumption(vllm: str | None, names: Names) -> str:
    """A remark for what is true of the last checked release and said of a newer one; empty for the others."""
    if vllm is None or not newer(vllm, names):
        return ""
    return f" (assumed: vLLM {vllm} was not read, this is so in {names.releases[-1]})"


def present(entry: Name | None, vllm: str | None, names: Names) -> bool:
    """True if this vLLM version, or any if it is unknown, has a name."""
    if entry is None or vllm is None:
        return entry is not None
    asked = release(vllm)
    return any(_inside(asked, since, until, names.releases) for since, until in entry.spans)


def _inside(asked: Version, since: str | None, until: str | None, releases: Sequence[str]) -> bool:
    if since is not None and asked < release(since):
        return False
    return until is None or asked < release(releases[releases.index(until) + 1])


def canonical(name: str, names: Names) -> tuple[str, bool]:
    """The leaf of a spelling, and False if it is the `no-` form of a boolean flag."""
    root, dot, path = name.strip().lstrip("-").partition(".")
    root = root.replace("_", "-")
    aliases = names.aliases()
    positive = True
    if root not in names.flags and root.startswith("no-"):
        bare = aliases.get(root[3:], root[3:])
        if bare in names.flags and names.flags[bare].kind == "bool":
            root, positive = bare, False
    root = aliases.get(root, root)
    return root + dot + path.replace("-", "_"), positive


def opposite(root: str, names: Names) -> str | None:
    """`enable-x` for `disable-x`, or the reverse, if that is the older flag; releases since 0.33 have each pair."""
    prefix, dash, rest = root.partition("-")
    other = {"enable": "disable", "disable": "enable"}.get(prefix, "") + dash + rest
    this, older = names.flags.get(root), names.flags.get(other)
    if this is None or older is None or this.spans[0][0] is None:
        return None
    since = older.spans[0][0]
    return other if since is None or release(since) < release(this.spans[0][0]) else None


def leaves(args: Mapping[str, FlagValue], names: Names, where: str) -> dict[str, Any]:
    """Arguments as leaves.

    Raises:
        InputError: a flag has two values, or a value does not fit its type.
    """
    settings: dict[str, Any] = {}
    for name, value in args.items():
        leaf, positive = canonical(name, names)
        if (older := opposite(leaf, names)) is not None:
            leaf, positive = older, not positive
        for spread, item in _spread(leaf, _typed(leaf, value, names, where)):
            key = _SAME.get(spread, spread)
            item = item if positive else (None if item is None else not item)  # noqa: PLW2901
            if key in settings and settings[key] != item:
                one, other = (masked_entry(f"--{key}", held) for held in (settings[key], item))
                raise InputError(f"--{key} is given twice: {one!r} and {other!r}", where=where)
            settings[key] = item
    return settings


def _typed(leaf: str, value: Any, names: Names, where: str) -> Any:
    """The value in its flag's type: strings from a command line become numbers, booleans or JSON."""
    known = names.flags.get(leaf)
    if value is None or known is None:
        return value
    shown = masked_entry(f"--{leaf}", value)
    wrong = InputError(f"--{leaf} must be {_NOUN[known.kind]}, not {shown!r:.100}", where=where)
    match known.kind:
        case "bool" | "switch":
            truth = _TRUTH.get(value.lower()) if isinstance(value, str) else value
            if not isinstance(truth, bool):
                raise wrong
            return None if known.kind == "switch" and not truth else truth
        case "int" | "float":
            if isinstance(value, bool | dict | list):
                raise wrong
            number = _number(value, wrong) if isinstance(value, str) else value
            if isinstance(number, float) and (known.kind == "int" or not isfinite(number)):
                raise wrong
            if isinstance(number, int | float) and abs(number) > LARGEST:
                raise wrong
            return number
        case "json":
            if isinstance(value, str) and value.lstrip().startswith("{"):
                try:
                    return jsontext.parse(value)
                except InputError as fault:
                    raise InputError(f"{wrong.what}: {fault.what}", where=where) from None
        case "str":
            if isinstance(value, dict):
                raise wrong
    return value


_NOUN = {
    "bool": "true or false",
    "switch": "true or false",
    "int": "a whole number",
    "float": "a number",
    "json": "JSON",
    "str": "text",
}
_TRUTH = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


def _number(text: str, wrong: InputError) -> int | float | str:
    """A number as vLLM reads it: 2k is 2000, 2K is 2048; only lower-case suffixes allow a fraction.

    Source: human_readable_int of vLLM.
    """
    text = text.strip()
    if text.lower() == "auto":
        return text
    if (human := _HUMAN.fullmatch(text)) is not None:
        digits, unit = human.groups()
        power = "kmgt".index(unit.lower()) + 1
        if unit.islower():
            return int(Decimal(digits) * 1000**power)
        if "." in digits:
            raise wrong
        return int(digits) << 10 * power
    for parse in (int, float):
        try:
            number = parse(text)
        except ValueError:
            continue
        if isfinite(number):
            return number
    raise wrong


def _spread(leaf: str, value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _spread(f"{leaf}.{key}", item)
    else:
        yield leaf, value


def join(values: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Whole flags from leaves: the keys of a JSON flag in one mapping, at the position of the first."""
    joined: dict[str, Any] = {}
    for leaf, value in values:
        root, *path = leaf.split(".")
        if not path:
            joined[root] = value
            continue
        node = joined.setdefault(root, {})
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value
    return joined


def render(values: Iterable[tuple[str, Any]]) -> tuple[str, ...]:
    """The arguments as `vllm serve` takes them."""
    words: list[str] = []
    for root, value in join(values).items():
        words += _words(root, value)
    return tuple(words)


def _words(root: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{root}" if value else f"--no-{root}"]
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        return [f"--{root}", *map(str, value)]  # as --cudagraph-capture-sizes takes its sizes
    text = json.dumps(value) if isinstance(value, dict | list) else str(value)
    if text.startswith("-") and not isinstance(value, int | float):
        return [f"--{root}={text}"]  # as a separate word it would be another option
    return [f"--{root}", text]


def nearest(name: str, known: Iterable[str]) -> str:
    """`, did you mean X?`, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f"; did you mean {near[0]}?" if near else ""
