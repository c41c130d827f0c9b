"""Every column of `cells` and `requests`, in order. docs/results.md is generated from it. Pure."""

from __future__ import annotations

from rocbench.column import Better, Column, defined

LATENCIES = {
    "ttft": "time to first token: from the send to the first non-empty text, reasoning or tool delta",
    "tpot": "time per output token: (E2EL - TTFT) / (output tokens - 1), of requests with more than one token",
    "itl": "inter-token latency, weighted by tokens: the gap before a chunk of several tokens is divided among them",
    "e2el": "end-to-end latency: from the send to the last token",
}
STATISTICS = ("mean", "median", "p90", "p95", "p99")

_LOAD = defined("""
run_id                      text               run
cell_id                     text               hash of everything that defines the cell; equal in every run of the same cell
repeat                      number             repeat of the cell, from 1
model                       text               model profile
family                      text               attention: mla_dense, mla_sparse, mla_compressed, gqa, mha, mqa, hybrid
precision                   text               precision of the weights at run time: bf16, fp8, int4, mxfp4
tp                          number             tensor-parallel size
aiter                       text               AITER: on, off, or its parts
vllm_version                text               vLLM version that the server reported, else the planned one
hardware                    text               hardware profile
server_kind                 text               simulated, process, container, attached, predicted, imported
simulated                   bool               true if the simulated server answered: no GPU was measured
workload                    text               workload profile
isl                         tokens             text tokens of the prompt according to the workload (mean)
osl                         tokens             output tokens according to the workload (mean)
images                      number             images per request
concurrency                 requests           requested users (closed loop); absent under open loop

achieved_concurrency        requests           time-weighted mean of requests in flight in the window
duration_s                  s                  length of the measured window
completed                   requests           requests that began in the window and completed
failed                      requests           requests that began in the window and failed
success_rate                share higher       completed / (completed + failed)
request_throughput          requests/s higher  completed requests per second. Closed loop: users in flight / mean time in flight
                                               of the requests that began in the window (Little's law); if the workload's mean
                                               length is known, that time is adjusted to it. Open loop, or if users are missing:
                                               requests that ended in the window / its length
output_throughput           tokens/s higher    output tokens with timestamps in the window, per second: the main result
input_throughput            tokens/s           text prompt tokens of requests whose first token is in the window, per second
total_token_throughput      tokens/s           output + input + image tokens per second
output_throughput_per_gpu   tokens/s higher    output_throughput / GPUs that the server uses
""")

_LATENCY = tuple(
    Column(f"{statistic}_{name}_ms", "number", "ms", f"{statistic} of {meaning}", "lower")
    for name, meaning in LATENCIES.items()
    for statistic in STATISTICS
)

