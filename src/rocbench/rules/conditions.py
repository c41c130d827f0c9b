"""The typed condition language of a rule's `when:`.

    when:
      family: [mla_sparse, mla_dense]      # any of these
      backend: ROCM_AITER_*                # a glob
      heads: {lt: 16, not: {in: [4, 8]}}   # numbers: lt le gt ge in multiple_of divides not any
      rocm: ">=7.2.1,<7.14"                # versions: a PEP 440 range
      flags: {block-size: given}           # a flag: given, absent, or a test of its value
      env: {VLLM_ROCM_USE_AITER: true}     # a variable: given, absent, true/false as vLLM reads it, or its text
      any: [{...}, {...}]                  # one of these; `not: {...}` is the opposite

All entries must hold. A test returns True, False or None; None means that a fact is unknown.
Reading the table raises errors for unknown names, wrong types and empty ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol

from rocbench.rules.facts import CLOSED, KINDS, VALUE_OF
from rocbench.rules.flags import Names, missing, nearest
from rocbench.rules.truth import truthy
from rocbench.rules.versions import Range

Test = Callable[[Any], bool]
FactKind = Literal["str", "int", "float", "bool", "version"]
GIVEN, ABSENT = "given", "absent"


class View(Protocol):
    """The facts and settings that a condition tests."""

    def fact(self, name: str) -> Any:
        """The fact; None if unknown."""

    def flag(self, leaf: str) -> Any:
        """The flag's value; None if not given."""

    def variable(self, name: str) -> str | None:
        """The variable's text; None if not given."""


class ConditionError(ValueError):
    """An invalid condition: its key and the error."""

    def __init__(self, key: str, what: str) -> None:
        self.key, self.what = key, what
        super().__init__(f"{key}: {what}")


@dataclass(frozen=True, slots=True)
class Condition:
    """A checked `when:`."""

    checks: tuple[tuple[str, Callable[[View], bool | None]], ...]

    def holds(self, view: View) -> bool | None:
        """True, False, or None if an unknown fact decides."""
        return all_hold(check(view) for _, check in self.checks)

    def unknown(self, view: View) -> list[str]:
        """The keys that are undecided because a fact is unknown."""
        return [key for key, check in self.checks if check(view) is None]


def all_hold(answers: Iterable[bool | None]) -> bool | None:
    """True if all answers are True, False if one is False, else None (unknown)."""
    unknown = False
    for answer in answers:
        if answer is False:
            return False
        unknown |= answer is None
    return None if unknown else True


def _negated(answer: bool | None) -> bool | None:
    return None if answer is None else not answer


def parse(when: Mapping[str, Any], names: Names) -> Condition:
    """Check and compile a `when:`.

    Raises:
        ConditionError: an unknown name, a wrong type or an empty range.
    """
    if not isinstance(when, Mapping):
        raise ConditionError("when", f"must be a mapping, not {when!r}")
    checks: list[tuple[str, Callable[[View], bool | None]]] = []
    for key, raw in when.items():
        match key:
            case "any":
                checks.append((key, _either([parse(part, names) for part in _listed(key, raw)])))
            case "not":
                checks.append((key, _neither(parse(raw, names))))
            case "flags":
                checks += [(f"flags.{name}", _flag(name, test, names)) for name, test in raw.items()]
            case "env":
                checks += [(f"env.{name}", _variable(name, test, names)) for name, test in raw.items()]
            case _:
                if key not in KINDS:
                    raise ConditionError(key, f"is not a fact{nearest(key, KINDS)}")
                checks.append((key, _fact(key, raw, names)))
    return Condition(tuple(checks))


def _listed(key: str, raw: Any) -> list[Any]:
    if not isinstance(raw, list) or not raw:
        raise ConditionError(key, "must be a list of conditions")
    return raw


def _either(parts: list[Condition]) -> Callable[[View], bool | None]:
    return lambda view: _negated(all_hold(_negated(part.holds(view)) for part in parts))


def _neither(part: Condition) -> Callable[[View], bool | None]:
    return lambda view: _negated(part.holds(view))


def _fact(name: str, raw: Any, names: Names) -> Callable[[View], bool | None]:
    choices = CLOSED.get(name, ())
    if name in VALUE_OF:
        choices = ("", *names.values[VALUE_OF[name]])  # empty: the flag is not given
    test = parse_test(name, raw, KINDS[name], choices)

    def check(view: View) -> bool | None:
        value = view.fact(name)
        return None if value is None else test(value)

    return check


