"""What a sweep is after: requests within limits, a narrow interval, the largest load that meets an SLO."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from rocbench.columns import better
from rocbench.settings.amounts import Measurements, Rate, Repeats
from rocbench.settings.strict import Strict


def _share(value: Any) -> Any:
    """`5%` is 0.05."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError:
            raise ValueError(f"{value!r} is no share such as 5% or 0.05") from None
    return value


Share = Annotated[float, BeforeValidator(_share), Field(gt=0, lt=10)]
"""A share, written 0.05 or 5%."""


def _result(name: str) -> str:
    if better(name) is None:
        raise ValueError(f"{name!r} is not a result that can be better or worse; see docs/results.md")
    return name


class Slo(Strict):
    """Limits a request must meet to count for goodput, in ms."""

    ttft_ms: float | None = None
    """Time to first token."""
    tpot_ms: float | None = None
    """Time per output token."""
    e2el_ms: float | None = None
    """End-to-end latency."""


class Until(Strict):
    """Repeat until the 95 % interval of the mean is narrow enough: at least 3 repeats, at most `max`."""

    interval_half_width: Share
    """Of the mean: 2% is +-2 %."""
    max: int = Field(ge=3, le=1000)
    """Repeats at most."""
    metric: str = "output_throughput"
    """Column whose interval decides."""

    @field_validator("metric")
    @classmethod
    def _is_a_result(cls, name: str) -> str:
        return _result(name)


class Search(Strict):
    """Find the largest load that meets limits: doubling from `low`, then bisection (users, or requests/s)."""

    slo: dict[str, float] = Field(min_length=1)
    """Columns of `cells` and their limits: `p99_ttft_ms: 2000`. An upper limit where lower is better, else a lower one."""
    low: Rate = 1
    """First level tried."""
    high: Rate = 1024
    """Highest level tried."""
    max_measurements: Measurements = 20
    """Of one server and workload; levels listed beside the search do not count."""
    repeats: Repeats = 1
    """Minimum number of measurements at a level."""
    max_repeats: Repeats = 5
    """Maximum number of measurements at a level whose repeats straddle a limit; that limit then counts as not met."""
    relative_step: Share = 0.05
    """The search ends when the bracket is this narrow, or one user wide."""
    margin: Share = 0.05
    """A single measurement within this share of a limit is repeated."""

    @field_validator("slo")
    @classmethod
    def _are_results(cls, limits: dict[str, float]) -> dict[str, float]:
        for name in limits:
            _result(name)
        return limits

    @model_validator(mode="after")
    def _ordered(self) -> Search:
        if self.low > self.high:
            raise ValueError("`low` is above `high`")
        if self.repeats > self.max_repeats:
            raise ValueError("`repeats` is more than `max_repeats`")
        return self
