"""Run folders as a report reads them: rows immediately, requests and readings only if a plot needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from rocbench.harmless import visible_data, visible_table
from rocbench.judgement import search
from rocbench.judgement.disambiguation import disambiguated
from rocbench.records import Phase
from rocbench.report import curves
from rocbench.report.curves import Curve, RunInfo
from rocbench.report.timeseries import GAUGES, Course, Floats
from rocbench.store.folder import RunFolder
from rocbench.tables.row import Row, records, synthetic

MAX_REQUESTS = 20_000
"""Maximum requests of one row in its distribution, evenly sampled."""
NOTHING = np.empty(0)


@dataclass(frozen=True, slots=True)
class RunData:
    """One run without its large tables."""

    info: RunInfo
    folder: RunFolder
    cells: pd.DataFrame
    rows: tuple[Row, ...]
    """Without discarded repeats; None for every absent value."""
    plan: Mapping[str, Any]
    manifest: Mapping[str, Any]
    searches: tuple[Mapping[str, Any], ...] = ()
    """Results of the sweep's searches for a load that meets its limits, one per server and workload."""

    @property
    def sweep(self) -> Mapping[str, Any]:
        """The sweep as planned; empty if the plan is lost."""
        return self.plan.get("sweep") or {}


def read_runs(folders: Sequence[RunFolder]) -> list[RunData]:
    """All runs, oldest first, each with a unique label; their texts have no control characters."""
    runs = sorted(map(_read_run, folders), key=lambda run: run.info.begun_at)
    versions = [
        "+".join(sorted({str(row["vllm_version"]) for row in run.rows if row.get("vllm_version")}))
        for run in runs
    ]
    labels = curves.labels([run.manifest for run in runs], versions, [run.folder.path.name for run in runs])
    return [
        replace(run, info=replace(run.info, label=label)) for run, label in zip(runs, labels, strict=True)
    ]


def _read_run(folder: RunFolder) -> RunData:
    """One run, without a label."""
    cells = visible_table(folder.cells())
    rows = tuple(Row(visible_data(row)) for row in disambiguated(records(cells)))
    manifest = visible_data(folder.read_json("manifest.json") or {})
    info = RunInfo(
        "",
        str(manifest.get("run_id", folder.path.name)),
        str(manifest.get("begun_at", "")),
        synthetic(row.origin for row in rows),
    )
    plan = visible_data(folder.read_json("plan.json") or {})
    searches = tuple(search.stored(visible_data(folder.read_json("search.json"))))
    return RunData(info, folder, cells, rows, plan, manifest, searches)


def curves_of(runs: Sequence[RunData]) -> list[Curve]:
    """The curves of these runs."""
    return curves.curves([(run.info, run.rows) for run in runs])


class Readings:
    """The large tables of some runs, read for one row at a time."""

    def __init__(self, runs: Sequence[RunData]) -> None:
        self._folders = {run.info.run_id: run.folder for run in runs}

    def _table(self, row: Row, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        folder = self._folders.get(str(row.get("run_id")))
        if folder is None:
            return pd.DataFrame()
        frame = folder.table(name, columns, cell_id=row["cell_id"], repeat=row["repeat"], discarded=False)
        return frame if len(frame) else pd.DataFrame()

    def ttft(self, row: Row) -> tuple[Floats, Floats]:
        """TTFT in ms of a row's completed, measured requests, each of weight 1."""
        frame = self._table(row, "requests", ("sent_ns", "first_token_ns", "end_ns", "phase", "failure"))
        if frame.empty:
            return NOTHING, NOTHING
        completed = frame[(frame["phase"] == Phase.MEASURED) & frame["failure"].isna()]
        completed = completed.dropna(subset=["sent_ns", "first_token_ns", "end_ns"])
        spans = (completed["first_token_ns"] - completed["sent_ns"]).to_numpy(dtype=float) / 1e6
        spans = np.sort(spans)[:: max(1, len(spans) // MAX_REQUESTS)]
        return spans, np.ones(len(spans))

    def itl(self, row: Row) -> tuple[Floats, Floats]:
        """Bins of the ITL histogram: middle in ms, and number of tokens."""
        frame = self._table(row, "histograms", ("metric", "middle_ms", "tokens"))
        if frame.empty:
            return NOTHING, NOTHING
        bins = frame[frame["metric"] == "itl"]
        return bins["middle_ms"].to_numpy(dtype=float), bins["tokens"].to_numpy(dtype=float)

    def course(self, row: Row) -> Course | None:
        """Time series around a row's window; None if no timestamp of the window is known."""
        started_at, duration = row.get("started_at"), row.get("duration_s")
        if started_at is None or not duration:
            return None
        start_ns = int(pd.Timestamp(started_at).value)
        requests = self._table(row, "requests", ("sent_ns", "end_ns"))
        if len(requests):
            requests = requests.dropna(subset=["sent_ns"])
        timeline = self._table(row, "timeline", ("second", "output_tokens"))
        gpu = self._table(row, "gpu", ("at_ns", "gpu", "power_w"))
        return Course(
            float(duration),
            _seconds(requests["sent_ns"], start_ns) if len(requests) else NOTHING,
            _seconds(requests["end_ns"], start_ns) if len(requests) else NOTHING,
            timeline["output_tokens"].to_numpy(dtype=float) if len(timeline) else NOTHING,
            self._gauges(row, start_ns),
            _power(gpu, start_ns),
        )

    def _gauges(self, row: Row, start_ns: int) -> dict[str, tuple[Floats, Floats]]:
        frame = self._table(row, "server_metrics", ("at_ns", "name", "value"))
        if frame.empty:
            return {}
        gauges = {}
        for name in GAUGES:
            readings = frame[frame["name"] == name].sort_values("at_ns")
            gauges[name] = _seconds(readings["at_ns"], start_ns), readings["value"].to_numpy(dtype=float)
        return gauges


def _seconds(stamps: pd.Series[Any], start_ns: int) -> Floats:
    """Nanoseconds as seconds from the window's start; NaN if absent."""
    return np.asarray((stamps.to_numpy(dtype=float, na_value=np.nan) - start_ns) / 1e9, dtype=float)


def _power(gpu: pd.DataFrame, start_ns: int) -> tuple[Floats, Floats]:
    """Total power of all GPUs in W, for each reading; a reading that lacks a GPU is left out."""
    if gpu.empty:
        return NOTHING, NOTHING
    known = gpu.dropna(subset=["power_w"])
    count = known["gpu"].nunique()
    # readings of one pass over the GPUs are close in time: combine each GPU's n-th reading
    known = known.sort_values("at_ns")
    passes = known.groupby(known.groupby("gpu").cumcount()).agg(
        at_ns=("at_ns", "mean"), power_w=("power_w", "sum"), gpus=("gpu", "size")
    )
    whole = passes[passes["gpus"] == count]
    return _seconds(whole["at_ns"], start_ns), whole["power_w"].to_numpy(dtype=float)