_WINDOW = defined("""
valid                       bool               true, false, or absent if unknown: see docs/verdicts.md
reasons                     text               reason codes, joined by `;`: first those that void the row, then those that make it unknown,
                                               then those that inform
failures                    json               JSON: number of requests by failure class, of those that began in the window
load_notes                  json               JSON list of the load generator's notes, for example on parameters that the server
                                               refused or on requests that were cut
unknown_checks              text               checks that could not be made, joined by `;`

peak_concurrency            requests           maximum requests in flight in the window
window_ended_by             text               duration, requests, count, max_duration, interrupted, server_died, server_unresponsive,
                                               never_began
unfinished                  requests           requests that began in the window and were cut when the load ended; no latency
                                               column includes them
resent_after_reset          requests           requests that began in the window and were sent again, because their keep-alive
                                               connection was reset before the first byte of the answer
resent_after_close          requests           requests that began in the window and were sent again, because their keep-alive
                                               connection was closed before the first byte of the answer
resent_unread               requests           requests that began in the window and were sent again, because the server had
                                               closed their keep-alive connection before the requests arrived
requests_sent               requests           requests sent in all phases, including answered probes; a request sent again counts
                                               twice, unless the server did not read the first attempt
requests_per_user           requests           requests that began in the window / requested concurrency
littles_law_ratio           number             requests ended (open loop: arrived) per second x mean time in flight / achieved concurrency
rate_bias_share             share              estimate of the share by which request_throughput may be too high, because there
                                               are few requests of different lengths (closed loop)
token_rate_gap_share        share              output_throughput / (request_throughput x output length) - 1: how much the window's
                                               edges may change output_throughput (closed loop)
arrival_rate                requests/s         requested rate; for a trace, the rate of its arrivals (open loop)
backlog_slope_per_s         requests/s         growth of the number of requests in flight per second, least squares over the window (open loop)
backlog_slope_low_per_s     requests/s         lower end of the 95 % interval of backlog_slope_per_s, from the randomness of the
                                               arrivals
backlog_slope_high_per_s    requests/s         upper end of the 95 % interval of backlog_slope_per_s, from the randomness of the
                                               arrivals
unserved_share              share              1 - output tokens in the window / tokens offered at the requested rate (open loop);
                                               can be below 0 if few requests arrived
arrival_noise_share         share              standard deviation, from chance alone, of the backlog's growth during the window
                                               / requests offered in the window (open loop)
latency_slope               s/s                growth of the latency of a mean-length request, per second of intended send time
                                               (open loop)
idle_share                  share              share of the window's second half without requests in flight (open loop)
longest_silence_ms          ms                 longest time in the window with a request in flight and no token in any stream
stall_limit_ms              ms                 maximum silence of a healthy server: the largest of 1 s, 3 x the median TTFT scaled to the longest
                                               prompt, 5 x the median gap between chunks
stalled_share               share              share of the window in silences longer than stall_limit_ms
p99_ttft_by_clock_ms        ms                 p99 TTFT that the same requests would have if they were sent on a schedule, also
                                               during stalls (closed loop)
image_token_throughput      tokens/s           image tokens of requests whose first token is in the window, per second
goodput                     requests/s higher  request_throughput x share of completed requests that met every limit of the SLO
goodput_share               share higher       requests that met every limit / (completed + failed)
drift                       share              (output tokens/s of the window's second half - first half) / mean; open loop: without the change
                                               that the arrivals explain
drift_low                   share              lower end of the 95 % interval of `drift`
drift_high                  share              upper end of the 95 % interval of `drift`
tokens_per_second_cov       share              standard deviation / mean of output tokens in whole seconds
output_throughput_low       tokens/s           lower end of the 95 % interval of output_throughput from within the window; repeats differ
                                               by at least as much. Absent if the output changes too slowly for the window's length
output_throughput_high      tokens/s           upper end of that interval
p99_ttft_low_ms             ms                 lower end of the 95 % interval of p99_ttft_ms from within the window; repeats differ by at
                                               least as much. Absent below 368 requests
p99_ttft_high_ms            ms                 upper end of that interval; absent if the window holds fewer than 368 independent requests,
                                               because then it may have missed the p99
p99_tpot_low_ms             ms                 lower end of the 95 % interval of p99_tpot_ms from within the window, as p99_ttft_low_ms
p99_tpot_high_ms            ms                 upper end of that interval, as p99_ttft_high_ms
p99_e2el_low_ms             ms                 lower end of the 95 % interval of p99_e2el_ms from within the window, as p99_ttft_low_ms
p99_e2el_high_ms            ms                 upper end of that interval, as p99_ttft_high_ms

ttft_n                      number             number of values in the ttft columns
tpot_n                      number             number of values in the tpot columns
itl_n                       number             number of values in the itl columns (tokens)
e2el_n                      number             number of values in the e2el columns
mean_icl_ms                 ms lower           mean inter-chunk latency: gap between chunks with tokens
median_icl_ms               ms lower           median inter-chunk latency: gap between chunks with tokens
p99_icl_ms                  ms lower           p99 inter-chunk latency: gap between chunks with tokens
icl_n                       number             number of values in the icl columns (gaps)
mean_ttfc_ms                ms                 mean time to first chunk of any kind, such as the role chunk, from the send
median_ttfc_ms              ms                 median time to first chunk of any kind, such as the role chunk, from the send
p99_ttfc_ms                 ms                 p99 time to first chunk of any kind, such as the role chunk, from the send
ttfc_n                      number             number of values in the ttfc columns
median_ttft_intended_ms     ms lower           median TTFT from the intended send (open loop)
p99_ttft_intended_ms        ms lower           p99 TTFT from the intended send (open loop)
mean_lateness_ms            ms                 mean of sent - intended (open loop)
p99_lateness_ms             ms                 p99 of sent - intended (open loop)
late_sends                  requests           requests sent more than 10 ms after the intended time (open loop)
dropped_sends               requests           requests intended in the window and never sent (open loop)
zero_gap_share              share              gaps between chunks under 0.1 ms / all gaps between chunks
coalesced_share             share              token events that share a timestamp with another token event / all token events

isl_asked                   tokens             mean text tokens of prompts sent as token ids; absent if text was sent
osl_asked                   tokens             mean requested output tokens
isl_had                     tokens             mean text tokens of the prompt, counted by the server
osl_had                     tokens             mean output tokens, counted by the server
isl_off_share               share              share of completed requests whose prompt did not have the requested length
osl_off_share               share              share of completed requests whose output did not have the requested length
cached_tokens               tokens             prompt tokens that the server reported as cached; absent if it does not report them
client_output_tokens        tokens             output tokens of all requests of all phases, to compare with the server's counters
client_prompt_tokens        tokens             prompt tokens of all requests of all phases
client_unsure_tokens        tokens             uncounted output tokens that the server may have sent to failed and cut requests

usage_disagrees_share       share              share of completed requests whose token counts and text contradict each other
one_piece_share             share              share of completed requests whose answer came in one piece; only answers long
                                               enough to tell are counted
unknown_text_share          share              share of completed requests with text under an unknown field name
unknown_end_share           share              share of completed requests without a finish reason, or with an unknown one
first_chunk_tokens          tokens             mean tokens in the first chunk with text; TPOT counts all but one of these tokens,
                                               although no time passes between them
""")

