"""Numbers as text."""

from __future__ import annotations

import pytest

from rocbench.units import number


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.312, "0.31"), (0.0, "0"), (1.0, "1"), (7.46, "7.5"), (12.4, "12"), (12345.6, "12,346"), (None, "-")],
)
def test_a_small_number_without_digits_is_not_zero(value, text):
    """A throughput of 0.3 tokens/s is something."""
    assert number(value, 0) == text
