"""Transports, workers, CPUs and the kept calibration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rocbench import baseurl
from rocbench.address import addresses
from rocbench.errors import InputError, Interrupted
from rocbench.load import calibrate
from rocbench.load.cpus import cpu_list, kept_off, off_server, pick
from rocbench.load.machine import choose_transport, choose_workers
from rocbench.load.spec import Closed, Lengths, LoadSpec, RequestPlan, Target


def spec(url="http://127.0.0.1:1", users=10, **changes):
    """A load against a URL."""
    return LoadSpec(Target(url, "m"), RequestPlan(Lengths(1), Lengths(1)), Closed(users), **changes)


def test_addresses_of_a_name():
    """Each with its family."""
    assert addresses(baseurl.parse("http://127.0.0.1:7"))[0][1] == ("127.0.0.1", 7)


def test_transport_follows_the_target(monkeypatch):
    """Plain HTTP takes the wire; https and proxied hosts take aiohttp; loopback is never proxied."""
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert choose_transport(spec()) == "wire"
    assert choose_transport(spec("https://127.0.0.1:1")) == "aiohttp"
    assert choose_transport(spec("http://10.1.2.3:1")) == "aiohttp"
    assert choose_transport(spec(transport="aiohttp")) == "aiohttp"
    with pytest.raises(InputError, match="proxy"):
        choose_transport(spec("http://10.1.2.3:1", transport="wire"))


def level(**changes):
    """An accurate level."""
    fields = dict.fromkeys(calibrate.LoadLevel.__slots__, 0.0) | {"users": 10, "step_ms": 50.0, "failed": 0}
    return calibrate.LoadLevel(**(fields | changes))


def test_a_level_is_accurate_within_its_limits():
    """A figure beyond its limit, or an absent one, makes a level inaccurate."""
    assert level().accurate
    for name, value in {
        "itl_p99_off_ms": 0.6,
        "ttft_p50_off_ms": float("nan"),
        "ttft_p99_off_ms": 10.1,
        "concurrency_off": 0.03,
        "coalesced_share": 0.02,
        "busy_share": 0.95,
        "failed": 1,
    }.items():
        assert not level(**{name: value}).accurate
    assert level(server_late_ms=20).server_held
    assert not level(server_late_ms=30).server_held


def test_a_calibration_is_kept_and_read_back(tmp_path, monkeypatch):
    """What is saved is what is loaded; workers follow it; another CPU's or a broken file counts as none."""
    monkeypatch.setenv("ROCBENCH_CACHE", str(tmp_path / "cache"))
    assert calibrate.load() is None
    assert choose_workers(spec(users=10)) == 1
    kept = calibrate.ClientCalibration(
        calibrate.VERSION, "h", calibrate._cpu_model(), 2, "3.11", "now", 1000.0, 5, 8.0, "client", (level(),)
    )
    path = calibrate.save(kept)
    assert calibrate.load() == kept
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    assert choose_workers(spec(users=10)) == 2
    assert choose_workers(spec(users=10, workers=7)) == 7
    assert choose_workers(spec(users=10_000, cpus=(1, 2, 3))) == 3
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cpu_model": "another"}))
    assert calibrate.load() is None
    path.write_text("{")
    assert calibrate.load() is None
    assert replace(kept, worker_users=6) != kept


NODES = {0: range(8), 1: range(8, 16)}
PAIRS = {cpu: (cpu % 8, cpu % 8 + 8) for cpu in range(16)}


def test_the_client_goes_where_the_server_is_not():
    """The node with fewer of the server's CPUs comes first, from its upper end, on one node."""
    assert pick(2, range(16), {0, 1}, NODES, {}) == (15, 14)
    assert pick(2, range(16), {8, 9, 15}, NODES, {}) == (7, 6)
    assert pick(3, range(16), (), NODES, {}) == (15, 14, 13)


def test_a_core_is_taken_when_one_of_its_threads_is():
    """Hardware threads of a busy core are no free CPUs, and a core is given once."""
    got = pick(6, range(16), {8, 9}, {0: range(16)}, PAIRS)
    assert got == (7, 6, 5, 4, 3, 2)
    assert pick(7, range(16), {8, 9}, {0: range(16)}, PAIRS) is None


def test_cpu_lists():
    """The kernel's lists of CPUs."""
    assert cpu_list("0-2,8\n") == [0, 1, 2, 8]
    assert cpu_list("") == []
    for beyond in ("0-99999999999", "70000"):
        with pytest.raises(ValueError, match="CPU numbers must be below"):
            cpu_list(beyond)


@pytest.mark.parametrize(
    ("bound", "ours"),
    [
        ([], {0, 1, 2, 3}),
        ([{0}, {0}], {1, 2, 3}),
        ([{0, 1}, {1, 2}], {3}),
        ([{0}, {0, 1, 2, 3}], {0, 1, 2, 3}),  # a process that may run anywhere: nothing to keep off
        ([{0, 1, 2, 3, 4, 5}], {0, 1, 2, 3}),
    ],
)
def test_what_a_server_leaves_to_the_client(bound, ours):
    """The CPUs that no process of the server may use; all where there are none."""
    assert off_server({0, 1, 2, 3}, bound) == ours


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux binds processes to CPUs")
def test_kept_off_a_bound_server():
    """While a cell is measured this thread leaves a bound server its CPU, and afterwards it has its own back."""
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("one CPU")
    code = f"import os, sys\nos.sched_setaffinity(0, [{min(before)}])\nprint(flush=True)\nsys.stdin.read()"
    server = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    server.stdout.readline()
    with kept_off({server.pid, 2**22 + 1}):
        inside = os.sched_getaffinity(0)
    server.communicate()

    assert inside == before - {min(before)}
    assert os.sched_getaffinity(0) == before


def test_an_interrupted_calibration_ends(monkeypatch):
    """Ctrl-C in one level is no level that was measured, and no other level begins."""
    monkeypatch.setattr(calibrate, "serving", lambda _: nullcontext(("http://127.0.0.1:9", None)))
    cut = SimpleNamespace(window=SimpleNamespace(ended_by="interrupted"))
    with pytest.raises(Interrupted):
        calibrate.calibrate(lambda _: cut, lambda _: None)
