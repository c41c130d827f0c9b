"""Checks of the server: its answers, counters, speed against the hardware, and disturbances. Pure."""

from __future__ import annotations

import math

from rocbench.stats import min_samples
from rocbench.verdict.checks import BUSY, LATE_SHARE
from rocbench.verdict.evidence import Evidence

POWER_SLACK = 0.10
"""Share by which the mean power of a window may exceed the cap, which firmware enforces over milliseconds only."""
POWER_APART = 0.25
"""Share of the accumulated energy that power readings a second apart may miss."""
STARVED = 0.1
"""A thread in the path of every token that waits 10 % of the time makes tokens up to 10 % later, as much as
LITTLE allows. A machine's own housekeeping takes up to 6 % of a server's CPU on two cores; a busy loop takes
over 40 % (benchmarks/starvation.py).
"""
COUNTERS = 0.001
"""Maximum difference between token counts, as a share."""
DOUBTED = 0.01
"""Maximum share of answers that contradict themselves."""
IN_ONE_PIECE = 0.05
"""Maximum share of answers in one piece."""
SOME_TOKENS = 16
"""Minimum output length from which an imported row's TPOT and TTFT show if it streamed."""
AT_THE_END = 0.999
"""TTFT / E2EL above which the first token came with the last one."""
FIRST_CHUNK = 0.05
"""Maximum error of TPOT, as a share, because of the tokens in the first chunk."""
FROM_SERVER_MS = 25.0
FROM_SERVER = 0.25
"""The client may wait longer than the server reports by this time plus this share, in addition to the network
round trip: the server's clock begins after it has read the request, and ends before it writes the answer.
"""
BEFORE_SERVER_MS = 5.0
BEFORE_SERVER = 0.05
"""An answer may come earlier than the server reports by this time plus this share: at the edges, each side
counts some requests that the other does not.
"""
TPOT_OFF_MS = 1.0
TPOT_OFF = 0.1
"""TPOT of client and server may differ by this time plus this share."""
OMITTED = 1.5
"""Factor between the p99 TTFT of arrivals on a schedule and of the closed loop above which stalls are hidden."""
QUEUED = 0.1
"""Share of the users that did not run at the peak; half of it must have been queued in the median."""
P99_SAMPLES = min_samples(99)
"""Minimum requests for p99 (`stats.min_samples`), as in tables and reports (`tables.row.too_few`)."""


def server_stalled(e: Evidence) -> bool | None:
    """No stream received a token for longer than a healthy server is silent, and the client did not pause."""
    if e.longest_silence_ms is None or e.stall_limit_ms is None:
        return None
    pause = e.client_longest_pause_ms or 0.0
    return e.longest_silence_ms > max(e.stall_limit_ms, 2 * pause)


def coordinated_omission(e: Evidence) -> bool | None:
    """Closed loop: its p99 TTFT hides stalls, because users that wait for an answer send nothing."""
    if not e.closed:
        return False
    if e.p99_ttft_by_clock_ms is None or e.p99_ttft_ms is None:
        return None
    return bool(e.stalled_share) and e.p99_ttft_by_clock_ms > OMITTED * e.p99_ttft_ms


def prefix_cache_hits(e: Evidence) -> bool | None:
    """More cached prompt tokens than the workload explains: from the server's counter, else from `usage`."""
    if e.prefix_caching is False:
        return False
    hits = e.prefix_cache_hits if e.prefix_cache_hits is not None else e.cached_tokens
    if hits is None:
        return None
    hits += e.external_prefix_cache_hits or 0  # found in an offload tier: not computed either
    prompt = e.server_prompt_tokens or e.client_prompt_tokens or 0
    resumed = 0.0
    if e.preemptions and e.completed:  # a preempted request finds its own blocks again
        resumed = e.preemptions * (prompt + (e.client_output_tokens or 0)) / e.completed
    return hits > 1.05 * e.prefix_cache_hits_expected + COUNTERS * prompt + resumed


def token_count_disagrees(e: Evidence) -> bool | None:
    """Server and client counted different tokens, beyond those that failed requests may have received uncounted."""
    if e.predicted:  # one count only: the server's also has tokens of requests in flight at the end
        return False
    if e.server_output_tokens is None or e.client_output_tokens is None:
        return None
    unsure = e.client_unsure_tokens or 0
    if abs(e.server_output_tokens - e.client_output_tokens) > unsure + COUNTERS * e.server_output_tokens:
        return True
    if unsure or e.server_prompt_tokens is None or e.client_prompt_tokens is None:
        return False
    return abs(e.server_prompt_tokens - e.client_prompt_tokens) > COUNTERS * e.server_prompt_tokens


def not_streamed(e: Evidence) -> bool | None:
    """Answers came in one piece. Imported rows: the first of several tokens came with the last."""
    if e.one_piece_share is not None:
        return e.one_piece_share > IN_ONE_PIECE
    at_once = e.median_tpot_ms == 0
    if e.median_ttft_ms and e.median_e2el_ms:
        at_once |= e.median_ttft_ms > AT_THE_END * e.median_e2el_ms
    return True if at_once and (e.osl or 0) > SOME_TOKENS else None


