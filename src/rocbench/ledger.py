"""All runs under a results folder as one table: history, SQL, merged shards. It needs only run folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from rocbench.conduct import rows
from rocbench.errors import InputError
from rocbench.judgement import repeats, trend
from rocbench.judgement.compare import by
from rocbench.judgement.disambiguation import disambiguated
from rocbench.plan.expand import Overrides, Plan
from rocbench.store.cells import frame_of
from rocbench.store.folder import TABLES, RunFolder
from rocbench.store.runs import dataset
from rocbench.tables.row import Key, figures, judged, records


def cells(folders: Sequence[RunFolder]) -> pd.DataFrame:
    """Return the cell rows of runs, with each run's beginning and its folder's name."""
    frames = []
    for folder in folders:
        frame = folder.cells()
        if not frame.empty:
            frames.append(frame.assign(begun_at=folder.manifest.get("begun_at"), run=folder.path.name))
    return pd.concat(frames, ignore_index=True) if frames else frame_of([]).assign(begun_at="", run="")


SERIES = ("key", "simulated", "predicted", "imported", "hardware", "model_revision", "isl", "osl", "images")
"""Columns that identify a series; the vLLM version, flags and node may change within it."""


def history(folders: Sequence[RunFolder], metric: str, wanted: Mapping[str, str]) -> pd.DataFrame:
    """Return one row per cell and run, oldest first within its series.

    Columns: SERIES, then begun_at, run, cell_id, vllm_version, mean and std over valid repeats, n, changed (the cell is
    configured otherwise than in the run before), and change (the relative change of level where a change point lies).

    Args:
        folders: the runs.
        metric: a column of `cells` that is a number.
        wanted: column to value, as text.

    Raises:
        InputError: no such column, or it holds no numbers.
    """
    frame = cells(folders)
    for name in (metric, *wanted):
        if name not in frame.columns:
            raise InputError(f"no column {name!r} in cells", fix="docs/results.md lists all")
    if not pd.api.types.is_numeric_dtype(frame[metric]) or pd.api.types.is_bool_dtype(frame[metric]):
        raise InputError(
            f"{metric!r} is no number", where="--metric", fix="docs/results.md lists all columns"
        )
    for name, value in wanted.items():
        frame = frame[frame[name].astype(str) == value]
    rows_ = [row for row in judged(disambiguated(records(frame))) if row.figure(metric) is not None]
    table = []
    for series, points in by(rows_, SERIES).items():
        before, line = None, dict(zip(SERIES, series, strict=True))
        runs_ = by(sorted(points, key=lambda row: str(row["begun_at"])), ("begun_at", "run", "cell_id"))
        for (begun_at, run, cell_id), repeats_ in runs_.items():
            there = pd.Series(figures(repeats_, metric))
            table.append(
                line
                | {"begun_at": begun_at, "run": run, "cell_id": cell_id}
                | {"vllm_version": repeats_[0].get("vllm_version"), "mean": there.mean()}
                | {"std": there.std(), "n": len(there), "changed": before not in {None, cell_id}}
            )
            before = cell_id
    return _with_changes(pd.DataFrame(table))


def _with_changes(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its change points, which are searched in each series separately."""
    table["change"] = float("nan")
    if table.empty:
        return table
    for _, series in table.groupby(list(SERIES), sort=False, dropna=False):
        for point in trend.change_points(series["mean"].to_numpy(dtype=float)):
            table.loc[series.index[point.index], "change"] = point.change
    return table


_WALLED = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
"""Settings that keep a query within its tables: no file, no network, no extension."""


def query(folders: Sequence[RunFolder], sql: str, *, files: bool = False) -> pd.DataFrame:
    """Return the answer to a SQL query over the tables `cells`, `requests`, `server_metrics`, `gpu`,
    `histograms`, `timeline`.

    The tables are given to DuckDB as Arrow data, not as paths: it could also overwrite a path that it may
    read.

    Args:
        folders: the runs.
        sql: the query.
        files: let it read and write files, load extensions and change settings, as DuckDB does by default.

    Raises:
        InputError: DuckDB refuses the query.
    """
    with duckdb.connect(config={"python_enable_replacements": False}) as connection:
        connection.register("cells", cells(folders))
        for name in TABLES:
            table = dataset(folders, name)
            if table is not None:
                connection.register(name, table)
        for setting, value in ({} if files else _WALLED | {"lock_configuration": True}).items():
            connection.execute(f"SET {setting} = {str(value).lower()}")
        try:
            answered: duckdb.DuckDBPyConnection | None = connection.execute(sql)
            if answered is None:
                raise InputError("this is no query", where="SQL", fix="for example: SELECT * FROM cells")
            answer = answered.df()
        except duckdb.Error as error:
            raise _refused(error) from None
    return answer


