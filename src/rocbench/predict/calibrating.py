"""Fit the ratio of steps to the physical bound to measured levels, by repeated prediction. Pure.

One set of parameters is fitted per model: the achieved shares of bandwidth, compute and links, and the
additional cost of a step and of each of its sequences. Residuals are log(predicted / measured) of the given
figures, so that a level of 10 users has the same weight as one of 1,000. A weak prior keeps parameters that
the levels do not decide at the assumed value; the fit's own error, from the Jacobian at the optimum,
identifies them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import yaml
from scipy.optimize import least_squares

from rocbench.load.spec import LoadSpec
from rocbench.predict.points import Point, point
from rocbench.records import FloatArray
from rocbench.settings.schema import Hardware, ModelProfile
from rocbench.sim import predict
from rocbench.sim.calibration import Calibration, Efficiency
from rocbench.sim.node import Node, step_times
from rocbench.tables import metrics

SHARES = ("bandwidth", "compute", "communication")
OVERHEADS = ("step_overhead_ms", "sequence_overhead_us")
FREE = (*SHARES, *OVERHEADS)
LIMITS: dict[str, tuple[float, float]] = {
    "bandwidth": (0.01, 1.0),
    "compute": (0.01, 1.0),
    "communication": (0.05, 1.0),
    "step_overhead_ms": (0.05, 300.0),
    "sequence_overhead_us": (0.5, 3000.0),
}
PRIOR_SIGMA = math.log(4)
"""The prior: a parameter is within a factor of 4 of its assumed value (one sigma)."""
FIGURE_SIGMA = 0.05
"""A figure is matched to 5 % (one sigma): noise of the rows, and effects that the model leaves out."""
DRAWS = 5
"""Predictions per level if answer lengths are drawn at random."""
MOVED = 0.5
"""The levels decide a parameter if its error is under this share of the prior's."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One measured level on one server."""

    name: str
    node: Node
    profile: ModelProfile
    hardware: Hardware
    spec: LoadSpec
    figures: Mapping[str, float]
    """Columns of `cells` to be matched: throughputs, latencies."""
    checked: Mapping[str, float] = field(default_factory=dict)
    """Further columns that were measured. The fit ignores them; its accuracy is checked against them too."""

    @property
    def measured(self) -> dict[str, float]:
        """All measured columns."""
        return {**self.figures, **self.checked}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One fitted value."""

    name: str
    value: float
    low: float
    high: float
    """95 % interval by the Jacobian; wide where the levels do not decide it."""
    decided: bool
    """False: the parameter stayed close to its assumed value."""


@dataclass(frozen=True, slots=True)
class Miss:
    """The error of one figure of one level."""

    level: str
    figure: str
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """predicted / measured - 1."""
        return self.predicted / self.measured - 1


@dataclass(frozen=True, slots=True)
class Fit:
    """The result for one model."""

    efficiency: Efficiency
    parameters: tuple[Parameter, ...]
    misses: tuple[Miss, ...]

    def median_error(self, figure: str | None = None) -> float:
        """Return the median of |error|, over one figure or all."""
        errors = [abs(miss.error) for miss in self.misses if figure in (None, miss.figure)]
        return float(np.median(errors)) if errors else math.nan


def at(observation: Observation, efficiency: Efficiency) -> Node:
    """Return the observation's server with another efficiency."""
    node, checkpoint = observation.node, observation.profile.checkpoint
    times = step_times(node.arch, checkpoint, observation.hardware, node.layout, efficiency)
    return replace(node, times=times, noises=(None,) * len(node.noises), efficiency=efficiency)


def figures(observation: Observation, efficiency: Efficiency) -> dict[str, float]:
    """Measured figures of the level, as predicted with this efficiency; NaN if missing."""
    return level(observation, efficiency)[0]


def level(observation: Observation, efficiency: Efficiency) -> tuple[dict[str, float], Point]:
    """Predicted figures of the level, and its conditions. Drawn answers: figures are means of several draws."""
    drawn = not observation.spec.requests.ignore_eos and efficiency.answer_sigma > 0
    node = at(observation, efficiency)
    predictions = [predict.drive(observation.spec, node, seed=seed) for seed in range(DRAWS if drawn else 1)]
    rows = [metrics.summarise(each.load, gpus=None) for each in predictions]
    in_flight = _mean([row.get("achieved_concurrency") for row in rows])
    predicted = {name: _mean([row.get(name) for row in rows]) for name in observation.measured}
    return predicted, point(node, predictions[0], in_flight)


