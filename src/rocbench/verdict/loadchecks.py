"""Checks of a run and its load: the run was measured, the load was as requested, the client kept up. Pure."""

from __future__ import annotations

import math

from rocbench.verdict.checks import BUSY, LATE_SHARE
from rocbench.verdict.evidence import Evidence

DELIVERED = 0.02
PER_USER = 5.0
ERROR_RATE = 0.01
OFF_SHARE = 0.01
PAUSE_MS = {"wire": 250.0, "aiohttp": 50.0}
"""Kernel stamps stay correct while a worker sleeps, only its sends are late; user-space stamps are late too.
"""
CLOCK_STEP_MS = 1.0
COALESCED = 0.05
DRIFT = 0.05
LITTLE = 0.1
LATE_HARM = 0.1
"""Lateness of this share of the mean gap, or of the TTFT, changes the measurement."""
GROWS = 0.02
"""A queue counts as level if it grows by less than this share of the offered load."""
NOISES = 1.3
"""Standard deviations of chance. Two figures must exceed it that chance seldom moves in the same direction:
below capacity they do in at most 2 % of windows (benchmarks/overload.py).
"""
IDLE = 0.2
"""A server that was idle for this share of the window's second half has spare capacity."""
UNSERVED = 0.12
NOISY = 0.11
"""Beyond this noise, a load 20 % above capacity cannot be distinguished from a load below it."""
RATE_BIAS = 0.01
TOKEN_RATE_GAP = 0.05
"""Sound closed loops of 1 to 1,000 users are within 3 %, by the chance of their lengths."""
TEMPLATE_TOKENS = 64
"""Tokens that a chat template may add to a prompt."""


def no_measurement(e: Evidence) -> bool | None:
    """There was no measured window, or no completed request in it."""
    if e.window_ended_by == "never_began":
        return True
    return None if e.completed is None else e.completed == 0


def server_changed(e: Evidence) -> bool | None:
    """The server's process ended in the cell, or another process answered at its end."""
    return True if e.window_ended_by == "server_died" else e.server_restarted


def counters_fell(e: Evidence) -> bool | None:
    """A counter of the server decreased in the cell."""
    if e.predicted:
        return False
    return None if e.counters_fell is None else bool(e.counters_fell)


def health_failed(e: Evidence) -> bool | None:
    """A health check failed in the cell."""
    return None if e.health_failures is None else e.health_failures > 0


def concurrency_not_delivered(e: Evidence) -> bool | None:
    """The time-weighted mean in flight differs from the requested concurrency."""
    if not e.closed:
        return False
    if e.concurrency is None or e.achieved_concurrency is None:
        return None
    return abs(e.achieved_concurrency / e.concurrency - 1) > DELIVERED


def _per_user(e: Evidence) -> float | None:
    if e.requests_per_user is None and e.completed is not None and e.concurrency:
        return (e.completed + (e.failed or 0)) / e.concurrency
    return e.requests_per_user


def too_few_requests(e: Evidence) -> bool | None:
    """Fewer than 5 requests per user (studies with 100 requests at 1,000 users measured 100 users)."""
    if not e.closed:
        return False
    per_user = _per_user(e)
    return None if per_user is None else per_user < PER_USER


def error_rate(e: Evidence) -> bool | None:
    """The share of failed requests is above the threshold."""
    if e.completed is None or e.failed is None:
        return None
    return e.failed > ERROR_RATE * (e.completed + e.failed)


def requests_resent(e: Evidence) -> bool | None:
    """Requests that the server may have read were lost and sent again; together with the failed requests they
    are too many.
    """
    if e.completed is None or e.failed is None or e.resent_after_reset is None:
        return None
    resent = e.resent_after_reset + (e.resent_after_close or 0)
    return resent > 0 and resent + e.failed > ERROR_RATE * (e.completed + e.failed + resent)


