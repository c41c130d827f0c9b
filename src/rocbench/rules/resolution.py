"""The input and the output of a resolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rocbench.rules.facts import Facts
from rocbench.rules.flags import join, render
from rocbench.rules.table import Severity
from rocbench.settings.schema import FlagValue, Hardware, ModelProfile

Provenance = Literal["user", "profile", "rule", "default"]


@dataclass(frozen=True, slots=True)
class ServeRequest:
    """All inputs that decide a server's flags."""

    profile: ModelProfile
    hardware: Hardware
    vllm: str | None
    """None: unknown. Then settings that depend on the version stay undecided."""
    tp: int | None = None
    """Tensor-parallel size; None takes the variant's, else the profile's."""
    aiter: Any = None
    """None, on, off, or a map of parts to on/off."""
    user_args: Mapping[str, FlagValue] = field(default_factory=dict)
    """Keys with or without dashes, with `-` or `_`. None unsets the profile's value."""
    user_env: Mapping[str, str] = field(default_factory=dict)
    nodes: int = 1
    force: bool = False
    offload_compared: bool = False
    """True if KV offload on and off are compared: both arms must run the same attention kernel."""
    multi_turn: bool = False
    """True if the workload reuses its own earlier answers."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A flag (name with its dashes; a JSON flag's key after a dot) or a variable, with its origin."""

    name: str
    value: Any
    why: str
    provenance: Provenance
    rule: str | None
    source: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A statement of a rule about the settings."""

    rule: str
    severity: Severity
    message: str
    fix: str
    source: str

    def text(self) -> str:
        """One line: the rule, the problem, and the fix."""
        return f"[{self.rule}] {self.message}" + (f" Fix: {self.fix}" if self.fix else "")


@dataclass(frozen=True, slots=True)
class Resolution:
    """A server's final arguments and environment, each with its origin, and the findings of rules."""

    model: str
    args: tuple[Entry, ...]
    env: tuple[Entry, ...]
    contradictions: tuple[Finding, ...]
    """Hard errors: they stop the plan. Empty when forced."""
    warnings: tuple[Finding, ...]
    undecided: tuple[Finding, ...]
    """Rules that may hold: the version, or a fact that they test, is unknown."""
    offers: tuple[Finding, ...]
    """Optional settings, with their cost."""
    accuracy_labels: tuple[str, ...]
    facts: Facts
    forced: bool
    assumed: bool = False
    """True if this vLLM is newer than the last release that was read."""
    note: str = ""
    """The profile's note on its settings for this version."""

    def argv(self) -> tuple[str, ...]:
        """The arguments after `vllm serve`."""
        return (self.model, *render((entry.name.lstrip("-"), entry.value) for entry in self.args))

    def environment(self) -> dict[str, str]:
        """The variables to add."""
        return {entry.name: str(entry.value) for entry in self.env}

    def flags(self) -> dict[str, Any]:
        """Whole flags without dashes; a JSON flag as one mapping."""
        return join((entry.name.lstrip("-"), entry.value) for entry in self.args)

    def flag(self, name: str) -> Any:
        """The value of a whole flag, named without dashes; None if it is not set."""
        return self.flags().get(name)

    def expected(self) -> dict[str, Any]:
        """Values that the proof after start must find; None expects nothing.

        The CPU has one backend per family, and vLLM's log names only that of MLA: none is expected there. In a
        version newer than the last that was read, a choice of vLLM's own is assumed: it is not expected.
        """
        backend = self.facts.backend if self.facts.platform == "rocm" else None
        return {
            "vllm": self.facts.vllm,
            "backend": backend if self.facts.backend_asked or not self.assumed else None,
            "block_size": self.facts.block_size
            if self.flag("block-size") is not None or not self.assumed
            else None,
            "prefix_caching": self.facts.prefix_caching,
            "kv_cache_dtype": self.facts.kv_cache_dtype,
        }
