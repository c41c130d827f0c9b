"""The packaged profiles: each resolves at the versions it names, and is as large as its model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rocbench.model.architecture import from_config
from rocbench.physics.published import Comparison, comparisons
from rocbench.rules.load import shipped
from rocbench.rules.resolve import ServeRequest, resolve
from rocbench.rules.versions import Range
from rocbench.settings import catalog
from rulecases import request

MODELS = [name for name in catalog.names("models") if not name.startswith("tiny-")]
REFUSED = {("qwen3-vl-235b-fp8", "<0.29")}
"""Shipped so on purpose: TP8 without expert parallel, as the study would have run it."""


def served(name: str, version: str) -> ServeRequest:
    """The shipped profile, even if the cases of the rules have a model of the same name."""
    profile = catalog.model(name)
    return replace(request({"model": "llama-3.3-70b"}, version), profile=profile, nodes=profile.nodes)


@pytest.mark.parametrize("name", catalog.names("models"))
def test_a_profile_names_itself_and_its_sources(name):
    """File and name agree; each variant has a source; the vocabulary is the config's; every field is understood."""
    profile = catalog.model(name)
    assert profile.name == name
    assert not profile.hf_id.startswith("ORGANISATION/")
    assert from_config(profile.config).unknown == ()
    assert profile.sources
    assert profile.vocab_size == from_config(profile.config).vocab_size
    assert all(variant.source for variant in profile.serve)


@pytest.mark.parametrize("name", MODELS)
def test_a_profile_resolves_wherever_it_has_a_variant(name):
    """At every release of vLLM that a variant covers, no rule refuses it, and no name is unknown there."""
    profile = catalog.model(name)
    for version in shipped().names.releases:
        if not any(Range.parse(variant.vllm).holds(version) for variant in profile.serve):
            continue
        resolution = resolve(served(name, version))
        if resolution.facts.architecture_missing:
            continue
        unknown = [f.message for f in resolution.warnings if f.rule in ("unknown-flag", "unknown-env")]
        assert not unknown, (version, unknown)
        if not any(name == model and Range.parse(span).holds(version) for model, span in REFUSED):
            assert not resolution.contradictions, (version, resolution.contradictions)


@pytest.mark.parametrize("name", MODELS)
def test_a_profile_is_as_large_as_its_model(name):
    """Parameters and KV bytes agree with the published figures that the profile names, to 1 % or half of their last digit."""
    profile = catalog.model(name)
    assert profile.published is not None
    compared = {figure.what: figure for figure in comparisons(profile)}
    assert compared["total"].published is not None
    assert [what for what, figure in compared.items() if not figure.agrees] == []


def test_a_deviation_is_of_the_published_figure():
    """Percent of what is published; half of its last digit is granted, and 1 % of an exact one."""
    assert Comparison("total", 101.0, 100.0).deviation == pytest.approx(0.01)
    assert Comparison("total", 101.0, 100.0).agrees
    assert not Comparison("total", 101.1, 100.0).agrees
    assert Comparison("total", 1050.0, 1000.0, unit=100.0).agrees
    assert not Comparison("total", 1051.0, 1000.0, unit=100.0).agrees
    assert (Comparison("kv", 5.0, None).deviation, Comparison("kv", 5.0, None).agrees) == (None, True)


def test_a_figure_is_counted_as_its_source_counts_it():
    """With the vision tower or MTP layers, without the embedding."""
    totals = {name: next(comparisons(catalog.model(name))).derived for name in ("minimax-m3", "qwen3.8-2.4t")}
    for name, total in totals.items():
        arch = from_config(catalog.model(name).config)
        assert total - arch.total_params == (arch.vision_params or arch.parts.mtp)
    _, active, _ = comparisons(catalog.model("glm-5.3"))
    arch = from_config(catalog.model("glm-5.3").config)
    assert active.derived == arch.active_params - 2 * arch.parts.embedding


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("deepseek-v3.2", "mla_sparse"),
        ("glm-5.2", "mla_sparse"),
        ("glm-5.3", "mla_sparse"),
        ("kimi-k2.5", "mla_dense"),
        ("deepseek-r1", "mla_dense"),
        ("deepseek-v4-flash", "mla_compressed"),
        ("llama-3.1-405b", "gqa"),
        ("llama-3.3-70b", "gqa"),
        ("qwen3-vl-235b", "gqa"),
        ("gpt-oss-120b", "gqa"),
        ("gpt-oss-20b", "gqa"),
        ("llama-4-maverick", "gqa"),
        ("minimax-m2", "gqa"),
        ("minimax-m3", "gqa"),
        ("deepseek-v4-pro", "mla_compressed"),
        ("deepseek-v4.1-flash", "mla_compressed"),
        ("kimi-k3", "hybrid"),
        ("nemotron-3-super", "hybrid"),
        ("qwen3.5-397b", "hybrid"),
        ("qwen3.8-2.4t", "hybrid"),
        ("tiny-llama-gqa", "gqa"),
        ("tiny-deepseek-v3-mla-moe", "mla_dense"),
    ],
)
def test_family(name, family):
    """Each profile's attention family."""
    assert from_config(catalog.model(name).config).family == family


