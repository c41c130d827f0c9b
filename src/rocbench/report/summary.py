"""The summary: best configuration, saturation, SLO capacity, and invalid rows with their reasons. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rocbench import stats, units
from rocbench.columns import CELLS
from rocbench.errors import InputError
from rocbench.judgement import capacity as capacity_of
from rocbench.judgement import promise, search, slo
from rocbench.judgement.slo import Limit
from rocbench.report.chart import bracket, figure
from rocbench.report.curves import Curve, Point, RunInfo, level_words, load_name, load_notes, marked, rank
from rocbench.report.material import RunData
from rocbench.report.plots import interactivity
from rocbench.report.table import Table, with_window_note
from rocbench.server import failures
from rocbench.tables.row import Row, figures, listed, server_number
from rocbench.verdict.codes import CODES, meaning

GOOD_SHARE = 0.99
"""Share of requests that must meet the sweep's SLO for a level to meet it."""
GAIN = 0.05
"""Minimum gain of a doubling of the load, as a share; below it the level is saturated."""


def with_interval(point: Point, column: str) -> str:
    """`1,234 ± 56` of several repeats; `1,234 [1,200, 1,260]` of one, with the interval from within its window."""
    interval = point.interval(column)
    if interval.n == 0:
        return units.ABSENT
    spread = f" ± {figure(interval.half_width)}" if interval.n > 1 else bracket(point.within(column))
    return figure(interval.estimate) + spread


def best(curves: Sequence[Curve]) -> Table:
    """Each configuration at its best load, by workload, ranked by output throughput per GPU."""
    rows = []
    for workload in dict.fromkeys(curve.workload for curve in curves):
        points = [(c, p) for c in curves if c.workload == workload and (p := c.best()) is not None]
        ranked = sorted(points, key=lambda pair: rank(pair[1]), reverse=True)
        rows += [_best_row(curve, point) for curve, point in ranked]
    header = (
        "workload",
        "configuration",
        "load",
        "output tok/s",
        "tok/s/GPU",
        "tok/s/user",
        "TTFT p50, ms",
        "TPOT p50, ms",
        "of roofline",
        "J/token",
        "verdict",
    )
    notes = (
        "each configuration at the load with its highest output throughput, ranked by throughput per GPU; invalid rows are excluded, and valid rows rank before rows of unknown validity",
    )
    nothing = ("every row is invalid",)
    return with_window_note(
        Table("best", "Best configurations", header, tuple(rows), notes if rows else nothing)
    )


def _best_row(curve: Curve, point: Point) -> tuple[str, ...]:
    return (
        curve.workload,
        curve.name,
        curve.level(point),
        with_interval(point, "output_throughput"),
        figure(point.mean("output_throughput_per_gpu")),
        figure(interactivity(point)),
        figure(point.mean("median_ttft_ms")),
        figure(point.mean("median_tpot_ms")),
        units.percent(point.mean("roofline_share")),
        figure(point.mean("joules_per_output_token")),
        point.mark,
    )


# --- saturation


def loads(runs: Sequence[RunData], curves: Sequence[Curve], limits: Sequence[Limit]) -> tuple[Table, ...]:
    """The tables on the largest useful load: saturation, SLO capacity and searches.

    Args:
        runs: the runs.
        curves: their curves.
        limits: the SLO; if empty, the sweeps' own SLO.
    """
    sweeps = [run.sweep for run in runs]
    words = ", ".join(map(str, limits))
    judged, words = (limits, words) if limits else sweep_limits(sweeps)
    searches = searched([(run.info, run.rows, run.searches) for run in runs])
    return saturation(curves, _gain_of(sweeps)), capacity(curves, judged, words), searches


