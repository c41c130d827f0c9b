"""Resolution: precedence, provenance, contradictions and warnings, and what the study's settings meet."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocbench.errors import InputError
from rocbench.rules.load import shipped
from rocbench.rules.resolve import resolve
from rulecases import DATA, request


def resolved(model, vllm, *, force=False, **given_):
    """Resolve a packaged or made profile."""
    made = request({"model": model} | given_, vllm)
    return resolve(
        made if not force else type(made)(**{f: getattr(made, f) for f in made.__slots__} | {"force": True})
    )


def rules_of(findings):
    """The ids of findings."""
    return {finding.rule for finding in findings}


def entry(resolution, name):
    """One entry, by its name."""
    return next(e for e in (*resolution.args, *resolution.env) if e.name == name)


# --- what the study ran, and today


def test_deepseek_v32_at_0_14_1_as_the_study_ran_it():
    """Block size 1 and AITER come from rules, offload is absent, and nothing is refused."""
    resolution = resolved("deepseek-v3.2", "0.14.1")
    argv = resolution.argv()
    assert argv[0] == "deepseek-ai/DeepSeek-V3.2"
    assert argv[argv.index("--block-size") + 1] == "1"
    assert argv[argv.index("--tensor-parallel-size") + 1] == "8"
    assert resolution.environment()["VLLM_ROCM_USE_AITER"] == "1"
    assert not [word for word in argv if "offload" in word]
    assert not resolution.contradictions
    assert (entry(resolution, "--block-size").provenance, entry(resolution, "--block-size").rule) == (
        "rule",
        "bs-sparse-1",
    )


def test_qwen3_vl_at_0_14_1_has_the_offload_flags():
    """The study's size, the backend stated, the hybrid manager off: in this order."""
    argv = resolved("qwen3-vl-235b", "0.14.1").argv()
    place = argv.index("--kv-offloading-backend")
    assert argv[place : place + 5] == (
        "--kv-offloading-backend",
        "native",
        "--kv-offloading-size",
        "64",
        "--disable-hybrid-kv-cache-manager",
    )


def test_offload_can_be_taken_from_a_profile():
    """None unsets what the profile gives, and the rules that hang on it are silent."""
    argv = resolved("qwen3-vl-235b", "0.14.1", args={"kv-offloading-size": None}).argv()
    assert not [word for word in argv if "offload" in word or "hybrid" in word]


def test_offload_on_deepseek_v32_at_0_14_1_is_refused_with_its_reason():
    """The rule's reason is vLLM's own message."""
    resolution = resolved("deepseek-v3.2", "0.14.1", args={"kv_offloading_size": 64})
    (refused,) = resolution.contradictions
    assert refused.rule == "off-mla-bug"
    assert "KeyError: 'model.layers.0.self_attn.indexer.k_cache'" in refused.message
    assert refused.fix


def test_kimi_at_tp8_on_0_17_1_is_refused_with_the_head_count_message():
    """Eight heads a rank, in vLLM's words."""
    (refused,) = resolved("kimi-k2.5", "0.17.1", tp=8).contradictions
    assert refused.rule == "heads-16-128"
    assert refused.message == (
        "Aiter MLA only supports 16 or 128 number of heads. Provided 8 number of heads. "
        "Try adjusting tensor_parallel_size value."
    )


def test_kimi_at_tp8_on_0_18_runs_with_a_padding_warning():
    """Allowed, and the price is named."""
    resolution = resolved("kimi-k2.5", "0.18.1", tp=8)
    assert not resolution.contradictions
    (padding,) = [finding for finding in resolution.warnings if finding.rule == "heads-padding"]
    assert "padded to 16" in padding.message


def test_the_studys_kimi_setting_is_kept_and_warned_about():
    """TP4, AITER off, block size 1 on 0.16.0: unchanged, and told that AITER MLA runs all the same."""
    resolution = resolved("kimi-k2.5", "0.16.0")
    assert resolution.flag("tensor-parallel-size") == 4
    assert resolution.flag("block-size") == 1
    assert resolution.environment()["VLLM_ROCM_USE_AITER"] == "0"
    assert resolution.facts.backend == "ROCM_AITER_MLA"
    assert not resolution.contradictions
    said = {finding.rule: finding.message for finding in resolution.warnings}
    assert "ROCM_AITER_MLA although AITER MLA is off" in said["bs-1-forces-aiter-mla"]
    assert {"bs-dense-unset", "aiter-off-kimi-tp4", "noop-env"} <= set(said)


