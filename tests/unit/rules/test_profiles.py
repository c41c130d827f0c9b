"""The packaged profiles: each resolves at the versions it names, and is as large as its model."""

from __future__ import annotations

import pytest

from rocbench.model.architecture import from_config
from rocbench.rules.load import shipped
from rocbench.rules.resolve import resolve
from rocbench.rules.versions import Range
from rocbench.settings import catalog
from rulecases import request

MODELS = [name for name in catalog.names("models") if not name.startswith("tiny-")]
REFUSED = {("qwen3-vl-235b-fp8", "<0.29")}
"""Shipped so on purpose: TP8 without expert parallel, as the study would have run it."""


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
        resolution = resolve(request({"model": name}, version))
        if resolution.facts.architecture_missing:
            continue
        unknown = [f.message for f in resolution.warnings if f.rule in ("unknown-flag", "unknown-env")]
        assert not unknown, (version, unknown)
        if not any(name == model and Range.parse(span).holds(version) for model, span in REFUSED):
            assert not resolution.contradictions, (version, resolution.contradictions)


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("llama-3.1-405b", 405.85, 405.85),
        ("deepseek-r1", 671.03, 37.55),
        ("deepseek-v3.1", 671.03, 37.55),
        ("deepseek-v3.2", 671.88, 37.55),
        ("kimi-k2.5", 1026.4, 32.86),
        ("kimi-k2-thinking", 1026.4, 32.86),
        ("qwen3-235b", 235.09, 22.19),
        ("qwen3-vl-235b", 235.09, 22.19),
        ("qwen3-vl-235b-fp8", 235.09, 22.19),
        ("glm-5.2", 743.9, 41.8),
        ("gpt-oss-120b", 116.79, 5.71),
        ("minimax-m2", 228.7, 11.0),
    ],
)
def test_a_profile_is_as_large_as_its_model(name, total, active):
    """Parameters in billions, derived from the config, beside the published ones: 1 % (V3.2's indexer: 3 %)."""
    arch = from_config(catalog.model(name).config)
    assert arch.total_params / 1e9 == pytest.approx(total, rel=0.01)
    assert arch.active_params / 1e9 == pytest.approx(active, rel=0.03 if name == "deepseek-v3.2" else 0.015)


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
        ("minimax-m2", "gqa"),
        ("tiny-llama-gqa", "gqa"),
        ("tiny-deepseek-v3-mla-moe", "mla_dense"),
    ],
)
def test_family(name, family):
    """Each profile's attention family."""
    assert from_config(catalog.model(name).config).family == family


def test_vision_models_are_known_as_such():
    """Kimi-K2.5 and Qwen3-VL take images, DeepSeek does not."""
    seen = {name: from_config(catalog.model(name).config).vision for name in catalog.names("models")}
    assert {name for name, vision in seen.items() if vision} == {
        "kimi-k2.5",
        "qwen3-vl-235b",
        "qwen3-vl-235b-fp8",
        "tiny-qwen3-vl",
    }


@pytest.mark.parametrize("name", catalog.names("models"))
def test_each_value_of_a_profile_has_a_reason_of_its_own(name):
    """`bench explain` says of every value why it is so; the profile's note stands once beside them."""
    for variant in catalog.model(name).serve:
        version = next(v for v in shipped().names.releases if Range.parse(variant.vllm).holds(v))
        resolution = resolve(request({"model": name}, version))
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
