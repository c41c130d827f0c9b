"""What the rules know of vLLM's names is what an installed vLLM says of itself."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from rocbench.rules.explain import check_installed
from rocbench.rules.flags import lives
from rocbench.rules.load import shipped
from rocbench.rules.resolve import resolve
from rulecases import request

pytestmark = pytest.mark.real_vllm
VERSION = "0.32.0"
NAMES = shipped().names


@pytest.fixture(scope="module")
def said(real_vllm):
    """(what `vllm serve --help=all` prints, the names in vllm.envs)."""
    environment = os.environ | real_vllm.environment() | {"COLUMNS": "200"}

    def run(*argv):
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=180)
        return done.stdout

    envs = "import json, vllm.envs as e; print(json.dumps(list(e.environment_variables)))"
    listed = run(str(real_vllm.vllm.with_name("python")), "-c", envs).splitlines()[-1]
    return run(str(real_vllm.vllm), "serve", "--help=all"), set(json.loads(listed))


def test_the_flags_known_for_a_release_are_those_it_has(said):
    """Every flag said to be in 0.32.0 is in its help, and has a `--no-` form there if it is a bool, not as a switch."""
    options = set(re.findall(r"(?<![\w-])--([a-z0-9][a-z0-9-]*)", said[0].replace("_", "-")))
    ours = {name for name in NAMES.flags if lives(name, VERSION, NAMES)}
    assert ours <= options
    turned_off = {name[3:] for name in options if name.startswith("no-")}
    assert {name for name in ours if NAMES.flags[name].kind == "bool"} <= turned_off
    assert not {name for name in ours if NAMES.flags[name].kind == "switch"} & turned_off


def test_the_variables_known_for_a_release_are_those_it_has(said):
    """The variables said to be in 0.32.0 are vllm.envs's, but for two that no vLLM reads."""
    ours = {name for name in NAMES.env if name.startswith("VLLM_") and lives(name, VERSION, NAMES)}
    assert ours - said[1] == {"VLLM_USE_TRITON_FLASH_ATTN", "VLLM_USE_V1"}
    assert said[1] <= set(NAMES.env)


@pytest.mark.parametrize(
    "model", ["tiny-llama-gqa", "tiny-deepseek-v3-mla-moe", "deepseek-v3.2", "qwen3-vl-235b"]
)
def test_a_resolution_for_a_release_is_known_to_it(said, model):
    """All flags and variables of a plan for 0.32.0, by profile, rule and pinned default, are known to it."""
    hardware = "cpu" if model.startswith("tiny") else "mi325x"
    resolution = resolve(request({"model": model, "hardware": hardware}, VERSION))
    assert check_installed(resolution, *said, NAMES) == ()
