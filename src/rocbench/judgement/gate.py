"""Pass, regression, or cannot tell: a run against a baseline and against limits. Pure.

A relative rule compares each cell with the same cell of the baseline (`compare`):

    regression   the change is for the worse (p < 0.3 alpha after Holm over all rules and cells) and at least `worse_by`
    pass         the worse end of the interval lies within `worse_by`: such a loss is ruled out
    cannot tell  anything else: too few repeats, too much noise, invalid rows, a missing cell

A limit (`p99_ttft_ms <= 2000`) compares each cell's repeats with a number: pass or regression if the interval of
their mean lies on one side of it. The interval is that of repeats pooled over cells and earlier runs; without any
repeats the gate cannot tell.

Void rows have no figures to judge, and every skipped row is listed. A failed server is judged separately: a
cell that failed in every row is a regression if the baseline's cell failed in no row, else "cannot tell".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from rocbench import stats, units
from rocbench.columns import better
from rocbench.errors import Exit, InputError
from rocbench.judgement import advice, evidence, power
from rocbench.judgement.compare import (
    Comparison,
    compare,
    grouped,
    key_columns,
    label,
    plain_value,
    sample_notes,
)
from rocbench.judgement.design import LEAST_PAIRS
from rocbench.judgement.gaterules import GateRules, LimitRule, RelativeRule, Where, parse_limit
from rocbench.judgement.limit import Limit, Outcome
from rocbench.judgement.looks import alpha_at_each
from rocbench.judgement.repeats import MOST_REPEATS, repeats_needed
from rocbench.judgement.verdicts import Line, Settings
from rocbench.tables.row import Row, judged, records, synthetic
from rocbench.verdict.codes import SERVER_FAULTS, VOIDING

GateOutcome = Literal["pass", "regression", "cannot tell"]
_LIMIT_WORDS: dict[Outcome, GateOutcome] = {
    "pass": "pass",
    "fail": "regression",
    "unclear": "cannot tell",
    "not delivered": "cannot tell",
}
FALSE_ALARMS = 0.3
"""Share of alpha that regressions may spend: a gate that stops a nightly run for nothing is soon ignored."""
SERVER_RULE = "the server does not fail"
FAILING = SERVER_FAULTS - {"server_failed"}
"""Faults of a server that ran. A server that never answered may have lacked something on its node."""
MEASURED = frozenset({"success_rate", "goodput_share"})
"""Shares that count failed requests: they remain true for a row that is void because of failures."""
_ALONG = FAILING | {
    "no_measurement",
    "concurrency_not_delivered",
    "too_few_requests",
    "littles_law",
    "not_steady",
    "token_count_disagrees",
}
"""Codes that accompany failing requests."""


@dataclass(frozen=True, slots=True)
class Item:
    """One rule on one cell."""

    cell: str
    rule: str
    outcome: GateOutcome
    detail: str


@dataclass(frozen=True, slots=True)
class GateResult:
    """Every item and the overall outcome."""

    items: tuple[Item, ...]
    notes: tuple[str, ...]
    policy: Literal["report", "pass", "fail"]
    synthetic: str
    """Origin of figures that were not measured on a GPU, as in a comparison."""

    @property
    def outcome(self) -> GateOutcome:
        """The worst outcome of all items: regression, then cannot tell, then pass."""
        words = {item.outcome for item in self.items}
        if "regression" in words:
            return "regression"
        return "cannot tell" if "cannot tell" in words or not self.items else "pass"

    @property
    def exit_code(self) -> Exit:
        """0 pass, 1 regression, 3 cannot tell, or the policy's code for it."""
        undecided = {"report": Exit.CANNOT_TELL, "pass": Exit.DONE, "fail": Exit.DONE_WITH_FAULTS}[
            self.policy
        ]
        return {"pass": Exit.DONE, "regression": Exit.DONE_WITH_FAULTS, "cannot tell": undecided}[
            self.outcome
        ]


def gate(
    run: pd.DataFrame,
    baseline: pd.DataFrame | None,
    rules: GateRules | None = None,
    notes: Sequence[str] = (),
    history: pd.DataFrame | None = None,
) -> GateResult:
    """Check a run's `cells` against a baseline's and against limits; `notes` are added to the gate's own.

    Args:
        run: rows of the run.
        baseline: rows of the baseline.
        rules: the rules.
        notes: notes to place before the gate's own.
        history: rows of other runs; those of the same cells show how far nights differ.

    Raises:
        InputError: relative rules without a baseline, incomparable sides, or a rule that matches no cell.
    """
    rules = rules or GateRules()
    if rules.relative and baseline is None:
        raise InputError(
            "relative rules need a baseline", fix="give --baseline RUN, or set `relative: []` in the rules"
        )
    all_notes = dict.fromkeys(notes)
    past = records(history) if history is not None else []
    items = _void(run, baseline, all_notes)
    if baseline is not None and rules.relative:
        items += _relative(run, baseline, rules, all_notes, past)
    for rule in rules.limits:
        alpha = alpha_at_each(rules.looks, rules.alpha) / len(rules.limits)
        items += _limits(run, rule, alpha, all_notes, past)
    return GateResult(
        tuple(items), tuple(all_notes), rules.cannot_tell, synthetic(row.origin for row in records(run))
    )


