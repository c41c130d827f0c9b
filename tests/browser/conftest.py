"""A browser and a report for all tests of this folder; skipped with the reason where there is no browser."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from browser.chromium import Chromium, executable
from rocbench.report import write
from synthetic_runs import FOUR_MODELS, World, write_run


def install() -> str:
    """Try to install Debian's chromium; what went wrong, empty when nothing did."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return "no chromium here (Debian: apt-get install chromium)"
    for command in (
        "apt-get update",
        "apt-get install -y --no-install-recommends chromium fonts-dejavu-core",
    ):
        done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{command}: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}"
    return ""


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    if executable() is None and (fault := install()):
        pytest.skip(fault)
    with Chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def page(tmp_path_factory):
    """report.html of four made-up models, one cell of which is invalid."""
    root = tmp_path_factory.mktemp("browser")
    void = frozenset({"kimi-k2.5/text-2048-512/c256"})
    run = write_run(root / "20260101-000000-made-up-0001", FOUR_MODELS, World(seed=1, invalid=void))
    return write.report([run], root / "report").paths[0]


@pytest.fixture(scope="session")
def comparison(tmp_path_factory):
    """report.html of an ablation and of two runs: rows of effects."""
    root = tmp_path_factory.mktemp("comparison")
    sweep = {**FOUR_MODELS, "models": ["llama-3.1-405b"], "factors": {"aiter": ["off", "on"]}, "repeats": 4}
    runs = [
        write_run(root / f"2026010{day + 1}-000000-aiter-000{day}", sweep, World(seed=day, day=day))
        for day in range(2)
    ]
    return write.report(runs, root / "report").paths[0]