def test_kimi_is_not_in_0_14_1():
    """The architecture is refused by name."""
    (refused,) = resolved("kimi-k2.5", "0.14.1").contradictions
    assert refused.rule == "arch-min"
    assert "KimiK25ForConditionalGeneration" in refused.message


def test_deepseek_v32_at_0_33_0_gets_no_block_size_1():
    """None is set, and one given by hand is kept and warned about."""
    assert resolved("deepseek-v3.2", "0.33.0").flag("block-size") is None
    by_hand = resolved("deepseek-v3.2", "0.33.0", args={"block-size": 1})
    assert by_hand.flag("block-size") == 1
    assert "bs-sparse-not-1" in rules_of(by_hand.warnings)


@pytest.mark.parametrize(
    ("vllm", "size", "aiter", "refused_by", "warned_by"),
    [
        ("0.14.1", 64, "off", {"off-mla-garbled"}, {"off-copies"}),
        ("0.14.1", 64, "on", {"off-kernel-blocks-mla"}, {"off-mla-doubt", "off-copies"}),
        ("0.17.1", 64, "on", set(), {"off-mla-doubt", "off-copies"}),
        ("0.18.1", 64, "on", set(), {"off-copies"}),
        ("0.26.0", 64, "on", set(), {"off-copies"}),
        ("0.27.1", 512, "on", set(), {"off-region", "off-shm"}),
        ("0.30.0", 512, "on", set(), {"off-region", "off-shm"}),
        ("0.30.0", 16, "on", set(), {"off-shm"}),
        ("0.31.0", 512, "on", set(), {"off-copies"}),
        ("0.33.0", 512, "on", set(), {"off-copies"}),
    ],
)
def test_kv_offload_for_dense_mla_by_version(vllm, size, aiter, refused_by, warned_by):
    """Refused or doubtful before 0.18; a copy for each rank, except in 0.27 to 0.30."""
    resolution = resolved("deepseek-r1", vllm, aiter=aiter, args={"kv-offloading-size": size})
    assert rules_of(resolution.contradictions) == refused_by
    told = {rule for rule in rules_of(resolution.warnings) if rule and rule.startswith("off-")}
    assert told - {"off-no-reuse"} == warned_by


def test_the_usable_offload_tier_of_mla_is_an_eighth_at_tp8():
    """The plan's sentence has the numbers."""
    resolution = resolved("deepseek-r1", "0.33.0", args={"kv-offloading-size": 512})
    (said,) = [finding for finding in resolution.warnings if finding.rule == "off-copies"]
    assert "only 64 GiB of the 512 GiB" in said.message


def test_the_usable_offload_tier_of_four_kv_heads_is_a_half_at_tp8():
    """A GQA model with fewer KV heads than ranks loses host memory too."""
    resolution = resolved("qwen3-vl-235b", "0.14.1", args={"kv-offloading-size": 64})
    assert (resolution.facts.kv_copies, resolution.facts.offload_usable_gib) == (2, 32)
    (said,) = [finding for finding in resolution.warnings if finding.rule == "off-copies"]
    assert "only 32 GiB of the 64 GiB" in said.message


@pytest.mark.parametrize(
    ("model", "vllm", "args", "size"),
    [
        ("deepseek-v3.2", "0.23.0", {}, 64 * 576 * 2),
        ("deepseek-r1", "0.23.0", {"kv-cache-dtype": "fp8"}, 16 * 576),
        ("gqa", "0.23.0", {"attention-backend": "ROCM_AITER_FA"}, 16 * 2 * 128 * 2),
        ("gqa", "0.23.0", {"attention-backend": "TRITON_ATTN"}, 80 * 16 * 2 * 128 * 2),
        ("gqa", "0.23.0", {"kv-cache-dtype": "int8_per_token_head"}, None),
        ("gqa", None, {"attention-backend": "ROCM_AITER_FA"}, None),
    ],
)
def test_bytes_of_a_page(model, vllm, args, size):
    """A block of one layer on one rank, or of all layers if the backend keeps them together."""
    assert resolved(model, vllm, aiter="on", args=args).facts.kv_page_bytes == size


