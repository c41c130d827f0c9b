"""Two runs side by side: what is matched, what is refused, and the verdicts."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cellrows import cells, table
from rocbench import stats
from rocbench.errors import InputError
from rocbench.judgement import render
from rocbench.judgement.compare import compare, split
from rocbench.judgement.verdicts import Settings, decide, needed

ONE = Settings(metrics=("output_throughput",))


def verdicts(result):
    """The words of a comparison, in order."""
    return list(result.table["verdict"])


def test_better_worse_and_same():
    """A gain of 5 %, a loss of 5 % and none at CoV 0.5 %: each gets its word."""
    a = table(*(cells(1000, cov=0.005, concurrency=c, seed=c) for c in (1, 2, 3)))
    b = table(
        *(cells(1000 * f, cov=0.005, concurrency=c, seed=c + 9) for c, f in ((1, 1.05), (2, 0.95), (3, 1.0)))
    )
    assert verdicts(compare(a, b, ONE)) == ["better", "worse", "same"]


def test_lower_is_better_for_latency():
    """A falling TTFT is better."""
    settings = Settings(metrics=("median_ttft_ms",))
    a, b = table(cells(200, metric="median_ttft_ms")), table(cells(150, metric="median_ttft_ms", seed=1))
    assert verdicts(compare(a, b, settings)) == ["better"]


def test_noise_cannot_tell_and_says_what_would():
    """3 % at CoV 5 % and n=5 cannot be told; the repeats needed are named and are more than there were."""
    result = compare(table(cells(1000, cov=0.05)), table(cells(1030, cov=0.05, seed=4)), ONE)
    row = result.table.iloc[0]
    assert row["verdict"] == "cannot tell"
    assert row["n_needed"] > 50


def test_repeats_that_nobody_should_make_are_not_asked_for():
    """Above a night's worth the difference is called not worth measuring, in a comparison and in a gate."""
    row = {"verdict": "cannot tell", "n_needed": 5956.0, "note": ""}
    assert render.verdict(row) == "cannot tell (not worth measuring: needs more than 100 repeats)"
    assert render.verdict(row | {"n_needed": 100.0}) == "cannot tell (needs about 100 repeats)"


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (1, 5), (5, 1)])
def test_one_repeat_cannot_tell(n_a, n_b):
    """A single run on either side has no spread, however large the difference."""
    result = compare(table(cells(1000, n=n_a)), table(cells(2000, n=n_b, seed=1)), ONE)
    assert verdicts(result) == ["cannot tell"]
    assert "at least 3 are needed" in result.table.iloc[0]["note"]


def test_the_repeats_needed_tell_what_is_said_of_them():
    """With so many, no effect is the same and twice the minimum is worse, each in about 80 % of cases or more."""
    sd = 0.02 * 2**0.5
    n, rng = needed(sd, float("inf"), 2, ONE, tests=1, paired=False), np.random.default_rng(1)
    words = {}
    for mean in (1.0, 0.96):
        pairs = [(rng.normal(1, 0.02, n), rng.normal(mean, 0.02 * mean, n)) for _ in range(200)]
        effects = [stats.welch(np.log(a), np.log(b)).relative() for a, b in pairs]
        words[mean] = [decide(e, e.p, "higher", ONE.min_effect, ONE.alpha) for e in effects]
    assert 145 < words[1.0].count("same") < 190
    assert words[0.96].count("worse") > 180


def test_a_collapse_to_zero_is_worse():
    """No goodput at all is a loss, not an absent figure; from nothing there is no relative change."""
    settings = Settings(metrics=("goodput",))
    there, gone = table(cells(10, metric="goodput")), table(cells(0, metric="goodput", seed=1))
    assert verdicts(compare(there, gone, settings)) == ["worse"]
    back = compare(gone, there, settings).table.iloc[0]
    assert (back["verdict"], back["note"]) == ("cannot tell", "no relative change, because the base is 0")


def test_a_percentile_of_few_requests_is_told():
    """What a summary withholds is compared with a warning; of enough requests there is none."""
    settings = Settings(metrics=("p99_ttft_ms",))
    few, enough = (table(cells(metric="p99_ttft_ms", ttft_n=n)) for n in (100, 400))
    assert (
        compare(few, enough, settings)
        .notes[0]
        .startswith("p99_ttft_ms comes from 100 requests, but needs 368")
    )
    assert compare(enough, enough, settings).notes == ()


def test_deterministic_sides_are_judged():
    """Without any noise equal is the same and different is different."""
    a = table(cells(1000, cov=0, concurrency=1), cells(1000, cov=0, concurrency=2))
    b = table(cells(1000, cov=0, concurrency=1), cells(900, cov=0, concurrency=2))
    assert verdicts(compare(a, b, ONE)) == ["same", "worse"]


