"""The rows of the runs that `bench compare`, `bench ablate` and `bench gate` judge, and of the runs around them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rocbench.commands import options
from rocbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from rocbench.store.folder import RunFolder


def cells(*names: str) -> pd.DataFrame:
    """Return all rows of runs, folders of runs, or cells files."""
    import pandas as pd

    from rocbench.store.cells import read_cells

    frames = []
    for name in names:
        if Path(name).is_file():
            frames.append(filled(read_cells(Path(name)), name))
        else:
            frames += [filled(folder.cells(), str(folder.path)) for folder in options.runs([name])]
    return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]


def history(name: str | None, names: Sequence[str], frames: Sequence[pd.DataFrame]) -> pd.DataFrame | None:
    """Return the rows of other runs that measured the same cells: of a folder, or of the runs' own folders."""
    from rocbench import ledger

    if name == "none":
        return None
    if name is not None:
        _refuse_without_runs(Path(name))
    roots = [Path(name)] if name is not None else [root for each in names for root in _around(each)]
    cell_ids = {str(cell) for frame in frames for cell in frame["cell_id"]}
    return ledger.with_cells(
        dict.fromkeys(root for root in roots if root.is_dir()), cell_ids, options.skipped
    )


def _around(name: str) -> list[Path]:
    """Return the folders that hold these runs, or the run of this cells file."""
    from rocbench.store.reading import is_run

    path = Path(name).resolve()
    if path.is_file():
        return [path.parent.parent if is_run(path.parent) else path.parent]
    return [folder.path.resolve().parent for folder in options.runs([name])]


def _refuse_without_runs(root: Path) -> None:
    """Refuse a folder that holds no run: a history that is asked for must not be silently empty.

    Raises:
        InputError: there is no such folder, or no run in it.
    """
    from rocbench.store.runs import find

    where, fix = f"--history {root}", "give the folder of earlier runs, or none"
    if not root.is_dir():
        raise InputError("no such folder", where=where, fix=fix)
    try:
        find(root, lambda _: None)
    except InputError:
        raise InputError("no run folder here", where=where, fix=fix) from None


def filled(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a run's rows.

    Raises:
        InputError: it has none.
    """
    if frame.empty:
        raise InputError("nothing was measured in this run", where=name)
    return frame


def sides(a: str, b: str) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """Return the rows of both sides, and notes. A run of one side inside the other side's folder counts once.

    Raises:
        InputError: both sides are the same runs.
    """
    if Path(a).is_file() or Path(b).is_file():
        return cells(a), cells(b), ()
    paths_a, paths_b = ([str(folder.path.resolve()) for folder in options.runs([name])] for name in (a, b))
    only_a = [path for path in paths_a if path not in paths_b]
    only_b = [path for path in paths_b if path not in paths_a]
    if not only_a and not only_b:
        raise InputError(
            "both sides are the same run", where=b, fix="name another run, or compare its arms: --arms NAME"
        )
    inner, outer = (b, a) if only_a else (a, b)
    notes = (f"{outer} also contains {inner}; the rows of {inner} count only for {inner}",)
    overlap = len(only_a) < len(paths_a)
    return cells(*(only_a or paths_a)), cells(*(only_b or paths_b)), notes if overlap else ()


def baseline(run: RunFolder, name: str) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    """Return the baseline's rows without the run's own, and notes.

    `latest` is the newest run of the same sweep before this one; None if there is none.

    Raises:
        InputError: the baseline is the run itself.
    """
    from rocbench import ledger
    from rocbench.store.runs import find

    if name == "latest":
        before = ledger.latest_before(run, find(run.path.resolve().parent, options.skipped))
        return (before.cells() if before is not None else None), ()
    if Path(name).is_file():
        return cells(name), ()
    folders = options.runs([name])
    others = [folder for folder in folders if folder.path.resolve() != run.path.resolve()]
    if not others:
        raise InputError("the baseline is the run itself", where=name, fix="name an earlier run, or latest")
    notes = ("the baseline's folder also contains this run; the run was excluded from the baseline",)
    return cells(*(str(folder.path) for folder in others)), notes if len(others) < len(folders) else ()


def title(name: str) -> str:
    """Return the name of a side: that of its file or folder, and of the run for `latest`."""
    path = Path(name)
    return path.name if path.exists() or name != "latest" else options.one_run(name).path.name


def looks(names: Sequence[str]) -> int:
    """Return how often the runs looked at their repeats as these came: the most of any run's `until`, else 1."""
    from rocbench.judgement.looks import looks_of

    folders = [folder for name in names if not Path(name).is_file() for folder in options.runs([name])]
    return max((looks_of(folder.read_json("plan.json") or {}) for folder in folders), default=1)