def _refused(error: duckdb.Error) -> InputError:
    """Return DuckDB's error about a query, and how to lift the limits that `query` itself sets."""
    what = str(error).splitlines()[0]
    walled = isinstance(error, duckdb.PermissionException) or "configuration has been locked" in what
    return InputError(
        what,
        where="SQL",
        fix="a query sees the runs' tables only; --allow-files opens files, extensions and settings"
        if walled
        else "",
    )


def merge(paths: Sequence[Path], out: Path) -> RunFolder:
    """Merge shards of one plan: every cell and repeat once, with its parts and servers.

    A measurement that no shard has is also missing in the merged run; `bench sweep --resume` makes it.

    Raises:
        InputError: the folders are not of one plan, or two hold the same measurement.
    """
    shards = [RunFolder.open(path) for path in paths]
    plan = _one_plan(shards)
    planned = {run.cell.cell_id for launch in plan.launches for run in launch.runs}
    _refuse_twice(shards)
    for shard in shards:
        strange = {str(row["key"]) for row in shard.rows if row["cell_id"] not in planned}
        if strange and plan.sweep.search is None:
            cause = rows.unlike(shard.whole_plan())
            raise InputError(
                f"this bench plans other cells than {shard.path} has: {cause[0] if cause else ', '.join(sorted(strange)[:3])}",
                fix=cause[1] if cause else f"merge with rocbench {shard.manifest['rocbench']}",
            )
    merged = RunFolder.create(out)
    with merged.held():
        for shard in shards:
            shard.copy_into(merged)
        kept = shards[0].whole_plan()
        written = kept | rows.plan_json(plan, Overrides(**kept["overrides"]), None)
        merged.write_json("plan.json", written)
        manifests = [shard.manifest for shard in shards]
        first = min(manifests, key=lambda manifest: str(manifest["begun_at"]))
        merged.write_json("manifest.json", first | {"run_id": out.name, "merged_from": manifests})
        merged = RunFolder.open(out)
        merged.finish()
        if merged.rows:
            merged.write_csv("summary.csv", repeats.summary(merged.cells()))
        searches = [found for shard in shards for found in shard.read_json("search.json") or []]
        if searches:
            merged.write_json("search.json", searches)
    return merged


def _one_plan(shards: Sequence[RunFolder]) -> Plan:
    """Return the whole plan of these shards."""
    first = _decides(shards[0])
    for shard in shards[1:]:
        other = _decides(shard)
        different = [name for name in first if first[name] != other[name]]
        if different:
            raise InputError(
                f"these are not shards of one plan: {', '.join(different)} differ",
                where=f"{shards[0].path}, {shard.path}",
                fix="merge what one sweep gave with --shard 1/N to N/N",
            )
    return rows.stored(shards[0].whole_plan() | {"shard": None}, shards[0].manifest)


def _decides(shard: RunFolder) -> dict[str, str]:
    """Return the parts of a plan that decide, as comparable text."""
    plan, manifest = shard.whole_plan(), shard.manifest
    there = {name: plan.get(name) for name in ("sweep", "overrides", "client")}
    there |= {name: manifest.get(name) for name in ("profiles", "workloads", "hardware")}
    return {name: json.dumps(value, sort_keys=True) for name, value in there.items()}


def _refuse_twice(shards: Sequence[RunFolder]) -> None:
    seen: dict[Key, Path] = {}
    for shard in shards:
        for row in shard.rows:
            if row.key in seen:
                raise InputError(
                    f"{row.get('key')} repeat {row.get('repeat')} is in {seen[row.key]} too",
                    where=str(shard.path),
                    fix="leave out one of the two",
                )
            seen[row.key] = shard.path


def latest_before(folder: RunFolder, folders: Sequence[RunFolder]) -> RunFolder | None:
    """The newest earlier run of the same sweep on the same hardware, simulated if this one is."""
    mine = folder.manifest

    def alike(other: Mapping[str, Any]) -> bool:
        same = all(other.get(name) == mine.get(name) for name in ("sweep", "simulated"))
        hardware = [(one.get("hardware") or {}).get("name") for one in (mine, other)]
        return same and hardware[0] == hardware[1] and str(other.get("begun_at")) < str(mine.get("begun_at"))

    candidates = [
        other
        for other in folders
        if other.path.resolve() != folder.path.resolve() and alike(other.manifest) and other.rows
    ]
    return max(candidates, key=lambda other: str(other.manifest["begun_at"]), default=None)
