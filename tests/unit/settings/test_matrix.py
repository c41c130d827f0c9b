"""Matrices expand as written, and say when they cannot."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rocbench.settings import matrix
from rocbench.settings.schema import Matrix


def test_no_axes_is_one_combination() -> None:
    """A sweep without a matrix still has its one configuration."""
    assert [{}] == matrix.expand(Matrix())


def test_product_times_zip() -> None:
    """Zipped axes move together, crossed with every product."""
    spec = Matrix(product={"aiter": ("on", "off")}, zip={"tp": (4, 8), "block_size": (16, 64)})

    assert [
        {"aiter": "on", "tp": 4, "block_size": 16},
        {"aiter": "on", "tp": 8, "block_size": 64},
        {"aiter": "off", "tp": 4, "block_size": 16},
        {"aiter": "off", "tp": 8, "block_size": 64},
    ] == matrix.expand(spec)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"zip": {"a": (1, 2), "b": (1,)}}, "must have equal lengths: a 2, b 1"),
        ({"product": {"a": (1,)}, "zip": {"a": (1,)}}, "both product and zip"),
        ({"product": {"a": ()}}, "has no values"),
    ],
)
def test_refuses(spec: dict[str, Any], words: str) -> None:
    """Lists that cannot be paired or are empty, and an axis named twice, are faults."""
    with pytest.raises(ValidationError, match=words):
        Matrix.model_validate(spec)


def test_exclude_needs_every_key_to_agree() -> None:
    """An exclusion holds only for cells that agree with all of it."""
    spec = Matrix(exclude=({"aiter": "off", "concurrency": 1000},))

    assert matrix.excluded(spec, {"aiter": "off", "concurrency": 1000, "model": "x"})
    assert not matrix.excluded(spec, {"aiter": "on", "concurrency": 1000})
