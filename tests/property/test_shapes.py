"""A shape that is not understood is in doubt by name, and nothing that is in doubt refuses or voids."""

from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import published
from rocbench.errors import ConfigError
from rocbench.model.architecture import from_config
from rocbench.model.hfconfig import without_effect
from rocbench.model.kinds import foreign
from rocbench.plan.estimate import estimate
from rocbench.rules.resolve import ServeRequest, resolve
from rocbench.settings import catalog
from rocbench.settings.checkpoints import detect_checkpoint
from rocbench.settings.schema import Checkpoint, Length, Load, ModelProfile, Workload
from rocbench.verdict.evidence import Evidence
from rocbench.verdict.judge import judge

TABLE = yaml.load(
    (Path(__file__).parents[1] / "fixtures" / "published_parameters.yaml").read_text(),
    Loader=yaml.CSafeLoader,
)
CONFIGS = [model["config"] for model in TABLE] + [published.config(name) for name in published.MODELS]
WORDS = st.sampled_from(
    "layer layers expert experts head heads size pattern dim width rank block period ratio".split()
)
NEW = st.builds("_".join, st.lists(WORDS, min_size=2, max_size=4)).map("zz_{}".format)
VALUES = st.one_of(
    st.integers(1, 10_000),
    st.lists(st.integers(0, 1), min_size=1, max_size=8),
    st.lists(st.sampled_from(["full", "ring", "moe"]), min_size=1, max_size=8),
    st.dictionaries(st.sampled_from(["heads", "width"]), st.integers(1, 8), min_size=1),
    st.sampled_from(["LLG", "MEM*", "yes"]),
    st.just(True),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-4, 300)
    | st.sampled_from(["int4", "fp8", "4bit", "x", "re:.*attn.*"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "quant_method bits group_size config_groups weights num_bits type ignore global_quant_config weight dtype".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def text_of(config):
    """The language model's part."""
    return config.get("text_config", config)


@given(st.sampled_from(CONFIGS), NEW, VALUES)
def test_a_field_that_nobody_reads_is_a_doubt_by_its_name(config, name, value):
    """Whatever a config has besides, of structure: figures do not stand as if it were not there."""
    assume(not without_effect(name))
    part = {**text_of(config), name: value}
    arch = from_config({**config, "text_config": part} if "text_config" in config else part)
    assert any(doubt.startswith(f"{name}:") for doubt in arch.unknown)


@given(st.sampled_from(CONFIGS), st.data())
def test_a_word_that_is_not_known_is_a_doubt_by_its_field(config, data):
    """One layer of a list or a pattern that says something new."""
    part = text_of(config)
    names = [
        name
        for name, value in part.items()
        if isinstance(value, list | str)
        and len(value) > 4
        and name in ("layer_types", "layers_block_type", "hybrid_override_pattern", "mlp_layer_types", "attn_type_list",
                     "hybrid_layer_pattern", "block_configs", "indexer_types")
    ]  # fmt: skip
    assume(names)
    name = data.draw(st.sampled_from(names))
    entries = list(part[name])
    entries[data.draw(st.integers(0, len(entries) - 1))] = "Q" if isinstance(part[name], str) else "quantum"
    changed = {**part, name: "".join(entries) if isinstance(part[name], str) else entries}
    arch = from_config({**config, "text_config": changed} if "text_config" in config else changed)
    assert any(doubt.startswith(f"{name}:") for doubt in arch.unknown)


@given(st.sampled_from(CONFIGS), st.data())
def test_a_field_of_another_model_is_a_doubt_by_its_name(config, data):
    """Fields of other model types are not read for this one; an unreadable field is one message."""
    other = text_of(data.draw(st.sampled_from(CONFIGS)))
    part = text_of(config)
    kind = from_config(config).model_type
    names = sorted(name for name in other if name not in part and other[name] and foreign(kind, name))
    assume(names)
    name = data.draw(st.sampled_from(names))
    changed = {**part, name: other[name]}
    try:
        arch = from_config({**config, "text_config": changed} if "text_config" in config else changed)
    except ConfigError:
        return
    assert any(doubt.startswith(f"{name}:") for doubt in arch.unknown)


@given(JSON)
@settings(max_examples=200)
def test_any_quantisation_is_read_or_doubted(quantisation):
    """No form of `quantization_config` ends in a traceback, and none is taken for 16 bits in silence."""
    stored, doubts = detect_checkpoint({"quantization_config": quantisation})
    assert 1 <= stored.bits <= 32
    assert doubts or stored != Checkpoint() or not quantisation


def profile_of(config, checkpoint, name="doubtful"):
    """A model profile of it."""
    return ModelProfile(
        name=name,
        hf_id="o/m",
        config=config,
        checkpoint=checkpoint,
        precision="bf16",
        tp=1,
        max_model_len=4096,
    )


@given(
    st.sampled_from(CONFIGS),
    st.integers(1, 300),
    st.sampled_from(["shape", "checkpoint", "type"]),
    st.sampled_from(["mi300x", "mi325x", "mi355x"]),
    st.integers(1, 8),
)
@settings(max_examples=60, deadline=None)
def test_no_doubtful_figure_refuses(config, times, what, node, length):
    """A model that would not fit by far is planned, and the note names the doubt."""
    part = dict(text_of(config))
    part["vocab_size"] = int(part.get("vocab_size") or 1000) * times
    if what == "shape":
        part["zz_expert_layers"] = 3
    if what == "type":
        part["model_type"] = "zz_new"
    checkpoint = Checkpoint(unsure=("checkpoint: of unknown form",)) if what == "checkpoint" else Checkpoint()
    changed = {**config, "text_config": part} if "text_config" in config else part
    try:
        arch = from_config(changed)
    except ConfigError:
        assume(what == "type")  # a type of another form is a message
        return
    profile, hardware = profile_of(changed, checkpoint), catalog.hardware(node)
    resolution = resolve(ServeRequest(profile=profile, hardware=hardware, vllm="0.19.0", tp=1))
    work = Workload(name="w", isl=Length(mean=1000 * length), osl=Length(mean=100))
    estimated = estimate(profile, hardware, resolution, work, Load(), concurrency=4)
    assert estimated.cannot_fit is None
    assert estimated.duration_s
    assert (arch.unknown + checkpoint.unsure)[0] in estimated.in_doubt


@given(st.floats(0, 1e6), st.text(min_size=1, max_size=30), st.sampled_from(["rocm", "cpu", None]))
def test_no_doubtful_figure_voids(share, doubts, platform):
    """Above a doubtful limit a row is unknown; below it the limit proves nothing."""
    evidence = Evidence(roofline_share=share, shape_doubts=doubts, platform=platform)
    outcome = judge(evidence)
    assert "above_hardware_limit" not in outcome.reasons
    assert ("shape_unsure" in outcome.reasons) is (share > 1 and platform != "cpu")
    assert "shape_unsure" not in judge(Evidence(roofline_share=share)).reasons
