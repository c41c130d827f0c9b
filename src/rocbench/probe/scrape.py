"""The server's metrics: read from /metrics each second by a thread, and at the edges of a load.

Names are vLLM's without the prefix `vllm:` (`generation_tokens_total`); the simulated server's own metrics have
`sim_` in place of `rocbench_sim:`. Values are summed over engines (data parallelism); of shares (`..._perc`) the
maximum is kept. Of histograms the sum and count are kept, and of the time to first token the buckets too.
"""

from __future__ import annotations

import itertools
import math
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from rocbench.probe.counters import STARTED
from rocbench.probe.fetch import TooLarge, fetch
from rocbench.probe.monitor import Monitor
from rocbench.records import ServerSample
from rocbench.units import one_line

PERIOD_S = 1.0
LOST_S = 5.0
"""Gap between readings after which the metrics are lost: at 1,000 streams one late answer is normal."""

_SETTLE_S = 0.05
_PREFIXES = {"vllm:": "", "rocbench_sim:": "sim_"}
_TTFT = "time_to_first_token_seconds"
_LATE = 2
"""Number of time-outs, with no reading before them, after which no more readings are taken."""
_MAX_VALUE = 2.0**53
"""Maximum of a count, share or time: above it a float loses additions."""


def parse(text: str) -> dict[str, float]:
    """Name to value, from Prometheus text; impossible values are absent. Pure. Raises ValueError.

    Only the needed lines are parsed: 2 ms instead of 12 ms for vLLM's 600 lines.
    """
    values: dict[str, float] = {}
    for metric in _families([line for line in text.splitlines() if _is_needed(line)]):
        for sample in metric.samples:
            name = _short(sample.name)
            if not math.isfinite(sample.value):
                continue
            if "le" in sample.labels:
                float(sample.labels["le"])  # refuse a bound that is not a number
                name = f"{name}:{sample.labels['le']}"
            if name.endswith("_perc"):
                values[name] = max(sample.value, values.get(name, -math.inf))
            else:
                values[name] = values.get(name, 0.0) + sample.value
    return {name: value for name, value in values.items() if abs(value) <= _MAX_VALUE}


def _families(lines: Sequence[str]) -> list[Metric]:
    """Parse the lines. Raises ValueError, also for a number that is not a float."""
    try:
        families = list(text_string_to_metric_families("\n".join(lines) + "\n"))
        for metric in families:
            for sample in metric.samples:
                float(sample.value)  # the parser returns an int for digits without a dot
        return families
    except OverflowError as error:
        raise ValueError(str(error)) from None


def _is_needed(line: str) -> bool:
    if not line.startswith(tuple(_PREFIXES)):
        return line.startswith(f"{STARTED} ")
    name = line.partition("{")[0].partition(" ")[0]
    if name.endswith("_bucket"):
        return name == f"vllm:{_TTFT}_bucket"
    return not name.endswith(("_created", "_info"))


def _short(name: str) -> str:
    for prefix, short in _PREFIXES.items():
        if name.startswith(prefix):
            return short + name.removeprefix(prefix)
    return name


def labels(text: str, name: str) -> list[dict[str, str]]:
    """Labels of each line of a metric (`vllm:cache_config_info` has one per engine); empty if absent. Pure.

    Raises ValueError.
    """
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return [dict(sample.labels) for metric in _families(lines) for sample in metric.samples]


