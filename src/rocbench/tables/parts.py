"""The measurements of one cell as tables, as stored under parts/ of the run folder. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from rocbench.harmless import whole
from rocbench.records import (
    FAILURES,
    NONE,
    RESENDS,
    Doubt,
    Failure,
    GpuSample,
    Histogram,
    LoadResult,
    Resend,
    ServerSample,
)


@dataclass(frozen=True, slots=True)
class Identity:
    """The columns that assign a row of any table to its cell."""

    run_id: str
    cell_id: str
    repeat: int
    discarded: bool = False

    @property
    def stem(self) -> str:
        """File name of the parts, without a suffix."""
        return f"{self.cell_id}-{self.repeat:03d}" + ("-discarded" if self.discarded else "")


_HISTOGRAM = pa.schema([("metric", pa.string()), ("middle_ms", pa.float64()), ("tokens", pa.int64())])
_WORDS: dict[str, tuple[Failure, ...] | tuple[Resend, ...]] = {"failure": FAILURES, "resent": RESENDS}
"""Columns of numbers that are written as words, with their words."""


def parts_of(
    identity: Identity,
    result: LoadResult | None,
    server: Iterable[ServerSample] = (),
    gpus: Iterable[GpuSample] = (),
) -> dict[str, pa.Table]:
    """The tables of one measured cell, by name."""
    tables: dict[str, pa.Table | None] = {
        "requests": _requests(result) if result else None,
        "histograms": _histograms(result) if result else None,
        "timeline": _timeline(result) if result else None,
        "server_metrics": _server(server),
        "gpu": _gpu(gpus),
    }
    return {name: _tagged(table, identity) for name, table in tables.items() if table is not None}


def _tagged(table: pa.Table, identity: Identity) -> pa.Table:
    n = table.num_rows
    table = table.add_column(0, "repeat", pa.array([identity.repeat] * n, pa.int32()))
    table = table.add_column(0, "cell_id", pa.array([identity.cell_id] * n, pa.string()))
    table = table.add_column(0, "run_id", pa.array([identity.run_id] * n, pa.string()))
    return table.append_column("discarded", pa.array([identity.discarded] * n, pa.bool_()))


def _requests(result: LoadResult) -> pa.Table:
    rows = result.requests
    columns: dict[str, pa.Array] = {}
    for name in rows.dtype.names or ():
        values = np.ascontiguousarray(rows[name])
        if name in _WORDS:
            words = [_WORDS[name][i].value if i != NONE else None for i in values]
            columns[name] = pa.array(words, pa.string())
        elif name == "doubts":
            columns[name] = pa.array([_words(value) for value in values], pa.string())
        elif name in ("request_id", "worker", "phase"):
            columns[name] = pa.array(values)
        else:
            columns[name] = pa.array(values, mask=values == NONE)
    errors = [result.errors.get(int(i)) for i in rows["request_id"]]
    columns["error"] = pa.array([error and whole(error) for error in errors], pa.string())
    return pa.table(columns)


def _words(doubts: int) -> str | None:
    return ";".join(str(doubt.name).lower() for doubt in Doubt if max(doubts, 0) & doubt) or None


def _histograms(result: LoadResult) -> pa.Table:
    bins = [
        {
            "metric": name,
            "middle_ms": Histogram.middle_ns(int(index)) / 1e6,
            "tokens": histogram.counts[index],
        }
        for name, histogram in (("itl", result.itl), ("icl", result.icl))
        for index in np.flatnonzero(histogram.counts)
    ]
    return pa.Table.from_pylist(bins, _HISTOGRAM)


def _timeline(result: LoadResult) -> pa.Table:
    tokens = result.tokens_per_second
    seconds = np.arange(len(tokens), dtype=np.int64)
    return pa.table({"second": seconds, "output_tokens": np.asarray(tokens, dtype=np.int64)})


def _server(samples: Iterable[ServerSample]) -> pa.Table | None:
    rows = [(s.at_ns, name, value) for s in samples for name, value in s.values.items()]
    if not rows:
        return None
    at, names, values = zip(*rows, strict=True)
    return pa.table(
        {"at_ns": pa.array(at, pa.int64()), "name": list(names), "value": pa.array(values, pa.float64())}
    )


_GPU_TYPES = {
    "at_ns": pa.int64(),
    "gpu": pa.int64(),
    "vram_used_bytes": pa.int64(),
    "throttled": pa.bool_(),
    "ecc_uncorrectable": pa.int64(),
    "socket": pa.int64(),
}


def _gpu(samples: Iterable[GpuSample]) -> pa.Table | None:
    listed = list(samples)
    if not listed:
        return None
    # Explicit types: a column that is absent throughout one cell must match that of the next cell.
    return pa.table(
        {
            name: pa.array([getattr(s, name) for s in listed], _GPU_TYPES.get(name, pa.float64()))
            for name in GpuSample.__slots__
        }
    )
