"""Flags: every spelling is one flag, JSON flags merge by key, values have their flag's type."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench.errors import InputError
from rocbench.rules.flags import canonical, leaves, lives, missing, render, takes
from rocbench.rules.load import shipped
from rocbench.sim.argv import parse

NAMES = shipped().names


@pytest.mark.parametrize(
    ("spelling", "leaf", "positive"),
    [
        ("--tensor-parallel-size", "tensor-parallel-size", True),
        ("tensor_parallel_size", "tensor-parallel-size", True),
        ("-tp", "tensor-parallel-size", True),
        ("ep", "enable-expert-parallel", True),
        ("no-enable-prefix-caching", "enable-prefix-caching", False),
        ("--no_enable_prefix_caching", "enable-prefix-caching", False),
        ("disable-hybrid-kv-cache-manager", "disable-hybrid-kv-cache-manager", True),
        ("-cc.pass_config.fuse-rope-kvcache", "compilation-config.pass_config.fuse_rope_kvcache", True),
        ("kv_transfer_config.kv_connector", "kv-transfer-config.kv_connector", True),
        ("an-unknown-flag", "an-unknown-flag", True),
    ],
)
def test_spellings_of_a_flag(spelling, leaf, positive):
    """Dashes, underscores, short names, `no-` forms and dotted keys."""
    assert canonical(spelling, NAMES) == (leaf, positive)


@pytest.mark.parametrize(
    ("spelling", "leaf", "value"),
    [
        ("--disable-prefix-caching", "enable-prefix-caching", False),
        ("no-disable-prefix-caching", "enable-prefix-caching", True),
        ("--enable-hybrid-kv-cache-manager", "disable-hybrid-kv-cache-manager", False),
        ("--enable-prefix-caching", "enable-prefix-caching", True),
        ("disable-log-requests", "disable-log-requests", True),  # older than its pair, and gone for a while
    ],
)
def test_the_opposite_of_a_flag_is_the_same_setting(spelling, leaf, value):
    """vLLM 0.33 pairs each boolean `--enable-x` with a `--disable-x`; the older one works in every release."""
    assert leaves({spelling: True}, shipped().names, "args") == {leaf: value}


def test_a_json_flag_and_its_dotted_keys_are_one():
    """A mapping, a JSON text and dotted keys end as leaves of the same flag, and render as one."""
    as_map = leaves({"compilation-config": {"mode": 3, "pass_config": {"a": True}}}, NAMES, "")
    as_text = leaves({"compilation_config": '{"mode": 3, "pass_config": {"a": true}}'}, NAMES, "")
    dotted = leaves({"cc.mode": 3, "compilation-config.pass_config.a": True}, NAMES, "")
    assert as_map == as_text == dotted
    assert render(as_map.items()) == (
        "--compilation-config",
        json.dumps({"mode": 3, "pass_config": {"a": True}}),
    )


def test_the_same_flag_twice_is_refused_unless_it_says_the_same():
    """Two spellings with two values contradict; with one value they are one."""
    assert leaves({"block-size": 16, "block_size": 16}, NAMES, "") == {"block-size": 16}
    with pytest.raises(InputError, match="--block-size is given twice: 16 and 1"):
        leaves({"block-size": 16, "block_size": 1}, NAMES, "")
    with pytest.raises(InputError, match="--enable-prefix-caching is given twice"):
        leaves({"enable-prefix-caching": True, "no-enable-prefix-caching": True}, NAMES, "")


@pytest.mark.parametrize(
    "args",
    [
        {"attention-config": {"backend": "TRITON_ATTN"}},
        {"attention_config": '{"backend": "TRITON_ATTN"}'},
        {"ac.backend": "TRITON_ATTN"},
    ],
)
def test_the_backend_of_attention_config_is_the_flag(args):
    """vLLM refuses the flag beside the key, so both are one setting, and two values contradict."""
    assert leaves(args, NAMES, "") == {"attention-backend": "TRITON_ATTN"}
    with pytest.raises(InputError, match="--attention-backend is given twice"):
        leaves({"attention-backend": "ROCM_ATTN"} | args, NAMES, "")


@pytest.mark.parametrize(
    ("flag", "given_", "taken"),
    [
        ("block-size", "16", 16),
        ("gpu-memory-utilization", "0.9", 0.9),
        ("max-model-len", "2k", 2000),
        ("max-model-len", "32K", 32768),
        ("max-model-len", "25.6k", 25600),
        ("max-model-len", "-1", -1),
        ("max-model-len", "auto", "auto"),
        ("kv-cache-memory-bytes", "256M", 256 << 20),
        ("enable-prefix-caching", "off", False),
        ("enable-expert-parallel", "true", True),
        ("kv-cache-dtype", "fp8", "fp8"),
        ("a-new-flag", "7", "7"),
        ("disable-log-stats", True, True),
        ("disable-log-stats", False, None),  # a switch has no --no- form
    ],
)
def test_text_becomes_the_flags_type(flag, given_, taken):
    """What comes from a command line is read as the flag's type; unknown flags are left as they are."""
    assert leaves({flag: given_}, NAMES, "") == {flag: taken}


