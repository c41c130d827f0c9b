"""A field of another tool's format: its name there, its unit there, and its source here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rocbench.export.source import Source


@dataclass(frozen=True, slots=True)
class Field:
    """One key. A value of None leaves it out."""

    name: str
    unit: str
    ours: str
    """Columns of `cells`, or the inputs of the computation; for docs/exports.md."""
    value: Callable[[Source], Any]


def same(name: str, unit: str, column: str | None = None) -> Field:
    """Return a key that is one of our columns, in the same unit."""
    ours = column or name
    return Field(name, unit, f"`{ours}`", lambda source: source.get(ours))


def fixed(name: str, value: Any) -> Field:
    """Return a key with the same value for every row."""
    return Field(
        name, "", f"`{json.dumps(value)}`" if isinstance(value, bool) else f"`{value}`", lambda _: value
    )


def record(fields: Iterable[Field], source: Source) -> dict[str, Any]:
    """Return the keys that have a value."""
    found = ((field.name, field.value(source)) for field in fields)
    return {name: value for name, value in found if value is not None}


def field_lines(fields: Iterable[Field]) -> list[str]:
    """Return the lines of a mapping table."""
    rows = [f"| `{field.name}` | {field.unit} | {field.ours} |" for field in fields]
    return ["| Key | Unit | From |", "|---|---|---|", *rows]
