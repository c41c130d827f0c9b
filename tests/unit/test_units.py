"""Numbers as text."""

from __future__ import annotations

import pytest

from rocbench.units import count_of, number


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.312, "0.31"), (0.0, "0"), (1.0, "1"), (7.46, "7.5"), (12.4, "12"), (12345.6, "12,346"), (None, "-")],
)
def test_a_small_number_without_digits_is_not_zero(value, text):
    """A throughput of 0.3 tokens/s is something."""
    assert number(value, 0) == text


def test_a_count_agrees_with_its_noun():
    """One launch, several launches; numbers have thousands separators."""
    assert count_of(1, "launch", "launches") == "1 launch"
    assert count_of(2, "launch", "launches") == "2 launches"
    assert count_of(1234567, "user") == "1,234,567 users"
