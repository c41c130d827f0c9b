"""Every column of `cells` and `requests`: its name, unit and meaning, in order. docs/results.md is made from it."""

from __future__ import annotations

from rocbench.column import Better, Column
from rocbench.contextcolumns import CLIENT, PHYSICS, PROVENANCE, SERVER

LATENCIES = {
    "ttft": "time to first token: first non-empty text, reasoning or tool delta, from the send",
    "tpot": "time per output token: (E2EL - TTFT) / (output tokens - 1), of requests with more than one token",
    "itl": "inter-token latency, weighted by tokens: the gap before a chunk of several is shared among them",
    "e2el": "end-to-end latency: last token from the send",
}
STATISTICS = ("mean", "median", "p90", "p95", "p99")


def _latency_columns() -> tuple[Column, ...]:
    return tuple(
        Column(f"{statistic}_{name}_ms", "ms", f"{statistic} of {meaning}", "lower")
        for name, meaning in LATENCIES.items()
        for statistic in STATISTICS
    )


_IDENTITY = (
    Column("run_id", "", "the run"),
    Column("cell_id", "", "hash of everything that decides the cell; equal in every run of the same cell"),
    Column("repeat", "", "which repeat of the cell, from 1"),
    Column("model", "", "model profile"),
    Column("family", "", "attention: mla_dense, mla_sparse, mla_compressed, gqa, mha, mqa, hybrid"),
    Column("precision", "", "weights as they run: bf16, fp8, int4, mxfp4"),
    Column("tp", "", "tensor-parallel size"),
    Column("aiter", "", "AITER: on, off, or its parts"),
    Column("vllm_version", "", "vLLM version as the server said it, else as planned"),
    Column("hardware", "", "hardware profile"),
    Column("server_kind", "", "simulated, process, container, attached, predicted"),
    Column("simulated", "", "true when the simulated server answered: no GPU was measured"),
    Column("workload", "", "workload profile"),
    Column("isl", "tokens", "text tokens of the prompt, as the workload says (mean)"),
    Column("osl", "tokens", "output tokens, as the workload says (mean)"),
    Column("images", "", "images per request"),
    Column("concurrency", "requests", "users asked for (closed loop); absent under open loop"),
)

_LOAD = (
    Column("achieved_concurrency", "requests", "time-weighted mean in flight over the window, from events"),
    Column("duration_s", "s", "length of the measured window"),
    Column("completed", "requests", "began in the window and completed"),
    Column("failed", "requests", "began in the window and failed"),
    Column("success_rate", "share", "completed / (completed + failed)", "higher"),
    Column(
        "request_throughput",
        "requests/s",
        "completed requests per second. Closed loop: users in flight / mean time in flight of requests that began in the"
        " window (Little's law), at the mean length that requests are drawn from where that is known; elsewhere, or with"
        " users missing: requests that ended in the window, counted",
        "higher",
    ),
    Column(
        "output_throughput",
        "tokens/s",
        "output tokens stamped in the window, per second: the headline",
        "higher",
    ),
    Column(
        "input_throughput", "tokens/s", "text prompt tokens of requests whose first token lies in the window"
    ),
    Column("total_token_throughput", "tokens/s", "output + input + image tokens per second"),
    Column(
        "output_throughput_per_gpu", "tokens/s", "output_throughput / GPUs that the server uses", "higher"
    ),
)

_VERDICT = (
    Column("valid", "", "true, false, or unknown (absent): see docs/verdicts.md"),
    Column("reasons", "", "codes, joined by `;`: first those that void the row, then those that inform"),
    Column("failures", "", "JSON, failure class to count, of requests that began in the window"),
    Column(
        "load_notes",
        "",
        "JSON list of what the load generator had to say: what the server refused, what was cut",
    ),
    Column("unknown_checks", "", "checks that could not be made, joined by `;`"),
)

