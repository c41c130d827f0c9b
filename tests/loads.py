"""Comparing a load's result with what the reference server wrote down."""

from __future__ import annotations

import numpy as np

from referenceserver import FAULTS, FaultRecord
from rocbench.load.dialect import PROBE_ID
from rocbench.load.spec import Closed, Lengths, LoadSpec, RequestPlan, Target, WindowPlan
from rocbench.records import FAILURES, LoadResult


def load_spec(url, users=8, tokens=10, isl=20, **changes) -> LoadSpec:
    """A short closed loop against the reference server; `changes` replace fields of the spec."""
    window = WindowPlan(duration_s=changes.pop("duration_s", 0.3), min_requests_per_user=1)
    fields = {
        "target": Target(url, "reference", vocab_size=32_000),
        "requests": RequestPlan(Lengths(isl), Lengths(tokens)),
        "shape": Closed(users),
        "window": window,
        "run_id": "run",
        "cell_id": "cell",
        "workers": 1,
    }
    return LoadSpec(**(fields | changes))


def number(name: str) -> int:
    """The request_id in an X-Request-Id header."""
    last = name.rsplit("-", 1)[1]
    return int(last.removeprefix("probe"))


def assert_same(result: LoadResult, record: FaultRecord) -> None:
    """Every request the server saw has one row with its class, tokens and count of chunks, and no row is left over.

    Rows of connections that failed are the only ones that the server has not seen.
    """
    rows = {int(row["request_id"]): row for row in result.requests}
    assert len(rows) == len(result.requests)
    seen = [number(name) for name in record.ids]
    served = set(seen)
    assert len(served) == len(seen)
    unseen = [row for key, row in rows.items() if key not in served]
    assert all(FAILURES[row["failure"]] == "connect" for row in unseen)
    assert served <= set(rows)
    starts = record.starts
    for index, key in enumerate(seen):
        row = rows[key]
        told = None if row["failure"] < 0 else FAILURES[row["failure"]].value
        sent = None if record.fault[index] < 0 else FAULTS[record.fault[index]].value
        assert told == sent, (key, told, sent, result.errors.get(key))
        assert row["chunks"] == record.chunks[index]
        tokens = int(record.sizes[starts[index] : starts[index] + record.chunks[index]].sum())
        if row["output_tokens"] >= 0:
            assert row["output_tokens"] == tokens
        if key < PROBE_ID:
            assert (key in result.errors) == (told is not None)
        if row["failure"] < 0:
            assert row["prompt_tokens"] == record.prompt_tokens[index]


def window_tokens(result: LoadResult, record: FaultRecord) -> int:
    """Tokens that the server wrote inside the window."""
    inside = (record.times_ns >= result.window.start_ns) & (record.times_ns < result.window.end_ns)
    return int(record.sizes[inside].sum())


def gaps_ms(record: FaultRecord, keys: np.ndarray) -> np.ndarray:
    """True gaps between chunks of the requests with these ids."""
    index = {number(name): place for place, name in enumerate(record.ids)}
    starts = record.starts
    parts = [
        np.diff(record.times_ns[starts[i] : starts[i] + record.chunks[i]])
        for i in (index[int(k)] for k in keys)
    ]
    return np.concatenate(parts) / 1e6


def ttft_ms(record: FaultRecord, keys: np.ndarray) -> np.ndarray:
    """True time to first token of the requests with these ids, from their arrival at the server."""
    index = {number(name): place for place, name in enumerate(record.ids)}
    places = np.array([index[int(key)] for key in keys])
    return (record.times_ns[record.starts[places]] - record.arrived_ns[places]) / 1e6
