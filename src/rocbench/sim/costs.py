"""How long an engine step takes: the seam between the scheduler and the physics. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class Batch(NamedTuple):
    """What one step computes."""

    prefill_tokens: int
    prefill_pairs: float
    """Sum over prompt tokens of the tokens each attends to."""
    decode_seqs: int
    decode_context: int
    """Tokens of KV that the decoding sequences read, summed over them."""
    image_tokens: int = 0
    loaded_tokens: int = 0
    """Tokens whose KV is copied in from host memory."""


class StepTimes(Protocol):
    """Seconds that steps take."""

    def step_s(self, batch: Batch) -> float:
        """Seconds of one step."""
        ...

    def decode_s(self, seqs: int, context: FloatArray) -> FloatArray:
        """Seconds of steps that only decode `seqs` sequences, one for each total context length."""
        ...


@dataclass(frozen=True, slots=True)
class AffineTimes:
    """Step times as a sum of per-item costs in seconds: for tests and for servers without physics."""

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


class Noise:
    """Factors on step times: lognormal with mean 1 and a given coefficient of variation, from a seed.

    A run of steps takes the same factors as the same steps taken one by one.
    """

    def __init__(self, cv: float, seed: int) -> None:
        variance = math.log1p(cv * cv)
        self._mean, self._sigma = -variance / 2, math.sqrt(variance)
        self._random = np.random.default_rng(seed)
        self._factors: FloatArray = np.empty(0)
        self._next = 0

    def one(self) -> float:
        """The next step's factor."""
        factor = float(self.peek(1)[0])
        self._next += 1
        return factor

    def peek(self, steps: int) -> FloatArray:
        """The next `steps` factors, left to be taken."""
        if self._next + steps > len(self._factors):
            fresh = self._random.lognormal(self._mean, self._sigma, 4096 + steps)
            self._factors = np.concatenate((self._factors[self._next :], fresh))
            self._next = 0
        return self._factors[self._next : self._next + steps]

    def skip(self, steps: int) -> None:
        """Take factors that `peek` showed."""
        self._next += steps