def first_chunk_of_many(e: Evidence) -> bool | None:
    """The first chunk held several tokens. TPOT divides by them, but they have no gaps: it is too low by their share."""
    if e.first_chunk_tokens is None or e.osl_had is None:
        return None
    return e.osl_had > 1 and (e.first_chunk_tokens - 1) / (e.osl_had - 1) > FIRST_CHUNK


def server_latency_disagrees(e: Evidence) -> bool | None:
    """The client's mean TTFT, E2EL or TPOT differs from the server's for the same requests.

    An API process that uses a whole core delays requests before the server's clock begins, which explains a
    longer TTFT and E2EL at the client.
    """
    if e.predicted:
        return False
    busy = e.server_frontend_cpu_share is not None and e.server_frontend_cpu_share > BUSY
    outcomes = []
    for client, server in (
        (e.matched_ttft_ms, e.matched_server_ttft_ms),
        (e.matched_e2el_ms, e.matched_server_e2el_ms),
    ):
        if client is not None and server is not None:
            early = server - client > BEFORE_SERVER_MS + BEFORE_SERVER * server
            outcomes.append(early or (not busy and client - server > _may_add(e, server)))
    client, server = e.matched_tpot_ms, e.matched_server_tpot_ms
    if client is not None and server is not None:
        outcomes.append(abs(client - server) > TPOT_OFF_MS + TPOT_OFF * server)
    return any(outcomes) if outcomes else _median_ttft_disagrees(e)


def _may_add(e: Evidence, server_ms: float) -> float:
    """Maximum time in ms by which the client may measure more than the server's clock."""
    return FROM_SERVER_MS + (e.server_answer_ms or 0) + FROM_SERVER * server_ms


def _median_ttft_disagrees(e: Evidence) -> bool | None:
    """Without matched requests: the median TTFT is far outside the server's bucket, which covers all phases."""
    low, high = e.server_median_ttft_low_ms, e.server_median_ttft_high_ms
    if e.median_ttft_ms is None or low is None or high is None or not math.isfinite(high):
        return None
    return not low / 2 - BEFORE_SERVER_MS <= e.median_ttft_ms <= 2 * high + _may_add(e, high)


def server_differs(e: Evidence) -> bool | None:
    """The proof after the start found a difference from the plan; an attached server has no plan."""
    if e.plan_differences is None:
        return False if e.server_kind == "attached" else None
    return bool(e.plan_differences)


def simulator_late(e: Evidence) -> bool | None:
    """The simulated server finished too many steps too late."""
    if not e.simulated or e.predicted:
        return False
    return None if e.simulator_late_share is None else e.simulator_late_share > LATE_SHARE


def queued(e: Evidence) -> bool | None:
    """The server ran fewer requests than were in flight, and queued the others.

    A request that waits for the next step is sometimes in a reading of any server, so the median counts.
    """
    if e.server_running_max is None or e.server_waiting_median is None:
        return None
    users = e.concurrency or 0
    return e.server_waiting_median > QUEUED * users / 2 and e.server_running_max < (1 - QUEUED) * users


def few_samples(e: Evidence) -> bool | None:
    """Fewer completed requests than a distribution-free interval of p99 needs."""
    return None if e.completed is None else e.completed < P99_SAMPLES


def above_hardware_limit(e: Evidence) -> bool | None:
    """A figure is above its physical bound; a bound from a doubtful model shape does not count."""
    if e.platform == "cpu":
        return False
    return None if e.roofline_share is None or e.shape_doubts else e.roofline_share > 1


def shape_unsure(e: Evidence) -> bool | None:
    """A figure is above a bound from a doubtful model shape."""
    return bool(e.shape_doubts) and e.platform != "cpu" and (e.roofline_share or 0) > 1


def power_above_cap(e: Evidence) -> bool | None:
    """The mean power is above the limit of the sockets."""
    if e.mean_power_w is None or e.simulated or e.platform == "cpu":
        return False
    return None if not e.power_cap_w else e.mean_power_w > e.power_cap_w * (1 + POWER_SLACK)


def power_disagrees(e: Evidence) -> bool | None:
    """Accumulated energy and integrated power differ; does not apply if only one is available."""
    return e.energy_disagreement is not None and abs(e.energy_disagreement) > POWER_APART


def frontend_saturated(e: Evidence) -> bool | None:
    """The server's API process used nearly a whole CPU."""
    if e.predicted:
        return False
    return None if e.server_frontend_cpu_share is None else e.server_frontend_cpu_share > BUSY


def server_starved(e: Evidence) -> bool | None:
    """A thread of the server was runnable without a CPU, because other processes or a quota held it.

    The simulated server sleeps between steps and counts late steps: without late steps it was not starved.
    """
    if e.predicted or (e.simulated and simulator_late(e) is False):
        return False
    return None if e.server_cpu_wait_share is None else e.server_cpu_wait_share > STARVED
