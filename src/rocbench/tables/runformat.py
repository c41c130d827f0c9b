"""The format of the files of a run folder: required content, and the first mismatch in a file. Pure."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from rocbench import jsontext
from rocbench.column import Kind
from rocbench.columns import CELLS, REQUESTS
from rocbench.errors import InputError
from rocbench.records import GpuSample

Shape = Any
"""`str`, `bool`, `float` (any number), `dict`, `list`, `[shape of each item]`, `{name: shape}` with `*` for other names.

Absent and null values fit every shape; readers handle them.
"""


class Mismatch(ValueError):
    """A mismatch between a file and its format; the message names its place in the file."""


MANIFEST: Shape = {
    **dict.fromkeys(("run_id", "begun_at", "rocbench", "sweep"), str),
    **dict.fromkeys(("simulated", "predicted", "imported"), bool),
    "node": {"node": str, "host": dict, "rocm": dict},
    "profiles": {"*": {"hf_id": str}},
    "workloads": {"*": dict},
    "hardware": {
        "name": str,
        "gpus": float,
        "gpu": {"name": str, "gfx": str, "hbm_bytes": float, "hbm_bytes_per_s": float},
    },
    "resumed": [{"node": dict}],
    "merged_from": [dict],
    "nodes": {"*": dict},
}
PLAN: Shape = {
    "sweep": {
        "name": str,
        "factors": {"*": list},
        "slo": {"*": float},
        "load": dict,
        "saturation_gain": float,
        "server": {"image": str},
    },
    "overrides": dict,
    "client": dict,
    "shard": str,
    "servers": [
        {
            **dict.fromkeys(("server_id", "model", "vllm"), str),
            "argv": [str],
            "env": {"*": str},
            "provenance": [dict],
            "warnings": [str],
            "cells": [{"cell_id": str, "key": str, "workload": {"api": str}, "estimate": dict}],
        }
    ],
    "launches": [dict],
    "skipped": [dict],
}
SEARCHES: Shape = [
    {
        **dict.fromkeys(("server", "model", "workload", "unit", "why"), str),
        **dict.fromkeys(("best", "failed", "measurements", "low", "high", "spread"), float),
        "not_shown": [float],
        "notes": [str],
        "axes": dict,
        "limits": [str],
        "levels": [dict],
    }
]

_NAMES: dict[Any, str] = {
    str: "text",
    bool: "true or false",
    float: "a number",
    dict: "an object",
    list: "a list",
}


def check(value: Any, shape: Shape, at: str = "") -> None:
    """Compare a value with its shape.

    Raises:
        Mismatch: names the first place that does not fit, such as `servers[0].argv`.
    """
    if value is None or shape is None:
        return
    kind = shape if isinstance(shape, type) else type(shape)
    if not (_is_number(value) if kind is float else isinstance(value, kind)):
        raise Mismatch(f"{at or 'it'} must be {_NAMES[kind]}, not {shown(value)}")
    if isinstance(shape, list):
        for number, item in enumerate(value):
            if item is None:
                raise Mismatch(f"{at or 'it'}[{number}] is null")
            check(item, shape[0], f"{at}[{number}]")
    if isinstance(shape, dict):
        for name, item in value.items():
            check(item, shape.get(name, shape.get("*")), f"{at}.{name}" if at else name)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """The beginning of a value on one line, for a message."""
    text = ascii(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


# --- rows of cells


def _of_kind(kind: Kind) -> frozenset[str]:
    return frozenset(column.name for column in CELLS if column.kind == kind)


TRUTHS = _of_kind("bool")
"""Columns of `cells` that are true, false or absent."""
JSON: Mapping[str, Shape] = {
    **dict.fromkeys(_of_kind("json"), dict),
    "failures": {"*": float},
    "load_spec": {"max_requests_per_user": float},
    "load_notes": [str],
}
"""Columns with an object or a list as JSON text."""
TEXTS = _of_kind("text") | frozenset(JSON) | {"limit", "source"}
"""Columns of text; `limit` and `source` are columns of imported rows only."""
NUMBERS = _of_kind("number")
"""Columns of numbers."""

_STEM = re.compile(r"[\w=@,+-][\w.=@,+-]{0,119}")
"""Pattern of a cell's id, which is part of its files' names."""
_MAX_REPEAT = 1_000_000
_MAX_INT = 2**63
_MAX_FIGURE = 1e30
"""Maximum magnitude of a figure: its squares and products are still finite."""


def row(content: Any) -> dict[str, Any]:
    """A row of `cells`, checked for readers: text is text, numbers fit a table, NaN and infinity are absent.

    Args:
        content: content of a file.

    Raises:
        Mismatch: it is not a row; names the column.
    """
    if not isinstance(content, dict):
        raise Mismatch("not a JSON object")
    for name in ("cell_id", "repeat"):
        if content.get(name) is None:
            raise Mismatch(f"`{name}` is missing")
    values = {name: _cell(name, value) for name, value in content.items()}
    if not _STEM.fullmatch(values["cell_id"]):
        raise Mismatch(f"`cell_id` is {shown(values['cell_id'])}, which cannot be part of a file name")
    repeat = values["repeat"]
    if repeat is None or not 0 < repeat <= _MAX_REPEAT or repeat != int(repeat):
        raise Mismatch(f"`repeat` must be a whole number of at least 1, not {shown(repeat)}")
    return values | {"repeat": int(repeat)}


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows, each absent value as None. Reading by column is six times as fast for 220 columns."""
    columns = {str(name): list(map(_present, column.tolist())) for name, column in frame.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _present(value: Any) -> Any:
    """The value, or None for pandas' absent values."""
    absent = value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))
    return None if absent else value


