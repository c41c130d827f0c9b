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
      summary.csv              one row per cell and metric: mean, interval, CoV, n
      search.json              the state of each search for the load that meets an SLO
      parts/                   the same tables, one file per cell and repeat, as they were measured
      servers/<id>/            command.sh, environment.json, server.log, resolved.json
      log.jsonl                what happened, one line per event
      replaced.jsonl           rows that were measured again, as they were

Rows are written after each cell, because a later one may fail, and atomically, because anything may die. A cell is
there once its row is (parts/cells/): parts without a row are of a cell that was cut off, and are never read.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rocbench import harmless, jsontext, private, textfile
from rocbench.errors import DiskFault, InputError, NodeFault
from rocbench.redact import redacted, redacted_data
from rocbench.tables import kept, metrics
from rocbench.tables.parts import Identity, bin_ms, parts_of

__all__ = ["TABLES", "Identity", "RunFolder", "bin_ms", "dataset", "find", "frame_of", "parts_of"]

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

TABLES = ("requests", "server_metrics", "gpu", "histograms", "timeline")
SHAPES = {"manifest.json": kept.MANIFEST, "plan.json": kept.PLAN, "search.json": kept.SEARCHES}
REBUILD_BYTES = 32 * 1024**2
"""Joined tables are rebuilt after each cell while they are smaller than this, then at the end of the run."""

Row = dict[str, Any]


