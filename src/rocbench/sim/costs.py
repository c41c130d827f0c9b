"""Duration of an engine step: the interface between the scheduler and the physics. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from rocbench.physics.steps import StepModel
from rocbench.records import FloatArray


class Batch(NamedTuple):
    """The work of one step."""

    prefill_tokens: int
    prefill_pairs: float
    """Sum over prompt tokens of the tokens each attends to."""
    decode_seqs: int
    decode_context: int
    """KV tokens that the decoding sequences read, in total."""
    image_tokens: int = 0
    loaded_tokens: int = 0
    """Tokens whose KV is copied in from host memory."""


class StepTimes(Protocol):
    """Durations of steps, in seconds."""

    def step_s(self, batch: Batch) -> float:
        """Seconds of one step."""
        ...

    def decode_s(self, seqs: int, context: FloatArray) -> FloatArray:
        """Seconds of steps that only decode `seqs` sequences, one for each total context length."""
        ...


@dataclass(frozen=True, slots=True)
class AffineTimes:
    """Step times as a sum of costs per item, in seconds, for tests, benchmarks and scripts/study-docs."""

    step: float = 0.010
    prefill_token: float = 10e-6
    decode_seq: float = 20e-6
    context_token: float = 1e-9

    def step_s(self, batch: Batch) -> float:
        """Seconds of one step."""
        return (
            self.step
            + self.prefill_token * batch.prefill_tokens
            + self.decode_seq * batch.decode_seqs
            + self.context_token * batch.decode_context
        )

    def decode_s(self, seqs: int, context: FloatArray) -> FloatArray:
        """Seconds of decode steps."""
        return self.step + self.decode_seq * seqs + self.context_token * context


@dataclass(frozen=True, slots=True)
class PhysicsTimes:
    """Step times from the physics of derated hardware.

    seconds = scale x (physics of the batch + `sequence_s` for each decoding sequence).
    """

    model: StepModel
    sequence_s: float = 0.0
    scale: float = 1.0
    """Slowdown / speed of the simulation."""

    def step_s(self, batch: Batch) -> float:
        """Seconds of one step."""
        return self.scale * (self.model.cost(*batch) + self.sequence_s * batch.decode_seqs)

    def decode_s(self, seqs: int, context: FloatArray) -> FloatArray:
        """Seconds of decode steps."""
        return self.scale * (self.model.decode_s(seqs, context) + self.sequence_s * seqs)


class Noise:
    """Factors on step times from a seed: one per step, and one for a whole run.

    Both are lognormal with mean 1 and a given coefficient of variation. A run begins when the server has been
    idle (`restart`). Several steps at once take the same factors as the same steps one by one.
    """

    def __init__(self, step_cv: float, run_cv: float, seed: int) -> None:
        variance = math.log1p(step_cv * step_cv)
        self._mean, self._sigma = -variance / 2, math.sqrt(variance)
        self._random, self._runs = np.random.default_rng((seed, 0)), np.random.default_rng((seed, 1))
        self._run_variance = math.log1p(run_cv * run_cv)
        self._factors: FloatArray = np.empty(0)
        self._next = 0
        self._run = 1.0
        self.restart()

    def restart(self) -> None:
        """Draw the factor of a new run."""
        self._run = float(self._runs.lognormal(-self._run_variance / 2, math.sqrt(self._run_variance)))

    def one(self) -> float:
        """The next step's factor."""
        factor = float(self.peek(1)[0])
        self.skip(1)
        return factor

    def peek(self, steps: int) -> FloatArray:
        """The next `steps` factors, without taking them."""
        if self._next + steps > len(self._factors):
            fresh = self._random.lognormal(self._mean, self._sigma, 4096 + steps)
            self._factors = np.concatenate((self._factors[self._next :], fresh))
            self._next = 0
        return self._run * self._factors[self._next : self._next + steps]

    def skip(self, steps: int) -> None:
        """Take `steps` factors that `peek` showed."""
        self._next += steps
