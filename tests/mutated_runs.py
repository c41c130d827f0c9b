"""Run folders that something has gone wrong with: cut, flipped, edited, of another version, of other kinds of files.

Made of whole made-up runs by a seed. Unlike those of `broken_runs`, whose every row can be one, they hold what no
bench has written. Nothing in them was measured.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from mutated_settings import Case
from rocbench.export.write import FORMATS
from rocbench.predict.points import Point
from synthetic_runs import FOUR_MODELS, World, write_run

ONE: dict[str, Any] = {**FOUR_MODELS, "models": ["llama-3.1-405b"], "repeats": 2, "concurrency": [16]}
SWEEPS: dict[str, dict[str, Any]] = {
    "closed": {**ONE, "name": "closed"},
    "factors": {**ONE, "name": "factors", "factors": {"aiter": ["off", "on"]}},
    "open": {
        **ONE,
        "name": "open",
        "concurrency": [],
        "load": {"shape": {"kind": "open"}},
        "rate": [0.5],
    },
}
"""Small, for a case must not take long to read."""


@dataclass(frozen=True)
class Bases:
    """Whole runs that mutated ones are made of."""

    runs: dict[str, Path]
    """By the name of their sweep."""
    shards: tuple[Path, Path]
    """Halves of `factors`."""


def bases(root: Path) -> Bases:
    """Write the whole runs."""
    runs = {name: write_run(root / name, sweep, World(seed=1)).path for name, sweep in SWEEPS.items()}
    search = [
        {"server": "s", "model": "llama-3.1-405b", "axes": {}, "workload": "text-2048-512", "unit": "users"}
    ]
    search[0] |= {"limits": ["p99_ttft_ms <= 2000"], "best": 16, "why": "narrow enough", "measurements": 3}
    (runs["closed"] / "search.json").write_text(json.dumps(search))
    halves = []
    for number in range(2):
        half = shutil.copytree(runs["factors"], root / f"shard{number}")
        for row in sorted((half / "parts" / "cells").glob("*.json"))[number::2]:
            row.unlink()
        halves.append(half)
    return Bases(runs, (halves[0], halves[1]))


ODD_JSON: tuple[str, ...] = (
    *"""null true false 0 -1 7 1e308 -1e308 1e-300 18446744073709551616 NaN Infinity -Infinity "" "x" "\\ud800" [] {}
    [1] [null] {"a":1} [[],{}] "=1+1" "<b>" "2026-13-45" "0x1" "\\u0000" "-" "1e400" ["a",2] 2 "9" """.split(),
    "9" * 30,
    "9" * 5000,
    "[" * 3000 + "]" * 3000,
    '"' + "x" * 200_000 + '"',
    '"\\u001b[31m"',
)
"""Values that stand where another should, as JSON."""


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the values of nested data stand, containers too."""
    found = [at] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in items:
        found += _places(held, (*at, key))
    return found


class _Raw(str):
    """Stands in JSON as it is."""

    __slots__ = ()


def _dumped(value: Any) -> str:
    """As json.dumps, but for raw parts."""
    if isinstance(value, _Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_dumped(held)}" for key, held in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dumped, value)) + "]"
    return json.dumps(value)


def _edit(value: Any, rng: random.Random) -> Any:
    """Nested data with one value changed, swapped with another, taken away or renamed."""
    places = _places(value)
    if not places:
        return _Raw(rng.choice(ODD_JSON))
    # the upper ones are few and decide most
    high = [place for place in places if len(place) <= 2]
    *way, last = rng.choice(high if rng.random() < 0.5 else places)
    holder = value
    for key in way:
        holder = holder[key]
    kind = rng.random()
    if kind < 0.6 or isinstance(holder, list):
        holder[last] = _Raw(rng.choice(ODD_JSON))
    elif kind < 0.75:
        del holder[last]
    elif kind < 0.85:
        holder[str(last) + rng.choice(["", "_", "2"])] = holder.pop(last)
    else:
        *other, end = rng.choice(places)
        with suppress(KeyError, IndexError, TypeError):
            found = value
            for key in other:
                found = found[key]
            holder[last] = json.loads(json.dumps(found[end]))
    return value