class RunFolder:
    """One run on disk. Every write is atomic; a folder can be opened again and continued."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.secrets: tuple[str, ...] = ()
        """Values that must not reach a file; each is masked in the texts of whatever is written here."""
        self._rows: list[Row] = []

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """A new run folder.

        Raises:
            InputError: the folder holds a run already, is a file, or another user has put something into it.
            DiskFault: it cannot be written.
        """
        if (path / "manifest.json").exists():
            raise InputError(
                "this folder holds a run already", where=str(path), fix="choose another --out, or --resume it"
            )
        _refuse_anothers(path)
        folder = cls(path)
        try:
            (path / "parts").mkdir(parents=True, exist_ok=True)
            (path / "servers").mkdir(exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(
                "a file stands where the run folder is to be", where=str(path), fix="choose another --out"
            ) from None
        except OSError as error:
            raise _full(path, error) from None
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """A run folder that exists.

        Raises:
            InputError: it is none, or a file of it is damaged.
        """
        if not (path / "manifest.json").is_file():
            if (path / "parts").is_dir():
                raise InputError(
                    "this run was ended before it had begun: nothing was measured",
                    where=str(path),
                    fix=f"start it anew with the same folder: bench sweep SWEEP --out {path}",
                )
            raise InputError("no run folder (manifest.json is missing)", where=str(path))
        folder = cls(path)
        if not folder.manifest:
            raise _damaged(path / "manifest.json", "it says nothing", RESTORE)
        folder._rows = folder._read_rows()
        return folder

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the folder for writing; what a killed writer left half-written is removed.

        Raises:
            NodeFault: another bench is writing it.
        """
        with open(self.path / ".lock", "a", opener=private.opener) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NodeFault(
                    f"{self.path} is being written by another bench", fix="wait for its end"
                ) from None
            for left in (*self.path.glob(".*.tmp"), *(self.path / "parts").glob("*/.*.tmp")):
                left.unlink(missing_ok=True)
            yield

    # --- small files

    def write_json(self, name: str, value: Any) -> None:
        """Write `name` (manifest.json, plan.json, ...)."""
        _write_atomic(self.path / name, self._json(value, indent=2).encode() + b"\n")

    def sha256(self, name: str) -> str:
        """Hash of a file that was written, as hexadecimal digits."""
        return hashlib.sha256((self.path / name).read_bytes()).hexdigest()

    def _json(self, value: Any, indent: int | None = None) -> str:
        """Secrets are masked in the values, never in the JSON that is made of them."""

        def other(held: Any) -> Any:
            return redacted_data(_plain(held), self.secrets)

        return json.dumps(redacted_data(value, self.secrets), indent=indent, default=other)

    def _cell_value(self, value: Any) -> Any:
        """A value of a row; some columns hold JSON."""
        if isinstance(value, str) and value[:1] in ("{", "["):
            with suppress(ValueError, RecursionError):
                held = json.loads(value)
                masked = redacted_data(held, self.secrets)
                return value if masked == held else json.dumps(masked)
        return harmless.whole(redacted(value, self.secrets)) if isinstance(value, str) else value

    def read_json(self, name: str) -> Any:
        """Read `name`; None when it is not there.

        Raises:
            InputError: it is damaged, or holds what no bench writes.
        """
        path = self.path / name
        if not path.is_file():
            return None
        found = _read_json(path, RESTORE)
        with _damage(path, RESTORE):
            kept.check(found, SHAPES.get(name))
        return found

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether a folder is a run folder: it has a manifest."""
        return (path / "manifest.json").is_file()

    @property
    def plan(self) -> dict[str, Any]:
        """The plan as it was written down; empty in a folder that has none."""
        return dict(self.read_json("plan.json") or {})

    def whole_plan(self) -> dict[str, Any]:
        """The plan, where nothing can be done without.

        Raises:
            InputError: there is none.
        """
        plan = self.plan
        if not plan:
            raise InputError(
                "plan.json is missing: what is left to measure is not known",
                where=str(self.path),
                fix=RESTORE,
            )
        return plan

    @property
    def manifest(self) -> dict[str, Any]:
        """What was written down of the run when it began; empty in a folder that has nothing of it."""
        return dict(self.read_json("manifest.json") or {})

    def server_folder(self, server_id: str) -> Path:
        """`servers/<id>/`, made when missing. A restart gets a folder of its own: `<id>.2`, `<id>.3`."""
        folder, n = self.path / "servers" / server_id, 1
        while (folder / "command.sh").exists():
            n += 1
            folder = self.path / "servers" / f"{server_id}.{n}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def log(self, at: str, event: str, **facts: Any) -> None:
        """Append one event to log.jsonl; a line that a killed writer left unfinished is ended first."""
        self._append("log.jsonl", {"at": at, "event": event} | facts)

    def _append(self, name: str, value: Row) -> None:
        line = self._json(value) + "\n"
        path = self.path / name
        try:
            with open(path, "a+b", opener=private.opener) as file:
                if file.tell() and _last_byte(file) != b"\n":
                    line = "\n" + line
                file.write(line.encode())
        except OSError as error:
            raise _full(path, error) from None

    # --- rows

    @property
    def rows(self) -> list[Row]:
        """The cell rows so far."""
        return list(self._rows)

    def write_cell(
        self, identity: Identity, row: Row, parts: Mapping[str, pa.Table], *, tables: bool = True
    ) -> None:
        """Put one measured cell on disk: its parts first, then its row, so that no row lacks its data.

        Args:
            tables: write the joined tables too; many cells at once are quicker joined by `finish` alone.
        """
        for name in TABLES:
            path = self.path / "parts" / name / f"{identity.stem}.parquet"
            if name in parts:
                path.parent.mkdir(parents=True, exist_ok=True)
                _write_table(path, parts[name])
            else:
                path.unlink(missing_ok=True)  # of an earlier attempt
        rows_folder = self.path / "parts" / "cells"
        rows_folder.mkdir(parents=True, exist_ok=True)
        row = {name: self._cell_value(value) for name, value in row.items()}
        row |= {"run_id": identity.run_id, "cell_id": identity.cell_id, "repeat": identity.repeat}
        row["discarded"] = identity.discarded
        row |= self._replace(row)
        _write_atomic(rows_folder / f"{identity.stem}.json", json.dumps(row, default=_plain).encode())
        self._rows = [old for old in self._rows if _key(old) != _key(row)] + [row]
        if not tables:
            return
        self._write_cells()
        for name in parts:
            if self._part_bytes(name) < REBUILD_BYTES:
                self.join(name)

    def attempts(self, identity: Identity) -> int:
        """How often a cell and repeat were measured so far."""
        old = self._there((identity.cell_id, identity.repeat, identity.discarded))
        return int(old.get("attempt") or 1) if old else 0

    def _there(self, key: tuple[Any, ...]) -> Row | None:
        """The row of a cell and repeat."""
        return next((row for row in self._rows if _key(row) == key), None)

    def _replace(self, row: Row) -> Row:
        """Keep the row that this one replaces; gives the columns that tell of it and of those before it."""
        attempt, told = int(row.get("attempt") or 1), [row.get("replaced_reasons")]
        old = self._there(_key(row))
        if old is not None:
            self._append("replaced.jsonl", old)
            attempt += int(old.get("attempt") or 1)
            told += [old.get("replaced_reasons"), old.get("reasons")]
        before = dict.fromkeys(code for codes in told if codes for code in str(codes).split(";"))
        return {"attempt": attempt, "replaced_reasons": ";".join(before) or None}

    def finish(self) -> None:
        """Write every table once more, from the rows and parts that are there."""
        self._write_cells()
        for name in TABLES:
            self.join(name)

    def write_csv(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table for people (summary.csv)."""
        _write_atomic(self.path / name, harmless.as_csv(frame).encode())

    def join(self, name: str) -> None:
        """Rebuild `<name>.parquet` from the parts of all cells that are there, one row group per part."""
        done = {_identity(row).stem for row in self._rows}
        parts = sorted(part for part in (self.path / "parts" / name).glob("*.parquet") if part.stem in done)
        target = self.path / f"{name}.parquet"
        if not parts:
            target.unlink(missing_ok=True)
            return
        try:
            # A run that is resumed by a later version has parts with more columns.
            schema = _together(name, [_read_schema(part, name, _again(part)) for part in parts], parts)
            with _replacing(target) as sink, pq.ParquetWriter(sink, schema, compression="zstd") as writer:
                for part in parts:
                    tables = [schema.empty_table(), _read_part(part, name)]
                    writer.write_table(pa.concat_tables(tables, promote_options="permissive"))
        except InputError as error:
            # Of a part that was sound when the run was opened: it costs no other cell.
            target.unlink(missing_ok=True)  # it would lack what was measured since
            self._append("log.jsonl", {"event": "not_joined", "table": name, "message": error.text()})

    def check_parts(self) -> list[Row]:
        """Rows whose requests are gone, before anything is written beside them.

        Raises:
            InputError: a part is damaged.
        """
        for name in TABLES:
            paths = [path for row in self._rows if (path := self._part(name, row)).is_file()]
            _together(name, [_read_part(path, name).schema for path in paths], paths)
        folder = self.path / "parts" / "requests"
        return [
            row
            for row in self._rows
            if row.get("completed") and not (folder / f"{_identity(row).stem}.parquet").is_file()
        ]

    # --- a run's parts, from one folder into another

    def take_over(self, rows: Sequence[Row], servers: Sequence[str]) -> None:
        """Begin where another folder of the same run stands: its rows without their parts, its servers' names."""
        for row in rows:
            self.write_cell(_identity(row), row, {}, tables=False)
        if rows:
            self._write_cells()
        for name in servers:
            path = self.path / "servers" / name
            path.mkdir(exist_ok=True)
            (path / "command.sh").touch()

    def measured(self, row: Mapping[str, Any]) -> tuple[Identity, dict[str, pa.Table]]:
        """The parts of one of this folder's rows, as `write_cell` takes them."""
        paths = {name: self._part(name, row) for name in TABLES}
        return _identity(row), {
            name: _read_part(path, name) for name, path in paths.items() if path.is_file()
        }

    def _part(self, name: str, row: Mapping[str, Any]) -> Path:
        """Where a part of a row is."""
        return self.path / "parts" / name / f"{_identity(row).stem}.parquet"

    def server_names(self) -> tuple[str, ...]:
        """The folders under servers/."""
        return tuple(sorted(path.name for path in (self.path / "servers").iterdir() if path.is_dir()))

    def servers_packed(self, but: Sequence[str] = ()) -> bytes:
        """servers/ as a tar archive, without those named."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
            for name in self.server_names():
                if name not in but:
                    archive.add(self.path / "servers" / name, arcname=name)
        return packed.getvalue()

    def unpack_servers(self, packed: bytes) -> None:
        """Put what `servers_packed` gave beside what is here."""
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(self.path / "servers", filter="data")

    def events(self) -> list[dict[str, Any]]:
        """log.jsonl, line by line."""
        path = self.path / "log.jsonl"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        return [jsontext.parse(line, str(path), finite=False) for line in lines]

    def copy_into(self, other: RunFolder) -> None:
        """Copy what was measured here, and its servers' files, into another run folder."""
        for row in self._rows:
            stem = _identity(row).stem
            paths = [self.path / "parts" / "cells" / f"{stem}.json", *(self._part(n, row) for n in TABLES)]
            _copy(filter(Path.is_file, paths), self.path, other.path)
        below = (Path(at) / name for at, _, names in os.walk(self.path / "servers") for name in names)
        _copy((path for path in below if path.is_file() and not path.is_symlink()), self.path, other.path)

    def _part_bytes(self, name: str) -> int:
        return sum(part.stat().st_size for part in (self.path / "parts" / name).glob("*.parquet"))

    def _read_rows(self) -> list[Row]:
        rows = [_read_row(path) for path in _by_time(_json_files(self.path / "parts" / "cells"))]
        path = self.path / "cells.parquet"
        if not rows and path.is_file():
            with _damage(path, RESTORE):
                return [kept.row(row) for row in pq.read_table(path).to_pylist()]
        return rows

    def _write_cells(self) -> None:
        frame = self.cells()
        _write_atomic(self.path / "cells.csv", harmless.as_csv(frame).encode())
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
        schema = _read_schema(path, name, REBUILD)
        with _damage(path, REBUILD):
            if absent := set(columns or ()) - set(schema.names):
                raise kept.Unlike(f"column {min(absent)} is missing")
            read = pq.read_table(path, columns=list(columns) if columns else None, filters=conditions or None)
            frame: pd.DataFrame = read.to_pandas(ignore_metadata=True)
        return frame