def saturation(curves: Sequence[Curve], gain: float = GAIN) -> Table:
    """Saturation point of each curve of at least two levels: doubling the load brings less than `gain`."""
    rows = []
    for curve in curves:
        if curve.shape == "trace" or len(curve.points) < 2:
            continue
        result = capacity_of.saturation([r for p in curve.points for r in (*p.rows, *p.invalid)], gain)
        interval = units.ABSENT
        if result["low"] is not None:
            high = result["high"]
            upper = level_words(curve.shape, high) if high is not None else "not reached"
            interval = f"{result['low']:,g} to {upper}"
        rows.append(
            (
                curve.load,
                curve.name,
                level_words(curve.shape, result["saturation"]),
                interval,
                figure(result["peak"], "tok/s"),
                str(result["note"]),
            )
        )
    header = ("workload", "configuration", "saturates at", "95 % interval", "peak", "note")
    notes = (
        f"the smallest load above which each doubling of the load raises output tokens/s by less than {gain:.0%}; levels at which the requested load was not reached are excluded",
        "the interval has every level at which a concave curve through all levels may saturate (95 %); its ends are measured levels",
    )
    nothing = ("no configuration was measured at two load levels",)
    return Table("saturation", "Saturation", header, tuple(rows), notes if rows else nothing)


def _gain_of(sweeps: Iterable[Mapping[str, Any]]) -> float:
    """Gain that the sweeps require of a doubling; 5 % if they set none, or different ones."""
    gains = {float(sweep.get("saturation_gain") or GAIN) for sweep in sweeps}
    return gains.pop() if len(gains) == 1 else GAIN


# --- SLO


def capacity(curves: Sequence[Curve], limits: Sequence[Limit], words: str) -> Table:
    """The largest load of each curve shown to meet every limit, with no level below it shown to miss one.

    Levels with one repeat each show nothing: they are read by their figures, and the capacity says so.

    Args:
        curves: curves.
        limits: on columns of `cells`.
        words: the SLO as text.

    Raises:
        InputError: a limit is on a column without numbers.
    """
    header = ("workload", "configuration", "capacity", "output", "goodput", "at the next level")
    if not limits:
        note = "no SLO was set: give, for example, --slo 'p99_ttft_ms <= 2000', or set `slo` in the sweep"
        return Table("slo", "SLO capacity", header, (), (note,))
    rows = []
    for curve in curves:
        outcomes, single = _outcomes(curve, limits)
        if not outcomes:
            continue
        failed = next((n for n, (_, outcome) in enumerate(outcomes) if outcome == "fail"), len(outcomes))
        best = max((n for n in range(failed) if outcomes[n][1] == "pass"), default=-1)
        passed = outcomes[best][0] if best >= 0 else None
        none = "none of the levels" if failed == 0 else "cannot tell"
        unclear = [curve.level(point) for point, outcome in outcomes[: max(best, 0)] if outcome != "pass"]
        no_rows = [f"{p.level:,g}" for p in curve.points if not p.rows]
        remarks = (
            _why(curve, *outcomes[best + 1], limits) if best + 1 < len(outcomes) else _no_higher(curve),
            f"cannot tell at {', '.join(unclear)}" if unclear else "",
            f"no valid row at {', '.join(no_rows)}" if no_rows else "",
            "not shown: one repeat of each level" if single else "",
        )
        rows.append(
            (
                curve.load,
                curve.name,
                curve.level(passed) if passed else none,
                figure(passed.mean("output_throughput"), "tok/s") if passed else units.ABSENT,
                figure(passed.mean("goodput"), "requests/s") if passed else units.ABSENT,
                "; ".join(filter(None, remarks)),
            )
        )
    return Table("slo", "SLO capacity", header, tuple(rows), (f"SLO: {words}",))


