"""Designs, the order of arms, and effects from interleaved repeats."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cellrows import cells, table
from rocbench.errors import InputError
from rocbench.judgement import render
from rocbench.judgement.ablate import ablate
from rocbench.judgement.compare import Settings
from rocbench.judgement.factorial import abba_order, arms, confounded

ONE = Settings(metrics=("output_throughput",))
FACTORS = {"aiter": ["off", "on"], "block_size": [1, 16, 64]}


def test_full_design_is_every_combination():
    """2 x 3 levels are six arms, the base first."""
    found = arms(FACTORS, "full")
    assert len(found) == 6
    assert found[0] == {"aiter": "off", "block_size": 1}


def test_one_at_a_time_changes_one_factor():
    """The base, and each other level alone."""
    assert arms(FACTORS, "one_at_a_time") == [
        {"aiter": "off", "block_size": 1},
        {"aiter": "on", "block_size": 1},
        {"aiter": "off", "block_size": 16},
        {"aiter": "off", "block_size": 64},
    ]


def test_leave_one_out_takes_one_back():
    """Everything at its last level, then each factor back at its base."""
    switches = {"a": ["off", "on"], "b": ["off", "on"], "c": ["off", "on"]}
    found = arms(switches, "leave_one_out")
    assert found[0] == {"a": "on", "b": "on", "c": "on"}
    assert found[1:] == [found[0] | {name: "off"} for name in "abc"]


def test_pairwise_adds_each_pair():
    """Base, singles and pairs of two-level switches: 1 + k + k(k-1)/2 arms."""
    assert len(arms({name: ["off", "on"] for name in "abcd"}, "pairwise")) == 1 + 4 + 6


@pytest.mark.parametrize("design", ["full", "one_at_a_time", "leave_one_out", "pairwise"])
def test_no_arm_twice(design):
    """A design never measures the same arm as two."""
    found = [tuple(arm.items()) for arm in arms(FACTORS | {"c": [0, 1]}, design)]
    assert len(found) == len(set(found))


def test_a_factor_needs_two_levels():
    """One level is no factor."""
    with pytest.raises(InputError, match="only one level"):
        arms({"aiter": ["on"]}, "full")


def test_abba_is_a_palindrome():
    """Two repeats run the arms forth and back, each arm once a repeat, from a seed."""
    order = abba_order(3, 4, seed=1)
    assert [repeat for repeat, _ in order] == sorted([1, 2, 3, 4] * 3)
    runs = [[arm for r, arm in order if r == repeat] for repeat in (1, 2, 3, 4)]
    assert all(sorted(run) == [0, 1, 2] for run in runs)
    assert runs[1] == runs[0][::-1]
    assert runs[3] == runs[2][::-1]
    assert order == abba_order(3, 4, seed=1)


def interleaved(effects, *, n=6, cov=0.01, drift=0.0, seed=0, sd=None, **fields):
    """Arms in ABBA order on a node that drifts by `drift` a measurement."""
    rng = np.random.default_rng(seed)
    made = [cells(1000, cov=0, n=n, axes=axes, **fields) for axes, _ in effects]
    for position, (repeat, arm) in enumerate(abba_order(len(effects), n, seed)):
        noise = rng.normal(0, (sd or [cov] * len(effects))[arm])
        made[arm].loc[repeat - 1, "output_throughput"] = (
            1000 * effects[arm][1] * (1 + drift * position) * np.exp(noise)
        )
        made[arm].loc[repeat - 1, "started_at"] = f"2026-01-01T00:00:{position:02d}"
    return table(*made)


AITER = {"aiter": ["off", "on"]}


def arm(aiter, factor=1.0, **more):
    """An arm at a level of AITER, and its true factor."""
    return {"aiter": aiter, **more}, factor


def test_an_effect_is_found():
    """Plus 5 % at CoV 1 %: better, with the truth in the interval."""
    row = ablate(interleaved([arm("off"), arm("on", 1.05)]), AITER, ONE).table.iloc[0]
    assert row["verdict"] == "better"
    assert row["low"] < 0.05 < row["high"]
    assert (row["factor"], row["level"], row["against"], row["n"]) == ("aiter", "on", "off", 6)


def test_drift_does_not_pass_for_an_effect():
    """A node that slows by 1 % with each measurement: interleaved arms stay level, 'all off, then all on' would not."""
    frame = interleaved([arm("off"), arm("on")], n=8, cov=0.002, drift=-0.01)
    row = ablate(frame, AITER, Settings(metrics=ONE.metrics, min_effect=0.03)).table.iloc[0]
    assert row["verdict"] in {"same", "cannot tell"}
    assert abs(row["effect"]) < 0.01


def test_more_variable_is_its_own_verdict():
    """Same mean, ten times the spread: variability differs, the effect does not pass for one."""
    frame = interleaved([arm("off"), arm("on")], n=20, sd=[0.002, 0.02])
    row = ablate(frame, AITER, ONE).table.iloc[0]
    assert row["spread"] == "more variable"
    assert row["sd_low"] > 3
    assert row["verdict"] != "better"


def test_full_design_gives_main_effects_and_interaction():
    """Two factors: each main effect over the other's levels, and how they work together."""
    frame = interleaved(
        [arm("off", 1.0, b=1), arm("on", 1.1, b=1), arm("off", 1.2, b=2), arm("on", 1.1 * 1.2 * 0.9, b=2)],
        cov=0.001,
    )
    found = ablate(frame, {"aiter": ["off", "on"], "b": [1, 2]}, ONE).table.set_index("factor")["effect"]
    assert found["aiter"] == pytest.approx(1.1 * 0.9**0.5 - 1, abs=0.003)
    assert found["b"] == pytest.approx(1.2 * 0.9**0.5 - 1, abs=0.003)
    assert found["aiter x b"] == pytest.approx(-0.1, abs=0.003)