_CLIENT = defined("""
transport                   text               wire (timestamps from the kernel) or aiohttp (timestamps in user space)
client_workers              number             load worker processes
load_hosts                  text               hosts that the load came from, joined by `;`, if several were used
load_hosts_clock_ms         text               how far the clock of each load host is ahead of the clock of the host that controls
                                               the load, in ms, joined by `;`
load_hosts_clock_bound_ms   ms                 maximum error of load_hosts_clock_ms; the window's edges on the load hosts have
                                               the same maximum error
client_cpu_share_max        share              CPU time / wall time of the busiest worker
client_busy_share_max       share              (CPU time + time waiting for a CPU) / wall time of the worst worker
client_cpu_us_per_token     us                 CPU time of all workers / tokens they read
client_longest_pause_ms     ms                 longest time in which a worker neither read nor sent data
connections_opened          number             connections opened in the window
idle_closes                 number             keep-alive connections that the server closed while they were idle, counted in the
                                               window
clock_step_ms               ms                 largest jump of the realtime clock against the monotonic clock during the run
open_file_limit             number             open-file limit of a load worker
calibrated_tokens_per_s     tokens/s           maximum token rate of this client machine, from `bench calibrate`
calibrated_users            number             maximum number of users at which timestamps of this client machine are accurate,
                                               from `bench calibrate`
""")

_SERVER = defined("""
server_running_max          requests           maximum of running requests, from the server's gauge
server_waiting_max          requests           maximum of queued requests, from the server's gauge
server_waiting_median       requests           median of queued requests, from the server's gauge
server_kv_usage_max         share              maximum KV cache usage, from the server's gauge
server_output_tokens        tokens             output tokens from the server's counter, all phases of the cell
server_prompt_tokens        tokens             prompt tokens from the server's counter, all phases of the cell
prefix_cache_hits           tokens             prompt tokens found in the prefix cache, from the server's counter
prefix_cache_hits_expected  tokens             hits that the workload's shared prefix explains; 0 without a shared prefix
prefix_cache_queries        tokens             prompt tokens looked up in the prefix cache, from the server's counter
external_prefix_cache_hits  tokens             prompt tokens found in an offload tier, from the server's counter
preemptions                 number             preempted requests, from the server's counter
spec_acceptance             share              accepted / drafted speculative tokens
server_frontend_cpu_share   share              CPU share of the server's busiest API process
server_engine_cpu_share     share              CPU share of the server's busiest engine process
server_worker_cpu_share     share              CPU share of the server's busiest worker process
server_cpu_wait_share       share              time that the server's longest-waiting thread waited for a CPU / window length
server_mean_ttft_ms         ms                 mean TTFT from the server's histogram, all phases
server_median_ttft_low_ms   ms                 lower bound of the histogram bucket that contains the server's median TTFT
server_median_ttft_high_ms  ms                 upper bound of that bucket
matched_requests            requests           requests whose first token came between two readings of the server's metrics, if
                                               the client and the server count the same number of them
matched_ttft_ms             ms                 mean TTFT of the matched requests, from the client
matched_server_ttft_ms      ms                 mean TTFT of the matched requests, from the server's histogram
matched_tpot_ms             ms                 mean TPOT of the matched requests, from the client
matched_server_tpot_ms      ms                 mean TPOT of the matched requests, from the server's histogram. If the server has
                                               only a histogram of the gaps between steps: mean gap (matched_tpot_ms is then the
                                               time per token or per chunk, whichever is nearer)
matched_e2el_ms             ms                 mean E2EL of the matched requests, from the client
matched_server_e2el_ms      ms                 mean E2EL of the matched requests, from the server's histogram
server_answer_ms            ms                 shortest time to read the server's metrics: an upper bound of the network round
                                               trip
health_failures             number             failed health checks in the window
health_checks               number             health check requests sent in the window
health_unanswered           number             health checks without an answer while tokens arrived: not counted as failures
health_check_ms             ms                 median time of the health check requests
server_restarted            bool               true if the server's process ended, or another server answered at the cell's end; absent if unknown
server_changes              text               signs that another server answered
counters_fell               text               the server's counters that decreased within the cell, joined by `;`; empty if no counter decreased;
                                               absent if there are no readings
metrics_lost                bool               true if the server's metrics endpoint stopped answering in the cell
metrics_failed              number             failed readings of the server's metrics in the cell
metrics_note                text               error of the last failed reading
jit_lines                   number             kernel builds (AITER, Triton) in the server's log inside the window
compile_lines               number             torch.compile or graph captures in the server's log inside the window
error_lines                 number             errors in the server's log inside the window
simulator_late_share        share              share of steps that the simulated server finished too late
attention_backend           text               attention backend that the server reported
model_runner                text               vLLM's model runner according to the server's log: v1 or v2; absent if the log does not tell, as
                                               before 0.16
block_size                  tokens             KV block size that the server reported
kv_cache_dtype              text               KV cache dtype that the server reported
weights_gib_per_rank        GiB                weights on one rank, from the server's log
prefix_cache_reset          text               result of emptying the prefix cache before the cell, and the evidence for that
                                               result
plan_differences            text               differences between the running server and the plan, joined by `;`
""")

