"""The identity of an attached server, read again after each cell: the server may have been replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rocbench.redact import cut
from rocbench.server import control
from rocbench.server.spec import RunningServer
from rocbench.units import one_line

_ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """The identity that a server reports; None for each fact that it does not report."""

    version: str | None = None
    model: str | None = None
    """The measured name; `not served` if the list of models lacks it."""
    root: str | None = None
    """The model behind that name: a path, or a name on the hub."""
    max_model_len: str | None = None


def ask(running: RunningServer, secrets: Sequence[str] = ()) -> ServerIdentity:
    """The identity an attached server reports now; empty for a launched one, whose process is watched."""
    if running.spec.kind != "attached":
        return ServerIdentity()
    spec, url = running.spec, running.base_url
    version = control.read_object(spec, url, "/version", _ANSWER_S).get("version")
    listed = control.read_object(spec, url, "/v1/models", _ANSWER_S).get("data")
    return identity_from(version, listed, running.served_name, secrets)


def identity_from(version: Any, listed: Any, served_name: str, secrets: Sequence[str] = ()) -> ServerIdentity:
    """The identity from its answers, of any form. Pure."""

    def text(value: Any) -> str | None:
        """One line of a value, masked and truncated."""
        return one_line(cut(str(value), 100, secrets)) if isinstance(value, str | int) else None

    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    own = next((entry for entry in entries if entry.get("id") == served_name), None)
    if own is None:
        return ServerIdentity(text(version), "not served" if entries else None)
    return ServerIdentity(
        text(version), text(served_name), text(own.get("root")), text(own.get("max_model_len"))
    )


def differences(before: ServerIdentity, now: ServerIdentity) -> list[str]:
    """`version was 0.14.1, is 0.15.0`, for each fact that both report and that differs. Pure."""
    later = asdict(now)
    return [
        f"{name} was {value}, is {later[name]}"
        for name, value in asdict(before).items()
        if value is not None and later[name] is not None and later[name] != value
    ]
