"""The histograms of the simulated server, with vLLM's names and buckets.

Source: `vllm/v1/metrics/loggers.py` of 0.14.1 and 0.33.0.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

_TTFT = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_ITL = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_LATENCY = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
)  # fmt: skip
_ITERATION = (1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)


class Buckets:
    """A Prometheus histogram that counts a value several times in one call."""

    __slots__ = ("_bounds", "_counts", "_edges", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._edges = [*map(repr, bounds), "+Inf"]
        self._counts = [0] * len(self._edges)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value `times` times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self.total += value * times

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """(upper bound, number of values up to it), from the smallest bound to `+Inf`."""
        return zip(self._edges, accumulate(self._counts), strict=True)


def one_two_five(highest: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, ... up to `highest`."""
    steps = (float(mantissa * 10**power) for power in range(10) for mantissa in (1, 2, 5))
    return tuple(step for step in steps if step <= highest)


class Histograms:
    """The histograms that vLLM keeps by default and a simulated server can fill."""

    def __init__(self, max_model_len: int) -> None:
        tokens = one_two_five(max_model_len)
        self.time_to_first_token_seconds = Buckets(_TTFT)
        self.inter_token_latency_seconds = Buckets(_ITL)
        self.request_time_per_output_token_seconds = Buckets(_ITL)
        self.e2e_request_latency_seconds = Buckets(_LATENCY)
        self.request_queue_time_seconds = Buckets(_LATENCY)
        self.request_inference_time_seconds = Buckets(_LATENCY)
        self.request_prefill_time_seconds = Buckets(_LATENCY)
        self.request_decode_time_seconds = Buckets(_LATENCY)
        self.request_prompt_tokens = Buckets(tokens)
        self.request_generation_tokens = Buckets(tokens)
        self.request_params_max_tokens = Buckets(tokens)
        self.iteration_tokens_total = Buckets(_ITERATION)
