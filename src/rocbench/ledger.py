"""All runs under a results folder as one table: history, SQL, and shards put together. Run folders are enough by themselves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from rocbench.errors import InputError
from rocbench.store import TABLES, RunFolder


def runs(root: Path) -> list[RunFolder]:
    """Every run folder under `root`, oldest first; a run folder itself is a list of one.

    Raises:
        InputError: there is none.
    """
    if (root / "manifest.json").is_file():
        return [RunFolder.open(root)]
    found = [RunFolder.open(path.parent) for path in sorted(root.glob("*/manifest.json"))]
    if not found:
        raise InputError("no run folder here", where=str(root), fix="bench sweep writes one")
    return sorted(found, key=lambda folder: str((folder.read_json("manifest.json") or {}).get("begun_at")))


def cells(root: Path) -> pd.DataFrame:
    """The cell rows of every run, with when each run began."""
    frames = []
    for folder in runs(root):
        frame = folder.cells()
        manifest = folder.read_json("manifest.json") or {}
        if not frame.empty:
            frames.append(frame.assign(begun_at=manifest.get("begun_at"), run=folder.path.name))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def history(root: Path, metric: str, **wanted: str | None) -> pd.DataFrame:
    """One row per run and cell: when, what, mean of `metric` over valid repeats, and how many.

    Args:
        wanted: column to value; None asks nothing.

    Raises:
        InputError: no such column.
    """
    frame = cells(root)
    for name in [metric, *wanted]:
        if name not in frame.columns:
            raise InputError(f"no column {name!r} in cells", fix="docs/results.md lists all")
    for name, value in wanted.items():
        if value is not None:
            frame = frame[frame[name].astype(str) == value]
    frame = frame[~frame["discarded"].fillna(value=False).astype(bool) & ~(frame["valid"] == False)]  # noqa: E712
    frame = frame[frame[metric].notna()]
    grouped = frame.groupby(["begun_at", "run", "key", "cell_id", "simulated"], dropna=False, sort=False)[metric]
    table = grouped.agg(["mean", "std", "count"]).reset_index()
    return table.sort_values(["key", "begun_at"], ignore_index=True)


def query(root: Path, sql: str) -> pd.DataFrame:
    """The answer to a SQL query over the tables `cells`, `requests`, `server_metrics`, `gpu`, `histograms`, `timeline`.

    Raises:
        InputError: DuckDB refuses the query.
    """
    connection = duckdb.connect()
    connection.register("cells", cells(root))
    for name in TABLES:
        paths = [str(folder.path / f"{name}.parquet") for folder in runs(root)]
        there = [path for path in paths if Path(path).is_file()]
        if there:
            connection.register(name, connection.read_parquet(there, union_by_name=True))  # type: ignore[arg-type]
    try:
        return connection.sql(sql).df()
    except duckdb.Error as error:
        raise InputError(str(error).splitlines()[0], where="SQL") from None


def merge(folders: list[Path], out: Path) -> RunFolder:
    """Put shards of one plan together: every cell and repeat once, with its parts and servers.

    Raises:
        InputError: the folders are of different sweeps, or two hold the same measurement.
    """
    shards = [RunFolder.open(path) for path in folders]
    plans: list[dict[str, Any]] = [shard.read_json("plan.json") for shard in shards]
    if any(plan["sweep"] != plans[0]["sweep"] for plan in plans):
        raise InputError("these runs are of different sweeps", fix="merge shards of one sweep only")
    merged = RunFolder.create(out)
    seen: dict[tuple[Any, ...], Path] = {}
    manifests = [shard.read_json("manifest.json") for shard in shards]
    for shard in shards:
        for row in shard.rows:
            key = (row["cell_id"], row["repeat"], row.get("discarded", False))
            if key in seen:
                raise InputError(f"{row['key']} repeat {row['repeat']} is in {seen[key]} too", where=str(shard.path))
            seen[key] = shard.path
    for index, shard in enumerate(shards, start=1):
        shutil.copytree(shard.path / "parts", out / "parts", dirs_exist_ok=True)
        for server in sorted((shard.path / "servers").iterdir()):
            shutil.copytree(server, out / "servers" / f"{server.name}@{index}", dirs_exist_ok=True)
    plan = plans[0] | {"shard": None}
    for name in ("servers", "launches", "skipped"):
        plan[name] = [entry for one in plans for entry in one[name]]
    merged.write_json("plan.json", plan)
    merged.write_json("manifest.json", manifests[0] | {"merged_from": manifests})
    merged = RunFolder.open(out)
    merged.rewrite()
    merged.finish()
    return merged
