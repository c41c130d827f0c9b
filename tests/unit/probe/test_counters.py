"""Counters that fall, and processes that restarted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench.probe.counters import STARTED, fallen, of_one_process, restarted
from rocbench.records import ServerSample

TOKENS = "generation_tokens_total"


def readings(*values: dict[str, float]) -> list[ServerSample]:
    """Readings in the order of their time."""
    return [ServerSample(at, value) for at, value in enumerate(values)]


def of(name: str, *values: float) -> list[ServerSample]:
    """Readings of one name."""
    return readings(*({name: value} for value in values))


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (of(STARTED, 5, 5, 5), False),
        (of(STARTED, 5, 5, 9, 9), True),
        (of(STARTED, 5, 9, 12), True),
        (of(STARTED, 5, 9, 5, 9), None),
        (of(STARTED, 5), None),
        (of(TOKENS, 5, 9, 0, 3), True),
        (of(TOKENS, 5, 9, 5, 9, 4), None),
        (of(TOKENS, 5, 9, 9), False),
        (of(TOKENS, 5), None),
        (of("num_requests_running", 5, 0), None),
        (readings({STARTED: 5, TOKENS: 9}, {STARTED: 5, TOKENS: 3}), False),
        (readings({TOKENS: 9, "prompt_tokens_total": 1}, {TOKENS: 3, "prompt_tokens_total": 1}), True),
        ([], None),
    ],
)
def test_another_process_answers(samples, expected):
    """A later start, or token counters that start again once, show a restart; several processes in turn, or no data, do not."""
    assert restarted(samples) is expected


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (of(TOKENS, 5, 9, 8), (TOKENS,)),
        (of(TOKENS, 5, 9, 9), ()),
        (of("time_to_first_token_seconds_bucket:0.1", 5, 4), ("time_to_first_token_seconds_bucket:0.1",)),
        (of("e2e_request_latency_seconds_sum", 1e6, 1e6 - 1e-7), ()),
        (of("num_requests_running", 5, 0), None),
        (of(TOKENS, 5), None),
        ([], None),
        (readings({TOKENS: 5}, {}, {TOKENS: 4}), (TOKENS,)),
    ],
)
def test_counters_that_fall(samples, expected):
    """Gauges may fall; readings around a failed one are compared; rounding is not a fall."""
    assert fallen(samples) == expected


def test_differences_are_of_one_process():
    """If a counter exceeds its value before a restart, only the start time shows the restart."""
    assert of_one_process(readings({STARTED: 5, TOKENS: 9}, {STARTED: 5, TOKENS: 12}))
    assert of_one_process(of(TOKENS, 9, 12))
    assert of_one_process([])
    assert not of_one_process(readings({STARTED: 5, TOKENS: 9}, {STARTED: 7, TOKENS: 12}))
    assert not of_one_process(of(TOKENS, 12, 9))


@given(st.lists(st.floats(0, 1e12), min_size=2))
def test_a_process_that_goes_on_never_falls(steps):
    """Growing counters are of one process; a counter that starts again at less is not."""
    total, samples = 0.0, []
    for step in steps:
        total += step
        samples.append(ServerSample(len(samples), {TOKENS: total}))
    assert fallen(samples) == ()
    assert restarted(samples) is False
    if total > 0:
        assert fallen([*samples, ServerSample(99, {TOKENS: 0.0})]) == (TOKENS,)
        assert restarted([*samples, ServerSample(99, {TOKENS: 0.0})]) is True
