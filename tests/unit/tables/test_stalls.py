"""Stalls of the server, and what users by the clock would have met."""

from __future__ import annotations

import numpy as np
import pytest

from rocbench.records import NONE, REQUEST_DTYPE, Phase, Window
from rocbench.tables import stalls
from rocbench.verdict.judge import Evidence, judge
from tablerows import load

S = 1_000_000_000
MS = 1_000_000


def users(n, seconds, *, ttft_ms=30, tpot_ms=6, tokens=100, stall=(0.0, 0.0), prompt=64):
    """Requests of users back to back; what would come within `stall` comes after it, and so does all that follows."""
    rows, marks = [], []
    for user in range(n):
        at = user * 17 * MS
        while at < seconds * S:
            times = at + ttft_ms * MS + np.arange(tokens) * tpot_ms * MS
            a, b = (int(x * S) for x in stall)
            times = np.where(times > a, np.where(at > a, times, times + b - a), times) if at <= b else times
            row = np.full((), NONE, dtype=REQUEST_DTYPE)
            row["user"], row["phase"], row["sent_ns"], row["intended_ns"] = user, Phase.MEASURED, at, at
            row["first_token_ns"], row["last_token_ns"], row["end_ns"] = times[0], times[-1], times[-1]
            row["prompt_tokens"] = row["isl_asked"] = prompt
            row["osl_asked"] = row["output_tokens"] = tokens
            rows.append(row)
            marks.append(times)
            at = int(times[-1]) + MS
    rows = [row for row in rows if row["end_ns"] < seconds * S]
    every = np.unique(np.concatenate([[0], *marks, [seconds * S]]))
    every = every[every <= seconds * S]
    pairs = np.stack([every[:-1], every[1:]], axis=1)
    return np.array(rows, dtype=REQUEST_DTYPE), pairs[pairs[:, 1] - pairs[:, 0] > 100 * MS]


def columns(rows, silences, seconds, icl_ms=6.0, **fields):
    """The columns of a load."""
    result = load(rows, end_s=seconds, silences=silences, **fields)
    return stalls.columns(result, np.ones(len(rows), dtype=bool), icl_ms)


def test_five_seconds_of_stall_a_minute_are_told():
    """p99 TTFT of the closed loop stays at 30 ms; by the clock it is above four seconds, and the row says so."""
    rows, silences = users(4, 60, stall=(20.0, 25.0))
    row = columns(rows, silences, 60, concurrency_asked=4)
    ttft = (rows["first_token_ns"] - rows["sent_ns"]) / 1e6
    assert np.percentile(ttft, 99) < 100
    assert row["longest_silence_ms"] == pytest.approx(5000, rel=0.01)
    assert row["stalled_share"] == pytest.approx(5 / 60, rel=0.01)
    assert 4000 < row["p99_ttft_by_clock_ms"] < 5000
    verdict = judge(Evidence(load_shape="closed", p99_ttft_ms=40.0, client_longest_pause_ms=5.0, **only(row)))
    assert {"server_stalled", "coordinated_omission"} <= set(verdict.reasons)


def only(row):
    """The columns that the verdict reads."""
    return {
        name: row[name]
        for name in ("longest_silence_ms", "stall_limit_ms", "stalled_share", "p99_ttft_by_clock_ms")
    }


@pytest.mark.parametrize(
    ("n", "fields"),
    [(1, {"ttft_ms": 4000, "prompt": 100_000}), (1, {"ttft_ms": 900}), (8, {})],
    ids=["long prompts on an idle server", "a silence under a second", "many users"],
)
def test_a_prefill_on_an_idle_server_is_no_stall(n, fields):
    """With one user nobody else has tokens while the prompt is computed."""
    rows, silences = users(n, 60, **fields)
    row = columns(rows, silences, 60, concurrency_asked=n)
    assert row["stalled_share"] == 0
    assert row["longest_silence_ms"] <= row["stall_limit_ms"]
    assert row["p99_ttft_by_clock_ms"] == pytest.approx(
        np.percentile((rows["first_token_ns"] - rows["sent_ns"]) / 1e6, 99)
    )


def test_nobody_asking_is_no_silence():
    """An open loop of few requests has long times without a token, in which nothing was in flight."""
    rows, _ = users(1, 60, tokens=10)
    rows = rows[::40]
    marks = np.sort(np.concatenate([[0], rows["first_token_ns"], rows["last_token_ns"], [60 * S]]))
    pairs = np.stack([marks[:-1], marks[1:]], axis=1)
    row = columns(rows, pairs[pairs[:, 1] - pairs[:, 0] > 100 * MS], 60, concurrency_asked=None)
    assert row["longest_silence_ms"] < 100
    assert row["p99_ttft_by_clock_ms"] is None


def test_without_stamps_nothing_is_said():
    """An imported load has no silences: absent, not zero."""
    rows, _ = users(1, 10)
    assert columns(rows, None, 10)["longest_silence_ms"] is None
    assert Window(0, 10 * S, "duration").seconds == 10
