"""The run folder: the only place that knows its paths and formats.

    results/<run-id>/
      manifest.json            versions, node, resolved configuration; no secrets
      plan.json                every server and cell, in order
      cells.csv, cells.parquet one row per cell and repeat
      requests.parquet         one row per request
      server_metrics.parquet   the server's /metrics, one row per reading and name
      gpu.parquet              one row per reading and GPU
      histograms.parquet       ITL and ICL, one row per bin
      timeline.parquet         output tokens per second of the window
      parts/                   the same tables, one file per cell and repeat, as they were measured
      servers/<id>/            command.sh, environment.json, server.log, resolved.json
      log.jsonl                what happened, one line per event

Rows are written after each cell, because a later one may fail, and atomically, because anything may die.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rocbench import metrics
from rocbench.errors import EnvironmentFault, InputError
from rocbench.records import FAILURES, NONE, GpuSample, LoadResult, ServerSample
from rocbench.server.redact import redacted

TABLES = ("requests", "server_metrics", "gpu", "histograms", "timeline")
REBUILD_BYTES = 32 * 1024**2
"""Joined tables are rebuilt after each cell while they are smaller than this, then once per launch."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """What ties a row of any table to its cell."""

    run_id: str
    cell_id: str
    repeat: int
    discarded: bool = False

    @property
    def stem(self) -> str:
        """File name of its parts."""
        return f"{self.cell_id}-{self.repeat:03d}" + ("-discarded" if self.discarded else "")


class RunFolder:
    """One run on disk. Every write is atomic; a folder can be opened again and continued."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.secrets: tuple[str, ...] = ()
        """Values that must not reach a file; each is masked in whatever is written here."""
        self._rows: list[Row] = []

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """A new run folder.

        Raises:
            InputError: the folder holds a run already.
            EnvironmentFault: it cannot be written.
        """
        if (path / "manifest.json").exists():
            raise InputError(
                "this folder holds a run already", where=str(path), fix="choose another --out, or --resume it"
            )
        folder = cls(path)
        try:
            (path / "parts").mkdir(parents=True, exist_ok=True)
            (path / "servers").mkdir(exist_ok=True)
        except OSError as error:
            raise EnvironmentFault(f"cannot write results: {error.strerror}", where=str(path)) from None
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A run folder that exists.

        Raises:
            InputError: it is none.
        """
        if not (path / "manifest.json").is_file():
            raise InputError("no run folder (manifest.json is missing)", where=str(path))
        folder = cls(path)
        folder._rows = folder._read_rows()
        return folder

    def writable(self) -> bool:
        """Whether results can still be written here: false on a full disk."""
        try:
            _write_atomic(self.path / ".probe", b"0" * 65536)
            (self.path / ".probe").unlink()
        except (EnvironmentFault, OSError):
            return False
        return True

    # --- small files

    def write_json(self, name: str, value: Any) -> None:
        """Write `name` (manifest.json, plan.json, ...)."""
        _write_atomic(
            self.path / name, self._masked(json.dumps(value, indent=2, default=_plain)).encode() + b"\n"
        )

    def _masked(self, text: str) -> str:
        return redacted(text, self.secrets)

    def read_json(self, name: str) -> Any:
        """Read `name`; None when it is not there."""
        path = self.path / name
        return json.loads(path.read_text()) if path.is_file() else None

    def server_folder(self, server_id: str) -> Path:
        """`servers/<id>/`, made when missing. A restart gets a folder of its own: `<id>.2`, `<id>.3`."""
        folder, n = self.path / "servers" / server_id, 1
        while (folder / "command.sh").exists():
            n += 1
            folder = self.path / "servers" / f"{server_id}.{n}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def log(self, at: str, event: str, **facts: Any) -> None:
        """Append one event to log.jsonl."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(self._masked(json.dumps({"at": at, "event": event} | facts, default=_plain)) + "\n")

    # --- rows

    @property
    def rows(self) -> list[Row]:
        """The cell rows so far."""
        return list(self._rows)

    def write_cell(self, identity: Identity, row: Row, parts: Mapping[str, pa.Table]) -> None:
        """Put one measured cell on disk: its parts first, then its row, so that no row lacks its data."""
        for name, table in parts.items():
            folder = self.path / "parts" / name
            folder.mkdir(parents=True, exist_ok=True)
            _write_table(folder / f"{identity.stem}.parquet", table)
        rows_folder = self.path / "parts" / "cells"
        rows_folder.mkdir(parents=True, exist_ok=True)
        row = {**row, "run_id": identity.run_id, "cell_id": identity.cell_id, "repeat": identity.repeat}
        row["discarded"] = identity.discarded
        row = {name: self._masked(value) if isinstance(value, str) else value for name, value in row.items()}
        _write_atomic(rows_folder / f"{identity.stem}.json", json.dumps(row, default=_plain).encode())
        self._rows = [old for old in self._rows if _key(old) != _key(row)] + [row]
        self._write_cells()
        for name in parts:
            if self._part_bytes(name) < REBUILD_BYTES:
                self.join(name)

    def rewrite(self) -> None:
        """Write cells.csv and cells.parquet again from the parts."""
        self._write_cells()

    def finish(self) -> None:
        """Join every table once more."""
        for name in TABLES:
            self.join(name)

    def join(self, name: str) -> None:
        """Rebuild `<name>.parquet` from its parts, one row group per part."""
        parts = sorted((self.path / "parts" / name).glob("*.parquet"))
        if not parts:
            return
        target = self.path / f"{name}.parquet"
        temporary = target.with_suffix(".tmp")
        with pq.ParquetWriter(temporary, pq.read_schema(parts[0]), compression="zstd") as writer:
            for part in parts:
                writer.write_table(pq.read_table(part))
        os.replace(temporary, target)

    def _part_bytes(self, name: str) -> int:
        return sum(part.stat().st_size for part in (self.path / "parts" / name).glob("*.parquet"))

    def _read_rows(self) -> list[Row]:
        paths = sorted((self.path / "parts" / "cells").glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
        rows = [json.loads(path.read_text()) for path in paths]
        if not rows and (self.path / "cells.parquet").is_file():
            frame = pd.read_parquet(self.path / "cells.parquet")
            return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
        return rows

    def _write_cells(self) -> None:
        frame = self.cells()
        _write_atomic(self.path / "cells.csv", frame.to_csv(index=False).encode())
        _write_table(self.path / "cells.parquet", pa.Table.from_pandas(frame, preserve_index=False))

    def cells(self) -> pd.DataFrame:
        """The cell rows as a frame, columns in their documented order, absent values as missing."""
        return frame_of(self._rows)

    def table(self, name: str, columns: Sequence[str] | None = None, **filters: Any) -> pd.DataFrame:
        """One of TABLES as a frame, optionally some columns or one cell and repeat; empty when it was not recorded."""
        path = self.path / f"{name}.parquet"
        if not path.is_file():
            return pd.DataFrame()
        conditions = [(column, "==", value) for column, value in filters.items()]
        return pd.read_parquet(path, columns=list(columns) if columns else None, filters=conditions or None)


def frame_of(rows: Sequence[Row]) -> pd.DataFrame:
    """Cell rows as a frame: documented columns first, one dtype a column."""
    documented = [column.name for column in metrics.columns()]
    extra = sorted({name for row in rows for name in row} - set(documented))
    frame = pd.DataFrame([{name: row.get(name) for name in documented + extra} for row in rows])
    return frame.reindex(columns=documented + extra).convert_dtypes()


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["cell_id"], row["repeat"], row.get("discarded", False)


# --- records as tables


def parts_of(
    identity: Identity,
    result: LoadResult | None,
    server: Iterable[ServerSample] = (),
    gpus: Iterable[GpuSample] = (),
    secrets: Sequence[str] = (),
) -> dict[str, pa.Table]:
    """The parts of one measured cell."""
    tables: dict[str, pa.Table | None] = {
        "requests": _requests(result, secrets) if result else None,
        "histograms": _histograms(result) if result else None,
        "timeline": _timeline(result) if result else None,
        "server_metrics": _server(server),
        "gpu": _gpu(gpus),
    }
    return {name: _tagged(table, identity) for name, table in tables.items() if table is not None}


def _tagged(table: pa.Table, identity: Identity) -> pa.Table:
    n = table.num_rows
    for name, value in reversed(
        (("run_id", identity.run_id), ("cell_id", identity.cell_id), ("repeat", identity.repeat))
    ):
        kind = pa.int32() if isinstance(value, int) else pa.string()
        table = table.add_column(0, name, pa.array([value] * n, kind))
    return table.append_column("discarded", pa.array([identity.discarded] * n))


def _requests(result: LoadResult, secrets: Sequence[str]) -> pa.Table:
    rows = result.requests
    columns: dict[str, pa.Array] = {}
    for name in rows.dtype.names or ():
        values = np.ascontiguousarray(rows[name])
        if name == "failure":
            words = [FAILURES[i].value if i != NONE else None for i in values]
            columns[name] = pa.array(words, pa.string())
        elif name in ("request_id", "worker", "phase"):
            columns[name] = pa.array(values)
        else:
            columns[name] = pa.array(values, mask=values == NONE)
    said = {i: redacted(text, secrets) for i, text in result.errors.items()}
    errors = [said.get(int(i)) for i in rows["request_id"]]
    columns["error"] = pa.array(errors, pa.string())
    return pa.table(columns)


def _histograms(result: LoadResult) -> pa.Table:
    names: list[str] = []
    edges: list[float] = []
    counts: list[int] = []
    for name, histogram in (("itl", result.itl), ("icl", result.icl)):
        for index in np.flatnonzero(histogram.counts):
            names.append(name)
            edges.append(bin_ms(int(index)))
            counts.append(int(histogram.counts[index]))
    return pa.table(
        {"metric": names, "middle_ms": pa.array(edges, pa.float64()), "tokens": pa.array(counts, pa.int64())}
    )


def bin_ms(index: int) -> float:
    """Middle of a histogram's bin, in ms, as `Histogram.percentile_ns` gives it."""
    return 1e-3 * 1.001 ** (index - 0.5) if index else 0.0


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


def _gpu(samples: Iterable[GpuSample]) -> pa.Table | None:
    listed = list(samples)
    if not listed:
        return None
    return pa.table({name: [getattr(s, name) for s in listed] for name in GpuSample.__slots__})


# --- writing


def _write_table(path: Path, table: pa.Table) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        pq.write_table(table, temporary, compression="zstd")
        os.replace(temporary, path)
    except OSError as error:
        raise EnvironmentFault(f"cannot write results: {error.strerror or error}", where=str(path)) from None


def _write_atomic(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise EnvironmentFault(f"cannot write results: {error.strerror or error}", where=str(path)) from None


def _plain(value: Any) -> Any:
    """JSON form of the few other types that rows hold."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    return str(value)
