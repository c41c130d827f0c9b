"""What a column of a result table is: name, unit, meaning, and which way is better. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    unit: str
    meaning: str
    better: Better | None = None
    """Which way is better, for a column that is a result; None for all others."""