_PHYSICS = defined("""
kv_capacity_tokens          tokens             KV cache size over all engines
roofline_output_throughput  tokens/s           upper bound of output_throughput on this hardware
roofline_share              share higher       output_throughput / roofline_output_throughput
shape_doubts                text               parts of the model's config or checkpoint that bench does not understand, joined by
                                               `; `
mean_power_w                W lower            mean power of the server's GPUs together over the window
gpu_sockets                 number             sockets whose power is counted; partitions of one GPU share a socket
power_cap_w                 W                  power limit of those sockets together
power_note                  text               note on the power: whole sockets, or the reason why there is no figure
peak_power_w                W                  maximum power of the server's GPUs together in the window
energy_j                    J                  energy of the server's GPUs over the window: difference of the accumulators, else integral of power
energy_source               text               accumulator or integral
energy_disagreement         share              integral of power / difference of the accumulators - 1, if both are available
joules_per_output_token     J lower            energy_j / output tokens in the window
hottest_c                   C                  maximum GPU hotspot or memory temperature in the window
throttled                   bool               true if a GPU throttled in the window
gpu_shared                  bool               true if other processes used the server's GPUs
""")

_PROVENANCE = defined("""
key                         text               readable name: MODEL/WORKLOAD/LEVEL
request_rate                requests/s         requested rate (open loop)
load_shape                  text               closed, open or trace
max_requests                requests           maximum total number of requests, if the load ends after a number of requests;
                                               absent if it ends with a window
workload_spec               json               JSON of the workload's settings other than `isl`, `osl` and `images`, without defaults
load_spec                   json               JSON of the load's settings, without defaults: how requests were sent, and what
                                               ended the load
slo                         json               JSON of the limits for goodput
gpus                        number             GPUs that the server uses
model_revision              text               revision of the checkpoint
node                        text               host name of the server's node; its Ray node if several nodes share a host
moved                       text               nodes that died or refused before this cell was measured on another node
server_id                   text               folder under servers/
axes                        json               JSON of the cell's values of the matrix axes and factors
failure_message             text               reason why the cell was not measured: the server's failure, or the server's answer
                                               to a request that it refused
common_error                text               most frequent error of failed requests in the window, or in the whole load if the
                                               window has none; on one line
common_error_count          requests           requests with that error; numbers and ids in the error text are ignored
serve_args                  json               JSON of the server's flags
serve_env                   json               JSON of the environment variables set for the server
restart                     text               when the server is restarted: never (repeats share a server), per_repeat or
                                               per_cell
discarded                   bool               true for the additional first repeat after a server start (`discard_first`);
                                               comparisons and statistics ignore it
attempt                     number             number of the attempt, from 1; above 1, this row replaced an earlier row, which is
                                               in replaced.jsonl
replaced_reasons            text               reason codes of the rows that this row replaced, joined by `;`
started_at                  text               UTC time at which the measured window began
accuracy_labels             text               active settings that may change the answers, joined by `;`
forced_rules                bool               true if --force overrode a rule that refuses the configuration
predicted                   bool               true if no server ran: the row was computed in virtual time, by a model of the
                                               scheduler and the hardware
imported                    bool               true if another tool measured the row
until_max                   number             maximum number of repeats of a sweep whose repeats end early (`until`); absent if the
                                               number is fixed
""")

