"""Check that the arms of an ablation differ only in their factor. Pure.

A factor can change more than itself: from vLLM 0.23 on, a KV connector also selects another attention backend, block
size 1 selects AITER's MLA kernel up to 0.17, and a rule may add a flag to one arm only. Then the effect is not the
factor's. The plan stops and names the difference, unless the sweep accepts it by name (`also_changes`). If a rule can
pin the setting that would change (offload on and off), it does.

A factor's own consequences are allowed, and reported as notes: AITER covers kernels, including attention; a version
covers all its contents.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from rocbench.plan.planned import Group, PlanFault
from rocbench.redact import masked_axis
from rocbench.rules.resolve import Resolution
from rocbench.settings.schema import Sweep

_SAME_NAME = "block_size kv_cache_dtype prefix_caching max_model_len tp pp dp dcp ep".split()
FACTS = {"attention_backend": "backend", "model_runner": "runner", "graph_mode": "graph_mode"} | {
    name: name for name in _SAME_NAME
}
"""Settings that are compared by their effective value, with their names among the rules' facts."""
ENGINE = ("model_runner", "graph_mode")
"""Facts that vLLM derives from the other settings: a difference is noted, because no flag of the factor pins it."""
FLAGS_OF_FACTS = {
    "tensor_parallel_size": "tp",
    "pipeline_parallel_size": "pp",
    "data_parallel_size": "dp",
    "decode_context_parallel_size": "dcp",
    "enable_expert_parallel": "ep",
    "enable_prefix_caching": "prefix_caching",
}
AITER = ("aiter", "env.VLLM_ROCM_USE_AITER*", "env.AITER_*")
OFFLOAD = ("kv_offloading_*", "kv_transfer_config*", "disable_hybrid_kv_cache_manager")
"""Flags that an offload size makes necessary."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that differs between two arms."""

    name: str
    before: Any
    after: Any
    why: str

    def text(self) -> str:
        """`attention_backend: ROCM_ATTN -> ROCM_AITER_UNIFIED_ATTN (...)`."""
        why = f" ({self.why})" if self.why else ""
        return f"{self.name}: {_shown(self.name, self.before)} -> {_shown(self.name, self.after)}{why}"


def judge(groups: Sequence[Group], sweep: Sweep) -> tuple[tuple[PlanFault, ...], tuple[str, ...]]:
    """Return faults of arms that differ in more than their factor, and notes on a factor's own consequences.

    Args:
        groups: the groups of one entry of `models`; two entries may differ in anything.
        sweep: its factors, and the settings that may change with them.
    """
    faults: dict[PlanFault, None] = {}
    notes: dict[str, None] = {}
    for factor, base, arm in _pairs(groups, sweep):
        assert base.resolution is not None
        assert arm.resolution is not None
        step = f"{factor} {_shown(factor, base.axes[factor])} -> {_shown(factor, arm.axes[factor])}"
        for difference in differences(base.resolution, arm.resolution):
            if difference.name in ENGINE:
                notes[f"{arm.model}: {step} also selects {difference.text()}"] = None
            elif _belongs(difference.name, factor):
                if difference.name == "attention_backend" and canonical(factor) != "attention_backend":
                    notes[f"{arm.model}: {step} also selects {difference.text()}"] = None
            elif difference.name in map(canonical, sweep.also_changes):
                notes[
                    f"{arm.model}: {step} also changes {difference.text()}; `also_changes` accepts this"
                ] = None
            else:
                faults[_fault(arm.model, step, difference)] = None
    return tuple(faults), tuple(notes)


def compares_offload(sweep: Sweep) -> bool:
    """Return True if servers with and without KV offload are compared: all then need the same attention kernel."""
    axes = {
        *sweep.factors,
        *sweep.matrix.product,
        *sweep.matrix.zip,
        *itertools.chain.from_iterable(sweep.matrix.include),
    }
    return any(_matches(canonical(axis), OFFLOAD[:2]) for axis in axes)


def _pairs(groups: Sequence[Group], sweep: Sweep) -> Iterator[tuple[str, Group, Group]]:
    """Yield (factor, arm at its base, other arm) for arms that differ in this factor only."""
    arms = [g for g in groups if g.resolution is not None and all(name in g.axes for name in sweep.factors)]
    for one, other in itertools.permutations(arms, 2):
        changed = [name for name in {**one.axes, **other.axes} if one.axes.get(name) != other.axes.get(name)]
        if len(changed) == 1 and changed[0] in sweep.factors:
            base = sweep.factors[changed[0]][0]
            if one.axes[changed[0]] == base:
                yield changed[0], one, other


def differences(one: Resolution, other: Resolution) -> list[Difference]:
    """Return every effective setting that differs between two servers, by its canonical name."""
    settings = [_settings(resolution) for resolution in (one, other)]
    changed = []
    for name in dict.fromkeys([*FACTS, *settings[0], *settings[1]]):
        if name in FACTS:
            before, after = (getattr(r.facts, FACTS[name]) for r in (one, other))
            reasons = {"attention_backend": "backend_reason", "model_runner": "runner_reason"}
            why = getattr(other.facts, reasons[name]) if name in reasons else ""
        else:
            (before, _), (after, why) = (side.get(name, (None, "")) for side in settings)
            why = why or settings[0].get(name, (None, ""))[1]
        if before != after:
            changed.append(Difference(name, before, after, why))
    return changed


def _settings(resolution: Resolution) -> Mapping[str, tuple[Any, str]]:
    """Return flags and variables by canonical name, each with the rule that set it."""
    flags = {canonical(entry.name): entry for entry in resolution.args}
    variables = {f"env.{entry.name}": entry for entry in resolution.env}
    return {
        name: (entry.value, f"rule {entry.rule}" if entry.rule else "")
        for name, entry in {**flags, **variables}.items()
    }


def canonical(name: str) -> str:
    """Return the canonical name: `--block-size`, `block-size` and `block_size` are the same; a flag that is a
    fact has the fact's name.
    """
    if name.startswith("env."):
        return name
    plain = name.lstrip("-").replace("-", "_")
    return FLAGS_OF_FACTS.get(plain, plain)


def _belongs(name: str, factor: str) -> bool:
    """Return True if a difference is the factor itself or its own consequence."""
    factor = canonical(factor)
    if factor in {"vllm", name} or name.startswith(f"{factor}."):
        return True
    if _matches(factor, AITER):
        return name == "attention_backend" or _matches(name, AITER)
    return _matches(factor, OFFLOAD) and _matches(name, OFFLOAD)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _fault(model: str, step: str, difference: Difference) -> PlanFault:
    pin = f"serve_args: {{{difference.name}: ...}}"
    if difference.name.startswith("env."):
        pin = f"env: {{{difference.name.removeprefix('env.')}: ...}}"
    return PlanFault(
        model,
        f"{step} also changes {difference.text()}: the measured effect would not be caused by the factor alone\n"
        f"  fix: set {difference.name} for all arms ({pin}), or accept the difference (also_changes: [{difference.name}])",
    )


def _shown(name: str, value: Any) -> str:
    words = {None: "not set", True: "on", False: "off"}
    return masked_axis(name, words[value] if value is None or isinstance(value, bool) else str(value))