@pytest.mark.parametrize("vllm", ["0.14.1", "0.28.0"])
def test_qwen3_vl_fp8_at_tp8_without_expert_parallel_is_refused_before_0_29(vllm):
    """Refused with vLLM's message and the ways out; not mended behind the user's back."""
    resolution = resolved("qwen3-vl-235b-fp8", vllm)
    (refused,) = resolution.contradictions
    assert refused.rule == "fp8-moe-shard"
    assert "192 is not divisible by weight quantization block_n = 128" in refused.message
    assert "--enable-expert-parallel" in refused.fix
    assert resolution.flag("enable-expert-parallel") is None
    with_ep = resolved("qwen3-vl-235b-fp8", vllm, args={"enable_expert_parallel": True})
    assert not with_ep.contradictions


# --- precedence and provenance


def test_user_over_profile_over_rule_over_default():
    """The same flag from each origin, in turn."""
    rule = resolved("deepseek-v3.2", "0.14.1")
    profile = resolved("kimi-k2.5", "0.16.0")
    user = resolved("kimi-k2.5", "0.16.0", args={"block-size": 64})
    assert [entry(r, "--block-size").provenance for r in (rule, profile, user)] == ["rule", "profile", "user"]
    assert entry(user, "--block-size").value == 64
    assert entry(rule, "--gpu-memory-utilization").provenance == "default"
    assert entry(rule, "--gpu-memory-utilization").rule == "pin-defaults"


def test_every_entry_says_why_and_from_where():
    """What a rule, a profile or a default sets has a reason and a source."""
    for model, vllm in (("deepseek-v3.2", "0.14.1"), ("kimi-k2.5", "0.33.0"), ("gpt-oss-120b", "0.33.0")):
        resolution = resolved(model, vllm)
        for one in (*resolution.args, *resolution.env):
            assert one.why, one.name
            assert one.source or one.provenance == "user", one.name


def test_a_value_that_agrees_with_a_rule_is_no_finding():
    """Block size 1 by hand on V3.2 at 0.14.1 is the user's, without a word."""
    resolution = resolved("deepseek-v3.2", "0.14.1", args={"block-size": 1})
    assert entry(resolution, "--block-size").provenance == "user"
    assert "bs-sparse-1" not in rules_of((*resolution.warnings, *resolution.contradictions))


def test_an_explicit_unset_is_kept():
    """None means leave it unset: the rule does not fill it, but says what that does."""
    resolution = resolved("deepseek-v3.2", "0.14.1", args={"block-size": None})
    assert resolution.flag("block-size") is None
    assert "bs-sparse-1" in rules_of(resolution.contradictions)


def test_a_rule_fills_one_key_of_a_json_flag_beside_a_users_other():
    """Graph mode by rule, a pass by the user: one flag."""
    resolution = resolved(
        "deepseek-v4.1", "0.33.0", args={"compilation_config": {"pass_config": {"fuse_allreduce_rms": False}}}
    )
    argv = resolution.argv()
    assert json.loads(argv[argv.index("--compilation-config") + 1]) == {
        "cudagraph_mode": "FULL_DECODE_ONLY",
        "pass_config": {"fuse_allreduce_rms": False},
    }
    assert argv.count("--compilation-config") == 1


def test_a_rule_does_not_reach_into_a_scalar():
    """A JSON flag given as one value is the user's: the rule's key is a finding, not a change."""
    resolution = resolved("deepseek-v4.1", "0.33.0", args={"compilation-config": "3"})
    assert resolution.flag("compilation-config") == "3"
    assert "v41-graphs" in rules_of(resolution.contradictions)


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ({"compilation-config": "3"}, "3"),
        ({"compilation-config": None}, None),
        (
            {"cc.pass_config.fuse_rope_kvcache": False},
            {"pass_config": {"fuse_rope_kvcache": False}, "use_inductor_graph_partition": True},
        ),
        (
            {"compilation-config": {"mode": 3}},
            {"mode": 3, "pass_config": {"fuse_rope_kvcache": True}, "use_inductor_graph_partition": True},
        ),
        ({"cc.pass_config": "none"}, {"pass_config": "none", "use_inductor_graph_partition": True}),
    ],
)
def test_a_users_json_over_a_profiles(asked, got):
    """A whole flag replaces the profile's, a key replaces that key and leaves the others."""
    assert resolved("gpt-oss-120b", "0.33.0", args=asked).flag("compilation-config") == got