def test_leave_one_out_effects():
    """Each factor's effect is what it adds to all others."""
    factors = {"a": ["off", "on"], "b": ["off", "on"]}
    frame = interleaved(
        [({"a": "on", "b": "on"}, 1.3), ({"a": "off", "b": "on"}, 1.2), ({"a": "on", "b": "off"}, 1.0)],
        cov=0.001,
    )
    found = ablate(frame, factors, ONE).table.set_index("factor")["effect"]
    assert found["a"] == pytest.approx(1.3 / 1.2 - 1, abs=0.003)
    assert found["b"] == pytest.approx(0.3, abs=0.003)


def test_levels_of_the_load_are_judged_apart():
    """Each concurrency has its own effect, and Holm goes over all."""
    frame = pd.concat(
        [
            interleaved([arm("off"), arm("on", 1.0)], concurrency=10),
            interleaved([arm("off"), arm("on", 1.04)], concurrency=100, cov=0.003),
        ],
        ignore_index=True,
    )
    found = ablate(frame, AITER, ONE).table.set_index("concurrency")["verdict"]
    assert found[100] == "better"
    assert found[10] != "better"


TWO = [
    (f, {"aiter": a, "b": b}) for f, a, b in ((1, "off", 1), (1.05, "on", 1), (2, "off", 2), (2.4, "on", 2))
]


def test_other_axes_and_factors_are_judged_apart():
    """What is not named as a factor tells lines apart, whether an axis or a flag: no row replaces another."""
    frame = interleaved([(axes, factor) for factor, axes in TWO], cov=0.003)
    found = ablate(frame, AITER, ONE).table
    assert list(found["axis.b"]) == [1, 2]
    assert list(found["effect"]) == pytest.approx([0.05, 0.2], abs=0.01)
    other = frame.assign(
        axes=[axes.replace(', "b": 1', "").replace(', "b": 2', "") for axes in frame["axes"]]
    )
    other["serve_args"] = ['{"--b": 1}' if '"b": 1' in axes else '{"--b": 2}' for axes in frame["axes"]]
    assert list(ablate(other, AITER, ONE).table["flag --b"]) == ["1", "2"]
    assert "axis.b" in render.ablation(ablate(frame, AITER, ONE))


def test_an_axis_that_changes_with_the_arms_is_told():
    """Taken together in a matrix, what each of two does cannot be told."""
    zipped = ablate(interleaved([arm("off", tp=4), arm("on", 1.05, tp=8)]), AITER, ONE)
    assert zipped.notes == (
        "axis.tp also differs between the arms, so the effect of axis.tp is mixed with that of the factor",
    )


def test_a_repeat_that_is_there_twice_is_refused():
    """The same run named twice has no second set of repeats."""
    frame = interleaved([arm("off"), arm("on")])
    with pytest.raises(InputError, match="repeat 1 of aiter=off occurs twice"):
        ablate(pd.concat([frame, frame], ignore_index=True), AITER, ONE)


def test_a_collapse_to_zero_is_worse():
    """An arm without any throughput is a loss, not a row that is missing."""
    row = ablate(interleaved([arm("off"), arm("on", 0.0)]), AITER, ONE).table.iloc[0]
    assert (row["verdict"], row["n"]) == ("worse", 6)
    assert row["effect"] == pytest.approx(-1)
    back = ablate(interleaved([arm("off", 0.0), arm("on")]), AITER, ONE).table.iloc[0]
    assert (back["verdict"], back["note"]) == ("cannot tell", "no relative change, because the base is 0")


