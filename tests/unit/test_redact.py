"""Secrets in texts, data, settings and argv: that no written form shows them, and that nothing else is touched."""

import base64
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import planted
from rocbench import redact
from rocbench.errors import InputError
from rocbench.redact import (
    cut,
    lift_flags,
    lift_secrets,
    marked,
    masked,
    masked_argv,
    masked_entry,
    masked_environment,
    redacted,
    redacted_data,
    usable_key,
    written_forms,
)
from rocbench.server.spec import ServerSpec

TOKEN = "hf_planted0123456789"


def test_what_shows_itself_to_be_a_secret():
    """Users and passwords of URLs, tokens by their shape, values after a secret's name; no ordinary text."""
    hidden = [
        "postgres://bench:p4ss@db/x",
        "https://tok3n@host/a",
        "redis://:p4ss@cache:6379/0",
        "Authorization: Bearer p4ss-p4ss",
        "refused 'authorization': 'Bearer p4ssp4ss'",
        "bearer p4ssp4ssp4ss",
        '{"api_key": "p4ss word"}',
        '{\\"api_key\\": \\"p4ss\\"}',
        "api_key='p4ss'",
        "non-default args: {'api_key': ['p4ss'], 'port': 1}",
        "--api-key p4ss",
        "--hf-token p4ss",
        "PGPASSWORD=p4ss",
        "Endpoint=https;AccountKey=p4ss==;Suffix=core",
        "'OPENAI_API_KEY_1': 'p4ss'",
        "http://h/x?token=p4ss&n=1",
        "key hf_p4ssp4ssp4ssp4ss",
        "sk-p4ssp4ssp4ssp4ssp4ss",
        "http://me:p4ss/p4ss?x@proxy:3128",
        "DB_PASS=1234p4ss",
    ]
    for text in hidden:
        shown = redacted(text)
        assert "p4ss" not in shown, text
        assert "tok3n" not in shown, text
        assert redacted(shown) == shown
    for text in (
        "GPU KV cache size: 1,234 tokens at http://127.0.0.1:8000/v1?n=1",
        "served by vllm@sha256:0123 for user@host, max_tokens=5, image_token_id: 7",
        '{"num_key_value_heads": 8, "eos_token": "</s>"} api_key=None api_key: $MY_KEY',
        "PASS: 5 of 5, BYPASS=1, invalid credentials: 401 Client Error, PASS: 3/4, authorization: 403",
        "GET http://10.0.0.1:8000/v1/x@main, http://[::1]:8000/a@b, basic functionality, Basic authentication",
        "t.yaml:3: env.X_TOKEN: must be text; serve_args.hf-token: must be true or false; give KEY=VALUE, for example",
        "`extra_body` may not contain 'api_key': this is a secret; $MY_SIDE_PASSWORD: the value of it is not kept",
        "--api-key takes only one value in bench; argument --api-key: expected one argument",
        "hf_transfer, hf_overrides, tokens/s: 12; TP=8 ISL=1024",
    ):
        assert redacted(text) == text


@pytest.mark.parametrize(
    "text", ["X_TOKEN: {}", "api_key: {} ", "X_TOKEN={} be", "--api-key {}\nx", "KEY: '{}' be"]
)
def test_a_value_is_no_sentence(text):
    """A word of speech that nothing follows, or that is quoted or assigned, is a value; so is any other word."""
    assert redacted(text.format("must")) == text.format("***")
    assert redacted("X_TOKEN: the-key be, api_key: Yeti be text") == "X_TOKEN: *** be, api_key: *** be text"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("user:Bison-moon-1@host", "***@host"),
        (":p@10.0.0.1:6379/0", "***@10.0.0.1:6379/0"),
        ("a=1;u:p/w@[::1]:80", "a=1;***@[::1]:80"),
        ('{"master": "u:p,w@h"}', '{"master": "***@h"}'),
        ("redis://u:pw@h:1", "redis://***@h:1"),
    ],
)
def test_user_and_password_without_a_scheme(value, told):
    """In a variable's value; in other text `a:b@c` may be anything."""
    assert (marked("MOONCAKE_MASTER", value), marked("MINE", value)) == (told, "***")
    assert masked_environment({"MOONCAKE_MASTER": value}) == {"MOONCAKE_MASTER": told}
    assert redacted("eth0:1@host") == "eth0:1@host"


