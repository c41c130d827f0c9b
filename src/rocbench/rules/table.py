"""The rule table: rules, pinned defaults and their effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from rocbench.errors import ConfigError
from rocbench.rules.aiter import AiterPart
from rocbench.rules.conditions import Condition, Test
from rocbench.rules.flags import Name, Names
from rocbench.rules.versions import Range

Severity = Literal["hard_error", "performance", "accuracy", "method"]
Platform = Literal["any", "rocm", "cpu"]


class RuleTableError(ConfigError):
    """An invalid rule, with file, rule id and key."""


@dataclass(frozen=True, slots=True)
class Fill:
    """Set `name` to `value` if it is unset. Upper-case names are variables, the others flags."""

    name: str
    value: Any
    accept: Test | None = None
    """Test of equally good values."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A finding for a value of `name` that meets `test`."""

    name: str
    test: Test
    shown: str
    """The test as text: `should be unset`, `must not be 1`."""


@dataclass(frozen=True, slots=True)
class Move:
    """A variable replaced by a flag: `value` of the flag, or None to take the variable's value."""

    variable: str
    flag: str
    value: str | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It fills unset settings; an explicit conflict is a warning, or refused if a hard error."""

    id: str
    file: str
    platform: Platform
    span: Range | None
    when: Condition
    raw: Mapping[str, Any]
    """The YAML data, for lists of rules."""
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
    """True if the condition itself is a finding of this severity."""
    warn: bool = False
    """True if the condition itself is a warning, regardless of the severity."""
    offers: tuple[Fill, ...] = ()
    """Settings that are shown; bench neither sets them nor warns about them."""
    label: str = ""
    """Label of the rows: the setting can change answers, not only speed."""
    pin: bool = False
    """True if the rule writes out the defaults of `defaults.yaml`."""

    def covers(self, platform: str, vllm: str | None) -> bool | None:
        """True if the rule covers platform and version; None if the version decides and is unknown."""
        if self.platform not in {"any", platform}:
            return False
        if self.span is None:
            return True
        return None if vllm is None else self.span.holds(vllm)


@dataclass(frozen=True, slots=True)
class Default:
    """A pinned default of vLLM, so that a comparison of two versions does not compare defaults."""

    flag: str
    value: Any
    platform: Platform
    span: Range | None
    when: Condition
    source: str


@dataclass(frozen=True, slots=True)
class RuleTable:
    """All data of the rules."""

    names: Names
    parts: Mapping[str, AiterPart]
    architectures: Mapping[str, Name]
    rules: tuple[Rule, ...]
    defaults: tuple[Default, ...]
    reasons: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    """Effect of a value that a profile sets, by name, or by name and value (a glob)."""
    proved: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Rules that vLLM's own configuration code proved, each with the releases."""

    def reason(self, name: str, value: Any) -> str:
        """The reason of a flag's or variable's value; empty if none is known."""
        reasons = self.reasons.get(name, "")
        if isinstance(reasons, str):
            return reasons
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return next((reason for pattern, reason in reasons.items() if fnmatchcase(text, pattern)), "")
