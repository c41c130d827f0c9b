"""Servers that refuse a request and live: adapted to where that is honest, else told with their own words."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loads import load_spec
from rocbench.errors import RequestRefused, ServerFault
from rocbench.load import drive
from rocbench.load.dialect import learn
from rocbench.load.spec import Lengths, RequestPlan, Target, WindowPlan
from rocbench.records import NONE
from scripted import raw, scripted, token

BOTH = pytest.mark.parametrize("transport", ["wire", "aiohttp"])


def refusing(exchange, refuse):
    """Answer with what `refuse(body)` gives, (status, words, headers), else well."""
    body = exchange.json()
    refused = refuse(body)
    if refused:
        status, words, *headers = refused
        exchange.respond(
            status,
            json.dumps({"error": {"message": words}}).encode(),
            headers=headers[0] if headers else (),
        )
        return
    count = int(body.get("max_tokens") or body["max_completion_tokens"])
    exchange.begin_stream()
    for i in range(count):
        exchange.write(token(i, finish="length" if i == count - 1 else None))
    exchange.write(b"data: [DONE]\n\n")
    exchange.end()


def counted(url, **changes):
    """A load of a few requests."""
    return drive(load_spec(url, users=2, window=WindowPlan(max_requests=6), **changes))


@BOTH
@pytest.mark.parametrize(
    ("refuse", "note"),
    [
        (
            lambda b: "max_tokens" in b
            and (400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
            "bench sends max_completion_tokens instead",
        ),
        (
            lambda b: b.get("temperature") == 0 and (400, "`temperature` must be strictly positive"),
            "refused temperature",
        ),
        (
            lambda b: ("temperature" in b or "max_tokens" in b)
            and (
                400,
                "temperature is not supported" if "temperature" in b else "use max_completion_tokens, not max_tokens",
            ),
            "refused temperature",
        ),
        (
            lambda b: "ignore_eos" in b
            and (422, '[{"loc":["body","ignore_eos"],"msg":"Extra inputs are not permitted"}]'),
            "refused ignore_eos",
        ),
    ],
    ids=["max_completion_tokens", "temperature", "both", "extra inputs"],
)  # fmt: skip
def test_what_a_server_wants_otherwise_it_gets(transport, refuse, note):
    """A length by its new name and the server's own sampling change no figure: they are noted, and the load runs."""
    with scripted(lambda exchange: refusing(exchange, refuse)) as url:
        result = counted(url, transport=transport)

    assert any(note in text for text in result.notes), result.notes
    assert (result.requests["failure"] == NONE).all(), result.errors
    assert len(result.requests) == 7


@BOTH
@pytest.mark.parametrize(
    ("refused", "what", "fix"),
    [
        ((404, "The model does not support Completions API"), "does not support Completions API", "--api chat"),
        ((400, "This is a chat model: use /v1/chat/completions"), "chat model", "--api chat"),
        ((400, "tools \x1b[31mare wanted\r\n"), "tools [31mare wanted", "--extra-body"),
        ((307, "", (("Location", "/real/v1/completions"),)), "redirects (HTTP 307)", "/real"),
        ((308, "", (("Location", "https://gate.example/v1/completions"),)), "redirects", "https://gate.example"),
        ((401, "no such key"), "no such key", "--api-key-env"),
        ((403, "not yours"), "not yours", "access"),
        ((405, "Method Not Allowed"), "Method Not Allowed", "without /v1"),
        ((501, "no completions here: use chat"), "no completions here", "--api chat"),
        ((413, "Payload too large"), "Payload too large", "--isl"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else None,
)  # fmt: skip
def test_what_no_change_would_help_is_told(transport, refused, what, fix):
    """One error before the load, in the server's own words, with what follows from them; nothing says it died."""
    with (
        scripted(lambda exchange: refusing(exchange, lambda _: refused)) as url,
        pytest.raises(RequestRefused) as caught,
    ):
        counted(url, transport=transport)

    assert what in caught.value.what
    assert fix in caught.value.fix
    assert "died" not in caught.value.text()
    assert "\x1b" not in caught.value.text()


FIELDS = ("continuous_usage_stats", "stream_options", "ignore_eos", "min_tokens", "max_tokens", "temperature")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.sampled_from(FIELDS)), st.booleans(), st.booleans())
def test_any_set_of_unknown_fields(refused, all_at_once, unnamed):
    """Whatever fields a server refuses, named one by one, all at once or (of vLLM's own) not at all: it is loaded."""
    if unnamed:
        refused -= {"max_tokens", "temperature"}

    def refuse(body):
        there = {*body, *body.get("stream_options", {})} & refused
        if not there:
            return None
        named = sorted(there) if all_at_once else sorted(there)[:1]
        words = [f"{name} (use max_completion_tokens)" if name == "max_tokens" else name for name in named]
        return 400, "not permitted" if unnamed else f"not supported: {', '.join(words)}"

    with scripted(lambda exchange: refusing(exchange, refuse)) as url:
        learned = learn(load_spec(url), "wire")

    body_has = {
        "continuous_usage_stats": learned.dialect.continuous_usage,
        "stream_options": learned.dialect.include_usage,
        "ignore_eos": learned.dialect.vllm_fields,
        "min_tokens": learned.dialect.vllm_fields,
        "max_tokens": learned.dialect.length_field == "max_tokens",
        "temperature": learned.dialect.temperature,
    }
    assert not [name for name in refused if body_has[name]]
    assert bool(learned.notes) == bool(refused)


def test_a_temperature_that_was_asked_for_is_not_dropped():
    """Only greedy sampling, which nobody asked for, gives way."""

    def refuse(body):
        return "temperature" in body and (400, "temperature is not supported")

    plan = RequestPlan(Lengths(5), Lengths(4), temperature=0.7)
    with (
        scripted(lambda exchange: refusing(exchange, refuse)) as url,
        pytest.raises(RequestRefused, match="temperature"),
    ):
        learn(load_spec(url, requests=plan), "wire")


@BOTH
def test_a_server_that_hangs_up_is_no_refusal(transport):
    """Where no answer comes at all, that is said; what is not known of the server is not."""
    with raw(lambda sock, _: sock.recv(65536)) as url, pytest.raises(ServerFault) as caught:
        learn(load_spec(url), transport)

    assert not isinstance(caught.value, RequestRefused)
    assert "closes the connection without an answer" in caught.value.what


@BOTH
def test_further_fields_and_headers_reach_the_server(transport):
    """--extra-body and --header are in each request, the probe's too; no text of the spec holds the header's value."""
    bodies, heads = [], []

    def handler(exchange):
        bodies.append(exchange.json())
        heads.append(exchange.headers.get("x-tenant"))
        refusing(exchange, lambda _: None)

    plan = RequestPlan(Lengths(5), Lengths(4), extra_body={"top_p": 0.5, "chat_template_kwargs": {"a": 1}})
    with scripted(handler) as url:
        target = Target(url, "reference", headers={"X-Tenant": "t-secret"})
        spec = load_spec(
            url, requests=plan, target=target, transport=transport, window=WindowPlan(max_requests=4)
        )
        drive(spec)

    assert len(bodies) == 5
    assert all(body["top_p"] == 0.5 and body["chat_template_kwargs"] == {"a": 1} for body in bodies)
    assert set(heads) == {"t-secret"}
    assert "t-secret" not in repr(spec)