_WINDOW = (
    Column("peak_concurrency", "requests", "most in flight at once in the window, from events"),
    Column(
        "window_ended_by",
        "",
        "duration, requests, count, max_duration, interrupted, server_died, server_unresponsive, never_began",
    ),
    Column(
        "unfinished",
        "requests",
        "began in the window and were cut when the load ended: their latencies are in no column",
    ),
    Column(
        "resent_after_reset",
        "requests",
        "began in the window and were sent again: a kept connection was reset before a byte of the answer",
    ),
    Column(
        "resent_after_close",
        "requests",
        "began in the window and were sent again: a kept connection was closed before a byte of the answer",
    ),
    Column(
        "resent_unread",
        "requests",
        "began in the window and were sent again: the server had closed the connection before they came",
    ),
    Column(
        "requests_sent",
        "requests",
        "sent in all phases, probes that were answered included; twice where sent again, unless unread",
    ),
    Column("requests_per_user", "requests", "requests that began in the window / concurrency asked"),
    Column(
        "littles_law_ratio",
        "",
        "requests ended (open loop: come) per second x mean time in flight / achieved concurrency",
    ),
    Column(
        "rate_bias_share",
        "share",
        "how much too high request_throughput may read for few requests of unlike lengths (closed loop)",
    ),
    Column(
        "token_rate_gap_share",
        "share",
        "output_throughput / (request_throughput x output length) - 1 (closed loop): what the window's edges may have moved",
    ),
    Column("arrival_rate", "requests/s", "rate asked for; of a trace, that of its arrivals (open loop)"),
    Column(
        "backlog_slope_per_s",
        "requests/s",
        "by how many requests a second the number in flight grew, least squares over the window (open loop)",
    ),
    Column(
        "backlog_slope_low_per_s", "requests/s", "lower end of its 95 % interval, by the arrivals' own noise"
    ),
    Column(
        "backlog_slope_high_per_s", "requests/s", "upper end of its 95 % interval, by the arrivals' own noise"
    ),
    Column(
        "unserved_share",
        "share",
        "1 - output tokens in the window / those that the rate asked for offers (open loop); below 0 after few arrivals",
    ),
    Column(
        "arrival_noise_share",
        "share",
        "standard deviation of what chance adds to the backlog over the window / requests offered (open loop)",
    ),
    Column(
        "latency_slope",
        "s/s",
        "by how much the time of a request of mean length grew for each second that it was sent later (open loop)",
    ),
    Column(
        "idle_share", "share", "share of the window's second half in which nothing was in flight (open loop)"
    ),
    Column(
        "longest_silence_ms",
        "ms",
        "longest time in the window without a token of any stream, with a request in flight",
    ),
    Column(
        "stall_limit_ms",
        "ms",
        "how long a sound server may be silent: 1 s, 3 x the TTFT of the longest prompt, 5 x the gap between chunks",
    ),
    Column("stalled_share", "share", "share of the window that silences longer than that took"),
    Column(
        "p99_ttft_by_clock_ms",
        "ms",
        "p99 TTFT had the same requests come by the clock, so that some were due in each stall (closed loop)",
    ),
    Column(
        "image_token_throughput", "tokens/s", "image tokens of requests whose first token lies in the window"
    ),
    Column(
        "goodput",
        "requests/s",
        "request_throughput x share of completed requests within every limit",
        "higher",
    ),
    Column("goodput_share", "share", "requests within every limit / (completed + failed)", "higher"),
    Column(
        "drift",
        "share",
        "second half's output tokens/s against the first half's, relative to the mean; open loop: less what the arrivals"
        " explain",
    ),
    Column("drift_low", "share", "lower end of the 95 % interval of `drift`"),
    Column("drift_high", "share", "upper end of the 95 % interval of `drift`"),
    Column("tokens_per_second_cov", "share", "standard deviation / mean of output tokens in whole seconds"),
)