def _outcomes(curve: Curve, limits: Sequence[Limit]) -> tuple[list[tuple[Point, slo.Outcome]], bool]:
    """The outcome of each point with rows, and True if none has repeats, so that single figures decide."""
    points = [point for point in curve.points if point.rows]
    for point in points:
        for limit in limits:
            _figures(point, limit.metric)  # refuses columns without numbers
    trials = [search.trial(row, limits) for point in points for row in (*point.rows, *point.invalid)]
    found = slo.curve(trials, limits, whole=curve.shape != "open")
    told = {standing.level: standing.outcome for standing in found.levels}
    single = all(len(point.rows) < 2 for point in points)
    if not single:
        return [(point, told[point.level or 0.0]) for point in points], False
    return [(point, _by_value(point, limits, told[point.level or 0.0])) for point in points], bool(points)


def _by_value(point: Point, limits: Sequence[Limit], told: slo.Outcome) -> slo.Outcome:
    """The outcome by single figures, unless the level is shown to fail (an overloaded server)."""
    values = [(limit, _figures(point, limit.metric)) for limit in limits]
    if told == "fail" or any(not limit.met(v) for limit, figures in values for v in figures):
        return "fail"
    return "pass" if all(figures for _, figures in values) else "unclear"


def _figures(point: Point, column: str) -> list[float]:
    if any(isinstance(row.get(column), str | bool) for row in point.rows):
        raise InputError(
            f"{column!r} is not a number",
            where="--slo",
            fix="choose a column from docs/results.md",
        )
    return figures(point.rows, column)


def _no_higher(curve: Curve) -> str:
    return f"no higher level {'was measured' if curve.points[-1].rows else 'has a valid row'}"


def _why(curve: Curve, point: Point, outcome: slo.Outcome, limits: Sequence[Limit]) -> str:
    """The limits that a level failed, or that its repeats straddle."""
    values = []
    for limit in limits:
        known = _figures(point, limit.metric)
        interval = stats.mean_interval(known)
        if outcome == "fail" and interval.n and limit.met(interval.estimate):
            continue
        shown = units.percent if unit_of(limit.metric) == "share" else figure
        spread = f" ± {shown(interval.half_width)}" if outcome == "unclear" and interval.n > 1 else ""
        few = " (from too few requests)" if any(row.few_samples(limit.metric) for row in point.rows) else ""
        spread = spread or bracket(point.within(limit.metric))
        values.append(
            f"{limit.metric} {shown(interval.estimate) if interval.n else 'not measured'}{spread}{few}"
        )
    doubt = "cannot tell: " if outcome == "unclear" else ""
    return f"{curve.level(point)}: {doubt}{', '.join(values) or 'the server does not serve this load'}"


def searched(runs: Sequence[tuple[RunInfo, Sequence[Row], Sequence[Mapping[str, Any]]]]) -> Table:
    """Results of each sweep's search: the largest load shown to meet its limits, the smallest shown not to.

    Args:
        runs: each run's name, rows and search.json.
    """
    lines = []
    for info, rows, searches in runs:
        names = {row.server: marked(row.configuration, row.origin) for row in rows}
        for each in searches:
            shape = "open" if each["unit"] == "requests/s" else "closed"
            best, failed = each["best"], each["failed"]
            name = names.get(server_number(each), str(each["model"]))
            said = (str(each["why"]), *each.get("notes", ()), "" if each["ended"] else "not finished")
            lines.append(
                (
                    load_name(str(each["workload"]), shape),
                    f"{name} · {info.label}" if len(runs) > 1 else name,
                    ", ".join(each["limits"]),
                    level_words(shape, best) if best is not None else "no level was shown to meet the limits",
                    level_words(shape, failed),
                    str(each["measurements"]),
                    "; ".join(filter(None, said)),
                )
            )
    header = (
        "workload",
        "configuration",
        "limits",
        "shown to be met up to",
        "shown to be missed at",
        "measurements",
        "ended because",
    )
    notes = (
        "the capacity lies between the two levels, with 95 % confidence on each side; levels between them are not shown either way",
    )
    return Table(
        "search", "Search for the largest load within limits", header, tuple(lines), notes if lines else ()
    )