def _flag(name: str, raw: Any, names: Names) -> Callable[[View], bool | None]:
    if (hint := missing(name, None, names)) is not None:
        raise ConditionError(f"flags.{name}", f"is not a flag{hint}")
    if raw == GIVEN:
        return lambda view: view.flag(name) is not None
    if raw == ABSENT:
        return lambda view: view.flag(name) is None
    known = names.flags[name.partition(".")[0]]
    kind = _json_kind(raw) if known.kind == "json" else known.tested_as
    test = parse_test(f"flags.{name}", raw, kind, names.choices(name))

    def check(view: View) -> bool | None:
        value = view.flag(name)
        return value is not None and not isinstance(value, dict) and test(value)

    return check


def _json_kind(raw: Any) -> FactKind:
    return "bool" if isinstance(raw, bool) else "float" if isinstance(raw, int | float) else "str"


def _variable(name: str, raw: Any, names: Names) -> Callable[[View], bool | None]:
    if name not in names.env:
        raise ConditionError(f"env.{name}", f"is not a variable{nearest(name, names.env)}")
    if raw == GIVEN:
        return lambda view: view.variable(name) is not None
    if raw == ABSENT:
        return lambda view: view.variable(name) is None
    if isinstance(raw, bool):
        return lambda view: truthy(view.variable(name)) is raw if view.variable(name) is not None else False
    test = parse_test(f"env.{name}", raw, "str")

    def check(view: View) -> bool | None:
        value = view.variable(name)
        return value is not None and test(value)

    return check


def parse_test(key: str, raw: Any, kind: FactKind, choices: Iterable[str] = ()) -> Test:
    """A test of one value of `kind`; a text must be one of `choices`, if any.

    Raises:
        ConditionError: the test does not fit the kind.
    """
    if isinstance(raw, list):
        tests = [parse_test(key, part, kind, choices) for part in _listed(key, raw)]
        return lambda value: any(test(value) for test in tests)
    match kind:
        case "bool":
            if not isinstance(raw, bool):
                raise ConditionError(key, f"must be true or false, not {raw!r}")
            return lambda value: value is raw
        case "version":
            return _version_test(key, raw)
        case "int" | "float":
            return _number_test(key, raw, kind)
        case "str":
            return _text_test(key, raw, choices)


def _version_test(key: str, raw: Any) -> Test:
    try:
        return Range.parse(str(raw)).holds
    except ValueError as error:
        raise ConditionError(key, str(error)) from None


def _text_test(key: str, raw: Any, choices: Iterable[str]) -> Test:
    if isinstance(raw, Mapping):
        if set(raw) != {"not"}:
            raise ConditionError(key, f"a test of text supports only `not`, not {sorted(raw)}")
        return negated(parse_test(key, raw["not"], "str", choices))
    if not isinstance(raw, str):
        raise ConditionError(key, f"must be text, not {raw!r}")
    known = list(choices)
    if known and not any(fnmatchcase(choice, raw) for choice in known):
        raise ConditionError(key, f"cannot be {raw!r}{nearest(raw, known)}")
    if not any(sign in raw for sign in "*?["):
        return lambda value: str(value) == raw
    return lambda value: fnmatchcase(str(value), raw)


_NUMBER_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "lt": lambda value, bound: value < bound,
    "le": lambda value, bound: value <= bound,
    "gt": lambda value, bound: value > bound,
    "ge": lambda value, bound: value >= bound,
    "multiple_of": lambda value, base: value % base == 0,
    "divides": lambda value, whole: value > 0 and whole % value == 0,
}


def _number_test(key: str, raw: Any, kind: FactKind) -> Test:
    if not isinstance(raw, Mapping):
        _number(key, raw, kind)
        return lambda value: _is_number(value) and value == raw
    tests: list[Test] = []
    for operator, operand in raw.items():
        if operator in {"in", "any"}:
            tests.append(parse_test(key, _listed(key, operand), kind))
        elif operator == "not":
            tests.append(negated(parse_test(key, operand, kind)))
        elif operator in _NUMBER_TESTS:
            _number(key, operand, kind)
            tests.append(_bound(_NUMBER_TESTS[operator], operand))
        else:
            known = [*_NUMBER_TESTS, "in", "any", "not"]
            raise ConditionError(key, f"{operator!r} is not a test of a number (known: {', '.join(known)})")
    low = max((raw[k] for k in ("gt", "ge") if k in raw), default=None)
    high = min((raw[k] for k in ("lt", "le") if k in raw), default=None)
    if not tests or (low is not None and high is not None and low > high):
        raise ConditionError(key, f"the range {dict(raw)} is empty")
    return lambda value: _is_number(value) and all(test(value) for test in tests)


def negated(test: Test) -> Test:
    """The opposite test."""
    return lambda value: not test(value)


def _bound(operator: Callable[[Any, Any], bool], operand: Any) -> Test:
    return lambda value: operator(value, operand)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(key: str, raw: Any, kind: FactKind) -> None:
    if not _is_number(raw) or (kind == "int" and not isinstance(raw, int)):
        raise ConditionError(key, f"must be {'a whole number' if kind == 'int' else 'a number'}, not {raw!r}")
