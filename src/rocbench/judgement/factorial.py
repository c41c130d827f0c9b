"""Designs of an ablation: its arms, and the order in which they run. Pure; the seed is an argument.

A factor is a setting with levels; the first level is its base (`aiter: [off, on]`). An arm is one level of
every factor. Arms run interleaved: each repeat measures every arm once, and every second repeat runs them in
reverse order (A B B A), so that a drift of the node that is linear in time falls on all arms alike.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rocbench.errors import InputError

Design = Literal["full", "one_at_a_time", "leave_one_out", "pairwise"]
Arm = dict[str, Any]
Levels = Mapping[str, Sequence[Any]]


def arms(factors: Levels, design: Design) -> list[Arm]:
    """The arms of a design, the base first, each once.

    full: every combination. one_at_a_time: the base, and each other level alone. leave_one_out: every factor
    at its last level, and each single factor back at its base. pairwise: one_at_a_time, and each pair of
    other levels, which shows the interaction of two factors.

    Raises:
        InputError: a factor has fewer than 2 levels.
    """
    for name, levels in factors.items():
        if len(levels) < 2:
            raise InputError(
                f"factor {name!r} has only one level",
                where="factors",
                fix="give at least two levels, base first",
            )
    base = {name: levels[0] for name, levels in factors.items()}
    singles = [{name: level} for name, levels in factors.items() for level in levels[1:]]
    match design:
        case "full":
            combinations = itertools.product(*factors.values())
            return [dict(zip(factors, combination, strict=True)) for combination in combinations]
        case "one_at_a_time":
            return [base, *(base | single for single in singles)]
        case "leave_one_out":
            last = {name: levels[-1] for name, levels in factors.items()}
            return (
                [last, *(last | {name: base[name]} for name in factors)] if len(factors) > 1 else [base, last]
            )
        case "pairwise":
            pairs = [a | b for a, b in itertools.combinations(singles, 2) if a.keys() != b.keys()]
            return [base, *(base | change for change in (*singles, *pairs))]


def abba_order(arms: int, repeats: int, seed: int) -> list[tuple[int, int]]:
    """Pairs (repeat, arm) in the order to run them; repeats count from 1, arms from 0.

    Each odd repeat runs a random permutation (`seed`); the even repeat after it runs the same in reverse.
    """
    rng = random.Random(seed)
    order: list[tuple[int, int]] = []
    permutation = list(range(arms))
    for repeat in range(1, repeats + 1):
        if repeat % 2:
            rng.shuffle(permutation)
        else:
            permutation.reverse()
        order += [(repeat, arm) for arm in permutation]
    return order


def confounded(arms: Sequence[tuple[Arm, Mapping[str, Any]]]) -> tuple[str, ...]:
    """Facts that arms change in addition to their factor, one sentence each.

    Args:
        arms: each arm, bases first, with facts that only its own factor may change (attention backend, block size,
            KV dtype). From vLLM 0.23, for example, KV offload also selects another attention backend.
    """
    sentences: dict[str, None] = {}
    for (a, facts_a), (b, facts_b) in itertools.combinations(arms, 2):
        changed = [name for name in a if a[name] != b[name]]
        if len(changed) == 1:
            factor = changed[0]
            for name, value in facts_a.items():
                if name != factor and name in facts_b and value != facts_b[name]:
                    step = f"{factor}: {a[factor]} -> {b[factor]}"
                    sentences[f"{step} also changes {name}: {value} -> {facts_b[name]}"] = None
    return tuple(sentences)
