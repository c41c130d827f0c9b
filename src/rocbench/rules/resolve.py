"""Settings and rules to a server's final arguments: user over profile over rule over pinned default. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rocbench.architecture import from_config
from rocbench.errors import InputError
from rocbench.rules import aiter, notices
from rocbench.rules.facts import Facts, Subject, gather
from rocbench.rules.flags import leaves
from rocbench.rules.load import shipped
from rocbench.rules.resolution import Entry, Finding, Provenance, Resolution, ServeRequest
from rocbench.rules.table import Bar, Fill, Rule, RuleTable
from rocbench.rules.truth import truthy
from rocbench.rules.versions import Range
from rocbench.settings.schema import ServeVariant

__all__ = ["Entry", "Finding", "Resolution", "ServeRequest", "resolve"]

_FIRST = (
    "served-model-name",
    "tensor-parallel-size",
    "pipeline-parallel-size",
    "data-parallel-size",
    "enable-expert-parallel",
    "max-model-len",
    "max-num-seqs",
    "max-num-batched-tokens",
    "gpu-memory-utilization",
    "quantization",
    "kv-cache-dtype",
    "block-size",
    "attention-backend",
    "enable-prefix-caching",
    "kv-offloading-backend",
    "kv-offloading-size",
    "disable-hybrid-kv-cache-manager",
)
"""These flags come first, in this order; the others follow by name."""


@dataclass(frozen=True, slots=True)
class _Setting:
    value: Any
    provenance: Provenance
    why: str
    source: str
    rule: str | None = None


@dataclass(slots=True)
class _State:
    """Settings as they grow. A value of None is an explicit "leave it unset"."""

    request: ServeRequest
    table: RuleTable
    subject: Subject
    flags: dict[str, _Setting] = field(default_factory=dict)
    env: dict[str, _Setting] = field(default_factory=dict)
    notices: list[Finding] = field(default_factory=list)
    facts: Facts = None  # type: ignore[assignment]

    def look(self) -> None:
        """Gather the facts anew."""
        self.facts = gather(
            self.subject,
            {name: s.value for name, s in self.flags.items() if s.value is not None},
            {name: s.value for name, s in self.env.items() if s.value is not None},
        )

    def fact(self, name: str) -> Any:
        return getattr(self.facts, name)

    def flag(self, leaf: str) -> Any:
        setting = self.flags.get(leaf)
        if setting is None and any(name.startswith(f"{leaf}.") for name in self.flags):
            return {}
        return setting.value if setting else None

    def variable(self, name: str) -> str | None:
        setting = self.env.get(name)
        return setting.value if setting else None

    def settings(self, name: str) -> dict[str, _Setting]:
        return self.env if name.isupper() else self.flags

    def find(self, name: str) -> _Setting | None:
        """The setting of a flag or variable; a scalar at the root stands for all keys below it."""
        held = self.settings(name)
        return held.get(name) or held.get(name.partition(".")[0])

    def holds(self, rule: Rule) -> bool | None:
        """Whether a rule applies: its platform, version and condition."""
        answers = (rule.covers(self.facts.platform, self.facts.vllm), rule.when.holds(self))
        return False if False in answers else None if None in answers else True

    def say(self, text: str) -> str:
        """A message with facts filled in."""
        return text.format_map(_Shown(self.facts)) if "{" in text else text


class _Shown(dict[str, Any]):
    """Facts as text; numbers without a needless decimal."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self.facts = facts

    def __missing__(self, name: str) -> Any:
        value = getattr(self.facts, name)
        if value is None:
            return "unknown"
        return int(value) if isinstance(value, float) and value == int(value) else value


def resolve(request: ServeRequest, rules: RuleTable | None = None) -> Resolution:
    """The final arguments and environment of a server, with provenance, warnings and contradictions.

    Raises:
        InputError: a setting that cannot be read, or two that contradict each other.
    """
    table = rules if rules is not None else shipped()
    state = _State(request, table, _subject(request, table))
    _take_profile(state)
    _take_user(state)
    state.look()
    _fill(state)
    contradictions, warnings, undecided, offers, labels = _judge(state)
    _pin(state)
    state.look()
    forced = request.force and bool(contradictions)
    return Resolution(
        model=request.profile.hf_id,
        args=tuple(_entries(state.flags, "--")),
        env=tuple(_entries(state.env, "")),
        contradictions=() if forced else tuple(contradictions),
        warnings=(*(contradictions if forced else ()), *warnings, *state.notices),
        undecided=tuple(undecided),
        offers=tuple(offers),
        accuracy_labels=tuple(labels),
        facts=state.facts,
        forced=forced,
    )