def test_tp_from_request_and_from_arguments_must_agree():
    """Two different values are an input error, the same is fine."""
    assert resolved("gqa", "0.33.0", tp=4).flag("tensor-parallel-size") == 4
    assert resolved("gqa", "0.33.0", args={"-tp": 4}).facts.tp == 4
    assert resolved("gqa", "0.33.0", tp=4, args={"tp": 4}).facts.tp == 4
    with pytest.raises(InputError, match="the tensor parallel size is given twice: 2 and 4"):
        resolved("gqa", "0.33.0", tp=4, args={"tp": 2})


def test_force_turns_contradictions_into_warnings_and_marks():
    """Forced says so; without a contradiction there is nothing to force."""
    forced = resolved("kimi-k2.5", "0.17.1", tp=8, force=True)
    assert forced.forced
    assert not forced.contradictions
    assert "heads-16-128" in rules_of(forced.warnings)
    assert not resolved("kimi-k2.5", "0.18.1", tp=8, force=True).forced


# --- versions and names


def test_an_unknown_version_is_not_assumed():
    """What hangs on the version is undecided, not set, and its default is not pinned."""
    resolution = resolved("deepseek-v3.2", None)
    assert "version" in rules_of(resolution.warnings)
    assert {"bs-sparse-1", "bs-sparse-64", "aiter-on"} <= rules_of(resolution.undecided)
    names = {one.name for one in (*resolution.args, *resolution.env)}
    assert not names & {"--block-size", "--gpu-memory-utilization", "VLLM_ROCM_USE_AITER"}
    assert {"--max-num-seqs", "--max-model-len"} <= names
    assert resolution.expected()["backend"] is None


def test_rules_for_other_models_are_not_undecided():
    """An unknown version leaves open only what could apply to this model."""
    undecided = rules_of(resolved("gqa", None).undecided)
    assert not {rule for rule in undecided if rule.startswith(("bs-sparse", "heads-", "bs-v4", "off-"))}


def test_an_unknown_fact_leaves_its_rule_undecided():
    """Whether copies are slow hangs on ROCm, which the hardware profile does not state."""
    resolution = resolved("gqa", "0.33.0", args={"kv-offloading-size": 32})
    (open_,) = [finding for finding in resolution.undecided if finding.rule == "off-rocm-72"]
    assert "depends on unknown facts (rocm)" in open_.message


@pytest.mark.parametrize(
    ("vllm", "what"),
    [
        ("0.16.0rc2", "0.16.0rc2 is a development version; the rules for 0.16.0 apply"),
        ("0.40.0", "is newer than 0.33.0"),
        ("0.11.0", "is older than 0.12.0"),
        ("0.15.2", "the source of vLLM 0.15.2 was not read"),
        ("0.16.1.dev3", "carries what became 0.17.0"),
    ],
)
def test_versions_outside_what_was_read_are_told(vllm, what):
    """A candidate, a newer, an older version and one in between: each with a warning."""
    assert any(what in finding.message for finding in resolved("gqa", vllm).warnings)


@pytest.mark.parametrize("vllm", ["0.14.0", "0.15.0", "0.20.0", "0.14.1+rocm700", "0.14.1.post1"])
def test_a_release_that_was_read_is_not_told(vllm):
    """First patches and builds of a release too."""
    assert "version" not in rules_of(resolved("gqa", vllm).warnings)


def test_a_candidate_of_a_first_patch_is_of_one_branch():
    """0.16.0rc2 is what became 0.16.0; main has other numbers then."""
    (told,) = [f for f in resolved("gqa", "0.16.0rc2").warnings if f.rule == "version"]
    assert "main" not in told.message


def test_what_is_said_of_a_newer_version_is_assumed():
    """Pinned defaults, rules with an open range and the backend; the server is not held to vLLM's own choices."""
    new = resolved("llama-3.3-70b", "0.40.0", args={"attention-backend": None})
    assert new.facts.backend_reason.endswith("(assumed: vLLM 0.40.0 was not read, this is so in 0.33.0)")
    assert (new.expected()["backend"], new.expected()["block_size"]) == (None, None)
    assert entry(new, "--gpu-memory-utilization").why == (
        "assumed: vLLM 0.40.0 was not read, this is the default of 0.33.0, pinned"
    )
    assert "assumed" in entry(new, "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS").why
    old = resolved("llama-3.3-70b", "0.33.0")
    assert not [told.name for told in (*old.args, *old.env) if "assumed" in told.why]


