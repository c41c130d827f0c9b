"""What /metrics of the simulated server shows: vLLM's names, then its own under `rocbench_sim:`."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

from packaging.version import Version

from rocbench.sim.exposition import Exposition

if TYPE_CHECKING:
    from rocbench.sim.http import SimServer


def metrics_page(server: SimServer) -> str:
    """The whole page."""
    page = Exposition({"model_name": server.node.limits.served_names[0], "engine": "0"})
    _process(page)
    _engine(page, server)
    for name, buckets in server.histograms.items():
        page.histogram(f"vllm:{name}", buckets)
    page.info("vllm:cache_config_info", server.node.cache_config(server.context.faults))
    _own(page, server)
    return page.text()


def _process(page: Exposition) -> None:
    page.plain("process_cpu_seconds_total", "counter", time.process_time())
    page.plain(
        "process_resident_memory_bytes", "gauge", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )


def _engine(page: Exposition, server: SimServer) -> None:
    live, engine = server.live, server.live.engine
    counters = engine.counters
    page.gauge("vllm:num_requests_running", engine.running, "Number of requests in model execution batches.")
    page.gauge("vllm:num_requests_waiting", live.waiting, "Number of requests waiting to be processed.")
    page.gauge("vllm:kv_cache_usage_perc", engine.kv_usage, "KV-cache usage. 1 means 100 percent usage.")
    page.counter("vllm:prefix_cache_queries", counters.prefix_queries)
    page.counter("vllm:prefix_cache_hits", counters.prefix_hits + server.extra_hits)
    page.counter("vllm:external_prefix_cache_queries", counters.external_queries)
    page.counter("vllm:external_prefix_cache_hits", counters.external_hits)
    page.counter("vllm:mm_cache_queries", 0)
    page.counter("vllm:mm_cache_hits", 0)
    page.counter(
        "vllm:num_preemptions", counters.preemptions, "Cumulative number of preemption from the engine."
    )
    page.counter("vllm:prompt_tokens", counters.prompt_tokens, "Number of prefill tokens processed.")
    page.counter(
        "vllm:generation_tokens", counters.generation_tokens, "Number of generation tokens processed."
    )
    if Version(server.node.version) >= Version("0.16"):
        page.counter("vllm:prompt_tokens_cached", counters.prefix_hits + counters.external_hits)
    page.by("vllm:request_success", "finished_reason", {name: float(n) for name, n in live.finished.items()})


def _own(page: Exposition, server: SimServer) -> None:
    lateness = server.live.lateness
    page.counter("rocbench_sim:steps", lateness.steps, "Engine steps whose tokens were written.")
    page.counter("rocbench_sim:late_steps", lateness.late_steps, "Steps written more than 10 ms late.")
    page.counter("rocbench_sim:late_seconds", lateness.late_s, "Seconds by which late steps were late.")
    page.gauge("rocbench_sim:max_late_seconds", lateness.max_late_s, "Greatest lateness of a step.")
    page.counter(
        "rocbench_sim:emit_seconds", lateness.emit_s, "Seconds spent planning steps and writing tokens."
    )
