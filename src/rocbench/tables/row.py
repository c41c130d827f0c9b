"""One row of `cells` for its readers: verdict and codes, level, identity, figures. Pure.

Writers of a row use a dict of columns. These functions accept any content of a column: a value of the wrong
type counts as absent, and absent is None.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any, Literal

import pandas as pd

from rocbench import stats
from rocbench.tables import runformat
from rocbench.tables.parts import Identity
from rocbench.tables.within import ends_of

Key = tuple[str, int, bool]
"""Identity of a measurement within a run: cell, repeat, discarded."""
Origin = Literal["", "predicted", "simulated", "imported"]
Shape = Literal["closed", "open", "trace"]
Word = Literal["valid", "invalid", "unknown"]

MARKS: tuple[Origin, ...] = ("predicted", "simulated", "imported")
"""Origins other than a measurement, by the column that marks them."""
_LATENCY = re.compile(r"(?:mean|median|p(?P<percentile>\d\d))_(?P<name>\w+)_ms")


@dataclass(frozen=True, eq=False)
class Row(Mapping[str, Any]):
    """One cell and repeat. As a mapping, its columns as in the table."""

    columns: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", dict(self.columns))

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]

    def get(self, name: str, default: Any = None) -> Any:
        """A column's value as stored."""
        return self.columns.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __or__(self, more: Mapping[str, Any]) -> Row:
        return Row({**self.columns, **more})

    # --- its identity

    @property
    def key(self) -> Key:
        """Cell, repeat, discarded."""
        return str(self["cell_id"]), int(self["repeat"]), self.discarded

    @property
    def identity(self) -> Identity:
        """The key with the run, as in the names of its parts."""
        return Identity(str(self.get("run_id")), *self.key)

    @property
    def discarded(self) -> bool:
        """True if judgement ignores the row: a first repeat after a load."""
        return self.get("discarded") is True

    @property
    def origin(self) -> Origin:
        """The origin of its figures; empty for a measurement by bench."""
        return next((name for name in MARKS if self.get(name) is True), "")

    @property
    def configuration(self) -> str:
        """`MODEL@axis=value`: the first part of the column `key`."""
        key = text(self.get("key"))
        return key.rsplit("/", 2)[0] if key.count("/") >= 2 else str(self.get("model"))

    @property
    def server(self) -> str:
        """The number of its server in the plan, such as `01`; a restart in the folder `01-model.2` has the same."""
        return server_number(self)

    # --- its load

    @property
    def level(self) -> float | None:
        """Requested users, or requests/s; None for a trace."""
        users = self.figure("concurrency")
        return self.figure("request_rate") if users is None else users

    @property
    def shape(self) -> Shape:
        """The kind of its load, which determines the unit of its level."""
        known: dict[str, Shape] = {"closed": "closed", "open": "open", "trace": "trace"}
        default: Shape = "open" if self.figure("concurrency") is None else "closed"
        return known.get(text(self.get("load_shape")), default)

    # --- its verdict

    @property
    def valid(self) -> bool | None:
        """True if the row is valid; None if unknown."""
        value = self.get("valid")
        return value if isinstance(value, bool) else None

    @property
    def word(self) -> Word:
        """The verdict as a word."""
        return "unknown" if self.valid is None else "valid" if self.valid else "invalid"

    @cached_property
    def codes(self) -> tuple[str, ...]:
        """Its reason codes: first those that void it, then those that make it unknown, then those that inform."""
        return self.listed("reasons")

    def listed(self, column: str) -> tuple[str, ...]:
        """The entries of a column joined by `;`, each once."""
        return tuple(dict.fromkeys(filter(None, text(self.get(column)).split(";"))))

    # --- its figures

    def figure(self, column: str) -> float | None:
        """A column as a number."""
        return number(self.get(column))

    def within(self, column: str) -> stats.Interval:
        """A figure with its 95 % interval from within its window (`tables.within`), in the column's unit.

        Without an upper end the interval is open, to infinity; without any interval both ends are NaN.
        """
        low, high = map(self.figure, ends_of(column))
        value = self.figure(column)
        if value is None or low is None:
            return stats.mean_interval([] if value is None else [value])
        return stats.Interval(value, low, math.inf if high is None else high, 1)

    def samples(self, column: str) -> int | None:
        """Requests behind a latency: completed ones, or those with a value if fewer. None for other columns.

        Tokens and gaps of one request depend on each other, so ITL and ICL have no more samples than requests.
        """
        match = _LATENCY.fullmatch(column)
        names = ("completed", f"{match['name']}_n") if match else ()
        counts = [count for name in names if (count := self.figure(name)) is not None]
        return int(min(counts)) if counts and math.isfinite(min(counts)) else None

    def few_samples(self, column: str) -> bool:
        """True if a column is a percentile of too few requests (`too_few`)."""
        return too_few(column, self.samples(column))


def number(value: Any) -> float | None:
    """A value as a number; None if it is not a number, or NaN."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        figure = float(value)
    except OverflowError:
        return None
    return None if math.isnan(figure) else figure


def server_number(row: Mapping[str, Any]) -> str:
    """The number in the plan of the server of a row, or of a result in search.json."""
    return (text(row.get("server_id")) or text(row.get("server"))).partition("-")[0]


def text(value: Any) -> str:
    """A value as text; empty if it is not text."""
    return value if isinstance(value, str) else ""


def needed_samples(column: str) -> int | None:
    """Requests that a percentile's column needs (`stats.min_samples`); None for all other columns."""
    match = _LATENCY.fullmatch(column)
    return stats.min_samples(float(match["percentile"])) if match and match["percentile"] else None


def too_few(column: str, samples: int | None) -> bool:
    """True if a column is a percentile of fewer requests than it needs; an unknown number is enough."""
    needed = needed_samples(column)
    return needed is not None and samples is not None and samples < needed


# --- functions over many rows


def records(frame: pd.DataFrame) -> list[Row]:
    """A frame's rows without discarded ones: absent values as None, marks true or false, axes as `axis.<name>`."""
    rows = []
    for columns in runformat.rows(frame):
        axes = {f"axis.{name}": value for name, value in runformat.json_column(columns, "axes").items()}
        rows.append(Row({**columns, **{name: bool(columns.get(name)) for name in MARKS}, **axes}))
    return [row for row in rows if not row.discarded]


def figures(rows: Iterable[Row], column: str) -> list[float]:
    """The figures of a column that are present."""
    return [value for row in rows if (value := row.figure(column)) is not None]


def listed(rows: Iterable[Row], column: str = "reasons") -> list[str]:
    """The entries of a column joined by `;` over all rows, each once."""
    return list(dict.fromkeys(part for row in rows for part in row.listed(column)))


def judged(rows: Iterable[Row]) -> list[Row]:
    """Rows that may be judged: those that are not invalid."""
    return [row for row in rows if row.valid is not False]


def synthetic(origins: Iterable[str]) -> str:
    """The origins without a measured GPU, as text: `predicted`, `simulated`, both, or empty."""
    return " and ".join(sorted({"predicted", "simulated"} & set(origins)))
