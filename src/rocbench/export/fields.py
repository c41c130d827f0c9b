"""A field of another tool's format: its name and unit in that format, and its source in rocbench."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rocbench.export.source import Source


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a format, with the name and unit of that format."""

    name: str
    unit: str
    origin: str
    """Columns of `cells`, or the computation from them; for docs/exports.md."""
    value: Callable[[Source], Any]
    """Its value for a row; None leaves the key out."""


def same(name: str, unit: str, column: str | None = None) -> Field:
    """A key that is a column of `cells` in the same unit; by default of the same name."""
    return Field(name, unit, f"`{column or name}`", lambda source: source.get(column or name))


def parallel(name: str, flag: str) -> Field:
    """A key that is one of the server's parallelism sizes."""
    return Field(name, "", f"`{flag}`", lambda source: source.parallel(flag))


def fixed(name: str, value: Any) -> Field:
    """A key with the same value for every row."""
    text = json.dumps(value) if isinstance(value, bool) else value
    return Field(name, "", f"`{text}`", lambda _: value)


def record(fields: Iterable[Field], source: Source) -> dict[str, Any]:
    """The keys that have a value."""
    return {field.name: value for field in fields if (value := field.value(source)) is not None}


def field_lines(fields: Iterable[Field]) -> list[str]:
    """The lines of a mapping table."""
    rows = [f"| `{field.name}` | {field.unit} | {field.origin} |" for field in fields]
    return ["| Key | Unit | From |", "|---|---|---|", *rows]
