"""Growing settings: the profile's, the user's, then those of rules and pinned defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rocbench.errors import InputError
from rocbench.model.architecture import from_config
from rocbench.rules import aiter, notices
from rocbench.rules.conditions import all_hold
from rocbench.rules.facts import Facts, Subject, gather
from rocbench.rules.flags import assumption, leaves
from rocbench.rules.resolution import Finding, Provenance, ServeRequest
from rocbench.rules.table import Rule, RuleTable
from rocbench.rules.truth import truthy
from rocbench.rules.versions import Range
from rocbench.settings.schema import ServeVariant


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and its origin."""

    value: Any
    provenance: Provenance
    why: str
    source: str
    rule: str | None = None


@dataclass(slots=True)
class State:
    """Growing settings. A value of None explicitly leaves a setting unset."""

    request: ServeRequest
    table: RuleTable
    subject: Subject
    flags: dict[str, Setting] = field(default_factory=dict)
    env: dict[str, Setting] = field(default_factory=dict)
    notices: list[Finding] = field(default_factory=list)
    defaults: dict[str, Setting] = field(default_factory=dict)
    """Pinned defaults, known once rules have filled in their settings."""
    facts: Facts = None  # type: ignore[assignment]
    gathered: tuple[dict[str, Any], ...] = ()
    """The flags, variables and defaults that the facts come from."""
    rules: tuple[Rule, ...] = ()
    """The rules that cover this platform and version, or may cover it."""

    def __post_init__(self) -> None:
        platform, vllm = self.request.hardware.platform, self.request.vllm
        self.rules = tuple(rule for rule in self.table.rules if rule.covers(platform, vllm) is not False)

    def update_facts(self) -> None:
        """Gather the facts again, if the current settings are others."""
        given = (
            {name: s.value for name, s in self.flags.items() if s.value is not None},
            {name: s.value for name, s in self.env.items() if s.value is not None},
            {name: s.value for name, s in self.defaults.items()},
        )
        if given != self.gathered:
            self.facts = gather(self.subject, *given)
            self.gathered = given

    def fact(self, name: str) -> Any:
        """A fact; None if unknown."""
        return getattr(self.facts, name)

    def flag(self, leaf: str) -> Any:
        """A flag's value; {} for a JSON flag with some keys given; None if it is not given."""
        setting = self.flags.get(leaf)
        if setting is None and any(name.startswith(f"{leaf}.") for name in self.flags):
            return {}
        return setting.value if setting else None

    def variable(self, name: str) -> str | None:
        """A variable's text; None if it is not given."""
        setting = self.env.get(name)
        return setting.value if setting else None

    def settings(self, name: str) -> dict[str, Setting]:
        """The mapping that holds `name`: that of variables if it is in upper case, else that of flags."""
        return self.env if name.isupper() else self.flags

    def find(self, name: str) -> Setting | None:
        """The setting of a flag or variable; a scalar at the root covers all keys below it."""
        held = self.settings(name)
        return held.get(name) or held.get(name.partition(".")[0])

    def holds(self, rule: Rule) -> bool | None:
        """True if a rule applies by platform, version and condition; None if undecided."""
        answer = rule.when.holds(self)
        if answer is False:
            return False
        return all_hold((rule.covers(self.facts.platform, self.facts.vllm), answer))

    def assumed(self, rule: Rule) -> str:
        """A remark on a rule whose range is open to this version, which was not read; empty for all others."""
        open_ = rule.span is not None and self.facts.vllm is not None
        return assumption(self.facts.vllm, self.table.names) if open_ else ""

    def say(self, text: str, value: Any = None) -> str:
        """A message with facts filled in; `{value}` is that of its setting."""
        return text.replace("{value}", str(value)).format_map(_Shown(self.facts)) if "{" in text else text

    def filled(self, value: Any) -> Any:
        """A value that a rule sets, with facts filled in; `{nodes}` alone stays a number."""
        if not isinstance(value, str):
            return value
        alone = value[1:-1] if value.startswith("{") and value.endswith("}") else ""
        fact = getattr(self.facts, alone, None) if alone.isidentifier() else None
        return fact if isinstance(fact, int) else self.say(value)


