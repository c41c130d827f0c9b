"""Whole loads over real sockets, held against what the reference server wrote down."""

from __future__ import annotations

import json
import threading
import urllib.request
from dataclasses import replace

import numpy as np
import psutil
import pytest

from loads import assert_same, load_spec, window_tokens
from referenceserver import FaultRecord, serving
from rocbench.errors import ServerFault
from rocbench.load import drive
from rocbench.load.dialect import PROBE_ID
from rocbench.load.spec import Closed, Dataset, Lengths, Open, RequestPlan, Trace, WindowPlan
from rocbench.records import FAILURES, NONE, Phase

STEP = ("--step-ms", "4")


@pytest.fixture(scope="module")
def server():
    """A reference server without faults."""
    with serving(STEP) as (url, _):
        yield url


def reset(url):
    """Forget what the server has written down so far."""
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url + "/reset").read()


@pytest.mark.parametrize("transport", ["wire", "aiohttp"])
def test_closed_loop_rows_equal_the_truth(server, transport):
    """Each request the server saw has its row, counts add up, and the asked concurrency is held."""
    reset(server)
    result = drive(load_spec(server, users=16, transport=transport, duration_s=0.8))
    record = FaultRecord.fetch(server)
    assert_same(result, record)
    rows = result.requests
    measured = rows[rows["phase"] == Phase.MEASURED]
    assert result.transport == transport
    assert result.window.ended_by == "duration"
    assert len(measured) >= 16
    assert (measured["failure"] == NONE).all()
    assert (measured["output_tokens"] == 10).all()
    assert (measured["isl_asked"] == measured["prompt_tokens"]).all()
    assert (measured["intended_ns"] == measured["sent_ns"]).all()
    assert (np.diff(rows["sent_ns"]) >= 0).all()
    assert result.itl.total == len(measured) * 9
    # The server's stamps and ours are of the two ends of a loopback: tokens at an edge may fall on either side.
    assert abs(result.output_tokens_in_window - window_tokens(result, record)) <= 32
    assert result.concurrency_asked == 16
    assert sum(worker.tokens for worker in result.workers) == result.output_tokens_in_window


def test_tokens_per_second_add_up(server):
    """The whole seconds of the window hold no more tokens than the window, and every second has some."""
    result = drive(load_spec(server, users=4, duration_s=1.2))
    assert len(result.tokens_per_second) == 1
    assert (result.tokens_per_second > 0).all()
    assert result.tokens_per_second.sum() <= result.output_tokens_in_window


@pytest.mark.parametrize("transport", ["wire", "aiohttp"])
def test_chunks_of_several_tokens_and_chat(transport):
    """Tokens are counted by usage, not by chunk, and a role chunk is no token."""
    with serving((*STEP, "--chunk-tokens", "1-5")) as (url, _):
        spec = load_spec(url, transport=transport)
        spec = replace(spec, requests=RequestPlan(Lengths(20), Lengths(23), api="chat"))
        result = drive(spec)
        record = FaultRecord.fetch(url)
    assert_same(result, record)
    done = result.requests[result.requests["phase"] == Phase.MEASURED]
    assert (done["output_tokens"] == 23).all()
    assert (done["chunks"] < 23).any()
    assert (done["first_chunk_ns"] <= done["first_token_ns"]).all()  # equal where one read held both
    assert (done["first_chunk_ns"] < done["first_token_ns"]).any()
    firsts = {k: int(record.sizes[s]) for k, s in zip(record.ids, record.starts, strict=True)}
    assert result.icl.total == int((done["chunks"] - 1).sum())
    assert result.itl.total < int((done["output_tokens"] - 1).sum()) + len(firsts)
    assert result.itl.total > result.icl.total


FAULTS = ("http_status", "in_band_error", "truncated", "reset", "timeout", "bad_json", "early_stop")


@pytest.mark.parametrize("transport", ["wire", "aiohttp"])
def test_every_failure_is_in_its_class(transport):
    """With each class failing a share of the answers, every row has the class that the server meant."""
    faults = [part for fault in FAULTS for part in ("--fault", f"{fault}=0.06")]
    with serving((*STEP, *faults)) as (url, _):
        spec = load_spec(url, users=24, transport=transport, request_timeout_s=0.6, duration_s=1.0)
        result = drive(spec)
        record = FaultRecord.fetch(url)
    assert_same(result, record)
    classes = {FAILURES[row["failure"]].value for row in result.requests if row["failure"] != NONE}
    assert classes == set(FAULTS)
    completed = result.requests["failure"] == NONE
    measured = completed & (result.requests["phase"] == Phase.MEASURED)
    assert result.itl.total == int((result.requests["output_tokens"][measured] - 1).sum())