def _void(run: pd.DataFrame, baseline: pd.DataFrame | None, notes: dict[str, None]) -> list[Item]:
    """Items on server failures in the run's void rows; notes name all void rows, and those measured again."""
    rows, before = records(run), records(baseline) if baseline is not None else []
    keys = key_columns(before, rows)
    bases, items = grouped(before, keys), []
    for key, cells in grouped(rows, keys).items():
        cell, n = label(keys, key), len(cells)
        void = [_codes(row) for row in cells]
        replaced = [VOIDING.intersection(row.listed("replaced_reasons")) for row in cells]
        if any(void):
            count = sum(map(bool, void))
            notes[f"{cell}: {count} of {n} rows {'is' if count == 1 else 'are'} void: {_list(void)}"] = None
        if any(replaced):
            count = sum(map(bool, replaced))
            verb = "replaces an earlier one" if count == 1 else "replace earlier ones"
            notes[f"{cell}: {count} of {n} rows {verb}: {_list(replaced)}"] = None
        faults = [(now | earlier) & SERVER_FAULTS for now, earlier in zip(void, replaced, strict=True)]
        base, always = bases.get(key, []), all(map(_failed, cells))
        if any(faults) and not (always and base and all(map(_failed, base))):
            detail = f"{sum(map(bool, faults))} of {n} rows: {_list(faults)}"
            detail += f"; in the baseline, {sum(map(_failed, base))} of {len(base)} rows" if base else ""
            worse = always and bool(judged(base)) and not any(map(_failed, base))
            items.append(Item(cell, SERVER_RULE, "regression" if worse else "cannot tell", detail))
    return items


def _codes(row: Row) -> frozenset[str]:
    """Codes that void a row; empty if it is not void."""
    if row.valid is not False:
        return frozenset()
    return VOIDING.intersection(row.codes) or frozenset({"no reason stated"})


def _list(codes: Sequence[frozenset[str]]) -> str:
    return ", ".join(sorted(frozenset().union(*codes)))


def _failed(row: Row) -> bool:
    """Return True if a row is void only because of the server."""
    codes = _codes(row)
    return bool(codes & FAILING) and codes <= _ALONG


def without_baseline(
    run: pd.DataFrame, rules: GateRules, why: str, history: pd.DataFrame | None = None
) -> GateResult:
    """The limits alone, if there is no baseline yet: the relative rules are "cannot tell"."""
    limits = gate(run, None, rules.model_copy(update={"relative": ()}), history=history)
    if not rules.relative:
        return limits
    undecided = tuple(Item("every cell", _text(rule), "cannot tell", why) for rule in rules.relative)
    return replace(limits, items=(*undecided, *limits.items))


def _select(frame: pd.DataFrame, where: Where) -> pd.DataFrame:
    kept = pd.Series(data=True, index=frame.index)
    for name, allowed in where.items():
        if name not in frame.columns:
            raise InputError(f"no column {name!r} in the cells", where="gate rules, `where`")
        values = {str(plain_value(v)) for v in (allowed if isinstance(allowed, list | tuple) else [allowed])}
        kept &= frame[name].map(lambda v, values=values: str(plain_value(v)) in values)
    return frame[kept]


