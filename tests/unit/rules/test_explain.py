"""What is told of a resolution: rows, differences, lists of rules, the check of an installed vLLM, and golden files."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rocbench.cli import app
from rocbench.errors import InputError
from rocbench.rules.explain import check_installed, condition, diff, effects, explain, list_rules
from rocbench.rules.load import shipped
from rocbench.rules.resolve import Resolution, resolve
from rocbench.rules.standing import MEANING, counts, standing, word_for
from rulecases import request

GOLDEN = Path(__file__).parents[2] / "golden" / "rules"
STUDY = [
    ("deepseek-v3.2", "0.14.1"),
    ("kimi-k2.5", "0.16.0"),  # stands for the study's nightly
    ("llama-3.1-405b", "0.14.1"),
    ("qwen3-vl-235b", "0.14.1"),
]
TODAY = [("kimi-k2.5", "0.14.1"), *((model, "0.33.0") for model, _ in STUDY)]


def told(resolution: Resolution) -> str:
    """A resolution as text: every entry with its origin, every finding, the expectation."""
    facts = resolution.facts
    lines = [
        f"{resolution.model}  vLLM {facts.vllm}  {facts.family}  {facts.heads} heads a rank",
        f"backend {facts.backend}: {facts.backend_reason} ({facts.backend_source})",
        f"expected {resolution.expected()}",
        *([f"profile: {resolution.note}"] if resolution.note else []),
        "",
    ]
    for row in explain(resolution):
        lines += [f"{row.name} = {row.value}", f"    {row.provenance}: {row.why}", f"    {row.source}"]
    for title in ("contradictions", "warnings", "undecided", "offers"):
        findings = getattr(resolution, title)
        if findings:
            lines += ["", title]
            lines += [f"  {f.severity} {f.text()}\n    {f.source}" for f in findings]
    lines += ["", f"accuracy labels: {', '.join(resolution.accuracy_labels) or 'none'}", ""]
    return "\n".join(lines)


@pytest.mark.parametrize(("model", "vllm"), [*STUDY, *TODAY])
def test_the_study_models_are_explained_as_in_the_golden_files(model, vllm):
    """Each flag, value, reason and source at the study's version and today's (UPDATE_GOLDEN=1 rewrites them)."""
    path = GOLDEN / f"{model}@{vllm}.txt"
    text = told(resolve(request({"model": model}, vllm)))
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_rows_are_in_the_order_of_the_command():
    """Flags first, then variables, each with who set it."""
    rows = explain(resolve(request({"model": "deepseek-v3.2"}, "0.14.1")))
    assert rows[0].name == "--tensor-parallel-size"
    by_name = {row.name: row for row in rows}
    assert by_name["--block-size"].provenance == "rule bs-sparse-1"
    assert by_name["--quantization"].provenance == "profile"
    assert by_name["--enable-prefix-caching"].value == "true"


def test_what_changed_between_two_versions():
    """Flags, variables, facts, and what rules say; nothing when nothing changed."""
    old, new = (resolve(request({"model": "deepseek-v3.2"}, vllm)) for vllm in ("0.14.1", "0.33.0"))
    changes = {(change.kind, change.name): change for change in diff(old, new)}
    assert (changes["flag", "--block-size"].before, changes["flag", "--block-size"].after) == ("1", "")
    assert changes["flag", "--gpu-memory-utilization"].after == "0.92"
    assert changes["fact", "block_size"].after == "16"
    assert changes["warning", "vskip"].before == "reported"
    assert ("flag", "--tensor-parallel-size") not in changes
    assert diff(old, old) == ()


def test_rules_are_listed_by_what_is_asked():
    """By id, version, platform, severity, being historical, and any word."""
    table = shipped()
    assert {rule.id for rule in list_rules(table, name="bs-sparse-*")} == {
        "bs-sparse-1",
        "bs-sparse-64",
        "bs-sparse-not-1",
    }
    assert {rule.id for rule in list_rules(table, name="bs-sparse-*", vllm="0.33.0")} == {"bs-sparse-not-1"}
    assert all(rule.platform in ("any", "cpu") for rule in list_rules(table, platform="cpu"))
    assert {rule.severity for rule in list_rules(table, severity="accuracy")} == {"accuracy"}
    assert all(rule.historical for rule in list_rules(table, historical=True))
    assert "off-mla-bug" in {rule.id for rule in list_rules(table, text="indexer.k_cache")}


def test_a_rule_is_told_in_two_lines():
    """When it holds and what it does."""
    rules = {rule.id: rule for rule in shipped().rules}
    rule = rules["pin-gptoss"]
    assert condition(rule).startswith("model_type gpt_oss, gfx (gfx942, gfx950), not (vllm >=0.23,<0.30")
    assert effects(rule) == "set attention-backend ROCM_AITER_UNIFIED_ATTN, block-size 64"
    assert condition(rules["vskip"]) == "always"
    assert effects(rules["fp8-label"]) == "label kv_cache_fp8"


def test_a_rule_has_a_standing():
    """Proved with its releases, else by its source: a run, a file, or a report."""
    table = shipped()
    rules = {rule.id: rule for rule in table.rules}
    none = dataclasses.replace(table, proved={})
    some = dataclasses.replace(table, proved={"heads-16-128": ("0.14.1", "0.16.0")})
    assert standing(rules["heads-16-128"], some).text() == "proved 0.14.1, 0.16.0"
    assert standing(rules["heads-16-128"], none).text() == "read"
    assert standing(rules["cpu-offload"], none).word == "run"
    assert standing(rules["off-rocm-72"], none).word == "reported"
    assert word_for("heads-16-128", "", some) == "proved"
    assert word_for("pin-defaults", "v0.33.0 config/cache.py:215", none) == "read"
    assert word_for("pin-defaults", "the profile", none) == "reported"
    assert word_for(None, "", table) == word_for("unknown-flag", "vllm/envs.py", table) == ""
    assert sum(counts(none).values()) == len(table.rules)
    assert counts(some, hard_errors=True)["proved"] == 1


def test_rules_as_json():
    """`bench rules --json` gives the word and the releases of each rule."""
    result = CliRunner().invoke(app, ["rules", "heads-*", "--json"])
    found = {rule["rule"]: rule for rule in json.loads(result.stdout)}
    assert found["heads-16-128"]["vllm"] == "<0.18"
    for name, rule in found.items():
        assert (rule["standing"] == "proved") is bool(rule["proved"]), name


def test_an_explained_value_has_the_standing_of_its_rule():
    """A value that a rule set has one word; a profile's has none; findings in JSON have it too."""
    result = CliRunner().invoke(app, ["explain", "deepseek-r1", "--vllm", "0.33.0", "--json"])
    data = json.loads(result.stdout)
    words = {row["name"]: row["standing"] for row in data["rows"]}
    assert words["--tensor-parallel-size"] == ""
    assert words["VLLM_ROCM_USE_AITER"] in MEANING
    assert all("standing" in finding for found in data["findings"].values() for finding in found)


