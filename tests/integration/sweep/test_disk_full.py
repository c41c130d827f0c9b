"""A full disk under the results: what was measured before stays readable, the message says what and where."""

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from sweeps import Ended, sweep

MODEL = "llama-3.3-70b"
LIMIT = 180_000
"""Bytes: more than cells.parquet, less than the requests of the second cell."""


def full(ended: Ended) -> None:
    """What holds after the disk was full: one message, no traceback, the first cell readable."""
    assert ended.code == 4, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "cannot write results" in ended.stderr
    assert str(ended.folder) in ended.stderr


def two_cells(folder: Path) -> dict:
    """A small cell, and one with so many requests that its part is larger than every other file."""
    workload = folder / "tiny.yaml"
    workload.write_text("name: tiny\nisl: {mean: 8}\nosl: {mean: 4}\n")
    made = sweep([MODEL])
    del made["concurrency"]
    made["blocks"] = [
        {"workloads": [str(workload)], "concurrency": [1]},
        {"workloads": [str(workload)], "concurrency": [500], "load": {"max_requests": 10_000}},
    ]
    return made


@pytest.mark.slow
def test_file_too_large(bench, tmp_path):
    """A limit on the size of files, as a quota has: the second cell's table does not fit."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))

    bench.limits = limited
    ended = bench.sweep(two_cells(tmp_path))

    full(ended)
    assert f"{ended.folder}/parts/requests/" in ended.stderr
    assert list(ended.rows["concurrency"]) == [1]
    assert ended.rows["completed"][0] > 0
    largest = max(path.stat().st_size for path in ended.folder.rglob("*") if path.is_file())
    assert largest < 0.9 * LIMIT, "another file could be the one that did not fit"


@pytest.mark.slow
def test_no_space_left(bench):
    """A file system of 300 KB that the run fills: the first cell is kept."""
    room = bench.folder / "small"
    room.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(room)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    try:
        ended = bench.run("sweep", bench.write(two_cells(bench.folder)), "--out", str(room / "out"))
        assert bench.left() == []
        ended = Ended(ended.code, ended.stdout, ended.stderr, room / "out")
        full(ended)
        assert list(ended.rows["concurrency"]) == [1]
    finally:
        subprocess.run(["umount", str(room)], check=True)
