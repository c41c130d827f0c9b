"""Repeats of each cell as one line: mean, interval, coefficient of variation, n. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from rocbench import stats
from rocbench.judgement.compare import DEFAULT_METRICS, Row, by, key_columns, records

BCA_FROM = 10
"""Repeats from which a bootstrap of percentiles is better than t: of fewer it is too narrow (Hesterberg 2015)."""
SAMPLES = {f"{p}_": stats.min_samples(q) for p, q in (("p99", 99), ("p95", 95), ("p90", 90))}
"""Least requests behind a percentile, by the prefix of its column."""


def summary(
    frame: pd.DataFrame, metrics: Sequence[str] = DEFAULT_METRICS, *, include_invalid: bool = False
) -> pd.DataFrame:
    """One row per cell and metric: key columns, metric, n, mean, low, high, interval, cov, samples, dropped, note.

    The interval of the mean over repeats is Student's t, for percentiles of 10 and more repeats a BCa bootstrap;
    `interval` says which. A percentile that stands on too few requests has no figure, and `note` says how many it
    has and would need; `samples` counts the requests behind a latency, over all repeats.
    """
    rows = records(frame)
    keys = key_columns(rows, [])
    table = []
    for key, cells in by(rows, keys).items():
        kept = [row for row in cells if include_invalid or row.get("valid") is not False]
        for metric in metrics:
            line = dict(zip(keys, key, strict=True)) | {"metric": metric} | _line(kept, metric)
            table.append(line | {"dropped": len(cells) - len(kept)})
    return pd.DataFrame(table)


def _line(rows: list[Row], metric: str) -> Row:
    values = [float(row[metric]) for row in rows if row.get(metric) is not None]
    samples = _samples(rows, metric)
    least = next((n for prefix, n in SAMPLES.items() if metric.startswith(prefix)), None)
    if least is not None and samples is not None and samples < least:
        absent = stats.mean_interval([])
        return _columns(absent, "", stats.NAN, samples, f"{samples} requests, {least} are needed") | {
            "n": len(values)
        }
    if least is not None and len(values) >= BCA_FROM:
        return _columns(stats.bca_interval(values), "BCa", stats.cov(values), samples, "")
    note = "one repeat has no interval" if len(values) == 1 else "" if values else "not measured"
    return _columns(stats.mean_interval(values), "t", stats.cov(values), samples, note)


def _samples(rows: list[Row], metric: str) -> int | None:
    """Requests (or tokens) behind a latency metric, by its `<name>_n` column; None for other metrics."""
    name = metric.removesuffix("_ms").split("_", 1)[-1]
    counts = [int(row[f"{name}_n"]) for row in rows if row.get(f"{name}_n") is not None]
    return sum(counts) if metric.endswith("_ms") and counts else None


def _columns(interval: stats.Interval, kind: str, cov: float, samples: int | None, note: str) -> Row:
    return {
        "n": interval.n,
        "mean": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "interval": kind,
        "cov": cov,
        "samples": samples,
        "note": note,
    }
