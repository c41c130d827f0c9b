"""Noise of nodes whose truth is known, for the benchmarks of the judgement. Pure: a generator of random numbers is an argument.

A campaign is a list of measurements in the order of time, each with its run (night), server start, place in its run,
side, repeat and cell. A kind of noise maps a campaign to deviations of logarithms, shape (families, measurements,
metrics). To try another kind, add a function to KINDS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CELLS, METRICS = 12, 4
COV = 0.01
STATES = 0.06
"""Distance of two clock states, as a logarithm."""


@dataclass(frozen=True)
class Campaign:
    """Measurements in the order of time; each array has one entry for each."""

    run: Ints
    start: Ints
    place: Ints
    """Place within the run, from 0."""
    side: Ints
    """0 base, 1 compared, 2 a past night of the base."""
    repeat: Ints
    cell: Ints

    @classmethod
    def of(cls, rows: list[tuple[int, int, int, int, int, int]]) -> Campaign:
        """A campaign from (run, start, place, side, repeat, cell) of each measurement."""
        return cls(*np.array(rows).T)

    def __len__(self) -> int:
        return len(self.run)

    @property
    def elapsed(self) -> Floats:
        """Place in the run as a share of the longest run."""
        return self.place / (self.place.max() + 1)


def interleaved(n: int) -> Campaign:
    """Two arms in one run, n repeats, a server start of each arm in every repeat, A B B A."""
    rows, place, start = [], 0, 0
    for repeat in range(n):
        for side in (0, 1) if repeat % 2 == 0 else (1, 0):
            for cell in range(CELLS):
                rows.append((0, start, place, side, repeat, cell))
                place += 1
            start += 1
    return Campaign.of(rows)


def nights(past: int, n: int) -> Campaign:
    """Past nights of the base, then a night of the base and a night of the other side, n repeats on one server each."""
    rows = []
    for run in range(past + 2):
        side = 2 if run < past else run - past
        rows += [(run, run, r * CELLS + c, side, r, c) for r in range(n) for c in range(CELLS)]
    return Campaign.of(rows)


def one_after_the_other(past: int, n: int) -> Campaign:
    """Past nights of the base, then both sides in one night, the base first."""
    rows = []
    for run in range(past + 1):
        rows += [
            (run, run, r * CELLS + c, 2 if run < past else 0, r, c) for r in range(n) for c in range(CELLS)
        ]
    rows += [(past, past + 1, (n + r) * CELLS + c, 1, r, c) for r in range(n) for c in range(CELLS)]
    return Campaign.of(rows)


Kind = Callable[[Campaign, np.random.Generator, int, float], Floats]


def independent(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """Normal logarithms."""
    return rng.normal(0, cov, (families, len(c), METRICS))


def heavy_tails(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """Student's t with 3 degrees of freedom."""
    return rng.standard_t(3, (families, len(c), METRICS)) * cov / np.sqrt(3)


