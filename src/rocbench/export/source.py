"""One measured row for an export: its columns, its server in the plan, and distributions of its requests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
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
    """The nearest whole number; None if the value is infinite or not a number."""
    return round(value) if math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Distribution:
    """Values and their weights. Statistics are None if there is no value."""

    values: Floats
    weights: Floats | None = None
    """None: all weigh the same, and percentiles interpolate linearly, as in numpy and vLLM."""

    @property
    def count(self) -> int | None:
        """Number of values."""
        return whole(len(self.values) if self.weights is None else float(self.weights.sum())) or None

    @property
    def total(self) -> float | None:
        """Sum of the values."""
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
    def minimum(self) -> float | None:
        """Smallest value."""
        return float(self.values.min()) if len(self.values) else None

    @property
    def maximum(self) -> float | None:
        """Largest value."""
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
    """One row and all other data that an export may need."""

    row: Row
    server: Mapping[str, Any]
    """Its entry in plan.json; empty if bench did not start the server."""
    manifest: Mapping[str, Any]
    load: Callable[[str], pd.DataFrame] = field(repr=False)
    """Reads a table of the run folder, only this row's part."""

    def get(self, column: str) -> Any:
        """A column of `cells`; None if it is absent."""
        return self.row.get(column)

    def present(self, columns: Iterable[str]) -> dict[str, Any]:
        """Those of the columns that have a value."""
        return {name: value for name in columns if (value := self.row.get(name)) is not None}

    def scaled(self, column: str, factor: float) -> float | None:
        """A column times a factor; None if it is absent."""
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
        """The checkpoint's name; the profile's name if the run has no profile."""
        profile = (self.manifest.get("profiles") or {}).get(self.row.get("model")) or {}
        return str(profile.get("hf_id") or self.row.get("model"))

    @cached_property
    def flags(self) -> dict[str, Any]:
        """The server's flags, with their dashes."""
        return dict(runformat.json_column(self.row, "serve_args"))

    def parallel(self, flag: str) -> int:
        """The value of a parallelism flag; 1 if it is not set."""
        return int(self.flags.get(flag) or 1)

    @cached_property
    def chat(self) -> bool:
        """True if requests went to /v1/chat/completions."""
        cells = self.server.get("cells") or ()
        apis = (c["workload"].get("api") for c in cells if c.get("cell_id") == self.row.get("cell_id"))
        api = next(apis, None)
        return bool(api == "chat") if api in ("chat", "completions") else bool(self.row.get("images"))

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
        """By name: `ttft`, `tpot`, `e2el` in ms, `interactivity` in tokens/s, `isl` and `osl` in tokens, of completed
        requests that began in the window; `icl` in ms, of gaps between chunks.
        """
        latencies = dict.fromkeys(("ttft", "tpot", "e2el", "interactivity", "isl", "osl"), NOTHING)
        if not self._completed.empty:
            sent, first, last = (
                self._column(name) for name in ("sent_ns", "first_token_ns", "last_token_ns")
            )
            output = self._column("output_tokens")
            with np.errstate(invalid="ignore", divide="ignore"):
                tpot = np.where(output > 1, (last - first) / 1e6 / (output - 1), np.nan)
                interactivity = 1000 / tpot
            figures = {
                "ttft": (first - sent) / 1e6,
                "tpot": tpot,
                "e2el": (last - sent) / 1e6,
                "interactivity": interactivity,
                "isl": self._column("prompt_tokens"),
                "osl": output,
            }
            latencies |= {name: Distribution(values[np.isfinite(values)]) for name, values in figures.items()}
        return latencies | {"icl": self._gaps()}

    def _gaps(self) -> Distribution:
        frame = self.load("histograms")
        if frame.empty:
            return NOTHING
        icl = frame[frame["metric"] == "icl"]
        return Distribution(icl["middle_ms"].to_numpy(dtype=float), icl["tokens"].to_numpy(dtype=float))

    def tokens(self, rate: str) -> int | None:
        """Tokens in the measured window: a column of tokens/s x `duration_s`."""
        value, duration = self.row.figure(rate), self.row.figure("duration_s")
        return None if value is None or not duration else whole(value * duration)

    def input_tokens(self) -> int | None:
        """Prompt tokens in the window, including image tokens."""
        text = self.tokens("input_throughput")
        return None if text is None else text + (self.tokens("image_token_throughput") or 0)
