"""`bench export`: write the rows of a run as files of another tool."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
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


def export(folder: RunFolder, wanted: str, out: Path, *, invalid: bool = False) -> Exported:
    """Write a run's rows in a format.

    Args:
        folder: the run.
        wanted: one of FORMATS.
        out: folder of the files.
        invalid: write invalid rows too; the csv-long and jsonl formats hold the verdict and always have them.

    Raises:
        InputError: there is no such format, no row can be written, or another user's folder or link is in the
            way.
        EnvironmentFault: the files cannot be written.
    """
    if wanted not in FORMATS:
        raise InputError(f"no format {wanted!r}", where="--format", fix=f"one of {', '.join(FORMATS)}")
    every = sources(folder, apart=wanted in JSON_FORMATS)
    why = [_left_out(s, wanted, invalid=invalid or wanted in TEXT_FORMATS) for s in every]
    kept = [source for source, reason in zip(every, why, strict=True) if not reason]
    left_out = dict(Counter(filter(None, why)))
    if not kept:
        told = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "the run has none"
        raise InputError(
            f"no row to export: {told}",
            where=str(folder.path),
            fix="--include-invalid writes invalid rows too; csv-long and jsonl hold rows of every load",
        )
    if wanted in TEXT_FORMATS:
        name, text = TEXT_FORMATS[wanted]
        files = {name: text(kept)}
    else:
        files = {
            name: json.dumps(value, indent=2) + "\n" for name, value in JSON_FORMATS[wanted](kept).items()
        }
    return Exported(_write(out, files), len(kept), left_out, frozenset(s.origin for s in kept))


def _left_out(source: Source, wanted: str, *, invalid: bool) -> str:
    """Return why a row is not written; empty if it is."""
    if not invalid and source.row.valid is False:
        return "invalid rows"
    if not invalid and not source.get("completed"):
        return "rows without a completed request"
    if wanted == "inferencex" and not inferencex.takes(source):
        return "rows without users (open loop or trace), for which the format has no place"
    return ""


def sources(folder: RunFolder, *, apart: bool = False) -> list[Source]:
    """Each row of a run, without discarded repeats; `apart` for formats whose files are named by the keys."""
    plan, manifest = folder.read_json("plan.json") or {}, folder.read_json("manifest.json") or {}
    image = {"image": ((plan.get("sweep") or {}).get("server") or {}).get("image")}
    servers = {server["server_id"]: server | image for server in plan.get("servers") or ()}
    found = []
    rows = records(folder.cells())
    for row in disambiguated(rows) if apart else rows:
        server = servers.get(_server_id(str(row.get("server_id")), servers), {})
        found.append(Source(row, server, manifest, _loader(folder, row)))
    return found


def _server_id(name: str, known: dict[str, Any]) -> str:
    """Return the server of a folder name: a restart's folder `<id>.2` belongs to `<id>`."""
    return name if name in known else name.rpartition(".")[0]


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
