"""Rows, gaps and counts inside the window."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rocbench.load.answer import Answer
from rocbench.load.control import UNSET, Control, Count, Head
from rocbench.load.requestfactory import Request
from rocbench.load.tally import FinishedRequest, Tally
from rocbench.records import FAILURES, NONE, Failure

S = 1_000_000_000


@pytest.fixture
def control():
    """A control block with a window from second 10 to second 20."""
    made = Control.create(1)
    made.cells[Head.START_NS], made.cells[Head.END_NS] = 10 * S, 20 * S
    return made


def tally(control, **options):
    """A tally of worker 0."""
    return Tally(0, control.cells, control.counters(0), ignore_eos=True, keep_stamps=False, **options)


def ended(number, sent_s, times_s, sizes=None, asked=None, images=0, prompt=50, **changes):
    """A request whose chunks came at these times."""
    answer = Answer()
    answer.status = 200
    done = 0
    sizes = sizes or [1] * len(times_s)
    for index, (at, size) in enumerate(zip(times_s, sizes, strict=True)):
        done += size
        last = index == len(times_s) - 1
        body = {"choices": [{"text": "x", "finish_reason": "length" if last else None}]}
        body["usage"] = {"prompt_tokens": prompt, "completion_tokens": done}
        answer.take([f"data: {json.dumps(body)}\n\n".encode()], [round(at * S)])
    answer.done = True
    request = Request(number, 0, 0, 30, asked or done, images, 30 if images else NONE, "n", b"")
    request.intended_ns = round(sent_s * S)
    return FinishedRequest(request, answer, round(sent_s * S), answer.last_token_ns, complete=True, **changes)


def test_a_gap_before_several_tokens_counts_for_each_of_them(control):
    """Chunks of 1, 4 and 2 tokens: gaps of 0.4 and 0.2 s are once each between chunks; four of 0.1, two of 0.1."""
    made = tally(control)
    made.add(ended(1, 11, [12.0, 12.4, 12.6], [1, 4, 2]))
    rows = made.rows()
    assert made.counts.icl.total == 2
    assert made.counts.icl.sum_ns == round(0.6 * S)
    assert made.counts.itl.total == 6
    assert made.counts.itl.percentile_ns(50) == pytest.approx(0.1 * S, rel=2e-3)
    assert (rows["output_tokens"][0], rows["chunks"][0]) == (7, 3)


def test_tokens_count_by_their_stamps_and_latencies_by_their_start(control):
    """A request that began before the window gives its tokens inside it, and no gap."""
    made = tally(control)
    made.add(ended(1, 8, [9.0, 11.0, 11.5]))
    made.add(ended(2, 19, [19.5, 20.5, 21.0]))
    made.rows()
    assert made.counts.output_tokens == 3
    assert made.counts.itl.total == 2
    assert made.counts.per_second.tolist() == [0, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    # Prompt tokens count where the first token's stamp lies.
    assert made.counts.input_tokens == 50


def test_before_the_window_is_announced_nothing_is_inside(control):
    """An edge that is not announced is later than everything received."""
    control.cells[Head.START_NS] = control.cells[Head.END_NS] = UNSET
    made = tally(control)
    made.add(ended(1, 11, [12.0, 12.5]))
    made.rows()
    assert made.counts.output_tokens == 0
    assert made.counts.itl.total == 0
    control.cells[Head.START_NS] = 10 * S
    made.add(ended(2, 11, [12.0, 12.5]))
    made.rows()
    assert made.counts.output_tokens == 2


def test_failures_bend_no_latency_but_their_tokens_were_made(control):
    """A failed request has its class and text; its tokens count for throughput, its gaps nowhere."""
    made = tally(control)
    made.add(ended(1, 11, [12.0, 12.5], asked=5))
    made.add(ended(2, 11, [12.0], failure=Failure.RESET, error="gone"))
    rows = made.rows()
    assert [FAILURES[code] for code in rows["failure"]] == [Failure.EARLY_STOP, Failure.RESET]
    assert made.errors[2] == "gone"
    assert made.counts.itl.total == 0
    assert made.counts.output_tokens == 3
    assert control.counters(0)[Count.FAILED] == 2


def test_requests_without_a_token_have_rows(control):
    """Refused requests alone have no stamp between them, and each has its row and class."""
    made = tally(control)
    for number in range(2):
        made.add(ended(number, 11, [], asked=5, failure=Failure.HTTP_STATUS, error="busy"))
    rows = made.rows()
    assert [FAILURES[code] for code in rows["failure"]] == [Failure.HTTP_STATUS] * 2
    assert (rows["coalesced"].tolist(), rows["zero_gaps"].tolist()) == ([0, 0], [0, 0])


def test_zero_gaps_and_shared_stamps(control):
    """Chunks closer than 0.1 ms are zero gaps; those with one stamp were read at once."""
    made = tally(control)
    made.add(ended(1, 11, [12.0, 12.0, 12.00005, 12.5]))
    rows = made.rows()
    assert rows["zero_gaps"][0] == 2
    assert rows["coalesced"][0] == 2
    assert made.counts.coalesced_reads == 1


def test_gaps_do_not_reach_from_one_request_into_the_next(control):
    """Requests worked through together are kept apart."""
    made = tally(control)
    for number in range(50):
        made.add(ended(number, 11, [12.0 + number / 100, 12.5 + number / 100]))
    rows = made.rows()
    assert made.counts.itl.total == 50
    assert made.counts.itl.percentile_ns(100) == pytest.approx(0.5 * S, rel=2e-3)
    assert len(rows) == 50


def test_image_tokens_come_from_the_text_s_own(control):
    """Without details, image tokens are the prompt's less the text's; they are no input text."""
    made = tally(control)
    made.add(ended(1, 11, [12.0], images=1))
    assert made.rows()["image_tokens"][0] == 20
    assert (made.counts.image_tokens, made.counts.input_tokens) == (20, 30)


def test_a_cut_request_has_a_row_without_an_end(control):
    """What we cut ourselves neither failed nor ended; the tokens it had given are counted."""
    made, cut = tally(control), ended(1, 11, [12.0, 12.5])
    cut.request.sent_ns = 11 * S
    made.cut(cut.request, cut.answer)
    (row,) = made.rows()
    assert made.counts.output_tokens == row["output_tokens"] == 2
    assert (row["sent_ns"], row["end_ns"], row["failure"]) == (11 * S, NONE, NONE)
    assert made.counts.itl.total == 0
    assert not any(made.counters[count] for count in (Count.COMPLETED, Count.FAILED))


def test_kept_stamps_are_one_per_token(control):
    """With keep_stamps a chunk's stamp stands once for each of its tokens."""
    made = Tally(0, control.cells, control.counters(0), ignore_eos=True, keep_stamps=True)
    made.add(ended(1, 11, [12.0, 13.0], [1, 3]))
    made.rows()
    assert made.stamps is not None
    assert np.array_equal(made.stamps[1], np.array([12, 13, 13, 13]) * S)