def test_an_invalid_repeat_costs_its_pair():
    """A void row drops out with the repeat it belongs to, and is counted."""
    frame = interleaved([arm("off"), arm("on", 1.05)])
    frame.loc[0, "valid"] = False
    row = ablate(frame, AITER, ONE).table.iloc[0]
    assert (row["n"], row["dropped"]) == (5, 1)


def test_one_repeat_cannot_tell():
    """An ablation of single runs tells nothing."""
    row = ablate(interleaved([arm("off"), arm("on", 2.0)], n=1), AITER, ONE).table.iloc[0]
    assert (row["verdict"], row["spread"]) == ("cannot tell", "cannot tell")


def test_arms_that_ran_one_after_the_other_are_told():
    """All repeats of one arm first: the reader is warned of drift."""
    frame = table(cells(axes={"aiter": "off"}), cells(axes={"aiter": "on"}, seed=1))
    frame["started_at"] = [f"2026-01-01T00:00:{i:02d}" for i in range(10)]
    assert any("interleaved" in note for note in ablate(frame, AITER, ONE).notes)
    assert list(ablate(frame, AITER, ONE).table["verdict"]) == ["cannot tell"]
    first = interleaved([arm("off"), arm("on")])
    assert ablate(first, AITER, ONE).notes == ()
    later = first.assign(run_id="r2", started_at=[at.replace("2026", "2027") for at in first["started_at"]])
    assert ablate(pd.concat([first, later], ignore_index=True), AITER, ONE).notes == ()


@pytest.mark.parametrize(
    ("runs", "why"), [(1, "each side ran on one server start"), (2, "the same arm ran first in most runs")]
)
def test_arms_on_one_server_start_each_cannot_tell(runs, why):
    """As in a comparison of two arms: the repeats do not show how far server starts differ."""
    frame = interleaved([arm("off"), arm("on", 2.0)], restart="never")
    frame["server_id"] = frame["axes"]
    frames = [frame.assign(run_id=f"r{i}") for i in range(runs)]
    result = ablate(pd.concat(frames, ignore_index=True), AITER, ONE)
    (row,) = result.table.to_dict("records")
    assert row["verdict"] == "cannot tell"
    assert why in row["note"]
    assert row["spread"] == "cannot tell"
    assert "what would help most: `factors`" in render.ablation(result)
    started = frame.assign(server_id=[f"{a}{r}" for a, r in zip(frame["axes"], frame["repeat"], strict=True)])
    assert ablate(started, AITER, ONE).table.iloc[0]["verdict"] == "better"


def test_an_ablation_says_why_it_cannot_tell_and_what_would_help():
    """Effects and variability, each with the repeats that would be enough; a hopeless ratio has no long number."""
    said = render.ablation(ablate(interleaved([arm("off"), arm("on")], n=3, cov=0.03), AITER, ONE))
    assert "a change of 2% matters; " in said
    assert "repeats instead of 3 would decide most of them" in said
    assert "variability cannot be told (1 of 1) from 3 repeats: 20 show a threefold" in said
    looked = Settings(metrics=ONE.metrics, looks=4)
    assert "level 5% over 4 looks" in render.ablation(
        ablate(interleaved([arm("off"), arm("on")]), AITER, looked)
    )
    wide = {"sd_ratio": 28.3, "sd_low": 0.0001, "sd_high": 373222.2}
    assert render._ratio(wide) == "28.30 [<0.01, >100]"


def test_a_factor_may_be_a_column():
    """A row without axes stands at the level its column says."""
    frame = table(cells(aiter="off"), cells(1100, aiter="on", seed=1))
    assert ablate(frame, AITER, ONE).table.iloc[0]["verdict"] == "better"


def test_unknown_factors_are_refused():
    """A factor that no row knows is an error."""
    with pytest.raises(InputError, match="colour"):
        ablate(table(cells()), {"colour": ["red", "blue"]}, ONE)


def test_confounded_arms_are_named():
    """KV offload that also changes the attention back end is more than one factor."""
    told = confounded(
        [
            ({"offload": "off"}, {"attention back end": "ROCM_AITER_FA"}),
            ({"offload": "on"}, {"attention back end": "TRITON_ATTN"}),
        ]
    )
    assert told == ("offload: off -> on also changes attention back end: ROCM_AITER_FA -> TRITON_ATTN",)
    assert confounded([({"a": 1}, {"x": 1}), ({"a": 2}, {"x": 1})]) == ()