def wrong_input_length(e: Evidence) -> bool | None:
    """Prompts differ from the requested length: exactly for token ids, loosely for text (chat template)."""
    if e.isl_off_share is not None:
        return e.isl_off_share > OFF_SHARE
    if e.dataset:
        return False
    if e.isl is None or e.isl_had is None:
        return None
    return not 0.95 * e.isl <= e.isl_had <= 1.05 * e.isl + TEMPLATE_TOKENS


def wrong_output_length(e: Evidence) -> bool | None:
    """Answers differ from the requested length; without ignore_eos the server may end early."""
    if e.ignore_eos is False:
        return False
    return None if e.osl_off_share is None else e.osl_off_share > OFF_SHARE


def natural_lengths(e: Evidence) -> bool | None:
    """Answers ended where the model ended them, and not all at the limit."""
    if e.ignore_eos is not False or e.dataset:
        return False
    return None if e.osl_off_share is None else e.osl_off_share > OFF_SHARE


def client_saturated(e: Evidence) -> bool | None:
    """The client was busy, starved, asleep, or above the ceiling from calibration."""
    if e.predicted:
        return False
    pause = e.client_longest_pause_ms
    if any(share is not None and share > BUSY for share in (e.client_cpu_share_max, e.client_busy_share_max)):
        return True
    if pause is not None and pause > PAUSE_MS.get(e.transport or "wire", 50.0):
        return True
    if pause is not None and pause > 50 and concurrency_not_delivered(e):
        return True
    if e.calibrated_tokens_per_s and e.output_throughput and e.output_throughput > e.calibrated_tokens_per_s:
        return True
    if e.calibrated_users and e.closed and e.concurrency and e.concurrency > e.calibrated_users:
        return True
    return None if e.client_cpu_share_max is None or pause is None else False


def open_file_limit(e: Evidence) -> bool | None:
    """A worker's file limit is below its users plus a few files."""
    if e.predicted:
        return False
    if e.open_file_limit is None or e.concurrency is None:
        return False if e.concurrency is None else None
    return e.open_file_limit < math.ceil(e.concurrency / (e.client_workers or 1)) + 32


def clock_stepped(e: Evidence) -> bool | None:
    """CLOCK_REALTIME moved against monotonic time."""
    return None if e.clock_step_ms is None else abs(e.clock_step_ms) > CLOCK_STEP_MS


def stamps_coalesced(e: Evidence) -> bool | None:
    """Too many token events share a stamp."""
    return None if e.coalesced_share is None else e.coalesced_share > COALESCED


def late_sends(e: Evidence) -> bool | None:
    """Open loop: too many sends were late or dropped."""
    if e.closed:
        return False
    if e.late_sends is None or e.completed is None:
        return None
    dropped = e.dropped_sends or 0
    intended = e.completed + (e.failed or 0) + (e.unfinished or 0) + dropped
    if dropped > LATE_SHARE * intended:
        return True
    return e.late_sends + dropped > LATE_SHARE * intended and _lateness_matters(e)


def _lateness_matters(e: Evidence) -> bool:
    """Return whether the mean lateness is no small part of the mean gap or of the TTFT; True if unknown."""
    if e.mean_lateness_ms is None:
        return True
    rate = e.arrival_rate
    gap_ms = 1e3 / rate if rate else None
    known = [figure for figure in (gap_ms, e.median_ttft_ms) if figure is not None]
    return not known or any(e.mean_lateness_ms > LATE_HARM * figure for figure in known)


def _growth_share(e: Evidence) -> float | None:
    """Return the growth of the number in flight as a share of the requested rate."""
    if e.backlog_slope_per_s is None or not e.arrival_rate:
        return None
    return e.backlog_slope_per_s / e.arrival_rate


def overloaded(e: Evidence) -> bool | None:
    """Open loop: the queue grew and less was served than offered, by more than the arrivals' noise, and
    latency grew too.

    Each request more in flight makes all requests slower. If latency does not grow, long requests have only
    not begun to end yet.
    """
    if e.closed:
        return False
    growth, unserved, noise = _growth_share(e), e.unserved_share, e.arrival_noise_share
    if growth is None or unserved is None or noise is None:
        return None
    slower = e.latency_slope is None or e.latency_slope > growth / 2
    return not e.idle_share and slower and min(growth, unserved) > max(GROWS, NOISES * noise)


