"""Secrets: which names hold them, and that no written form shows them."""

from pathlib import Path

import pytest

from rocbench.errors import InputError
from rocbench.server.redact import (
    is_secret,
    lift_flags,
    lift_secrets,
    masked,
    masked_environment,
    redacted,
    secret_values,
    usable_key,
)
from rocbench.server.scrub import scrub
from rocbench.server.spec import ServerSpec

TOKEN = "hf_planted0123456789"


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "VLLM_API_KEY",
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "DB_PASSWORD",
        "OPENAI_APIKEY",
        "VLLM_API_KEYS",
        "GITHUB_PAT",
        "DB_PASS",
        "DB_PWD",
        "--api-key",
    ],
)
def test_secret_names(name):
    """Names that tell of a secret are known as such."""
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    ["TOKENIZERS_PARALLELISM", "VLLM_USE_V1", "HF_HOME", "MAX_TOKENS", "KEYBOARD", "PWD", "OLDPWD", "PATH"],
)
def test_plain_names(name):
    """Names that only look like it stay readable."""
    assert not is_secret(name)


def test_values_hidden_inside_others():
    """A secret that was copied into another variable is masked there too."""
    env = {"HF_TOKEN": TOKEN, "EXTRA": f"--header=Bearer {TOKEN}", "PLAIN": "1"}

    masked = masked_environment(env, secret_values(env))

    assert masked == {"HF_TOKEN": "***", "EXTRA": "--header=Bearer ***", "PLAIN": "1"}


def test_longest_first():
    """A secret that contains another is masked as a whole."""
    secrets = secret_values({"A_TOKEN": "abcdef", "B_TOKEN": "abcdefghij"})

    assert redacted("x abcdefghij y", secrets) == "x *** y"


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
    with pytest.raises(InputError, match="--api-key takes one value"):
        lift_flags({"api-key": ["a", "b"]}, {})


def test_settings_masked_by_name():
    """Also what is too short to be masked by its value, at whatever depth."""
    settings = {"serve_args": {"api-key": "abc", "x": 1}, "models": [{"env": {"HF_TOKEN": "abc"}}]}

    assert masked(settings) == {
        "serve_args": {"api-key": "***", "x": 1},
        "models": [{"env": {"HF_TOKEN": "***"}}],
    }


def test_keys_as_secret_stores_give_them():
    """The end of a line is no part of a key; what no header carries is refused without being told."""
    spec = ServerSpec(
        kind="process", model="m", folder=Path(), api_key="Abc\n", env={"VLLM_API_KEY": "Abc\n"}
    )
    assert (spec.api_key, spec.env["VLLM_API_KEY"]) == ("Abc", "Abc")
    for key in ("A\u0142c", "A\nc"):
        with pytest.raises(InputError) as caught:
            usable_key(key, "$MYKEY")
        assert key not in caught.value.text()
        assert "$MYKEY" in caught.value.text()


def test_scrub_in_place(tmp_path):
    """A log that a server wrote a secret into keeps its length and loses the secret."""
    log = tmp_path / "server.log"
    log.write_bytes(b"a\n" + TOKEN.encode() + b" and " + TOKEN.encode() + b"\nz\n")
    size = log.stat().st_size

    assert scrub(log, [TOKEN]) == 2
    assert log.stat().st_size == size
    assert TOKEN.encode() not in log.read_bytes()


def test_scrub_without_a_log(tmp_path):
    """No log, an empty log and no secrets are no error."""
    (tmp_path / "empty").touch()

    assert scrub(tmp_path / "none", [TOKEN]) == scrub(tmp_path / "empty", [TOKEN]) == 0
    assert scrub(tmp_path / "empty", []) == 0