@pytest.mark.parametrize(
    "value",
    """host:8000 a:b name@host git@github.com:org/repo http://h:80/a@b /opt/a:/spack/gcc@12/lib:b
    rocm/vllm:0.11@sha256:0123 image:0.11@sha256:0123 org/model:rev@main tls:sm,x,y [::1]:8000""".split(),
)
def test_no_user_and_password(value):
    """Addresses, paths, images."""
    assert marked("MOONCAKE_MASTER", value) == value


@pytest.mark.parametrize("value", ["Yeti'pw\"tail", 'Hy"ena\\back', "it's", "two\nlines \xe9", "plain"])
def test_written_forms(value):
    """As JSON and Python write it, alone, in a list, and in a text that is written so again."""
    forms = written_forms(value)
    for text in (repr(value), repr((value,)), repr(value + "'"), repr(value + '"'), json.dumps(value)):
        for outer in (text, repr(text), json.dumps(text), json.dumps(text, ensure_ascii=False)):
            assert any(form in outer for form in forms), outer
    assert (len(forms) == 1) == (value == "plain")


@pytest.mark.parametrize("user", ["me:p4ssword", "proxy:p4ss w/rd?", "a:bcdefg"])
def test_basic_authentication(user):
    """Base64 of user and password, as a proxy's header has it."""
    told = base64.b64encode(user.encode()).decode()

    assert redacted(f"sent Basic {told} to it") == "sent Basic *** to it"
    assert redacted(f"Proxy-Auth basic {told.rstrip('=')}") == "Proxy-Auth basic ***"


@pytest.mark.parametrize("number", [1, 22, 1234])
def test_a_password_of_digits(number):
    """Counts and statuses in logs are not masked."""
    assert redacted(f"DB_PASS={number} password: {number}") == "DB_PASS=*** password: ***"