@pytest.mark.parametrize("transport", ["wire", "aiohttp"])
def test_where_every_request_is_refused_each_is_told(transport):
    """A server that answers nothing but errors has no token at all, and its rows are told all the same."""
    with serving((*STEP, "--fault", "http_status=1")) as (url, _):
        window = WindowPlan(duration_s=0.2, max_requests=30)
        result = drive(load_spec(url, users=4, transport=transport, window=window))
        record = FaultRecord.fetch(url)
    assert_same(result, record)
    failed = result.requests[result.requests["request_id"] < PROBE_ID]["failure"]
    assert {FAILURES[code].value for code in failed} == {"http_status"}
    assert len(failed) >= 30


def test_answers_of_one_token_fail_in_their_class_too():
    """An answer of one token has its finish_reason in its first event: what fails after it is told all the same."""
    faults = [part for fault in FAULTS for part in ("--fault", f"{fault}=0.06")]
    with serving((*STEP, *faults)) as (url, _):
        result = drive(load_spec(url, users=24, tokens=1, request_timeout_s=0.6, duration_s=1.0))
        record = FaultRecord.fetch(url)
    assert_same(result, record)
    classes = {FAILURES[row["failure"]].value for row in result.requests if row["failure"] != NONE}
    assert classes == set(FAULTS) - {"truncated", "early_stop"}


def test_several_workers_send_each_request_once(server):
    """Three workers share the users and the numbering, and their rows merge without a gap."""
    reset(server)
    result = drive(load_spec(server, users=10, workers=3))
    assert_same(result, FaultRecord.fetch(server))
    assert len(result.workers) == 3
    rows = result.requests[result.requests["worker"] >= 0]
    assert set(rows["user"][rows["user"] >= 0]) == set(range(10))


def test_bound_by_count_measures_every_request(server):
    """With a count there is no warm-up: all requests are measured, and the window ends with the last answer."""
    reset(server)
    spec = load_spec(server, users=8, window=WindowPlan(max_requests=21))
    result = drive(spec)
    rows = result.requests[result.requests["request_id"] < 2**40]
    assert len(rows) == 21
    assert (rows["phase"] == Phase.MEASURED).all()
    assert result.window.ended_by == "count"
    assert rows["end_ns"].max() < result.window.end_ns
    assert result.output_tokens_in_window == 210


def test_fewer_requests_than_users(server):
    """Asked for more users than requests, only so many are sent, and the row tells how many users were asked for."""
    result = drive(load_spec(server, users=50, window=WindowPlan(max_requests=5)))
    assert (result.requests["request_id"] < 2**40).sum() == 5
    assert result.concurrency_asked == 50


def test_window_is_extended_for_requests(server):
    """The window goes on until so many requests per user have begun in it, and says why it ended."""
    spec = load_spec(server, window=WindowPlan(duration_s=0.05, min_requests_per_user=20))
    result = drive(spec)
    measured = result.requests["phase"] == Phase.MEASURED
    assert result.window.ended_by == "requests"
    assert measured.sum() >= 20 * 8


def test_max_duration_caps_the_window(server):
    """A cap on the window's length wins over the requests wanted."""
    spec = load_spec(server, window=WindowPlan(duration_s=0.1, max_duration_s=0.4, min_requests_per_user=1e6))
    result = drive(spec)
    assert result.window.ended_by == "max_duration"
    assert abs(result.window.seconds - 0.4) < 0.2


def test_ramp_starts_users_over_time(server):
    """With a ramp, users start evenly over it and their first answers are whole."""
    spec = load_spec(server, users=5, window=WindowPlan(duration_s=0.2, ramp_s=0.5, min_requests_per_user=1))
    result = drive(spec)
    rows = result.requests[result.requests["request_id"] < 5]
    sent = np.sort(rows["sent_ns"])
    assert (rows["osl_asked"] == 10).all()
    assert sent[-1] - sent[0] > 0.3e9


def test_a_staggered_start_spreads_the_users(server):
    """Without a ramp the first answers are of unlike lengths, so that fixed lengths do not march in one wave."""
    result = drive(load_spec(server, users=10))
    first = result.requests[result.requests["request_id"] < 10]
    assert sorted(first["osl_asked"]) == list(range(1, 11))
    wave = drive(load_spec(server, users=10, window=WindowPlan(duration_s=0.2, wave=True)))
    first = wave.requests[wave.requests["request_id"] < 10]
    assert (first["osl_asked"] == 10).all()


def test_stop_gives_what_was_measured_and_leaves_no_process(server):
    """A stop event ends a load within seconds; its rows so far are kept and its workers are gone."""
    stop = threading.Event()
    seen = []

    def on_progress(progress):
        seen.append(progress)
        measured = [p.completed for p in seen if p.phase == "measure"]
        if measured and measured[-1] >= measured[0] + 20:
            stop.set()

    spec = load_spec(server, window=WindowPlan(duration_s=60, max_duration_s=60))
    result = drive(spec, on_progress, stop)
    assert result.window.ended_by == "interrupted"
    assert (result.requests["phase"] == Phase.MEASURED).any()
    assert result.output_tokens_in_window > 0
    assert "measure" in {progress.phase for progress in seen}
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if "rocbench.load.worker" in " ".join(child.cmdline())]


