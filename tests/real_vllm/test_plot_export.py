"""vLLM's own plot command reads the vllm-bench export."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from rocbench.export import write
from synthetic_runs import FOUR_MODELS, World, write_run

pytestmark = pytest.mark.real_vllm

ROOT = Path(__file__).parents[2]
PLOTTERS = ("pandas", "seaborn", "matplotlib")
"""What `vllm bench sweep plot` needs beside vLLM, which leaves them to its `bench` extra."""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """A Python with real vLLM and its plotting extras, without touching vLLM's own environment."""
    found = sorted((ROOT / ".venv-vllm").glob("lib/python*/site-packages/vllm"))
    if not found:
        pytest.skip("real vLLM is not installed: scripts/install-real-vllm")
    folder = tmp_path_factory.mktemp("plot") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    program = folder / "bin" / "python"
    done = subprocess.run(
        [program, "-m", "pip", "install", "--quiet", *PLOTTERS], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"pip cannot install {' '.join(PLOTTERS)}: {done.stderr.strip().splitlines()[-1]}")
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "vllm.pth").write_text(f"{found[0].parent}\n")
    yield program
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The export of a made-up run."""
    root = tmp_path_factory.mktemp("exported")
    sweep = {**FOUR_MODELS, "models": ["deepseek-v3.2", "qwen3-vl-235b"], "repeats": 2}
    run = write_run(root / "run", sweep, World())
    write.export(run, "vllm-bench", root / "out")
    return root / "out"


def vllm(python, *words):
    """Run a command of vLLM's."""
    done = subprocess.run(
        [python, "-m", "vllm.entrypoints.cli.main", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_sweep_plot_draws_it(python, exported):
    """One curve a model, p99 TTFT over users."""
    told = vllm(
        python,
        *("bench", "sweep", "plot", exported, "--var-x", "max_concurrency", "--var-y", "p99_ttft_ms"),
        *("--curve-by", "model_id", "--fig-dir", "figures"),
    )
    assert "No data to plot" not in told
    with Image.open(exported / "figures" / "FIGURE.png") as image:
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24) or []) > 20


def test_sweep_plot_pareto_draws_it(python, exported):
    """Every row is a point: users and GPUs are found."""
    told = vllm(python, "bench", "sweep", "plot_pareto", exported, "--label-by", "max_concurrency,gpu_count")
    assert "Plotted 16 points" in told
    assert (exported / "pareto" / "PARETO.png").stat().st_size > 10_000
