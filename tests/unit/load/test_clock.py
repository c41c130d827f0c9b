"""A step of the wall clock is found, and a pause of the process is none. The clocks are the test's own."""

from hypothesis import given
from hypothesis import strategies as st

from rocbench.load.clock import Difference, StepWatch, difference

MS = 1_000_000
START = 1_700_000_000_000_000_000


class Clocks:
    """Two clocks that go on by themselves at each reading, by pauses that the test chooses."""

    def __init__(self, pauses=()):
        self.mono = 5_000_000_000
        self.offset = START
        self.pauses = iter(pauses)

    def _pass(self):
        self.mono += next(self.pauses, 100)

    def realtime(self):
        """The wall clock."""
        self._pass()
        return self.mono + self.offset

    def monotonic(self):
        """The clock that nobody sets."""
        self._pass()
        return self.mono


def watched(pauses=()):
    """Clocks, and a watch on them."""
    clocks = Clocks(pauses)
    return clocks, StepWatch(clocks.realtime, clocks.monotonic)


@given(st.lists(st.integers(0, 500 * MS), max_size=200))
def test_pauses_are_no_step(pauses):
    """However long and wherever the process is stopped between two readings, no step is told."""
    _, watch = watched(pauses)
    for _ in range(12):
        watch.check()

    assert watch.step_ns == 0


@given(
    st.lists(st.one_of(st.integers(0, 2_000), st.integers(0, 20 * MS)), min_size=20, max_size=150),
    st.sampled_from([-1, 1]),
)
def test_step_of_two_ms_is_found(pauses, sign):
    """A step either way is told, as soon as one look was not disturbed; never more than it was."""
    clocks, watch = watched()
    clocks.pauses = iter(pauses)
    clocks.offset += sign * 2 * MS
    for _ in range(20):
        watch.check()

    assert 1.99 * MS < watch.step_ns <= 2 * MS


def test_slow_drift_is_found():
    """A clock that is moved by 20 us at each look, 3 ms in all, is as wrong as one that is set at once."""
    clocks, watch = watched()
    for _ in range(150):
        clocks.offset += 20_000
        watch.check()

    assert 2.99 * MS < watch.step_ns <= 3 * MS


def test_step_that_was_taken_back():
    """The largest is told, also when the clock was set right again."""
    clocks, watch = watched()
    clocks.offset += 5 * MS
    watch.check()
    clocks.offset -= 5 * MS
    watch.check()

    assert watch.step_ns > 4.99 * MS


def test_tightest_of_the_readings():
    """A disturbed reading is followed by others, and the best of them is taken with its bound."""
    clocks = Clocks([100, 30 * MS, 100, 100, 100, 100])

    assert difference(clocks.realtime, clocks.monotonic) == Difference(START, 100)
