"""Following a log in pieces, and the lines that affect a window."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocbench.probe import logwatch
from rocbench.probe.logwatch import LogFollower, LogLook, LogWatch, kind_of

S = 1_000_000_000


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("[aiter] [pid=254 pname=Process-4] start build [module_moe] under /x/build/module_moe", "jit"),
        ("[aiter] \x1b[32mfinish build [module_moe], cost 57.8s \x1b[0m", "jit"),
        (
            "WARNING [jit_monitor.py:1] Triton kernel JIT compilation during inference: kernel_x. This causes",
            "jit",
        ),
        ("Triton autotuning for function _fwd took 3.2 s", "jit"),
        ("INFO [monitor.py:34] torch.compile takes 12.34 s in total", "compile"),
        ("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE): 10%|#", "compile"),
        ("WARNING [scheduler.py:1] Sequence group 0 is preempted by PreemptionMode.RECOMPUTE", None),
        (
            "(EngineCore pid=5) ERROR 01-20 10:00:00 [core.py:1] EngineCore encountered a fatal error.",
            "error",
        ),
        ("Traceback (most recent call last):", "error"),
        ("Memory access fault by GPU node-4", "error"),
        ('INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 200 OK', None),
        ("INFO [loggers.py:1] Engine 000: Avg prompt throughput: 10.0 tokens/s, Running: 3 reqs", None),
        ("[aiter] import [module_moe] under /sgl-workspace/aiter/aiter/jit/module_moe.so", None),
    ],
)
def test_kinds(line, kind):
    """Builds, compilation and errors are recognised."""
    assert kind_of(line) == kind


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_split_gives_the_same_lines(tmp_path_factory, content, cuts):
    """However the log grows, each line is complete and read once."""
    path = tmp_path_factory.mktemp("log") / "server.log"
    path.touch()
    follower = LogFollower(path)
    lines = []
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(content)], strict=True):
        with path.open("ab") as file:
            file.write(content[begin:end])
        lines += follower.lines()
    with path.open("ab") as file:
        file.write(b"\n")
    lines += follower.lines()

    text = content.replace(b"\r", b"\n")
    assert lines == [line.decode(errors="replace") for line in text.split(b"\n") if line]


def test_gigabyte_is_skipped_over(tmp_path):
    """A log that grew by a gigabyte at once is read from near its end, and the skipped bytes are counted."""
    path = tmp_path / "server.log"
    path.write_bytes(b"start\n")
    follower = LogFollower(path)
    follower.lines()
    with path.open("r+b") as file:
        file.truncate(10**9)
        file.seek(0, 2)
        file.write(b"\n[aiter] start build [module_x]\n")

    lines = follower.lines()

    assert lines[-1] == "[aiter] start build [module_x]"
    assert sum(map(len, lines)) < 2 * logwatch.PIECE_BYTES
    assert follower.skipped_bytes > 10**9 - 3 * logwatch.PIECE_BYTES


def test_no_log_yet(tmp_path):
    """A missing log has no lines, and is read as soon as it exists."""
    follower = LogFollower(tmp_path / "server.log")

    assert follower.lines() == []
    (tmp_path / "server.log").write_text("now\n")
    assert follower.lines() == ["now"]


def test_watch_sees_new_lines_only(tmp_path):
    """Only builds during the cell count."""
    path = tmp_path / "server.log"
    path.write_text("[aiter] start build [before]\n")
    start = time.time_ns()
    with LogWatch(path) as watch, path.open("a") as file:
        file.write("ordinary\n[aiter] start build [inside]\n")
    end = time.time_ns()

    assert watch.view(start, end)["jit_lines"] == 1


def test_window_edges():
    """A line counts if it may have been written inside the window."""
    watch = LogWatch(path=None)
    watch.path = object()
    watch.looks = [LogLook(9 * S, 10 * S - 1, {"jit": 1}), LogLook(9 * S, 10 * S, {"jit": 1})]
    watch.looks += [LogLook(19 * S, 21 * S, {"compile": 1}), LogLook(20 * S, 21 * S, {"jit": 1})]

    assert watch.view(10 * S, 20 * S) == {"jit_lines": 1, "compile_lines": 1, "error_lines": 0}


def test_attached_server_has_no_log():
    """Without a log every column is None."""
    with LogWatch(None) as watch:
        pass

    assert set(watch.view(0, S).values()) == {None}


def test_flood_is_counted(tmp_path):
    """All lines of a flood in warm-up are counted, and so is a build in the window after it."""
    path = tmp_path / "server.log"
    path.touch()
    follower = LogFollower(path)
    watch = LogWatch(path)
    path.write_text("[aiter] start build [module]\n" * 5000)
    watch._look(follower, time.time_ns())
    start = time.time_ns()
    with path.open("a") as file:
        file.write("[aiter] start build [module]\n")
    watch._look(follower, start)

    assert watch.view(start, time.time_ns()) == {"jit_lines": 1, "compile_lines": 0, "error_lines": 0}
    assert watch.view(0, time.time_ns())["jit_lines"] == 5001


def test_skipped_log_is_unknown(tmp_path, monkeypatch):
    """If a part of the log was skipped, zero lines become None; lines that were read count."""
    monkeypatch.setattr(logwatch, "PIECE_BYTES", 100)
    path = tmp_path / "server.log"
    path.touch()
    follower = LogFollower(path)
    watch = LogWatch(path)
    start = time.time_ns()
    path.write_text("an ordinary line\n" * 100 + "ERROR boom\n")
    watch._look(follower, start)
    skipped_ns = time.time_ns()

    assert watch.view(start, skipped_ns) == {"jit_lines": None, "compile_lines": None, "error_lines": 1}
    assert watch.view(skipped_ns, skipped_ns + S)["jit_lines"] == 0


def test_a_look_reads_to_the_end(tmp_path, monkeypatch):
    """A flood that is not skipped is read in one look, up to its last line."""
    monkeypatch.setattr(logwatch, "PIECE_BYTES", 100)
    path = tmp_path / "server.log"
    path.write_text("x" * 50 + "\n" + "y" * 100 + "\nERROR boom\n")
    watch = LogWatch(path)
    watch._look(LogFollower(path), 0)

    assert watch.view(0, S)["error_lines"] == 1
