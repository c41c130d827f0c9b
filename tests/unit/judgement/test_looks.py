"""When to look, and what each look may spend."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rocbench.judgement import looks


def test_looks_are_spread_out() -> None:
    """Each look comes after about 40 % more repeats."""
    assert looks.schedule(3, 30) == (3, 4, 6, 8, 11, 15, 21, 29, 30)


@given(st.integers(1, 50), st.integers(3, 300))
def test_the_last_look_is_at_the_maximum_and_none_before_three(first: int, most: int) -> None:
    """Looks increase, and end at the maximum."""
    found = looks.schedule(first, most)
    assert found[-1] == most
    assert list(found) == sorted(set(found))
    assert all(n >= min(max(first, 3), most) for n in found)


@given(st.integers(0, 100))
def test_all_looks_together_spend_the_error(count: int) -> None:
    """Bonferroni: the parts add up to no more than the whole."""
    assert looks.alpha_at_each(count, 0.05) * max(count, 1) <= 0.05 * (1 + 1e-12)


def test_a_stored_plan_says_how_often_it_looked() -> None:
    """`until` looks; a fixed number of repeats, or no plan, is one look."""
    told = {"sweep": {"repeats": 2, "until": {"interval_half_width": 0.02, "max": 10}}}
    assert looks.planned(told["sweep"]) == (3, 4, 6, 8, 10)
    assert looks.looks_of(told) == 5
    assert looks.looks_of({"sweep": {"repeats": 3, "until": None}}) == 1
    assert looks.looks_of({}) == 1
