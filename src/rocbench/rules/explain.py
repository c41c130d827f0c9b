"""Rows that explain a resolution, changes between two, the list of rules, and a check with an installed vLLM."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from rocbench.rules.flags import Names
from rocbench.rules.load import shipped
from rocbench.rules.resolution import Entry, Finding, Resolution
from rocbench.rules.standing import MEANING, counts, standing, word_for
from rocbench.rules.table import Rule, RuleTable


@dataclass(frozen=True, slots=True)
class ExplainedSetting:
    """One flag or variable: value, reason, provenance and source."""

    name: str
    value: str
    why: str
    provenance: str
    """user, profile, default, or `rule ID`."""
    source: str
    standing: str = ""
    """How well the rule that set the value is known; empty: no rule set it."""


def explain(resolution: Resolution) -> tuple[ExplainedSetting, ...]:
    """Each flag and variable of a server, in the order of its command."""
    return tuple(_explained(entry) for entry in (*resolution.args, *resolution.env))


def _explained(entry: Entry) -> ExplainedSetting:
    by = f"rule {entry.rule}" if entry.provenance == "rule" else entry.provenance
    known = word_for(entry.rule, entry.source, shipped())
    return ExplainedSetting(entry.name, shown(entry.value), entry.why, by, entry.source, known)


def shown(value: Any) -> str:
    """A value as text: true and false in lower case."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between two resolutions: a flag, a variable, a fact or a finding."""

    kind: Literal["flag", "env", "fact", "contradiction", "warning", "label"]
    name: str
    before: str
    """Empty: absent."""
    after: str
    why: str
    """The reason for the value after; for the value before, if it was removed."""


_COMPARED_FACTS = ("backend", "block_size", "runner", "graph_mode", "heads", "offload_usable_gib")
_REASONS = {"backend": "backend_reason", "runner": "runner_reason"}
"""Compared facts to the fact that gives their reason."""


def diff(before: Resolution, after: Resolution) -> tuple[Change, ...]:
    """Changes from one resolution to the other: values, resulting facts, and findings of rules."""
    changes = [*_entries("flag", before.args, after.args), *_entries("env", before.env, after.env)]
    for name in _COMPARED_FACTS:
        old, new = getattr(before.facts, name), getattr(after.facts, name)
        if old != new:
            why = getattr(after.facts, _REASONS[name]) if name in _REASONS else ""
            changes.append(Change("fact", name, _text(old), _text(new), why))
    changes += _findings("contradiction", before.contradictions, after.contradictions)
    changes += _findings("warning", before.warnings, after.warnings)
    for label in sorted({*before.accuracy_labels} ^ {*after.accuracy_labels}):
        removed = label in before.accuracy_labels
        changes.append(
            Change("label", label, "labelled" if removed else "", "" if removed else "labelled", "")
        )
    return tuple(changes)


def _text(value: Any) -> str:
    return "" if value is None else shown(value)


def _entries(
    kind: Literal["flag", "env"], before: Iterable[Entry], after: Iterable[Entry]
) -> Iterable[Change]:
    old, new = ({entry.name: entry for entry in entries} for entries in (before, after))
    for name in dict.fromkeys([*old, *new]):
        a, b = old.get(name), new.get(name)
        if a is None or b is None or a.value != b.value:
            entry = b or old[name]
            yield Change(
                kind,
                name,
                shown(a.value) if a else "",
                shown(b.value) if b else "",
                _explained(entry).provenance,
            )


def _findings(
    kind: Literal["contradiction", "warning"], before: Iterable[Finding], after: Iterable[Finding]
) -> Iterable[Change]:
    old, new = ({finding.rule: finding for finding in findings} for findings in (before, after))
    for rule in dict.fromkeys([*old, *new]):
        if (rule in old) != (rule in new):
            finding = old.get(rule) or new[rule]
            yield Change(
                kind,
                rule,
                "reported" if rule in old else "",
                "reported" if rule in new else "",
                finding.message,
            )


