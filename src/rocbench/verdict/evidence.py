"""The evidence for a verdict on one cell and repeat. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence for a verdict on one cell and repeat; None is unknown. Names and units as in the columns of `cells`."""

    # the kind of row
    server_kind: str | None = None
    simulated: bool | None = None
    predicted: bool | None = None
    """True: neither a client nor a server ran, so checks of them do not apply."""
    imported: bool | None = None
    platform: str | None = None
    """rocm or cpu, from the hardware profile."""
    load_shape: str | None = None
    """closed, open or trace; if None, closed if a concurrency was requested."""
    ignore_eos: bool | None = None
    """False: the model may end answers early, and the output length is not checked."""
    dataset: bool | None = None
    """True: prompts come from a file, and the workload's lengths do not apply."""
    # the load
    concurrency: float | None = None
    achieved_concurrency: float | None = None
    duration_s: float | None = None
    completed: int | None = None
    failed: int | None = None
    unfinished: int | None = None
    resent_after_reset: int | None = None
    resent_after_close: int | None = None
    requests_per_user: float | None = None
    window_ended_by: str | None = None
    littles_law_ratio: float | None = None
    request_throughput: float | None = None
    mean_e2el_ms: float | None = None
    p99_e2el_ms: float | None = None
    output_throughput: float | None = None
    rate_bias_share: float | None = None
    token_rate_gap_share: float | None = None
    arrival_rate: float | None = None
    backlog_slope_per_s: float | None = None
    unserved_share: float | None = None
    arrival_noise_share: float | None = None
    idle_share: float | None = None
    latency_slope: float | None = None
    longest_silence_ms: float | None = None
    stall_limit_ms: float | None = None
    stalled_share: float | None = None
    p99_ttft_ms: float | None = None
    p99_ttft_by_clock_ms: float | None = None
    median_ttft_ms: float | None = None
    median_tpot_ms: float | None = None
    median_e2el_ms: float | None = None
    mean_lateness_ms: float | None = None
    drift_low: float | None = None
    drift_high: float | None = None
    late_sends: int | None = None
    dropped_sends: int | None = None
    isl: float | None = None
    osl: float | None = None
    isl_had: float | None = None
    isl_off_share: float | None = None
    osl_off_share: float | None = None
    osl_had: float | None = None
    coalesced_share: float | None = None
    # the answers
    usage_disagrees_share: float | None = None
    one_piece_share: float | None = None
    unknown_text_share: float | None = None
    unknown_end_share: float | None = None
    first_chunk_tokens: float | None = None
    # the client
    clock_step_ms: float | None = None
    transport: str | None = None
    client_workers: int | None = None
    client_cpu_share_max: float | None = None
    client_busy_share_max: float | None = None
    client_longest_pause_ms: float | None = None
    open_file_limit: int | None = None
    calibrated_tokens_per_s: float | None = None
    calibrated_users: float | None = None
    client_output_tokens: int | None = None
    client_prompt_tokens: int | None = None
    client_unsure_tokens: int | None = None
    # the server
    server_running_max: float | None = None
    server_waiting_median: float | None = None
    server_output_tokens: float | None = None
    server_prompt_tokens: float | None = None
    prefix_caching: bool | None = None
    """False: the server reported that it has no prefix cache."""
    prefix_cache_hits: float | None = None
    prefix_cache_hits_expected: float = 0.0
    external_prefix_cache_hits: float | None = None
    cached_tokens: int | None = None
    preemptions: float | None = None
    matched_ttft_ms: float | None = None
    matched_server_ttft_ms: float | None = None
    matched_tpot_ms: float | None = None
    matched_server_tpot_ms: float | None = None
    matched_e2el_ms: float | None = None
    matched_server_e2el_ms: float | None = None
    server_median_ttft_low_ms: float | None = None
    server_median_ttft_high_ms: float | None = None
    server_answer_ms: float | None = None
    server_frontend_cpu_share: float | None = None
    server_cpu_wait_share: float | None = None
    server_failed: bool | None = None
    """True: the server never answered, or failed before the cell began."""
    load_failed: bool | None = None
    """True: a worker of the load generator died or hung."""
    request_refused: bool | None = None
    """True: the server runs, and refused the cell's requests."""
    health_failures: int | None = None
    server_restarted: bool | None = None
    counters_fell: str | None = None
    """Counters of the server that decreased, joined by `;`; empty if none did."""
    metrics_lost: bool | None = None
    jit_lines: int | None = None
    compile_lines: int | None = None
    simulator_late_share: float | None = None
    plan_differences: str | None = None
    """Differences, joined by `;`; empty if the proof after the start found none; None without proof."""
    forced_rules: bool | None = None
    # the machine
    roofline_share: float | None = None
    """The largest share of a physical bound over all figures that have one."""
    mean_power_w: float | None = None
    power_cap_w: float | None = None
    energy_disagreement: float | None = None
    shape_doubts: str | None = None
    """Parts of the model's shape that are not understood; the bounds depend on the shape."""
    throttled: bool | None = None
    gpu_shared: bool | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, object], **more: object) -> Evidence:
        """Evidence from the columns of a row (None and NaN are absent), and more that is in no column."""
        names = {f.name for f in fields(cls)}
        known = {n: v for n, v in {**row, **more}.items() if n in names and v is not None}
        return cls(**{n: v for n, v in known.items() if not (isinstance(v, float) and math.isnan(v))})  # type: ignore[arg-type]

    @property
    def closed(self) -> bool:
        """True if users wait for their answers (closed loop)."""
        return self.load_shape == "closed" or (self.load_shape is None and self.concurrency is not None)
