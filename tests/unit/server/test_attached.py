"""A server that someone else runs."""

from __future__ import annotations

import pytest

from rocbench.errors import InputError
from rocbench.server import attached
from rocbench.server.attached import AttachedServer
from rocbench.server.spec import ServerSpec


def test_no_url(tmp_path):
    """A text that is not a URL is refused before any request."""
    spec = ServerSpec(kind="attached", model="m", folder=tmp_path / "s", base_url="127.0.0.1:8000")

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


VERSION, MODELS = b'{"version": "0.32.0"}', b'{"object": "list", "data": [{"id": "m"}]}'
DEPLOYMENTS = (
    b'{"healthy_endpoints": [{"model": "a"}, {"model": "b"}], "healthy_count": 2, "unhealthy_count": 0}'
)


@pytest.mark.parametrize(
    ("routes", "path", "cost"),
    [
        ({"/version": VERSION, "/health": b"", "/v1/models": MODELS}, "/health", 1),
        ({"/health": DEPLOYMENTS, "/v1/models": MODELS}, "/v1/models", 0),
        ({"/health": b"", "/v1/models": MODELS}, "/v1/models", 0),
        (
            {"/health": DEPLOYMENTS, "/health/liveliness": b"alive", "/v1/models": MODELS},
            "/health/liveliness",
            0,
        ),
        ({"/version": VERSION, "/health": DEPLOYMENTS, "/v1/models": MODELS}, "/v1/models", 1),
        ({"/version": VERSION, "/v1/models": MODELS}, "/v1/models", 1),
        ({"/version": b"<html>", "/v1/models": MODELS}, "/v1/models", 0),
    ],
    ids=["vllm", "gateway", "unknown", "litellm", "gateway_of_a_version", "no_health", "page"],
)
def test_path_that_costs_nothing(tmp_path, monkeypatch, routes, path, cost):
    """vLLM's /health is requested each second; of a gateway, its liveness path or models, and /health at most once."""
    asked = []

    def get(spec, url, where, timeout_s):
        asked.append(where)
        return attached.Answer(200, routes[where]) if where in routes else attached.Answer(404, b"")

    monkeypatch.setattr(attached, "request", get)
    spec = ServerSpec(kind="attached", model="m", folder=tmp_path, base_url="http://h:1")

    assert attached.reach(spec) == path
    assert asked.count("/health") == cost
    assert (attached.notes_on(path) == []) == (path == "/health")


def test_health_that_runs_into_its_time(tmp_path, monkeypatch):
    """A /health that answers too late is not used; the list of models is."""

    def get(spec, url, where, timeout_s):
        if where == "/health":
            raise TimeoutError("timed out")
        found = {"/version": VERSION, "/v1/models": MODELS}.get(where)
        return attached.Answer(404, b"") if found is None else attached.Answer(200, found)

    monkeypatch.setattr(attached, "request", get)

    spec = ServerSpec(kind="attached", model="m", folder=tmp_path, base_url="http://h:1")

    assert attached.reach(spec) == "/v1/models"
