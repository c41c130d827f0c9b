"""Made-up runs that the tests of reports and exports read; each is made once a worker."""

from __future__ import annotations

import pytest

from synthetic_runs import FOUR_MODELS, World, write_run

TWO = {
    **FOUR_MODELS,
    "name": "two",
    "models": ["deepseek-v3.2", "qwen3-vl-235b"],
    "concurrency": [1, 64, 256],
}
ABLATION = {
    **FOUR_MODELS,
    "name": "aiter",
    "models": ["llama-3.1-405b"],
    "concurrency": [64],
    "repeats": 5,
    "factors": {"aiter": ["off", "on"]},
}
VOID = "qwen3-vl-235b/text-2048-512/c256"
"""The cell of `small_run` whose prompts were found in the prefix cache: its figures are too good."""


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """Two models, three levels, three repeats; one cell invalid."""
    folder = tmp_path_factory.mktemp("runs") / "20260101-000000-two-0001"
    return write_run(folder, TWO, World(seed=1, invalid=frozenset({VOID})))


@pytest.fixture(scope="session")
def later_run(tmp_path_factory):
    """The same a day later, 8 % faster."""
    folder = tmp_path_factory.mktemp("runs") / "20260102-000000-two-0002"
    return write_run(folder, TWO, World(seed=2, day=1, efficiency=0.54, noise=0.002))


@pytest.fixture(scope="session")
def ablation_run(tmp_path_factory):
    """AITER off and on, 5 interleaved repeats; on is 6 % faster."""
    folder = tmp_path_factory.mktemp("runs") / "ablation"
    return write_run(folder, ABLATION, World(seed=3, noise=0.004, faster={"aiter=on": 1.06}))


@pytest.fixture(scope="session")
def nights(tmp_path_factory):
    """Fourteen nightly runs of one cell; from the eighth on it is 8 % slower."""
    root = tmp_path_factory.mktemp("nights")
    sweep = {**TWO, "name": "nightly", "models": ["deepseek-v3.2"], "concurrency": [64], "repeats": 2}
    return [
        write_run(root / f"night-{day}", sweep, World(seed=day, day=day, efficiency=0.5 if day < 7 else 0.46))
        for day in range(14)
    ]
