"""docs/physics.md says what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

import published
from rocbench.physics import kv

PAGE = (Path(__file__).parents[3] / "docs" / "physics.md").read_text()


@pytest.mark.parametrize("name", published.MODELS)
def test_the_page_gives_each_model_s_kv_bytes(name):
    """Both KV figures of every model stand in the table."""
    arch = published.arch(name)
    assert f"| {kv.kv_bytes_per_token(arch):,.0f} " in PAGE
    indexer = kv.indexer_bytes_per_token(arch)
    assert not indexer or f"| {indexer:,.0f} " in PAGE


@pytest.mark.parametrize("tokens", [1_297_376, 1_609_024, 1_651_056, 2_218_896])
def test_the_page_gives_the_derived_capacities(tokens):
    """The capacities that test_kv holds against reports are those of the page."""
    assert f"{tokens:,}" in PAGE
