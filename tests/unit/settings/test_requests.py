"""Headers and body fields of one's own: what is taken, what is refused by name, and where secrets stay."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rocbench.commands import options
from rocbench.errors import InputError
from rocbench.settings import body, headers
from rocbench.settings.schema import Length, Server, Workload

URL = "http://node7:8000"
SECRET = "sk-planted-0123456789"


def test_values_come_from_the_environment_when_they_are_sent():
    """A file holds the variable's name; `$$` is a dollar."""
    given_ = {"Authorization": "Bearer $KEY", "X-Team": "${TEAM}-a", "X-Price": "5$$"}

    assert headers.resolved(given_, {"KEY": SECRET + "\n", "TEAM": "t"}) == {
        "Authorization": f"Bearer {SECRET}",
        "X-Team": "t-a",
        "X-Price": "5$",
    }
    assert headers.secrets(given_, {"KEY": SECRET, "TEAM": "t"}) == [SECRET, "t", f"Bearer {SECRET}", "t-a"]
    with pytest.raises(InputError, match="KEY is not set"):
        headers.resolved(given_, {"TEAM": "t"})
    with pytest.raises(InputError, match="not allowed in a header") as caught:
        headers.resolved({"A": "$KEY"}, {"KEY": f"{SECRET}\nX: y"})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Authorization", SECRET),
        ("authorization", f"Bearer {SECRET}"),
        ("X-Api-Key", SECRET),
        ("api-key", SECRET),
        ("X-Auth-Token", SECRET),
        ("Cookie", f"session={SECRET}"),
        ("X-Anything", f"Bearer {SECRET}"),
        ("Proxy-Authorization", SECRET),
        ("Content-Length", SECRET),
        ("Host", SECRET),
        ("X-Request-Id", SECRET),
        ("a b", SECRET),
        ("X", f"{SECRET}\r\nY: z"),
        ("X", f"{SECRET}é"),
        ("X", f"{SECRET}$"),
    ],
)
def test_headers_that_are_refused(name, value):
    """By name, and the value is never told: neither in the words nor in what pydantic adds to them."""
    with pytest.raises(ValueError, match="header") as caught:
        headers.check({name: value})
    assert SECRET not in str(caught.value)


def test_a_sweep_tells_no_value():
    """A secret in a file is refused without being repeated."""
    with pytest.raises(ValidationError) as caught:
        Server(kind="attached", base_url=URL, headers={"Authorization": SECRET})
    assert SECRET not in caught.value.errors(include_url=False, include_input=False)[0]["msg"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "process", "headers": {"X-A": "b"}},
        {"kind": "simulated", "insecure": True},
        {
            "kind": "attached",
            "base_url": URL,
            "api_key_env": "K",
            "headers": {"authorization": "$K"},
        },
    ],
)
def test_settings_that_exclude_each_other(wrong):
    """Headers and --insecure are of a server that runs already; a key is given once."""
    with pytest.raises(ValidationError):
        Server(**wrong)


@pytest.mark.parametrize("item", ["no colon", ": x", "a b: c"])
def test_what_is_no_header(item):
    """Told with an example, without its text."""
    with pytest.raises(InputError, match="not a header"):
        headers.parse([item])


def test_a_secret_that_the_shell_put_in(monkeypatch):
    """In double quotes the shell replaces the variable: the value stands in the list of processes, and is refused."""
    monkeypatch.setenv("MY_TOKEN", SECRET)
    with pytest.raises(InputError, match="single quotes") as caught:
        options.requests(None, None, [f"X-Tenant: {SECRET}"], insecure=False)
    assert SECRET not in str(caught.value)
    with pytest.raises(InputError, match="given twice"):
        headers.parse(["X-A: 1", "x-a: 2"])


@given(st.dictionaries(st.sampled_from(sorted(body.OURS)), st.integers(), min_size=1, max_size=3))
def test_fields_of_the_load_are_refused_by_name(fields):
    """Whatever decides what is measured is not to be set twice."""
    with pytest.raises(ValueError, match="may not set") as caught:
        body.check(fields)
    assert any(repr(name) in str(caught.value) for name in fields)


def test_secrets_in_bodies():
    """At any depth: a file would hold them."""
    with pytest.raises(ValueError, match="api_key") as caught:
        body.check({"extra": [{"api_key": SECRET}]})
    assert SECRET not in str(caught.value)


@given(
    st.dictionaries(
        st.sampled_from(["top_p", "seed", "stop", "guided"]),
        st.recursive(
            st.integers(-(2**63), 2**64) | st.text() | st.booleans() | st.none(), st.lists, max_leaves=5
        ),
    )
)
def test_other_fields_are_kept_as_they_are(fields):
    """What JSON says is what is sent."""
    assert body.parse(json.dumps(fields)) == fields
    assert Workload(name="w", isl=Length(mean=1), osl=Length(mean=1), extra_body=fields).extra_body == fields


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": NaN}', '{"a": 1, "a": 2}', "7"])
def test_what_is_no_object(text):
    """Refused with an example."""
    with pytest.raises(InputError, match="--extra-body"):
        body.parse(text)


def test_two_temperatures():
    """One place decides."""
    with pytest.raises(ValidationError, match="remove one of the two"):
        Workload(
            name="w", isl=Length(mean=1), osl=Length(mean=1), temperature=0.5, extra_body={"temperature": 1}
        )