def test_holm_goes_over_all_cells():
    """A p-value that would do alone does not among twenty cells."""
    pairs = [
        (cells(1000, cov=0.02, concurrency=c, seed=c), cells(1000, cov=0.02, concurrency=c, seed=100 + c))
        for c in range(1, 21)
    ]
    settings = Settings(metrics=("output_throughput",), min_effect=0.0)
    result = compare(table(*(a for a, _ in pairs)), table(*(b for _, b in pairs)), settings)
    assert (result.table["p_holm"] >= result.table["p"]).all()
    assert set(verdicts(result)) == {"cannot tell"}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("simulated", True),
        ("predicted", True),
        ("imported", True),
        ("hardware", "mi300x"),
        ("model_revision", "abc"),
        ("isl", 2048),
        ("workload_spec", '{"shared_prefix_ratio": 0.5}'),
        ("load_spec", '{"max_requests": 100}'),
        ("transport", "aiohttp"),
        ("node", "n2"),
    ],
)
def test_unlike_cells_are_refused_by_name(column, value):
    """A difference that makes figures incomparable stops the comparison, and can be allowed by name."""
    stated = {"model_revision": "xyz", "node": "n1", "workload_spec": "{}", "load_spec": "{}"}
    a, b = table(cells(**stated)), table(cells(seed=1, **(stated | {column: value})))
    with pytest.raises(InputError, match=column) as caught:
        compare(a, b, ONE)
    assert f"--allow {column}" in caught.value.fix
    allowed = compare(a, b, Settings(metrics=ONE.metrics, allow=frozenset({column})))
    assert any(column in note and "allowed" in note for note in allowed.notes)


def test_goodput_is_compared_at_equal_limits():
    """Another SLO makes another goodput, and nothing else."""
    sides = [table(cells(slo=slo, goodput=5.0)) for slo in ('{"ttft_ms": 200}', '{"ttft_ms": 2000}')]
    assert verdicts(compare(*sides, ONE)) == ["same"]
    with pytest.raises(InputError, match="different limits") as caught:
        compare(*sides, Settings(metrics=("goodput",)))
    assert "--allow slo" in caught.value.fix


def test_a_simulated_run_is_no_real_one():
    """The refusal says which side is simulated."""
    with pytest.raises(InputError, match="simulated: False against True"):
        compare(table(cells()), table(cells(simulated=True)), ONE)


def test_an_unknown_guard_is_told():
    """A revision that one side does not state is taken as alike, aloud."""
    result = compare(table(cells(model_revision="abc")), table(cells(seed=1)), ONE)
    assert result.notes[0].startswith("model_revision: abc against unknown")


def test_configuration_that_differs_is_what_is_compared():
    """Version and flags may differ and are reported."""
    a, b = table(cells(aiter="off")), table(cells(aiter="on", vllm_version="0.16.0", seed=1))
    assert compare(a, b, ONE).differs == {"aiter": ("off", "on"), "vllm_version": ("0.14.1", "0.16.0")}


def test_engines_that_differ_are_told():
    """Two model runners or attention backends are different code: the comparison names them, known or not."""
    a = table(cells(1000)).assign(model_runner="v1", attention_backend="TRITON_MLA")
    b = table(cells(1000, seed=1)).assign(model_runner="v2", attention_backend="ROCM_AITER_MLA")

    assert compare(a, b, ONE).differs == {
        "attention_backend": ("TRITON_MLA", "ROCM_AITER_MLA"),
        "model_runner": ("v1", "v2"),
    }
    assert compare(a, b.drop(columns="model_runner"), ONE).differs["model_runner"] == ("v1", "unknown")
    assert compare(a, a, ONE).differs == {}


def test_arms_of_one_run_are_matched_apart():
    """Two runs with two arms each: arm against the same arm, though model and level are equal."""
    a = table(cells(1000, cov=0.003, aiter="off"), cells(1100, aiter="on", seed=1))
    b = table(cells(1000, cov=0.003, aiter="off", seed=2), cells(1200, aiter="on", seed=3))
    result = compare(a, b, ONE)
    assert "aiter" in result.keys
    assert dict(zip(result.table["aiter"], result.table["verdict"], strict=True)) == {
        "off": "same",
        "on": "better",
    }


def test_axes_tell_arms_apart():
    """Cells that differ in an axis alone are matched by it."""
    a = table(cells(1000, axes={"block_size": 1}), cells(500, axes={"block_size": 64}, seed=1))
    result = compare(a, a, ONE)
    assert "axis.block_size" in result.keys
    assert len(result.table) == 2


def test_repeats_on_two_nodes_stay_one_cell():
    """A cell whose repeats ran on two nodes is still one cell with all its repeats."""
    a = table(cells())
    a["node"] = ["n1", "n2", "n1", "n2", "n1"]
    assert compare(a, a, ONE).table.iloc[0]["n_a"] == 5


