"""Loads in virtual time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rocbench.errors import InputError
from rocbench.load.spec import (
    Closed,
    Dataset,
    Images,
    Lengths,
    LoadSpec,
    Open,
    RequestPlan,
    Target,
    WindowPlan,
)
from rocbench.records import NONE, Phase
from rocbench.sim import predict
from rocbench.tables import metrics
from simnodes import argv_of, node

SERVER = node()
TARGET = Target("http://virtual", "m")


def spec(shape=None, *, isl=64, osl=32, window=None, **requests):
    """A small closed loop, measured for ten seconds."""
    plan = RequestPlan(Lengths(isl), Lengths(osl), **requests)
    return LoadSpec(
        TARGET, plan, shape or Closed(8), window or WindowPlan(duration_s=10.0), run_id="r", cell_id="c"
    )


def test_a_closed_loop_is_kept_full():
    """Users asked are users in flight, Little's law holds, and every request has its tokens."""
    load = predict.drive(spec(Closed(20)), SERVER).load
    row = metrics.summarise(load, gpus=8)
    assert row["achieved_concurrency"] == pytest.approx(20, rel=0.02)
    assert row["littles_law_ratio"] == pytest.approx(1, abs=0.05)
    done = load.requests[load.requests["phase"] == Phase.MEASURED]
    assert len(done) >= 5 * 20
    assert set(done["output_tokens"]) == {32}
    assert set(done["prompt_tokens"]) == {64}
    assert load.window.seconds >= 10
    assert load.transport == "virtual"


@pytest.mark.timeout(30)
@pytest.mark.parametrize("users", [1, 64])
def test_a_window_that_ends_while_the_engine_waits_for_the_api_server(users):
    """Time goes on to the next request; the load used to stand still at the end of its window."""
    slow = replace(SERVER, efficiency=SERVER.efficiency.model_copy(update={"api_request_ms": 3000.0}))
    window = WindowPlan(duration_s=2.0, max_duration_s=4.0, min_requests_per_user=1)
    load = predict.drive(spec(Closed(users), window=window), slow).load
    measured = load.requests[load.requests["phase"] == Phase.MEASURED]
    assert len(measured) > 0
    assert (measured["end_ns"] > measured["sent_ns"]).all()


def test_the_figures_hang_together():
    """Tokens per second by stamps agree with requests x length, and gaps with the time between first and last."""
    load = predict.drive(spec(Closed(10), window=WindowPlan(duration_s=60.0)), SERVER).load
    row = metrics.summarise(load, gpus=8)
    assert row["output_throughput"] == pytest.approx(row["request_throughput"] * 32, rel=0.02)
    assert load.tokens_per_second.sum() <= load.output_tokens_in_window
    done = load.requests[load.requests["phase"] == Phase.MEASURED]
    spans = (done["last_token_ns"] - done["first_token_ns"]).sum()
    assert load.itl.total == len(done) * 31
    assert load.itl.sum_ns == pytest.approx(spans, rel=1e-6)


def test_the_window_waits_until_every_user_has_turned_over():
    """Nothing that began before counts, and the window is extended for five requests a user."""
    load = predict.drive(spec(Closed(4), osl=200, window=WindowPlan(duration_s=1.0)), SERVER).load
    rows = load.requests
    first = rows[rows["phase"] == Phase.WARMUP]
    assert set(first["user"]) == {0, 1, 2, 3}
    assert (rows["intended_ns"][rows["phase"] == Phase.MEASURED] >= load.window.start_ns).all()
    assert load.window.ended_by == "requests"
    assert (rows["phase"] == Phase.MEASURED).sum() >= 20


def test_a_count_of_requests_is_measured_from_the_start():
    """As the study's client: 100 requests, never more in flight, the last wave included."""
    window = WindowPlan(max_requests=100)
    load = predict.drive(spec(Closed(200), window=window), SERVER).load
    row = metrics.summarise(load, gpus=8)
    assert len(load.requests) == 100
    assert row["peak_concurrency"] == 100
    assert load.window.ended_by == "count"
    assert load.output_tokens_in_window == 3200
    assert load.window.end_ns > load.requests["end_ns"].max()


