"""Run folders as a report reads them: rows at once, requests and readings only if a plot needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rocbench.harmless import visible_data, visible_table
from rocbench.judgement import search
from rocbench.judgement.disambiguation import disambiguated
from rocbench.records import Phase
from rocbench.report import curves
from rocbench.report.curves import RunInfo
from rocbench.report.timeseries import Course
from rocbench.store.folder import RunFolder
from rocbench.tables.row import Row, records, synthetic

Floats = npt.NDArray[np.float64]
MOST_REQUESTS = 20_000
"""Maximum requests of one row in its distribution, evenly sampled."""
GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
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


def read_runs(folders: Sequence[RunFolder]) -> list[RunData]:
    """All runs, oldest first, each with a unique label; their texts have no control characters."""
    found = []
    for folder in folders:
        cells = visible_table(folder.cells())
        rows = tuple(Row(visible_data(row)) for row in disambiguated(records(cells)))
        found.append(
            (
                folder,
                cells,
                rows,
                visible_data(folder.read_json("plan.json") or {}),
                visible_data(folder.read_json("manifest.json") or {}),
            )
        )
    found.sort(key=lambda item: str(item[4].get("begun_at", "")))
    versions = [
        "+".join(sorted({str(r["vllm_version"]) for r in rows if r.get("vllm_version")}))
        for _, _, rows, _, _ in found
    ]
    names = curves.labels([item[4] for item in found], versions, [item[0].path.name for item in found])
    return [
        RunData(
            RunInfo(
                name,
                str(manifest.get("run_id", folder.path.name)),
                str(manifest.get("begun_at", "")),
                synthetic(row.origin for row in rows),
            ),
            folder,
            cells,
            rows,
            plan,
            manifest,
            tuple(search.stored(visible_data(folder.read_json("search.json")))),
        )
        for name, (folder, cells, rows, plan, manifest) in zip(names, found, strict=True)
    ]


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
        mine = frame[(frame["phase"] == Phase.MEASURED) & frame["failure"].isna()]
        mine = mine.dropna(subset=["sent_ns", "first_token_ns", "end_ns"])
        spans = (mine["first_token_ns"] - mine["sent_ns"]).to_numpy(dtype=float) / 1e6
        spans = np.sort(spans)[:: max(1, len(spans) // MOST_REQUESTS)]
        return spans, np.ones(len(spans))

    def itl(self, row: Row) -> tuple[Floats, Floats]:
        """Bins of the ITL histogram: middle in ms, and number of tokens."""
        frame = self._table(row, "histograms", ("metric", "middle_ms", "tokens"))
        if frame.empty:
            return NOTHING, NOTHING
        mine = frame[frame["metric"] == "itl"]
        return mine["middle_ms"].to_numpy(dtype=float), mine["tokens"].to_numpy(dtype=float)

    def course(self, row: Row) -> Course | None:
        """Time series around a row's window; None if no timestamp of the window is known."""
        start_ns, duration = self._start_ns(row), row.get("duration_s")
        if start_ns is None or not duration:
            return None
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

    def _start_ns(self, row: Row) -> int | None:
        at = row.get("started_at")
        return None if at is None else int(pd.Timestamp(at).value)

    def _gauges(self, row: Row, start_ns: int) -> dict[str, tuple[Floats, Floats]]:
        frame = self._table(row, "server_metrics", ("at_ns", "name", "value"))
        if frame.empty:
            return {}
        found = {}
        for name in GAUGES:
            mine = frame[frame["name"] == name].sort_values("at_ns")
            found[name] = _seconds(mine["at_ns"], start_ns), mine["value"].to_numpy(dtype=float)
        return found


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
    known = known.sort_values("at_ns").assign(nth=known.sort_values("at_ns").groupby("gpu").cumcount())
    by = known.groupby("nth").agg(at_ns=("at_ns", "mean"), power_w=("power_w", "sum"), gpus=("gpu", "size"))
    whole = by[by["gpus"] == count]
    return (whole["at_ns"].to_numpy(dtype=float) - start_ns) / 1e9, whole["power_w"].to_numpy(dtype=float)