@pytest.mark.parametrize("secret", planted.VALUES)
def test_masked_before_it_is_cut(secret):
    """Wherever a text is cut: no part of a secret stays at its end."""
    for length in range(480, 521):
        text = "x" * length + " " + secret + " y" * 400
        made = cut(text, 500, [secret])
        assert len(made) <= 500
        assert secret[:5] not in made

        for shaped in (
            f"redis://me:{secret}@h/",
            f"Bearer {secret}",
            f'{{"api_key": "{secret}"}}',
            f"hf_{secret[4:]}",
        ):
            text = "x" * (length - len(shaped) // 2) + " " + shaped + " y" * 400
            assert secret[4:9] not in cut(text, 500)


def test_data_keeps_its_shape():
    """Field names and numbers stay, so that the data can be read back."""
    data = {"run_id": 1, "launches": [f"a {TOKEN}", None, 2.5, True], TOKEN: {"x": (TOKEN,)}}

    assert redacted_data(data, [TOKEN]) == {
        "run_id": 1,
        "launches": ["a ***", None, 2.5, True],
        TOKEN: {"x": ["***"]},
    }


def test_environments():
    """Values of the table's variables, masked within; of all others a mask."""
    env = {"HF_TOKEN": TOKEN, "VLLM_PLUGINS": f"a,{TOKEN}", "MINE": "1", "HF_ENDPOINT": "http://u:p@h"}

    assert masked_environment(env, [TOKEN]) == {
        "HF_TOKEN": "***",
        "VLLM_PLUGINS": "a,***",
        "MINE": "***",
        "HF_ENDPOINT": "http://***@h",
    }


def test_argv():
    """A secret's flag in both forms, a URL's user, JSON in a flag."""
    argv = [
        "vllm",
        "--ssl-keyfile-password",
        "a b",
        "--x-token=abc",
        "--url",
        "http://u:p@h",
        '{"api_key": "abc"}',
    ]

    assert masked_argv(argv) == [
        "vllm",
        "--ssl-keyfile-password",
        "***",
        "--x-token=***",
        "--url",
        "http://***@h",
        '{"api_key": "***"}',
    ]
    assert masked_argv(masked_argv(argv)) == masked_argv(argv)


def test_longest_first():
    """A secret that contains another is masked as a whole."""
    assert redacted("x abcdefghij y", ("abcdefghij", "abcdef")) == "x *** y"


@pytest.mark.parametrize("words", [["--api-key", "k-123456"], ["--api-key=k-123456"]])
def test_key_leaves_argv(words):
    """An API key in argv moves to the environment, where `ps` and vLLM's log do not show it."""
    command, env = lift_secrets(["vllm", "serve", "m", *words, "--port", "1"], {"A": "1"})

    assert command == ("vllm", "serve", "m", "--port", "1")
    assert env == {"A": "1", "VLLM_API_KEY": "k-123456"}


def test_keys_among_flags_by_name():
    """Settings lose a key before they are written or shown; of several keys none is dropped in silence."""
    assert lift_flags({"api_key": "k-1", "hf-token": None, "port": 1}, {"A": "1"}) == (
        {"port": 1},
        {"A": "1", "VLLM_API_KEY": "k-1"},
    )
    with pytest.raises(InputError, match="--api-key takes only one value"):
        lift_flags({"api-key": ["a", "b"]}, {})


def test_settings_masked_by_name():
    """Also values too short to search for, at any depth."""
    settings = {
        "serve_args": {"api-key": "abc", "x": 1},
        "models": [{"env": {"HF_TOKEN": "abc", "MINE": "abc", "VLLM_X": "1"}}],
        "matrix": {"product": {"env.MINE": ["abc", 12], "env.VLLM_X": [0, 1]}},
    }

    assert masked(settings) == {
        "serve_args": {"api-key": "***", "x": 1},
        "models": [{"env": {"HF_TOKEN": "***", "MINE": "***sha256:ba7816bf", "VLLM_X": "1"}}],
        "matrix": {"product": {"env.MINE": ["***", "***"], "env.VLLM_X": [0, 1]}},
    }


def test_a_mark_tells_values_apart():
    """Of a variable that is not listed: also read back. The mask alone where name or value tells of a secret."""
    marks = {marked("MINE", value) for value in ("TRUE", "FALSE")}

    assert len(marks) == 2
    assert all(re.fullmatch(r"\*{3}sha256:[0-9a-f]{8}", mark) for mark in marks)
    assert marks == {marked("MINE", mark) for mark in marks}
    assert {marked("DB_PASS", "1234"), marked("MINE", TOKEN), marked("MINE", "http://u:p@h")} == {"***"}
    assert masked_entry("MINE", "TRUE") in marks


def test_keys_as_secret_stores_give_them():
    """A line end is not part of a key; a key that a header cannot carry is refused without being shown."""
    spec = ServerSpec(
        kind="process", model="m", folder=Path(), api_key="Abc\n", env={"VLLM_API_KEY": "Abc\n"}
    )
    assert (spec.api_key, spec.env["VLLM_API_KEY"]) == ("Abc", "Abc")
    for key in ("A\u0142c", "A\nc"):
        with pytest.raises(InputError) as caught:
            usable_key(key, "$MYKEY")
        assert key not in caught.value.text()
        assert "$MYKEY" in caught.value.text()


PIECES = st.sampled_from(
    [
        *r"""api_key= api-key : 'auth_token': "HF_TOKEN" => x1 [ ( client_secret=abc client-secret = 'a secret_key=1 secret=
        ?key=1 &token=ab; &apikey=2 --token abc --api-key --password=1 Bearer abcdefgh.12 basic dXNlcjpwYXNz Basic ://a:b@c
        functionality ://h:80/x@y hf_0123456789abcdefgh xhf_0123456789abcdefgh eyJhbGciOiJIUzI1.eyJzdWIiOiIx MYTOKEN=ab
        A_PASS: 5 PASS=word xMYTOKEN=a TOKENS_KEY_1=q passwords2: \"esc\" PaSsWord:q None $X " ' ,""".split(),
        *("\n", "\r\n", "\x85", "\u0130", "\xe9", "B" * 90),
    ]
)


@given(st.lists(st.tuples(PIECES, st.sampled_from(["", " "])), max_size=9))
def test_the_quick_way_finds_what_the_patterns_find(pieces):
    """Of each line, tried at every place; and no mask takes the end of a line."""
    text = "".join(piece + between for piece, between in pieces)
    expected = []
    for line in text.splitlines(keepends=True):
        bare = line.splitlines()[0]
        end = line[len(bare) :]
        for shape in redact._SHAPES:
            bare = shape.pattern.sub(shape.mask, bare)
        expected.append(bare + end)
    assert redacted(text) == "".join(expected)


def test_what_is_no_base64_stays():
    """Also in letters that base64 does not have."""
    assert (
        redacted("basic \xdcberraschung, basic functionality") == "basic \xdcberraschung, basic functionality"
    )
