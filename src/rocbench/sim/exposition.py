"""The simulated server's /metrics in Prometheus' text form, with vLLM's names, types and buckets.

Source: `vllm/v1/metrics/loggers.py` of 0.14.1 and 0.33.0.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

_TTFT: tuple[float, ...] = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
)
_TTFT += (80.0, 160.0, 640.0, 2560.0)
_ITL = (
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
    80.0,
)
_LATENCY: tuple[float, ...] = (
    0.3,
    0.5,
    0.8,
    1.0,
    1.5,
    2.0,
    2.5,
    5.0,
    10.0,
    15.0,
    20.0,
    30.0,
    40.0,
    50.0,
    60.0,
    120.0,
    240.0,
)
_LATENCY += (480.0, 960.0, 1920.0, 7680.0)
_ITERATION = (1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)


class Buckets:
    """A Prometheus histogram."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


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

    def names(self) -> Iterable[str]:
        """Names without vLLM's prefix."""
        return vars(self)


def labels(values: Mapping[str, str]) -> str:
    """`{a="1",b="2"}`, names in alphabetical order, as the Prometheus client writes them."""
    escaped = {
        name: value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        for name, value in values.items()
    }
    return "{" + ",".join(f'{name}="{escaped[name]}"' for name in sorted(escaped)) + "}"


class Exposition:
    """Lines of one answer to /metrics. Values are per engine; data parallelism has several engines."""

    def __init__(self, model_name: str) -> None:
        self._model = model_name
        self._lines: list[str] = []

    def gauge(self, name: str, values: Sequence[float], help_text: str = "") -> None:
        """A gauge of each engine."""
        self._samples(name, "gauge", values, help_text)

    def counter(self, name: str, values: Sequence[float], help_text: str = "") -> None:
        """A counter of each engine; `_total` is added to the name."""
        self._samples(name + "_total", "counter", values, help_text)

    def by(self, name: str, label: str, values: Sequence[Mapping[str, float]]) -> None:
        """A counter with one more label."""
        self._head(name + "_total", "counter", "")
        for engine, counts in enumerate(values):
            for key, value in counts.items():
                self._line(name + "_total", engine, value, **{label: key})

    def histogram(self, name: str, engines: Sequence[Buckets]) -> None:
        """Cumulative buckets, count and sum."""
        self._head(name, "histogram", "")
        for engine, buckets in enumerate(engines):
            below = 0
            for bound, count in zip((*buckets.bounds, None), buckets.counts, strict=True):
                below += count
                edge = "+Inf" if bound is None else repr(float(bound))
                self._line(name + "_bucket", engine, below, le=edge)
            self._line(name + "_count", engine, below)
            self._line(name + "_sum", engine, buckets.total)

    def info(self, name: str, values: Sequence[Mapping[str, str]]) -> None:
        """Gauges of 1 that carry information in their labels."""
        self._head(name, "gauge", "")
        self._lines += [f"{name}{labels(told)} 1.0" for told in values]

    def plain(self, name: str, kind: str, value: float) -> None:
        """A sample without labels, like the Prometheus client's process metrics."""
        self._head(name, kind, "")
        self._lines.append(f"{name} {float(value)!r}")

    def text(self) -> str:
        """The whole answer."""
        return "\n".join(self._lines) + "\n"

    def _samples(self, name: str, kind: str, values: Sequence[float], help_text: str) -> None:
        self._head(name, kind, help_text)
        for engine, value in enumerate(values):
            self._line(name, engine, value)

    def _line(self, name: str, engine: int, value: float, **more: str) -> None:
        told = labels({"model_name": self._model, "engine": str(engine), **more})
        self._lines.append(f"{name}{told} {float(value)!r}")

    def _head(self, name: str, kind: str, help_text: str) -> None:
        self._lines.append(f"# HELP {name} {help_text or name}")
        self._lines.append(f"# TYPE {name} {kind}")