def test_vision_models_are_known_as_such():
    """Kimi-K2.5 and Qwen3-VL take images, DeepSeek V3 does not."""
    seen = {name: from_config(catalog.model(name).config).vision for name in catalog.names("models")}
    assert {name for name, vision in seen.items() if vision} == {
        "deepseek-v4.1-flash",
        "kimi-k2.5",
        "kimi-k3",
        "llama-4-maverick",
        "minimax-m3",
        "qwen3.5-397b",
        "qwen3-vl-235b",
        "qwen3-vl-235b-fp8",
        "tiny-qwen3-vl",
    }


@pytest.mark.parametrize("name", catalog.names("models"))
def test_each_value_of_a_profile_has_a_reason_of_its_own(name):
    """`bench explain` says of every value why it is so; the profile's note stands once beside them."""
    for variant in catalog.model(name).serve:
        version = next(v for v in shipped().names.releases if Range.parse(variant.vllm).holds(v))
        resolution = resolve(served(name, version))
        told = {e.name: e.why for e in (*resolution.args, *resolution.env) if e.provenance == "profile"}
        assert not [n for n, why in told.items() if why == f"for vLLM {variant.vllm}"]
        assert len(set(told.values())) == len(told)
        assert resolution.note == variant.note
        assert set(variant.why) <= {name.lstrip("-") for name in told}


def test_a_reason_speaks_of_the_value_and_the_facts():
    """The same flag has another reason at another value; facts are filled in."""
    resolution = resolve(request({"model": "kimi-k2.5", "tp": 8}, "0.18.1"))
    by_name = {entry.name: entry.why for entry in (*resolution.args, *resolution.env)}
    assert (
        by_name["--mm-encoder-tp-mode"]
        == "each rank has the whole vision tower and processes its share of the images"
    )
    table = shipped()
    assert table.reason("VLLM_ROCM_USE_AITER", "1") != table.reason("VLLM_ROCM_USE_AITER", "0")
    assert table.reason("enable-prefix-caching", True).startswith("the beginning that several prompts share")
    assert table.reason("quantization", "awq") == ""


GPUS = [name for name in catalog.names("hardware") if catalog.hardware(name).gpu]
UNITS = {
    "mi300x": (304, 2.1),
    "mi308x": (80, 2.1),
    "mi325x": (304, 2.1),
    "mi350x": (256, 2.2),
    "mi355x": (256, 2.4),
}
"""Compute units and their clock in GHz."""
PER_CLOCK = {
    "gfx942": {"bf16": 2048, "fp16": 2048, "fp8": 4096, "int8": 4096},
    "gfx950": {"bf16": 4096, "fp16": 4096, "fp8": 8192, "int8": 8192, "fp4": 16384},
}
"""Operations of one compute unit per clock."""


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu_s_peaks_are_those_of_its_compute_units(name):
    """Units x clock x operations per clock, for each GPU with a data sheet; the others are marked as announced."""
    hardware = catalog.hardware(name)
    assert hardware.name == name
    assert hardware.sources
    assert hardware.gpu is not None
    if hardware.announced:
        assert name not in UNITS
        assert hardware.unconfirmed
        return
    units, ghz = UNITS[name]
    for kind, operations in PER_CLOCK[hardware.gpu.gfx].items():
        assert hardware.gpu.flops[kind] == pytest.approx(units * ghz * 1e9 * operations, rel=1e-3), kind
    assert hardware.gpu.device_ids
    assert hardware.gpu.power_w or hardware.unconfirmed


def test_no_rule_decides_by_an_architecture_that_it_was_not_read_for():
    """On gfx1250, rules that depend on the architecture are undecided, neither applied nor silently left out."""
    requests = {
        name: replace(
            request({"model": "deepseek-r1", "aiter": None}, "0.33.0"), hardware=catalog.hardware(name), tp=4
        )
        for name in ("mi355x", "mi455x")
    }
    decided, unknown = (resolve(requests[name]) for name in ("mi355x", "mi455x"))
    assert not decided.undecided
    assert decided.facts.gfx == "gfx950"
    assert unknown.facts.gfx is None
    assert "aiter-on" in {finding.rule for finding in unknown.undecided}
    assert "aiter-on" not in {entry.rule for entry in unknown.env}
    assert not unknown.contradictions
