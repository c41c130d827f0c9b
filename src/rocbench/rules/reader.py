"""YAML data to a checked rule table: an unknown name, a wrong type or an empty range is an error. Pure.

It uses no pydantic models: nearly every check compares a value with the names and facts of vLLM's releases, and
each error names file, rule and key. Models would replace only the few checks of plain types.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any, get_args

from rocbench.errors import InputError
from rocbench.rules.aiter import AiterPart
from rocbench.rules.conditions import Condition, ConditionError, Test, negated, parse, parse_test
from rocbench.rules.facts import KINDS
from rocbench.rules.flags import Name, Names, canonical, leaves, lives, missing, nearest
from rocbench.rules.table import Bar, Default, Fill, Move, Platform, Rule, RuleTableError, Severity
from rocbench.rules.truth import truthy
from rocbench.rules.versions import Range

_KEYS = frozenset(
    "id platform vllm when severity historical message fix source note "
    "set accept unset forbid allow require replace refuse warn offer label pin".split()
)
_EFFECTS = frozenset("set unset forbid allow require replace refuse warn offer label pin".split())


def parse_rules(file: str, data: Any, names: Names) -> tuple[Rule, ...]:
    """The rules of one YAML file: `platform:` for all of them, and the list `rules:`.

    Raises:
        RuleTableError: a rule is invalid; names file, rule id and key.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("rules"), list):
        raise RuleTableError("must have a list `rules`", where=file)
    platform = data.get("platform", "any")
    return tuple(_Reader(file, {"platform": platform} | raw, names).rule() for raw in data["rules"])


