"""The questions to vLLM: plans as a server gets them, with the opinion of the rules."""

from __future__ import annotations

import dataclasses

import pytest

import questions as maker
from proofs import asked
from rocbench.rules.resolve import resolve
from rocbench.settings import catalog
from rulecases import request


def about(version, *start):
    """The questions whose plan begins with these words."""
    return [q for q in asked(version) for view in q.views if view.about[: len(start)] == start]


def test_a_profile_is_asked_with_the_arguments_of_its_plan():
    """The default arm holds exactly the arguments and variables of `bench`'s plan, on both architectures."""
    for hardware, gfx in (("mi325x", "gfx942"), ("mi355x", "gfx950")):
        (question,) = about("0.33.0", "profile", "deepseek-r1", hardware, "default")
        plan = resolve(request({"model": "deepseek-r1", "hardware": hardware}, "0.33.0"))
        assert question.args == plan.argv()[1:]
        assert question.env == plan.environment()
        assert question.gfx == gfx
        assert question.priority == 0


def test_a_profile_is_the_packaged_one():
    """A model of the rules' cases with the name of a profile does not replace it."""
    for name in ("deepseek-r1", "minimax-m3", "kimi-k3"):
        if name in catalog.names("models"):
            question = about("0.33.0", "profile", name, "mi355x", "default")[0]
            assert question.config == maker.published_config(catalog.model(name))


def test_a_part_of_a_variant_is_left_out_in_an_arm_of_its_own():
    """Each argument and variable of the variant is missing from its arm's plan, unless a rule sets it."""
    (question,) = about("0.16.0", "profile", "kimi-k2.5", "mi325x", "without block-size")
    (whole,) = about("0.16.0", "profile", "kimi-k2.5", "mi325x", "default")
    assert "--block-size" in whole.args
    assert "--block-size" not in question.args


@pytest.mark.parametrize("version", ["0.14.1", "0.33.0"])
def test_ids_are_hashes_of_the_content(version):
    """Two questions with one id do not exist; another argument, variable, release or architecture is another id."""
    known = asked(version)
    assert len({question.id for question in known}) == len(known)
    one = known[0]
    changed = (
        {"args": (*one.args, "--seed", "1")},
        {"env": {**one.env, "A": "1"}},
        {"vllm": "0.12.0"},
        {"gfx": "gfx90a"},
        {"config": {**one.config, "x": 1}},
    )
    assert len({one.id, *(dataclasses.replace(one, **change).id for change in changed)}) == 6
    assert dataclasses.replace(one, views=(), model="another", priority=9).id == one.id


def test_a_rule_is_asked_on_both_sides():
    """A refusal at its edge is asked as it is and without its condition, and one release outside its range."""
    inside = {view.about[2] for q in asked("0.16.0") for view in q.views if view.about[1] == "heads-16-128"}
    outside = {view.about[2] for q in asked("0.18.1") for view in q.views if view.about[1] == "heads-16-128"}
    assert inside == {"refuses", "silent"}
    assert outside == {"silent"}
    assert not about("0.33.0", "rule", "heads-16-128")


def test_a_rule_that_sets_is_asked_with_and_without_its_value():
    """The value as the rule sets it, unset, and contradicted."""
    sides = ("sets", "unset", "refuses")
    questions = {side: about("0.16.0", "rule", "bs-sparse-1", side)[0] for side in sides}
    assert "--block-size" in questions["sets"].args
    assert "--block-size" not in questions["unset"].args
    views = [v for q in about("0.16.0", "rule", "bs-sparse-1", "unset") for v in q.views]
    assert any("bs-sparse-1" in view.refused for view in views)


def test_a_plan_that_leaves_all_to_vllm_names_the_defaults_that_bench_pins():
    """With nothing but the parallel size set, bench says which defaults this release has."""
    (question,) = about("0.33.0", "bare", "llama-3.1-405b", "mi325x", "with aiter")
    view = next(view for view in question.views if view.about[0] == "bare")
    assert question.args == ("--tensor-parallel-size", "8")
    assert view.pinned["--max-num-batched-tokens"] == 16384
    assert view.chosen["backend"] == "ROCM_ATTN"
    assert not view.judged


def test_the_storage_of_the_weights_is_in_the_config():
    """The config that vLLM reads has the quantisation, as in the published file."""
    (question,) = about("0.33.0", "profile", "deepseek-r1", "mi325x", "default")
    assert question.config["quantization_config"]["weight_block_size"] == [128, 128]