def backlog_unsure(e: Evidence) -> bool | None:
    """Open loop: nothing shows that the queue does not grow.

    A queue that was often empty late shows that it does not. Otherwise the check fires if less was served
    than offered by as much as a load of 1.14 times the capacity leaves. It also fires if latency grew, and
    either a little less was served while more requests came to be in flight than chance explains in a load
    without queueing, or the arrivals are so few, or so uneven, that chance could hide a load of 1.2 times the
    capacity. It also fires if the queue grew by little but surely: arrivals with little randomness, such as
    constant gaps, reveal a load of 1.01 times the capacity.
    """
    growth, unserved, noise = _growth_share(e), e.unserved_share, e.arrival_noise_share
    if e.closed or e.load_shape == "trace" or growth is None or unserved is None or noise is None:
        return False
    if (e.idle_share or 0.0) > IDLE or overloaded(e):
        return False
    if unserved > UNSERVED:
        return True
    offered = (e.duration_s or 0.0) * (e.arrival_rate or 0.0)
    chance = max(2.0, math.sqrt(e.achieved_concurrency or 0.0)) / offered if offered else 0.0
    small = min(growth, unserved)
    if small > max(2 * noise, chance) and (e.latency_slope or 0.0) > small / 2:
        return True
    if e.latency_slope is not None and e.latency_slope < GROWS / 2:
        return False
    return noise > NOISY or (unserved > GROWS and growth > chance)


def unfinished(e: Evidence) -> bool | None:
    """Too many requests of the window never ended: latencies cover only the requests that did."""
    if e.unfinished is None or e.completed is None:
        return None
    return e.unfinished > ERROR_RATE * (e.completed + (e.failed or 0) + e.unfinished)


def rate_biased(e: Evidence) -> bool | None:
    """Closed loop: requests are so few and their lengths so different that their rate reads too high."""
    return e.rate_bias_share is not None and e.rate_bias_share > RATE_BIAS


def token_rate_unsure(e: Evidence) -> bool | None:
    """Closed loop: tokens/s differs from requests/s times length, as the window's edges fall between bursts."""
    return e.token_rate_gap_share is not None and abs(e.token_rate_gap_share) > TOKEN_RATE_GAP


def littles_law(e: Evidence) -> bool | None:
    """L = lambda W is off by more than 10 %, or than the part that a window cuts off at its edges.

    That part is one request per user; with few users also the slowest requests, whose cut-off parts do not
    average out: 2 x p99 / mean / (requests per user x sqrt(users)). In an open loop the edges cut off the
    queue: it counts where the queue grows beyond chance.
    """
    ratio, in_flight = e.littles_law_ratio, e.achieved_concurrency or e.concurrency
    if ratio is None and in_flight and e.request_throughput is not None and e.mean_e2el_ms is not None:
        ratio = e.request_throughput * e.mean_e2el_ms / 1e3 / in_flight
    if ratio is None:
        return None
    if overloaded(e) is False and not e.closed:
        return False
    per_user = _per_user(e)
    edges = 1 / per_user if per_user else 0.0
    if per_user and in_flight and e.p99_e2el_ms and e.mean_e2el_ms:
        edges = max(edges, 2 * e.p99_e2el_ms / e.mean_e2el_ms / (per_user * math.sqrt(max(1.0, in_flight))))
    return abs(ratio - 1) > max(LITTLE, edges)


def not_steady(e: Evidence) -> bool | None:
    """The interval of the drift between the window's halves is entirely beyond the threshold."""
    if e.drift_low is None or e.drift_high is None:
        return None
    much = DRIFT if e.closed else max(DRIFT, 2 * (e.arrival_noise_share or 0.0))
    return e.drift_low > much or e.drift_high < -much
