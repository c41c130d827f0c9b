"""Several runs as one table: history, SQL, merged shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from rocbench.conduct import rows
from rocbench.errors import InputError
from rocbench.judgement import detectable, repeats, trend
from rocbench.judgement.compare import grouped
from rocbench.judgement.disambiguation import disambiguated
from rocbench.plan.expand import Overrides, Plan
from rocbench.store.cells import frame_of
from rocbench.store.folder import TABLES, RunFolder
from rocbench.store.runs import dataset, find
from rocbench.tables.row import Key, figures, judged, records


def cells(folders: Sequence[RunFolder]) -> pd.DataFrame:
    """Return the cell rows of runs, with the columns `begun_at` and `run` (name of the folder)."""
    frames = []
    for folder in folders:
        frame = folder.cells()
        if not frame.empty:
            frames.append(frame.assign(begun_at=folder.manifest.get("begun_at"), run=folder.path.name))
    return pd.concat(frames, ignore_index=True) if frames else frame_of([]).assign(begun_at="", run="")


MOST_RUNS = 60
"""Newest runs of a folder that are read as history."""


def with_cells(
    roots: Iterable[Path], cell_ids: Collection[str], left_out: Callable[[InputError], None]
) -> pd.DataFrame | None:
    """Return the rows of the newest runs in these folders that measured any of these cells; None if there are none.

    Args:
        roots: folders of runs.
        cell_ids: the cells.
        left_out: called for each run that cannot be read.
    """
    frames = []
    for root in roots:
        try:
            folders = find(root, left_out)
        except InputError:
            continue  # a folder without runs, such as that of a cells file
        for folder in folders[-MOST_RUNS:]:
            rows = folder.cells()
            frames.append(rows[rows["cell_id"].isin(list(cell_ids))] if not rows.empty else rows)
    frames = [frame for frame in frames if not frame.empty]
    return pd.concat(frames, ignore_index=True) if frames else None


SERIES = ("key", "simulated", "predicted", "imported", "hardware", "model_revision", "isl", "osl", "images")
"""Columns that identify a series; the vLLM version, flags and node may change within it."""


def history(folders: Sequence[RunFolder], metric: str, filters: Mapping[str, str]) -> pd.DataFrame:
    """Return one row per cell and run, oldest first within its series.

    Columns: SERIES, then begun_at, run, cell_id, vllm_version, mean and std over valid repeats, n, changed (the cell's
    configuration differs from the run before), and change (the relative change of level at a change point). A change point
    has also change_low and change_high (its 95 % interval), change_kind (step or slide), change_nights (nights over which
    the level moves), change_told (the run after which it was first told) and change_contradicted. The last run of a series
    has spread (between nights, relative) and minimum_step (relative, see `detectable.Sight`).

    Args:
        folders: the runs.
        metric: a numeric column of `cells`.
        filters: column to value, as text.

    Raises:
        InputError: no such column, or it is not numeric.
    """
    frame = cells(folders)
    for name in (metric, *filters):
        if name not in frame.columns:
            raise InputError(f"no column {name!r} in cells", fix="docs/results.md lists all columns")
    if not pd.api.types.is_numeric_dtype(frame[metric]) or pd.api.types.is_bool_dtype(frame[metric]):
        raise InputError(
            f"{metric!r} is not a numeric column", where="--metric", fix="docs/results.md lists all columns"
        )
    for name, value in filters.items():
        frame = frame[frame[name].astype(str) == value]
    rows_ = [row for row in judged(disambiguated(records(frame))) if row.figure(metric) is not None]
    table = []
    for series, points in grouped(rows_, SERIES).items():
        before, line = None, dict(zip(SERIES, series, strict=True))
        runs_ = grouped(sorted(points, key=lambda row: str(row["begun_at"])), ("begun_at", "run", "cell_id"))
        for (begun_at, run, cell_id), repeats_ in runs_.items():
            values = pd.Series(figures(repeats_, metric))
            table.append(
                line
                | {"begun_at": begun_at, "run": run, "cell_id": cell_id}
                | {"vllm_version": repeats_[0].get("vllm_version"), "mean": values.mean()}
                | {"std": values.std(), "n": len(values), "changed": before not in {None, cell_id}}
            )
            before = cell_id
    return _with_changes(pd.DataFrame(table))


def _with_changes(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the change points of each series, and what could be seen after its last run."""
    for name in ("change", "change_low", "change_high", "change_nights", "spread", "minimum_step"):
        table[name] = float("nan")
    for name in ("change_kind", "change_told", "change_contradicted"):
        table[name] = None
    if table.empty:
        return table
    for _, series in table.groupby(list(SERIES), sort=False, dropna=False):
        figures_ = series["mean"].to_numpy(dtype=float)
        for point in trend.change_points(figures_):
            at = series.index[point.index]
            values: dict[str, Any] = {
                "change": point.change,
                "change_low": point.low,
                "change_high": point.high,
            }
            values |= {"change_nights": point.nights, "change_kind": point.kind}
            values |= {
                "change_told": series["run"].iloc[point.told],
                "change_contradicted": point.contradicted,
            }
            for name, value in values.items():
                table.loc[at, name] = value
        view = detectable.sight(figures_)
        table.loc[series.index[-1], ["spread", "minimum_step"]] = view.spread, view.smallest
    return table


_WALLED = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "lock_configuration": True,
}
"""Settings that restrict a query to its tables: no file, no network, no extension."""


