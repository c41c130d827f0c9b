"""A server that someone else runs."""

from __future__ import annotations

import pytest

from rocbench.errors import InputError
from rocbench.server.attached import AttachedServer
from rocbench.server.spec import ServerSpec


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "http://",
        "http://h:abc",
        "http://h:99999",
        "http://[::1",
        "http://a..b",
        "http://h/\xe9",
    ],
)
def test_no_url(tmp_path, url):
    """What no request can be sent to is told before one is sent."""
    spec = ServerSpec(kind="attached", model="m", folder=tmp_path / "s", base_url=url)

    with pytest.raises(InputError, match="is not the URL of a server"):
        AttachedServer(spec).launch()


@pytest.mark.parametrize(
    "url", ["http://[::1]:8000/v1", "https://node7.cluster", "http://127.0.0.1:8000/v1/"]
)
def test_url(tmp_path, url):
    """Addresses, names, both schemes and a path are fine; the root is kept."""
    server = AttachedServer(ServerSpec(kind="attached", model="m", folder=tmp_path / "s", base_url=url))

    server.launch()

    assert server.base_url == url.rstrip("/").removesuffix("/v1")