def test_arms_of_one_run():
    """`split` gives two arms of one run, and names what there is when a value is not."""
    frame = table(cells(1000, aiter="off"), cells(1100, aiter="on", seed=1))
    assert verdicts(compare(*split(frame, "aiter", "off", "on"), ONE)) == ["better"]
    with pytest.raises(InputError, match="aiter = maybe") as caught:
        split(frame, "aiter", "off", "maybe")
    assert "off, on" in caught.value.fix
    with pytest.raises(InputError, match="no column") as caught:
        split(frame, "colour", 1, 2)
    assert caught.value.where == "--arms"


def test_invalid_rows_stay_out_and_are_counted():
    """A row that is void is not averaged in; unknown ones are, and both are counted."""
    a = table(cells())
    b = table(cells(seed=1))
    b["valid"] = pd.array([False, None, True, True, True], dtype="boolean")
    row = compare(a, b, ONE).table.iloc[0]
    assert (row["n_b"], row["dropped_b"], row["unknown_b"]) == (4, 1, 1)
    b["valid"] = False
    row = compare(a, b, ONE).table.iloc[0]
    assert (row["verdict"], row["note"]) == ("cannot tell", "no valid rows")
    assert compare(a, b, Settings(metrics=ONE.metrics, include_invalid=True)).table.iloc[0]["n_b"] == 5


def test_discarded_repeats_stay_out():
    """The first repeat after a load is kept on disk and out of judgement."""
    a = table(cells())
    a.loc[0, "discarded"] = True
    assert compare(a, a, ONE).table.iloc[0]["n_a"] == 4


def test_nothing_shared_is_an_error_that_says_why():
    """Other levels on each side: the message names them."""
    with pytest.raises(InputError, match="concurrency: 64 and 128"):
        compare(table(cells()), table(cells(concurrency=128)), ONE)


def test_cells_on_one_side_only_are_listed():
    """What could not be matched is named."""
    result = compare(table(cells(), cells(concurrency=8)), table(cells(seed=1), cells(concurrency=9)), ONE)
    assert "concurrency=8" in result.only_a[0]
    assert "concurrency=9" in result.only_b[0]


def test_a_metric_without_direction_is_refused():
    """Input throughput is neither good nor bad."""
    with pytest.raises(InputError, match="input_throughput"):
        compare(table(cells()), table(cells()), Settings(metrics=("input_throughput",)))


def test_one_server_start_against_one_cannot_tell():
    """Repeats that share a server leave out how server starts differ, however many there are."""
    result = compare(table(cells(restart="never")), table(cells(2000, restart="never", seed=1)), ONE)
    assert verdicts(result) == ["cannot tell"]
    assert result.table.iloc[0]["note"] == "each side ran on one server start"
    assert "both sides in one run" in render.comparison(result)


def test_rendered_forms():
    """Text, Markdown, JSON and CSV hold the verdict; JSON has null for what is absent; simulated is shown."""
    a, b = (
        table(cells(simulated=True), cells(n=1, concurrency=2, simulated=True)),
        table(cells(1100, seed=1, simulated=True), cells(n=1, concurrency=2, simulated=True)),
    )
    result = compare(a, b, ONE)
    text = render.comparison(result, names=("old", "new"))
    assert "better" in text
    assert "simulated: no GPU was measured" in text
    assert "+9." in text or "+10." in text
    assert render.comparison(result, as_markdown=True).startswith("| concurrency | metric |")
    rows = json.loads(render.as_json(result.table, notes=list(result.notes)))["rows"]
    assert (rows[1]["effect"], rows[1]["low"]) == (0.0, None)
    assert render.as_csv(result.table).startswith("model,workload,concurrency")


def test_loads_that_only_the_key_tells_apart_are_not_pooled():
    """Two blocks of one level that are measured for other lengths of time are two cells, not repeats of one."""
    sides = [
        table(
            *(
                cells(mean, key=f"m{load}/w/c64", seed=seed)
                for mean, load in ((1000, ""), (2000, "@duration_s=60"))
            )
        )
        for seed in (0, 1)
    ]
    assert list(compare(*sides, ONE).table["n_a"]) == [5, 5]


def test_looks_that_share_the_error_are_named():
    """The line on the significance level says how many looks share it; the unit of pairs over nights is the pair."""
    a, b = table(cells(1000)), table(cells(2000, seed=1))
    said = render.comparison(compare(a, b, Settings(metrics=("output_throughput",), looks=3)))
    assert "significance level 5% over 3 looks, with Holm's correction over 1 verdict;" in said
    assert "looks" not in render.comparison(compare(a, b, ONE))