HELP = """
  --tensor-parallel-size TENSOR_PARALLEL_SIZE, -tp TENSOR_PARALLEL_SIZE
  --max-model-len MAX_MODEL_LEN
  --enable-prefix-caching, --no-enable-prefix-caching
  --kv-cache-dtype {auto,fp8}
  --block_size BLOCK_SIZE   see also --not-a-flag-of-ours
"""


def test_an_installed_vllm_is_asked_for_what_it_knows():
    """Flags missing from its help and variables missing from vllm.envs are named; those of others are not ours."""
    resolution = resolve(
        request({"model": "deepseek-v3.2", "args": {"no-enable-prefix-caching": True}}, "0.14.1")
    )
    missing = check_installed(resolution, HELP, ["VLLM_ROCM_USE_AITER"], shipped().names)
    said = " ".join(missing)
    for known in (
        "--tensor-parallel-size",
        "--no-enable-prefix-caching",
        "--block-size",
        "AITER_ENABLE_VSKIP",
    ):
        assert f"{known}:" not in said
    assert "--gpu-memory-utilization: vllm serve --help does not list it" in missing
    assert "VLLM_ROCM_USE_AITER_FP8BMM: vllm.envs does not list it" in missing
    assert check_installed(resolution, HELP, [], shipped().names) != ()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--platform", "tpu"], "one of any, rocm, cpu"),
        (["--severity", "bad"], "one of hard_error, performance, accuracy, method"),
        (["--vllm", "abc"], "'abc' is not a version"),
        (["no-such-*"], "no rule matches"),
    ],
)
def test_a_filter_that_can_match_nothing_is_refused(argv, said):
    """One message that names the choices, not an empty or a whole list."""
    result = CliRunner().invoke(app, ["rules", *argv])
    assert isinstance(result.exception, InputError)
    assert said in result.exception.text()