@dataclass(slots=True)
class Scraper(Monitor):
    """Reads a server's metrics each second while the context is open. A server without metrics gives no samples.

    Metrics that are too large or never complete are not requested again: each reading would cost as much.

    with Scraper(running.base_url, running.headers) as scraper:
        before = scraper.read_now()
        ...
        after = scraper.read_now()
    """

    base_url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure: bool = False
    period_s: float = PERIOD_S
    samples: list[ServerSample] = field(default_factory=list)
    failed_reads: int = 0
    last_error: str = ""
    given_up: bool = False
    """True if the metrics are too large or do not arrive in time."""
    fastest_ms: float | None = None
    """The shortest duration of a reading: an exchange with the server cannot be much faster."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Prevents overlapping readings: two answers in the wrong order look like a falling counter."""

    def view(self) -> dict[str, int | str | None]:
        """Columns of `cells`: the number of failed readings, and the reason of the last failure."""
        return {"metrics_failed": self.failed_reads, "metrics_note": self.last_error or None}

    def read_now(self) -> ServerSample | None:
        """Take and keep one reading; None if it fails, which is counted."""
        with self._lock:
            return None if self.given_up else self._read()

    def _read(self) -> ServerSample | None:
        before = time.time_ns()
        try:
            answer = fetch(
                self.base_url, "/metrics", headers=self.headers, timeout_s=LOST_S, insecure=self.insecure
            )
            if answer.status != 200:
                raise OSError(f"HTTP {answer.status}")
            values = parse(answer.body.decode())
        except (OSError, ValueError) as error:
            self.failed_reads += 1
            self.last_error = one_line(f"/metrics: {error}", 200)
            late = isinstance(error, TimeoutError) and not self.samples and self.failed_reads >= _LATE
            self.given_up = late or isinstance(error, TooLarge)
            return None
        took_ns = time.time_ns() - before
        self.fastest_ms = min(took_ns / 1e6, self.fastest_ms or math.inf)
        sample = ServerSample(before + took_ns // 2, values)
        self.samples.append(sample)
        return sample

    def read_settled(self, timeout_s: float = 2.0) -> ServerSample | None:
        """A reading with settled token counters, for the edge after the drain.

        vLLM counts a step's tokens after it passes them to the streams (v1/engine/async_llm.py, output_handler),
        so the last answer may be complete before its tokens are counted.
        """
        deadline = time.monotonic() + timeout_s
        last = self.read_now()
        while last is not None and time.monotonic() < deadline:
            time.sleep(_SETTLE_S)
            sample = self.read_now()
            if sample is None or _tokens(sample) == _tokens(last):
                return sample or last
            last = sample
        return last

    def _run(self) -> None:
        while not self._closing.is_set() and not self.given_up:
            self.read_now()
            self._closing.wait(self.period_s)


def _tokens(sample: ServerSample) -> tuple[float | None, float | None]:
    return sample.values.get("generation_tokens_total"), sample.values.get("prompt_tokens_total")


def window_view(
    samples: Sequence[ServerSample], start_ns: int, end_ns: int
) -> dict[str, float | bool | None]:
    """The server's gauges in the measured window [start, end), as columns of `cells`. Pure.

    A gauge without a value is None. `metrics_lost` is True if the readings stop or have a gap of more than 5 s,
    and None if there are none.
    """
    inside = [sample for sample in samples if start_ns <= sample.at_ns < end_ns]

    def highest(name: str) -> float | None:
        return max((s.values[name] for s in inside if name in s.values), default=None)

    waiting = [s.values["num_requests_waiting"] for s in inside if "num_requests_waiting" in s.values]
    return {
        "server_running_max": highest("num_requests_running"),
        "server_waiting_max": highest("num_requests_waiting"),
        "server_waiting_median": statistics.median(waiting) if waiting else None,
        "server_kv_usage_max": highest("kv_cache_usage_perc"),
        "metrics_lost": _lost([s.at_ns for s in samples], start_ns, end_ns),
    }


def _lost(stamps: Sequence[int], start_ns: int, end_ns: int) -> bool | None:
    if not stamps:
        return None
    ordered = [start_ns, *sorted(stamp for stamp in stamps if start_ns <= stamp <= end_ns), end_ns]
    return any(later - earlier > LOST_S * 1e9 for earlier, later in itertools.pairwise(ordered))


def load_view(before: ServerSample | None, after: ServerSample | None) -> dict[str, float | None]:
    """The server's counters over a whole load, from before the first request to after the drain. Pure.

    The client's token counts are compared with these. None if an edge or the metric is missing.
    """

    def delta(name: str) -> float | None:
        if before is None or after is None or name not in after.values:
            return None
        return after.values[name] - before.values.get(name, 0.0)

    drafted = delta("spec_decode_num_draft_tokens_total")
    accepted = delta("spec_decode_num_accepted_tokens_total")
    ttft_s, answered = delta(f"{_TTFT}_sum"), delta(f"{_TTFT}_count")
    low_s, high_s = median_bucket(before, after)
    steps, late = delta("sim_steps_total"), delta("sim_late_steps_total")
    return {
        "server_output_tokens": delta("generation_tokens_total"),
        "server_prompt_tokens": delta("prompt_tokens_total"),
        "prefix_cache_hits": delta("prefix_cache_hits_total"),
        "prefix_cache_queries": delta("prefix_cache_queries_total"),
        "external_prefix_cache_hits": delta("external_prefix_cache_hits_total"),
        "preemptions": delta("num_preemptions_total"),
        "spec_acceptance": accepted / drafted if accepted is not None and drafted else None,
        "server_mean_ttft_ms": ttft_s / answered * 1e3 if ttft_s is not None and answered else None,
        "server_median_ttft_low_ms": None if low_s is None else low_s * 1e3,
        "server_median_ttft_high_ms": None if high_s is None else high_s * 1e3,
        "simulator_late_share": late / steps if late is not None and steps else None,
    }


def median_bucket(
    before: ServerSample | None, after: ServerSample | None
) -> tuple[float | None, float | None]:
    """Bounds (s) of the histogram bucket with the median time to first token; (None, None) without data."""
    if before is None or after is None:
        return None, None
    earlier, later = _ttft_buckets(before), _ttft_buckets(after)
    bounds = sorted(later)
    counts = [later[bound] - earlier.get(bound, 0.0) for bound in bounds]
    if not counts or counts[-1] <= 0:
        return None, None
    at = next(index for index, count in enumerate(counts) if count >= counts[-1] / 2)
    return bounds[at - 1] if at else 0.0, bounds[at]


def _ttft_buckets(sample: ServerSample) -> dict[float, float]:
    """Upper bound (s) to number of requests up to it."""
    prefix = f"{_TTFT}_bucket:"
    return {
        float(name.removeprefix(prefix)): count
        for name, count in sample.values.items()
        if name.startswith(prefix)
    }