class _Reader:
    """Reader of one rule; its errors name the location."""

    def __init__(self, file: str, raw: Mapping[str, Any], names: Names) -> None:
        self.file, self.raw, self.names = file, raw, names
        self.id = str(raw.get("id", "?"))
        self.span: Range | None = None

    def fail(self, key: str, what: str) -> RuleTableError:
        return RuleTableError(what, where=f"{self.file}: {self.id}: {key}")

    def rule(self) -> Rule:
        raw = self.raw
        for key in raw:
            if key not in _KEYS:
                raise self.fail(key, f"is not a key of a rule{nearest(key, _KEYS)}")
        for key in ("id", "severity", "source", "message"):
            if not isinstance(raw.get(key), str) or not raw[key]:
                raise self.fail(key, "is missing")
        if not _EFFECTS & set(raw):
            raise self.fail("set", f"the rule does nothing: it needs one of {', '.join(sorted(_EFFECTS))}")
        self.choice("severity", Severity)
        self.choice("platform", Platform)
        self.span = self.read_span()
        if self.flag("historical") and (self.span is None or self.span.holds(self.names.releases[-1])):
            raise self.fail(
                "historical",
                f"a historical rule must not apply to the newest release, vLLM {self.names.releases[-1]}: end the version range before it",
            )
        for key in ("message", "fix", "label"):
            self.check_template(key, str(raw.get(key, "")))
        return Rule(
            id=self.id,
            file=self.file,
            platform=raw["platform"],
            span=self.span,
            when=self.condition(),
            raw=raw,
            severity=raw["severity"],
            historical=self.flag("historical"),
            message=raw["message"],
            fix=str(raw.get("fix", "")),
            source=raw["source"],
            fills=self.fills("set"),
            bars=self.bars(),
            needs=tuple(self.name("require", name) for name in self.listed("require")),
            moves=self.moves(),
            refuse=self.flag("refuse"),
            warn=self.flag("warn"),
            offers=self.fills("offer"),
            label=str(raw.get("label", "")),
            pin=self.flag("pin"),
        )

    def choice(self, key: str, choices: Any) -> None:
        if self.raw[key] not in get_args(choices):
            raise self.fail(key, f"{self.raw[key]!r} is not one of {', '.join(get_args(choices))}")

    def flag(self, key: str) -> bool:
        value = self.raw.get(key, False)
        if not isinstance(value, bool):
            raise self.fail(key, f"must be true or false, not {value!r}")
        return value

    def read_span(self) -> Range | None:
        if "vllm" not in self.raw:
            return None
        try:
            span = Range.parse(str(self.raw["vllm"]))
        except ValueError as error:
            raise self.fail("vllm", str(error)) from None
        if not any(map(span.holds, self.names.releases)):
            raise self.fail("vllm", f"{span.text!r} matches no vLLM release that was read")
        return span

    def condition(self) -> Condition:
        try:
            return parse(self.raw.get("when", {}), self.names)
        except ConditionError as error:
            raise self.fail(f"when.{error.key}", error.what) from None

    def check_template(self, key: str, text: str) -> None:
        for _, name, _, _ in string.Formatter().parse(text):
            if name is not None and name not in KINDS:
                raise self.fail(key, f"{{{name}}} is not a fact{nearest(name, KINDS)}")

    def listed(self, key: str) -> list[str]:
        value = self.raw.get(key, [])
        if not isinstance(value, list):
            raise self.fail(key, "must be a list of names")
        return value

    def mapped(self, key: str) -> Mapping[str, Any]:
        value = self.raw.get(key, {})
        if not isinstance(value, Mapping):
            raise self.fail(key, "must be a map of names")
        return value

    def name(self, key: str, name: str) -> str:
        """A flag's leaf or a variable that some vLLM release has."""
        leaf = name if name.isupper() else canonical(name, self.names)[0]
        if (hint := missing(leaf, None, self.names)) is not None:
            raise self.fail(f"{key}.{name}", f"is not a {'variable' if name.isupper() else 'flag'}{hint}")
        return leaf

    def fills(self, key: str) -> tuple[Fill, ...]:
        fills: list[Fill] = []
        accepted = {
            self.name("accept", name): self.test("accept", name, raw)
            for name, raw in self.mapped("accept").items()
        }
        for name, value in self.mapped(key).items():
            leaf = self.name(key, name)
            self.check_known_throughout(key, leaf)
            accept = accepted.pop(leaf, None)
            if leaf.isupper():
                if not isinstance(value, str):
                    raise self.fail(f"{key}.{name}", f"must be text, not {value!r}")
                fills.append(Fill(leaf, value, accept))
            elif isinstance(value, str) and "{" in value:
                self.check_template(f"{key}.{name}", value)
                fills.append(Fill(leaf, value, accept))
            else:
                try:
                    typed = leaves({name: value}, self.names, "")
                except InputError as error:
                    raise self.fail(f"{key}.{name}", error.what) from None
                choices = self.names.choices(leaf)
                if choices and value not in choices:
                    raise self.fail(f"{key}.{name}", f"cannot be {value!r}{nearest(str(value), choices)}")
                fills += [Fill(*item, accept) for item in typed.items()]
        if accepted and key == "set":
            raise self.fail(f"accept.{next(iter(accepted))}", "is not set by this rule")
        return tuple(fills)

    def test(self, key: str, name: str, raw: Any) -> Test:
        """A test of a flag's or variable's value; for a variable with bounds, the value is read as a number."""
        leaf = self.name(key, name)
        kind = "str" if leaf.isupper() else self.names.flags[leaf.partition(".")[0]].tested_as
        try:
            if leaf.isupper() and isinstance(raw, bool):  # as vLLM reads a variable
                return lambda value: truthy(str(value)) is raw
            if leaf.isupper() and isinstance(raw, Mapping) and "not" not in raw:
                number = parse_test(f"{key}.{name}", raw, "float")
                return lambda value: _as_number(value) is not None and number(_as_number(value))
            return parse_test(f"{key}.{name}", raw, kind, self.names.choices(leaf))
        except ConditionError as error:
            raise self.fail(error.key, error.what) from None

    def check_known_throughout(self, key: str, leaf: str) -> None:
        """Check that every release of the rule's range has the name that the rule sets."""
        for version in self.names.releases:
            if self.span is not None and not self.span.holds(version):
                continue
            if not lives(leaf, version, self.names):
                raise self.fail(
                    f"{key}.{leaf}",
                    f"does not exist in vLLM {version}, but the rule's version range includes {version}",
                )

    def bars(self) -> tuple[Bar, ...]:
        bars = [
            Bar(self.name("unset", name), lambda _: True, "should be unset") for name in self.listed("unset")
        ]
        for key, keep in (("forbid", True), ("allow", False)):
            for name, raw in self.mapped(key).items():
                test = self.test(key, name, raw)
                shown = f"must {'not ' if keep else ''}be {_shown(raw)}"
                bars.append(Bar(self.name(key, name), test if keep else negated(test), shown))
        return tuple(bars)

    def moves(self) -> tuple[Move, ...]:
        moves: list[Move] = []
        for variable, target in self.mapped("replace").items():
            flag, _, value = str(target).partition("=")
            moves.append(Move(self.name("replace", variable), self.name("replace", flag), value or None))
        return tuple(moves)


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


