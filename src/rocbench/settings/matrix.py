"""Combinations of a matrix of axes: product times zip. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from rocbench.settings.schema import Matrix

Axes = dict[str, Any]


def expand(matrix: Matrix) -> list[Axes]:
    """Return every combination of `product` and `zip`, in the order written; one empty combination without axes."""
    zipped: list[Axes] = [
        dict(zip(matrix.zip, values, strict=True)) for values in zip(*matrix.zip.values(), strict=True)
    ]
    crossed = [dict(zip(matrix.product, v, strict=True)) for v in itertools.product(*matrix.product.values())]
    return [a | b for a in crossed for b in zipped or [{}]]


def excluded(matrix: Matrix, cell: Mapping[str, Any]) -> bool:
    """Return True if an `exclude` entry matches the cell in all its keys."""
    return any(
        all(str(cell.get(key)) == str(value) for key, value in entry.items()) for entry in matrix.exclude
    )
