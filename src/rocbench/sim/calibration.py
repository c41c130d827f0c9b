"""Efficiency of real steps against the physical bound, from a named file (`configs/calibrations/*.yaml`).

A calibration is assumed, or fitted to rows; `what` says which. Every figure of the simulated server depends on it.
"""

from __future__ import annotations

import math
import random
from typing import Literal

from pydantic import Field

from rocbench.settings import catalog, yamlfile
from rocbench.settings.schema import Hardware, Strict

LEAST_SHARE = 1e-4
"""Minimum share of a peak: below it, a step of a large model takes minutes and no predicted window ends."""
MOST_US = 1e7
"""Maximum overhead per step or per request in us: ten seconds. A slower server is not worth a prediction."""
MOST_TOKENS = 1e9
"""Maximum tokens of an answer: above every context length, so that no answer ends by itself."""


class Efficiency(Strict):
    """Achieved shares of the peaks, and the overheads of a step."""

    bandwidth: float = Field(ge=LEAST_SHARE, le=1)
    compute: float = Field(ge=LEAST_SHARE, le=1)
    communication: float = Field(ge=LEAST_SHARE, le=1)
    collective_latency_us: float = Field(default=0.0, ge=0, le=MOST_US)
    step_overhead_ms: float = Field(default=0.0, ge=0, le=MOST_US / 1e3)
    sequence_overhead_us: float = Field(default=0.0, ge=0, le=MOST_US)
    """Overhead per running sequence and step, in us."""
    api_request_ms: float = Field(default=0.0, ge=0, le=MOST_US / 1e3)
    """Time in ms before the scheduler sees a request."""
    run_cv: float = Field(default=0.0, ge=0, le=10)
    """Coefficient of variation of the speed between runs."""
    answer_median: float = Field(default=256.0, ge=1, le=MOST_TOKENS)
    """Tokens of an answer that ends by itself; lognormal with `answer_sigma`."""
    answer_sigma: float = Field(default=1.0, ge=0, le=10)

    def draw_answer(self, rng: random.Random) -> int:
        """A random length of an answer that ends by itself, in tokens; at least 1."""
        return max(1, round(rng.lognormvariate(math.log(self.answer_median), self.answer_sigma)))

    def derate(self, hardware: Hardware) -> Hardware:
        """The hardware with its effective speeds: physics on it gives expected times."""
        gpu = hardware.gpu
        if gpu is None:
            return hardware
        achieved = {
            "hbm_bytes_per_s": gpu.hbm_bytes_per_s * self.bandwidth,
            "flops": {dtype: peak * self.compute for dtype, peak in gpu.flops.items()},
            "link_bytes_per_s": gpu.link_bytes_per_s * self.communication,
        }
        return hardware.model_copy(update={"gpu": gpu.model_copy(update=achieved)})


class When(Strict):
    """Facts for which a factor applies; None matches any."""

    model: str | None = None
    """Name of the model profile."""
    family: str | None = None
    mla: bool | None = None
    moe: bool | None = None
    aiter: bool | None = None
    quantization: str | None = None
    backend: str | None = None
    gpu: str | None = None

    def holds(self, facts: When) -> bool:
        """True if each condition that is set has the value of these facts."""
        conditions = self.model_dump(exclude_none=True)
        return all(getattr(facts, name) == value for name, value in conditions.items())


class Factor(Strict):
    """Correction that multiplies shares and adds to overheads; `run_cv` replaces the base's."""

    when: When
    why: str
    bandwidth: float = Field(default=1.0, gt=0, le=1e4)
    compute: float = Field(default=1.0, gt=0, le=1e4)
    communication: float = Field(default=1.0, gt=0, le=1e4)
    step_overhead_ms: float = Field(default=0.0, ge=-MOST_US / 1e3, le=MOST_US / 1e3)
    sequence_overhead_us: float = Field(default=0.0, ge=-MOST_US, le=MOST_US)
    run_cv: float | None = Field(default=None, ge=0, le=10)
    answer_median: float | None = Field(default=None, ge=1, le=MOST_TOKENS)
    answer_sigma: float | None = Field(default=None, ge=0, le=10)
    fitted: Efficiency | None = None
    """Replaces the base and all earlier factors if these facts were fitted."""