def _subject(request: ServeRequest, table: RuleTable) -> Subject:
    return Subject(
        profile=request.profile,
        architecture=from_config(request.profile.config),
        hardware=request.hardware,
        vllm=request.vllm,
        nodes=request.nodes,
        offload_compared=request.offload_compared,
        multi_turn=request.multi_turn,
        names=table.names,
        parts=table.parts,
        first_vllm=table.first_vllm,
    )


def variant_of(request: ServeRequest) -> ServeVariant | None:
    """The first serve variant of the profile for this version; None when the version is unknown or has none."""
    if request.vllm is None:
        return None
    return next((v for v in request.profile.serve if Range.parse(v.vllm).holds(request.vllm or "")), None)


def _take_profile(state: _State) -> None:
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
    for leaf, value in given.items():
        state.flags[leaf] = _Setting(value, "profile", where, source)
    if variant is None:
        return
    why = f"{where}, vLLM {variant.vllm}" + (f": {variant.note}" if variant.note else "")
    for leaf, value in leaves(variant.args, names, where).items():
        state.flags[leaf] = _Setting(value, "profile", why, variant.source)
    for name, text in variant.env.items():
        state.env[name] = _Setting(text, "profile", why, variant.source)


def _take_user(state: _State) -> None:
    request, table = state.request, state.table
    for leaf, value in leaves(dict(request.user_args), table.names, "serve arguments").items():
        state.flags[leaf] = _Setting(value, "user", "asked for", "")
        if value is None:  # an explicit "unset" takes the profile's keys below with it
            for name in [name for name in state.flags if name.startswith(f"{leaf}.")]:
                del state.flags[name]
    if request.tp is not None:
        asked = state.flags["tensor-parallel-size"]
        if asked.provenance == "user" and asked.value != request.tp:
            raise InputError(
                f"tensor parallelism is asked for twice: {asked.value} and {request.tp}", where="tp"
            )
        state.flags["tensor-parallel-size"] = _Setting(request.tp, "user", "asked for", "")
    _take_environment(state)


def _take_environment(state: _State) -> None:
    request, table = state.request, state.table
    variables: dict[str, str] = {}
    if request.aiter is not None:
        variables, missing = aiter.translate(request.aiter, request.vllm, table.parts, table.names)
        if request.hardware.platform != "rocm":
            state.notices.append(notices.aiter_off_rocm(request.hardware.platform))
            variables, missing = {}, []
        state.notices += [notices.missing_part(part, table, request.vllm) for part in missing]
    for name, text in variables.items():
        given = dict(request.user_env).get(name)
        if given is not None and truthy(given) != truthy(text):
            raise InputError(
                f"{name}={given} contradicts aiter: {request.aiter!r}", where="env", fix="give one of them"
            )
        state.env[name] = _Setting(text, "user", f"aiter: {_spoken(request.aiter)}", "")
    for name, text in dict(request.user_env).items():
        state.env[name] = _Setting(str(text), "user", "asked for", "")
    state.notices += notices.version(request.vllm, table.names)
    state.notices += notices.unknown_names(
        {n: s.value for n, s in state.flags.items()}, list(state.env), request.vllm, table.names
    )


def _spoken(setting: Any) -> str:
    if isinstance(setting, Mapping):
        return "{" + ", ".join(f"{k}: {_spoken(v)}" for k, v in setting.items()) + "}"
    return (
        {True: "on", False: "off"}.get(setting, setting) if isinstance(setting, bool | str) else str(setting)
    )


def _fill(state: _State) -> None:
    """Let rules fill what nobody set, until none has anything to add. Facts follow every addition."""
    growing = True
    while growing:
        growing = False
        for rule in state.table.rules:
            if not (rule.fills or rule.moves) or state.holds(rule) is not True:
                continue
            missing = [f for f in (*rule.fills, *_moved(state, rule)) if state.find(f.name) is None]
            why = state.say(rule.message)
            for fill in missing:
                value = state.say(fill.value) if isinstance(fill.value, str) else fill.value
                state.settings(fill.name)[fill.name] = _Setting(value, "rule", why, rule.source, rule.id)
            if missing:
                growing = True
                state.look()


def _moved(state: _State, rule: Rule) -> Iterator[Fill]:
    for move in rule.moves:
        text = state.variable(move.variable)
        if text is not None and (move.value is None or truthy(text)):
            yield Fill(move.flag, move.value or text)


