"""`bench export`: write the rows of a run as files of another tool."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rocbench.errors import EnvironmentFault, InputError
from rocbench.export import aiperf, inferencex, pytorch, tidy, vllm_bench
from rocbench.export.source import REQUEST_COLUMNS, Source
from rocbench.judgement.disambiguation import disambiguated
from rocbench.store import writing
from rocbench.store.folder import RunFolder
from rocbench.tables.row import Row, records

JSON_FORMATS: dict[str, Callable[[Iterable[Source]], dict[str, Any]]] = {
    "vllm-bench": vllm_bench.files,
    "inferencex": inferencex.files,
    "pytorch": pytorch.files,
    "aiperf": aiperf.files,
}
TEXT_FORMATS: dict[str, tuple[str, Callable[[Iterable[Source]], str]]] = {
    "csv-long": ("cells-long.csv", tidy.csv_long),
    "jsonl": ("cells.jsonl", tidy.jsonl),
}
FORMATS = (*JSON_FORMATS, *TEXT_FORMATS)


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export."""

    files: tuple[Path, ...]
    rows: int
    left_out: dict[str, int]
    """Number of rows that were not written, by reason."""
    origins: frozenset[str]
    """The origins of the figures, as the rows report them."""


def export(folder: RunFolder, name: str, out: Path, *, invalid: bool = False) -> Exported:
    """Write a run's rows in a format.

    Args:
        folder: the run.
        name: one of FORMATS.
        out: folder of the files.
        invalid: write invalid rows too; csv-long and jsonl hold the verdict, and always have them.

    Raises:
        InputError: the format is unknown, no row can be written, or another user's folder or link is at the
            destination.
        EnvironmentFault: the files cannot be written.
    """
    if name not in FORMATS:
        raise InputError(f"unknown format {name!r}", where="--format", fix=f"use one of {', '.join(FORMATS)}")
    rows = sources(folder, distinct_keys=name in JSON_FORMATS)
    reasons = [_left_out(row, name, invalid=invalid or name in TEXT_FORMATS) for row in rows]
    exported = [row for row, reason in zip(rows, reasons, strict=True) if not reason]
    left_out = dict(Counter(filter(None, reasons)))
    if not exported:
        counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "the run has no rows"
        raise InputError(
            f"no row to export: {counts}",
            where=str(folder.path),
            fix="add --include-invalid to write invalid rows too; or choose csv-long or jsonl: these formats take all rows",
        )
    if name in TEXT_FORMATS:
        file, text = TEXT_FORMATS[name]
        files = {file: text(exported)}
    else:
        files = {
            file: json.dumps(value, indent=2) + "\n" for file, value in JSON_FORMATS[name](exported).items()
        }
    return Exported(_write(out, files), len(exported), left_out, frozenset(s.origin for s in exported))


def _left_out(source: Source, name: str, *, invalid: bool) -> str:
    """The reason why a row is not written; empty if it is."""
    if not invalid and source.row.valid is False:
        return "invalid rows"
    if not invalid and not source.get("completed"):
        return "rows without a completed request"
    if name == "inferencex" and not inferencex.takes(source):
        return "rows under open loop or of a trace: the format needs a number of users"
    return ""


def sources(folder: RunFolder, *, distinct_keys: bool = False) -> list[Source]:
    """Each row of a run, without discarded repeats; with distinct keys for formats that name files by them."""
    plan, manifest = folder.read_json("plan.json") or {}, folder.read_json("manifest.json") or {}
    image = {"image": ((plan.get("sweep") or {}).get("server") or {}).get("image")}
    servers = {server["server_id"]: server | image for server in plan.get("servers") or ()}
    rows = records(folder.cells())
    return [
        Source(row, _planned_server(row, servers), manifest, _loader(folder, row))
        for row in (disambiguated(rows) if distinct_keys else rows)
    ]


def _planned_server(row: Row, servers: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row's server in the plan: the folder `<id>.2` of a restart belongs to `<id>`."""
    name = str(row.get("server_id"))
    return servers.get(name) or servers.get(name.rpartition(".")[0]) or {}


def _loader(folder: RunFolder, row: Row) -> Callable[[str], pd.DataFrame]:
    columns: dict[str, Sequence[str]] = {"requests": REQUEST_COLUMNS}

    def load(name: str) -> pd.DataFrame:
        return folder.table(
            name, columns.get(name), cell_id=row["cell_id"], repeat=row["repeat"], discarded=False
        )

    return load


def _write(out: Path, files: dict[str, str]) -> tuple[Path, ...]:
    try:
        for folder in dict.fromkeys((out, *((out / name).parent for name in files))):
            writing.output_folder(folder)
        for name, text in files.items():
            writing.output_file(out / name, text)
    except OSError as error:
        raise EnvironmentFault(f"cannot write: {error.strerror}", where=str(out)) from None
    return tuple(out / name for name in files)
