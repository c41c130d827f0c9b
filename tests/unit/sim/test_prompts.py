"""Request bodies, checked as vLLM checks them."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from rocbench.model.images import ImageRule
from rocbench.sim.prompts import (
    WORDS,
    ApiError,
    Limits,
    answer_tokens,
    block_hashes,
    parse_request,
    text_tokens,
)

QWEN3_VL = ImageRule(32, 4096, 16_777_216)
OLD = Limits(("m", "alias"), 100, 1000, QWEN3_VL, 2, "0.14")
NEW = Limits(("m",), 100, 1000, None, 2, "0.32")


def parsed(body, limits=OLD, *, chat=False):
    """The request of a body."""
    return parse_request(json.dumps(body).encode(), limits, chat=chat)


def refused(body, limits=OLD, *, chat=False):
    """The error of a body."""
    with pytest.raises(ApiError) as caught:
        parsed(body, limits, chat=chat)
    return caught.value.body["error"]


def picture(width, height, form="PNG"):
    """A data URL of an image."""
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, form)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def chat_with(*urls):
    """A chat body with a word and images."""
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {
        "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "look"}]}],
        "max_tokens": 5,
    }


def test_token_ids_are_the_prompt():
    """As many tokens as ids, and they come back."""
    request = parsed({"model": "m", "prompt": [5, 6, 7], "max_tokens": 3, "ignore_eos": True, "stream": True})
    assert (request.prompt_tokens, request.prompt_ids, request.by_id) == (3, [5, 6, 7], True)
    assert (request.max_tokens, request.ignore_eos, request.stream) == (3, True, True)


def test_text_costs_one_token_a_word():
    """The simulated tokenizer counts words; completions answer 16 tokens by default."""
    request = parsed({"prompt": "how now brown cow"})
    assert (request.prompt_tokens, request.max_tokens) == (4, 16)


def test_a_chat_costs_its_words_and_its_template():
    """Five tokens for each message and for the answer's opening; the answer may fill what is left."""
    request = parsed({"messages": [{"role": "user", "content": "hi there"}]}, chat=True)
    assert request.prompt_tokens == 2 + 5 + 5
    assert request.max_tokens == 100 - 12


def test_a_conversation_begins_as_it_began():
    """The next turn's prompt has the last turn's prompt and answer as its prefix."""
    ask = {"role": "user", "content": "a b c"}
    first = parsed({"messages": [ask], "max_tokens": 8}, chat=True)
    text = b"".join(WORDS[3:11]).decode()
    turns = [ask, {"role": "assistant", "content": text}, {"role": "user", "content": "more"}]
    second = parsed({"messages": turns, "max_tokens": 8}, chat=True)
    assert second.tokens.startswith(first.tokens + answer_tokens(3, 8, by_id=False))


def test_hashes_cover_everything_before():
    """Equal prefixes give equal hashes up to the first difference, and a salt changes all."""
    one, two = text_tokens("a b c d e f g h"), text_tokens("a b c d X f g h")
    first, second = block_hashes(one, 2, ""), block_hashes(two, 2, "")
    assert first[:2] == second[:2]
    assert not set(first[2:]) & set(second[2:])
    assert not set(first) & set(block_hashes(one, 2, "salt"))


@pytest.mark.parametrize(("size", "tokens"), [((64, 64), 4 + 2), ((256, 256), 64 + 2), ((640, 480), 300 + 2)])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_images_cost_what_their_size_says(size, tokens, form):
    """Read from the file's header: one token per 32 x 32 pixels and two marks (Qwen3-VL)."""
    request = parsed(
        chat_with(picture(*size, form)), Limits(("m",), 4000, 1000, QWEN3_VL, 2, "0.14"), chat=True
    )
    assert request.image_tokens == tokens
    assert request.prompt_tokens == tokens + 1 + 10


