"""Merges the workers' reports into one LoadResult. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rocbench.load import silence
from rocbench.load.prompts import expected_osl
from rocbench.load.spec import Closed, LoadSpec, Open
from rocbench.load.work import WorkerReport
from rocbench.records import Histogram, Int64Array, LoadHost, LoadResult, Phase, RequestArray, Window


def phases(began_ns: Int64Array, window: Window) -> Int64Array:
    """Phase of each request, from the time at which it began."""
    tail = np.where(began_ns < window.end_ns, Phase.MEASURED, Phase.TAIL)
    return np.where(began_ns < window.start_ns, Phase.WARMUP, tail)


def merge(
    spec: LoadSpec,
    reports: Sequence[WorkerReport],
    probes: RequestArray,
    window: Window,
    *,
    transport: str,
    clock_step_ns: int,
    open_file_limit: int,
    notes: Sequence[str],
    hosts: tuple[LoadHost, ...] = (),
) -> LoadResult:
    """All rows in order of sending, with phases set and counts summed."""
    rows = np.concatenate([probes, *(report.rows for report in reports)])
    rows = rows[np.argsort(rows["sent_ns"], kind="stable")]
    rows["phase"] = phases(rows["intended_ns"], window)
    itl, icl = Histogram(), Histogram()
    seconds = np.zeros(max(0, int(window.seconds)), dtype=np.int64)
    errors: dict[int, str] = {}
    stamps: dict[int, Int64Array] | None = {} if spec.keep_stamps else None
    for report in reports:
        itl.merge(report.counts.itl)
        icl.merge(report.counts.icl)
        own = report.counts.per_second[: len(seconds)]
        seconds[: len(own)] += own
        errors |= report.errors
        if stamps is not None and report.stamps is not None:
            stamps |= report.stamps
    return LoadResult(
        requests=rows,
        errors=errors,
        window=window,
        itl=itl,
        icl=icl,
        output_tokens_in_window=sum(report.counts.output_tokens for report in reports),
        input_tokens_in_window=sum(report.counts.input_tokens for report in reports),
        image_tokens_in_window=sum(report.counts.image_tokens for report in reports),
        tokens_per_second=seconds,
        concurrency_asked=spec.shape.users if isinstance(spec.shape, Closed) else None,
        transport=transport,
        workers=tuple(report.stats for report in reports),
        clock_step_ns=clock_step_ns,
        open_file_limit=open_file_limit,
        notes=tuple(notes),
        stamps=stamps,
        hosts=hosts,
        rate_asked=spec.shape.rate if isinstance(spec.shape, Open) else None,
        osl_mean=expected_osl(spec.requests),
        silences=silence.over(
            (report.counts.token_times for report in reports),
            window.start_ns,
            window.end_ns - window.start_ns,
        ),
    )
