"""Requests made from their number alone."""

from __future__ import annotations

import json

import pytest

from rocbench.errors import InputError
from rocbench.load.requestfactory import RequestFactory
from rocbench.load.requestqueue import RequestQueue
from rocbench.load.spec import (
    Closed,
    Dataset,
    Dialect,
    Images,
    Lengths,
    LoadSpec,
    Open,
    RequestPlan,
    Target,
    TextCost,
    WindowPlan,
    WorkerSpec,
)
from rocbench.records import NONE


def spec(**changes):
    """A small load."""
    fields = {
        "target": Target(
            "http://127.0.0.1:1", "m", api_key="k", headers={"X-A": "b\r\nEvil: 1"}, vocab_size=5000
        ),
        "requests": RequestPlan(Lengths(40), Lengths(9)),
        "shape": Closed(6),
        "run_id": "r",
    }
    return LoadSpec(**(fields | changes))


def source(dialect=Dialect(), cost=None, **changes):  # noqa: B008 - frozen
    """A source of JSON bodies."""
    return RequestFactory(spec(**changes), dialect, cost, wire=False)


def feed(index=0, workers=1, **changes):
    """A worker's feed."""
    worker = WorkerSpec(spec(**changes), index, workers, "wire", Dialect(), ())
    made = RequestQueue(worker, wire=False)
    made.prepare()
    return made


def test_a_completion_has_exact_ids_and_the_plan_s_fields():
    """Prompt length, output length, temperature and vLLM's own fields are as planned."""
    made = source().make(3, 1)
    body = json.loads(made.payload)
    assert len(body["prompt"]) == made.isl_asked == 40
    assert (body["max_tokens"], body["min_tokens"], body["ignore_eos"], body["temperature"]) == (
        9,
        9,
        True,
        0.0,
    )
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert body["model"] == "m"
    assert all(500 <= token < 4750 for token in body["prompt"])


def test_a_plain_dialect_leaves_out_what_is_unknown():
    """Fields that a server refuses are not sent; extra ones of the plan are."""
    plan = RequestPlan(Lengths(40), Lengths(9), extra_body={"priority": 1}, ignore_eos=False)
    body = json.loads(
        source(Dialect(include_usage=False, vllm_fields=False), requests=plan).make(0, 0).payload
    )
    assert set(body) == {"model", "prompt", "max_tokens", "temperature", "stream", "priority"}


def test_the_same_number_gives_the_same_request():
    """A request whose bytes are gone is made again, byte for byte, also when its answer was shortened."""
    maker = source()
    made = maker.make(5, 2, first_share=0.4)
    assert made.osl_asked == 4
    assert maker.again(made) == made.payload


def test_http_heads_hold_no_foreign_lines():
    """The wire's bytes are one well-formed request; a newline in a header's value ends it."""
    made = RequestFactory(spec(), Dialect(), wire=True).make(0, 0)
    head, _, body = made.payload.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:1\r\n")
    assert b"Evil" not in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Authorization: Bearer k" in head


def test_chat_text_fits_the_length_when_its_cost_is_known():
    """With the template's overhead known, words fill the length exactly; unknown, the length is not claimed."""
    plan = RequestPlan(Lengths(40), Lengths(9), api="chat")
    known = source(cost=TextCost(1.0, 12.0, exact=True), requests=plan).make(0, 0)
    content = json.loads(known.payload)["messages"][0]["content"]
    assert len(content.split()) == 28
    assert known.isl_asked == 40
    assert source(requests=plan).make(0, 0).isl_asked == NONE


def test_images_take_chat_and_stand_before_the_text():
    """With images the API is chat, and the images come first."""
    plan = RequestPlan(Lengths(40), Lengths(9), images=Images(2, 32, 16))
    made = source(requests=plan).make(0, 0)
    parts = json.loads(made.payload)["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["image_url", "image_url", "text"]
    assert made.images == 2


def test_datasets_are_unique_and_shuffled_by_repeat(tmp_path):
    """Prompts of a file get a beginning of their own, and each repeat has its own order."""
    path = tmp_path / "d.jsonl"
    path.write_text(
        "\n".join(json.dumps({"prompt": f"question {i}", "output_len": i + 1}) for i in range(30))
    )
    plan = RequestPlan(Lengths(40), Lengths(9), dataset=Dataset(str(path)), api="chat")
    orders = []
    for repeat in (0, 1):
        maker = source(requests=plan, repeat=repeat)
        made = [maker.make(number, 0) for number in range(30)]
        orders.append([request.osl_asked for request in made])
        texts = [json.loads(request.payload)["messages"][0]["content"] for request in made]
        assert len({tuple(text.split()[:16]) for text in texts}) == 30
        assert all("question" in text for text in texts)
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(1, 31))
    assert orders[0] != orders[1]


def test_ids_of_a_dataset_cannot_be_chat(tmp_path):
    """Token ids in a file need the completions API."""
    path = tmp_path / "d.jsonl"
    path.write_text('{"prompt": [1, 2, 3]}')
    plan = RequestPlan(Lengths(40), Lengths(9), dataset=Dataset(str(path)), api="chat")
    with pytest.raises(InputError, match="token ids"):
        source(requests=plan)


def test_all_workers_together_make_every_number_once():
    """Users and numbers are shared out without overlap."""
    feeds = [feed(index, 3, window=WindowPlan(max_requests=20)) for index in range(3)]
    assert sorted(user for part in feeds for user in part.users) == list(range(6))
    numbers = []
    for part in feeds:
        numbers += [request.request_id for _, request in part.firsts]
        while (made := part.take()) is not None:
            numbers.append(made.request_id)
        assert part.finished
    assert sorted(numbers) == list(range(20))


def test_all_workers_together_send_each_arrival_once():
    """Each at its time of the common schedule."""
    arrivals = []
    for index in range(3):
        part = feed(index, 3, shape=Open(rate=100, arrival="constant"), window=WindowPlan(max_requests=20))
        while (made := part.take()) is not None:
            arrivals.append((made.request_id, made.intended_ns))
    assert sorted(arrivals) == [(number, number * 10_000_000) for number in range(20)]


def test_first_answers_are_spread_evenly():
    """Without a ramp the first answers' lengths are spread over the whole length; with one they are whole."""
    plan = RequestPlan(Lengths(40), Lengths(60))
    lengths = sorted(request.osl_asked for _, request in feed(requests=plan).firsts)
    assert lengths == [10, 20, 30, 40, 50, 60]
    ramped = feed(requests=plan, window=WindowPlan(ramp_s=3.0)).firsts
    assert [request.osl_asked for _, request in ramped] == [60] * 6
    assert [at for at, _ in ramped] == [500_000_000 * user for user in range(6)]


def test_open_loop_requests_come_in_order_with_their_times():
    """Under open loop each request has its intended time, and nobody sends a second one after it."""
    made = feed(shape=Open(rate=100, arrival="constant"))
    first = made.take()
    assert first.intended_ns == 0
    assert made.next_at_ns() == 10_000_000
    assert made.after(first) is None