PREDICTED_FIGURES = (
    "output_throughput",
    "total_token_throughput",
    "median_ttft_ms",
    "p99_ttft_ms",
    "median_tpot_ms",
    "p99_tpot_ms",
    "median_e2el_ms",
    "p99_e2el_ms",
)
"""Figures that a prediction gives an interval."""
_PREDICTED = (
    *(
        Column(
            f"predicted_{name}_{end}",
            "number",
            "ms" if name.endswith("_ms") else "tokens/s",
            f"{word} end of the 95 % prediction interval of {name}: where a measurement is expected",
            None,
        )
        for name in PREDICTED_FIGURES
        for end, word in (("low", "lower"), ("high", "upper"))
    ),
    *defined("""
predicted_intervals_from    text               origin of the prediction intervals, or why figures have none
predicted_extrapolation     text               predicted rows: in which respects the level is outside the levels that the calibration
                                               was fitted to, or in a gap between them, farthest first, joined by `;`;
                                               empty among them
"""),
)

CELLS = (*_LOAD, *_LATENCY, *_WINDOW, *_CLIENT, *_SERVER, *_PHYSICS, *_PROVENANCE, *_PREDICTED)

REQUESTS = defined("""
run_id                      text               run
cell_id                     text               cell
repeat                      number             repeat of the cell
request_id                  number             unique within the cell and repeat
worker                      number             load worker
user                        number             closed-loop user; absent under open loop
turn                        number             index in the conversation, 0 for single-turn
phase                       number             phase in which the request began: 0 warm-up, 1 measured window, 2 tail (sent to
                                               keep the load full)
intended_ns                 ns                 planned send; equals sent_ns under closed loop
sent_ns                     ns                 timestamp immediately before the first write of the first attempt; absent if never sent
first_chunk_ns              ns                 first SSE event of any kind
first_token_ns              ns                 first non-empty text, reasoning or tool delta
last_token_ns               ns                 last token
end_ns                      ns                 last byte of the answer, or the time at which the failure was detected; absent if
                                               cut
isl_asked                   tokens             prompt tokens sent as ids; absent if text was sent
osl_asked                   tokens             requested output tokens
prompt_tokens               tokens             usage.prompt_tokens
output_tokens               tokens             usage.completion_tokens, else counted token ids
image_tokens                tokens             from the usage details, else prompt_tokens - isl_asked
cached_tokens               tokens             usage.prompt_tokens_details.cached_tokens
images                      number             images sent
chunks                      number             SSE events with tokens
zero_gaps                   number             gaps between chunks of less than 0.1 ms
coalesced                   number             token events that share a timestamp with another token event
http_status                 number             HTTP status
failure                     text               failure class; absent for completed requests and for cut requests
resent                      text               how the keep-alive connection ended before the request was sent again: reset,
                                               closed or unread; absent if sent once
error                       text               error message of a failed request, cut to 500 characters
first_tokens                tokens             tokens in the first event with tokens; 0 if unknown
doubts                      text               contradictions in the answer, joined by `;`: usage (counts and text), one_piece (came all at once),
                                               unknown_text (unknown field name), end (no known finish reason)
discarded                   bool               true for the additional first repeat after a server start (`discard_first`);
                                               comparisons and statistics ignore it
""")

_BETTER = {column.name: column.better for column in CELLS}


def better(name: str) -> Better | None:
    """The better direction of a column of `cells`: `higher`, `lower`, or None if it is not a result."""
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

`cells` has one row per cell and repeat, `requests` one per request. An absent value was not measured or does not
exist; it is never zero. Timestamps are nanoseconds of CLOCK_REALTIME.

CSV files are safe to open in a spreadsheet: a text that would be read as a formula has an apostrophe in front, and a control
character is written as `<U+001B>`. Numbers are unchanged. `bench` undoes both changes when it reads `cells.csv`; `cells.parquet` has the
original texts.

Throughput counts tokens with timestamps in the measured window, from all requests. Latencies are those of completed
requests that began in that window. The names follow `vllm bench serve`; TPOT and ITL are defined as in vLLM
(`vllm/benchmarks/serve.py`, `calculate_metrics`). AIPerf and GuideLLM use the names differently: their ITL is TPOT here.
If the first chunk holds many tokens, TPOT is lower than the time between tokens, and the row has the reason code
`first_chunk_of_many`. If a chunk holds several tokens, ITL divides the gap before the chunk among them; ICL has the
undivided gaps, as in vLLM.
"""
