"""Time-weighted concurrency against brute force."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rocbench.records import NONE, Window
from rocbench.tables.metrics import in_flight

times = st.integers(0, 60)
request = st.one_of(
    st.tuples(times, times).map(lambda pair: (min(pair), max(pair))),
    times.map(lambda t: (t, NONE)),
    st.just((NONE, NONE)),
)


@given(st.lists(request, max_size=30), times, st.integers(1, 40))
def test_mean_and_peak_equal_brute_force(requests, start, length):
    """Counting requests in flight in every unit of time gives the same mean and peak."""
    window = Window(start, start + length, "duration")
    sent = np.array([s for s, _ in requests], np.int64)
    end = np.array([e for _, e in requests], np.int64)
    mean, peak = in_flight(sent, end, window)
    counts = [
        sum(s != NONE and s <= t and (e == NONE or t < e) for s, e in requests)
        for t in range(start, start + length)
    ]
    assert mean == sum(counts) / length
    assert peak == max(counts)


@given(st.lists(request, max_size=30), times, st.integers(2, 40), st.data())
def test_the_integral_adds_up(requests, start, length, data):
    """The integral over a window is the sum over its two parts: clipping loses and doubles nothing."""
    cut = data.draw(st.integers(1, length - 1))
    sent = np.array([s for s, _ in requests], np.int64)
    end = np.array([e for _, e in requests], np.int64)

    def integral(a, b):
        return in_flight(sent, end, Window(a, b, "duration"))[0] * (b - a)

    whole = integral(start, start + length)
    assert np.isclose(whole, integral(start, start + cut) + integral(start + cut, start + length))