def query(folders: Sequence[RunFolder], sql: str, *, files: bool = False) -> pd.DataFrame:
    """Return the answer to a SQL query over `cells` and the TABLES of all runs.

    DuckDB gets the tables as Arrow data, not as paths: it could overwrite a path that it may read.

    Args:
        folders: the runs.
        sql: the query.
        files: let it read and write files, load extensions and change settings, as in DuckDB's default.

    Raises:
        InputError: DuckDB refuses the query.
    """
    with duckdb.connect(config={"python_enable_replacements": False}) as connection:
        connection.register("cells", cells(folders))
        for name in TABLES:
            table = dataset(folders, name)
            if table is not None:
                connection.register(name, table)
        for setting, value in ({} if files else _WALLED).items():
            connection.execute(f"SET {setting} = {str(value).lower()}")
        try:
            result: duckdb.DuckDBPyConnection | None = connection.execute(sql)
            if result is None:
                raise InputError(
                    "the SQL is not a query", where="SQL", fix="for example: SELECT * FROM cells"
                )
            return result.df()
        except duckdb.Error as error:
            raise _refused(error) from None


def _refused(error: duckdb.Error) -> InputError:
    """Return DuckDB's error about a query, with a fix if `_WALLED` caused it."""
    what = str(error).splitlines()[0]
    walled = isinstance(error, duckdb.PermissionException) or "configuration has been locked" in what
    fix = "a query can use only the tables of the runs; add --allow-files to allow files, extensions and settings"
    return InputError(what, where="SQL", fix=fix if walled else "")


def merge(paths: Sequence[Path], out: Path) -> RunFolder:
    """Merge shards of one plan: each cell and repeat once, with its parts and servers.

    A measurement that no shard has is missing in the merged run too; `bench sweep --resume` makes it.

    Raises:
        InputError: the folders are not of one plan, or two have the same measurement.
    """
    shards = [RunFolder.open(path) for path in paths]
    plan = _one_plan(shards)
    planned = {run.cell.cell_id for launch in plan.launches for run in launch.runs}
    _refuse_twice(shards)
    for shard in shards:
        unplanned = {str(row["key"]) for row in shard.rows if row["cell_id"] not in planned}
        if unplanned and plan.sweep.search is None:
            reason, fix = rows.unlike(shard.whole_plan()) or (
                ", ".join(sorted(unplanned)[:3]),
                f"merge with rocbench {shard.manifest['rocbench']}",
            )
            raise InputError(
                f"the installed rocbench would now plan other cells than those stored in {shard.path}: {reason}",
                fix=fix,
            )
    merged = RunFolder.create(out)
    with merged.locked():
        for shard in shards:
            shard.copy_into(merged)
        stored = shards[0].whole_plan()
        whole = stored | rows.plan_json(plan, Overrides(**stored["overrides"]), None)
        merged.write_json("plan.json", whole)
        manifests = [shard.manifest for shard in shards]
        first = min(manifests, key=lambda manifest: str(manifest["begun_at"]))
        merged.write_json("manifest.json", first | {"run_id": out.name, "merged_from": manifests})
        merged = RunFolder.open(out)
        merged.finish()
        if merged.rows:
            merged.write_csv("summary.csv", repeats.summary(merged.cells()))
        searches = [search for shard in shards for search in shard.read_json("search.json") or []]
        if searches:
            merged.write_json("search.json", searches)
    return merged


def _one_plan(shards: Sequence[RunFolder]) -> Plan:
    """Return the whole plan of these shards."""
    first = _decisive(shards[0])
    for shard in shards[1:]:
        other = _decisive(shard)
        different = [name for name in first if first[name] != other[name]]
        if different:
            raise InputError(
                f"these runs are not shards of the same plan: they differ in {', '.join(different)}",
                where=f"{shards[0].path}, {shard.path}",
                fix="give all N runs that one sweep made with --shard 1/N, 2/N, ..., N/N",
            )
    return rows.stored(shards[0].whole_plan() | {"shard": None}, shards[0].manifest)


def _decisive(shard: RunFolder) -> dict[str, str]:
    """Return the parts of a plan that determine its cells, as comparable text."""
    plan, manifest = shard.whole_plan(), shard.manifest
    parts = {name: plan.get(name) for name in ("sweep", "overrides", "client")}
    parts |= {name: manifest.get(name) for name in ("profiles", "workloads", "hardware")}
    return {name: json.dumps(value, sort_keys=True) for name, value in parts.items()}


def _refuse_twice(shards: Sequence[RunFolder]) -> None:
    seen: dict[Key, Path] = {}
    for shard in shards:
        for row in shard.rows:
            if row.key in seen:
                raise InputError(
                    f"{row.get('key')} repeat {row.get('repeat')} is also in {seen[row.key]}",
                    where=str(shard.path),
                    fix="give only one of the two folders",
                )
            seen[row.key] = shard.path


def latest_before(folder: RunFolder, folders: Sequence[RunFolder]) -> RunFolder | None:
    """Return the newest earlier run of the same sweep on the same hardware, simulated if this one is."""

    def conditions(manifest: Mapping[str, Any]) -> tuple[Any, ...]:
        hardware = (manifest.get("hardware") or {}).get("name")
        return manifest.get("sweep"), manifest.get("simulated"), hardware

    own = folder.manifest
    earlier = [
        other
        for other in folders
        if conditions(other.manifest) == conditions(own)
        and str(other.manifest.get("begun_at")) < str(own.get("begun_at"))
        and other.rows
    ]
    return max(earlier, key=lambda other: str(other.manifest["begun_at"]), default=None)
