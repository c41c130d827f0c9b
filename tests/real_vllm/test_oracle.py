"""Real vLLM, installed for the CPU, repeats a sample of the committed answers of its own release."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import pytest

import proofs
import questions as maker

pytestmark = pytest.mark.real_vllm
VERSION = "0.32.0"
ORACLE = Path(maker.__file__).parent
SAMPLE = 24
REPEATED = (
    "accepted",
    "refused_at",
    "error",
    "backend",
    "block_size",
    "kv_cache_dtype",
    "graph_mode",
    "max_captured",
    "max_num_batched_tokens",
    "max_num_seqs",
    "max_model_len",
    "prefix_caching",
    "connector",
    "runner",
)
"""What an answer repeats; not the seconds. Parts that one install cannot see are left out."""


def sample(gfx):
    """(questions, answers) of one architecture: of each place of refusal, and accepted ones, spread over the ids."""
    held = proofs.read().get(VERSION)
    if held is None:
        pytest.skip(f"no answers of vLLM {VERSION} are committed")
    made = {question.id: question for question in maker.questions(VERSION)}
    places: dict[object, list[str]] = {}
    for key, answer in held.answers.items():
        if key in made and answer["gfx"] == gfx and answer["accepted"] is not None:
            places.setdefault(answer.get("refused_at"), []).append(key)
    each = SAMPLE // max(len(places), 1)
    chosen = [key for keys in places.values() for key in keys[:: max(len(keys) // each, 1)][:each]]
    return [made[key] for key in chosen], [held.answers[key] for key in chosen]


@pytest.mark.parametrize("gfx", maker.GFX)
def test_a_sample_of_the_answers_repeats(real_vllm, gfx, tmp_path):
    """The same acceptance, place and words of a refusal, and the same choices, as were committed."""
    asked, told = sample(gfx)
    spec = importlib.util.spec_from_file_location("environment", ORACLE / "environment.py")
    environment = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(environment)
    done = subprocess.run(
        [real_vllm.vllm.with_name("python"), ORACLE / "ask.py"],
        input="".join(json.dumps(question.line()) + "\n" for question in asked),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=tmp_path,
        env={
            **os.environ,
            "ORACLE_GFX": gfx,
            "ORACLE_MEMORY": str(environment.MEMORY[gfx]),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_CACHE_ROOT": str(tmp_path),
            "VLLM_NO_USAGE_STATS": "1",
            "PYTHONPATH": str(ORACLE / "stand_in"),
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == [question.id for question in asked]
    for ours, theirs in zip(told, answers, strict=True):
        unseen = {*ours.get("unseen", ()), *theirs.get("unseen", ())}
        compared = (
            REPEATED if not unseen else ("accepted", "refused_at", "error", "graph_mode", "max_num_seqs")
        )
        assert {name: theirs.get(name) for name in compared} == {name: ours.get(name) for name in compared}, (
            ours
        )