def one_in_ten_slow(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """A measurement in ten is 10 % slower."""
    slow = rng.random((families, len(c), 1)) < 0.1
    return independent(c, rng, families, cov) + np.log(0.9) * slow


def b_four_times_as_noisy(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """The other side has four times the CoV."""
    return independent(c, rng, families, cov) * np.where(c.side == 1, 4, 1)[None, :, None]


def unequal_cells(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """Each cell has its own CoV, lognormal with sigma 0.5."""
    spread = np.exp(rng.normal(0, 0.5, (families, CELLS)))
    return independent(c, rng, families, cov) * spread[:, c.cell, None]


def two_states(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """Each measurement is in one of two states."""
    return independent(c, rng, families, cov) + STATES * (rng.random((families, len(c), 1)) < 0.5)


def state_by_run(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """Each run is in one of two clock states."""
    state = rng.random((families, c.run.max() + 1)) < 0.5
    return independent(c, rng, families, cov) + STATES * state[:, c.run, None]


def state_by_start(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """Each server start is in one of two states."""
    state = rng.random((families, c.start.max() + 1)) < 0.5
    return independent(c, rng, families, cov) + STATES * state[:, c.start, None]


def start_level(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """Each server start has a level of its own, as far from the others as repeats."""
    return (
        independent(c, rng, families, cov)
        + rng.normal(0, cov, (families, c.start.max() + 1))[:, c.start, None]
    )


def night_level(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """Each night has a level of its own, as far from the others as repeats."""
    return (
        independent(c, rng, families, cov) + rng.normal(0, cov, (families, c.run.max() + 1))[:, c.run, None]
    )


def night_level_by_cell(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """Each cell and metric has a level of its own in each night."""
    level = rng.normal(0, cov, (families, c.run.max() + 1, CELLS, METRICS))
    return independent(c, rng, families, cov) + level[:, c.run, c.cell]


def drift(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """Each night drifts linearly, by a random amount of about 4 times the CoV."""
    slope = rng.normal(0, 4 * cov, (families, c.run.max() + 1))
    return independent(c, rng, families, cov) + (slope[:, c.run] * c.elapsed)[..., None]


def warming(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """A node that warms up: 4 % slower at the end of a night than at its beginning, at first fast, then slowly."""
    return independent(c, rng, families, cov) + 0.04 * np.exp(-3 * c.elapsed)[None, :, None]


def _ar(rng: np.random.Generator, shape: tuple[int, ...], places: Ints, rho: float = 0.6) -> Floats:
    """AR(1) along places with unit variance; shape (families, ..., metrics) gets an axis of places before the last."""
    count = int(places.max()) + 1
    found = np.empty((*shape[:-1], count, shape[-1]))
    found[..., 0, :] = rng.normal(size=shape)
    for i in range(1, count):
        found[..., i, :] = rho * found[..., i - 1, :] + np.sqrt(1 - rho**2) * rng.normal(size=shape)
    return found


def ar_by_cell(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """AR(1) 0.6 from one measurement of a cell to the next of the same cell, whatever the side."""
    order = np.zeros(len(c), int)
    seen: dict[tuple[int, int], int] = {}
    for i, key in enumerate(zip(c.run.tolist(), c.cell.tolist(), strict=True)):
        order[i] = seen[key] = seen.get(key, -1) + 1
    series = _ar(rng, (families, c.run.max() + 1, CELLS, METRICS), order)
    return cov * series[:, c.run, c.cell, order]


def ar_of_node(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
    """AR(1) 0.6 from one server start (or repeat) to the next, in all cells and metrics alike."""
    order = np.zeros(len(c), int)
    for run in np.unique(c.run):
        here = c.run == run
        steps = c.start[here] * 1000 + c.repeat[here]
        _, order[here] = np.unique(steps, return_inverse=True)
    series = _ar(rng, (families, c.run.max() + 1, 1), order)
    return cov * series[:, c.run, order] + independent(c, rng, families, cov / 2)


KINDS: dict[str, Kind] = {
    "independent": independent,
    "heavy tails (t, 3)": heavy_tails,
    "1 in 10 is 10 % slower": one_in_ten_slow,
    "B 4 times as noisy": b_four_times_as_noisy,
    "cells unequally noisy": unequal_cells,
    "two states by measurement": two_states,
    "clock state by run": state_by_run,
    "clock state by server start": state_by_start,
    "server start level": start_level,
    "night level": night_level,
    "night level by cell": night_level_by_cell,
    "drift through a night": drift,
    "warming node": warming,
    "AR(1) 0.6 by cell": ar_by_cell,
    "AR(1) 0.6 of the node": ar_of_node,
}


def mixture(first: Kind, second: Kind) -> Kind:
    """Both kinds at once."""

    def both(c: Campaign, rng: np.random.Generator, families: int, cov: float) -> Floats:
        return first(c, rng, families, cov) + second(c, rng, families, cov)

    return both
