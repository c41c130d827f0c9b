"""Control requests to a server: health, models, version, settings. They carry its key, headers and TLS setting."""

from __future__ import annotations

from typing import Any

from rocbench.probe.fetch import Answer, fetch
from rocbench.server.spec import ServerSpec


def request(spec: ServerSpec, base_url: str, path: str, timeout_s: float, *, method: str = "GET") -> Answer:
    """One request and its whole answer. Raises like `probe.fetch.fetch`."""
    headers, insecure = spec.request_headers, spec.insecure
    return fetch(base_url, path, method=method, headers=headers, timeout_s=timeout_s, insecure=insecure)


def read(spec: ServerSpec, base_url: str, path: str, timeout_s: float) -> Answer:
    """The same; an empty answer if none arrives, or one with another status than 200."""
    try:
        answer = request(spec, base_url, path, timeout_s)
    except OSError:
        return Answer(0, b"")
    return answer if answer.status == 200 else Answer(answer.status, b"")


def read_object(spec: ServerSpec, base_url: str, path: str, timeout_s: float) -> dict[str, Any]:
    """The same as a JSON object; empty if it is not one."""
    value = read(spec, base_url, path, timeout_s).json()
    return value if isinstance(value, dict) else {}