def find(root: Path, left_out: Callable[[InputError], None] | None = None) -> list[RunFolder]:
    """Every run folder under `root`, oldest first; a run folder itself is a list of one.

    Args:
        root: where they lie.
        left_out: told of each of several that cannot be read; without it the first such one is an error.

    Raises:
        InputError: there is none, or it is damaged.
        OSError: it may not be read.
    """
    if (root / "manifest.json").is_file():
        return [RunFolder.open(root)]
    found = []
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        try:
            (path / "manifest.json").stat()
            found.append(RunFolder.open(path))
        except (FileNotFoundError, NotADirectoryError):
            continue  # no run
        except (InputError, OSError) as error:
            if left_out is None:
                raise
            left_out(error if isinstance(error, InputError) else _unreadable(path, error))
    if not found:
        raise InputError("no run folder here", where=str(root), fix="bench sweep writes one")
    return sorted(found, key=lambda folder: str(folder.manifest.get("begun_at")))


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot be read: {error.strerror or error}", where=str(error.filename or path))


def read_cells(path: Path) -> pd.DataFrame:
    """A cells file by itself: cells.csv or cells.parquet, wherever it was copied to.

    Raises:
        InputError: it is none.
    """
    held = io.BytesIO(textfile.read_bytes(path, most=LARGEST))
    try:
        if path.suffix == ".csv":
            texts = dict.fromkeys(kept.TEXTS, str)
            frame = harmless.undone(pd.read_csv(held, dtype=texts, low_memory=False))
            rows = kept.rows(frame)
            names = set(frame.columns)
        else:
            table = pq.read_table(held)
            rows, names = table.to_pylist(), set(table.column_names)
        if not {"cell_id", "repeat"} <= names:
            raise InputError("these are no cells: cell_id and repeat are missing", where=str(path))
        return frame_of([kept.row(row) for row in rows])
    except UNREADABLE as error:
        raise InputError(f"cannot be read as cells: {_one_line(error)}", where=str(path)) from None


