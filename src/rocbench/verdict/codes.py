"""The reason codes of a verdict: docs/verdicts.md is made from this table. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rocbench.verdict import checks
from rocbench.verdict.checks import Check

Effect = Literal["voids", "informs", "unknown"]


@dataclass(frozen=True, slots=True)
class Code:
    """One reason: what it means, when it is given, what to do, and what it does to the row."""

    id: str
    effect: Effect
    needed: bool
    """Whether `valid = true` needs this check made."""
    meaning: str
    threshold: str
    action: str
    check: Check


SPOILED = frozenset(
    {"client_saturated", "clock_stepped", "server_starved", "simulator_late", "stamps_coalesced"}
)
"""What the measuring machine did to a row: another attempt may be free of it."""
SERVER_FAULTS = frozenset(
    {
        "error_rate",
        "health_failed",
        "requests_resent",
        "server_changed",
        "server_failed",
        "server_unresponsive",
    }
)
"""What the server did: another attempt may only be luckier."""

CODES: tuple[Code, ...] = (
    Code(
        "no_measurement",
        "voids",
        True,
        "no measured window, or no completed request in it",
        "window never began, or completed = 0",
        "read `failures` and the server's log; raise `max_duration_s` when warm-up did not end",
        checks.no_measurement,
    ),
    Code(
        "interrupted",
        "voids",
        True,
        "the window was cut off by Ctrl-C, a signal or the job's end",
        "window_ended_by = interrupted",
        "`bench sweep --resume`",
        checks.ended_by("interrupted"),
    ),
    Code(
        "server_failed",
        "voids",
        False,
        "the server failed to start or answer; the code of a known cause stands beside this one",
        "no cell could be measured on it",
        "read failure_message and servers/<id>/server.log",
        checks.mark("server_failed"),
    ),
    Code(
        "load_failed",
        "voids",
        False,
        "a worker of the load generator died or hung, and was ended; the cell has no figures",
        "a worker's process ended, or stood still for 30 s",
        "read failure_message; look for memory that ran out (dmesg), then `bench sweep --resume`",
        checks.mark("load_failed"),
    ),
    Code(
        "server_changed",
        "voids",
        True,
        "the server's process ended, or another server answered at the end of the cell",
        "window_ended_by = server_died; a later start time in its metrics, or token counters that begin anew once; another"
        " version, model or max_model_len than it told at first (`server_changes`)",
        "read servers/<id>/server.log, or ask who runs the server; `bench sweep --resume` measures the cell again",
        checks.server_changed,
    ),
    Code(
        "counters_fell",
        "unknown",
        False,
        "counters of the server went down within the cell, which those of one process never do: no figure is taken from"
        " its counters",
        "`counters_fell` names one or more",
        "look for a restart, or for several servers behind this URL: measure at the URL of one",
        checks.counters_fell,
    ),
    Code(
        "server_unresponsive",
        "voids",
        False,
        "the server stopped answering in the cell; nothing shows that its process ended",
        "window_ended_by = server_unresponsive: no connection for 5 s, or 10 failed health checks in a row, and nothing"
        " completed meanwhile",
        "read the server's log, and look at what stands between it and the client",
        checks.ended_by("server_unresponsive"),
    ),
    Code(
        "request_refused",
        "voids",
        False,
        "the server lives and refused what the cell asks of it; its own words are in failure_message",
        "the first request of the cell was refused, or the cell is longer than the server's max_model_len",
        "do what failure_message says",
        checks.mark("request_refused"),
    ),
    Code(
        "health_failed",
        "voids",
        False,
        "the server's health check failed in the cell",
        "health_failures > 0",
        "read servers/<id>/server.log",
        checks.health_failed,
    ),
    Code(
        "concurrency_not_delivered",
        "voids",
        True,
        "not as many requests were in flight as asked for (closed loop)",
        f"|achieved_concurrency / concurrency - 1| > {checks.DELIVERED:.0%}",
        "read `failures`, `client_*` and `open_file_limit`; calibrate the client; add workers or load hosts; if requests"
        " take only a few ms, ask for longer answers: a user needs about 1 ms between two requests",
        checks.concurrency_not_delivered,
    ),
    Code(
        "too_few_requests",
        "voids",
        True,
        "too few requests a user: ramp and chance weigh as much as the level (closed loop)",
        f"requests_per_user < {checks.PER_USER:g}",
        "raise `max_duration_s`; leave out `max_requests`",
        checks.too_few_requests,
    ),
    Code(
        "max_duration_reached",
        "informs",
        False,
        "the window was capped before it had what was asked of it",
        "window_ended_by = max_duration",
        "raise `max_duration_s`",
        checks.ended_by("max_duration"),
    ),
    Code(
        "count_bound",
        "informs",
        False,
        "the load ended after a number of requests: its tail ran on an emptying server",
        "window_ended_by = count",
        "bound by duration (leave out `max_requests`)",
        checks.ended_by("count"),
    ),
    Code(
        "error_rate",
        "voids",
        True,
        "too many requests failed",
        f"failed / (completed + failed) > {checks.ERROR_RATE:.0%}",
        "read `failures`, and `error` in requests.parquet",
        checks.error_rate,
    ),
    Code(
        "requests_resent",
        "voids",
        False,
        "the server lost too many requests on kept connections, and they were sent again",
        "resent_after_reset + resent_after_close > 0, and with `failed` they are "
        f"> {checks.ERROR_RATE:.0%} of all requests and resends",
        "read the log of the server and of what stands before it: who resets or closes connections, and why",
        checks.requests_resent,
    ),
    Code(
        "overloaded",
        "voids",
        False,
        "arrivals exceed what the server serves: the queue grows, and latencies with it, for as long as the load lasts",
        "open loop, never empty in the second half; backlog_slope_per_s / arrival_rate and unserved_share both above"
        f" {checks.NOISES:g} x arrival_noise_share and {checks.GROWS:.0%}, and latency_slope above half of the former",
        "lower the rate, or give the server more capacity",
        checks.overloaded,
    ),
    Code(
        "backlog_unsure",
        "unknown",
        False,
        "it cannot be told whether arrivals exceed what the server serves",
        f"open loop, idle_share < {checks.IDLE:.0%}: unserved_share > {checks.UNSERVED:.0%}; or a small growth of the queue"
        " and of latency above twice arrival_noise_share; or, where latency_slope >"
        f" {checks.GROWS / 2:.0%}, unserved_share > {checks.GROWS:.0%} with more in flight at the end or"
        f" arrival_noise_share > {checks.NOISY:.0%}",
        "measure longer (`duration_s`): chance averages out, a queue that grows does not",
        checks.backlog_unsure,
    ),
    Code(
        "unfinished_requests",
        "voids",
        False,
        "requests of the window never ended: latencies are of those that did, and so too low",
        f"unfinished > {checks.ERROR_RATE:.0%} of the requests that began in the window",
        "lower the rate, or raise `max_tail_s` and `max_drain_s`",
        checks.unfinished,
    ),
    Code(
        "few_requests_rate_bias",
        "unknown",
        False,
        "so few requests of so unlike lengths that a rate of requests reads too high (closed loop)",
        f"rate_bias_share > {checks.RATE_BIAS:.0%}",
        "measure longer (`duration_s`)",
        checks.rate_biased,
    ),
    Code(
        "few_requests_token_rate",
        "unknown",
        False,
        "so few requests, with tokens in bursts, that tokens/s depends on where the window begins and ends (closed loop)",
        f"token_rate_gap_share beyond {checks.TOKEN_RATE_GAP:.0%} either way",
        "measure longer (`duration_s`); request_throughput times the output length is the better figure",
        checks.token_rate_unsure,
    ),
    Code(
        "wrong_input_length",
        "voids",
        True,
        "prompts were not as long as asked",
        f"token ids: more than {checks.OFF_SHARE:.0%} of requests differ; text: mean off by 5 %, and"
        f" {checks.TEMPLATE_TOKENS} tokens for the chat template",
        "give the right `--tokenizer` or `--vocab-size`; see isl_had",
        checks.wrong_input_length,
    ),
    Code(
        "wrong_output_length",
        "voids",
        True,
        "answers were not as long as asked (with ignore_eos)",
        f"more than {checks.OFF_SHARE:.0%} of completed requests differ",
        "see osl_had; the server may not know `ignore_eos` and `min_tokens`",
        checks.wrong_output_length,
    ),
    Code(
        "natural_lengths",
        "informs",
        False,
        "the model decided how long its answers are: throughput and latency vary with them (no ignore_eos)",
        f"more than {checks.OFF_SHARE:.0%} of completed requests ended before the limit",
        "compare at equal osl_had only; set `ignore_eos` for exact lengths",
        checks.natural_lengths,
    ),
    Code(
        "client_saturated",
        "voids",
        True,
        "the load generator may have measured itself",
        f"a worker busy or waiting for a CPU > {checks.BUSY:.0%}; a pause > {checks.PAUSE_MS['wire']:g} ms (wire) or"
        f" {checks.PAUSE_MS['aiohttp']:g} ms (aiohttp), or > 50 ms with users not delivered; above the calibrated"
        " ceiling",
        "`bench calibrate`; pin with `--client-cpus`; add workers or load hosts",
        checks.client_saturated,
    ),
    Code(
        "open_file_limit",
        "voids",
        False,
        "a load worker may not open as many files as it has users",
        "open_file_limit < users of a worker + 32",
        "`ulimit -Hn`, or LimitNOFILE of the service; more workers",
        checks.open_file_limit,
    ),
    Code(
        "clock_stepped",
        "voids",
        True,
        "the clock was set during the run: stamps before and after do not compare",
        f"clock_step_ms > {checks.CLOCK_STEP_MS:g}",
        "let NTP settle before the run",
        checks.clock_stepped,
    ),
    Code(
        "stamps_coalesced",
        "voids",
        True,
        "token events were read together under one stamp: ITL is not what the server did",
        f"coalesced_share > {checks.COALESCED:.0%}",
        "as client_saturated; an attached server on the same CPUs: start it in the client's shell session",
        checks.stamps_coalesced,
    ),
    Code(
        "late_sends",
        "voids",
        True,
        "requests went out late or not at all (open loop)",
        f"dropped_sends > {checks.LATE_SHARE:.0%} of the intended requests; or late_sends with them, and mean_lateness_ms >"
        f" {checks.LATE_HARM:.0%} of the mean gap between sends, or of median_ttft_ms",
        "lower the rate, raise `max_in_flight`, or add workers",
        checks.late_sends,
    ),
    Code(
        "littles_law",
        "voids",
        False,
        "rate, latency and concurrency do not fit together",
        f"|littles_law_ratio - 1| > {checks.LITTLE:.0%}, or what the window's edges explain when that is more",
        "the queue grows (open loop above capacity), or the figures are of different windows",
        checks.littles_law,
    ),
    Code(
        "not_steady",
        "voids",
        False,
        "throughput moved within the window (open loop: by more than its arrivals explain)",
        f"the 95 % interval of `drift` lies beyond +-{checks.DRIFT:.0%}",
        "measure longer; look for throttling, caches that fill, or a queue that grows",
        checks.not_steady,
    ),
    Code(
        "prefix_cache_hits",
        "voids",
        True,
        "prompts were found in the prefix cache or an offload tier: their prefill was not computed",
        "prefix_cache_hits + external_prefix_cache_hits > what was asked for + "
        f"{checks.COUNTERS:.1%} of prompt tokens (a preempted request's own blocks aside)",
        "other clients on this server? else reset the cache, or `--no-enable-prefix-caching`",
        checks.prefix_cache_hits,
    ),
    Code(
        "token_count_disagrees",
        "voids",
        True,
        "the server counted other tokens than the client",
        f"difference > {checks.COUNTERS:.1%} + what failed requests may have had",
        "other clients on this server? else read `errors` in requests.parquet",
        checks.token_count_disagrees,
    ),
    Code(
        "usage_disagrees",
        "unknown",
        False,
        "token counts and text of answers contradict each other: fewer tokens than pieces of text, counts that fall, "
        "stand still or leap, or are no counts",
        f"usage_disagrees_share > {checks.DOUBTED:.0%}",
        "see `doubts` in requests.parquet; compare with the model server's own URL if a relay stands before it",
        checks.above("usage_disagrees_share", checks.DOUBTED),
    ),
    Code(
        "first_chunk_of_many",
        "unknown",
        False,
        "the first chunk held many tokens: TPOT, which divides by them, is lower than the time between tokens; "
        "ITL is not",
        f"(first_chunk_tokens - 1) / (osl_had - 1) > {checks.FIRST_CHUNK:.0%}",
        "read ITL in place of TPOT; look for what holds back first tokens (a relay, the server's flush)",
        checks.first_chunk_of_many,
    ),
    Code(
        "not_streamed",
        "voids",
        False,
        "answers came in one piece: TTFT is E2EL, and there is no TPOT",
        f"one_piece_share > {checks.IN_ONE_PIECE:.0%}; not told: median_tpot_ms = 0, or TTFT is E2EL",
        "give the model server's own URL, or let the relay before it pass the stream on unbuffered",
        checks.not_streamed,
    ),
    Code(
        "unknown_text",
        "unknown",
        False,
        "text came under a name that is not known: TTFT and E2EL may be of other tokens than the first and the last",
        f"unknown_text_share > {checks.DOUBTED:.0%}",
        "look at the answer's events with `curl -N`; report the name",
        checks.above("unknown_text_share", checks.DOUBTED),
    ),
    Code(
        "unknown_end",
        "unknown",
        False,
        "it was not told why answers ended, or in a word that is not known: they may not be complete",
        f"unknown_end_share > {checks.DOUBTED:.0%} (an answer as long as asked is complete whatever it says)",
        "look at `finish_reason` with `curl -N`; set `ignore_eos` for exact lengths",
        checks.above("unknown_end_share", checks.DOUBTED),
    ),
    Code(
        "server_latency_disagrees",
        "unknown",
        False,
        "the client's TTFT, TPOT or E2EL is not what the server's own histograms say of the same requests",
        f"matched TTFT or E2EL later than the server's by {checks.FROM_SERVER_MS:g} ms + {checks.FROM_SERVER:.0%} + "
        f"server_answer_ms, or earlier by {checks.BEFORE_SERVER_MS:g} ms + {checks.BEFORE_SERVER:.0%}; TPOT off by "
        f"{checks.TPOT_OFF_MS:g} ms + {checks.TPOT_OFF:.0%}",
        "look for what stands between (a relay that buffers, a busy API process); measure at the server's own URL",
        checks.server_latency_disagrees,
    ),
    Code(
        "metrics_gone",
        "unknown",
        False,
        "the server's metrics endpoint went away, so that its counters prove nothing",
        "metrics_lost",
        "read servers/<id>/server.log",
        checks.mark("metrics_lost"),
    ),
    Code(
        "server_differs_from_plan",
        "voids",
        True,
        "the running server is not the planned one",
        "proof after start found a difference (plan_differences)",
        "read servers/<id>/resolved.json; `bench explain MODEL`",
        checks.server_differs,
    ),
    Code(
        "server_starved",
        "voids",
        False,
        "the server waited for a CPU that others had, or that its CPU quota held back: its figures are the machine's",
        f"server_cpu_wait_share > {checks.STARVED:.0%}",
        "end other work on the server's CPUs, or pin it elsewhere; keep the client off them with `--client-cpus`; raise"
        " the container's CPU quota",
        checks.server_starved,
    ),
    Code(
        "simulator_late",
        "voids",
        True,
        "the simulated server could not keep its own schedule",
        f"simulator_late_share > {checks.LATE_SHARE:.0%} of steps",
        "fewer users, or a machine with more free cores",
        checks.simulator_late,
    ),
    Code(
        "jit_in_window",
        "voids",
        False,
        "the server built kernels inside the window",
        "jit_lines > 0",
        "run again: builds are cached; mount the caches in containers",
        checks.positive("jit_lines"),
    ),
    Code(
        "compile_in_window",
        "voids",
        False,
        "the server compiled or captured graphs inside the window",
        "compile_lines > 0",
        "run again, or lengthen the warm-up",
        checks.positive("compile_lines"),
    ),
    Code(
        "above_hardware_limit",
        "voids",
        False,
        "the figure is above what the hardware can do",
        "roofline_share > 100 %",
        "tokens were not computed (prefix cache, early stop), or the hardware is not the one stated",
        checks.above_hardware_limit,
    ),
    Code(
        "shape_unsure",
        "unknown",
        False,
        "the figure is above a limit that follows from a model shape which is not fully understood",
        "roofline_share > 100 % and shape_doubts",
        "complete the profile: `shape_doubts` names each field",
        checks.shape_unsure,
    ),
    Code(
        "gpu_shared",
        "voids",
        False,
        "other processes used the server's GPUs",
        "gpu_shared",
        "`bench doctor` names them",
        checks.on_gpu("gpu_shared"),
    ),
    Code(
        "power_above_cap",
        "unknown",
        False,
        "the GPUs' power is above what their sockets can draw: it was counted wrongly, or the cap is another",
        f"mean_power_w > power_cap_w + {checks.POWER_SLACK:.0%}",
        "see power_note and gpu_sockets; compare `amd-smi list` and `amd-smi static --limit`",
        checks.power_above_cap,
    ),
    Code(
        "power_disagrees",
        "unknown",
        False,
        "the energy accumulator and the power readings contradict each other",
        f"|energy_disagreement| > {checks.POWER_APART:.0%}",
        "take neither for true: compare `amd-smi metric --power --energy` over a minute of steady load",
        checks.power_disagrees,
    ),
    Code(
        "throttled",
        "informs",
        False,
        "a GPU throttled in the window",
        "throttled",
        "see hottest_c and mean_power_w; check cooling and the power cap",
        checks.on_gpu("throttled"),
    ),
    Code(
        "server_stalled",
        "informs",
        False,
        "the server stood still: no stream had a token for a time that no percentile shows",
        "longest_silence_ms > stall_limit_ms, and more than twice client_longest_pause_ms",
        "see stalled_share and the server's log at that time; the figures hold for a server that stalls so",
        checks.server_stalled,
    ),
    Code(
        "coordinated_omission",
        "informs",
        False,
        "the closed loop hides stalls: while nobody was answered nobody asked",
        f"stalled_share > 0 and p99_ttft_by_clock_ms > {checks.OMITTED:g} x p99_ttft_ms",
        "take p99_ttft_by_clock_ms for users who come by the clock, or measure under open loop",
        checks.coordinated_omission,
    ),
    Code(
        "server_frontend_saturated",
        "informs",
        False,
        "the API server's process was the limit, not the GPU",
        f"server_frontend_cpu_share > {checks.BUSY:.0%}",
        "`--api-server-count` above 1",
        checks.frontend_saturated,
    ),
    Code(
        "queued_at_server",
        "informs",
        False,
        "the server ran fewer requests than were in flight; the rest queued",
        "server_running_max < 90 % and server_waiting_median > 5 % of concurrency",
        "`--max-num-seqs`, or KV capacity: see server_kv_usage_max",
        checks.queued,
    ),
    Code(
        "preempted",
        "informs",
        False,
        "the server ran out of KV cache and computed requests again",
        "preemptions > 0",
        "fewer users, shorter requests, or more KV capacity",
        checks.positive("preemptions"),
    ),
    Code(
        "few_samples_p99",
        "informs",
        False,
        "too few requests for a p99 that means something",
        f"completed < {checks.P99_SAMPLES} (least n with a distribution-free 95 % interval)",
        "measure longer",
        checks.few_samples,
    ),
    Code(
        "forced_rules",
        "informs",
        False,
        "a rule that refuses this configuration was overridden",
        "--force",
        "`bench explain MODEL` says what the rule guards against",
        checks.mark("forced_rules"),
    ),
    Code(
        "imported",
        "informs",
        False,
        "the row was measured by another tool",
        "`bench import`",
        "it can be voided but hardly proved: most checks lack their data",
        checks.mark("imported"),
    ),
)

VOIDING = frozenset(code.id for code in CODES if code.effect == "voids")
INFORMING = frozenset(code.id for code in CODES if code.effect == "informs")
"""Codes that say something of a row, and nothing against it."""


def meaning(code: str) -> str:
    """What a code means, for tables and reports; the code itself when it is not known (an older or newer run)."""
    return next((c.meaning for c in CODES if c.id == code), code)


def codes_page() -> str:
    """docs/verdicts.md as text."""
    rows = [
        " | ".join(("", f"`{c.id}`", c.effect, "yes" if c.needed else "", *map(_cell, texts), "")).strip()
        for c in CODES
        for texts in [(c.meaning, c.threshold, c.action)]
    ]
    table = [
        "| Code | Effect | Needed for true | Meaning | Given when | What to do |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([_INTRODUCTION, *table, *rows, ""])


def _cell(text: str) -> str:
    """A bar would end the cell."""
    return text.replace("|", "\\|")


_INTRODUCTION = """# Verdicts

Made by `scripts/generate-docs` from the table in `src/rocbench/verdict/codes.py`; thresholds are in `checks.py`.

Every row of `cells` carries its doubt:

* `valid` is **false** when a code that *voids* fired: the figure is not what its columns say.
* `valid` is **unknown** (absent) when none did, but a check that `true` needs could not be made, or a code with the
  effect *unknown* fired. A server without `/metrics`, for example, cannot prove that no prompt was cached.
* `valid` is **true** otherwise.

`reasons` lists the codes that fired, those that void first. Codes that *inform* do not change `valid`: the figure is
true, and this is to be known about it. `unknown_checks` lists every check that could not be made, needed or not.
Beside `server_failed` stands the code of the cause where its log tells one: `aiter_mla_heads`, `kv_cache_too_small`,
`gpu_fault`, `engine_core_init` and the others of [faults.md](faults.md).
A check without meaning for a row (late sends under closed loop, the simulator's lateness on a real server) is not
counted. That a row is simulated is no doubt about it but what it is: the column `simulated` says so.
"""
