"""Questions for vLLM's own configuration code: plans of the profiles, and plans on both sides of each rule.

`python oracle/questions.py --vllm V` prints the number of questions for a release, with `--out FILE` it writes the lines
for `oracle/ask.py`. A question has the arguments and variables that the server would get, and a `config.json`. Its id is
the hash of its content, so an answer stays valid until the plan changes. docs/proofs.md lists the results.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from packaging.version import Version

if __name__ == "__main__":  # as a program; a test has the folder on its path already
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import rulecases
from rocbench.errors import BenchError
from rocbench.rules.load import shipped
from rocbench.rules.resolve import Resolution, ServeRequest, resolve
from rocbench.rules.state import variant_of
from rocbench.rules.table import Rule, RuleTable
from rocbench.settings import catalog
from rocbench.settings.schema import ModelProfile

RELEASES = (
    "0.14.1",
    "0.16.0",
    "0.18.1",
    "0.20.2",
    "0.23.0",
    "0.26.0",
    "0.28.0",
    "0.30.0",
    "0.32.0",
    "0.33.0",
)
"""The releases that are asked."""
COMPLETE: tuple[str, ...] = RELEASES
"""Releases of which every question has an answer: `tests/unit/rules/test_proofs.py` fails if one is missing."""
HARDWARE = ("mi325x", "mi355x")
"""Hardware of the profiles' questions: one of gfx942, one of gfx950."""
GFX = ("gfx942", "gfx950")
"""Architectures that can be asked."""
OFFLOAD_GIB = 64
"""Host memory of the plans with KV offload."""
AITER = "VLLM_ROCM_USE_AITER"


@dataclass(frozen=True, slots=True)
class View:
    """One plan behind a question, and the opinion of the rules about it. Two plans can ask the same."""

    about: tuple[str, ...]
    """("profile", name, hardware, arm), ("bare", name, hardware, arm) or ("rule", id, side, detail)."""
    judged: bool
    """True if the rules accept or refuse this plan; False if it only shows vLLM's own choices."""
    refused: Mapping[str, str]
    """Rules that refuse the plan, each with its message."""
    doubts: tuple[str, ...]
    """Findings that leave open whether the server starts."""
    chosen: Mapping[str, Any]
    """Values that bench expects: backend, block size, graph mode, runner. None and absent expect nothing."""
    pinned: Mapping[str, Any]
    """Defaults that bench states for this version, if the plan leaves them to vLLM."""


@dataclass(frozen=True, slots=True)
class Question:
    """What vLLM is asked: does it accept these arguments and variables for this `config.json`?"""

    vllm: str
    gfx: str
    model: str
    config: Mapping[str, Any]
    args: tuple[str, ...]
    """The arguments after the model of `vllm serve MODEL`."""
    env: Mapping[str, str]
    views: tuple[View, ...]
    priority: int
    """0: a profile's plan; 1: a rule that is a hard error; 2: another rule."""
    id: str = field(init=False, compare=False)
    """The first 16 hexadecimal digits of the SHA-256 of the content."""

    @property
    def about(self) -> list[list[str]]:
        """The plans behind this question."""
        return [list(view.about) for view in self.views]

    def __post_init__(self) -> None:
        names = ("vllm", "gfx", "config", "args", "env")
        object.__setattr__(self, "id", digest({name: getattr(self, name) for name in names}))

    def line(self) -> dict[str, Any]:
        """The question as `oracle/ask.py` reads it."""
        return {
            "id": self.id,
            "vllm": self.vllm,
            "gfx": self.gfx,
            "model": self.model,
            "config": self.config,
            "args": list(self.args),
            "env": dict(self.env),
        }