def dataset(folders: Sequence[RunFolder], name: str) -> Dataset | None:
    """One of TABLES over several runs, not read yet; None when no run recorded it.

    A column that only some runs have is null in the others; numbers of two types are read as the wider one.

    Raises:
        InputError: a file is damaged, or a column is text in one run and numbers in another.
    """
    from pyarrow import dataset as arrow  # 50 ms, for queries alone

    there = [path for folder in folders if (path := folder.path / f"{name}.parquet").is_file()]
    schemas = []
    for path in there:
        with _damage(path, REBUILD):
            schemas.append(pq.read_schema(path))
    schema = _together(name, schemas, there)
    return arrow.dataset([str(path) for path in there], schema=schema, format="parquet") if there else None


def _together(name: str, schemas: Sequence[pa.Schema], paths: Sequence[Path]) -> pa.Schema:
    """The columns of several files of one table.

    Raises:
        InputError: a column is text in one and numbers in another.
    """
    try:
        return pa.unify_schemas([pa.schema([]), *schemas], promote_options="permissive")
    except pa.ArrowException as error:
        raise InputError(
            f"{name}.parquet of these runs does not go together: {_one_line(error)}",
            where=", ".join(map(str, paths[:3])),
            fix="leave one of them out",
        ) from None


def frame_of(rows: Sequence[Row]) -> pd.DataFrame:
    """Cell rows as a frame: documented columns first, one dtype a column."""
    documented = [column.name for column in metrics.columns()]
    extra = sorted({name for row in rows for name in row} - set(documented))
    held = {name: [row.get(name) for row in rows] for name in documented}
    held |= {name: _of_one_kind([row.get(name) for row in rows]) for name in extra}
    frame = pd.DataFrame(held)
    # The copy joins the columns of one type, each of which comes as a block of its own.
    return frame.convert_dtypes().copy()


def _of_one_kind(values: list[Any]) -> list[Any]:
    """Values of a column that anybody may have named so: truths, numbers or, where they are not all of a kind, text."""
    kinds = {
        bool if isinstance(value, bool) else str if isinstance(value, str) else float
        for value in values
        if value is not None
    }
    return values if len(kinds) <= 1 else [None if value is None else str(value) for value in values]


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["cell_id"], row["repeat"], row.get("discarded", False)


