"""A made-up run to export, made once a worker."""

from __future__ import annotations

import pytest

from rocbench.export import write
from synthetic_runs import FOUR_MODELS, World, write_run

VOID = "qwen3-vl-235b/text-2048-512/c64"


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Two models, two levels, two repeats; one cell invalid."""
    sweep = {
        **FOUR_MODELS,
        "models": ["deepseek-v3.2", "qwen3-vl-235b"],
        "concurrency": [16, 64],
        "repeats": 2,
    }
    return write_run(tmp_path_factory.mktemp("runs") / "made-up", sweep, World(invalid=frozenset({VOID})))


@pytest.fixture(scope="session")
def source(run):
    """Its first row."""
    return write.sources(run)[0]