def _relative(
    run: pd.DataFrame,
    baseline: pd.DataFrame,
    rules: GateRules,
    notes: dict[str, None],
    history: Sequence[Row],
) -> list[Item]:
    lines: list[tuple[RelativeRule, str, Line, Comparison]] = []
    items: list[Item] = []
    for where, group in _by_where(rules.relative):
        a, b = _select(baseline, where), _select(run, where)
        if a.empty:
            raise InputError(
                f"the rule on {group[0].metric} matches no cell of the baseline", where="gate rules, `where`"
            )
        settings = Settings(
            metrics=tuple(dict.fromkeys(rule.metric for rule in group)),
            min_effect=min(rule.worse_by for rule in group),
            alpha=rules.alpha,
            looks=rules.looks,
            allow=frozenset(rules.allow),
        )
        comparison = compare(a, b, settings, history=history)
        notes |= dict.fromkeys(comparison.notes)
        notes |= {
            f"not judged, because the baseline does not have this cell: {cell}": None
            for cell in comparison.only_b
        }
        for rule in group:
            items += [
                Item(cell, _text(rule), "cannot tell", "missing in this run") for cell in comparison.only_a
            ]
            table = comparison.table[comparison.table["metric"] == rule.metric]
            for figures in table.to_dict("records"):
                cell = label(comparison.keys, [figures[name] for name in comparison.keys])
                lines.append((rule, cell, {str(k): v for k, v in figures.items()}, comparison))
    adjusted = stats.holm([float(row["p"]) for _, _, row, _ in lines])
    for (rule, cell, row, comparison), p in zip(lines, adjusted, strict=True):
        effect = stats.Effect(row["effect"], row["low"], row["high"], row["p"])
        row["verdict"] = outcome = gate_outcome(effect, p, rule, rules.alpha)
        told = outcome != "cannot tell" or math.isnan(row["low"])
        row["n_needed"] = None if told else _needed(row, rule, rules, len(lines), comparison)
        items.append(Item(cell, _text(rule), outcome, _detail(row, comparison)))
    for comparison in dict.fromkeys(each[3] for each in lines):
        table = pd.DataFrame([row for _, _, row, of in lines if of is comparison])
        notes |= dict.fromkeys(advice.lines(table, comparison.design, comparison.settings))
    return items


def _by_where(rules: Sequence[RelativeRule]) -> list[tuple[Where, list[RelativeRule]]]:
    """Rules on the same cells together: their metrics show the cells' noise better than each alone."""
    groups: list[tuple[Where, list[RelativeRule]]] = []
    for rule in rules:
        group = next((each for where, each in groups if where == rule.where), None)
        if group is None:
            groups.append((rule.where, [rule]))
        else:
            group.append(rule)
    return groups


def _text(rule: RelativeRule) -> str:
    return f"{rule.metric} worse by less than {rule.worse_by:.1%}"


def gate_outcome(effect: stats.Effect, p: float, rule: RelativeRule, alpha: float) -> GateOutcome:
    """Outcome from the relative change and its interval; `p` is the adjusted one."""
    ends = [effect.estimate, effect.low, effect.high]
    if any(math.isnan(x) for x in ends) or math.isnan(p):
        return "cannot tell"
    loss, *around = (-x if better(rule.metric) == "higher" else x for x in ends)
    if p < alpha * FALSE_ALARMS and loss >= rule.worse_by:
        return "regression"
    return "pass" if max(around) < rule.worse_by else "cannot tell"


def _needed(
    row: Line, rule: RelativeRule, rules: GateRules, tests: int, comparison: Comparison
) -> int | None:
    """Units (pairs, or nights of each side), more than there are, that decide with 80 % power if the change stays.

    A loss below the rule's must be distinguished from the rule's, a larger loss from none, at Holm's
    strictest level.
    """
    loss = -row["effect"] if better(rule.metric) == "higher" else row["effect"]
    paired = comparison.design.paired
    test: power.Test = {
        "paired": paired,
        "tests": tests,
        "cells": max(round(row["pooling"]), 1),
        "alpha": rules.alpha,
        "looks": rules.looks,
    }
    if loss >= rule.worse_by:
        test["alpha"] *= FALSE_ALARMS
    sd = row["unit_sd"] * (1 if paired else math.sqrt(2))
    outcome: power.Outcome = "told" if loss >= rule.worse_by else "below"
    margin = loss if outcome == "told" else rule.worse_by - loss
    n = power.needed(sd, row["unit_df"], margin, outcome=outcome, **test)
    return None if n is None else max(n, int(row["units"]) + 1)


def _detail(row: Line, comparison: Comparison) -> str:
    if math.isnan(row["effect"]):
        return str(row["note"])
    counts = f"n={row['n_a']:g} and {row['n_b']:g}"
    if math.isnan(row["low"]):
        inside = (
            ""
            if math.isnan(row["low_within"])
            else f", at least [{row['low_within']:+.1%}, {row['high_within']:+.1%}]"
        )
        return f"{row['effect']:+.1%}{inside}, {counts}; {row['note']}"
    change = f"{row['effect']:+.1%} [{row['low']:+.1%}, {row['high']:+.1%}], {counts}"
    if row["dropped_a"] or row["dropped_b"]:
        change += f", void rows excluded: {row['dropped_a']:g} and {row['dropped_b']:g}"
    needed = row["n_needed"]
    if needed is not None:
        what = advice.units_of(comparison.design)
        change += (
            f"; if the change stays the same, about {needed} {what} are enough to decide"
            if needed <= MOST_REPEATS
            else f"; {repeats_needed(needed, comparison.design.unit)}"
        )
    return change


