"""AITER's setting becomes the variables that one vLLM version knows."""

from __future__ import annotations

import pytest

from rocbench.errors import InputError
from rocbench.rules.aiter import effective, translate
from rocbench.rules.load import shipped
from rocbench.rules.resolve import resolve
from rulecases import request

TABLE = shipped()
MASTER = "VLLM_ROCM_USE_AITER"


@pytest.mark.parametrize(
    ("setting", "variables"),
    [
        ("on", {MASTER: "1"}),
        ("off", {MASTER: "0"}),
        (True, {MASTER: "1"}),
        (False, {MASTER: "0"}),
        ({"moe": "off"}, {MASTER: "1", f"{MASTER}_MOE": "0"}),
        ({"moe": False, "mla": True}, {MASTER: "1", f"{MASTER}_MOE": "0", f"{MASTER}_MLA": "1"}),
        ({"all": "off"}, {MASTER: "0"}),
        ({"all": "on", "fp8bmm": "off"}, {MASTER: "1", f"{MASTER}_FP8BMM": "0"}),
        ({f"{MASTER}_MHA": "on"}, {MASTER: "1", f"{MASTER}_MHA": "1"}),
        ({"fusion-shared-experts": "on"}, {MASTER: "1", f"{MASTER}_FUSION_SHARED_EXPERTS": "1"}),
    ],
)
def test_translation(setting, variables):
    """On, off, and parts; a part switches the master on, since it acts only below it."""
    assert translate(setting, "0.33.0", TABLE.parts, TABLE.names) == (variables, [])


def test_a_part_that_the_version_lacks_is_not_set_but_named():
    """paged_attn ended with 0.25.1; asking for it at 0.33.0 warns with the variable's name."""
    resolution = resolve(request({"model": "gqa", "aiter": {"paged_attn": "on", "moe": "off"}}, "0.33.0"))
    assert f"{MASTER}_PAGED_ATTN" not in resolution.environment()
    assert resolution.environment()[f"{MASTER}_MOE"] == "0"
    (said,) = [finding for finding in resolution.warnings if finding.rule == "aiter-part"]
    assert said.message == (
        f"aiter: paged_attn: vLLM 0.33.0 does not have {MASTER}_PAGED_ATTN (vLLM had it until 0.25.1), so bench does not set this variable"
    )


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ({"moee": "on"}, "'moee' is not a part of AITER; did you mean moe?"),
        ({"mla": "perhaps"}, "is not a valid value"),
        ({}, "is not a valid value"),
        ("sometimes", "is not a valid value"),
        (3, "is not a valid value"),
    ],
)
def test_what_is_no_setting_is_refused(setting, what):
    """An input error with the nearest part and an example."""
    with pytest.raises(InputError, match=what):
        translate(setting, "0.33.0", TABLE.parts, TABLE.names)


def test_parts_act_below_the_master_only():
    """With the master off nothing acts; with it on, parts follow their variable or their version's default."""

    def acting(env, vllm):
        return effective(env, vllm, TABLE.parts, TABLE.names)

    assert not any(acting({f"{MASTER}_MLA": "1"}, "0.33.0").values())
    assert acting({MASTER: "1"}, "0.32.0")["fp8bmm"] is True
    assert acting({MASTER: "1"}, "0.33.0")["fp8bmm"] is False
    assert acting({MASTER: "1"}, None)["fp8bmm"] is None
    assert acting({MASTER: "True", f"{MASTER}_MLA": "0"}, "0.33.0")["mla"] is False
    assert acting({MASTER: "1"}, "0.24.0")["custom_ar"] is False
    assert acting({MASTER: "1"}, "0.25.1")["custom_ar"] is True


def test_a_part_that_is_on_below_a_master_that_is_off_is_named():
    """It has no effect; with the master on nothing is said."""

    def said(**settings):
        warnings = resolve(request({"model": "gqa"} | settings, "0.33.0")).warnings
        return [finding.message for finding in warnings if finding.rule == "aiter-part"]

    (message,) = said(aiter={"all": "off", "moe": "on", "linear": "off"})
    assert message.startswith(f"{MASTER}_MOE is on but has no effect")
    assert said(env={MASTER: "0", f"{MASTER}_MLA": "true"})
    assert not said(aiter={"moe": "on"})


def test_the_setting_and_the_variable_may_not_contradict():
    """aiter: on with VLLM_ROCM_USE_AITER=0 is an input error; the same twice is not."""
    with pytest.raises(InputError, match="contradicts aiter"):
        resolve(request({"model": "gqa", "aiter": "on", "env": {MASTER: "0"}}, "0.33.0"))
    agreed = resolve(request({"model": "gqa", "aiter": "on", "env": {MASTER: "true"}}, "0.33.0"))
    assert agreed.environment()[MASTER] == "true"


def test_on_the_cpu_the_setting_has_no_meaning():
    """No variable is set, and a warning says so."""
    resolution = resolve(request({"model": "tiny-llama-gqa", "hardware": "cpu", "aiter": "on"}, "0.32.0"))
    assert not [name for name in resolution.environment() if "AITER" in name]
    assert any(finding.rule == "aiter-part" for finding in resolution.warnings)


@pytest.mark.parametrize(
    ("text", "acts"),
    [(None, True), ("auto", True), ("a4w4", True), ("1", True), ("A16W4", False), ("0", False)],
)
def test_a_part_that_names_a_mode(text, acts):
    """SITUV2 is auto when unset, which is a4w4; a16w4 and the old 0 are 16-bit activations."""
    env = {MASTER: "1"} | ({f"{MASTER}_MOE_SITUV2": text} if text else {})
    assert effective(env, "0.33.0", TABLE.parts, TABLE.names)["moe_situv2"] is acts
