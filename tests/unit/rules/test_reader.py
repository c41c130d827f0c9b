"""Reading the rule table: every fault is an error that names file, rule and key; the shipped table has none."""

from __future__ import annotations

import re
import shutil

import pytest

from rocbench.errors import ConfigError, Exit
from rocbench.rules import load
from rocbench.rules.load import shipped
from rocbench.rules.reader import parse_rules
from rocbench.rules.table import RuleTableError

GOOD = {
    "id": "a-rule",
    "vllm": ">=0.14,<0.18",
    "when": {"family": "gqa"},
    "set": {"block-size": 16},
    "severity": "performance",
    "message": "why",
    "source": "where",
}


def read(**changes):
    """One rule, the good one with changes; a None drops the key."""
    raw = {key: value for key, value in (GOOD | changes).items() if value is not None}
    return parse_rules("made.yaml", {"platform": "rocm", "rules": [raw]}, shipped().names)


def test_a_good_rule_is_read():
    """The rule has its platform from the file, its range and its effect."""
    (rule,) = read()
    assert (rule.platform, rule.span.text, rule.fills[0].name, rule.fills[0].value) == (
        "rocm",
        ">=0.14,<0.18",
        "block-size",
        16,
    )


@pytest.mark.parametrize(
    ("changes", "key", "what"),
    [
        ({"vllm": "0.14 or later"}, "vllm", "not a version range"),
        ({"vllm": ">=0.99"}, "vllm", "matches no vLLM release"),
        ({"vllm": ">=0.20,<0.18"}, "vllm", "matches no vLLM release"),
        (
            {"severity": "fatal"},
            "severity",
            "'fatal' is not one of hard_error, performance, accuracy, method",
        ),
        ({"platform": "cuda"}, "platform", "not one of any, rocm, cpu"),
        ({"source": None}, "source", "is missing"),
        ({"message": ""}, "message", "is missing"),
        ({"set": None}, "set", "does nothing"),
        ({"sets": {}}, "sets", "is not a key of a rule; did you mean set?"),
        ({"set": {"blocksize": 16}}, "set.blocksize", "is not a flag; did you mean block-size?"),
        ({"set": {"block-size": "sixteen"}}, "set.block-size", "must be a whole number"),
        ({"set": {"VLLM_NO_SUCH": "1"}}, "set.VLLM_NO_SUCH", "is not a variable"),
        ({"set": {"VLLM_ROCM_USE_AITER": 1}}, "set.VLLM_ROCM_USE_AITER", "must be text"),
        (
            {"set": {"VLLM_ROCM_USE_AITER_CUSTOM_AR": "1"}},
            "set.VLLM_ROCM_USE_AITER_CUSTOM_AR",
            "does not exist in vLLM 0.14.0",
        ),
        ({"set": {"attention-backend": "{no_fact}"}}, "set.attention-backend", "{no_fact} is not a fact"),
        ({"accept": {"max-model-len": 1}}, "accept.max-model-len", "is not set by this rule"),
        ({"forbid": {"block-size": {"below": 3}}}, "forbid.block-size", "is not a test of a number"),
        ({"unset": "block-size"}, "unset", "must be a list"),
        ({"require": ["max-num-seq"]}, "require.max-num-seq", "did you mean max-num-seqs?"),
        (
            {"replace": {"VLLM_ATTENTION_BACKEND": "attention-back"}},
            "replace.attention-back",
            "is not a flag",
        ),
        ({"refuse": "yes"}, "refuse", "must be true or false"),
        ({"when": {"familly": "gqa"}}, "when.familly", "is not a fact; did you mean family?"),
        ({"when": {"family": "mla_spars"}}, "when.family", "cannot be 'mla_spars'; did you mean mla_sparse?"),
        ({"when": {"backend": ["ROCM_*", "ROCM_ATN"]}}, "when.backend", "did you mean ROCM_ATTN?"),
        ({"when": {"quantization": {"not": "fp8"}}}, "when.quantization", "cannot be 'fp8'"),
        ({"when": {"flags": {"kv-cache-dtype": "fp16*"}}}, "when.flags.kv-cache-dtype", "cannot be 'fp16*'"),
        ({"forbid": {"kv-cache-dtype": "fp9*"}}, "forbid.kv-cache-dtype", "cannot be 'fp9*'"),
        ({"set": {"attention-backend": "ROCM"}}, "set.attention-backend", "cannot be 'ROCM'"),
        (
            {"historical": True, "vllm": ">=0.14"},
            "historical",
            "must not apply to the newest release, vLLM 0.33.0: end the version range before it",
        ),
        ({"when": {"heads": {"ge": 9, "le": 3}}}, "when.heads", "is empty"),
        ({"message": "at {head} heads"}, "message", "{head} is not a fact"),
    ],
)
def test_a_fault_names_file_rule_and_key(changes, key, what):
    """One error: where it stands, and what is wrong."""
    with pytest.raises(RuleTableError, match=re.escape(what)) as error:
        read(**changes)
    assert error.value.where == f"made.yaml: a-rule: {key}"
    assert isinstance(error.value, ConfigError)
    assert error.value.exit_code == Exit.BAD_INPUT