def sweep_limits(sweeps: Iterable[Mapping[str, Any]]) -> tuple[list[Limit], str]:
    """The one SLO of the runs' sweeps, by the share of requests that met it; empty for none or several."""
    first, *others = (
        {name: value for name, value in (sweep.get("slo") or {}).items() if value is not None}
        for sweep in sweeps
    )
    if not first or any(other != first for other in others):
        return [], ""
    words = ", ".join(f"{name.removesuffix('_ms').upper()} ≤ {value:g} ms" for name, value in first.items())
    return (
        [Limit("goodput_share", ">=", GOOD_SHARE)],
        f"at least {GOOD_SHARE:.0%} of a level's requests have {words}",
    )


# --- doubt


def doubts(rows: Sequence[Row]) -> Table:
    """Every reason code of the rows: count, cells, meaning and remedy."""
    by_code: dict[str, list[Row]] = {}
    for row in rows:
        for code in row.codes:
            by_code.setdefault(code, []).append(row)
    known = {code.id: code for code in CODES}
    order = {"voids": 0, "unknown": 1, "informs": 2}
    lines = []
    for code in sorted(by_code, key=lambda c: (order.get(known[c].effect, 3) if c in known else 3, c)):
        entry, cause = known.get(code), failures.known(code)
        action = (
            entry.action if entry else cause.fix if cause else "read failure_message and the server's log"
        )
        lines.append(
            (
                code,
                entry.effect if entry else "cause",
                str(len(by_code[code])),
                _cells(by_code[code]),
                cause.cause if cause else meaning(code),
                action,
            )
        )
    header = ("code", "effect", "rows", "cells", "meaning", "what to do")
    counts = _counts(rows)
    return Table("doubts", "Verdicts: invalid rows, and notes", header, tuple(lines), (counts,))


def failed(rows: Sequence[Row]) -> Table:
    """Message of each server that could not be measured, from its row."""
    lines = [
        (_cells(group), str(len(group)), " ".join(message.split()))
        for message, group in _by_text(rows, "failure_message").items()
    ]
    return Table("failed", "Cells that could not be measured", ("cells", "rows", "why"), tuple(lines))


def errors(rows: Sequence[Row]) -> Table:
    """The most frequent error of each cell with failed requests, as the server returned it."""
    lines = [
        (_cells(group), f"{sum(figures(group, 'common_error_count')):,.0f}", message)
        for message, group in _by_text(rows, "common_error").items()
    ]
    header = ("cells", "requests", "most frequent error")
    return Table("errors", "Errors of failed requests", header, tuple(lines))


def notes(rows: Sequence[Row]) -> Table:
    """Notes of the load generator on the cells."""
    lines = [(_cells(group), str(len(group)), note) for note, group in load_notes(rows).items()]
    return Table("notes", "Notes of the load generator", ("cells", "rows", "note"), tuple(lines))


def power(runs: Sequence[RunData]) -> Table:
    """The change that each plan could tell, held against the spread that was found."""
    lines = [
        (run.info.label, sentence)
        for run in runs
        for sentence in promise.held(run.plan.get("promises") or (), run.rows)
    ]
    return Table("power", "Power as planned and as found", ("run", "change that can be told"), tuple(lines))


def _by_text(rows: Sequence[Row], column: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.get(column):
            groups.setdefault(str(row[column]), []).append(row)
    return groups


def _counts(rows: Sequence[Row]) -> str:
    count = Counter(row.word for row in rows)
    unchecked = sorted(listed(rows, "unknown_checks"))
    text = ", ".join(f"{count[word]:,} {word}" for word in ("valid", "invalid", "unknown"))
    text = f"{len(rows):,} rows: {text}"
    return f"{text}; not checked on some rows: {', '.join(unchecked)}" if unchecked else text


def _cells(rows: Sequence[Row]) -> str:
    return units.some(list(dict.fromkeys(str(row.get("key") or row.get("cell_id")) for row in rows)), 4)


def unit_of(column: str) -> str:
    """The unit of a column of `cells`."""
    return next((c.unit for c in CELLS if c.name == column), "")
