"""Real vLLM, installed for the CPU, repeats a sample of the committed answers of its own release."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

import environment
import proofs
import questions as maker

pytestmark = pytest.mark.real_vllm
VERSION = "0.32.0"
ORACLE = Path(maker.__file__).parent
SAMPLE = 24
AS_ASKED = """
import contextlib, glob, importlib.util, os, runpy, sys
import torch
for path in glob.glob(os.path.join(importlib.util.find_spec("vllm").submodule_search_locations[0], "*.so")):
    sys.modules["vllm." + os.path.basename(path).partition(".")[0]] = None
define = torch.library.Library.define
def once(*given, **named):
    with contextlib.suppress(RuntimeError):
        return define(*given, **named)
torch.library.Library.define = once
runpy.run_path(sys.argv[1], run_name="__main__")
"""
"""Runs ask.py without vLLM's compiled kernels: the answers were made without them, and those for the CPU end a process
that takes another platform. This install declares torchvision's operators already, as the stand-in does.
"""
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
"""What an answer repeats; not the seconds."""
ALWAYS = ("accepted", "refused_at", "error", "graph_mode", "max_num_seqs")
"""The same, if one of the installs could not ask every part."""


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


def told_by(answer, names):
    """What an answer says under these names, without the free memory of the machine that was asked."""
    return {name: re.sub(r"\d+ MiB free", "N MiB free", str(answer.get(name))) for name in names}


@pytest.mark.parametrize("gfx", maker.GFX)
def test_a_sample_of_the_answers_repeats(real_vllm, gfx, tmp_path):
    """The same acceptance, place and words of a refusal, and the same choices, as were committed."""
    asked, told = sample(gfx)
    done = subprocess.run(
        [real_vllm.vllm.with_name("python"), "-c", AS_ASKED, ORACLE / "ask.py"],
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
    clear = [pair for pair in zip(told, answers, strict=True) if pair[1]["accepted"] is not None]
    assert len(clear) * 4 >= len(asked) * 3, answers
    for ours, theirs in clear:
        seen = not {*ours.get("unseen", ()), *theirs.get("unseen", ())}
        compared = REPEATED if seen else ALWAYS
        assert told_by(theirs, compared) == told_by(ours, compared), ours