def digest(content: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a value as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def questions(vllm: str, table: RuleTable | None = None) -> list[Question]:
    """All questions for a release: the profiles' first, then those of hard errors, then those of other rules.

    Pure, except that it reads the profiles and the cases of the rules.
    """
    rules = table or shipped()
    merged: dict[str, Question] = {}
    for question in (*_of_profiles(vllm, rules), *_of_rules(vllm, rules)):
        known = merged.get(question.id)
        if known is None:
            merged[question.id] = question
        elif question.views[0] not in known.views:
            merged[question.id] = replace(
                known,
                views=(*known.views, *question.views),
                priority=min(known.priority, question.priority),
            )
    return sorted(merged.values(), key=lambda question: question.priority)


# --- the profiles


def _of_profiles(vllm: str, table: RuleTable) -> Iterator[Question]:
    for name in catalog.names("models"):
        if name.startswith("tiny-"):  # for the CPU
            continue
        for hardware in HARDWARE:
            for arm, request in _arms(_packaged(name, hardware, vllm)):
                yield from _asked(("profile", name, hardware, arm), request, table, 0)
            yield from _bare(name, hardware, vllm, table)


def _packaged(name: str, hardware: str, vllm: str) -> ServeRequest:
    """The plan of a packaged profile; the rules' cases have models of the same names."""
    profile = _read(name)
    return ServeRequest(profile, rulecases.hardware(hardware), vllm, nodes=profile.nodes)


_read = cache(catalog.model)
"""A packaged profile, read once."""


def _arms(request: ServeRequest) -> Iterator[tuple[str, ServeRequest]]:
    """The plan as it is, without AITER, with KV offload, and without each argument and variable of its variant."""
    yield "default", request
    yield "aiter off", replace(request, aiter="off", user_env=_without(request.user_env, AITER))
    yield "offload", replace(request, user_args={**request.user_args, "kv-offloading-size": OFFLOAD_GIB})
    variant = variant_of(request)
    if variant is None:
        return
    for part in (*variant.args, *variant.env):
        less = variant.model_copy(
            update={"args": _without(variant.args, part), "env": _without(variant.env, part)}
        )
        serve = tuple(less if one is variant else one for one in request.profile.serve)
        profile = request.profile.model_copy(update={"serve": serve})
        yield f"without {part}", replace(request, profile=profile)


def _without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def _bare(name: str, hardware: str, vllm: str, table: RuleTable) -> Iterator[Question]:
    """Plans that leave everything to vLLM, with and without AITER: they show its defaults and its choice of backend."""
    request = _packaged(name, hardware, vllm)
    profile = request.profile.model_copy(update={"serve": ()})
    request = replace(request, profile=profile)
    full = resolve(request, table)
    pinned = {entry.name: entry.value for entry in full.args if entry.rule == "pin-defaults"}
    if full.facts.architecture_missing:
        return
    ruleless = replace(table, rules=(), defaults=())
    for arm, env in (("without aiter", {}), ("with aiter", {AITER: "1"})):
        resolution = resolve(replace(request, user_env=env), ruleless)
        view = View(("bare", name, hardware, arm), False, {}, (), _chosen(resolution), pinned)
        yield _question(request, resolution.argv()[1:], resolution.environment(), view, 0)


# --- the rules


def _of_rules(vllm: str, table: RuleTable) -> Iterator[Question]:
    for rule in table.rules:
        if rule.platform == "cpu" or rule.pin or not _near(rule, vllm):
            continue
        acts = rule.refuse or rule.fills or rule.bars or rule.needs or rule.moves
        priority = 1 if rule.severity == "hard_error" and acts else 2
        for given in _givens(rule.id):
            yield from _sides(rule, given, vllm, table, priority)


def _near(rule: Rule, vllm: str) -> bool:
    """True if the release is the first or last in the rule's range, or the next to it outside, of those asked."""
    if rule.span is None:
        return vllm in {RELEASES[0], RELEASES[-1]}
    inside = [rule.span.holds(one) for one in RELEASES]
    place = RELEASES.index(vllm)
    around = {inside[max(place - 1, 0)], inside[min(place + 1, len(RELEASES) - 1)]}
    edge = around != {inside[place]}
    return edge or (inside[place] and place in {0, len(RELEASES) - 1})


@cache
def _givens(rule: str) -> tuple[Mapping[str, Any], ...]:
    """The different plans of a rule's cases, on hardware that can be asked."""
    found: dict[str, Mapping[str, Any]] = {}
    for case in rulecases.cases_of(rule):
        gpu = rulecases.hardware(case.given.get("hardware", "mi325x")).gpu
        if gpu is not None and gpu.gfx in GFX:
            found.setdefault(json.dumps(case.given, sort_keys=True, default=str), case.given)
    return tuple(found.values())


def _sides(
    rule: Rule, given: Mapping[str, Any], vllm: str, table: RuleTable, priority: int
) -> Iterator[Question]:
    """The plan of a case; and if the rule sets something there, the same plan without it."""
    request = rulecases.request(given, vllm)
    try:
        resolution = resolve(request, table)
    except BenchError:
        return
    side = _side(rule, resolution)
    yield _judged(("rule", rule.id, side, _detail(given)), request, resolution, priority)
    if side == "sets":
        yield from _unset(rule, request, resolution, table, priority, _detail(given))


def _side(rule: Rule, resolution: Resolution) -> str:
    """What the rule does in this plan: refuses, sets, warns, offers, undecided or silent."""
    for side, findings in (("refuses", resolution.contradictions), ("warns", resolution.warnings)):
        if any(finding.rule == rule.id for finding in findings):
            return side
    if any(entry.rule == rule.id for entry in (*resolution.args, *resolution.env)):
        return "sets"
    for side, findings in (("undecided", resolution.undecided), ("offers", resolution.offers)):
        if any(finding.rule == rule.id for finding in findings):
            return side
    return "silent"


def _detail(given: Mapping[str, Any]) -> str:
    """The plan of a case in one line."""
    return json.dumps(given, separators=(",", ":"), default=str)


def _unset(
    rule: Rule, request: ServeRequest, resolution: Resolution, table: RuleTable, priority: int, detail: str
) -> Iterator[Question]:
    """The plan that the rule completes, with its values left unset."""
    ours = [entry.name for entry in (*resolution.args, *resolution.env) if entry.rule == rule.id]
    flags = {name.removeprefix("--"): None for name in ours if not name.isupper()}
    about = ("rule", rule.id, "unset", detail)
    if len(flags) == len(ours):
        unset = replace(request, user_args={**request.user_args, **flags})
        yield from _asked(about, unset, table, priority)
        return
    # bench cannot leave a variable unset that a rule sets, so the rule itself is left out
    others = replace(table, rules=tuple(one for one in table.rules if one.id != rule.id))
    message = resolution_message(rule, resolution)
    claims = {rule.id: message} if rule.severity == "hard_error" else {}
    yield from _asked(about, request, others, priority, claims)


def resolution_message(rule: Rule, resolution: Resolution) -> str:
    """The message of a rule that sets a value, as the entry gives it."""
    return next(entry.why for entry in (*resolution.args, *resolution.env) if entry.rule == rule.id)


# --- one question


def _asked(
    about: tuple[str, ...],
    request: ServeRequest,
    table: RuleTable,
    priority: int,
    claims: Mapping[str, str] | None = None,
) -> Iterator[Question]:
    """The question of a plan. A refused plan is asked as well, as the server would get it with --force."""
    try:
        resolution = resolve(request, table)
    except BenchError:
        return  # bench cannot read this plan, so no server gets it
    yield _judged(about, request, resolution, priority, claims)


def _judged(
    about: tuple[str, ...],
    request: ServeRequest,
    resolution: Resolution,
    priority: int,
    claims: Mapping[str, str] | None = None,
) -> Question:
    refused = {finding.rule: finding.message for finding in resolution.contradictions} | dict(claims or {})
    view = View(about, True, refused, _doubts(resolution), _chosen(resolution), {})
    return _question(request, resolution.argv()[1:], resolution.environment(), view, priority)


def _doubts(resolution: Resolution) -> tuple[str, ...]:
    """Rules that say a server may fail without refusing it: hard errors as warnings, undecided ones, unknown names."""
    warned = (f for f in resolution.warnings if f.severity == "hard_error" or f.rule == "unknown-flag")
    open_ones = (f for f in resolution.undecided if f.severity == "hard_error")
    return tuple(dict.fromkeys(finding.rule for finding in (*warned, *open_ones)))


_CHOSEN = ("backend", "block_size", "kv_cache_dtype", "graph_mode", "max_captured", "runner")


def _chosen(resolution: Resolution) -> dict[str, Any]:
    """The facts that vLLM's configuration can show too."""
    values = {name: getattr(resolution.facts, name, None) for name in _CHOSEN}
    return {name: value for name, value in values.items() if value is not None and value != "auto"}


def _question(
    request: ServeRequest, args: Iterable[str], env: Mapping[str, str], view: View, priority: int
) -> Question:
    gpu = request.hardware.gpu
    assert gpu is not None
    assert request.vllm is not None
    return Question(
        vllm=request.vllm,
        gfx=gpu.gfx,
        model=request.profile.name,
        config=published_config(request.profile),
        args=tuple(args),
        env=dict(env),
        views=(view,),
        priority=priority,
    )


_FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3"}
_INT4 = {
    "actorder": None,
    "block_structure": None,
    "dynamic": False,
    "num_bits": 4,
    "observer": "minmax",
    "observer_kwargs": {},
    "strategy": "group",
    "symmetric": True,
    "type": "int",
}


def published_config(profile: ModelProfile) -> dict[str, Any]:
    """The profile's config with the storage of the weights, as the published `config.json` states it.

    A profile keeps the storage apart, as `checkpoint`.
    """
    config = dict(profile.config)
    config.setdefault("torch_dtype", "bfloat16")
    stored = profile.checkpoint
    model_type = str(config.get("model_type", ""))
    quantization: dict[str, Any] | None = None
    if stored.quantization == "fp8_block" and stored.block:
        quantization = {**_FP8, "weight_block_size": list(stored.block)}
    elif stored.quantization == "mxfp4" and model_type.startswith("deepseek_v4"):
        quantization = {**_FP8, "scale_fmt": "ue8m0", "weight_block_size": [128, 128]}
    elif stored.quantization == "mxfp4" and model_type == "gpt_oss":
        quantization = {"quant_method": "mxfp4"}
    elif stored.quantization == "int4_group" and stored.group:
        group = {
            "input_activations": None,
            "output_activations": None,
            "targets": ["Linear"],
            "weights": {**_INT4, "group_size": stored.group},
        }
        quantization = {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": {"group_0": group},
            "ignore": ["lm_head"],
            "quantization_status": "compressed",
        }
    if quantization is not None:
        config.setdefault("quantization_config", quantization)
    return config


def main(argv: list[str] | None = None) -> int:
    """Print the number of questions, or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vllm", metavar="VERSION", help="one release; default: all that are asked")
    parser.add_argument("--out", metavar="FILE", help="write the questions as JSON lines")
    given = parser.parse_args(argv)
    lines: list[str] = []
    for version in [given.vllm] if given.vllm else sorted(RELEASES, key=Version):
        found = questions(version)
        counts = ", ".join(f"{name} {sum(q.priority == n for q in found)}" for n, name in enumerate(_KINDS))
        sys.stdout.write(f"{version}: {len(found)} questions ({counts})\n")
        lines += [json.dumps(question.line(), separators=(",", ":")) + "\n" for question in found]
    if given.out:
        Path(given.out).write_text("".join(lines), encoding="utf-8")
    return 0


_KINDS = ("profiles", "hard errors", "other rules")

if __name__ == "__main__":
    sys.exit(main())