def list_rules(
    table: RuleTable,
    *,
    name: str = "*",
    platform: str | None = None,
    vllm: str | None = None,
    severity: str | None = None,
    historical: bool | None = None,
    text: str = "",
) -> tuple[Rule, ...]:
    """Rules by id (a glob), platform, version, severity, historical state, and a word in any key."""
    return tuple(
        rule
        for rule in table.rules
        if fnmatchcase(rule.id, name)
        and (platform is None or rule.platform in {"any", platform})
        and (vllm is None or rule.span is None or rule.span.holds(vllm))
        and (severity is None or rule.severity == severity)
        and (historical is None or rule.historical is historical)
        and (not text or text.lower() in str(dict(rule.raw)).lower())
    )


def effects(rule: Rule) -> str:
    """The effects of a rule, in one line."""
    raw: Mapping[str, Any] = rule.raw
    kinds = ("set", "unset", "forbid", "allow", "require", "replace", "offer")
    words = [f"{kind} {_listed(raw[kind])}" for kind in kinds if kind in raw]
    words += [key for key in ("refuse", "warn", "pin") if raw.get(key)]
    return "; ".join([*words, *([f"label {rule.label}"] if rule.label else [])])


def condition(rule: Rule) -> str:
    """The condition of a rule, in one line."""
    return _listed(rule.raw.get("when", {})) or "always"


def _listed(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_nested(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_nested(item) for item in value)
    return shown(value)


def _nested(value: Any) -> str:
    return f"({_listed(value)})" if isinstance(value, Mapping | list) else shown(value)


_OPTION = re.compile(r"(?<![\w-])--([a-z0-9][a-z0-9_-]*)")


def check_installed(
    resolution: Resolution, help_text: str, env_names: Iterable[str], names: Names
) -> tuple[str, ...]:
    """Flags and variables of a resolution that the installed vLLM lacks; empty if it has all.

    Args:
        help_text: the output of `vllm serve --help=all`.
        env_names: the names in `vllm.envs.environment_variables`.
        names: the known names, which separate vLLM's variables from those of HIP, RCCL or AITER.

    Returns:
        One sentence for each missing flag or variable.
    """
    options = {option.replace("_", "-") for option in _OPTION.findall(help_text)}
    known = set(env_names)
    missing = []
    for word in resolution.argv():
        root = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and root not in options:
            missing.append(f"--{root}: vllm serve --help does not list it")
    for name in resolution.environment():
        of_vllm = name.startswith("VLLM_") and (name in names.env or name not in known)
        if of_vllm and name not in known:
            missing.append(f"{name}: vllm.envs does not list it")
    return tuple(dict.fromkeys(missing))


def rules_page() -> str:
    """The page `docs/rule-table.md`: every shipped rule."""
    table = shipped()
    lines = [
        "# Rule table",
        "",
        f"{len(table.rules)} rules, from `configs/rules/*.yaml` (scripts/generate-docs). [rules.md](rules.md) explains",
        f"the columns. The source of vLLM {table.names.releases[0]} to {table.names.releases[-1]} was read.",
        "",
        *standing_table(table),
    ]
    for file in dict.fromkeys(rule.file for rule in table.rules):
        lines += ["", f"## {file.removesuffix('.yaml')}", "", *_HEAD]
        lines += [_markdown_row(rule, table) for rule in table.rules if rule.file == file]
    return "\n".join(lines) + "\n"


def standing_table(table: RuleTable) -> list[str]:
    """The number of rules of each standing, as a Markdown table."""
    every, hard = counts(table), counts(table, hard_errors=True)
    rows = [
        f"| {word} | {every[word]} | {hard[word]} | {_share(hard[word], sum(hard.values()))} | {meaning} |"
        for word, meaning in MEANING.items()
    ]
    return [
        "| Standing | Rules | Hard errors | Share of hard errors | Meaning |",
        "|---|---:|---:|---:|---|",
        *rows,
    ]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


_HEAD = (
    "| Rule | vLLM | When | Effect | Severity | Standing | Message | Source |",
    "|---|---|---|---|---|---|---|---|",
)


def _markdown_row(rule: Rule, table: RuleTable) -> str:
    span = (rule.span.text if rule.span else "any") + (", historical" if rule.historical else "")
    message = rule.message + (f" Fix: {rule.fix}" if rule.fix else "")
    known = standing(rule, table).text()
    cells = (f"`{rule.id}`", span, condition(rule), effects(rule), rule.severity, known, message, rule.source)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*") for cell in cells) + " |"