def _identity(row: Mapping[str, Any]) -> Identity:
    return Identity(str(row.get("run_id")), row["cell_id"], int(row["repeat"]), bool(row.get("discarded")))


# --- reading what may be damaged

AGAIN = "then `bench sweep --resume` measures that cell again"
REBUILD = "`bench sweep --resume` writes it anew from parts/"
RESTORE = "restore the file from a copy, or leave this run out"


UNREADABLE = (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError, pa.ArrowException)
"""What the readers of Parquet and CSV raise of damaged files."""
LARGEST = 1 << 30
"""Bytes of a file that is read as a whole; a plan of ten thousand cells has 0.1 GiB."""
MOST_VALUES = 50_000_000


def _again(part: Path) -> str:
    """What to do about a part that is damaged."""
    return f"delete it and parts/cells/{part.stem}.json, {AGAIN}"


def _damaged(path: Path, why: str, fix: str) -> InputError:
    return InputError(f"this file is damaged: {why}", where=str(path), fix=fix)


@contextmanager
def _damage(path: Path, fix: str) -> Iterator[None]:
    """Whatever goes wrong with reading a file, as its damage.

    Raises:
        InputError: something did.
    """
    try:
        yield
    except UNREADABLE as error:
        raise _damaged(path, _one_line(error), fix) from None


def _one_line(error: Exception) -> str:
    """An exception's first line."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def _read_json(path: Path, fix: str) -> Any:
    try:
        text = textfile.read_text(path, most=LARGEST)
        return jsontext.parse(text, finite=False, most=MOST_VALUES)
    except InputError as error:
        raise _damaged(path, error.what, fix) from None


def _read_row(path: Path) -> Row:
    fix = f"delete it, {AGAIN}"
    found = _read_json(path, fix)
    with _damage(path, fix):
        return kept.row(found)


def _json_files(folder: Path) -> list[Path]:
    """Those of a folder, where there is one. Raises PermissionError, which a glob is silent about."""
    try:
        return [path for path in folder.iterdir() if path.suffix == ".json"]
    except PermissionError:
        raise
    except OSError:
        return []


def _by_time(paths: Iterable[Path]) -> list[Path]:
    """Files as they were written, oldest first."""
    return sorted(paths, key=lambda path: path.lstat().st_mtime_ns)


def _read_schema(path: Path, name: str, fix: str) -> pa.Schema:
    """A table's columns, which stand at its end, checked; its rows are not read."""
    with _damage(path, fix):
        schema = pq.read_schema(path)
        kept.check_table(name, schema)
        return schema.remove_metadata()


def _read_part(path: Path, name: str) -> pa.Table:
    """A part's rows, to the last of them."""
    with _damage(path, _again(path)):
        table = pq.read_table(path)
        kept.check_table(name, table.schema)
        table.validate(full=True)
        return table.replace_schema_metadata()


# --- writing


def _copy(paths: Iterable[Path], root: Path, other: Path) -> None:
    """Copy files to the same places under another folder."""
    for path in paths:
        target = other / path.relative_to(root)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        except OSError as error:
            raise _full(target, error) from None


def _full(path: Path, error: OSError) -> DiskFault:
    room = error.errno in (errno.ENOSPC, errno.EDQUOT)
    fix = (
        "free space, then go on with `bench sweep --resume`" if room else "give a folder that can be written"
    )
    return DiskFault(f"cannot write results: {error.strerror or error}", where=str(path), fix=fix)


def _refuse_anothers(path: Path) -> None:
    """An empty folder of another user is fine (a mounted one); a full one may hold links to files of ours."""
    with suppress(OSError):
        owner = path.stat().st_uid
        if owner not in (os.geteuid(), 0) and any(path.iterdir()):
            raise InputError(
                f"this folder belongs to another user (uid {owner}) and is not empty",
                where=str(path),
                fix="choose another --out",
            )


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when it is whole. Raises DiskFault."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb", opener=private.fresh) as file:
            yield file
        os.replace(temporary, path)
    except (OSError, InputError) as error:
        temporary.unlink(missing_ok=True)  # the room it took may be enough for smaller files
        if isinstance(error, InputError):
            raise
        raise _full(path, error) from None


def _write_table(path: Path, table: pa.Table) -> None:
    with _replacing(path) as file:
        pq.write_table(table, file, compression="zstd")


def _write_atomic(path: Path, data: bytes) -> None:
    with _replacing(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _plain(value: Any) -> Any:
    """JSON form of the few other types that rows hold."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    return str(value)
