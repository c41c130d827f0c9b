"""The condition language: what holds, what is unknown, and what is refused when a rule is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from rocbench.rules.conditions import ConditionError, parse
from rocbench.rules.load import shipped

NAMES = shipped().names


@dataclass
class View:
    """Facts, flags and variables by hand; a fact that is not given is unknown."""

    facts: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    def fact(self, name):
        """A fact."""
        return self.facts.get(name)

    def flag(self, leaf):
        """A flag."""
        return self.flags.get(leaf)

    def variable(self, name):
        """A variable."""
        return self.env.get(name)


@pytest.mark.parametrize(
    ("when", "facts", "answer"),
    [
        ({}, {}, True),
        ({"family": "gqa"}, {"family": "gqa"}, True),
        ({"family": ["gqa", "mha"]}, {"family": "mla_dense"}, False),
        ({"backend": "ROCM_AITER_*"}, {"backend": "ROCM_AITER_FA"}, True),
        ({"model": {"not": "Kimi*"}}, {"model": "Kimi-K2"}, False),
        ({"heads": 16}, {"heads": 16}, True),
        ({"heads": {"in": [16, 128]}}, {"heads": 8}, False),
        ({"heads": {"not": {"in": [16, 128]}}}, {"heads": 8}, True),
        ({"heads": {"multiple_of": 16, "le": 128}}, {"heads": 144}, False),
        ({"heads": {"divides": 16}}, {"heads": 4}, True),
        ({"heads": {"divides": 16}}, {"heads": 12}, False),
        ({"heads": {"any": [{"divides": 16}, {"multiple_of": 16}]}}, {"heads": 48}, True),
        ({"heads": {"ge": 4, "lt": 8}}, {"heads": 8}, False),
        ({"moe": True}, {"moe": False}, False),
        ({"rocm": ">=7.2.1,<7.14"}, {"rocm": "7.2.3"}, True),
        ({"rocm": ">=7.2.1,<7.14"}, {"rocm": "7.14.0"}, False),
        ({"offload_gib": {"ge": 64}}, {"offload_gib": 64.0}, True),
        ({"any": [{"moe": True}, {"family": "gqa"}]}, {"moe": False, "family": "gqa"}, True),
        ({"not": {"moe": True}}, {"moe": True}, False),
    ],
)
def test_facts(when, facts, answer):
    """Equality, globs, number tests, version ranges, any and not."""
    assert parse(when, NAMES).holds(View(facts)) is answer


@pytest.mark.parametrize(
    ("when", "facts", "answer"),
    [
        ({"moe": True}, {}, None),
        ({"moe": True, "family": "gqa"}, {"family": "mha"}, False),
        ({"moe": True, "family": "gqa"}, {"family": "gqa"}, None),
        ({"any": [{"moe": True}, {"family": "gqa"}]}, {"family": "gqa"}, True),
        ({"any": [{"moe": True}, {"family": "gqa"}]}, {"family": "mha"}, None),
        ({"not": {"moe": True}}, {}, None),
    ],
)
def test_what_is_unknown_is_not_false(when, facts, answer):
    """An unknown fact leaves a condition open unless another part decides it."""
    assert parse(when, NAMES).holds(View(facts)) is answer


def test_unknown_facts_are_named():
    """The open keys are told, so that a reader knows what to find out."""
    assert parse({"rocm": ">=7", "moe": True}, NAMES).unknown(View({"moe": True})) == ["rocm"]


@pytest.mark.parametrize(
    ("when", "view", "answer"),
    [
        ({"flags": {"block-size": 1}}, View(flags={"block-size": 1}), True),
        ({"flags": {"block-size": 1}}, View(), False),
        ({"flags": {"block-size": "given"}}, View(flags={"block-size": 16}), True),
        ({"flags": {"block-size": "absent"}}, View(), True),
        ({"flags": {"block-size": {"ge": 1}}}, View(flags={"block-size": "auto"}), False),
        ({"flags": {"moe-backend": "fly*"}}, View(flags={"moe-backend": "flydsl"}), True),
        ({"flags": {"enable-expert-parallel": True}}, View(flags={"enable-expert-parallel": False}), False),
        ({"flags": {"speculative-config": "given"}}, View(flags={"speculative-config": {}}), True),
        ({"env": {"VLLM_ROCM_USE_AITER": True}}, View(env={"VLLM_ROCM_USE_AITER": "True"}), True),
        ({"env": {"VLLM_ROCM_USE_AITER": False}}, View(env={"VLLM_ROCM_USE_AITER": "0"}), True),
        ({"env": {"VLLM_ROCM_USE_AITER": False}}, View(), False),
        ({"env": {"VLLM_ROCM_USE_AITER": "absent"}}, View(), True),
        (
            {"env": {"VLLM_ROCM_QUICK_REDUCE_QUANTIZATION": "INT*"}},
            View(env={"VLLM_ROCM_QUICK_REDUCE_QUANTIZATION": "INT4"}),
            True,
        ),
    ],
)
def test_flags_and_variables(when, view, answer):
    """A flag or variable that is not given meets no test of its value."""
    assert parse(when, NAMES).holds(view) is answer


@pytest.mark.parametrize(
    ("when", "key", "what"),
    [
        ({"famly": "gqa"}, "famly", "is not a fact; did you mean family?"),
        ({"heads": "16"}, "heads", "must be a whole number"),
        ({"heads": 16.5}, "heads", "must be a whole number"),
        ({"heads": {"at_least": 4}}, "heads", "'at_least' is not a test of a number"),
        ({"heads": {"ge": 8, "lt": 4}}, "heads", "is empty"),
        ({"heads": {}}, "heads", "is empty"),
        ({"heads": []}, "heads", "must be a list"),
        ({"moe": "yes"}, "moe", "must be true or false"),
        ({"family": 3}, "family", "must be text"),
        ({"family": {"lt": "x"}}, "family", "supports only `not`"),
        ({"rocm": "seven"}, "rocm", "not a version range"),
        ({"flags": {"blok-size": 1}}, "flags.blok-size", "is not a flag; did you mean block-size?"),
        ({"flags": {"block-size": "one"}}, "flags.block-size", "must be a whole number"),
        ({"env": {"VLLM_ROCM_USE_AITR": "1"}}, "env.VLLM_ROCM_USE_AITR", "did you mean VLLM_ROCM_USE_AITER?"),
        ({"any": {"moe": True}}, "any", "must be a list"),
        ({"any": [{"moe": 1}]}, "moe", "must be true or false"),
    ],
)
def test_what_cannot_be_is_refused_when_read(when, key, what):
    """Unknown names, wrong types and empty ranges are errors at load, with the nearest name."""
    with pytest.raises(ConditionError) as error:
        parse(when, NAMES)
    assert error.value.key == key
    assert what in error.value.what
