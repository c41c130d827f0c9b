"""Print the resolution of a configuration, and the rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import typer
from rich.markup import escape

from rocbench.console import environment_secrets, out, say, show_rows
from rocbench.harmless import json_text
from rocbench.redact import masked_entry, redacted
from rocbench.rules import explain
from rocbench.rules.load import shipped
from rocbench.rules.resolve import Finding, Resolution
from rocbench.rules.standing import standing, word_for
from rocbench.rules.table import Rule


def show_resolution(resolved: Resolution, *, as_json: bool) -> None:
    """Print each flag and variable with its origin, then the findings of the rules."""
    rows = [replace(row, value=_shown(row.name, row.value)) for row in explain.explain(resolved)]
    facts = resolved.facts
    if as_json:
        data = {
            "model": resolved.model,
            "vllm": facts.vllm,
            "hardware": facts.gpu or facts.platform,
            "family": facts.family,
            "heads": facts.heads,
            "backend": facts.backend,
            "backend_reason": facts.backend_reason,
            "backend_source": facts.backend_source,
            "runner": facts.runner,
            "runner_reason": facts.runner_reason,
            "runner_source": facts.runner_source,
            "graph_mode": facts.graph_mode,
            "graph_batch": facts.graph_batch,
            "note": resolved.note,
            "rows": [asdict(row) for row in rows],
            "findings": _findings(resolved),
            "accuracy_labels": resolved.accuracy_labels,
        }
        typer.echo(json_text(data))
        return
    console = out()
    console.print(
        f"[bold]{escape(resolved.model)}[/]  vLLM {facts.vllm or 'unknown'}  {facts.gpu or facts.platform}  "
        f"{facts.family}, {facts.heads} heads per rank, backend {facts.backend or 'unknown'}, "
        f"model runner {facts.runner or 'unknown'}, CUDA graphs {facts.graph_mode or 'unknown'}"
    )
    for name, reason, source in (
        ("backend", facts.backend_reason, facts.backend_source),
        ("model runner", facts.runner_reason, facts.runner_source),
    ):
        if reason:
            console.print(f"[dim]{name}: {escape(reason)}{_source(source)}[/]")
    if resolved.note:
        console.print(f"profile: {escape(resolved.note)}")
    show_rows(
        ["flag or variable", "value", "by", "standing", "why", "source"],
        [[row.name, row.value, row.provenance, row.standing, row.why, row.source] for row in rows],
    )
    for title, style, findings in (
        ("refused", "red", resolved.contradictions),
        ("warning", "yellow", resolved.warnings),
        ("undecided", "dim", resolved.undecided),
        ("offered", "dim", resolved.offers),
    ):
        for finding in findings:
            console.print(f"[{style}]{title}[/] {escape(finding.text())}[dim]{_source(_backed(finding))}[/]")
    if resolved.accuracy_labels:
        console.print(f"[yellow]accuracy-affecting[/]: {escape(', '.join(resolved.accuracy_labels))}")


def _shown(name: str, value: str) -> str:
    """Return the value of a flag or variable, masked if it is a secret; empty stays empty."""
    return redacted(str(masked_entry(name, value)), environment_secrets()) if value else value


def _source(source: str) -> str:
    """Return a source in brackets; empty if there is none."""
    return f" ({escape(source)})" if source else ""


def _backed(finding: Finding) -> str:
    """Return a finding's source, after the standing of its rule."""
    known = word_for(finding.rule, finding.source, shipped())
    return f"{known}: {finding.source}" if known else finding.source


def _findings(resolved: Resolution) -> dict[str, list[dict[str, Any]]]:
    kinds = ("contradictions", "warnings", "undecided", "offers")
    return {
        kind: [
            asdict(finding) | {"standing": word_for(finding.rule, finding.source, shipped())}
            for finding in getattr(resolved, kind)
        ]
        for kind in kinds
    }


def show_diff(
    model: str, versions: tuple[str, str], old: Resolution, new: Resolution, *, as_json: bool
) -> None:
    """Print the changes between two versions."""
    changes = [
        replace(change, before=_shown(change.name, change.before), after=_shown(change.name, change.after))
        if change.kind in {"flag", "env"}  # facts and findings hold no secret
        else change
        for change in explain.diff(old, new)
    ]
    if as_json:
        typer.echo(json_text([asdict(change) for change in changes]))
        return
    if not changes:
        say(f"{model}: nothing changes from vLLM {versions[0]} to {versions[1]}")
        return
    show_rows(
        ["", model, versions[0], versions[1], "why"],
        [[c.kind, c.name, c.before or "-", c.after or "-", c.why] for c in changes],
    )


def show_rules(rules: Iterable[Rule], *, as_json: bool) -> None:
    """Print rules as a table, or as JSON."""
    if as_json:
        typer.echo(json_text([_as_data(rule) for rule in rules]))
        return
    show_rows(
        ["rule", "vLLM", "severity", "standing", "when", "effect", "message", "source"],
        [
            [
                rule.id,
                (rule.span.text if rule.span else "any") + (" (historical)" if rule.historical else ""),
                rule.severity,
                standing(rule, shipped()).text(),
                explain.condition(rule),
                explain.effects(rule),
                rule.message,
                rule.source,
            ]
            for rule in rules
        ],
    )


def _as_data(rule: Rule) -> dict[str, Any]:
    known = standing(rule, shipped())
    return {
        "rule": rule.id,
        "platform": rule.platform,
        "vllm": rule.span.text if rule.span else None,
        "historical": rule.historical,
        "severity": rule.severity,
        "standing": known.word,
        "proved": list(shipped().proved.get(rule.id, ())),
        "when": explain.condition(rule),
        "effect": explain.effects(rule),
        "message": rule.message,
        "fix": rule.fix,
        "source": rule.source,
    }
