"""Evidence for a change in a series of nightly figures, weighed under every autocorrelation. Pure.

Two explanations of the same nights are compared by their marginal likelihoods: one level, and one level with a step or
a slide. Both are averaged over the noise of the nights (NOISES: AR(1) with 0 to 0.9, and a slow AR(1) under independent
noise), over the level and over the spread, because none of them is known. So a few nights, which might as well be slow noise, are weak evidence, and many quiet nights make
the same step strong evidence. This is the Bayes factor of a linear model with AR(1) errors (Zellner and Tiao,
"Bayesian analysis of the regression model with autocorrelated errors", JASA 59, 1964). It is used as a test statistic:
the benchmark `judgement_history.py` counts how often noise without a change reaches it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NOISES = (
    (0.0, 0.0, 3),
    (0.2, 0.0, 1),
    (0.4, 0.0, 1),
    (0.6, 0.0, 1),
    (0.8, 0.0, 1),
    (0.9, 0.0, 1),
    (0.8, 0.5, 1),
)
"""Noises under which the evidence is weighed: the autocorrelation of what persists from night to night, the share of the
variance that does not persist, and how likely the noise is before the nights are seen, relative to the others."""
SIZE = 1.0
"""Standard deviation of a step before the nights are seen, in standard deviations of the nights."""
SLIDE_SIZE = 3.0
"""The same of a slide over its whole length. A slide is long, so it becomes large before it is told."""
SIDE = 3
"""Minimum nights on each side of a step."""
EARLIEST = 2 * SIDE
"""Minimum nights of a series that is looked at."""
SLIDE = 5
"""Minimum nights of a slide."""
WINDOW = 100
"""Maximum nights that are looked at together. A change that 100 nights did not show is not looked for again."""
FENCE = 2.0
"""Tukey's fences, in interquartile ranges beyond the quartiles: a night outside counts as the fence."""


def steps(nights: int) -> Array:
    """Shapes of a step at each possible night: 0 before, 1 from that night on; [shapes x nights]."""
    night = np.arange(nights)
    return (night >= np.arange(SIDE, nights - SIDE + 1)[:, None]).astype(float)


def slides(nights: int) -> Array:
    """Shapes of a slide that starts after each possible night and lasts: 0 before, 1 in the last night."""
    night, start = np.arange(nights), np.arange(nights - SLIDE + 1)[:, None]
    shapes: Array = np.maximum(night - start, 0) / (nights - 1 - start)
    return shapes


@dataclass(frozen=True, slots=True)
class _Weights:
    """Everything about one noise that does not depend on the figures."""

    precision: Array
    """Inverse of the correlation matrix, with the level removed; [nights x nights]."""
    shapes: Array
    """`precision` times each shape; [nights x shapes]."""
    norms: Array
    """Shape times `precision` times shape."""
    log_weight: float
    """Logarithm of the noise's likelihood before the nights are seen, and of the determinants."""


def precision(nights: int, noise: int) -> tuple[Array, float]:
    """Inverse of the correlation matrix of nights under one of NOISES, and the logarithm of the matrix's determinant."""
    rho, white, _ = NOISES[noise]
    night = np.arange(nights)
    correlation = (1 - white) * rho ** np.abs(night[:, None] - night) + white * np.eye(nights)
    return np.linalg.inv(correlation), float(np.linalg.slogdet(correlation)[1])


@functools.lru_cache(maxsize=2 * WINDOW)
def _weights(nights: int) -> tuple[_Weights, ...]:
    shapes = np.concatenate([steps(nights), slides(nights)])
    found = []
    for noise in range(len(NOISES)):
        inverse, log_determinant = precision(nights, noise)
        row = inverse.sum(axis=0)
        inverse = inverse - np.outer(row, row) / row.sum()
        product = inverse @ shapes.T
        norms = np.einsum("ij,ji->i", shapes, product)
        log_weight = float(np.log(NOISES[noise][2])) - 0.5 * log_determinant - 0.5 * float(np.log(row.sum()))
        found.append(_Weights(inverse, product, norms, log_weight))
    return tuple(found)


