"""A full disk under the results: what was measured before stays readable, the message says what and where."""

import os
import resource
import signal
import subprocess

import pytest

from sweeps import Bench, Ended, sweep

MODEL = "llama-3.3-70b"


def full(ended: Ended) -> None:
    """What holds after the disk was full: one message, no traceback, the first cell readable."""
    assert ended.code == 4, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "cannot write results" in ended.stderr
    assert str(ended.folder) in ended.stderr


def two_cells() -> dict:
    """A small cell, and one with so many requests that its part is larger than every other file."""
    made = sweep([MODEL])
    del made["concurrency"]
    made["blocks"] = [
        {"workloads": ["short"], "concurrency": [1]},
        {"workloads": ["short"], "concurrency": [1000], "load": {"duration_s": 12}},
    ]
    return made


@pytest.mark.slow
def test_file_too_large(bench, tmp_path):
    """A limit on the size of files, as a quota has: the second cell's table does not fit."""
    roomy = bench.sweep(two_cells())
    files = [path for path in roomy.folder.rglob("*") if path.is_file()]
    large = max(path.stat().st_size for path in files if path.parent.name == "requests")
    others = max(path.stat().st_size for path in files if "requests" not in str(path))
    limit = int(1.2 * others)  # no run has the requests of another: far from both
    assert limit < 0.8 * large, "the second run's table could fit"

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    small = Bench(tmp_path / "small", limits=limited)
    small.folder.mkdir()
    ended = small.sweep(two_cells())

    full(ended)
    assert list(ended.rows["concurrency"]) == [1]
    assert ended.rows["completed"][0] > 0


@pytest.mark.slow
def test_no_space_left(bench):
    """A file system of 300 KB that the run fills: the first cell is kept."""
    room = bench.folder / "small"
    room.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(room)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    try:
        ended = bench.run("sweep", bench.write(two_cells()), "--out", str(room / "out"))
        assert bench.left() == []
        ended = Ended(ended.code, ended.stdout, ended.stderr, room / "out")
        full(ended)
        assert list(ended.rows["concurrency"]) == [1]
    finally:
        subprocess.run(["umount", str(room)], check=True)
