"""A real load and a prediction decide the same window from the same requests."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocbench.load.control import UNSET, Command, Control, Count, Head
from rocbench.load.requestqueue import RequestQueue
from rocbench.load.spec import (
    Closed,
    Dialect,
    Lengths,
    LoadSpec,
    Open,
    RequestPlan,
    Target,
    WindowPlan,
    WorkerSpec,
)
from rocbench.load.watch import AHEAD_NS, Watch
from rocbench.sim import predict
from simnodes import argv_of, node

GO_NS = 10**18
ARGV, ENV = argv_of()
SERVER = node(argv=[*ARGV, "--max-num-seqs", "8"], env=ENV)
"""Answers about 10 requests of 16 tokens per second, so that queues grow in an open loop."""

plans = st.builds(
    WindowPlan,
    duration_s=st.sampled_from([0.5, 1.0, 3.0]),
    max_duration_s=st.sampled_from([1.0, 4.0, 60.0]),
    min_requests_per_user=st.sampled_from([0.5, 2.0]),
    max_requests=st.sampled_from([None, None, 1, 20, 500]),
    ramp_s=st.sampled_from([None, 0.0, 1.0]),
    max_tail_s=st.sampled_from([None, 0.0, 0.3]),
    max_tail_requests=st.sampled_from([None, 0, 3]),
    max_drain_s=st.sampled_from([None, 0.1]),
)
shapes = st.one_of(
    st.builds(Closed, st.sampled_from([1, 5, 20])),
    st.builds(Open, st.sampled_from([2.0, 10.0, 40.0]), max_in_flight=st.sampled_from([None, 4])),
)


class Recorded(predict._Run):
    """A prediction that keeps its requests at each moment at which its window is updated."""

    moments: list

    def _update_window(self) -> None:
        requests = [(request, math.nan) for request in self.running.values()]
        requests += [(request, request.end_s) for request in self.ended]
        more = self._may_send() if isinstance(self.spec.shape, Closed) else self._next_s < math.inf
        self.moments.append((self.now, requests, list(self._waiting), more, self.peak_in_flight))
        super()._update_window()


def publish(cells, rule, moment):
    """Set a worker's counters as of a moment, by their definitions in `load.control`."""
    now_s, requests, waiting, more, _ = moment

    def in_window(at_s):
        return rule.start_s <= at_s < rule.end_s

    ended = [request for request, end_s in requests if end_s <= now_s]
    many = [request for request in ended if request.sequence.output_tokens > 1]
    left = [request.intended_s for request, end_s in requests if not end_s <= now_s]
    cells[Count.SENT] = len(requests)
    cells[Count.IN_FLIGHT] = cells[Count.TALKING] = len(left)
    cells[Count.COMPLETED] = len(ended)
    cells[Count.BEGUN] = sum(in_window(request.intended_s) for request, _ in requests)
    cells[Count.TURNED_OVER] = len({request.user for request in ended})
    cells[Count.TPOT_SUM_NS] = sum(
        round((request.end_s - request.first_s) / (request.sequence.output_tokens - 1) * 1e9)
        for request in many
    )
    cells[Count.TPOT_COUNT] = len(many)
    cells[Count.WAITING] = len(waiting)
    cells[Count.EXHAUSTED] = not more and not waiting
    if now_s >= rule.end_s:
        cells[Count.OUTSTANDING] = sum(map(in_window, [*left, *waiting]))
        cells[Count.TAIL_SEEN] = 1


def spec_of(shape, plan):
    """A load of short requests."""
    requests = RequestPlan(Lengths(8), Lengths(16))
    return LoadSpec(Target("http://virtual", "m"), requests, shape, plan, request_timeout_s=20.0)


@settings(max_examples=40)
@given(shapes, plans)
def test_both_decide_the_same_window(shape, plan):
    """Same edges, same reason, same notes, and the same end of sending."""
    spec = spec_of(shape, plan)
    run = Recorded(spec, SERVER, predict.Client(), 0)
    run.moments = []
    run.drive()

    control = Control.create(1)
    cells = control.counters(0)
    pool = SimpleNamespace(specs=[0], ready=True, check=lambda: None)
    watch = Watch(spec, control, pool, None, None)
    cells[Count.READY] = 1
    watch._step(GO_NS - AHEAD_NS // 2)
    drained_s = math.inf
    for moment in run.moments:
        publish(cells, watch.rule, moment)
        watch.peak_in_flight = moment[-1]  # a real load samples it
        watch._follow_rule(moment[0])
        if control.cells[Head.COMMAND] == Command.DRAIN:
            drained_s = min(drained_s, moment[0])
    start_ns, end_ns = control.cells[Head.START_NS], control.cells[Head.END_NS]
    cells.release()
    control.close()

    assert UNSET not in {start_ns, end_ns}
    assert (start_ns - GO_NS) / 1e9 == pytest.approx(run.window.start_s, abs=1e-8)
    assert (end_ns - GO_NS) / 1e9 == pytest.approx(run.window.end_s, abs=1e-8)
    assert watch.rule.ended_by == run.window.ended_by
    assert drained_s == run.window.drain_s
    assert [note for note in watch.rule.notes if "drain" not in note] == run.window.notes


@given(st.integers(1, 20), plans)
def test_users_start_alike(users, plan):
    """Each user's first request has the same time and length in both."""
    spec = spec_of(Closed(users), plan)
    queue = RequestQueue(WorkerSpec(spec, 0, 1, "wire", Dialect(), ()), wire=True)
    queue.prepare()
    run = predict._Run(spec, SERVER, predict.Client(), 0)
    run._start_users()
    firsts = [(request.user, at_ns, request.osl_asked) for at_ns, request in queue.firsts]
    assert firsts == [
        (request.user, round(request.sent_s * 1e9), request.osl_asked) for request in run.running.values()
    ]