_OPERATORS = {
    "lt": "below",
    "le": "at most",
    "gt": "above",
    "ge": "at least",
    "multiple_of": "a multiple of",
    "divides": "a divisor of",
}


def _shown(raw: Any) -> str:
    if isinstance(raw, Mapping):
        return " and ".join(f"{_OPERATORS.get(key, key)} {_shown(value)}" for key, value in raw.items())
    if isinstance(raw, list):
        return " or ".join(_shown(part) for part in raw)
    return str(raw)


def parse_names(file: str, data: Mapping[str, Any], other: Mapping[str, str]) -> Names:
    """`names.yaml`, and the variables that programs other than vLLM read."""

    def name(raw: Mapping[str, Any]) -> Name:
        return Name(raw.get("type", "str"), _spans(raw), tuple(raw.get("also", ())))

    try:
        return Names(
            releases=tuple(str(version) for version in data["releases"]),
            flags={key: name(raw) for key, raw in data["flags"].items()},
            env={key: name(raw or {}) for key, raw in data["env"].items()} | {key: Name() for key in other},
            values={
                flag: {str(value): name(raw or {}) for value, raw in values.items()}
                for flag, values in data.get("values", {}).items()
            },
        )
    except (KeyError, AttributeError) as error:
        raise RuleTableError(f"cannot be read: {error}", where=file) from None


def _spans(raw: Mapping[str, Any]) -> tuple[tuple[str | None, str | None], ...]:
    """The releases of an entry: `since` and `until`, or `spans` for a name with a gap."""
    return tuple((since, until) for since, until in raw.get("spans", [[raw.get("since"), raw.get("until")]]))


def parse_architectures(data: Mapping[str, Any]) -> dict[str, Name]:
    """`architectures.yaml`: the releases that have an architecture class."""
    return {key: Name(spans=_spans(raw)) for key, raw in data["architectures"].items()}


def parse_parts(file: str, data: Mapping[str, Any], names: Names) -> dict[str, AiterPart]:
    """`aiter.yaml`: each part with its variable and its default per version range."""
    parts: dict[str, AiterPart] = {}
    for key, raw in data["parts"].items():
        if raw["env"] not in names.env:
            raise RuleTableError("is not a variable", where=f"{file}: {key}: {raw['env']}")
        default = raw["default"]
        spans = default if isinstance(default, Mapping) else {">=0": default}
        ranges = tuple((Range.parse(span), on) for span, on in spans.items())
        parts[key] = AiterPart(key, raw["env"], ranges, tuple(raw.get("off_at", ())))
    return parts


def parse_defaults(file: str, data: Mapping[str, Any], names: Names) -> tuple[Default, ...]:
    """`defaults.yaml`: the pinned defaults, per version and platform."""
    defaults: list[Default] = []
    for raw in data["defaults"]:
        reader = _Reader(file, {"id": raw.get("flag", "?"), "platform": "any"} | raw, names)
        reader.choice("platform", Platform)
        span = reader.span = reader.read_span()
        reader.raw = dict(reader.raw) | {"set": {raw["flag"]: raw["value"]}}
        (fill,) = reader.fills("set")
        defaults.append(
            Default(fill.name, fill.value, reader.raw["platform"], span, reader.condition(), raw["source"])
        )
    return tuple(defaults)


def parse_reasons(file: str, data: Mapping[str, Any], names: Names) -> dict[str, str | dict[str, str]]:
    """`reasons.yaml`: the effect of a value, by name, or by name and value."""
    reasons: dict[str, str | dict[str, str]] = {}
    reader = _Reader(file, {"id": "reasons"}, names)
    for key, raw in data["reasons"].items():
        texts = raw if isinstance(raw, Mapping) else {"*": raw}
        for text in texts.values():
            reader.check_template(key, str(text).replace("{value}", ""))
        reasons[reader.name("reasons", key)] = (
            raw if isinstance(raw, str) else {str(k): v for k, v in raw.items()}
        )
    return reasons
