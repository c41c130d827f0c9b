"""Output times of tokens, stored per step and not per token. Pure.

A sequence that decodes emits one token in each step, so its tokens are an interval of steps: one interval, or
several if it was preempted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rocbench.records import FloatArray, Histogram, Int64Array
from rocbench.sim.steps import StepOutcome


@dataclass(slots=True)
class TokenLog:
    """Log that takes every outcome in order and returns `Tokens`."""

    _ends: list[FloatArray] = field(default_factory=list)
    _open: dict[int, int] = field(default_factory=dict)
    _spans: list[tuple[int, int, int]] = field(default_factory=list)

    def step(self, outcome: StepOutcome) -> None:
        """Record one outcome."""
        last = outcome.first_step + outcome.steps - 1
        if outcome.durations_s is None:
            self._ends.append(np.array([outcome.ends_s]))
        else:
            self._ends.append(outcome.started_s + np.cumsum(outcome.durations_s))
        for sequence in outcome.preempted:
            if sequence.id in self._open:
                self._spans.append((sequence.id, self._open.pop(sequence.id), outcome.first_step - 1))
        for sequence in outcome.prefilled:
            self._open[sequence.id] = last
        for sequence in outcome.finished:
            self._spans.append((sequence.id, self._open.pop(sequence.id), last))

    def close(self) -> Tokens:
        """The whole log, including tokens of sequences that still run."""
        ends = np.concatenate(self._ends) if self._ends else np.zeros(0)
        spans = self._spans + [(number, first, len(ends) - 1) for number, first in self._open.items()]
        table = np.array(spans, dtype=np.int64).reshape(-1, 3)
        order = np.lexsort((table[:, 1], table[:, 0]))
        return Tokens(ends, table[order])


@dataclass(frozen=True, slots=True)
class Tokens:
    """Step ends in seconds, and spans (sequence, first step, last step) in order of sequence and step."""

    ends_s: FloatArray
    spans: Int64Array

    def of(self, numbers: Int64Array) -> tuple[FloatArray, FloatArray, Int64Array]:
        """Times of each sequence's first and last token (NaN without tokens), and its number of tokens."""
        known, starts = np.unique(self.spans[:, 0], return_index=True)
        stops = np.append(starts[1:], len(self.spans)) - 1
        first, last = self.ends_s[self.spans[starts, 1]], self.ends_s[self.spans[stops, 2]]
        before = np.concatenate([[0], np.cumsum(self.spans[:, 2] - self.spans[:, 1] + 1)])
        counts = before[stops + 1] - before[starts]
        has_tokens = np.isin(numbers, known)
        place = np.searchsorted(known, numbers[has_tokens])
        result = (
            np.full(len(numbers), np.nan),
            np.full(len(numbers), np.nan),
            np.zeros(len(numbers), np.int64),
        )
        for column, values in zip(result, (first, last, counts), strict=True):
            column[has_tokens] = values[place]
        return result

    def per_step(self) -> Int64Array:
        """Number of tokens at each step's end."""
        change = np.zeros(len(self.ends_s) + 1, dtype=np.int64)
        np.add.at(change, self.spans[:, 1], 1)
        np.add.at(change, self.spans[:, 2] + 1, -1)
        return np.cumsum(change)[:-1]

    def silences(self, start_s: float, end_s: float, minimum_s: float) -> FloatArray:
        """(n, 2): start and end of each period without tokens in a window, if longer than `minimum_s`."""
        ends = self.ends_s[self.per_step() > 0]
        marks = np.concatenate([[start_s], ends[(ends >= start_s) & (ends < end_s)], [end_s]])
        return np.stack([marks[:-1], marks[1:]], axis=1)[np.diff(marks) > minimum_s]

    def gaps(self, numbers: Int64Array) -> Histogram:
        """Gaps between the tokens of these sequences."""
        histogram = Histogram()
        spans = self.spans[np.isin(self.spans[:, 0], numbers)]
        if not len(spans):
            return histogram
        change = np.zeros(len(self.ends_s) + 1, dtype=np.int64)
        np.add.at(change, spans[:, 1] + 1, 1)  # the first token of a span ends no gap inside it
        np.add.at(change, spans[:, 2] + 1, -1)
        weights = np.cumsum(change)[1:-1]
        ends_gap = weights > 0
        histogram.add(np.round(np.diff(self.ends_s) * 1e9).astype(np.int64)[ends_gap], weights[ends_gap])
        same = spans[1:, 0] == spans[:-1, 0]  # a pause by preemption
        pauses = self.ends_s[spans[1:, 1][same]] - self.ends_s[spans[:-1, 2][same]]
        histogram.add(np.round(pauses * 1e9).astype(np.int64))
        return histogram