def _mean(values: Sequence[object]) -> float:
    known = [float(value) for value in values if isinstance(value, int | float)]
    return sum(known) / len(known) if known else math.nan


def fit(
    observations: Sequence[Observation],
    assumed: Efficiency,
    free: Sequence[str] = FREE,
    on_round: Callable[[float], None] | None = None,
) -> Fit:
    """Fit one model's efficiency to its levels.

    Args:
        observations: levels of one model; figures above 0.
        assumed: the start of the fit and the centre of the prior; parameters that are not free keep it.
        free: parameters to fit.
        on_round: called with the root mean square of the residuals after each evaluation.
    """
    space = Space.of(assumed, free)

    def residuals(x: FloatArray) -> FloatArray:
        trial = space.efficiency(x)
        data = logs([figures(o, trial) for o in observations], observations) / FIGURE_SIGMA
        if on_round is not None:
            on_round(float(np.sqrt(np.mean(data**2))) * FIGURE_SIGMA)
        return np.concatenate([data, space.prior(x)])

    optimum = least_squares(
        residuals,
        space.start,
        bounds=(space.low, space.high),
        diff_step=[0.02] * len(free),
        xtol=1e-3,
        ftol=1e-3,
        loss="soft_l1",
    )
    efficiency = space.efficiency(optimum.x)
    return Fit(
        efficiency, _parameters(free, optimum.x, np.asarray(optimum.jac)), misses(observations, efficiency)
    )


@dataclass(frozen=True, slots=True)
class Space:
    """The space of a fit: logarithms of its free parameters."""

    assumed: Efficiency
    free: tuple[str, ...]
    start: FloatArray
    """Shape (parameters,), as all points of the space."""
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, assumed: Efficiency, free: Sequence[str]) -> Space:
        """Return the space around the assumed values."""
        start = np.array([math.log(max(getattr(assumed, name), LIMITS[name][0])) for name in free])
        low = np.array([math.log(LIMITS[name][0]) for name in free])
        high = np.array([math.log(LIMITS[name][1]) for name in free])
        return cls(assumed, tuple(free), np.clip(start, low + 1e-6, high - 1e-6), low, high)

    def efficiency(self, x: FloatArray) -> Efficiency:
        """Return the efficiency at a point."""
        values = {name: float(f"{math.exp(v):.4g}") for name, v in zip(self.free, x, strict=True)}
        limited = {name: min(value, LIMITS[name][1]) for name, value in values.items()}
        return self.assumed.model_copy(update=limited)

    def place(self, efficiency: Efficiency) -> FloatArray:
        """Return the point of an efficiency."""
        logs_ = np.log([getattr(efficiency, name) for name in self.free])
        return np.clip(logs_, self.low + 1e-6, self.high - 1e-6)

    def prior(self, x: FloatArray) -> FloatArray:
        """Return the residuals of the prior."""
        return (x - self.start) / PRIOR_SIGMA


def logs(predicted: Sequence[Mapping[str, float]], observations: Sequence[Observation]) -> FloatArray:
    """log(predicted / measured) of every figure; a figure without a prediction counts as a factor of e."""
    found = [
        math.log(row[name] / value) if row[name] > 0 else 1.0
        for row, observation in zip(predicted, observations, strict=True)
        for name, value in observation.figures.items()
    ]
    return np.array(found)


def _parameters(free: Sequence[str], x: FloatArray, jacobian: FloatArray) -> tuple[Parameter, ...]:
    covariance = np.linalg.pinv(jacobian.T @ jacobian)
    sigmas = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return tuple(
        Parameter(
            name,
            math.exp(value),
            math.exp(value - 1.96 * sigma),
            min(math.exp(value + 1.96 * sigma), LIMITS[name][1]),
            bool(sigma < MOVED * PRIOR_SIGMA),
        )
        for name, value, sigma in zip(free, x.tolist(), sigmas.tolist(), strict=True)
    )


def misses(observations: Sequence[Observation], efficiency: Efficiency) -> tuple[Miss, ...]:
    """Return every figure of every level, as measured and as predicted."""
    return tuple(
        Miss(observation.name, name, observation.figures[name], value)
        for observation in observations
        for name, value in figures(observation, efficiency).items()
        if name in observation.figures and not math.isnan(value)
    )


def document(calibration: Calibration) -> str:
    """Return a calibration as the text of its file."""
    data = calibration.model_dump(mode="json", exclude_defaults=True)
    return str(yaml.safe_dump(data, sort_keys=False, width=110, allow_unicode=True, default_flow_style=None))
