"""Arms of one run, as `bench compare --arms` names them."""

from __future__ import annotations

import pytest

from cellrows import cells, table
from rocbench.commands import judging


@pytest.mark.parametrize(
    ("levels", "names"),
    [((128, 64), ("x=64", "x=128")), (("triton", "aiter"), ("x=aiter", "x=triton"))],
)
def test_the_smaller_number_is_the_base_where_the_sweep_names_none(levels, names):
    """Levels of a matrix are in the order of numbers, not of their texts; words are in that of the alphabet."""
    frame = table(*(cells(axes={"x": level}) for level in levels))
    assert judging._split(frame, "x", {})[2] == names