def _judge(
    state: _State,
) -> tuple[list[Finding], list[Finding], list[Finding], list[Finding], list[str]]:
    contradictions: list[Finding] = []
    warnings: list[Finding] = []
    undecided: list[Finding] = []
    offers: list[Finding] = []
    labels: list[str] = []
    for rule in state.table.rules:
        answer = state.holds(rule)
        if answer is None and (_acts_alone(rule) or any(_against(state, rule))):
            undecided.append(_finding(state, rule, _open(state, rule)))
        if answer is not True:
            continue
        found = [_finding(state, rule, what) for what in _against(state, rule)]
        if rule.refuse:
            found.append(_finding(state, rule, ""))
        (contradictions if rule.severity == "hard_error" else warnings).extend(found)
        if rule.warn:
            warnings.append(_finding(state, rule, ""))
        if rule.label:
            labels.append(state.say(rule.label))
        unmet = [fill for fill in rule.offers if state.find(fill.name) is None]
        if unmet:
            offers.append(_finding(state, rule, f"could be set: {', '.join(_spelt(f) for f in unmet)}"))
    return contradictions, warnings, undecided, offers, labels


def _acts_alone(rule: Rule) -> bool:
    """Whether a rule says something though nothing in the settings goes against it."""
    return bool(rule.fills or rule.refuse or rule.warn or rule.label or rule.needs)


def _open(state: _State, rule: Rule) -> str:
    """Why a rule is undecided."""
    unknown = [key for key in rule.when.unknown(state) if key not in {"any", "not"}]
    if rule.covers(state.facts.platform, state.facts.vllm) is None and rule.span is not None:
        return f"holds for vLLM {rule.span.text}, and the version is unknown"
    return f"depends on {', '.join(unknown) or 'facts'}, which is unknown"


def _against(state: _State, rule: Rule) -> Iterator[str]:
    """What in the settings goes against a rule that holds."""
    for fill in rule.fills:
        held = state.find(fill.name)
        wanted = state.say(fill.value) if isinstance(fill.value, str) else fill.value
        if held is None or held.rule == rule.id or _same(fill.name, held.value, wanted):
            continue
        if held.value is None or fill.accept is None or not fill.accept(held.value):
            yield f"{_is(fill.name, held)}, the rule sets {wanted}"
    for bar in rule.bars:
        held = state.find(bar.name)
        if held is not None and held.value is not None and bar.test(held.value):
            yield f"{_is(bar.name, held)}, it {bar.shown}"
    for name in rule.needs:
        held = state.find(name)
        if held is None or held.value is None:
            yield f"{_dashed(name)} is not set"
    for move in rule.moves:
        if (text := state.variable(move.variable)) is not None:
            yield f"{move.variable}={text} is no longer read; --{move.flag} takes its place"


def _same(name: str, held: Any, wanted: Any) -> bool:
    if name.isupper():
        return held == wanted or (truthy(held) and truthy(wanted)) or (_off(held) and _off(wanted))
    return bool(held == wanted)


def _off(text: str | None) -> bool:
    return text is not None and text.strip().lower() in {"0", "false"}


def _is(name: str, held: _Setting) -> str:
    by = f"rule {held.rule}" if held.rule else held.provenance
    return f"{_dashed(name)} is {'left unset' if held.value is None else held.value} ({by})"


def _dashed(name: str) -> str:
    return name if name.isupper() else f"--{name}"


def _spelt(fill: Fill) -> str:
    return f"{fill.name}={fill.value}" if fill.is_env else f"--{fill.name} {fill.value}"


def _finding(state: _State, rule: Rule, what: str) -> Finding:
    message = state.say(rule.message)
    return Finding(
        rule.id, rule.severity, f"{what}: {message}" if what else message, state.say(rule.fix), rule.source
    )


def _pin(state: _State) -> None:
    """Write out the defaults of this version, so that they are seen and do not move."""
    if not any(rule.pin and state.holds(rule) for rule in state.table.rules):
        return
    open_ = {f.name for rule in state.table.rules if state.holds(rule) is None for f in rule.fills}
    for default in state.table.defaults:
        if default.platform not in {"any", state.facts.platform} or state.find(default.flag) is not None:
            continue
        if default.flag in open_:  # a rule may want another value: not ours to decide
            continue
        if default.span is not None and (
            state.facts.vllm is None or not default.span.holds(state.facts.vllm)
        ):
            continue
        if default.when.holds(state) is not True:
            continue
        value = default.value
        if isinstance(value, str) and value.startswith("{"):
            value = state.fact(value.strip("{}"))
            if value is None:
                continue
        why = f"the default of vLLM {state.facts.vllm}, pinned" if default.span else "the default, pinned"
        state.settings(default.flag)[default.flag] = _Setting(
            value, "default", why, default.source, "pin-defaults"
        )


def _entries(settings: Mapping[str, _Setting], dashes: str) -> Iterator[Entry]:
    order = {name: place for place, name in enumerate(_FIRST)}
    for name in sorted(settings, key=lambda name: (order.get(name, len(order)), name)):
        held = settings[name]
        if held.value is not None:
            yield Entry(dashes + name, held.value, held.why, held.provenance, held.rule, held.source)
