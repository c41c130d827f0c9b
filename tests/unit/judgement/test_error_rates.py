"""How often the judgement is right: a small seeded version of benchmarks/judgement.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rocbench.judgement.compare import compare
from rocbench.judgement.verdicts import DEFAULT_METRICS, Settings

FOLDER = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(name="bench", scope="module")
def _bench():
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("judgement_benchmark", FOLDER / "judgement.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up while the class is made
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
    sys.path.remove(str(FOLDER))


def rows(bench, campaign, y):
    """A campaign's measurements as rows of `cells`, by side: what a run folder would hold."""
    starts = pd.Timestamp("2026-11-01T22:00:00Z") + pd.to_timedelta(
        campaign.run * 86400 + campaign.place * 180, unit="s"
    )
    frame = pd.DataFrame(
        {
            "run_id": [f"r{run}" for run in campaign.run],
            "cell_id": [f"{side % 2}-{c}" for side, c in zip(campaign.side, campaign.cell, strict=True)],
            "repeat": campaign.repeat + 1,
            "model": "m",
            "workload": "w",
            "concurrency": 2**campaign.cell,
            "server_id": [
                f"0{side % 2}-m.{start}" for side, start in zip(campaign.side, campaign.start, strict=True)
            ],
            "started_at": [start.isoformat() for start in starts],
            "valid": True,
        }
    )
    for m, metric in enumerate(DEFAULT_METRICS):
        frame[metric] = np.exp(y[:, m])
    return [frame[campaign.side == side] for side in (0, 1, 2)]


@pytest.mark.parametrize("design", ["one run, n=3", "night against night, 7 past, n=3"])
def test_rows_are_judged_as_the_benchmark_judges_its_arrays(bench, design):
    """The counts of the benchmark are those of `compare` on tables: same effects, intervals and p-values."""
    campaign = bench.DESIGNS[design]
    (y,) = bench.noise.start_level(campaign, np.random.default_rng(3), 1, 0.02)
    a, b, past = rows(bench, campaign, y)
    table = compare(a, b, Settings(), history=past).table
    judged = bench.judge(campaign, y)
    for name, column in (("effect", "effect"), ("low", "low"), ("high", "high"), ("p", "p_holm")):
        np.testing.assert_allclose(table[column].to_numpy(float), getattr(judged, name), rtol=1e-9)


@pytest.mark.parametrize(
    "kind",
    [
        "independent",
        "night level",
        "clock state by server start",
    ],
)
@pytest.mark.parametrize("design", ["one run, n=3", "night against night, 7 past, n=3"])
def test_equal_sides_are_rarely_told_apart(bench, design, kind):
    """Of 25 families of 48 equal pairs at most 3 have any false verdict, and intervals cover."""
    found = bench.rates(bench.DESIGNS[design], bench.noise.KINDS[kind], 25, 1)
    assert found.wrong <= 3
    assert found.covered >= 0.9 * found.known > 0


def test_five_per_cent_are_told_at_three_repeats(bench):
    """At CoV 1 % in most cases, where Welch's test of each cell alone tells few."""
    campaign = bench.DESIGNS["one run, n=3"]
    counts = [
        bench.rates(campaign, bench.noise.independent, 10, 1, effect=0.05, method=method).told
        for method in (bench.judge, bench.welch)
    ]
    assert counts[0] >= 0.9 * 480
    assert counts[1] < 0.3 * 480


def test_one_night_against_one_cannot_tell(bench):
    """However large the difference: nights were not sampled, and no past says how far they differ."""
    campaign = bench.noise.nights(0, 5)
    (y,) = bench.noise.independent(campaign, np.random.default_rng(1), 1, 0.01)
    a, b, _ = rows(bench, campaign, y + 0.5 * (campaign.side == 1)[:, None])
    table = compare(a, b, Settings()).table
    assert set(table["verdict"]) == {"cannot tell"}
    assert set(table["note"]) == {"1 night against 1 cannot show how far nights differ"}
    assert (table["low_within"] > 0.4).all()


def test_past_nights_of_another_version_show_how_far_nights_differ(bench):
    """The first night of a new vLLM version has no past of its own: nights of the old one count among themselves."""
    campaign = bench.DESIGNS["night against night, 7 past, n=3"]
    (y,) = bench.noise.independent(campaign, np.random.default_rng(1), 1, 0.01)
    a, b, past = (each.assign(vllm_version="0.33.0") for each in rows(bench, campaign, y))
    table = compare(a, b, Settings(), history=past.assign(vllm_version="0.32.0")).table
    assert table["low"].notna().all()
    assert set(table["past_nights"]) == {7}


def test_three_times_the_spread_is_found(bench):
    """Three times the standard deviation at n=20: at least 90 %."""
    rng = np.random.default_rng(1)
    found = [bench.ablated(rng.lognormal(0, 0.01, 20), rng.lognormal(0, 0.03, 20)) for _ in range(20)]
    assert sum(each["spread"] == "more variable" for each in found) >= 18
