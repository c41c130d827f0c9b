"""A run folder: its rows, their parts and its other files, read and written."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rocbench import harmless, jsontext, private
from rocbench.errors import InputError, NodeFault
from rocbench.redact import redacted, redacted_data
from rocbench.store import reading, writing
from rocbench.store.cells import frame_of
from rocbench.tables import runformat
from rocbench.tables.parts import Identity
from rocbench.tables.row import Key, Row

TABLES = ("requests", "server_metrics", "gpu", "histograms", "timeline")
SHAPES = {"manifest.json": runformat.MANIFEST, "plan.json": runformat.PLAN, "search.json": runformat.SEARCHES}
OWNERS = "let the owner of this folder resume the run; or check plan.json, then resume a copy of the folder"
"""The remedy for a run that another user owns."""
REBUILD_BYTES = 32 * 1024**2
"""A joined table is rebuilt after each cell while it is smaller than this, else at the end of the run."""


class RunFolder:
    """A run on disk. Every write is atomic; a folder can be opened again and resumed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.secrets: tuple[str, ...] = ()
        """Values that must not reach a file; each is masked in all written text."""
        self._rows: list[Row] = []

    is_run = staticmethod(reading.is_run)

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Create a new run folder.

        Raises:
            InputError: the folder already holds a run, is a file, or another user has put something into it.
            DiskFault: it cannot be written.
        """
        if reading.is_run(path):
            raise InputError(
                "this folder already contains a run",
                where=str(path),
                fix="choose another --out, or continue that run with --resume",
            )
        writing.refuse_anothers_run(path)
        folder = cls(path)
        try:
            (path / "parts").mkdir(parents=True, exist_ok=True)
            (path / "servers").mkdir(exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(
                "the path of the run folder is a file", where=str(path), fix="choose another --out"
            ) from None
        except OSError as error:
            raise writing.full(path, error) from None
        return folder

    @classmethod
    def open(cls, path: Path, *, resume: bool = False) -> RunFolder:
        """Open an existing run folder, with `resume` to execute its plan and to write into it.

        Raises:
            InputError: it is not a run folder, one of its files is damaged, or it is to be resumed and belongs to
                another user.
        """
        if resume:
            writing.refuse_anothers_run(path, OWNERS)
        if not reading.is_run(path):
            if (path / "parts").is_dir():
                raise InputError(
                    "this run ended before its first measurement",
                    where=str(path),
                    fix=f"start it again in the same folder: bench sweep SWEEP --out {path}",
                )
            raise InputError("not a run folder (manifest.json is missing)", where=str(path))
        folder = cls(path)
        if not folder.manifest:
            raise reading.damaged(path / "manifest.json", "it is empty", reading.RESTORE)
        folder._rows = folder._read_rows()
        return folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for writing, and remove incomplete files of a killed writer.

        Raises:
            NodeFault: another bench is writing it.
        """
        with open(self.path / ".lock", "a", opener=private.opener) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NodeFault(
                    f"another bench is writing to {self.path}", fix="wait until the other bench ends"
                ) from None
            for left in (*self.path.glob(".*.tmp"), *(self.path / "parts").glob("*/.*.tmp")):
                left.unlink(missing_ok=True)
            yield

    # --- small files

    def write_json(self, name: str, value: Any) -> None:
        """Write `name` (manifest.json, plan.json, ...)."""
        writing.whole(self.path / name, self._json(value, indent=2).encode() + b"\n")

    def sha256(self, name: str) -> str:
        """Return the hash of a file, as hexadecimal digits."""
        return hashlib.sha256((self.path / name).read_bytes()).hexdigest()

    def _json(self, value: Any, indent: int | None = None) -> str:
        """Return JSON. Secrets are masked in the values, not in the resulting text, which stays valid JSON."""

        def default(other: Any) -> Any:
            return redacted_data(writing.plain(other), self.secrets)

        return json.dumps(redacted_data(value, self.secrets), indent=indent, default=default)

    def _cell_value(self, value: Any) -> Any:
        """Return a value of a row with secrets masked; some columns contain JSON."""
        if isinstance(value, str) and value[:1] in ("{", "["):
            with suppress(ValueError, RecursionError):
                parsed = json.loads(value)
                masked = redacted_data(parsed, self.secrets)
                return value if masked == parsed else json.dumps(masked)
        return harmless.whole(redacted(value, self.secrets)) if isinstance(value, str) else value

    def read_json(self, name: str) -> Any:
        """Read `name`; None if it is missing.

        Raises:
            InputError: it is damaged, or has content that bench does not write.
        """
        path = self.path / name
        if not path.is_file():
            return None
        content = reading.value(path, reading.RESTORE)
        with reading.damage(path, reading.RESTORE):
            runformat.check(content, SHAPES.get(name))
        return content

    @property
    def plan(self) -> dict[str, Any]:
        """Return the plan as written; empty in a folder without one."""
        return dict(self.read_json("plan.json") or {})

    def whole_plan(self) -> dict[str, Any]:
        """Return the plan where it is required.

        Raises:
            InputError: the plan is missing.
        """
        plan = self.plan
        if not plan:
            raise InputError(
                "plan.json is missing: the remaining measurements are unknown",
                where=str(self.path),
                fix=reading.RESTORE,
            )
        return plan

    @property
    def manifest(self) -> dict[str, Any]:
        """Return the manifest; empty in a folder without one."""
        return dict(self.read_json("manifest.json") or {})

    def server_folder(self, server_id: str) -> Path:
        """Create and return `servers/<id>/`. A restart gets a new folder: `<id>.2`, `<id>.3`."""
        folder, n = self.path / "servers" / server_id, 1
        while (folder / "command.sh").exists():
            n += 1
            folder = self.path / "servers" / f"{server_id}.{n}"
        return writing.folder(folder)

    def log(self, at: str, event: str, **facts: Any) -> None:
        """Append one event to log.jsonl, after the end of a line that a killed writer left incomplete."""
        self._append("log.jsonl", {"at": at, "event": event} | facts)

    def _append(self, name: str, value: Mapping[str, Any]) -> None:
        line = self._json(value) + "\n"
        path = self.path / name
        try:
            with open(path, "a+b", opener=private.opener) as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read(1) == b"\n" else "\n" + line
                file.write(line.encode())
        except OSError as error:
            raise writing.full(path, error) from None

    # --- rows

    @property
    def rows(self) -> list[Row]:
        """Return the cell rows so far."""
        return list(self._rows)

    def write_cell(
        self,
        identity: Identity,
        columns: Mapping[str, Any],
        parts: Mapping[str, pa.Table],
        *,
        tables: bool = True,
    ) -> Row:
        """Write one cell and return its row. Its parts are written before its row, so that no row lacks its data.

        Args:
            identity: the cell and repeat.
            columns: the row.
            parts: its tables, by name.
            tables: write the joined tables too. For many cells, joining them once in `finish` is faster.
        """
        for name in TABLES:
            path = self.path / "parts" / name / f"{identity.stem}.parquet"
            if name in parts:
                writing.folder(path.parent)
                writing.table(path, parts[name])
            else:
                path.unlink(missing_ok=True)  # of an earlier attempt
        rows_folder = writing.folder(self.path / "parts" / "cells")
        row = Row({name: self._cell_value(value) for name, value in columns.items()} | asdict(identity))
        row |= self._replace(row)
        writing.whole(
            rows_folder / f"{identity.stem}.json", json.dumps(row.columns, default=writing.plain).encode()
        )
        self._rows = [old for old in self._rows if old.key != row.key] + [row]
        if not tables:
            return row
        self._write_cells()
        for name in parts:
            paths = (self.path / "parts" / name).glob("*.parquet")
            if sum(path.stat().st_size for path in paths) < REBUILD_BYTES:
                self.join(name)
        return row

    def attempts(self, identity: Identity) -> int:
        """Return how often a cell and repeat was measured."""
        old = self._row_of((identity.cell_id, identity.repeat, identity.discarded))
        return int(old.get("attempt") or 1) if old else 0

    def _row_of(self, key: Key) -> Row | None:
        return next((row for row in self._rows if row.key == key), None)

    def _replace(self, row: Row) -> dict[str, Any]:
        """Log the row that this one replaces; return the columns that describe it and its predecessors."""
        attempt, reasons = int(row.get("attempt") or 1), row.listed("replaced_reasons")
        old = self._row_of(row.key)
        if old is not None:
            self._append("replaced.jsonl", old)
            attempt += int(old.get("attempt") or 1)
            reasons += (*old.listed("replaced_reasons"), *old.codes)
        return {"attempt": attempt, "replaced_reasons": ";".join(dict.fromkeys(reasons)) or None}

    def finish(self) -> None:
        """Write every table again, from the existing rows and parts."""
        self._write_cells()
        for name in TABLES:
            self.join(name)

    def write_csv(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table for people (summary.csv)."""
        writing.whole(self.path / name, harmless.as_csv(frame).encode())

    def join(self, name: str) -> None:
        """Rebuild `<name>.parquet` from the parts of all existing cells, one row group per part."""
        done = {row.identity.stem for row in self._rows}
        parts = sorted(part for part in (self.path / "parts" / name).glob("*.parquet") if part.stem in done)
        target = self.path / f"{name}.parquet"
        if not parts:
            target.unlink(missing_ok=True)
            return
        try:
            # If a later version resumes a run, its parts have more columns.
            schema = reading.together(
                name, [reading.schema(part, name, reading.again(part)) for part in parts], parts
            )
            with (
                writing.replacing(target) as sink,
                pq.ParquetWriter(sink, schema, compression="zstd") as writer,
            ):
                for part in parts:
                    tables = [schema.empty_table(), reading.part(part, name)]
                    writer.write_table(pa.concat_tables(tables, promote_options="permissive"))
        except InputError as error:
            # The part was damaged after the run was opened. The run continues without the joined table, which
            # would lack the newest cells.
            target.unlink(missing_ok=True)
            self._append("log.jsonl", {"event": "not_joined", "table": name, "message": error.text()})

    def check_parts(self) -> list[Row]:
        """Check all parts; return the rows whose requests are missing.

        Raises:
            InputError: a part is damaged.
        """
        for name in TABLES:
            paths = [path for row in self._rows if (path := self._part(name, row)).is_file()]
            reading.together(name, [reading.part(path, name).schema for path in paths], paths)
        folder = self.path / "parts" / "requests"
        return [
            row
            for row in self._rows
            if row.get("completed") and not (folder / f"{row.identity.stem}.parquet").is_file()
        ]

    # --- transfer of a run's parts between folders

    def take_over(self, rows: Sequence[Row], servers: Sequence[str]) -> None:
        """Start with the rows, without their parts, and the names of servers of another folder of the same run."""
        for row in rows:
            self.write_cell(row.identity, row, {}, tables=False)
        if rows:
            self._write_cells()
        for name in servers:
            (writing.folder(self.path / "servers" / name) / "command.sh").touch()

    def measured(self, row: Row) -> tuple[Identity, dict[str, pa.Table]]:
        """Return the identity and parts of one of this folder's rows, for `write_cell`."""
        paths = {name: self._part(name, row) for name in TABLES}
        return row.identity, {
            name: reading.part(path, name) for name, path in paths.items() if path.is_file()
        }

    def _part(self, name: str, row: Row) -> Path:
        """Return the path of a row's part."""
        return self.path / "parts" / name / f"{row.identity.stem}.parquet"

    def server_names(self) -> tuple[str, ...]:
        """Return the names of the folders in servers/."""
        return tuple(sorted(path.name for path in (self.path / "servers").iterdir() if path.is_dir()))

    def servers_packed(self, but: Sequence[str] = ()) -> bytes:
        """Return servers/ as a tar archive, without the named folders."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
            for name in self.server_names():
                if name not in but:
                    archive.add(self.path / "servers" / name, arcname=name)
        return packed.getvalue()

    def unpack_servers(self, packed: bytes) -> None:
        """Unpack the archive of `servers_packed` into servers/."""
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(self.path / "servers", filter="data")

    def events(self) -> list[dict[str, Any]]:
        """Return the events of log.jsonl."""
        path = self.path / "log.jsonl"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        return [jsontext.parse(line, str(path), finite=False) for line in lines]

    def copy_into(self, other: RunFolder) -> None:
        """Copy the measurements and the servers' files into another run folder."""
        for row in self._rows:
            stem = row.identity.stem
            paths = [self.path / "parts" / "cells" / f"{stem}.json", *(self._part(n, row) for n in TABLES)]
            writing.copy(filter(Path.is_file, paths), self.path, other.path)
        files = (Path(at) / name for at, _, names in os.walk(self.path / "servers") for name in names)
        writing.copy(
            (path for path in files if path.is_file() and not path.is_symlink()), self.path, other.path
        )

    def _read_rows(self) -> list[Row]:
        rows = [reading.row(path) for path in reading.json_files(self.path / "parts" / "cells")]
        path = self.path / "cells.parquet"
        if not rows and path.is_file():
            with reading.damage(path, reading.RESTORE):
                return reading.once(Row(runformat.row(row)) for row in pq.read_table(path).to_pylist())
        return rows

    def _write_cells(self) -> None:
        frame = self.cells()
        writing.whole(self.path / "cells.csv", harmless.as_csv(frame).encode())
        writing.table(self.path / "cells.parquet", pa.Table.from_pandas(frame, preserve_index=False))

    def cells(self) -> pd.DataFrame:
        """Return the cell rows as a frame, columns in their documented order, absent values as missing."""
        return frame_of(self._rows)

    def table(self, name: str, columns: Sequence[str] | None = None, **filters: Any) -> pd.DataFrame:
        """Return one of TABLES as a frame, empty if it was not recorded.

        Args:
            name: of the table.
            columns: names of the columns; all by default.
            filters: column to the value of the rows to return.
        """
        path = self.path / f"{name}.parquet"
        if not path.is_file():
            return pd.DataFrame()
        conditions = [(column, "==", value) for column, value in filters.items()]
        schema = reading.schema(path, name, reading.REBUILD)
        with reading.damage(path, reading.REBUILD):
            if absent := set(columns or ()) - set(schema.names):
                raise runformat.Mismatch(f"column {min(absent)} is missing")
            read = pq.read_table(path, columns=list(columns) if columns else None, filters=conditions or None)
            frame: pd.DataFrame = read.to_pandas(ignore_metadata=True)
        return frame