def test_confounded_arms_are_told_once_and_from_the_base():
    """Whatever the order in which arms ran: each change once, from base to level; what is unknown is no change."""
    served = {"off": "ROCM_AITER_FA", "on": "TRITON_ATTN"}
    arms_ = [arm("on", b=2), arm("off", b=2), arm("off", b=1), arm("on", b=1)]
    frame = interleaved(arms_, cov=0.001)
    levels = [json.loads(axes)["aiter"] for axes in frame["axes"]]
    frame = frame.assign(attention_backend=[served[level] for level in levels])
    factors = AITER | {"b": [1, 2]}
    told = [note for note in ablate(frame, factors, ONE).notes if "also changes" in note]
    assert told == [
        "llama, from the server's own report: aiter: off -> on also changes attention_backend: ROCM_AITER_FA -> TRITON_ATTN"
    ]
    unknown = frame.assign(attention_backend=frame["attention_backend"].replace("TRITON_ATTN", None))
    assert not any("also changes" in note for note in ablate(unknown, factors, ONE).notes)


def test_entries_of_one_model_are_not_each_others_arms():
    """Two servers of one model (tp 4 and tp 8) with other back ends: no factor changed them."""
    frame = pd.concat(
        [
            interleaved([arm("off"), arm("on", 1.1)], tp=tp, attention_backend=backend)
            for tp, backend in ((4, "ROCM_AITER_FA"), (8, "TRITON_ATTN"))
        ],
        ignore_index=True,
    )
    assert not any("also changes" in note for note in ablate(frame, AITER, ONE).notes)


def test_rendered():
    """Text and Markdown hold effect, interval and both verdicts."""
    result = ablate(interleaved([arm("off"), arm("on", 1.05)]), AITER, ONE)
    text = render.ablation(result)
    assert "on against off" in text
    assert "better" in text
    assert render.ablation(result, as_markdown=True).startswith("| factor | level |")


def one_start_each(run, first, *, n=3, shift=0.0, seed=0):
    """A run that measures one arm n times on one server, then the other arm on another."""
    rng = np.random.default_rng(seed)
    found = []
    for place, level in enumerate((first, "on" if first == "off" else "off")):
        frame = cells(
            1000 * (1 - place * shift), cov=0.002, n=n, axes={"aiter": level}, seed=int(rng.integers(1 << 30))
        )
        hours = [f"2026-11-01T{2 * place + i // 4:02d}:{15 * (i % 4):02d}:00+00:00" for i in range(n)]
        day = f"2026-11-{1 + int(run):02d}"
        found.append(
            frame.assign(run_id=f"r{run}", server_id=f"0{place}-m", started_at=[day + h[10:] for h in hours])
        )
    return found


def test_one_server_start_of_each_arm_cannot_tell():
    """Repeats on one server do not show how far starts differ: two clock states were told as an effect in 32 of 100 such runs."""
    row = ablate(table(*one_start_each(0, "off", shift=0.06)), AITER, ONE).table.iloc[0]
    assert (row["verdict"], row["note"]) == ("cannot tell", "each side ran on one server start")
    assert np.isnan(row["low"])
    assert row["effect"] == pytest.approx(-0.06, abs=0.01)


def test_arms_in_blocks_cannot_tell():
    """With a server start in every repeat, but one arm after the other, a drift looks like an effect."""
    frames = one_start_each(0, "off", n=4, shift=0.06)
    frame = table(*(each.assign(server_id=[f"0{i}.{r}" for r in range(4)]) for i, each in enumerate(frames)))
    row = ablate(frame, AITER, ONE).table.iloc[0]
    assert (row["verdict"], row["note"]) == (
        "cannot tell",
        "the sides were not interleaved: one ran after the other",
    )


def test_runs_with_one_start_of_each_arm_are_the_pairs():
    """Four runs of three repeats are four pairs, if the order of the arms alternates; else a drift looks like an effect."""
    turns = [one_start_each(i, ("off", "on")[i % 2], seed=i) for i in range(4)]
    row = ablate(table(*(each for frames in turns for each in frames)), AITER, ONE).table.iloc[0]
    assert (row["n"], row["verdict"]) == (4, "same")
    same = [one_start_each(i, "off", shift=0.02, seed=i) for i in range(4)]
    row = ablate(table(*(each for frames in same for each in frames)), AITER, ONE).table.iloc[0]
    assert row["verdict"] == "cannot tell"
    assert "alternate the order" in row["note"]


def test_an_infinite_figure_cannot_tell():
    """As in a comparison; its repeat has no logarithm to judge."""
    frame = interleaved([arm("off"), arm("on")])
    frame.loc[0, "output_throughput"] = np.inf
    row = ablate(frame, AITER, ONE).table.iloc[0]
    assert (row["verdict"], row["note"]) == ("cannot tell", "a figure is infinite")