_MORE_LATENCY = (
    *(Column(f"{name}_n", "", f"how many values stand behind the {name} columns") for name in LATENCIES),
    *(
        Column(
            f"{s}_icl_ms", "ms", f"{s} inter-chunk latency: gap between chunks that carried tokens", "lower"
        )
        for s in ("mean", "median", "p99")
    ),
    Column("icl_n", "", "how many values stand behind the icl columns"),
    *(
        Column(
            f"{s}_ttfc_ms", "ms", f"{s} time to first chunk of any kind (the role chunk too), from the send"
        )
        for s in ("mean", "median", "p99")
    ),
    Column("ttfc_n", "", "how many values stand behind the ttfc columns"),
    Column("median_ttft_intended_ms", "ms", "median TTFT from the intended send (open loop)", "lower"),
    Column("p99_ttft_intended_ms", "ms", "p99 TTFT from the intended send (open loop)", "lower"),
    Column("mean_lateness_ms", "ms", "mean of sent - intended (open loop)"),
    Column("p99_lateness_ms", "ms", "p99 of sent - intended (open loop)"),
    Column("late_sends", "requests", "sent more than 10 ms after the intended time (open loop)"),
    Column("dropped_sends", "requests", "intended in the window and never sent (open loop)"),
    Column("zero_gap_share", "share", "gaps between chunks under 0.1 ms / all gaps between chunks"),
    Column("coalesced_share", "share", "token events that shared a stamp with another / all token events"),
)

_LENGTHS = (
    Column("isl_asked", "tokens", "mean text tokens sent as ids; absent where text was sent"),
    Column("osl_asked", "tokens", "mean output tokens asked for"),
    Column("isl_had", "tokens", "mean text tokens of the prompt as the server counted them"),
    Column("osl_had", "tokens", "mean output tokens as the server counted them"),
    Column("isl_off_share", "share", "completed requests whose prompt was not as long as asked"),
    Column("osl_off_share", "share", "completed requests whose output was not as long as asked"),
    Column(
        "cached_tokens",
        "tokens",
        "prompt tokens that the server said it had cached; absent where it does not say",
    ),
    Column(
        "client_output_tokens",
        "tokens",
        "output tokens of all requests of all phases, for the server's counters",
    ),
    Column("client_prompt_tokens", "tokens", "prompt tokens of all requests of all phases"),
    Column(
        "client_unsure_tokens",
        "tokens",
        "output tokens that failed requests may have had beyond those counted",
    ),
)

_ANSWERS = (
    Column(
        "usage_disagrees_share",
        "share",
        "completed requests whose token counts and text contradict each other",
    ),
    Column(
        "one_piece_share",
        "share",
        "completed requests whose answer came at once, of those long enough to tell",
    ),
    Column("unknown_text_share", "share", "completed requests with text under a name that is not known"),
    Column(
        "unknown_end_share",
        "share",
        "completed requests that were not told why they ended, or in a word that is not known",
    ),
    Column(
        "first_chunk_tokens",
        "tokens",
        "mean tokens of the first chunk with text: TPOT divides by all but one of them, and no gap stands for them",
    ),
)


CELLS: tuple[Column, ...] = (
    *_IDENTITY,
    *_LOAD,
    *_latency_columns(),
    *_VERDICT,
    *_WINDOW,
    *_MORE_LATENCY,
    *_LENGTHS,
    *_ANSWERS,
    *CLIENT,
    *SERVER,
    *PHYSICS,
    *PROVENANCE,
)

