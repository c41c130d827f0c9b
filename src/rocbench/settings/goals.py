"""Goals of a sweep: goodput limits, a narrow interval, the largest load that meets an SLO."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from rocbench.columns import better
from rocbench.settings.amounts import Measurements, Rate, Repeats
from rocbench.settings.strict import Strict


def percent_as_share(value: Any) -> Any:
    """Return 0.05 for the text `5%`, and any other value unchanged.

    Raises:
        ValueError: no number stands before the percent sign.
    """
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError:
            raise ValueError(f"{value!r} is not a share such as 5% or 0.05") from None
    return value


Share = Annotated[float, BeforeValidator(percent_as_share), Field(gt=0, lt=10)]
"""Share, written 0.05 or 5%."""


def _below_one(share: float) -> float:
    if share >= 1:
        raise ValueError(
            f"{share:g} means {share:.0%}, but must be below 100%; write, for example, {share:g}% or {share / 100:g}"
        )
    return share


Change = Annotated[Share, AfterValidator(_below_one)]
"""Relative change or spread below 100 %, written 0.03 or 3%."""


def _result(name: str) -> str:
    """Return the name of a column that can be better or worse."""
    if better(name) is None:
        raise ValueError(
            f"{name!r} is not a result column in which higher or lower is better; see docs/results.md"
        )
    return name


Result = Annotated[str, AfterValidator(_result)]
"""Column of cells that can be better or worse."""


class Slo(Strict):
    """Limits that a request must meet to count for goodput, in milliseconds."""

    ttft_ms: float | None = None
    """TTFT, time to first token."""
    tpot_ms: float | None = None
    """TPOT, time per output token."""
    e2el_ms: float | None = None
    """E2EL, end-to-end latency."""


class Until(Strict):
    """Repeat until the goal is reached, with one of two goals: at least 3 repeats, at most `max`. The repeats are looked at
    after 3, 4, 6, 8, 11, ...; intervals and verdicts hold although they decide when to end."""

    interval_half_width: Change | None = None
    """Goal: half width of the 95 % interval of the mean, as a share of the mean: 2% for +-2 %."""
    told: Change | None = None
    """Goal of an ablation: every effect at a load level is better, worse or same, with this minimum effect."""
    max: int = Field(ge=3, le=1000)
    """Maximum number of repeats."""
    metric: Result = "output_throughput"
    """Column whose interval decides."""
    metrics: tuple[Result, ...] = ("output_throughput", "median_ttft_ms", "median_tpot_ms", "p99_e2el_ms")
    """Columns whose effects are to be told: those that `bench ablate` judges."""

    @model_validator(mode="after")
    def _one_goal(self) -> Until:
        if (self.interval_half_width is None) == (self.told is None):
            raise ValueError("`until` needs exactly one of `interval_half_width` and `told`")
        return self


class Power(Strict):
    """Power of the repeats: `bench plan` says which change they can tell, or how many repeats a change needs."""

    effect: Change | None = None
    """Change that the repeats should tell, as a share: 3%."""
    cov: Change | None = None
    """CoV of repeats. None: that of earlier runs of the same cells in the results folder."""
    min_effect: Change = 0.02
    """Minimum effect of the comparison, as in `bench compare --min-effect`."""


class Search(Strict):
    """Find the largest load (users, or requests/s) that is shown to meet limits."""

    slo: dict[Result, float] = Field(min_length=1)
    """Columns of `cells` and their limits: `p99_ttft_ms: 2000`. A maximum where lower is better, else a minimum."""
    low: Rate = 1
    """First level."""
    high: Rate = 1024
    """Highest level."""
    max_measurements: Measurements = 20
    """Maximum number of measurements for one server and workload, not counting the levels listed in the sweep."""
    repeats: Repeats = 1
    """Minimum number of measurements at a level."""
    max_repeats: Repeats = 5
    """Maximum number of measurements at a level."""
    relative_step: Share = 0.05
    """The search ends when the interval around the largest load is this narrow, as a share, or one user wide."""
    margin: Share = 0.05
    """Not used any more: the spread of the repeats decides how close to a limit a level is measured again."""

    @model_validator(mode="after")
    def _ordered(self) -> Search:
        if self.low > self.high:
            raise ValueError("`low` must be at most `high`")
        if self.repeats > self.max_repeats:
            raise ValueError("`repeats` must be at most `max_repeats`")
        return self