Span = tuple[float, float]
"""Minimum and maximum."""


class Reach(Strict):
    """The conditions of the rows of a fit. A prediction outside them, or in a gap, is an extrapolation."""

    in_flight: Span
    """Mean requests in flight."""
    prompt_tokens: Span
    """Tokens of a prompt, with its images."""
    computed_share: Span
    """Share of the prompt tokens that did not come from the prefix cache."""
    output_tokens: Span
    images: tuple[bool, ...]
    tp: tuple[int, ...]
    vllm: tuple[str, ...]
    aiter: tuple[bool, ...]
    backend: tuple[str, ...]
    fitted: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """The values within each span, ascending: they show its gaps. Absent in older files: no gap is known."""


class LeftOut(Strict):
    """Errors of levels that a fit did not see. Each is a root mean square of log(measured / predicted)."""

    what: str
    """The levels that were left out."""
    side: str
    """Leave-outs of one side overlap, and count as one."""
    levels: int
    distance: float = Field(ge=0)
    """Distance of these levels from those that remained (`points.distance`): root mean square."""
    errors: dict[str, float]
    """By column of `cells`."""


class Accuracy(Strict):
    """How well a model's levels are predicted: the origin of prediction intervals."""

    when: When
    reach: Reach
    conditions: int
    """Different loads and lengths among the levels."""
    left_out: tuple[LeftOut, ...] = ()
    """Empty if there are too few conditions to leave any out."""
    unfitted: dict[str, float]
    """Errors without a fit: the mean of log(measured / predicted) over all levels, by column."""


class Calibration(Strict):
    """A named set of efficiencies."""

    name: str
    what: Literal["assumed", "fitted"]
    note: str
    base: Efficiency
    factors: tuple[Factor, ...] = ()
    errors: dict[str, float] = Field(default_factory=dict)
    """Model to the median of |predicted / measured - 1| over the fitted rows."""
    accuracy: tuple[Accuracy, ...] = ()
    """Errors of levels that were left out. Without them, predictions have no interval."""

    def fitted(self, facts: When) -> Factor | None:
        """The fit that applies to these facts; None if their efficiency is assumed."""
        fits = [each for each in self.factors if each.fitted is not None and each.when.holds(facts)]
        return fits[-1] if fits else None

    def efficiency(self, facts: When, flat: float | None = None) -> Efficiency:
        """The efficiency for these facts. `flat`, if given, replaces all three shares, without overheads."""
        if flat is not None:
            answers = {"answer_median": self.base.answer_median, "answer_sigma": self.base.answer_sigma}
            return Efficiency(bandwidth=flat, compute=flat, communication=flat, **answers)
        values = self.base.model_dump()
        for factor in self.factors:
            if not factor.when.holds(facts):
                continue
            if factor.fitted is not None:
                values = factor.fitted.model_dump()
            for name in ("bandwidth", "compute", "communication"):
                values[name] = min(1.0, max(LEAST_SHARE, values[name] * getattr(factor, name)))
            for name, maximum in (("step_overhead_ms", MOST_US / 1e3), ("sequence_overhead_us", MOST_US)):
                values[name] = min(maximum, max(0.0, values[name] + getattr(factor, name)))
            for name in ("run_cv", "answer_median", "answer_sigma"):
                if getattr(factor, name) is not None:
                    values[name] = getattr(factor, name)
        return Efficiency.model_validate(values)


def read_calibration(name: str) -> Calibration:
    """A calibration by name, or by the path of its file. Raises ConfigError."""
    return yamlfile.load(catalog.path_of("calibrations", name), Calibration)
