"""Checks of a run and its load: it was measured, the load was as requested, the client kept up. Pure."""

from __future__ import annotations

import math

from rocbench.verdict.checks import BUSY, LATE_SHARE
from rocbench.verdict.evidence import Evidence

DELIVERED = 0.02
"""Maximum deviation of the achieved from the requested concurrency."""
PER_USER = 5.0
"""Minimum requests per user: studies with 100 requests at 1,000 users measured 100 users."""
ERROR_RATE = 0.01
"""Maximum share of failed, resent or unfinished requests."""
OFF_SHARE = 0.01
"""Maximum share of requests of another length than requested."""
PAUSE_MS = {"wire": 250.0, "aiohttp": 50.0}
"""Maximum pause of a worker in ms, by transport: kernel timestamps stay correct during a pause, which only
delays sends; user-space timestamps are late too.
"""
SENDING_PAUSE_MS = 50.0
"""Maximum pause in ms, for any transport, if the requested concurrency was not achieved."""
FILES = 32
"""Open files that a load worker needs in addition to one per user."""
CLOCK_STEP_MS = 1.0
COALESCED = 0.05
"""Maximum share of token events with the timestamp of another."""
DRIFT = 0.05
"""Maximum change of throughput between the halves of the window, as a share of the mean."""
LITTLE = 0.1
"""Maximum deviation of `littles_law_ratio` from 1."""
LATE_HARM = 0.1
"""Lateness of this share of the mean gap between sends, or of the TTFT, changes the measurement."""
GROWS = 0.02
"""A queue counts as level if it grows by less than this share of the offered load."""
NOISES = 1.3
"""Standard deviations that growth and shortfall must both exceed. Chance seldom moves both in the same
direction: below capacity they exceed it in at most 2 % of windows (benchmarks/overload.py).
"""
IDLE = 0.2
"""A server that was idle for this share of the window's second half has spare capacity."""
UNSERVED = 0.12
"""Share of unserved work that a load of 1.14 times the capacity leaves."""
NOISY = 0.11
"""Above this noise, a load 20 % above capacity cannot be distinguished from a load below it."""
RATE_BIAS = 0.01
TOKEN_RATE_GAP = 0.05
"""Healthy closed loops of 1 to 1,000 users are within 3 %, by the chance of their lengths."""
TEMPLATE_TOKENS = 64
"""Tokens that a chat template may add to a prompt."""


def no_measurement(e: Evidence) -> bool | None:
    """The window never began, or no request completed in it."""
    if e.window_ended_by == "never_began":
        return True
    return None if e.completed is None else e.completed == 0


def server_changed(e: Evidence) -> bool | None:
    """The server's process ended in the cell, or another server answered at its end."""
    return True if e.window_ended_by == "server_died" else e.server_restarted


def concurrency_not_delivered(e: Evidence) -> bool | None:
    """Closed loop: the time-weighted mean of requests in flight differs from the requested users."""
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
    """Closed loop: too few requests per user."""
    if not e.closed:
        return False
    per_user = _per_user(e)
    return None if per_user is None else per_user < PER_USER


def error_rate(e: Evidence) -> bool | None:
    """Too many requests failed."""
    if e.completed is None or e.failed is None:
        return None
    return e.failed > ERROR_RATE * (e.completed + e.failed)


def requests_resent(e: Evidence) -> bool | None:
    """Too many requests failed, or were sent again after the server may have read them."""
    if e.completed is None or e.failed is None or e.resent_after_reset is None:
        return None
    resent = e.resent_after_reset + (e.resent_after_close or 0)
    return resent > 0 and resent + e.failed > ERROR_RATE * (e.completed + e.failed + resent)


def wrong_input_length(e: Evidence) -> bool | None:
    """Prompts differ from the requested length: exact for token ids; text may have a chat template."""
    if e.isl_off_share is not None:
        return e.isl_off_share > OFF_SHARE
    if e.dataset:
        return False
    if e.isl is None or e.isl_had is None:
        return None
    return not 0.95 * e.isl <= e.isl_had <= 1.05 * e.isl + TEMPLATE_TOKENS


def wrong_output_length(e: Evidence) -> bool | None:
    """Answers differ from the requested length; does not apply without ignore_eos."""
    if e.ignore_eos is False:
        return False
    return None if e.osl_off_share is None else e.osl_off_share > OFF_SHARE


def natural_lengths(e: Evidence) -> bool | None:
    """Without ignore_eos: the model ended answers before the limit."""
    if e.ignore_eos is not False or e.dataset:
        return False
    return None if e.osl_off_share is None else e.osl_off_share > OFF_SHARE


