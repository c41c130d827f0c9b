"""Columns of `cells` beside the load's own figures: the client, the server, physical bounds, where the row comes from. Pure."""

from __future__ import annotations

from rocbench.column import Column

CLIENT = (
    Column("transport", "", "wire (stamps by the kernel) or aiohttp (stamps in user space)"),
    Column("client_workers", "", "load worker processes"),
    Column("load_hosts", "", "hosts that the load came from, where there were several"),
    Column("load_hosts_clock_ms", "ms", "how far each load host's clock was ahead of the driver's"),
    Column(
        "load_hosts_clock_bound_ms", "ms", "how wrong that can be: what the window's edges may be off there"
    ),
    Column("client_cpu_share_max", "share", "CPU time / wall time of the busiest worker"),
    Column(
        "client_busy_share_max", "share", "(CPU time + time waited for a CPU) / wall time of the worst worker"
    ),
    Column("client_cpu_us_per_token", "us", "CPU time of all workers / tokens they read"),
    Column("client_longest_pause_ms", "ms", "longest time in which a worker neither read nor sent"),
    Column("connections_opened", "", "connections opened in the window"),
    Column(
        "idle_closes",
        "",
        "kept connections that the server closed in the window before a request left on them",
    ),
    Column("clock_step_ms", "ms", "largest change of realtime against monotonic clock over the run"),
    Column("open_file_limit", "", "limit of open files of a load worker"),
    Column("calibrated_tokens_per_s", "tokens/s", "this machine's ceiling by `bench calibrate`"),
    Column("calibrated_users", "", "users up to which stamps stay true by `bench calibrate`"),
)
SERVER = (
    Column("server_running_max", "requests", "most requests running, by the server's own gauge"),
    Column("server_waiting_max", "requests", "most requests queued, by the server's own gauge"),
    Column("server_waiting_median", "requests", "median of the requests queued, by the server's own gauge"),
    Column("server_kv_usage_max", "share", "highest KV cache use, by the server's own gauge"),
    Column("server_output_tokens", "tokens", "output tokens by the server's counter, all phases of the cell"),
    Column("server_prompt_tokens", "tokens", "prompt tokens by the server's counter, all phases of the cell"),
    Column("prefix_cache_hits", "tokens", "prompt tokens found in the prefix cache, by the server's counter"),
    Column(
        "prefix_cache_hits_expected",
        "tokens",
        "what the workload's shared prefix explains; 0 unless asked for",
    ),
    Column(
        "prefix_cache_queries",
        "tokens",
        "prompt tokens looked up in the prefix cache, by the server's counter",
    ),
    Column(
        "external_prefix_cache_hits",
        "tokens",
        "prompt tokens found in an offload tier, by the server's counter",
    ),
    Column("preemptions", "", "preempted requests, by the server's counter"),
    Column("spec_acceptance", "share", "accepted / drafted speculative tokens"),
    Column("server_frontend_cpu_share", "share", "CPU share of the server's busiest API process"),
    Column("server_engine_cpu_share", "share", "CPU share of the server's busiest engine process"),
    Column("server_worker_cpu_share", "share", "CPU share of the server's busiest worker process"),
    Column(
        "server_cpu_wait_share",
        "share",
        "time in which the server's longest waiting thread was ready to run and others had its CPU / the window",
    ),
    Column("server_mean_ttft_ms", "ms", "mean time to first token by the server's histogram, all phases"),
    Column(
        "server_median_ttft_low_ms",
        "ms",
        "lower bound of the bucket with the server's median time to first token",
    ),
    Column("server_median_ttft_high_ms", "ms", "upper bound of that bucket"),
    Column(
        "matched_requests",
        "requests",
        "requests whose first token lies between two readings of the server's metrics, and which it counted too",
    ),
    Column("matched_ttft_ms", "ms", "mean TTFT of the matched requests, by the client"),
    Column("matched_server_ttft_ms", "ms", "the same by the server's histogram"),
    Column("matched_tpot_ms", "ms", "mean TPOT of the matched requests, by the client"),
    Column(
        "matched_server_tpot_ms",
        "ms",
        "the same by the server's histogram, else its gaps between steps (then the client's time per token or per "
        "chunk, whichever is nearer, stands beside it)",
    ),
    Column("matched_e2el_ms", "ms", "mean E2EL of the matched requests, by the client"),
    Column("matched_server_e2el_ms", "ms", "the same by the server's histogram"),
    Column(
        "server_answer_ms",
        "ms",
        "shortest reading of the server's metrics: a bound of the way there and back",
    ),
    Column("health_failures", "", "health checks that failed in the window"),
    Column("health_checks", "", "requests that the health checks sent in the window"),
    Column("health_unanswered", "", "health checks without an answer while tokens flowed: no failure"),
    Column("health_check_ms", "ms", "median time of those requests"),
    Column(
        "server_restarted",
        "",
        "true when the server's process ended, or another server answered at the cell's end; absent when it cannot be known",
    ),
    Column("server_changes", "", "what showed that another server answered"),
    Column(
        "counters_fell",
        "",
        "counters of the server that went down within the cell, joined by `;`; empty when none did, absent without readings",
    ),
    Column("metrics_lost", "", "true when the server's metrics endpoint went away in the cell"),
    Column("metrics_failed", "", "readings of the server's metrics that failed in the cell"),
    Column("metrics_note", "", "why the last of them failed"),
    Column("jit_lines", "", "kernel builds (AITER, Triton) in the server's log inside the window"),
    Column("compile_lines", "", "torch.compile or graph captures in the server's log inside the window"),
    Column("error_lines", "", "errors in the server's log inside the window"),
    Column("simulator_late_share", "share", "steps that the simulated server finished too late"),
    Column("attention_backend", "", "attention back end, by the server's own word"),
    Column("block_size", "tokens", "KV block size, by the server's own word"),
    Column("kv_cache_dtype", "", "KV cache dtype, by the server's own word"),
    Column("weights_gib_per_rank", "GiB", "weights on one rank, by the server's log"),
    Column(
        "prefix_cache_reset", "", "whether the prefix cache was emptied before the cell, and proved to be"
    ),
    Column("plan_differences", "", "what the running server has otherwise than planned, joined by `;`"),
)
PHYSICS = (
    Column("kv_capacity_tokens", "tokens", "KV cache size over all engines"),
    Column("roofline_output_throughput", "tokens/s", "upper bound of output_throughput on this hardware"),
    Column("roofline_share", "share", "output_throughput / roofline_output_throughput", "higher"),
    Column("shape_doubts", "", "what of the model's config or checkpoint is not understood, joined by `; `"),
    Column("mean_power_w", "W", "mean power of the server's GPUs together over the window", "lower"),
    Column("gpu_sockets", "", "sockets whose power is counted: partitions of one GPU share one"),
    Column("power_cap_w", "W", "power limit of those sockets together"),
    Column("power_note", "", "a note on the power: whole sockets, or why there is no figure"),
    Column("peak_power_w", "W", "highest power of the server's GPUs together in the window"),
    Column(
        "energy_j",
        "J",
        "energy of the server's GPUs over the window: accumulator at both edges, else integral",
    ),
    Column("energy_source", "", "accumulator or integral"),
    Column("energy_disagreement", "share", "integral of power / accumulator - 1, where both are had"),
    Column("joules_per_output_token", "J", "energy_j / output tokens in the window", "lower"),
    Column("hottest_c", "C", "highest GPU hotspot or memory temperature in the window"),
    Column("throttled", "", "true when a GPU throttled in the window"),
    Column("gpu_shared", "", "true when other processes used the server's GPUs"),
)
PROVENANCE = (
    Column("key", "", "MODEL/WORKLOAD/LEVEL, for people"),
    Column("request_rate", "requests/s", "rate asked for (open loop)"),
    Column("load_shape", "", "closed, open or trace"),
    Column(
        "max_requests",
        "requests",
        "bound by count: so many in all at most; absent where a window is measured",
    ),
    Column(
        "workload_spec", "", "JSON of what a request is beside `isl`, `osl` and `images`, without defaults"
    ),
    Column("load_spec", "", "JSON of how requests were sent and what ended them, without defaults"),
    Column("slo", "", "JSON of the limits that goodput counts by"),
    Column("gpus", "", "GPUs that the server uses"),
    Column("model_revision", "", "revision of the checkpoint"),
    Column("node", "", "host name of the server's node; that of its Ray node where several share a host"),
    Column("moved", "", "nodes that died or refused before this cell was measured on another"),
    Column("server_id", "", "folder under servers/"),
    Column("axes", "", "JSON of the matrix axes and factors that this cell stands at"),
    Column(
        "failure_message",
        "",
        "why a cell could not be measured: the server failed, or refused it in its own words",
    ),
    Column(
        "common_error",
        "",
        "what failed requests of the window (else of the load) said most often, in one line",
    ),
    Column("common_error_count", "requests", "how many said that, numbers and ids aside"),
    Column("serve_args", "", "JSON of the server's flags"),
    Column("serve_env", "", "JSON of the environment set for the server"),
    Column("restart", "", "never, per_repeat or per_cell: whether repeats share a server"),
    Column("discarded", "", "true for a first repeat after a load that judgement leaves out"),
    Column("attempt", "", "from 1; above it, this row replaced one that lies in replaced.jsonl"),
    Column("replaced_reasons", "", "reasons of the rows that this one replaced, joined by `;`"),
    Column("started_at", "", "UTC time at which the measured window began"),
    Column("accuracy_labels", "", "switches in force that may change the answers, joined by `;`"),
    Column("forced_rules", "", "true when --force overrode a rule that refuses"),
    Column("predicted", "", "true when nothing ran at all: scheduler and physics in virtual time"),
    Column("imported", "", "true for a row measured by another tool"),
)