def fenced(figures: Array) -> Array:
    """Figures with those outside Tukey's fences moved to the fence. [series x nights].

    If most nights are equal, the fences lie `grain` times FENCE around them.
    """
    low, high = np.quantile(figures, [0.25, 0.75], axis=1)
    reach = FENCE * np.maximum(high - low, grain(figures))
    return np.clip(figures, (low - reach)[:, None], (high + reach)[:, None])


def grain(figures: Array) -> Array:
    """Typical distance of the other nights from the usual figure, if most nights are equal; 0 if they are not. [series].

    A figure that is rounded, or rarely anything but its usual value, has an interquartile range of 0. Its spread is then
    unknown below this distance, so that a few odd nights would look like strong evidence.
    """
    low, middle, high = np.quantile(figures, [0.25, 0.5, 0.75], axis=1)
    away = np.abs(figures - middle[:, None])
    tied = high - low <= 1e-9 * away.max(axis=1)
    found = np.zeros(len(figures))
    for i in np.flatnonzero(tied):
        others = away[i][away[i] > 1e-9 * away[i].max()]
        found[i] = np.median(others) if len(others) else 0.0
    return found


def evidence(figures: Array, known: Array | None = None) -> tuple[Array, Array]:
    """Logarithm of the Bayes factor of each shape against no change, and the probability of each noise.

    Args:
        figures: series of equal length, [series x nights]; at least 2 x SIDE nights. Any unit: only the shape counts.
        known: shapes of changes that are already told, [changes x nights]; their sizes are estimated anew.

    Returns:
        [series x shapes] in the order of `steps` and then `slides`, and [series x NOISES].
    """
    nights = figures.shape[1]
    scale = figures.std(axis=1, keepdims=True)
    y = (figures - figures.mean(axis=1, keepdims=True)) / np.where(scale > 0, scale, 1)
    rounding = (
        grain(figures) / np.where(scale > 0, scale, 1)[:, 0]
    ) ** 2 / 12  # variance of an even distribution
    free = nights - 1 - (0 if known is None else len(known))
    count = nights - 2 * SIDE + 1
    sizes = np.where(np.arange(count + nights - SLIDE + 1) < count, SIZE, SLIDE_SIZE)
    none, changed = [], []
    for weights in _weights(nights):
        rest, products = y @ weights.precision, y @ weights.shapes
        left, norms, log_weight = (rest * y).sum(axis=1), weights.norms, weights.log_weight
        if known is not None and len(known):
            gram = known @ weights.precision @ known.T
            cross = np.linalg.solve(gram, known @ weights.shapes)
            fitted = rest @ known.T
            left = left - (fitted * np.linalg.solve(gram, fitted.T).T).sum(axis=1)
            products = products - fitted @ cross
            norms = norms - ((known @ weights.shapes) * cross).sum(axis=0)
            log_weight -= 0.5 * float(np.linalg.slogdet(gram)[1])
        left = np.maximum(left, 1e-9 * nights) + rounding * float(np.trace(weights.precision))
        norms = np.maximum(norms, 0) + sizes**-2
        explained = np.minimum(products**2 / (norms * left[:, None]), 1 - 1e-9)
        none.append(log_weight - free / 2 * np.log(left))
        changed.append(-free / 2 * np.log1p(-explained) - 0.5 * np.log(sizes**2 * norms))
    unchanged = np.stack(none, axis=1)
    weight = np.exp(unchanged - unchanged.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    top = np.max(changed, axis=0)
    total = sum(weight[:, [i]] * np.exp(one - top) for i, one in enumerate(changed))
    return np.log(np.maximum(total, 1e-300)) + top, weight


def score(shapes: Array) -> Array:
    """Logarithm of the mean Bayes factor over all shapes, of each series."""
    top = shapes.max(axis=1)
    found: Array = top + np.log(np.exp(shapes - top[:, None]).mean(axis=1))
    return found
