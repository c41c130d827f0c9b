"""The rule table: what a rule, a pinned default and their effects are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from rocbench.errors import ConfigError
from rocbench.rules.aiter import AiterPart
from rocbench.rules.conditions import Condition, Test
from rocbench.rules.flags import Names
from rocbench.rules.versions import Range

Severity = Literal["hard_error", "performance", "accuracy", "method"]
Platform = Literal["any", "rocm", "cpu"]


class RuleTableError(ConfigError):
    """A rule that cannot be: with file, rule id and key."""


@dataclass(frozen=True, slots=True)
class Fill:
    """Set `name` to `value` when nobody set it. Upper-case names are variables, the others flags."""

    name: str
    value: Any
    accept: Test | None = None
    """Other values that are as good."""

    @property
    def is_env(self) -> bool:
        """Whether this is a variable."""
        return self.name.isupper()


@dataclass(frozen=True, slots=True)
class Bar:
    """A value of `name` that meets `test` is a finding."""

    name: str
    test: Test
    shown: str
    """The test as text: `must be unset`, `must not be 1`."""


@dataclass(frozen=True, slots=True)
class Move:
    """A variable whose job a flag has now: `value` of the flag, None to take the variable's own."""

    variable: str
    flag: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It fills what nobody set; against an explicit value it warns, or refuses when a hard error."""

    id: str
    file: str
    platform: Platform
    span: Range | None
    when: Condition
    raw: Mapping[str, Any]
    """The YAML, for listing."""
    severity: Severity
    historical: bool
    message: str
    fix: str
    source: str
    fills: tuple[Fill, ...] = ()
    bars: tuple[Bar, ...] = ()
    needs: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    refuse: bool = False
    """The condition itself is a finding of this severity."""
    warn: bool = False
    """The condition itself is a warning, whatever the severity."""
    offers: tuple[Fill, ...] = ()
    """Told, neither set nor warned about."""
    label: str = ""
    """Rows are labelled with it: it can change answers, not only speed."""
    pin: bool = False
    """Write out the defaults of `defaults.yaml`."""

    def covers(self, platform: str, vllm: str | None) -> bool | None:
        """Whether platform and version are this rule's; None when the version is unknown and decides."""
        if self.platform not in {"any", platform}:
            return False
        if self.span is None:
            return True
        return None if vllm is None else self.span.holds(vllm)


@dataclass(frozen=True, slots=True)
class Default:
    """A default of vLLM that is pinned, so that two versions differ in vLLM and not in a default."""

    flag: str
    value: Any
    platform: Platform
    span: Range | None
    when: Condition
    source: str


@dataclass(frozen=True, slots=True)
class RuleTable:
    """Everything that rules know."""

    names: Names
    parts: Mapping[str, AiterPart]
    first_vllm: Mapping[str, str]
    rules: tuple[Rule, ...]
    defaults: tuple[Default, ...]
    reasons: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    """What a value does that a profile sets, by name, or by name and value (a glob)."""

    def reason(self, name: str, value: Any) -> str:
        """The reason of a flag's or variable's value; empty where none is known."""
        found = self.reasons.get(name, "")
        if isinstance(found, str):
            return found
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return next((reason for shape, reason in found.items() if fnmatchcase(text, shape)), "")

    def rule(self, rule_id: str) -> Rule:
        """The rule of this id.

        Raises:
            KeyError: there is none.
        """
        return next(rule for rule in self.rules if rule.id == rule_id)
