"""Which values are searched for in texts."""

import base64
import re
import socket

import pytest

from rocbench.redact import redacted
from rocbench.server.secretvalues import secret_values

TOKEN = "hf_planted0123456789"


def test_secret_variables_and_urls():
    """Values of variables with a secret's name, and users and passwords of URLs; longest first."""
    env = {
        "PGPASSWORD": TOKEN,
        "CACHE": "redis://me:p4ss%40w0rd@h/0",
        "HOME": "/opt/somebody-else",
        "V": "plain-words1",
    }

    assert secret_values(env, also=["from-a-header", None]) == (
        TOKEN,
        "me:p4ss%40w0rd",
        "from-a-header",
        "p4ss%40w0rd",
        "p4ss@w0rd",
    ) or set(secret_values(env, also=["from-a-header"])) >= {
        TOKEN,
        "p4ss%40w0rd",
        "p4ss@w0rd",
        "from-a-header",
    }
    assert not [value for value in secret_values(env) if "plain" in value or "somebody" in value]


def test_short_and_common_values_are_not_searched_for():
    """Words of this program, numbers, and names of this machine and the run are not masked."""
    common = ["000000", "concurrency", "launches", "run_id", "20261130", "short1", socket.gethostname(), ""]

    assert secret_values({f"A{i}_TOKEN": value for i, value in enumerate(common)}) == ()
    assert secret_values({"A_TOKEN": "my-model-1"}, known=["runs/my-model-1/x"]) == ()


def test_lists_lines_and_written_forms():
    """Each entry of a list and each line of a file is a value, also as written in JSON and URLs."""
    assert {"key-one-1", "key-two-2"} <= set(secret_values({"VLLM_API_KEYS": "key-one-1,key-two-2"}))
    assert "line-two-22" in secret_values({"SSH_PRIVATE_KEY": "line-one-11\nline-two-22\n"})
    assert {'a"b+c/1234', 'a\\"b+c/1234', "a%22b%2Bc%2F1234"} <= set(secret_values({"A_KEY": 'a"b+c/1234'}))


def test_as_python_writes_them():
    """A server that repeats its environment writes it as `repr` does."""
    for value in ("Yeti'pw\"tail-Quoll4411", 'Hy"ena\\back-slash-77'):
        secrets = secret_values({"DB_PASSWORD": value})
        assert redacted(repr((value,)), secrets) == "('***',)"
        assert redacted(str(ValueError({"a": repr((value,))})), secrets).count("***") == 1
        assert not re.search("Yeti|Quoll|ena|slash", redacted(repr([repr({"a": value})]), secrets))


def test_a_user_without_a_scheme():
    """Users and passwords without a scheme, in listed variables."""
    value = "user:Bison-moon-1@host"

    assert {"user:Bison-moon-1", "Bison-moon-1"} <= set(secret_values({"MOONCAKE_MASTER": value}))
    assert secret_values({"MINE": value}) == secret_values({"MOONCAKE_MASTER": "moon-host:80801"}) == ()


def test_a_proxys_password_as_base64():
    """A URL's user and password as base64, as in a header, quoted and unquoted."""
    found = secret_values({"HTTPS_PROXY": "http://me:p4ss%2Fw0rd@proxy:3128"})

    for user in (b"me:p4ss%2Fw0rd", b"me:p4ss/w0rd"):
        assert base64.b64encode(user).decode().rstrip("=") in found


@pytest.mark.parametrize("value", ["2001:db8::17:1", "[fe80::1:2:3]", "192.168.100.100"])
def test_an_address_is_no_secret(value):
    """The name of the variable does not matter."""
    assert secret_values({"A_TOKEN": value}) == ()


def test_a_place_is_no_secret():
    """A variable that names a secret's file has no secret value."""
    assert (
        secret_values(
            {"GOOGLE_CREDENTIALS_FILE": "/etc/keys/mine-1.json", "SSH_AUTH_SOCK": "/run/agent.1234"}
        )
        == ()
    )
