"""Run folders as they may be found: rows that failed, are void, partial, alone or twice, tables that are gone.

Made of whole made-up runs by a seed: each row gets a state, and files are taken away. Nothing in them was measured.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rocbench.store.folder import TABLES, RunFolder
from synthetic_runs import FOUR_MODELS, World, write_run

Row = dict[str, Any]

ONE = {**FOUR_MODELS, "models": ["llama-3.1-405b"], "repeats": 2}
KINDS: dict[str, Mapping[str, Any]] = {
    "closed": {
        **ONE,
        "name": "closed",
        "models": ["llama-3.1-405b", "qwen3-vl-235b"],
        "concurrency": [1, 64],
    },
    "attached": {
        **ONE,
        "name": "attached",
        "models": ["m"],
        "server": {"kind": "attached", "base_url": "http://127.0.0.1:1"},
        "concurrency": [2, 4],
    },
    "factors": {**ONE, "name": "factors", "concurrency": [16], "factors": {"aiter": ["off", "on"]}},
    "open": {
        **ONE,
        "name": "open",
        "concurrency": [],
        "load": {"shape": {"kind": "open"}},
        "rate": [0.5, 2.0],
    },
}

NAMED = (
    *(
        "run_id cell_id repeat discarded key model workload hardware gpus concurrency rate axes simulated"
    ).split(),
    *("vllm_version server_id workload_spec load_spec slo dtype").split(),
)
"""What a row keeps whatever became of it."""


def _figures(row: Row) -> list[str]:
    return [name for name in row if name not in NAMED]


def failed(row: Row, rng: random.Random) -> Row:
    """As of a server that did not start: no figure."""
    kept = {name: value for name, value in row.items() if name in NAMED}
    code = rng.choice(["out_of_memory", "kfd_permission", ""])
    reasons = f"server_failed;{code}".rstrip(";")
    return kept | {
        "valid": False,
        "reasons": reasons,
        "failure_message": "the server did not start\n  fix: none",
    }


def all_requests_failed(row: Row, rng: random.Random) -> Row:
    """A window in which nothing completed: rates are 0, latencies absent."""
    gone = {name: None for name in _figures(row) if name.endswith("_ms") and name != "clock_step_ms"}
    zero = {
        name: 0 for name in ("completed", "output_throughput", "request_throughput", "goodput") if name in row
    }
    return row | gone | zero | {"failed": rng.randint(1, 99), "valid": False, "reasons": "no_measurement"}


def void(row: Row, rng: random.Random) -> Row:
    """Figures that are not believed."""
    return row | {
        "valid": False,
        "reasons": rng.choice(["error_rate", "clock_stepped;late_sends", "a_new_code"]),
    }


def unknown(row: Row, rng: random.Random) -> Row:
    """A verdict that could not be made."""
    return row | {"valid": None, "reasons": "", "unknown_checks": "prefix_cache_hits"}


def partial(row: Row, rng: random.Random) -> Row:
    """Some figures absent, others not a number, none, or absurd."""
    odd = [None, None, float("nan"), 0, 0.0, -1.0, 1e-12, 1e9]
    return row | {
        name: rng.choice(odd)
        for name in _figures(row)
        if isinstance(row[name], int | float) and not isinstance(row[name], bool) and rng.random() < 0.5
    }


def empty(row: Row, rng: random.Random) -> Row:
    """Every figure absent, valid all the same."""
    return row | {name: None for name in _figures(row) if name not in ("valid", "reasons")}


def nan(row: Row, rng: random.Random) -> Row:
    """Every figure not a number."""
    return row | {name: float("nan") for name in _figures(row) if isinstance(row[name], float)}


def discarded(row: Row, rng: random.Random) -> Row:
    """A warm-up repeat."""
    return row | {"discarded": True}


def old(row: Row, rng: random.Random) -> Row:
    """Of an earlier version: columns that it did not know are not there."""
    must = ("run_id", "cell_id", "repeat")
    return {name: value for name, value in row.items() if name in must or rng.random() < 0.6}


def whole(row: Row, rng: random.Random) -> Row:
    """As it was."""
    return row


STATES: tuple[Callable[[Row, random.Random], Row], ...] = (
    failed,
    all_requests_failed,
    void,
    unknown,
    partial,
    empty,
    nan,
    discarded,
    old,
    whole,
)
FILES = (
    "plan.json",
    "search.json",
    "log.jsonl",
    "cells.parquet",
    "cells.csv",
    *(f"{name}.parquet" for name in TABLES),
)
SEARCHES = (
    [],
    [{"server": "s", "model": "m", "axes": {}, "workload": "w"}],
    [{"server": "s", "model": "m", "axes": None, "workload": "w", "best": None, "why": None, "levels": []}],
)


def bases(root: Path) -> dict[str, RunFolder]:
    """The whole runs that broken ones are made of."""
    return {kind: write_run(root / kind, sweep, World(seed=1)) for kind, sweep in KINDS.items()}


def broken(
    base: RunFolder,
    path: Path,
    seed: int,
    *,
    rows: int | None = None,
    state: Callable[[Row, random.Random], Row] | None = None,
) -> Path:
    """A copy of a run in which a seed decides what became of each row and file.

    Args:
        base: the whole run.
        path: where the copy goes.
        seed: of all choices.
        rows: how many rows are left; without it the seed says.
        state: what became of all of them; without it the seed says.
    """
    rng = random.Random(seed)
    shutil.copytree(base.path, path)
    parts = sorted((path / "parts" / "cells").glob("*.json"))
    left = rng.choice([0, 1, 1, 2, len(parts)])
    kept = rng.sample(parts, left if rows is None else rows)
    one_for_all = state is not None or rng.random() < 0.5
    state = state or rng.choice(STATES)
    for part in parts:
        if part not in kept:
            part.unlink()
            continue
        row = json.loads(part.read_text())
        change = state if one_for_all else rng.choice(STATES)
        part.write_text(json.dumps(change(row, rng)))
        if rows is None and rng.random() < 0.2:  # the same cell and repeat once more
            part.with_name(f"again-{part.name}").write_text(json.dumps(rng.choice(STATES)(row, rng)))
    if rng.random() < 0.3:
        (path / "search.json").write_text(json.dumps(rng.choice(SEARCHES)))
    if rng.random() < 0.2:
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(
            json.dumps({k: v for k, v in manifest.items() if rng.random() < 0.5})
        )
    RunFolder.open(path).finish()
    for name in FILES:
        if rng.random() < 0.15:
            (path / name).unlink(missing_ok=True)
    return path