def client_saturated(e: Evidence) -> bool | None:
    """A worker was busy, waited for a CPU or paused, or the load was above the calibrated maximum."""
    if e.predicted:
        return False
    pause = e.client_longest_pause_ms
    if any(share is not None and share > BUSY for share in (e.client_cpu_share_max, e.client_busy_share_max)):
        return True
    if pause is not None and pause > PAUSE_MS.get(e.transport or "wire", PAUSE_MS["aiohttp"]):
        return True
    if pause is not None and pause > SENDING_PAUSE_MS and concurrency_not_delivered(e):
        return True
    if e.calibrated_tokens_per_s and e.output_throughput and e.output_throughput > e.calibrated_tokens_per_s:
        return True
    if e.calibrated_users and e.closed and e.concurrency and e.concurrency > e.calibrated_users:
        return True
    return None if e.client_cpu_share_max is None or pause is None else False


def open_file_limit(e: Evidence) -> bool | None:
    """A worker may open fewer files than its users need."""
    if e.predicted or e.concurrency is None:
        return False
    users = math.ceil(e.concurrency / (e.client_workers or 1))
    return None if e.open_file_limit is None else e.open_file_limit < users + FILES


def clock_stepped(e: Evidence) -> bool | None:
    """CLOCK_REALTIME was set: it moved against the monotonic clock."""
    return None if e.clock_step_ms is None else abs(e.clock_step_ms) > CLOCK_STEP_MS


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
    """True if the mean lateness is a large part of the mean gap or of the TTFT, or unknown."""
    if e.mean_lateness_ms is None:
        return True
    rate = e.arrival_rate
    gap_ms = 1e3 / rate if rate else None
    known = [figure for figure in (gap_ms, e.median_ttft_ms) if figure is not None]
    return not known or any(e.mean_lateness_ms > LATE_HARM * figure for figure in known)


def _growth_share(e: Evidence) -> float | None:
    """Growth of the requests in flight as a share of the requested rate."""
    if e.backlog_slope_per_s is None or not e.arrival_rate:
        return None
    return e.backlog_slope_per_s / e.arrival_rate


def overloaded(e: Evidence) -> bool | None:
    """Open loop: the queue grew, less was served than offered, both beyond the arrivals' noise, and latency grew.

    Each additional request in flight slows down all others. If latency does not grow, the queue grows only
    because long requests have not yet begun to end.
    """
    if e.closed:
        return False
    growth, unserved, noise = _growth_share(e), e.unserved_share, e.arrival_noise_share
    if growth is None or unserved is None or noise is None:
        return None
    slower = e.latency_slope is None or e.latency_slope > growth / 2
    return not e.idle_share and slower and min(growth, unserved) > max(GROWS, NOISES * noise)


def backlog_unsure(e: Evidence) -> bool | None:
    """Open loop: the figures do not show that the queue is level.

    A server that was often idle late in the window has a level queue. Otherwise the check fires if one of
    these holds:

    * Much less was served than offered: as much as a load of 1.14 times the capacity leaves.
    * The queue and the latency grew a little, but beyond the noise. Arrivals with little randomness, such as
      constant gaps, reveal a load of 1.01 times the capacity.
    * Latency grew, and the arrivals are so few or so uneven that chance could hide a load of 1.2 times the
      capacity; or a little less was served, and more requests are in flight than chance explains in a load
      without queueing.
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
    """Too many requests of the window never ended, and have no latency."""
    if e.unfinished is None or e.completed is None:
        return None
    return e.unfinished > ERROR_RATE * (e.completed + (e.failed or 0) + e.unfinished)


def rate_biased(e: Evidence) -> bool | None:
    """Closed loop: requests are so few and their lengths so different that their rate may be too high."""
    return e.rate_bias_share is not None and e.rate_bias_share > RATE_BIAS


def token_rate_unsure(e: Evidence) -> bool | None:
    """Closed loop: tokens/s differs from requests/s times length: the window's edges cut bursts of tokens."""
    return e.token_rate_gap_share is not None and abs(e.token_rate_gap_share) > TOKEN_RATE_GAP


def littles_law(e: Evidence) -> bool | None:
    """L = lambda W is off by more than 10 %, and by more than the requests that the window's edges cut.

    The edges cut one request per user. With few users the slowest requests do not average out: they add
    2 x p99 / mean / (requests per user x sqrt(users)). In an open loop the edges cut the queue, so the check
    applies only if the queue grows beyond chance.
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
    """The whole interval of the drift between the window's halves is beyond the bound."""
    if e.drift_low is None or e.drift_high is None:
        return None
    bound = DRIFT if e.closed else max(DRIFT, 2 * (e.arrival_noise_share or 0.0))
    return e.drift_low > bound or e.drift_high < -bound