def _cell(name: str, value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    number = _is_number(value)
    if name in TRUTHS:
        if isinstance(value, bool) or (number and value in (0, 1)):
            return bool(value)
        raise Mismatch(f"`{name}` must be true or false, not {shown(value)}")
    if name in TEXTS:
        return _text(name, value)
    if isinstance(value, int) and not -_MAX_INT <= value < _MAX_INT:
        raise Mismatch(f"`{name}` is {shown(value)}, which has more than 64 bits")
    if number and abs(value) > _MAX_FIGURE:
        raise Mismatch(f"`{name}` must be between -{_MAX_FIGURE:g} and {_MAX_FIGURE:g}, not {shown(value)}")
    if name in NUMBERS and not number:
        raise Mismatch(f"`{name}` must be a number, not {shown(value)}")
    return value if isinstance(value, str | int | float) else json.dumps(value, default=str)


def _text(name: str, value: Any) -> str:
    if isinstance(value, dict | list):
        raise Mismatch(f"`{name}` must be text, not {shown(value)}")
    text = str(value)
    if name == "started_at":
        try:
            datetime.datetime.fromisoformat(text)
        except ValueError:
            raise Mismatch(
                f"`{name}` must be a time such as 2026-11-30T16:30:00+00:00, not {shown(text)}"
            ) from None
    if name in JSON and text:
        try:
            content = jsontext.parse(text, finite=False)
        except InputError as error:
            raise Mismatch(f"`{name}` is {shown(text)}: {error.what}") from None
        if content is None:
            raise Mismatch(f"`{name}` must be absent, not 'null'")
        check(content, JSON[name], f"`{name}`")
    return text


def json_column(row: Mapping[str, Any], name: str) -> Any:
    """The content of one of a row's JSON columns; empty if absent.

    Raises:
        InputError: it is not JSON of the column's shape. Rows of a run folder are checked before.
    """
    text = row.get(name)
    if not isinstance(text, str) or not text:
        return [] if isinstance(JSON[name], list) else {}
    try:
        content = jsontext.parse(text, finite=False)
        check({} if content is None else content, JSON[name])
    except (InputError, Mismatch) as error:
        what = error.what if isinstance(error, InputError) else str(error)
        raise InputError(what, where=f"{row.get('cell_id', 'a row')}: {name}") from None
    return content


# --- other tables

IDENTITY = ("cell_id", "repeat", "discarded")
NEEDED: Mapping[str, tuple[str, ...]] = {
    "requests": (
        *("phase", "failure", "sent_ns", "first_token_ns", "last_token_ns", "end_ns"),
        *("prompt_tokens", "output_tokens"),
    ),
    "server_metrics": ("at_ns", "name", "value"),
    "gpu": ("at_ns", "gpu", "power_w"),
    "histograms": ("metric", "middle_ms", "tokens"),
    "timeline": ("second", "output_tokens"),
}
"""Required columns of each table; later versions may have more columns."""
_MORE: Mapping[str, tuple[str, ...]] = {
    "requests": tuple(column.name for column in REQUESTS),
    "gpu": GpuSample.__slots__,
}
_KINDS: Mapping[str, Kind] = {
    **{column.name: column.kind for column in REQUESTS},
    "name": "text",
    "metric": "text",
    "throttled": "bool",
}
"""Types of the tables' columns; all others are numbers."""


def check_table(name: str, schema: pa.Schema) -> None:
    """Compare a table's columns with the types that readers expect; undocumented columns may have any type.

    Args:
        name: a key of NEEDED.
        schema: its columns.

    Raises:
        Mismatch: a column is missing, occurs twice, or has another type.
    """
    names = list(schema.names)
    for column in (*IDENTITY, *NEEDED[name], *names):
        if names.count(column) != 1:
            raise Mismatch(f"column {shown(column)} {'occurs twice' if column in names else 'is missing'}")
    known = {*IDENTITY, *NEEDED[name], *_MORE.get(name, ())}
    for field in schema:
        if field.name in known and not _fits(field.name, field.type):
            raise Mismatch(f"column {field.name} holds {field.type}")


def _fits(name: str, found: pa.DataType) -> bool:
    types = pa.types
    if types.is_null(found):
        return True
    match _KINDS.get(name, "number"):
        case "text":
            return bool(types.is_string(found) or types.is_large_string(found))
        case "bool":
            return bool(types.is_boolean(found))
        case _:
            return bool(types.is_integer(found) or types.is_floating(found))
