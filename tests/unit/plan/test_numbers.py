"""Any numbers for the sizes of a server end in a resolution or a message, never in a traceback."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocbench.commands import asking, planning
from rocbench.errors import BenchError
from rocbench.plan import expand as planner
from rocbench.plan.planned import Overrides
from rocbench.settings.schema import Sweep

SIZES = st.one_of(st.none(), st.integers(-1, 9), st.sampled_from([16, 20000, 2.5, "3", "x", True]))
FLAGS = (
    "tensor-parallel-size",
    "pipeline-parallel-size",
    "data-parallel-size",
    "decode-context-parallel-size",
    "prefill-context-parallel-size",
    "max-num-seqs",
    "max-num-batched-tokens",
    "max-model-len",
    "max-cudagraph-capture-size",
    "block-size",
    "gpu-memory-utilization",
    "kv-offloading-size",
)
ARGS = st.fixed_dictionaries({}, optional=dict.fromkeys(FLAGS, SIZES))
MODELS = ("llama-3.1-405b", "kimi-k2.5", "deepseek-v3.2", "qwen3-vl-235b-fp8")
FEW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@FEW
@given(args=ARGS, model=st.sampled_from(MODELS), vllm=st.sampled_from([None, "0.14.1", "0.26.0", "0.33.0"]))
def test_explain_answers_any_numbers(args: dict[str, Any], model: str, vllm: str | None) -> None:
    """`bench explain` resolves, or raises an error with a message."""
    with suppress(BenchError):  # its message is the answer
        assert asking.resolution(model, Overrides(args=args, vllm=vllm)).argv()


@FEW
@given(args=ARGS, model=st.sampled_from(MODELS), force=st.booleans())
def test_a_plan_answers_any_numbers(args: dict[str, Any], model: str, force: bool) -> None:
    """`bench plan` plans or names faults, even if it is forced."""
    sweep = Sweep.model_validate(
        {
            "name": "test",
            "vllm": "0.33.0",
            "models": [model],
            "workloads": ["short"],
            "concurrency": [8, 1000],
        }
    )
    overrides = Overrides(args=args, force=force)
    with suppress(BenchError):
        plan = planner.expand(sweep, planning.sources(sweep, overrides), overrides)
        assert plan.faults or plan.groups or plan.skipped


def test_a_wrong_context_parallel_size_is_one_message() -> None:
    """vLLM checks DCP in an order, and prints the first check that fails: so do the rules."""
    resolved = asking.resolution(
        "llama-3.1-405b", Overrides(args={"decode-context-parallel-size": 3}, vllm="0.33.0")
    )

    assert ["tp_size=8 must be divisible by dcp_size=3."] == [f.message for f in resolved.contradictions]


@pytest.mark.parametrize(("users", "told"), [(512, False), (513, True)])
def test_more_users_than_a_graph_holds_are_noted(users: int, told: bool) -> None:
    """A plan says which loads run without a CUDA graph."""
    sweep = Sweep.model_validate(
        {
            "name": "test",
            "vllm": "0.33.0",
            "models": ["llama-3.1-405b"],
            "workloads": ["short"],
            "concurrency": [users],
        }
    )
    plan = planner.expand(sweep, planning.sources(sweep, Overrides()), Overrides())

    assert told == any("the largest CUDA graph holds 512" in note for note in plan.notes)
