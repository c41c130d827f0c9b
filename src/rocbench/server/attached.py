"""A server that someone else runs: used, never stopped."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from rocbench.errors import InputError
from rocbench.probe.fetch import root_of
from rocbench.server.spec import ProcessIdentity, ServerSpec, StopReport


class AttachedServer:
    """The same face as a server of ours, with nothing behind it to start or stop."""

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self.log_path: Path | None = None
        self.log_start = 0
        self.notes: list[str] = []
        self.image_digest: str | None = None
        self.container = ""
        self.pid: int | None = None
        self.base_url = ""

    def launch(self) -> None:
        """Checks the URL's shape. Raises InputError."""
        if not _is_url(self.spec.base_url or ""):
            raise InputError(
                f"{self.spec.base_url!r} is not the URL of a server",
                where="base_url",
                fix="give scheme, host and port: http://127.0.0.1:8000",
            )
        self.base_url = root_of(self.spec.base_url or "")
        self.spec.folder.mkdir(parents=True, exist_ok=True)

    def exit_code(self) -> int | None:
        """Always None: it is not our child."""
        return None

    def processes(self) -> tuple[ProcessIdentity, ...]:
        """None are known."""
        return ()

    def stop(self) -> StopReport:
        """Leaves it running."""
        return StopReport("left_running", 0.0)


def _is_url(text: str) -> bool:
    """Whether a request can be sent there: http or https, a host, and a port and path as they may be."""
    try:
        url = urlsplit(text)
        (url.hostname or "").encode(
            "idna"
        )  # raises for what is no host's name, as `port` for what is no port
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and url.path.isascii()
    except ValueError:
        return False