REQUESTS: tuple[Column, ...] = (
    Column("run_id", "", "the run"),
    Column("cell_id", "", "the cell"),
    Column("repeat", "", "the repeat"),
    Column("request_id", "", "unique within the cell and repeat"),
    Column("worker", "", "load worker"),
    Column("user", "", "closed-loop user; absent under open loop"),
    Column("turn", "", "index in its conversation, 0 for single-turn"),
    Column("phase", "", "when it began: 0 warm-up, 1 measured window, 2 tail (sent to keep the load full)"),
    Column("intended_ns", "ns", "planned send; equals sent_ns under closed loop"),
    Column("sent_ns", "ns", "read last before the first write of the first attempt; absent if never sent"),
    Column("first_chunk_ns", "ns", "first SSE event of any kind"),
    Column("first_token_ns", "ns", "first non-empty text, reasoning or tool delta"),
    Column("last_token_ns", "ns", "last token"),
    Column("end_ns", "ns", "last byte of the answer, or when the failure was known; absent if cut"),
    Column("isl_asked", "tokens", "prompt tokens sent as ids; absent where text was sent"),
    Column("osl_asked", "tokens", "output tokens asked for"),
    Column("prompt_tokens", "tokens", "usage.prompt_tokens"),
    Column("output_tokens", "tokens", "usage.completion_tokens, else counted token ids"),
    Column("image_tokens", "tokens", "from the usage details, else prompt_tokens - isl_asked"),
    Column("cached_tokens", "tokens", "usage.prompt_tokens_details.cached_tokens"),
    Column("images", "", "images sent"),
    Column("chunks", "", "SSE events that carried tokens"),
    Column("zero_gaps", "", "gaps between chunks of less than 0.1 ms"),
    Column("coalesced", "", "token events that shared a stamp with another"),
    Column("http_status", "", "HTTP status"),
    Column("failure", "", "failure class; absent for a completed request, and for one that was cut"),
    Column(
        "resent",
        "",
        "sent twice, since a kept connection ended so before its answer: reset, closed, unread; else absent",
    ),
    Column("error", "", "message of a failed request, cut to 500 characters"),
    Column("first_tokens", "tokens", "tokens in the first event that carried some; 0 where nobody told"),
    Column(
        "doubts",
        "",
        "what contradicts the row, joined by `;`: usage (counts and text), one_piece (came at once), unknown_text, "
        "end (not told why it ended)",
    ),
    Column("discarded", "", "true for a first repeat after a load that judgement leaves out"),
)

_BETTER = {column.name: column.better for column in CELLS}


def better(name: str) -> Better | None:
    """Which way the column is better: `higher`, `lower`, or None when it is no result."""
    return _BETTER.get(name)


def columns_page() -> str:
    """docs/results.md as text."""
    return "\n".join(
        [_INTRODUCTION, "## cells", "", *_table(CELLS), "", "## requests", "", *_table(REQUESTS), ""]
    )


def _table(columns: tuple[Column, ...]) -> list[str]:
    rows = [f"| `{c.name}` | {c.unit} | {c.meaning} | {c.better or ''} |" for c in columns]
    return ["| Column | Unit | Meaning | Better |", "|---|---|---|---|", *rows]


_INTRODUCTION = """# Columns of the result tables

Made by `scripts/generate-docs` from `src/rocbench/columns.py`.

`cells` has one row per cell and repeat, `requests` one per request. A value that is absent was not measured or
does not exist; it is never zero. Stamps are nanoseconds of CLOCK_REALTIME.

In CSV files a text that a spreadsheet would take for a formula has an apostrophe in front, and a control character stands
as `<U+001B>`; numbers are as they are. What reads `cells.csv` here undoes both; `cells.parquet` holds texts as they were.

Throughput counts tokens whose stamps lie in the measured window, whenever their request began. Latencies are of
completed requests that began in it. The names follow `vllm bench serve`; TPOT and ITL are as vLLM defines them
(`vllm/benchmarks/serve.py`, `calculate_metrics`), which is not how AIPerf and GuideLLM use the words: what they
call ITL is our TPOT. Where the first chunk holds many tokens, TPOT is lower than the time between tokens, and the row
says so (`first_chunk_of_many`). Where a chunk holds several tokens, ITL weighs by tokens and ICL keeps vLLM's gaps of chunks.
"""
