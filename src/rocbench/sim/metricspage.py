"""The /metrics page of the simulated server: vLLM's names, then its own under `rocbench_sim:`."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from packaging.version import Version

from rocbench.sim.exposition import Exposition

if TYPE_CHECKING:
    from rocbench.sim.http import SimServer
    from rocbench.sim.live import LiveEngine

_BEGAN = time.time()


def metrics_page(server: SimServer) -> str:
    """The whole page."""
    page = Exposition(server.node.limits.served_names[0])
    page.plain("process_cpu_seconds_total", "counter", time.process_time())
    page.plain("process_start_time_seconds", "gauge", _BEGAN)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    page.plain("process_resident_memory_bytes", "gauge", resident)
    _engines(page, server)
    for name in server.lives[0].histograms.names():
        page.histogram(f"vllm:{name}", [getattr(live.histograms, name) for live in server.lives])
    config = server.node.cache_config(server.context.faults)
    page.info("vllm:cache_config_info", [config | {"engine": str(n)} for n in range(len(server.lives))])
    _own(page, server.lives)
    return page.text()


def _engines(page: Exposition, server: SimServer) -> None:
    def each(value: Callable[[LiveEngine], float]) -> list[float]:
        return [value(live) for live in server.lives]

    extra = server.extra_hits / len(server.lives)
    page.gauge("vllm:num_requests_running", each(lambda e: e.engine.running), "Number of requests running.")
    page.gauge("vllm:num_requests_waiting", each(lambda e: e.waiting), "Number of requests waiting.")
    page.gauge("vllm:kv_cache_usage_perc", each(lambda e: e.engine.kv_usage), "1 means 100 percent usage.")
    for name, field in (
        ("prefix_cache_queries", "prefix_queries"),
        ("external_prefix_cache_queries", "external_queries"),
        ("external_prefix_cache_hits", "external_hits"),
        ("num_preemptions", "preemptions"),
        ("prompt_tokens", "prompt_tokens"),
        ("generation_tokens", "generation_tokens"),
    ):
        page.counter(f"vllm:{name}", [getattr(live.engine.counters, field) for live in server.lives])
    page.counter("vllm:prefix_cache_hits", each(lambda e: e.engine.counters.prefix_hits + extra))
    page.counter("vllm:mm_cache_queries", [0.0] * len(server.lives))
    page.counter("vllm:mm_cache_hits", [0.0] * len(server.lives))
    if Version(server.node.version) >= Version("0.16"):
        cached = each(lambda e: e.engine.counters.prefix_hits + e.engine.counters.external_hits)
        page.counter("vllm:prompt_tokens_cached", cached)
    page.by("vllm:request_success", "finished_reason", [live.finished for live in server.lives])


def _own(page: Exposition, lives: Sequence[LiveEngine]) -> None:
    late = [live.lateness for live in lives]
    page.counter("rocbench_sim:steps", [x.steps for x in late], "Engine steps whose tokens were written.")
    page.counter(
        "rocbench_sim:late_steps", [x.late_steps for x in late], "Steps late by over 10 ms and a tenth."
    )
    page.counter(
        "rocbench_sim:late_seconds", [x.late_s for x in late], "Seconds by which late steps were late."
    )
    page.gauge("rocbench_sim:max_late_seconds", [x.max_late_s for x in late], "Greatest lateness of a step.")
    page.counter(
        "rocbench_sim:emit_seconds", [x.emit_s for x in late], "Seconds spent on steps and their tokens."
    )