def _limits(
    run: pd.DataFrame,
    rule: LimitRule,
    alpha: float,
    notes: dict[str, None],
    history: Sequence[Row],
) -> list[Item]:
    limit, rows = parse_limit(rule.limit), records(_select(run, rule.where))
    if not rows:
        raise InputError(f"the rule {rule.limit} matches no cell of the run", where="gate rules, `where`")
    keys = key_columns(rows, [])
    cells_by_key = grouped(rows, keys)
    notes |= dict.fromkeys(sample_notes(list(cells_by_key.values()), Settings(metrics=(limit.metric,))))
    kept = {key: _kept(cells, limit) for key, cells in cells_by_key.items()}
    figures = {key: _numbers(cells, limit, rule) for key, cells in kept.items()}
    noise = _noise_of_repeats(limit, list(figures.values()), rows, history)
    items, confidence = [], 1 - alpha / len(figures)
    for key, values in figures.items():
        own = _noise_of(limit, values, noise)
        outcome = _against(limit, values, confidence, own)
        detail = _figures_text(limit, values, len(cells_by_key[key]) - len(kept[key]), confidence, own)
        if outcome == "unclear" and values:
            detail += _why_unclear(limit, values, confidence, own)
        items.append(Item(label(keys, key), str(limit), _LIMIT_WORDS[outcome], detail))
    return items


def _why_unclear(limit: Limit, values: Sequence[float], confidence: float, noise: evidence.Noise) -> str:
    """Why a cell with figures is neither within nor beyond a limit, and the repeats that would decide."""
    if not noise.df:
        return f"; one repeat, and no other repeats show how far they differ: {LEAST_PAIRS} repeats would"
    away = abs(sum(map(limit.distance, values)) / len(values))
    cells = max(noise.df / max(len(values) - 1, 1), 1)  # whose repeats are as many as are behind the noise
    n = power.needed(
        noise.sd,
        noise.df,
        math.expm1(away),
        outcome="below",
        paired=True,
        cells=round(cells),
        alpha=1 - confidence,
    )
    if n is None or n > MOST_REPEATS:
        return f"; the interval contains the limit: {repeats_needed(MOST_REPEATS + 1)}"
    more = units.count_of(max(n, len(values) + 1), "repeat")
    return f"; the interval contains the limit: if the mean stays the same, about {more} are enough to decide"


def _kept(cells: Sequence[Row], limit: Limit) -> list[Row]:
    return [row for row in cells if row.valid is not False or (limit.metric in MEASURED and _failed(row))]


def _numbers(rows: Sequence[Row], limit: Limit, rule: LimitRule) -> list[float]:
    values = [row[limit.metric] for row in rows if row.get(limit.metric) is not None]
    if any(isinstance(value, str) for value in values):
        raise InputError(f"{limit.metric} is not a number", where=f"gate rules, {rule.limit!r}")
    return [float(value) for value in values]


def _noise_of_repeats(
    limit: Limit, cells: Sequence[Sequence[float]], rows: Sequence[Row], history: Sequence[Row]
) -> evidence.Noise:
    """The spread of repeats, pooled over the cells of the run and over its cells' repeats in other runs."""
    own = {row.get("run_id") for row in rows}
    ids = {row.get("cell_id") for row in rows}
    past = grouped(
        (row for row in judged(history) if row.get("cell_id") in ids and row.get("run_id") not in own),
        ("run_id", "cell_id"),
    )
    groups = [list(values) for values in cells] + [
        [value for row in group if (value := row.figure(limit.metric)) is not None] for group in past.values()
    ]
    return evidence.pooled([[limit.distance(value) for value in values] for values in groups])


def _noise_of(limit: Limit, values: Sequence[float], pooled: evidence.Noise) -> evidence.Noise:
    """The noise of one cell's figures: the larger of its own spread and the pooled one."""
    own = evidence.pooled([[limit.distance(value) for value in values]])
    return evidence.Noise(max(pooled.sd, own.sd), pooled.df)


def _against(limit: Limit, values: Sequence[float], confidence: float, noise: evidence.Noise) -> Outcome:
    """One cell against a limit, by the noise of its figures."""
    if len(values) == 1 and limit.metric in MEASURED:
        return (
            "pass" if limit.met(values[0]) else "fail"
        )  # a share of this run's requests: a count, not a sample
    return limit.judge(values, confidence, noise=noise if noise.df else None)


def _figures_text(
    limit: Limit, values: Sequence[float], dropped: int, confidence: float, noise: evidence.Noise
) -> str:
    """The mean with the interval by which it is judged, which holds for all cells and limits together."""
    if not values:
        return "no valid rows" if dropped else "not measured"
    interval = limit.interval(values, confidence, noise)
    single = len(values) == 1 and limit.metric in MEASURED
    around = "" if single or math.isnan(interval.low) else f" [{interval.low:,.4g}, {interval.high:,.4g}]"
    without = f", void rows excluded: {dropped}" if dropped else ""
    return f"{interval.estimate:,.4g}{around}, n={interval.n}{without}"
