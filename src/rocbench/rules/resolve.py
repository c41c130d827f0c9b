"""A server's final arguments: user over profile over rule over pinned default. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from rocbench.rules import notices
from rocbench.rules.flags import newer
from rocbench.rules.judge import judge
from rocbench.rules.load import shipped
from rocbench.rules.resolution import Entry, Finding, Resolution, ServeRequest
from rocbench.rules.state import Setting, State, subject_of, take_profile, take_user, variant_of
from rocbench.rules.table import Fill, Rule, RuleTable
from rocbench.rules.truth import truthy

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
"""The first flags, in this order; the others follow by name."""


def resolve(request: ServeRequest, rules: RuleTable | None = None) -> Resolution:
    """The final arguments and environment of a server, with provenance, warnings and contradictions.

    Raises:
        InputError: a setting cannot be read, or two contradict each other.
    """
    table = rules if rules is not None else shipped()
    state = State(request, table, subject_of(request, table))
    take_profile(state)
    take_user(state)
    state.update_facts()
    _fill(state)
    state.defaults = dict(_defaults(state))
    _of_a_step(state)
    state.update_facts()
    judgement = judge(state)
    if state.facts.platform == "rocm" and not state.facts.aiter:
        given = (n for n, s in state.env.items() if s.provenance != "rule" and truthy(s.value))
        state.notices += notices.idle_parts(given, table)
    for name, setting in state.defaults.items():
        if (
            state.find(name) is None
        ):  # stated, a default is visible and fixed; a user can also leave a flag unset
            state.settings(name)[name] = setting
    state.update_facts()
    forced = request.force and bool(judgement.contradictions)
    return Resolution(
        model=request.profile.path or request.profile.hf_id,
        args=tuple(_entries(state, state.flags, "--")),
        env=tuple(_entries(state, state.env, "")),
        note=variant.note if (variant := variant_of(request)) else "",
        contradictions=() if forced else tuple(judgement.contradictions),
        warnings=(*(judgement.contradictions if forced else ()), *judgement.warnings, *state.notices),
        undecided=tuple(judgement.undecided),
        offers=tuple(judgement.offers),
        accuracy_labels=tuple(judgement.labels),
        facts=state.facts,
        assumed=request.vllm is not None and newer(request.vllm, table.names),
        forced=forced,
    )


def _fill(state: State) -> None:
    """Let rules fill unset settings until none adds any. Facts are gathered again after each addition."""
    added = True
    while added:
        added = False
        for rule in state.rules:
            if not (rule.fills or rule.moves) or state.holds(rule) is not True:
                continue
            missing = [f for f in (*rule.fills, *_moved(state, rule)) if state.find(f.name) is None]
            why = state.say(rule.message) + state.assumed(rule)
            for fill in missing:
                value = state.filled(fill.value)
                state.settings(fill.name)[fill.name] = Setting(value, "rule", why, rule.source, rule.id)
            if missing:
                added = True
                state.update_facts()


def _moved(state: State, rule: Rule) -> Iterator[Fill]:
    for move in rule.moves:
        text = state.variable(move.variable)
        if text is not None and (move.value is None or truthy(text)):
            yield Fill(move.flag, move.value or text)


def _defaults(state: State) -> Iterator[tuple[str, Setting]]:
    """The defaults of this version that no setting overrides."""
    if not any(rule.pin and state.holds(rule) for rule in state.rules):
        return
    last = state.table.names.releases[-1]
    assumed = state.facts.vllm is not None and newer(state.facts.vllm, state.table.names)
    undecided = {
        fill.name for rule in state.rules if rule.fills and state.holds(rule) is None for fill in rule.fills
    }
    for default in state.table.defaults:
        held = state.find(default.flag)
        if default.platform not in {"any", state.facts.platform} or (held and held.value is not None):
            continue
        if default.flag in undecided:  # a rule may need another value
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
        if assumed:
            why = f"assumed: vLLM {state.facts.vllm} was not read, this is the default of {last}, pinned"
        yield default.flag, Setting(value, "default", why, default.source, "pin-defaults")


def _of_a_step(state: State) -> None:
    """Fit the two default sizes of a step to each other and to the model's length, as vLLM does.

    Source: _set_default_max_num_seqs_and_batched_tokens_args of vllm/engine/arg_utils.py.
    """
    seqs, tokens = "max-num-seqs", "max-num-batched-tokens"
    low_latency = state.flag("all2all-backend") in {"deepep_low_latency", "nixl_ep"}
    if state.flag("performance-mode") == "throughput" or (  # doubles both defaults
        low_latency and state.facts.ep and state.facts.dp > 1  # from 0.20 a batched kernel takes fewer
    ):
        state.defaults.pop(seqs, None)
        state.defaults.pop(tokens, None)
    length, most = state.fact("max_model_len"), state.flag(seqs)
    if most is None and seqs in state.defaults:
        most = state.defaults[seqs].value
    if tokens in state.defaults and isinstance(length, int):
        if state.flag("enable-chunked-prefill") is False:
            _put(state, tokens, max(length, state.defaults[tokens].value))
        if isinstance(most, int) and most > 0:
            _put(state, tokens, min(most * length, state.defaults[tokens].value))
    limit = state.defaults[tokens].value if tokens in state.defaults else state.flag(tokens)
    if seqs in state.defaults and isinstance(limit, int) and limit > 0:
        _put(state, seqs, min(limit, state.defaults[seqs].value))


def _put(state: State, flag: str, value: int) -> None:
    state.defaults[flag] = replace(state.defaults[flag], value=value)


def _entries(state: State, settings: Mapping[str, Setting], dashes: str) -> Iterator[Entry]:
    order = {name: place for place, name in enumerate(_FIRST)}
    for name in sorted(settings, key=lambda name: (order.get(name, len(order)), name)):
        held = settings[name]
        if held.value is not None:
            why = state.say(held.why, held.value) if held.provenance == "profile" else held.why
            yield Entry(dashes + name, held.value, why, held.provenance, held.rule, held.source)