def test_refusals_of_0_14():
    """Messages and codes of vLLM 0.14.1."""
    assert refused({"model": "x", "prompt": [1]}) == {
        "message": "The model `x` does not exist.", "type": "NotFoundError", "param": "model", "code": 404
    }  # fmt: skip
    assert refused({"prompt": [1], "max_tokens": 101})["message"] == (
        "'max_tokens' (101) cannot be greater than the model's maximum context length (100)."
    )
    assert refused({"prompt": [1] * 60, "max_tokens": 50})["message"].startswith(
        "This model's maximum context length is 50 tokens. However, your request has 60 input tokens."
    )
    assert (
        "'max_tokens' or 'max_completion_tokens' is too large: 95"
        in refused({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 95}, chat=True)["message"]
    )
    assert refused({"prompt": [5, 5000]})["message"] == "Token id 5000 is out of vocabulary"


def test_refusals_of_newer_versions():
    """Aliases are listed, and a total beyond the context is cut instead of refused (seen in 0.32, 0.33)."""
    assert refused({"model": "x", "prompt": [1]}, NEW)["message"] == (
        "The model `x` does not exist. Valid aliases: m."
    )
    assert refused({"prompt": [1], "max_tokens": 101}, NEW)["message"] == (
        "max_tokens=101 cannot be greater than max_model_len=100. Please request fewer output tokens."
    )
    assert parsed({"prompt": [1] * 60, "max_tokens": 50}, NEW).max_tokens == 40
    assert "your prompt contains 100 input tokens" in refused({"prompt": [1] * 100}, NEW)["message"]


def test_refusals_between():
    """0.17 to 0.30: what was asked is added up, and the longest answer is named twice."""
    limits = replace(NEW, wording="0.17")
    assert refused({"model": "x", "prompt": [1]}, limits)["message"] == "The model `x` does not exist."
    assert (
        "max_model_len=max_total_tokens=100."
        in refused({"prompt": [1], "max_tokens": 101}, limits)["message"]
    )
    assert "for a total of 110 tokens" in refused({"prompt": [1] * 60, "max_tokens": 50}, limits)["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"prompt": []}, "cannot be empty"),
        ({}, "prompt"),
        ({"prompt": [1], "n": 2}, "one choice"),
        ({"prompt": [[1], [2]]}, "one prompt"),
        ({"prompt": ["a", "b"]}, "one prompt"),
        ({"prompt": [1], "temperature": -1}, "temperature must be non-negative, got -1"),
        ({"prompt": [1, "x"]}, "one prompt"),
        ({"prompt": [-3, 4]}, "-3 is out of vocabulary"),
        ({"prompt": [1], "stream_options": {"include_usage": True}}, "`stream=True`"),
        ({"prompt": [1], "max_tokens": 4, "min_tokens": 5}, "min_tokens must be less"),
        ({"prompt": [1], "max_tokens": 0}, "at least 1"),
    ],
)
def test_bodies_that_make_no_sense(body, words):
    """Each gets a 400 that says what is wrong."""
    error = refused(body)
    assert error["code"] == 400
    assert words in error["message"]


def test_images_that_cannot_be_taken():
    """Too many, no image, no data URL, a model without eyes, and a body that is no JSON."""
    one = picture(32, 32)
    assert refused(chat_with(one, one, one), chat=True)["message"] == (
        "At most 2 image(s) may be provided in one prompt."
    )
    assert "cannot identify" in refused(chat_with("data:image/png;base64,AAAA"), chat=True)["message"]
    assert "Failed to load" in refused(chat_with("data:image/png;base64,?"), chat=True)["message"]
    assert "data URLs" in refused(chat_with("http://x/y.png"), chat=True)["message"]
    assert "not a multimodal model" in refused(chat_with(one), NEW, chat=True)["message"]
    assert refused({"messages": []}, chat=True)["code"] == 400
    with pytest.raises(ApiError):
        parse_request(b"{", OLD, chat=False)
    with pytest.raises(ApiError):
        parse_request(b"[]", OLD, chat=False)
