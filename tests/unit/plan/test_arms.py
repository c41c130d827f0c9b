"""An arm may change its factor alone: what else would differ is refused by name, pinned, or accepted."""

from __future__ import annotations

import pytest

from rocbench.errors import ConfigError
from rocbench.plan import arms
from rocbench.plan.faults import raise_faults
from virtual import plan_of


def plan(model="llama-3.1-405b", vllm="0.14.1", **changes):
    """The plan of one model at one level."""
    base = {"name": "arms", "vllm": vllm, "models": [model], "workloads": ["short"], "concurrency": [1]}
    return plan_of(base | changes)


def backends(made):
    """The attention backend of each arm."""
    return [group.resolution.facts.backend for group in made.groups]


def test_offload_pins_the_attention_backend():
    """From 0.23 a KV connector takes ROCM_ATTN away: both arms get the backend that offload allows."""
    made = plan(vllm="0.33.0", aiter="off", factors={"kv_offloading_size": [None, 64]})

    assert made.faults == ()
    assert len(set(backends(made))) == 1
    assert "ROCM_ATTN" not in backends(made)
    assert all("--attention-backend" in group.resolution.argv() for group in made.groups)


def test_offload_in_a_matrix_pins_it_too():
    """Offload on and off beside each other in a matrix are a comparison as well."""
    made = plan(vllm="0.33.0", aiter="off", matrix={"product": {"kv_offloading_size": [None, 64]}})

    assert len(set(backends(made))) == 1


def test_a_fixed_offload_pins_nothing():
    """A server with offload alone is left as vLLM would have it."""
    made = plan(vllm="0.33.0", aiter="off", serve_args={"kv_offloading_size": 64})

    assert "--attention-backend" not in made.groups[0].resolution.argv()


def test_block_size_that_selects_another_kernel_is_refused():
    """Up to 0.17 block size 1 alone selects AITER's MLA kernel: its effect would be the kernel's."""
    made = plan("deepseek-r1", aiter="off", factors={"block_size": [1, 64]})

    with pytest.raises(ConfigError) as caught:
        raise_faults(made)
    text = caught.value.text()
    assert "block_size 1 -> 64 also changes attention_backend: ROCM_AITER_MLA -> TRITON_MLA" in text
    assert "also_changes: [attention_backend]" in text


def test_what_is_accepted_by_name_is_told():
    """also_changes lets the arms differ so, and the plan says that they do."""
    made = plan(
        "deepseek-r1", aiter="off", factors={"block_size": [1, 64]}, also_changes=["attention-backend"]
    )

    assert made.faults == ()
    assert any("TRITON_MLA" in note and "accepts this" in note for note in made.notes)


def test_pinned_for_all_arms_there_is_no_fault():
    """The fix that the message names works."""
    pinned = {"attention_backend": "TRITON_MLA"}
    made = plan("deepseek-r1", vllm="0.18.1", factors={"block_size": [16, 64]}, serve_args=pinned)

    assert made.faults == ()


def test_aiter_brings_its_attention_kernel():
    """AITER is kernels, attention among them: told, not refused."""
    made = plan(factors={"aiter": ["off", "on"]})

    assert made.faults == ()
    (note,) = made.notes
    assert "aiter off -> on also selects attention_backend: TRITON_ATTN -> ROCM_AITER_FA" in note


def test_another_model_runner_or_graph_mode_is_told():
    """vLLM derives both from other settings: a version or a switch that moves them is noted, not refused."""
    versions = plan("llama-3.1-405b", factors={"vllm": ["0.22.1", "0.23.0"]})
    switched = plan("kimi-k2.5", vllm="0.18.1", factors={"aiter": ["off", "on"]})

    assert versions.faults == switched.faults == ()
    assert any("also selects model_runner: v1 -> v2" in note for note in versions.notes)
    assert any("also selects graph_mode: PIECEWISE -> FULL_AND_PIECEWISE" in note for note in switched.notes)


def test_aiter_that_moves_the_block_size_is_refused():
    """For gpt-oss at 0.14 the AITER switch sets block size 64 too, which is another factor."""
    made = plan("gpt-oss-120b", factors={"aiter": ["off", "on"]})

    assert ["aiter off -> on also changes block_size: 16 -> 64" in f.message for f in made.faults] == [True]


def test_offload_may_bring_the_flags_it_needs():
    """The flags that a rule adds for offload alone belong to it."""
    made = plan(factors={"kv_offloading_size": [None, 64]})

    assert made.faults == ()
    assert "--disable-hybrid-kv-cache-manager" in made.groups[1].resolution.argv()


def test_a_version_is_all_it_brings():
    """Two versions differ in their defaults: that is what is compared, and the backend is told."""
    made = plan(factors={"vllm": ["0.14.1", "0.19.0"]})

    assert made.faults == ()
    assert any("TRITON_ATTN -> ROCM_AITER_FA" in note for note in made.notes)


def test_only_arms_a_step_apart_are_held_against_each_other():
    """In a full design of two factors, each step from a base is judged once; other models are left alone."""
    made = plan(factors={"aiter": ["off", "on"], "max_num_seqs": [256, 512]})

    assert made.faults == ()
    assert len(made.notes) == 1


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("--block-size", "block_size"),
        ("block-size", "block_size"),
        ("tensor-parallel-size", "tp"),
        ("tp", "tp"),
        ("env.VLLM_ROCM_USE_AITER", "env.VLLM_ROCM_USE_AITER"),
    ],
)
def test_names_are_one_however_written(name, canonical):
    """Dashes, underscores and a flag that is a fact."""
    assert arms.canonical(name) == canonical


def test_entries_of_one_profile_are_not_each_others_arms():
    """Two entries (tp 4 and tp 8) each have all arms: tp is not what the factor changes."""
    entries = [{"profile": "llama-3.1-405b", "tp": tp} for tp in (4, 8)]
    made = plan(models=entries, factors={"max_num_seqs": [256, 512]})

    assert made.faults == ()
    assert len(made.groups) == 4