def test_a_rule_with_an_open_range_only_warns_in_a_newer_version():
    """The flag can come back; what every release read refuses, such as a share above 1, is refused still."""
    args = {"swap-space": 4, "gpu-memory-utilization": 2}
    assert rules_of(resolved("gqa", "0.33.0", args=args).contradictions) == {"swap-space", "memory-share"}
    new = resolved("gqa", "0.40.0", args=args)
    assert rules_of(new.contradictions) == {"memory-share"}
    (told,) = [finding for finding in new.warnings if finding.rule == "swap-space"]
    assert told.message.endswith("(assumed: vLLM 0.40.0 was not read, this is so in 0.33.0)")


def test_local_versions_are_their_release():
    """A ROCm build of 0.14.1 resolves as 0.14.1, block size and all."""
    plain, local = (resolved("deepseek-v3.2", vllm) for vllm in ("0.14.1", "0.14.1+rocm700"))
    assert plain.argv() == local.argv()
    assert plain.environment() == local.environment()


@pytest.mark.parametrize(
    ("args", "what"),
    [
        ({"a-brand-new-flag": 3}, "--a-brand-new-flag is not a known flag of vLLM 0.33.0"),
        ({"max-num-seq": 3}, "did you mean max-num-seqs?"),
        ({"monokernel": True}, None),
    ],
)
def test_unknown_flags_pass_with_a_warning(args, what):
    """vLLM has more flags than any list: they are passed on, and told with the nearest name."""
    resolution = resolved("gqa", "0.33.0", args=args)
    (name,) = args
    assert f"--{name}" in resolution.argv()
    said = [finding.message for finding in resolution.warnings if finding.rule == "unknown-flag"]
    assert (what is None and not said) or any(what in message for message in said)


def test_flags_and_variables_of_other_versions_are_told():
    """With the releases that have them."""
    resolution = resolved(
        "gqa",
        "0.14.1",
        args={"monokernel": True},
        env={"VLLM_USE_SIMPLE_KV_OFFLOAD": "1", "VLLM_MADE_UP": "1"},
    )
    said = " ".join(finding.message for finding in resolution.warnings)
    assert "--monokernel is not a known flag of vLLM 0.14.1 (vLLM has it since 0.33.0)" in said
    assert "VLLM_USE_SIMPLE_KV_OFFLOAD is not a variable of vLLM 0.14.1" in said
    assert "VLLM_MADE_UP is not a variable" in said


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"env": {"vllm_rocm_use_aiter": "1"}}, "the variable is VLLM_ROCM_USE_AITER, and case matters"),
        ({"args": {"VLLM_ROCM_USE_AITER": "1"}}, "write env.VLLM_ROCM_USE_AITER"),
        (
            {"env": {"VLLM_ROCM_USE_AITER": "1", "HSA_NO_SCRATCH_RECLAIM": "1"}, "hardware": "cpu"},
            "VLLM_ROCM_USE_AITER, HSA_NO_SCRATCH_RECLAIM: no effect on platform cpu, because only ROCm reads such variables",
        ),
    ],
)
def test_a_variable_that_nothing_reads_is_told(given, what):
    """In small letters, as a flag, or on another platform."""
    found = resolve(request({"model": "gqa"} | given, "0.33.0"))
    assert any(what in finding.message for finding in found.warnings)


def test_no_op_variables_are_named_as_such():
    """The study's VLLM_USE_TRITON_FLASH_ATTN is kept and said to do nothing."""
    resolution = resolved("qwen3-vl-235b", "0.14.1")
    assert resolution.environment()["VLLM_USE_TRITON_FLASH_ATTN"] == "0"
    (said,) = [finding for finding in resolution.warnings if finding.rule == "noop-env"]
    assert "No vLLM since 0.11.2 reads this variable" in said.message


# --- platforms


