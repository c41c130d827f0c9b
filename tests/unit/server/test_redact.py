"""Secrets: which names hold them, and that no written form shows them."""

import pytest

from rocbench.server.redact import (
    is_secret,
    lift_secrets,
    masked_environment,
    redacted,
    secret_values,
)
from rocbench.server.scrub import scrub

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
    ],
)
def test_secret_names(name):
    """Names that tell of a secret are known as such."""
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "VLLM_USE_V1", "HF_HOME", "MAX_TOKENS", "KEYBOARD"]
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
