"""The definition of a column of a result table: name, type, unit, meaning, and the better direction. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

Better = Literal["higher", "lower"]
Kind = Literal["number", "bool", "text", "json"]
Values = dict[str, float | int | str | bool | None]
"""Values of some columns of a row, by name; None is absent."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    kind: Kind
    unit: str
    """Empty for a column that is not a number, and for a number without a unit."""
    meaning: str
    better: Better | None = None
    """The better direction of a result; None for all other columns."""


_DEFINITION = re.compile(
    r"^(?P<name>\w+) {2,}(?P<unit>\S+)(?: (?P<better>higher|lower))? {2,}(?P<meaning>.+(?:\n +.+)*)$",
    re.MULTILINE,
)


def defined(text: str) -> tuple[Column, ...]:
    """Columns from lines of `name  unit  meaning`, separated by two spaces or more.

    `number`, `bool`, `text` or `json` in place of the unit is the type of a column without one; a unit means a
    number. `higher` or `lower` after the unit is the better direction. An indented line continues a meaning.

    Raises:
        ValueError: a line is not a definition; without this check the column would be missing.
    """
    if unread := _DEFINITION.sub("", text).strip():
        raise ValueError(f"not a column definition: {unread}")
    columns = []
    for match in _DEFINITION.finditer(text):
        name, unit, better, meaning = match.groups()
        kind = unit if unit in {"number", "bool", "text", "json"} else "number"
        columns.append(
            Column(
                name,
                cast("Kind", kind),
                "" if unit == kind else unit,
                " ".join(meaning.split()),
                cast("Better | None", better),
            )
        )
    return tuple(columns)
