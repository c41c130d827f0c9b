"""One load from two hosts without any cluster: both agents in this process, each with its own workers and block."""

from __future__ import annotations

import numpy as np
import pytest

from loads import assert_same, load_spec, window_tokens
from referenceserver import FaultRecord, serving
from rocbench.errors import EnvironmentFault
from rocbench.load import drive, hosts
from rocbench.load.clock import Difference
from rocbench.load.hosts import HostSide
from rocbench.tables import metrics

SKEW_NS = 3_000_000_000


class Local(HostSide):
    """A load host on this machine."""

    def __init__(self, name):
        super().__init__()
        self.name, self.cpus = name, 2


class Mute(Local):
    """A load host that is lost in mid-load."""

    calls = 0

    def exchange(self, head):
        """Answers a few times, then no more."""
        self.calls += 1
        if self.calls > 20:
            raise OSError("no route to host")
        return super().exchange(head)


@pytest.fixture
def server():
    """A reference server of 20 ms steps."""
    with serving(["--step-ms", "20"]) as (url, _):
        yield url


def test_two_hosts_make_one_load(server):
    """Users, requests and tokens of both hosts add up to what the server saw; the row names them and their clocks."""
    agents = (Local("left"), Local("right"))
    result = drive(load_spec(server, users=20, workers=2, duration_s=1.0), agents=agents)
    record = FaultRecord.fetch(server)
    assert_same(result, record)
    assert result.output_tokens_in_window == pytest.approx(window_tokens(result, record), abs=20)
    assert sorted(worker.host for worker in result.workers) == ["left", "right"]
    assert len(np.unique(result.requests["user"][result.requests["user"] >= 0])) == 20
    row = metrics.summarise(result, gpus=None)
    assert row["load_hosts"] == "left;right"
    assert row["achieved_concurrency"] == pytest.approx(20, abs=0.6)
    assert 0 < row["load_hosts_clock_bound_ms"] < 100
    assert result.window.ended_by in {"duration", "requests"}


def test_a_lost_host_ends_the_load_with_its_name(server):
    """The load ends with a fault that names the host; no worker is left."""
    agents = (Local("left"), Mute("right"))
    with pytest.raises(EnvironmentFault, match="load host right is not reachable: no route to host"):
        drive(load_spec(server, users=4, workers=2, duration_s=5.0), agents=agents)


def test_the_shortest_way_tells_the_offset(monkeypatch):
    """Of many exchanges the one with the shortest way there and back is taken; half of it is the bound."""
    ways = iter([(0, 9000), (10_000, 4000), (20_000, 7000)])
    times = []
    for began, way in ways:
        times += [began, began + way]
    stamps = iter(times)
    monkeypatch.setattr(hosts.time, "time_ns", lambda: next(stamps))

    class Ahead:
        name, cpus = "ahead", 1
        answers = iter([SKEW_NS + 8000, SKEW_NS + 12_000, SKEW_NS + 20_010])

        def clock(self):
            return next(self.answers)

    monkeypatch.setattr(hosts, "PINGS", 3)
    assert hosts.offset(Ahead()) == Difference(SKEW_NS, 2000)


def test_rows_come_back_in_the_drivers_clock(server, monkeypatch):
    """A host said to be 3 s ahead is told edges 3 s later, and all its stamps are moved back by as much."""
    told = []

    class Ahead(Local):
        def exchange(self, head):
            """Note the edge it is told, and do as a host whose clock is not ahead would."""
            told.append(head[hosts.Head.START_NS])
            return super().exchange(
                [cell - SKEW_NS if cell > SKEW_NS and cell != hosts.UNSET else cell for cell in head]
            )

    monkeypatch.setattr(hosts, "offset", lambda _agent: Difference(SKEW_NS, 1000))
    result = drive(load_spec(server, users=4, workers=1, duration_s=0.5), agents=(Ahead("ahead"),))
    start = result.window.start_ns
    assert max(cell for cell in told if cell != hosts.UNSET) == start + SKEW_NS
    inside = result.requests["sent_ns"][result.requests["request_id"] < 10**6]
    assert (inside + SKEW_NS >= start - SKEW_NS).all()
    record = FaultRecord.fetch(server)
    shift = np.sort(record.arrived_ns)[-1] - result.requests["sent_ns"].max()
    assert shift == pytest.approx(SKEW_NS, abs=50e6)
    assert result.hosts[0].clock_offset_ms == SKEW_NS / 1e6