def edited_json(path: Path, rng: random.Random) -> str:
    """One to five values of a JSON file, or of one line of it, changed."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    number = rng.randrange(len(lines)) if lines else 0
    value = json.loads(lines[number]) if lines else {}
    count = rng.choice([1, 1, 1, 2, 5])
    for _ in range(count):
        value = _edit(value, rng) if not isinstance(value, _Raw) else value
    lines[number : number + 1] = [_dumped(value)]
    path.write_text("\n".join(lines))
    return f"{count} values edited"


def cut(path: Path, rng: random.Random) -> str:
    """The first bytes of a file, maybe none."""
    size = path.stat().st_size
    left = rng.choice([0, rng.randrange(size + 1), max(0, size - rng.randint(1, 9))])
    path.write_bytes(path.read_bytes()[:left])
    return f"cut to {left} of {size} bytes"


def flipped(path: Path, rng: random.Random) -> str:
    """Bytes changed, up to a whole block of them."""
    data = bytearray(path.read_bytes())
    if data and rng.random() < 0.3:
        start = rng.randrange(len(data))
        data[start : start + 512] = rng.randbytes(min(512, len(data) - start))
        change = "512 bytes"
    else:
        count = rng.choice([1, 3, 20])
        for _ in range(count if data else 0):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        change = f"{count} bits"
    path.write_bytes(bytes(data))
    return f"{change} flipped"


def replaced(path: Path, rng: random.Random) -> str:
    """Something else of that name."""
    kinds: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "an empty file": path.touch,
        "a folder": path.mkdir,
        "a pipe": lambda: os.mkfifo(path),
        "a socket": lambda: socket.socket(socket.AF_UNIX).bind(str(path)),
        "a link to nowhere": lambda: path.symlink_to("nowhere"),
        "a link to itself": lambda: path.symlink_to(path.name),
        "a link to a device without end": lambda: path.symlink_to("/dev/zero"),
        "a link to a folder": lambda: path.symlink_to("/"),
        "text": lambda: path.write_text("hello, world\n"),
        "zeros": lambda: path.write_bytes(bytes(4096)),
    }
    name = rng.choice(list(kinds))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    with suppress(OSError):  # a socket's path has 107 characters at most
        kinds[name]()
    return f"replaced by {name}"


def copied_over(path: Path, rng: random.Random) -> str:
    """Another file of the run under this name."""
    others = [
        other for other in sorted(path.parent.rglob("*")) if other.is_file() and other.suffix == path.suffix
    ]
    other = rng.choice(others or [path])
    data = other.read_bytes()
    path.write_bytes(data)
    return f"holds what {other.name} does"


def edited_parquet(path: Path, rng: random.Random) -> str:
    """A whole Parquet file with other columns, types or rows."""
    table = pq.read_table(path)
    name = rng.choice(table.column_names)
    at, rows = table.column_names.index(name), table.num_rows
    arrays: dict[str, Callable[[], Any]] = {
        "text": lambda: pa.array(["x"] * rows),
        "nothing": lambda: pa.nulls(rows),
        "lists": lambda: pa.array([[1]] * rows),
        "objects": lambda: pa.array([{"a": 1}] * rows),
        "bytes": lambda: pa.array([b"\xff"] * rows),
        "huge numbers": lambda: pa.array([1e308] * rows),
        "no numbers": lambda: pa.array([float("nan")] * rows),
        "large integers": lambda: pa.array([2**63 - 1] * rows),
        "negative": lambda: pa.array([-1] * rows),
        "dates": lambda: pa.array([0] * rows, pa.timestamp("s")),
        "truths": lambda: pa.array([True] * rows),
        "some absent": lambda: pa.array([None if rng.random() < 0.5 else 1 for _ in range(rows)]),
    }
    kind = rng.random()
    if kind < 0.2:
        table, told = table.drop_columns([name]), "gone"
    elif kind < 0.3:
        table, told = (
            table.rename_columns([f"{old}_" if old == name else old for old in table.column_names]),
            "renamed",
        )
    elif kind < 0.35:
        table, told = table.append_column(name, table[name]), "occurs twice"
    elif kind < 0.4:
        table, told = table.slice(0, rng.choice([0, 1])), "cut to few rows"
    elif kind < 0.45:
        table, told = pa.concat_tables([table] * 2), "with rows twice"
    else:
        told = rng.choice(list(arrays))
        table = table.set_column(at, name, arrays[told]())
    pq.write_table(table, path)
    return f"column {name} {told}"


ODD_TEXT = (
    "",
    "x",
    "-1",
    "1e309",
    "nan",
    "inf",
    "9" * 400,
    "TRUE",
    '"',
    "\0",
    "\x1b[2J",
    "=1+1",
    "\udcff",
    "{}",
    "[",
)


def edited_csv(path: Path, rng: random.Random) -> str:
    """Fields of a CSV file changed, with lines and columns that are gone or too many."""
    lines = [line.split(",") for line in path.read_text().splitlines()]
    count = rng.choice([1, 1, 5, 50])
    for _ in range(count):
        line = rng.choice(lines)
        if line:
            line[rng.randrange(len(line))] = rng.choice(ODD_TEXT)
    if rng.random() < 0.3:
        lines.pop(rng.randrange(len(lines)))
    if rng.random() < 0.3 and lines:
        column = rng.randrange(len(lines[0]) or 1)
        lines = [[*line[:column], *line[column + 1 :]] for line in lines]
    path.write_bytes("\n".join(map(",".join, lines)).encode(errors="surrogateescape"))
    return f"{count} fields edited"


def other_version(path: Path, rng: random.Random) -> str:
    """Versions in manifest.json or plan.json that no bench of today writes."""
    value = json.loads(path.read_text())
    version = rng.choice([0, 1, 3, 99, "x", None, [], 1.5, "2"])
    value["schema_version"] = version
    if rng.random() < 0.5:
        value["rocbench"] = rng.choice(["99.0", "", 1, None, []])
    path.write_text(json.dumps(value))
    return f"schema version {version!r}"


def scaled(path: Path, rng: random.Random) -> str:
    """Every number of a row huge, negative, or zero."""
    row = json.loads(path.read_text())
    factor = rng.choice([1e300, -1, 0, 1e18, 1e-300])
    for name, value in row.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "repeat":
            row[name] = value * factor
    path.write_text(json.dumps(row))
    return f"numbers times {factor:g}"


ANY: tuple[Callable[[Path, random.Random], str], ...] = (cut, flipped, replaced, copied_over)
BY_SUFFIX: dict[str, tuple[Callable[[Path, random.Random], str], ...]] = {
    ".json": (edited_json,) * 6,
    ".jsonl": (edited_json,) * 2,
    ".parquet": (edited_parquet,) * 4,
    ".csv": (edited_csv,) * 4,
}


def _targets(path: Path) -> Sequence[Path]:
    """Files and folders of a run, those that are read first as often as all others together."""
    inner = [each for each in sorted(path.rglob("*")) if each.is_file() or each.is_dir()]
    first = [
        path / name for name in ("manifest.json", "plan.json", "search.json", "cells.parquet", "cells.csv")
    ]
    rows = sorted((path / "parts" / "cells").glob("*"))
    tables = sorted(path.glob("*.parquet"))
    there = [each for each in (*first, *rows, *tables) if each.exists()]
    return there * (1 + len(inner) // max(1, len(there))) + inner


def mutate(path: Path, seed: int) -> str:
    """Change a run folder in one to three places; what was done."""
    rng = random.Random(seed)
    done = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        target = rng.choice(_targets(path))
        if not target.is_file():
            change = replaced
        else:
            choices = [*ANY, *BY_SUFFIX.get(target.suffix, ())]
            choices += [other_version] if target.name in ("manifest.json", "plan.json") else []
            choices += [scaled] * 2 if target.parent.name == "cells" else []
            change = rng.choice(choices)
        try:
            told = change(target, rng)
        except (
            ValueError,
            OSError,
            AttributeError,
            TypeError,
            LookupError,
            RecursionError,
            pa.ArrowException,
        ):
            told = cut(target, rng) if target.is_file() else "left"  # broken by another change before
        done.append(f"{target.relative_to(path)}: {told}")
    return "; ".join(done)


COMMANDS = 4
"""Of the 14 ways to read a run, how many each is read in."""
QUERIES = (
    "select * from cells",
    "select count(*), avg(sent_ns) from requests",
    "select * from requests join cells using (cell_id, repeat) limit 3",
    "select metric, sum(tokens) from histograms group by all",
    "select * from gpu limit 2",
    "select max(value) from server_metrics",
    "select * from timeline limit 2",
)


OTHERS_RESULT = {
    "model_id": "meta-llama/Llama-3.1-405B-Instruct", "num_prompts": 100, "request_rate": "inf", "max_concurrency": 10,
    "duration": 25.0, "completed": 98, "failed": 2, "total_input_tokens": 200_000, "total_output_tokens": 51_200,
    "request_throughput": 4.0, "output_throughput": 2048.0, "mean_e2el_ms": 2400.0, "median_ttft_ms": 880.0,
    "errors": ["", "refused"], "spec_decode_acceptance_length": 2.5, "request_goodput": 3.0,
}  # fmt: skip
"""What `vllm bench serve` writes."""


def _others_result(out: Path, rng: random.Random) -> str:
    """A file of it with values edited."""
    path = out / "result.json"
    path.write_text(json.dumps(OTHERS_RESULT))
    edited_json(path, rng)
    return str(path)


def commands(path: Path, whole: Bases, out: Path, rng: random.Random) -> tuple[tuple[str, ...], ...]:
    """Arguments of `bench` for some of the commands that read a run, each in one of its forms; resume comes last."""
    run, other = str(path), str(whole.runs[path.name.split("-")[0]])
    shard = str(whole.shards[0])
    forms: list[list[tuple[str, ...]]] = [
        [
            ("report", run, "--out", f"{out}/report"),
            ("report", run, other, "--out", f"{out}/report"),
            ("report", run, "--study", "--out", f"{out}/report"),
        ],
        [
            ("compare", run, other),
            ("compare", other, run, "--include-invalid", "--format", "json"),
            ("compare", run, "--arms", "aiter"),
            ("compare", run, "--arms", "model=a,b"),
            ("compare", other, run, "--history", "none", "--looks", "3"),
        ],
        [("compare", f"{run}/{rng.choice(['cells.csv', 'cells.parquet'])}", other)],
        [
            ("gate", run, "--baseline", other, "--json"),
            ("gate", other, "--baseline", run),
            ("gate", run, "--baseline", "latest", "--junit", f"{out}/x.xml", "--markdown", f"{out}/x.md"),
        ],
        [("ablate", run), ("ablate", run, "--include-invalid", "--factor", "aiter=off,on")],
        [
            ("history", "--results", str(path.parent)),
            ("history", "--results", run, "--metric", "median_ttft_ms"),
            ("history", "--results", run, "--csv"),
        ],
        [("export", run, "--format", rng.choice(FORMATS), "--include-invalid", "--out", f"{out}/export")],
        [("export", run, "--format", rng.choice(FORMATS), "--out", f"{out}/export")],
        [("merge", run, shard, "--out", f"{out}/merged"), ("merge", run, "--out", f"{out}/merged")],
        [("query", rng.choice(QUERIES), "--results", rng.choice([run, str(path.parent)]))],
        [("summary", run), ("summary", run, "--end-table"), ("summary", run, "--include-invalid", "--csv")],
        [
            ("import", f"{run}/cells.csv", "--out", f"{out}/imported"),
            ("import", _others_result(out, rng), "--out", f"{out}/imported", "--hardware", "mi325x"),
        ],
        [
            ("calibrate-model", run, "--out", f"{out}/fitted.yaml"),
            ("calibrate-model", run, "--out", f"{out}/fitted.yaml", "--allow-simulated"),
        ],
        [("sweep", "--resume", run, "--dry-run"), ("sweep", "--resume", run)],
    ]
    picked = sorted(rng.sample(range(len(forms)), COMMANDS))
    return tuple(rng.choice(forms[number]) for number in picked)


def case(whole: Bases, root: Path, seed: int) -> tuple[str, tuple[tuple[str, ...], ...]]:
    """One mutated run in a folder with a whole one: what was done to it, and the commands that read it."""
    rng = random.Random(f"commands {seed}")
    results, out = root / "results", root / "out"
    for folder in (results, out):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    base = rng.choice([*whole.runs.values(), whole.shards[1]])
    name = "factors" if base in whole.shards else base.name
    path = shutil.copytree(base, results / f"{name}-{seed}")
    shutil.copytree(whole.runs[name], results / "whole")
    return mutate(path, seed), commands(path, whole, out, rng)


PLACE = Point(8.0, 100.0, 1.0, 50.0, False, 8, "0.14.1", False, "TRITON_ATTN")
"""The conditions of every level."""


@contextmanager
def without_measuring() -> Iterator[None]:
    """In this process a sweep that is resumed reads, checks and writes its folder, and measures nothing; no plot is drawn;
    a calibration's first predictions are right.
    """
    with (
        patch("rocbench.conduct.run.one_by_one", lambda *_: None),
        patch("rocbench.probe.environment.collect", lambda *_: {"node": "made-up"}),
        patch("rocbench.report.static.write", lambda *_: {}),
        patch("rocbench.predict.calibrating.level", lambda level, _: (dict(level.measured), PLACE)),
    ):
        yield


def cases(first: int, seeds: int, folder: Path) -> Iterator[Case]:
    """Each mutated run folder through some of the commands that read one."""
    whole = bases(folder / "whole")
    with without_measuring():
        for seed in range(first, first + seeds):
            yield seed, *case(whole, folder, seed)