def test_stop_before_the_window(server):
    """Stopped in the warm-up, there is an empty window that says so."""
    stop = threading.Event()
    stop.set()
    result = drive(load_spec(server, users=2), None, stop)
    assert result.window.ended_by == "interrupted"
    assert not (result.requests["phase"] == Phase.MEASURED).any()


@pytest.mark.parametrize("transport", ["wire", "aiohttp"])
def test_open_loop_sends_by_the_clock(server, transport):
    """Requests are sent when they are due, whatever runs, and their lateness is in their rows."""
    reset(server)
    spec = load_spec(server, transport=transport, shape=Open(rate=200, arrival="poisson"), duration_s=1.0)
    result = drive(spec)
    assert_same(result, FaultRecord.fetch(server))
    rows = result.requests[result.requests["request_id"] < 2**40]
    measured = rows[rows["phase"] == Phase.MEASURED]
    assert 120 < len(measured) < 290
    assert (rows["sent_ns"] >= rows["intended_ns"]).all()
    assert (rows["user"] == NONE).all()
    assert result.concurrency_asked is None


def test_open_loop_with_little_room_counts_what_waits(server):
    """Beyond the cap requests wait; they keep their intended times, so their lateness shows."""
    spec = load_spec(server, shape=Open(rate=400, arrival="constant", max_in_flight=4), duration_s=0.2)
    result = drive(spec)
    measured = result.requests[result.requests["phase"] == Phase.MEASURED]
    assert abs(len(measured) - 400 * result.window.seconds) <= 1
    late = (measured["sent_ns"] - measured["intended_ns"]) / 1e9
    assert late.max() > 0.1
    edges = np.concatenate([result.requests["sent_ns"], result.requests["end_ns"]])
    change = np.repeat([1, -1], len(result.requests))
    order = np.lexsort((change, edges))
    assert np.cumsum(change[order]).max() <= 4


def test_trace_is_replayed_at_its_times(server, tmp_path):
    """Each line of a trace is sent at its time with its lengths."""
    lines = [{"timestamp_ms": i * 20, "input_length": 20 + i, "output_length": 3 + i} for i in range(20)]
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    result = drive(load_spec(server, shape=Trace(str(path), speed=2.0)))
    rows = result.requests[result.requests["request_id"] < 2**40]
    assert len(rows) == 20
    rows = rows[np.argsort(rows["request_id"])]
    assert (rows["phase"] == Phase.MEASURED).all()
    assert list(rows["prompt_tokens"]) == [20 + i for i in range(20)]
    assert list(rows["output_tokens"]) == [3 + i for i in range(20)]
    assert (np.diff(rows["intended_ns"]) == 10_000_000).all()
    assert result.window.ended_by == "count"


def test_multi_turn_conversations_come_in_order(server, tmp_path):
    """The turns of a conversation follow one another, each with all that was said before."""
    talk = [{"from": who, "value": f"word{i} more"} for i, who in enumerate(["human", "gpt"] * 3)]
    path = tmp_path / "talks.jsonl"
    path.write_text("\n".join(json.dumps({"conversations": talk}) for _ in range(5)))
    plan = RequestPlan(Lengths(20), Lengths(4), dataset=Dataset(str(path), "sharegpt", multi_turn=True))
    result = drive(load_spec(server, users=3, requests=plan))
    rows = result.requests[(result.requests["request_id"] < 2**40) & (result.requests["failure"] == NONE)]
    for user in range(3):
        own = rows[rows["user"] == user]
        turns = list(own["turn"])
        assert turns[:3] == [0, 1, 2]
        assert (own["sent_ns"][1:] >= own["end_ns"][:-1]).all()
        assert own["prompt_tokens"][1] > own["prompt_tokens"][0]


def test_keep_stamps_gives_one_stamp_a_token(server):
    """With keep_stamps each request has as many stamps as tokens, first and last as in its row."""
    result = drive(load_spec(server, keep_stamps=True))
    assert result.stamps is not None
    rows = result.requests[result.requests["request_id"] < 2**40]
    assert set(result.stamps) == set(rows["request_id"].tolist())
    for row in rows:
        stamps = result.stamps[int(row["request_id"])]
        assert len(stamps) == row["output_tokens"]
        assert (stamps[0], stamps[-1]) == (row["first_token_ns"], row["last_token_ns"])


def test_nothing_listens():
    """Where nobody answers, the error says so before any worker starts."""
    with pytest.raises(ServerFault, match="refuses connections"):
        drive(load_spec("http://127.0.0.1:9", shape=Closed(2)))