@pytest.mark.parametrize(
    ("flag", "value", "noun"),
    [
        ("block-size", "sixteen", "a whole number"),
        ("block-size", True, "a whole number"),
        ("block-size", "1.0", "a whole number"),
        ("block-size", 1.0, "a whole number"),
        ("max-num-seqs", "1.5", "a whole number"),
        ("max-model-len", "1.5K", "a whole number"),
        ("gpu-memory-utilization", "nan", "a number"),
        ("kv-offloading-size", float("inf"), "a number"),
        ("gpu-memory-utilization", {"a": 1}, "a number"),
        ("enable-prefix-caching", "perhaps", "true or false"),
        ("kv-cache-dtype", {"a": 1}, "text"),
        ("compilation-config", "{not json", "JSON"),
    ],
)
def test_a_wrong_type_is_named(flag, value, noun):
    """The message names flag, type and value."""
    with pytest.raises(InputError, match=f"--{flag} must be {noun}"):
        leaves({flag: value}, NAMES, "serve arguments")


def test_rendering():
    """True is the bare flag, False its `--no-` form, None nothing, a number as it is typed."""
    words = render([("a", True), ("b", False), ("c", None), ("d", 0.92), ("e", "x y"), ("f", {})])
    assert words == ("--a", "--no-b", "--d", "0.92", "--e", "x y", "--f", "{}")


def test_a_value_is_no_option():
    """Text with a dash in front stays with its flag; a negative number needs nothing."""
    assert render([("served-model-name", "--trust-remote-code")]) == (
        "--served-model-name=--trust-remote-code",
    )
    assert render([("seed", -1), ("x", -0.5)]) == ("--seed", "-1", "--x", "-0.5")
    simulated = parse(["m", *render([("served-model-name", "-x y")])], "0.14.1", NAMES)
    assert simulated.flags["served-model-name"] == "-x y"


@given(
    st.dictionaries(
        st.sampled_from(["a", "b_c", "d"]),
        st.recursive(
            st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: st.dictionaries(st.sampled_from(["x", "y"]), inner, min_size=1),
            max_leaves=4,
        ),
        min_size=1,
    )
)
def test_json_comes_through_leaves_unchanged(value):
    """Splitting a JSON flag into leaves and joining them again loses nothing."""
    flag, text = render(leaves({"compilation-config": value}, NAMES, "").items())
    assert (flag, json.loads(text)) == ("--compilation-config", value)


def test_rendered_words_survive_a_shell():
    """A command line made of them splits into the same words."""
    words = render(leaves({"limit-mm-per-prompt": {"image": 2}, "kv-cache-dtype": "fp8"}, NAMES, "").items())
    assert tuple(shlex.split(shlex.join(words))) == words


