"""Both sides' latencies of the same requests: what is compared, and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from rocbench.records import FAILURES, NONE, REQUEST_DTYPE, Failure, ServerSample, Window
from rocbench.tables.agreement import COLUMNS, matched

S = 1_000_000_000
WINDOW = Window(2 * S, 10 * S, "duration")
TTFT, E2EL, TPOT = (
    "time_to_first_token_seconds",
    "e2e_request_latency_seconds",
    "request_time_per_output_token_seconds",
)


def load(count=110, every_s=0.1, ttft_s=0.03, tpot_s=0.006, tokens=16):
    """So many answers, one after the other, as the client saw them."""
    rows = np.zeros(count, dtype=REQUEST_DTYPE)
    rows["failure"] = NONE
    rows["sent_ns"] = (np.arange(count) * every_s * S).astype(np.int64)
    rows["first_token_ns"] = rows["sent_ns"] + round(ttft_s * S)
    rows["last_token_ns"] = rows["first_token_ns"] + round((tokens - 1) * tpot_s * S)
    rows["output_tokens"] = rows["chunks"] = tokens
    return rows


def server(rows, late_s=0.0, names=(TTFT, E2EL, TPOT)):
    """A reading each second of a server that saw every token earlier than the client by `late_s`."""
    firsts = (rows["first_token_ns"] - rows["sent_ns"]) / S - late_s
    whole = (rows["last_token_ns"] - rows["sent_ns"]) / S - late_s
    each = (rows["last_token_ns"] - rows["first_token_ns"]) / S / np.maximum(rows["output_tokens"] - 1, 1)
    held = {TTFT: ("first_token_ns", firsts), E2EL: ("last_token_ns", whole), TPOT: ("last_token_ns", each)}
    samples = []
    for second in range(13):
        values = {}
        for name in names:
            stamp, times = held[name]
            seen = rows[stamp] - round(late_s * S) < second * S
            values |= {f"{name}_count": float(seen.sum()), f"{name}_sum": float(times[seen].sum())}
        samples.append(ServerSample(second * S, values))
    return samples


def test_means_are_of_the_same_requests():
    """Between two readings inside the window, both means cover the same requests."""
    rows = load()
    row = matched(rows, server(rows, 0.001), WINDOW)
    assert row["matched_requests"] == 70  # readings at 2 and 9 s
    assert row["matched_ttft_ms"] == pytest.approx(30)
    assert row["matched_server_ttft_ms"] == pytest.approx(29)
    assert [row["matched_tpot_ms"], row["matched_server_tpot_ms"]] == pytest.approx([6, 6])
    assert row["matched_e2el_ms"] == pytest.approx(120)
    assert row["matched_server_e2el_ms"] == pytest.approx(119)


def test_few_requests_in_the_window_are_taken_from_the_whole_load():
    """Twelve requests in the window are too few, 24 in the load are not."""
    rows = load(24, every_s=0.5)
    assert matched(rows, server(rows), WINDOW)["matched_requests"] == 24


def test_requests_of_others_are_not_compared():
    """A server that counted a tenth more, or one replica of two, says nothing of this load."""
    rows = load()
    for others in (load(11, every_s=1.0), load(90)):
        samples = server(np.concatenate([rows, others]) if len(others) == 11 else others[::2])
        assert matched(rows, samples, WINDOW) == dict.fromkeys(COLUMNS)


def test_failed_requests_count_where_the_server_counts_them():
    """An answer that broke off has a first token; its end is none of the server's own ends."""
    rows = load()
    rows["failure"][::10] = FAILURES.index(Failure.TIMEOUT)
    samples = server(rows)
    row = matched(rows, samples, WINDOW)
    assert row["matched_ttft_ms"] == pytest.approx(30)
    assert row["matched_e2el_ms"] is None  # the server counted a tenth more
    assert row["matched_tpot_ms"] is None
    rows["failure"][::10] = FAILURES.index(Failure.EARLY_STOP)
    assert matched(rows, samples, WINDOW)["matched_e2el_ms"] == pytest.approx(120)


def test_an_answer_of_one_token_has_no_tpot():
    """vLLM tells zero for it; the mean is of the others."""
    rows = load()
    rows["output_tokens"][::2] = rows["chunks"][::2] = 1
    rows["last_token_ns"][::2] = rows["first_token_ns"][::2]
    row = matched(rows, server(rows), WINDOW)
    assert [row["matched_tpot_ms"], row["matched_server_tpot_ms"]] == pytest.approx([6, 6])


@pytest.mark.parametrize("name", ["inter_token_latency_seconds", "time_per_output_token_seconds"])
@pytest.mark.parametrize(("gap_ms", "mine_ms"), [(6, 6), (18, 18), (24, 20.77), (12, 12), (3, 6)])
def test_gaps_of_steps_lie_between_tokens_and_chunks(name, gap_ms, mine_ms):
    """A step may give several tokens: the server's gap is between the client's time per token and its time per chunk."""
    rows = load(tokens=55)
    rows["chunks"] = 1 + round(54 * 6 / 20.77)  # of 3.5 tokens each
    samples = server(rows, names=(TTFT,))
    for second, sample in enumerate(samples):
        sample.values.update({f"{name}_count": 100.0 * second, f"{name}_sum": 0.1 * second * gap_ms})
    row = matched(rows, samples, WINDOW)
    assert row["matched_server_tpot_ms"] == pytest.approx(gap_ms)
    assert row["matched_tpot_ms"] == pytest.approx(mine_ms, rel=0.03)


def test_without_metrics_there_is_nothing_to_compare():
    """A server without them, or with one reading, gives no figure."""
    rows = load()
    assert matched(rows, [], WINDOW) == dict.fromkeys(COLUMNS)
    assert matched(rows, server(rows)[:1], WINDOW) == dict.fromkeys(COLUMNS)
    assert matched(rows[:0], server(rows), WINDOW) == dict.fromkeys(COLUMNS)