@pytest.mark.parametrize(
    "model", ["tiny-llama-gqa", "tiny-deepseek-v3-mla-moe", "tiny-qwen3-moe-gqa", "tiny-qwen3-vl"]
)
def test_no_rocm_rule_touches_a_cpu_server(model):
    """Neither an entry nor a finding comes from rocm.yaml."""
    resolution = resolved(model, "0.32.0", hardware="cpu")
    rocm = {rule.id for rule in shipped().rules if rule.platform == "rocm"}
    entries = {one.rule for one in (*resolution.args, *resolution.env)}
    findings = rules_of((*resolution.warnings, *resolution.contradictions, *resolution.undecided))
    assert not rocm & (entries | findings)
    assert not resolution.contradictions
    assert not [name for name in resolution.environment() if "ROCM" in name]


def test_on_the_cpu_mla_is_planned_as_asked_so_that_the_proof_can_differ():
    """Block size 1 on MLA is kept and expected; vLLM forces 16, which the proof after start finds."""
    resolution = resolved("tiny-deepseek-v3-mla-moe", "0.32.0", hardware="cpu", args={"block-size": 1})
    assert not resolution.contradictions
    assert resolution.expected()["block_size"] == 1
    assert "cpu-mla-block" in rules_of(resolution.warnings)
    assert resolution.expected()["prefix_caching"] is False
    assert resolution.expected()["backend"] is None


def test_accuracy_labels_are_in_the_order_of_the_table_and_once():
    """FP8 KV cache and online FP8 weights, as the study ran Llama."""
    assert resolved("llama-3.1-405b", "0.14.1").accuracy_labels == ("kv_cache_fp8", "online_quantization")


def test_expected_holds_what_the_proof_must_find():
    """Backend, block size, prefix caching, version and KV dtype."""
    assert resolved("llama-3.1-405b", "0.33.0").expected() == {
        "vllm": "0.33.0",
        "backend": "ROCM_AITER_FA",
        "block_size": 16,
        "prefix_caching": True,
        "kv_cache_dtype": "fp8",
    }


# --- for every request

MODELS = st.sampled_from([*DATA["models"], "deepseek-v3.2", "kimi-k2.5", "qwen3-vl-235b", "llama-3.1-405b"])
VERSIONS = st.sampled_from([None, *shipped().names.releases])
ARGS = st.fixed_dictionaries(
    {},
    optional={
        "block-size": st.sampled_from([1, 16, 64, None]),
        "kv-cache-dtype": st.sampled_from(["auto", "fp8", "bfloat16"]),
        "kv-offloading-size": st.sampled_from([8, 512, None]),
        "attention-backend": st.sampled_from(["TRITON_ATTN", "ROCM_AITER_FA", "TRITON_MLA"]),
        "enable-expert-parallel": st.booleans(),
        "enable-prefix-caching": st.booleans(),
        "compilation-config": st.sampled_from([{"mode": 3}, "3"]),
    },
)
AITER = st.sampled_from([None, "on", "off", {"moe": "off", "mla": "on"}, {"mla": "off"}])


@settings(max_examples=60)
@given(MODELS, VERSIONS, ARGS, AITER, st.sampled_from([None, 1, 4, 8]))
def test_an_explicit_value_is_never_rewritten(model, vllm, args, aiter, tp):
    """Whatever the rules say, what the user typed is what the server gets, and twice gives the same."""
    made = request({"model": model, "args": args, "aiter": aiter, "tp": tp}, vllm)
    resolution = resolve(made)
    for name, value in args.items():
        if not isinstance(value, dict):
            assert resolution.flag(name) == value
    if tp is not None:
        assert resolution.flag("tensor-parallel-size") == tp
    if aiter in ("on", "off"):
        assert resolution.environment()["VLLM_ROCM_USE_AITER"] == ("1" if aiter == "on" else "0")
    assert resolve(made) == resolution


@settings(max_examples=60)
@given(MODELS, VERSIONS, ARGS, AITER)
def test_what_rules_set_still_holds_in_the_end(model, vllm, args, aiter):
    """A rule that filled a flag is not told to have been contradicted by the outcome it made."""
    resolution = resolve(request({"model": model, "args": args, "aiter": aiter}, vllm))
    by_rule = {
        (one.name, one.rule) for one in (*resolution.args, *resolution.env) if one.provenance == "rule"
    }
    for finding in (*resolution.contradictions, *resolution.warnings):
        for name, rule in by_rule:
            if rule == finding.rule:
                assert f"{name} is " not in finding.message
