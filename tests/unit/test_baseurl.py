"""Base URLs of servers."""

from __future__ import annotations

import pytest

from rocbench import baseurl
from rocbench.errors import InputError


@pytest.mark.parametrize(
    ("url", "scheme", "authority", "prefix"),
    [
        ("http://h:80/v1/", "http", "h:80", ""),
        ("http://127.0.0.1:8000", "http", "127.0.0.1:8000", ""),
        ("https://h/base/v1", "https", "h:443", "/base"),
        ("http://[::1]:9", "http", "[::1]:9", ""),
    ],
)
def test_urls_are_taken_apart(url, scheme, authority, prefix):
    """Scheme, Host header and path prefix of every kind of base URL; the same after `root_of`."""
    for text in (url, baseurl.root_of(url)):
        where = baseurl.parse(text)
        assert (where.scheme, where.authority, where.path) == (scheme, authority, prefix)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://h",
        "http://",
        "http://h:abc",
        "http://h:99999",
        "http://h:0",
        "http://[::1",
        "http://a..b",
        "http://h/\xe9",
    ],
)
def test_other_texts_are_refused(url):
    """The error shows the text and gives an example."""
    with pytest.raises(InputError, match="is not the URL of a server"):
        baseurl.parse(url)


@pytest.mark.parametrize("url", ["http://u:PLANTED@h", "http://h/?x=PLANTED", "http://h/#PLANTED"])
def test_secrets_are_refused(url):
    """A user, a query or a fragment could hold a key; the error does not repeat it."""
    with pytest.raises(InputError, match="must not contain a user, password or query") as caught:
        baseurl.parse(url)
    assert "PLANTED" not in str(caught.value)


def test_loopback():
    """This machine's own addresses, in all their forms."""
    own = ("http://localhost:1", "http://127.9.9.9:1", "http://127.1:1", "http://[::1]:1", "http://0.0.0.0:1")
    assert all(baseurl.parse(url).loopback for url in own)
    assert not baseurl.parse("http://10.0.0.1:1").loopback
