"""One measured row for the exports: its columns, its plan, and distributions from its requests."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from rocbench.records import Phase
from rocbench.report.distributions import weighted_quantiles
from rocbench.tables import runformat
from rocbench.tables.row import Row, synthetic

Floats = npt.NDArray[np.float64]

REQUEST_COLUMNS = (
    "phase",
    "failure",
    "sent_ns",
    "first_token_ns",
    "last_token_ns",
    "end_ns",
    "prompt_tokens",
    "output_tokens",
)


def whole(value: float) -> int | None:
    """Return the nearest whole number; None if the value is too large for a float, or not a number."""
    return round(value) if math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Distribution:
    """Values and their weights. Statistics are None if there is no value."""

    values: Floats
    weights: Floats | None = None
    """None: each counts once, and percentiles interpolate linearly, as in numpy and vLLM."""

    @property
    def count(self) -> int | None:
        """Number of values."""
        return whole(len(self.values) if self.weights is None else float(self.weights.sum())) or None

    @property
    def total(self) -> float | None:
        """Their sum."""
        return None if self.mean is None or self.count is None else self.mean * self.count

    @property
    def mean(self) -> float | None:
        """Arithmetic mean."""
        return float(np.average(self.values, weights=self.weights)) if len(self.values) else None

    @property
    def std(self) -> float | None:
        """Standard deviation of the population, as in numpy and vLLM."""
        if self.mean is None:
            return None
        return float(np.sqrt(np.average((self.values - self.mean) ** 2, weights=self.weights)))

    @property
    def least(self) -> float | None:
        """The smallest value."""
        return float(self.values.min()) if len(self.values) else None

    @property
    def most(self) -> float | None:
        """The largest value."""
        return float(self.values.max()) if len(self.values) else None

    def percentile(self, q: float) -> float | None:
        """The q-th percentile, 0 to 100."""
        if not len(self.values):
            return None
        if self.weights is None:
            return float(np.percentile(self.values, q))
        return float(weighted_quantiles(self.values, self.weights, np.array([q / 100]))[0])


NOTHING = Distribution(np.empty(0))


@dataclass(frozen=True)
class Source:
    """One row with all data that an export may need."""

    row: Row
    server: Mapping[str, Any]
    """Its entry in plan.json; empty if bench did not start the server."""
    manifest: Mapping[str, Any]
    load: Callable[[str], pd.DataFrame] = field(repr=False)
    """Reads a table of the run folder, only this row's part."""

    def get(self, column: str) -> Any:
        """Return a column of `cells`; None if it is absent."""
        return self.row.get(column)

    def scaled(self, column: str, factor: float) -> float | None:
        """Return a column times a factor; None if it is absent."""
        value = self.row.figure(column)
        return None if value is None else value * factor

    @property
    def simulated(self) -> bool:
        """True if no GPU was measured: the simulated server answered, or the row is a prediction."""
        return bool(self.origin)

    @property
    def origin(self) -> str:
        """`predicted` or `simulated` if no GPU was measured, else empty."""
        return synthetic([self.row.origin])

    @property
    def stem(self) -> str:
        """Name for its files: `<model>-<workload>-c64-run0`."""
        key = str(self.row.get("key") or self.row.get("cell_id"))
        safe = "".join(c if c.isalnum() or c in "-._=@," else "-" for c in key)
        return f"{safe}-run{int(self.row.get('repeat') or 1) - 1}"

    @cached_property
    def hf_id(self) -> str:
        """The checkpoint's name; the profile's name if no profile is kept."""
        profile = (self.manifest.get("profiles") or {}).get(self.row.get("model")) or {}
        return str(profile.get("hf_id") or self.row.get("model"))

    @cached_property
    def flags(self) -> dict[str, Any]:
        """The server's flags, with their dashes."""
        return dict(runformat.json_column(self.row, "serve_args"))

    def parallel(self, flag: str) -> int:
        """Return a parallelism size; 1 if the flag is not set."""
        return int(self.flags.get(flag) or 1)

    @cached_property
    def chat(self) -> bool:
        """True if requests went to /v1/chat/completions."""
        cells = self.server.get("cells") or ()
        mine = (c["workload"] for c in cells if c.get("cell_id") == self.row.get("cell_id"))
        workload: Mapping[str, Any] = next(mine, {})
        if workload.get("api") in ("chat", "completions"):
            return bool(workload["api"] == "chat")
        return bool(self.row.get("images"))

    @cached_property
    def _completed(self) -> pd.DataFrame:
        frame = self.load("requests")
        if frame.empty:
            return frame
        return frame[(frame["phase"] == Phase.MEASURED) & frame["failure"].isna() & frame["end_ns"].notna()]

    def _column(self, name: str) -> Floats:
        return np.asarray(self._completed[name].to_numpy(dtype=float, na_value=np.nan), dtype=float)

    @cached_property
    def latencies(self) -> dict[str, Distribution]:
        """ttft, tpot, e2el in ms, of completed requests that began in the window; icl of chunks."""
        found = dict.fromkeys(("ttft", "tpot", "e2el", "pace", "isl", "osl"), NOTHING)
        if not self._completed.empty:
            sent, first, last = (
                self._column(name) for name in ("sent_ns", "first_token_ns", "last_token_ns")
            )
            output = self._column("output_tokens")
            with np.errstate(invalid="ignore", divide="ignore"):
                tpot = np.where(output > 1, (last - first) / 1e6 / (output - 1), np.nan)
                pace = 1000 / tpot
            figures = {
                "ttft": (first - sent) / 1e6,
                "tpot": tpot,
                "e2el": (last - sent) / 1e6,
                "pace": pace,
                "isl": self._column("prompt_tokens"),
                "osl": output,
            }
            found |= {name: Distribution(values[np.isfinite(values)]) for name, values in figures.items()}
        return found | {"icl": self._chunks()}

    def _chunks(self) -> Distribution:
        frame = self.load("histograms")
        mine = frame[frame["metric"] == "icl"] if len(frame) else frame
        if not len(mine):
            return NOTHING
        return Distribution(mine["middle_ms"].to_numpy(dtype=float), mine["tokens"].to_numpy(dtype=float))

    def tokens(self, rate: str) -> int | None:
        """Tokens of the measured window from their rate."""
        value, duration = self.row.figure(rate), self.row.figure("duration_s")
        return None if value is None or not duration else whole(value * duration)

    def input_tokens(self) -> int | None:
        """Prompt tokens of the window, images included."""
        text = self.tokens("input_throughput")
        return None if text is None else text + (self.tokens("image_token_throughput") or 0)
