"""Findings of rules about settings: contradictions, warnings, undecided rules, offers, labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rocbench.rules.resolution import Finding
from rocbench.rules.state import Setting, State
from rocbench.rules.table import Fill, Rule
from rocbench.rules.truth import truthy


@dataclass(slots=True)
class Judgement:
    """Findings of rules, by consequence."""

    contradictions: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    undecided: list[Finding] = field(default_factory=list)
    offers: list[Finding] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def judge(state: State) -> Judgement:
    """Check the settings against every rule. A hard error is a contradiction, any other finding a warning."""
    said = Judgement()
    for rule in state.table.rules:
        answer = state.holds(rule)
        if answer is None and (_acts_alone(rule) or any(_against(state, rule))):
            said.undecided.append(_finding(state, rule, _open(state, rule)))
        if answer is not True:
            continue
        found = [_finding(state, rule, what) for what in _against(state, rule)]
        if rule.refuse:
            found.append(_finding(state, rule, ""))
        (said.contradictions if rule.severity == "hard_error" else said.warnings).extend(found)
        if rule.warn or rule.label:
            said.warnings.append(_finding(state, rule, ""))
        if rule.label:
            said.labels.append(state.say(rule.label))
        unmet = [fill for fill in rule.offers if state.find(fill.name) is None]
        if unmet:
            could = ", ".join(_spelt(fill) for fill in unmet)
            said.offers.append(_finding(state, rule, f"{could} could be set"))
    return said


def _acts_alone(rule: Rule) -> bool:
    """True if a rule has a finding even though no setting violates it."""
    return bool(rule.fills or rule.refuse or rule.warn or rule.label or rule.needs)


def _open(state: State, rule: Rule) -> str:
    """The reason why a rule is undecided."""
    unknown = [key for key in rule.when.unknown(state) if key not in {"any", "not"}]
    if rule.covers(state.facts.platform, state.facts.vllm) is None and rule.span is not None:
        return f"holds for vLLM {rule.span.text}, and the version is unknown"
    return f"depends on {', '.join(unknown) or 'facts'}, which is unknown"


def _against(state: State, rule: Rule) -> Iterator[str]:
    """The settings that violate a rule that holds."""
    for fill in rule.fills:
        held = state.find(fill.name)
        wanted = state.filled(fill.value)
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


def _is(name: str, held: Setting) -> str:
    by = f"rule {held.rule}" if held.rule else held.provenance
    return f"{_dashed(name)} is {'left unset' if held.value is None else held.value} ({by})"


def _dashed(name: str) -> str:
    return name if name.isupper() else f"--{name}"


def _spelt(fill: Fill) -> str:
    return f"{fill.name}={fill.value}" if fill.is_env else f"--{fill.name} {fill.value}"


def _finding(state: State, rule: Rule, what: str) -> Finding:
    message = state.say(rule.message)
    return Finding(
        rule.id, rule.severity, f"{what}: {message}" if what else message, state.say(rule.fix), rule.source
    )
