"""A query reads the runs' tables, lazily, and can do nothing else on the machine."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rocbench import ledger
from rocbench.errors import InputError
from rocbench.store import reading
from rocbench.store.folder import RunFolder
from rocbench.tables.row import Row
from rocbench.tables.runformat import Mismatch


def a_run(path: Path, requests: pa.Table, cell: str = "c") -> RunFolder:
    """A run folder of one row, with that requests.parquet."""
    folder = RunFolder.create(path)
    folder.write_json("manifest.json", {"run_id": path.name, "begun_at": "2026-01-01"})
    (path / "parts" / "cells").mkdir()
    row = {"cell_id": cell, "repeat": 1, "model": "=cmd|'/c calc'!A0", "output_throughput": 1.5}
    (path / "parts" / "cells" / f"{cell}-1.json").write_text(json.dumps(row))
    pq.write_table(requests, path / "requests.parquet", row_group_size=1000)
    return RunFolder.open(path)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run, next to another one and a secret."""
    (tmp_path / "secret.csv").write_text("token\nhf_planted\n")
    a_run(tmp_path / "other", pa.table({"ttft_ms": [7.0]}))
    return a_run(tmp_path / "mine", pa.table({"cell_id": ["c", "c"], "ttft_ms": [1.0, 3.0]}))


def test_the_tables_are_there(run: RunFolder) -> None:
    """Tables can be joined, filtered, and used for the query's own tables."""
    joined = (
        "select model, avg(ttft_ms) m from cells join requests using (cell_id) where ttft_ms < 2 group by all"
    )
    assert ledger.query([run], joined).to_dict("records") == [{"model": "=cmd|'/c calc'!A0", "m": 1.0}]
    two = "create temp table slow as select * from requests where ttft_ms > 2; select count(*) n from slow"
    assert ledger.query([run], two).n[0] == 1


@pytest.mark.parametrize("sql", ["", " ;", "-- nothing"])
def test_no_query_is_told(run: RunFolder, sql: str) -> None:
    """Blanks and comments are not a query."""
    with pytest.raises(InputError, match="the SQL is not a query"):
        ledger.query([run], sql)


def test_runs_of_unlike_tables_go_together(tmp_path: Path) -> None:
    """A later version has more columns, and a column that was always absent has no type."""
    early = a_run(tmp_path / "a", pa.table({"n": pa.array([1, 2], pa.int32()), "error": pa.nulls(2)}))
    late = a_run(tmp_path / "b", pa.table({"n": [0.5], "error": ["x"], "new": [True]}))
    table = ledger.query([early, late], "select * from requests order by n")
    assert table.n.tolist() == [0.5, 1, 2]
    assert table.error.fillna("-").tolist() == ["x", "-", "-"]
    assert ledger.query([early, late], "select count(*) c from requests where n > 0.7").c[0] == 2
    text = a_run(tmp_path / "c", pa.table({"n": ["many"]}))
    with pytest.raises(InputError, match=r"different column types in requests\.parquet"):
        ledger.query([early, text], "select 1")