def test_an_id_stands_once(tmp_path):
    """Two rules of one id are refused."""
    shutil.copytree(load.FOLDER, tmp_path / "rules")
    shutil.copy(tmp_path / "rules" / "cpu.yaml", tmp_path / "rules" / "more.yaml")
    with pytest.raises(RuleTableError, match="occurs twice"):
        load.read_rules(tmp_path / "rules")


@pytest.mark.parametrize(
    ("text", "what"), [("rules: {", "not valid YAML"), ("- a list", "must be a mapping"), ("a: 1", "`rules`")]
)
def test_a_file_that_is_no_table(tmp_path, text, what):
    """Bad YAML, a list, a file without rules: one message each."""
    shutil.copytree(load.FOLDER, tmp_path / "rules")
    (tmp_path / "rules" / "more.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RuleTableError, match=what):
        load.read_rules(tmp_path / "rules")


def test_a_missing_file(tmp_path):
    """The table needs its data files."""
    with pytest.raises(RuleTableError, match="cannot be read"):
        load.read_rules(tmp_path)


IDS_OF_THE_SURVEY = """
bs-sparse-1 bs-sparse-64 bs-sparse-not-1 bs-dense-unset bs-1-forces-aiter-mla bs-triton-mla bs-gqa
bs-v4 bs-v41 bs-m3 heads-16-128 heads-4-8-16k heads-div16 heads-lt16 heads-any heads-padding aiter-on aiter-off-kimi
aiter-off-kimi-tp4 vskip fp8bmm shared-experts quickreduce noop-env attn-env pin-gqa pin-gptoss spec-no-shuffle encdec
fp8-moe-shard fp8-moe-refine hybrid-seqs sparse-fp8 triton-mla-fp8 dcp-fp8 fp8-label off-mla-bug off-hma-flag
off-hma-hybrid off-triton-swap off-region off-copies off-rocm-72 off-ab off-decode not-kv-offload pin-defaults
log-requests arch-min ready-timeout worker-exit visible v41-graphs k3-graphs gfx950-only flydsl-gfx950 v4pro
""".split()


def test_the_shipped_table_is_whole():
    """It has every rule of the survey of vLLM 0.12 to 0.33, each with its source."""
    ids = {rule.id for rule in shipped().rules}
    assert len(IDS_OF_THE_SURVEY) == 57
    assert set(IDS_OF_THE_SURVEY) <= ids
    assert all(rule.source and rule.message for rule in shipped().rules)


def test_rocm_rules_and_cpu_rules_keep_apart():
    """Each file's rules hold for its platform only."""
    assert {rule.platform for rule in shipped().rules if rule.file == "rocm.yaml"} == {"rocm"}
    assert {rule.platform for rule in shipped().rules if rule.file == "cpu.yaml"} == {"cpu"}
