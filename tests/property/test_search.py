"""Whatever the server can take, the search brackets it, within its bounds, and never measures for nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rocbench.judgement import search
from rocbench.settings.goals import Search
from rocbench.tables.row import Row

LIMIT = 100.0


def searched(capacity, wanted, broken=frozenset()):
    """Levels measured, and the last step, on a server that meets the limit up to `capacity`.

    `broken` are measurements, by number, that come out invalid.
    """
    rows, levels = [], []
    while True:
        step = search.next_step(rows, wanted, whole=True, used=len(rows))
        if step.level is None:
            return levels, step
        figure = LIMIT / 2 if step.level <= capacity else LIMIT * 2
        row = Row(
            {"concurrency": step.level, "load_shape": "closed", "valid": True, "median_ttft_ms": figure}
        )
        if len(rows) in broken:
            row |= {"valid": False, "reasons": "jit_in_window"}
        rows.append(row)
        levels.append(step.level)
        assert len(levels) <= wanted.max_measurements


@given(
    capacity=st.integers(0, 3000),
    low=st.integers(1, 64),
    span=st.integers(0, 2000),
    step=st.floats(0.01, 0.5),
)
def test_the_answer_is_bracketed(capacity, low, span, step):
    """The best level meets the limit, the next one tried above does not, and they are as near as asked for."""
    wanted = Search(
        slo={"median_ttft_ms": LIMIT}, low=low, high=low + span, relative_step=step, max_measurements=200
    )
    levels, found = searched(capacity, wanted)

    assert all(low <= level <= low + span for level in levels)
    if capacity < low:
        assert found.best is None
    elif capacity >= low + span:
        assert (found.best, found.failed) == (low + span, None)
    else:
        assert found.best <= capacity < found.failed
        assert found.failed - found.best <= max(1, step * found.best)


@given(capacity=st.integers(1, 1000), broken=st.sets(st.integers(0, 30), max_size=4), most=st.integers(1, 40))
def test_it_ends_and_never_promises_what_was_not_shown(capacity, broken, most):
    """With invalid measurements anywhere and any bound: it ends, and the best level is one the server can take."""
    wanted = Search(slo={"median_ttft_ms": LIMIT}, max_measurements=most)
    levels, found = searched(capacity, wanted, frozenset(broken))

    assert len(levels) <= most
    assert found.best is None or found.best <= capacity
    assert found.best is None or found.best in levels
