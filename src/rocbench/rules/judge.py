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
    """Check the settings against every rule. A hard error is a contradiction, any other finding a warning.

    A rule with an open version range is assumed in a version newer than the last that was read: there it only warns.
    """
    judgement = Judgement()
    for rule in state.rules:
        answer = state.holds(rule)
        if answer is None and (_acts_alone(rule) or any(_against(state, rule))):
            judgement.undecided.append(_finding(state, rule, _why_undecided(state, rule)))
        if answer is not True:
            continue
        findings = [_finding(state, rule, what) for what in _against(state, rule)]
        if rule.refuse:
            findings.append(_finding(state, rule, ""))
        certain = rule.severity == "hard_error" and not state.assumed(rule)
        (judgement.contradictions if certain else judgement.warnings).extend(findings)
        if rule.warn or rule.label:
            judgement.warnings.append(_finding(state, rule, ""))
        if rule.label:
            judgement.labels.append(state.say(rule.label))
        unmet = [fill for fill in rule.offers if state.find(fill.name) is None]
        if unmet:
            settings = ", ".join(_spelt(fill) for fill in unmet)
            judgement.offers.append(_finding(state, rule, f"you could set {settings}"))
    return judgement


def _acts_alone(rule: Rule) -> bool:
    """True if a rule has a finding even though no setting violates it."""
    return bool(rule.fills or rule.refuse or rule.warn or rule.label or rule.needs)


def _why_undecided(state: State, rule: Rule) -> str:
    """The reason why a rule is undecided."""
    unknown = [key for key in rule.when.unknown(state) if key not in {"any", "not"}]
    if rule.covers(state.facts.platform, state.facts.vllm) is None and rule.span is not None:
        return f"applies to vLLM {rule.span.text}, but the vLLM version is unknown"
    return f"depends on unknown facts ({', '.join(unknown)})" if unknown else "depends on unknown facts"


def _against(state: State, rule: Rule) -> Iterator[str]:
    """The settings that violate a rule that holds."""
    for fill in rule.fills:
        held = state.find(fill.name)
        value = state.filled(fill.value)
        if held is None or held.rule == rule.id or _same(fill.name, held.value, value):
            continue
        if held.value is None or fill.accept is None or not fill.accept(held.value):
            yield f"{_shown(fill.name, held)}, but the rule sets {value}"
    for bar in rule.bars:
        held = state.find(bar.name)
        if held is not None and held.value is not None and bar.test(held.value):
            yield f"{_shown(bar.name, held)}, but {bar.shown}"
    for name in rule.needs:
        held = state.find(name)
        if held is None or held.value is None:
            yield f"{_dashed(name)} is not set"
    for move in rule.moves:
        if (text := state.variable(move.variable)) is not None:
            yield f"{move.variable}={text} has no effect: vLLM no longer reads it; use --{move.flag}"


def _same(name: str, held: Any, value: Any) -> bool:
    if name.isupper():
        return held == value or (truthy(held) and truthy(value)) or (_off(held) and _off(value))
    return bool(held == value)


def _off(text: str | None) -> bool:
    return text is not None and text.strip().lower() in {"0", "false"}


def _shown(name: str, held: Setting) -> str:
    by = f"rule {held.rule}" if held.rule else held.provenance
    return f"{_dashed(name)} is {'unset' if held.value is None else held.value} ({by})"


def _dashed(name: str) -> str:
    return name if name.isupper() else f"--{name}"


def _spelt(fill: Fill) -> str:
    return f"{fill.name}={fill.value}" if fill.name.isupper() else f"--{fill.name} {fill.value}"


def _finding(state: State, rule: Rule, what: str) -> Finding:
    message = state.say(rule.message) + state.assumed(rule)
    return Finding(
        rule.id, rule.severity, f"{what}: {message}" if what else message, state.say(rule.fix), rule.source
    )