def test_a_large_table_is_read_as_far_as_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registered table holds no rows in memory, and a single column can be read."""
    n = 200_000
    noise = np.random.default_rng(0).random((n, 8))
    run = a_run(tmp_path / "large", pa.table({f"x{at}": noise[:, at] for at in range(8)}))
    seen: list[int] = []
    query = duckdb.DuckDBPyConnection.execute

    def counted(self: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyConnection:
        seen.append(pa.total_allocated_bytes())
        return query(self, sql)

    before = pa.total_allocated_bytes()
    monkeypatch.setattr(duckdb.DuckDBPyConnection, "execute", counted)
    assert (
        ledger.query([run], "select count(*) c from requests where x3 < 0.5").c[0]
        == (noise[:, 3] < 0.5).sum()
    )
    assert max(seen) - before < noise.nbytes / 8


ESCAPES = {
    "read_csv": "select * from read_csv('{dir}/secret.csv')",
    "by name": "select * from '{dir}/secret.csv'",
    "read_text": "select * from read_text('/etc/passwd')",
    "read_json": "select * from read_json('/etc/passwd')",
    "sniff": "select * from sniff_csv('/etc/passwd')",
    "another run": "select * from read_parquet('{dir}/other/requests.parquet')",
    "another run's metadata": "select * from parquet_metadata('{dir}/other/requests.parquet')",
    "this run, by its path": "select * from read_parquet('{dir}/mine/requests.parquet')",
    "glob": "select * from glob('{dir}/*')",
    "copy out": "copy (select 1) to '{dir}/new.csv'",
    "copy over": "copy (select 1) to '{dir}/mine/requests.parquet' (format parquet, use_tmp_file false)",
    "copy over a row": "copy (select 1) to '{dir}/mine/parts/cells/c-1.json' (format json, use_tmp_file false)",
    "copy in": "create table t (x text); copy t from '{dir}/secret.csv'",
    "export": "export database '{dir}/exported'",
    "import": "import database '{dir}/exported'",
    "attach": "attach '{dir}/new.duckdb' as other",
    "install": "install httpfs",
    "load": "load httpfs",
    "load a file": "load '{dir}/secret.csv'",
    "network": "select * from read_csv('http://127.0.0.1:9/x.csv')",
    "secret": "create persistent secret s (type s3, key_id 'a')",
    "environment": "select getenv('HOME')",
    "set": "set memory_limit = '100GB'",
    "set global": "set global temp_directory = '{dir}'",
    "unlock": "set lock_configuration = false",
    "open": "set enable_external_access = true",
    "allow": "set allowed_directories = ['/']",
    "reset": "reset enable_external_access",
    "pragma": "pragma enable_profiling = 'json'",
    "pragma file": "pragma profiling_output = '{dir}/profile.json'",
    "log": "call enable_logging(storage = 'file', storage_path = '{dir}/logs')",
    "our own variables": "select * from table",
    "our own frames": "select * from answer",
}


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_query_reaches_nothing_else(
    run: RunFolder, tmp_path: Path, escape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused, no content of a file is shown, and no file is written."""
    monkeypatch.setenv("HOME", str(tmp_path))
    there = {path: path.read_bytes() if path.is_file() else b"" for path in tmp_path.rglob("*")}
    with pytest.raises(InputError) as refused:
        ledger.query([run], ESCAPES[escape].format(dir=tmp_path))
    assert "hf_planted" not in refused.value.text()
    assert there == {path: path.read_bytes() if path.is_file() else b"" for path in tmp_path.rglob("*")}


def test_an_option_opens_files(run: RunFolder, tmp_path: Path) -> None:
    """The refusal names --allow-files, which permits it."""
    read = f"select token from read_csv('{tmp_path}/secret.csv')"
    with pytest.raises(InputError, match="--allow-files"):
        ledger.query([run], read)
    with pytest.raises(InputError, match="--allow-files"):
        ledger.query([run], "set threads = 1")
    assert ledger.query([run], read, files=True).token[0] == "hf_planted"


def test_a_table_that_is_damaged_within(run: RunFolder) -> None:
    """Its end can be read, its rows cannot."""
    path = run.path / "requests.parquet"
    data = path.read_bytes()
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    path.write_bytes(data[:4] + bytes(end - 4) + data[end:])
    with pytest.raises(InputError, match=r"SQL: ."):
        ledger.query([run], "select sum(ttft_ms) from requests")


def test_a_measurement_stands_in_a_file_once():
    """Another table of the run in place of its cells has several rows with one cell's identity."""
    first, other = Row({"cell_id": "a", "repeat": 1}), Row({"cell_id": "a", "repeat": 2})
    assert reading.once([first, other]) == [first, other]
    with pytest.raises(Mismatch, match="cell a repeat 1 has two rows"):
        reading.once([first, other, Row({"cell_id": "a", "repeat": 1})])
