"""Repeats of each cell as one line: mean, interval, coefficient of variation, n. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from rocbench import stats
from rocbench.judgement import until
from rocbench.judgement.compare import grouped, key_columns, samples
from rocbench.judgement.verdicts import DEFAULT_METRICS, Line
from rocbench.tables.row import Row, figures, judged, needed_samples, records, too_few

MOST_REPEATS = 100
"""Maximum useful repeats per side of a cell: at three minutes each, both sides take ten hours."""
WITHIN = "within window"
"""Kind of an interval from within the window of one repeat (`tables.within`)."""


def repeats_needed(n: float, unit: str = "repeat") -> str:
    """Needed units as text: `needs about 12 repeats`, or advice against so many."""
    word = unit.partition(" ")[0]
    if n > MOST_REPEATS:
        return f"not worth measuring: needs more than {MOST_REPEATS} {word}s"
    return f"needs about {n:g} {word}{'' if n == 1 else 's'}"


def summary(
    frame: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS, *, include_invalid: bool = False
) -> pd.DataFrame:
    """One row per cell and metric: key columns, metric, n, mean, low, high, interval, cov, samples, dropped, note.

    The interval of the mean over repeats is Student's t, or that of `until` for repeats that could end early. One
    repeat has the interval from within its window, where there is one: repeats differ by at least as much.
    `interval` names the kind. An upper end that the window does not bound is NaN. A percentile of too few requests has no figure, and `note` gives the number
    it has and needs; `samples` counts the requests behind a latency, in the repeat that has the fewest.
    """
    rows = records(frame)
    keys = key_columns(rows, [])
    groups = grouped(rows, keys)
    kept = [cells if include_invalid else judged(cells) for cells in groups.values()]
    ended = {metric: _ended_early(kept, metric) for metric in metrics}
    table = []
    for place, (key, cells) in enumerate(groups.items()):
        for metric in metrics:
            line = dict(zip(keys, key, strict=True)) | {"metric": metric}
            line |= _line(kept[place], metric, ended[metric][place])
            table.append(line | {"dropped": len(cells) - len(kept[place])})
    return pd.DataFrame(table)


def _ended_early(cells: Sequence[Sequence[Row]], metric: str) -> list[stats.Interval | None]:
    """The interval of each cell whose repeats could end early (`until`); None for others."""
    early = [any(row.get(until.COLUMN) is not None for row in rows) for rows in cells]
    found = iter(
        until.intervals([figures(rows, metric) for rows, ends in zip(cells, early, strict=True) if ends])
    )
    return [next(found) if ends else None for ends in early]


def _line(rows: Sequence[Row], metric: str, ended: stats.Interval | None) -> Line:
    values = figures(rows, metric)
    count, needed = samples(rows, metric), needed_samples(metric)
    interval, kind, cov, note = stats.mean_interval(values), "t", stats.cov(values), ""
    if too_few(metric, count):
        interval, kind, cov = stats.mean_interval([]), "", stats.NAN
        note = f"a repeat has {count} requests, but {needed} are needed"
    elif len(values) == 1:
        (interval,) = (row.within(metric) for row in rows if row.figure(metric) is not None)
        kind, note = _one_repeat(interval)
    elif not values:
        kind, note = "", "not measured"
    elif ended is not None:
        interval, kind = ended, "until"
    return {
        "n": len(values),
        "mean": interval.estimate,
        "low": interval.low,
        "high": interval.high if math.isfinite(interval.high) else stats.NAN,
        "interval": kind,
        "cov": cov,
        "samples": count,
        "note": note,
    }


def _one_repeat(interval: stats.Interval) -> tuple[str, str]:
    """The kind of one repeat's interval, and the note on it."""
    if math.isnan(interval.low):
        return "", "no interval, because there is one repeat"
    if math.isinf(interval.high):
        return WITHIN, "one repeat; its window is too short for an upper end"
    return WITHIN, "one repeat; repeats differ by at least this much"