class _Shown(dict[str, Any]):
    """Facts as text; whole numbers without decimals."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self.facts = facts

    def __missing__(self, name: str) -> Any:
        value = getattr(self.facts, name)
        if value is None:
            return "unknown"
        return int(value) if isinstance(value, float) and value == int(value) else value


def subject_of(request: ServeRequest, table: RuleTable) -> Subject:
    """The constants of a request while settings grow."""
    variant = variant_of(request)
    env = {**(variant.env if variant else {}), **request.user_env}
    return Subject(
        profile=request.profile,
        architecture=from_config(request.profile.config, mla_disabled=truthy(env.get("VLLM_MLA_DISABLE"))),
        hardware=request.hardware,
        vllm=request.vllm,
        nodes=request.nodes,
        offload_compared=request.offload_compared,
        multi_turn=request.multi_turn,
        names=table.names,
        parts=table.parts,
        architectures=table.architectures,
    )


def variant_of(request: ServeRequest) -> ServeVariant | None:
    """The first serve variant of the profile for this version; None if the version is unknown or has none."""
    if request.vllm is None:
        return None
    return next((v for v in request.profile.serve if Range.parse(v.vllm).holds(request.vllm or "")), None)


def take_profile(state: State) -> None:
    """Add the profile's identity and its serve variant for this version."""
    profile, names = state.request.profile, state.table.names
    where = f"profile {profile.name}"
    variant = variant_of(state.request)
    given: dict[str, Any] = {"tensor-parallel-size": (variant and variant.tp) or profile.tp}
    if profile.trust_remote_code:
        given["trust-remote-code"] = True
    if profile.revision:
        given["revision"] = profile.revision
    if profile.max_model_len:
        given["max-model-len"] = profile.max_model_len
    source = profile.sources[0] if profile.sources else ""
    own = "set by the profile for every vLLM version"
    for leaf, value in given.items():
        written = variant.source if variant and variant.tp and leaf == "tensor-parallel-size" else source
        state.flags[leaf] = Setting(value, "profile", state.table.reason(leaf, value) or own, written)
    if variant is None:
        return
    for leaf, value in (*leaves(variant.args, names, where).items(), *variant.env.items()):
        reason = variant.why.get(leaf) or state.table.reason(leaf, value) or f"for vLLM {variant.vllm}"
        state.settings(leaf)[leaf] = Setting(value, "profile", reason, variant.source)


def take_user(state: State) -> None:
    """Add the user's arguments, variables, TP and AITER setting, over the profile's."""
    request, table = state.request, state.table
    for leaf, value in leaves(request.user_args, table.names, "serve arguments").items():
        for name in [name for name in state.flags if _overlap(name, leaf)]:
            # A whole JSON flag replaces the profile's keys; a key replaces the profile's whole flag.
            del state.flags[name]
        state.flags[leaf] = Setting(value, "user", "set by the user", "")
    if request.tp is not None:
        current = state.flags["tensor-parallel-size"]
        if current.provenance == "user" and current.value != request.tp:
            raise InputError(
                f"the tensor parallel size is given twice: {current.value} and {request.tp}", where="tp"
            )
        state.flags["tensor-parallel-size"] = Setting(request.tp, "user", "set by the user", "")
    _take_environment(state)


def _overlap(one: str, other: str) -> bool:
    """True if one leaf is below the other."""
    return one.startswith(f"{other}.") or other.startswith(f"{one}.")


def _take_environment(state: State) -> None:
    request, table = state.request, state.table
    variables: dict[str, str] = {}
    if request.aiter is not None:
        variables, missing = aiter.translate(request.aiter, request.vllm, table.parts, table.names)
        if request.hardware.platform != "rocm":
            state.notices.append(notices.aiter_off_rocm(request.hardware.platform))
            variables, missing = {}, []
        state.notices += [notices.missing_part(part, table, request.vllm) for part in missing]
    setting = f"aiter: {_aiter_text(request.aiter)}"
    for name, text in variables.items():
        given = request.user_env.get(name)
        if given is not None and truthy(given) != truthy(text):
            raise InputError(
                f"{name}={given} contradicts {setting}", where="env", fix="give only one of them"
            )
        state.env[name] = Setting(text, "user", setting, "")
    for name, text in request.user_env.items():
        state.env[name] = Setting(str(text), "user", "set by the user", "")
    state.notices += notices.idle_off_rocm(request.user_env, request.hardware.platform)
    state.notices += notices.version(request.vllm, table.names)
    state.notices += notices.unknown_names(state.flags, state.env, request.vllm, table.names)


def _aiter_text(setting: Any) -> str:
    if isinstance(setting, Mapping):
        return "{" + ", ".join(f"{part}: {_aiter_text(value)}" for part, value in setting.items()) + "}"
    return ("on" if setting else "off") if isinstance(setting, bool) else str(setting)