@pytest.mark.parametrize(
    ("name", "version", "there"),
    [
        ("swap-space", "0.17.1", True),
        ("swap-space", "0.17.2", True),
        ("swap-space", "0.18.1", False),
        ("attention-backend", "0.12.0", False),
        ("attention-backend", "0.13.0", True),
        ("block-size", "0.34.0", True),
        ("VLLM_ATTENTION_BACKEND", "0.14.1", True),
        ("VLLM_ATTENTION_BACKEND", "0.16.0", False),
        ("VLLM_ROCM_USE_AITER_CUSTOM_AR", "0.25.1", True),
        ("VLLM_ROCM_USE_AITER_CUSTOM_AR", "0.24.0", False),
        ("VLLM_ROCM_USE_AITER_FP4_ASM_GEMM", "0.12.0", True),
        ("VLLM_ROCM_USE_AITER_FP4_ASM_GEMM", "0.28.0", True),
        ("VLLM_ROCM_USE_AITER_FP4_ASM_GEMM", "0.29.0", False),
        ("VLLM_ROCM_USE_AITER_FP4_ASM_GEMM", "0.30.0", False),
        ("VLLM_ROCM_USE_AITER_FP4_ASM_GEMM", "0.31.0", True),
        ("VLLM_ROCM_USE_AITER_FP4_ASM_GEMM", "0.33.0", False),
        ("VLLM_ROCM_USE_AITER_FP4BMM", "0.15.0", True),
        ("moe-backend", "0.17.0", True),
        ("made-up", "0.33.0", False),
        ("swap-space", None, True),
    ],
)
def test_what_a_version_knows(name, version, there):
    """Flags and variables live from their first to their last release."""
    assert lives(name, version, NAMES) is there


@pytest.mark.parametrize(
    ("value", "version", "taken"),
    [
        ("TREE_ATTN", "0.20.2", True),
        ("TREE_ATTN", "0.21.0", False),
        ("TREE_ATTN", None, True),
        ("NO_SUCH", "0.33.0", False),
        ("NO_SUCH", "0.34.0", None),
        ("NO_SUCH", None, None),
    ],
)
def test_what_a_flag_takes_at_a_version(value, version, taken):
    """By the names of that release; what a release not read could have is unknown."""
    assert takes("attention-backend", value, version, NAMES) is taken


@pytest.mark.parametrize(
    ("flag", "value", "version", "taken"),
    [
        ("kv-cache-dtype", "int8_per_token_head", "0.20.0", True),
        ("kv-cache-dtype", "int8_per_token_head", "0.19.1", False),
        ("attention-backend", "TURBOQUANT", "0.20.0", True),
        ("block-size", 48, "0.17.1", False),
        ("block-size", 16, "0.17.1", True),
        ("block-size", 48, "0.18.0", True),
        ("moe-backend", "FlashInfer-Cutlass", "0.33.0", True),
        ("kv-offloading-backend", "Native", "0.33.0", False),
    ],
)
def test_choices_by_version(flag, value, version, taken):
    """First patches, flags that lost their list, and flags whose value vLLM folds."""
    assert takes(flag, value, version, NAMES) is taken


@pytest.mark.parametrize(
    ("name", "version", "hint"),
    [
        ("swap-space", "0.33.0", " (vLLM had it until 0.17.1)"),
        ("moe-backend", "0.16.0", " (vLLM has it since 0.17.0)"),
        ("enable-bf16x3-router-gemm", "0.33.0", " (only vLLM 0.26.0 to 0.29.0 have it)"),
        (
            "VLLM_ROCM_USE_AITER_FP4_ASM_GEMM",
            "0.30.0",
            " (only vLLM up to 0.28.0 and 0.31.0 to 0.32.0 have it)",
        ),
        ("swap-space", "0.17.1", None),
    ],
)
def test_where_a_missing_name_is(name, version, hint):
    """The releases that have it, with gaps."""
    assert missing(name, version, NAMES) == hint


def test_a_flag_without_a_list_takes_anything():
    """Only flags of fixed names are held against them."""
    assert takes("served-model-name", "anything", "0.33.0", NAMES) is True