def test_a_count_that_reaches_the_maximum_duration_ends_its_requests():
    """As in a real load: the requests that run then are ended, not cut."""
    window = WindowPlan(max_requests=10_000, max_duration_s=3.0)
    load = predict.drive(spec(Closed(8), window=window), SERVER).load
    assert load.window.ended_by == "max_duration"
    measured = load.requests[load.requests["phase"] == Phase.MEASURED]
    assert (measured["end_ns"] != NONE).all()


def test_an_open_loop_follows_its_clock():
    """Requests are sent at their times, whatever the answers do."""
    load = predict.drive(spec(Open(5.0, "constant"), window=WindowPlan(duration_s=20.0)), SERVER).load
    rows = load.requests
    assert np.allclose(np.diff(rows["intended_ns"]) / 1e9, 0.2)
    assert (rows["sent_ns"] == rows["intended_ns"]).all()
    assert set(rows["user"]) == {NONE}


def test_an_open_loop_with_a_bound_waits_for_room():
    """Beyond it requests are sent late, and the lateness is in their rows; each request due in the window has a row."""
    shape = Open(50.0, "constant", max_in_flight=4)
    load = predict.drive(spec(shape, osl=100, window=WindowPlan(duration_s=5.0)), SERVER).load
    rows = load.requests
    assert (rows["phase"] == Phase.MEASURED).sum() == pytest.approx(50 * load.window.seconds, abs=1)
    assert (rows["sent_ns"] - rows["intended_ns"]).max() > 1e9
    sent = rows[rows["end_ns"] != NONE]
    assert metrics.in_flight(sent["sent_ns"], sent["end_ns"], predict_window(sent))[1] <= 4


def predict_window(rows):
    """A window over everything."""
    from rocbench.records import Window

    return Window(int(rows["sent_ns"].min()), int(rows["end_ns"].max()) + 1, "count")


def test_prompts_from_a_pool_hit_the_cache():
    """Repeated prompts are found, unique ones are not."""
    repeated = predict.drive(spec(isl=256, prompt_pool=3), SERVER).server
    unique = predict.drive(spec(isl=256), SERVER).server
    assert unique.prefix_hits == 0
    assert repeated.prefix_hits > 0.8 * repeated.prefix_queries


def test_a_shared_prefix_is_found_to_its_share():
    """Half the prompt is common: about half its tokens hit."""
    server = predict.drive(spec(isl=512, shared_prefix_ratio=0.5), SERVER).server
    assert server.prefix_hits / server.prefix_queries == pytest.approx(0.5, abs=0.05)


def test_images_are_prompt_tokens_of_their_own():
    """Image tokens stand apart from the text's."""
    eyes = node("qwen3-vl-235b", "0.16.0")
    load = predict.drive(spec(images=Images(2, 512, 512)), eyes).load
    done = load.requests[load.requests["phase"] == Phase.MEASURED]
    assert set(done["image_tokens"]) == {2 * (16 * 16 + 2)}
    assert set(done["prompt_tokens"]) == {64 + 2 * 258}


def test_lengths_vary_where_the_end_of_text_counts():
    """Answers end by themselves, never beyond what was asked."""
    load = predict.drive(spec(osl=512, ignore_eos=False), SERVER).load
    lengths = load.requests["output_tokens"]
    assert lengths.max() <= 512
    assert len(set(lengths.tolist())) > 5


def test_preempted_requests_have_a_gap_and_all_their_tokens():
    """With too few blocks for all, pauses show in the gaps."""
    tight = node(argv=[*argv_of()[0], "--num-gpu-blocks-override", "1400"])
    prediction = predict.drive(spec(Closed(100), isl=100, osl=300, window=WindowPlan(duration_s=5.0)), tight)
    assert prediction.server.preemptions > 0
    assert prediction.kv_peak > 0.98
    done = prediction.load.requests[prediction.load.requests["phase"] == Phase.MEASURED]
    spans = (done["last_token_ns"] - done["first_token_ns"]).sum()
    assert prediction.load.itl.total == len(done) * 299
    assert prediction.load.itl.sum_ns == pytest.approx(spans, rel=1e-6)


def test_the_same_load_gives_the_same_result():
    """A prediction is a function of its arguments."""
    one, two = (predict.drive(spec(), node()).load for _ in range(2))
    assert (one.requests == two.requests).all()


def test_real_prompts_are_refused():
    """Nothing is known of their tokens without a tokenizer."""
    with pytest.raises(InputError, match="synthetic"):
        predict.drive(spec(dataset=Dataset("x.jsonl")), SERVER)