def test_a_server_that_memory_keeps_from_starting_is_warned_of():
    """GLM-5.2's recipe is for eight GPUs: on four the cache is smaller than its longest context."""
    told_ = CliRunner().invoke(app, ["explain", "glm-5.2", "--vllm", "0.33.0", "--tp", "4"]).output
    assert "[gpu-memory] the KV cache holds 479,616 tokens, fewer than --max-model-len 524,288" in told_


def test_a_warning_without_a_source_has_no_brackets():
    """An unknown version is no rule's finding."""
    assert "()" not in CliRunner().invoke(app, ["explain", "tiny-llama-gqa"]).output


def test_json_says_what_was_resolved_and_how_attention_runs():
    """As the first lines of the table do."""
    argv = ["explain", "glm-5.2", "--vllm", "0.33.0", "--json"]
    found = json.loads(CliRunner().invoke(app, argv).output)
    assert (found["model"], found["vllm"], found["hardware"]) == (
        "zai-org/GLM-5.2-FP8",
        "0.33.0",
        "AMD Instinct MI325X",
    )
    assert (found["family"], found["backend"]) == ("mla_sparse", "ROCM_AITER_MLA_SPARSE")
    assert found["backend_reason"].startswith("the only sparse MLA backend")
    assert found["accuracy_labels"] == ["kv_cache_fp8"]


def test_a_difference_of_two_versions_takes_no_third_and_may_be_none():
    """--vllm beside --diff would decide nothing."""
    argv = ["explain", "tiny-llama-gqa", "--hardware", "cpu", "--diff", "0.33.0", "0.33.0"]
    assert "nothing changes from vLLM 0.33.0 to 0.33.0" in CliRunner().invoke(app, argv).output
    refused = CliRunner().invoke(app, [*argv, "--vllm", "0.31.0"]).exception
    assert isinstance(refused, InputError)
    assert refused.where == "--vllm"


def test_a_difference_shows_facts_and_findings():
    """Only flags and variables can hold a secret: facts and findings are shown."""
    output = CliRunner().invoke(app, ["explain", "kimi-k2.5", "--diff", "0.16.0", "0.33.0", "--json"]).output
    changes = {(change["kind"], change["name"]): change for change in json.loads(output)}
    assert changes["fact", "heads"]["before"] == "16"
    assert changes["warning", "noop-env"]["before"] == "reported"


def test_another_version_than_the_installed_one_is_told(tmp_path):
    """Flags of one version held against another differ for that alone."""
    for name, prints in (("vllm", "0.33.0 --served-model-name"), ("python", "[]")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{prints}'\n")
        (tmp_path / name).chmod(0o755)
    argv = ["explain", "tiny-llama-gqa", "--hardware", "cpu", "--check", str(tmp_path / "vllm")]
    for stated, warned in (("0.31.0", True), ("0.33.0", False)):
        said = CliRunner().invoke(app, [*argv, "--vllm", stated]).stderr
        assert (f"the flags are for vLLM {stated} (--vllm), but" in said) is warned
