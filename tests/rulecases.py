"""The rule cases of `cases.yaml`: each is a request and what one rule must do with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rocbench.rules.resolve import Resolution, ServeRequest, resolve
from rocbench.rules.table import RuleTable
from rocbench.settings import catalog
from rocbench.settings.schema import Hardware, ModelProfile

DATA = yaml.load(
    (Path(__file__).parent / "unit" / "rules" / "cases.yaml").read_text(encoding="utf-8"),
    Loader=yaml.CSafeLoader,
)


@dataclass(frozen=True, slots=True)
class Case:
    """One request, and what `rule` must do with it."""

    rule: str
    given: Mapping[str, Any]
    vllm: str
    does: Any

    def __str__(self) -> str:
        return f"{self.rule} at {self.vllm} with {dict(self.given)}: {self.does}"


@cache
def cases_of(rule: str) -> tuple[Case, ...]:
    """The cases of one rule."""
    return tuple(_expand(rule, DATA["cases"][rule]))


def _expand(rule: str, entry: Mapping[str, Any]) -> Iterator[Case]:
    given = entry["given"]
    for version in entry["at"]:
        yield Case(rule, given, str(version), entry["does"])
    for version in entry.get("not_at", ()):
        yield Case(rule, given, str(version), "nothing")
    for more in entry.get("also", ()):
        for version in more["at"]:
            yield Case(rule, _merged(given, more.get("given", {})), str(version), more["does"])


def _merged(given: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(given)
    for key, value in more.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = {**merged[key], **value} if nested else value
    return merged


@cache
def profile(name: str) -> ModelProfile:
    """A profile made for the cases, or a packaged one."""
    made = DATA["models"].get(name)
    return ModelProfile.model_validate({"name": name} | made) if made else catalog.model(name)


@cache
def hardware(name: str) -> Hardware:
    """Hardware made for the cases, or a packaged one."""
    made = dict(DATA["hardware"].get(name, {}))
    if not made:
        return catalog.hardware(name)
    like = catalog.hardware(made.pop("like")).model_dump()
    if "gfx" in made:
        like["gpu"]["gfx"] = made.pop("gfx")
    return Hardware.model_validate(like | {"name": name} | made)


def request(given: Mapping[str, Any], vllm: str | None) -> ServeRequest:
    """The request of a case."""
    return ServeRequest(
        profile=profile(given["model"]),
        hardware=hardware(given.get("hardware", "mi325x")),
        vllm=vllm,
        tp=given.get("tp"),
        aiter=given.get("aiter"),
        user_args=given.get("args", {}),
        user_env={name: text for name, text in given.get("env", {}).items() if text is not None},
        nodes=given.get("nodes", profile(given["model"]).nodes),
        offload_compared=given.get("offload_compared", False),
        multi_turn=given.get("multi_turn", False),
    )


def done(case: Case, table: RuleTable) -> dict[str, Any]:
    """What the rule did: only the keys that apply."""
    resolution = resolve(request(case.given, case.vllm), table)
    return _done(case.rule, resolution, table)


def _done(rule: str, resolution: Resolution, table: RuleTable) -> dict[str, Any]:
    entries = (*resolution.args, *resolution.env)
    label = next((r.label for r in table.rules if r.id == rule), "")
    found = {
        "sets": {entry.name.lstrip("-"): entry.value for entry in entries if entry.rule == rule},
        "refuses": any(finding.rule == rule for finding in resolution.contradictions),
        "warns": any(finding.rule == rule for finding in resolution.warnings),
        "undecided": any(finding.rule == rule for finding in resolution.undecided),
        "offers": any(finding.rule == rule for finding in resolution.offers),
        "labels": label if label and label in resolution.accuracy_labels else "",
    }
    return {key: value for key, value in found.items() if value}


def wrong(case: Case, table: RuleTable) -> str:
    """What is wrong with the rule in this case; empty when it does what it must."""
    did = done(case, table)
    if case.does == "nothing":
        return f"{case}, but it did {did}" if did else ""
    if isinstance(case.does, str):
        return "" if did.get(case.does) else f"{case}, but it did {did or 'nothing'}"
    (kind, wanted), *_ = case.does.items()
    got = did.get(kind)
    if kind == "sets":
        right = bool(got) and all(got.get(name) == value for name, value in wanted.items())
        return "" if right else f"{case}, but it set {got}"
    return "" if got == wanted else f"{case}, but it did {did or 'nothing'}"
