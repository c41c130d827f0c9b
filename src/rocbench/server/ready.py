"""Wait until a server really answers: its process lives, /health is 200, a tiny completion succeeds."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from rocbench.errors import ServerFault
from rocbench.probe.fetch import TooLarge, exchange, read_json
from rocbench.probe.logwatch import LogFollower
from rocbench.redact import cut, redacted
from rocbench.server import attached, control
from rocbench.server.failures import server_fault
from rocbench.server.launched import Launched
from rocbench.server.progress import step_of
from rocbench.server.secretvalues import of_server
from rocbench.server.spec import OnProgress, RunningServer, ServerSpec
from rocbench.units import one_line

_REFRESH_S = 5.0
"""Seconds between searches for new processes of a starting server."""
_DYING_S = 3.0
_HEALTH = "/health"
_POLL_S = 0.25
_PROMPT_IDS = [1000, 1001, 1002, 1003]
"""Prompt ids in all but toy vocabularies; fewer than a KV block holds, so nothing stays cached."""


class _Waiting:
    """One start: its deadline, log and progress, and the checks of every poll."""

    def __init__(self, launched: Launched, on_progress: OnProgress | None) -> None:
        self.launched = launched
        self.spec = launched.spec
        self.began = time.monotonic()
        self.on_progress = on_progress
        self.last_step = ""
        self._refreshed_s = self.began
        self.headers = self.spec.request_headers
        self.secrets = of_server(self.spec)
        self._log = LogFollower(launched.log_path, launched.log_start) if launched.log_path else None

    @property
    def seconds(self) -> float:
        """Seconds since launch."""
        return time.monotonic() - self.began

    def look(self, state: str) -> None:
        """Reports progress; raises ServerFault if the process is gone or the time is over."""
        code = self.launched.exit_code()
        self._report()
        if time.monotonic() - self._refreshed_s > _REFRESH_S:
            # A process seen now is known at the stop, even if its parent is dead by then.
            self.launched.processes()
            self._refreshed_s = time.monotonic()
        if code is not None:
            raise self.fault(
                f"{self.spec.model}: the server died after {self.seconds:.0f} s ({_ending(code)})"
            )
        if self.seconds > self.spec.ready_timeout_s:
            step = f", last step: {self.last_step}" if self.last_step else ""
            raise self.fault(f"{self.spec.model}: {state} after {self.spec.ready_timeout_s:.0f} s{step}")

    def fault(self, what: str) -> ServerFault:
        """The error, with the known cause from the log."""
        return server_fault(what, self.launched.log_path, self.launched.log_start)

    def _report(self) -> None:
        for line in self._log.lines() if self._log else ():
            step = step_of(line)
            if step is not None and (step[0] != self.last_step or step[1] is not None):
                self.last_step = step[0]
                if self.on_progress:
                    self.on_progress(*step)


def wait_until_ready(launched: Launched, on_progress: OnProgress | None = None) -> RunningServer:
    """Polls process and health together, asks for the served models, and makes one completion.

    Raises:
        ServerFault: died, not ready in time, refused the completion, or serves another model.
    """
    waiting = _Waiting(launched, on_progress)
    is_attached = launched.spec.kind == "attached"
    if is_attached:
        health_path = attached.reach(launched.spec)
        launched.notes += attached.notes_on(health_path)
    else:
        health_path = _wait_healthy(waiting)
    models, max_model_len = _models(waiting)
    served = _served_name(waiting.spec, models)
    if not is_attached:  # it is in use already, and its counters must show the load alone
        _complete(waiting, served)
    launched.processes()
    return RunningServer(
        spec=waiting.spec,
        base_url=launched.base_url,
        served_name=served,
        pid=launched.pid,
        log_path=launched.log_path,
        version=_version(waiting),
        ready_s=waiting.seconds,
        max_model_len=max_model_len,
        image_digest=launched.image_digest,
        container=launched.container,
        log_start=launched.log_start,
        health_path=health_path,
        notes=launched.notes,
        exit_code=launched.exit_code,
        processes=launched.processes,
    )


def _wait_healthy(waiting: _Waiting) -> str:
    """Waits for /health, which costs vLLM nothing, and returns the path."""
    while True:
        waiting.look("the server is not healthy")
        try:
            if control.request(waiting.spec, waiting.launched.base_url, _HEALTH, 5.0).status == 200:
                return _HEALTH
        except OSError:
            pass
        time.sleep(_POLL_S)


def _models(waiting: _Waiting) -> tuple[tuple[str, ...], int | None]:
    """Served names, and the max_model_len of the requested one if the server reports it."""
    spec, url = waiting.spec, waiting.launched.base_url
    try:
        answer = (
            attached.models(spec, url)
            if spec.kind == "attached"
            else control.request(spec, url, "/v1/models", 10.0)
        )
    except (TooLarge, TimeoutError) as error:  # the server is up
        waiting.launched.notes.append(f"the server's models are unknown, because /v1/models failed: {error}")
        return (), None
    except OSError as error:
        raise waiting.fault(f"{spec.model}: /v1/models does not answer: {error}") from error
    value = answer.json()
    listed = value.get("data") if isinstance(value, dict) else None
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    matches = [entry for entry in entries if entry.get("id") == spec.served_name] or entries
    length = matches[0].get("max_model_len") if matches else None
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        length = None
    return tuple(str(entry.get("id")) for entry in entries), length


def _served_name(spec: ServerSpec, models: tuple[str, ...]) -> str:
    if not spec.served_name:
        return models[0] if models else spec.model
    if models and spec.served_name not in models:
        names = ", ".join(one_line(redacted(name, of_server(spec)), 100) for name in models[:20])
        raise ServerFault(
            f"the server serves {names}, not {spec.served_name}", fix="give one of these names as the model"
        )
    return spec.served_name


def _version(waiting: _Waiting) -> str | None:
    version = control.read_object(waiting.spec, waiting.launched.base_url, "/version", 5.0).get("version")
    return one_line(version, 100) if isinstance(version, str) else None


def _complete(waiting: _Waiting, model: str) -> None:
    """Makes one tiny streamed completion while watching the process: it may compile kernels for minutes."""
    fields = {"model": model, "max_tokens": 2, "temperature": 0, "stream": True}
    message = {"role": "user", "content": "Hello"}
    attempts: list[tuple[str, dict[str, Any]]] = [
        ("/v1/completions", {**fields, "prompt": _PROMPT_IDS}),
        ("/v1/completions", {**fields, "prompt": "Hello"}),  # toy vocabularies, servers that take no ids
        ("/v1/chat/completions", {**fields, "messages": [message]}),
    ]
    outcome = ""
    for path, body in attempts:
        status, outcome = _attempt(waiting, path, body)
        if status == 200 and not outcome:
            return
        if status == 0:
            _wait_for_exit(waiting)
        if status not in (400, 404, 405, 422):
            break
    waiting.look("the first completion gave no answer")
    raise waiting.fault(f"{waiting.spec.model}: the first completion failed ({outcome})")


def _wait_for_exit(waiting: _Waiting) -> None:
    """Waits briefly for the process to end: a broken connection may be its first sign."""
    deadline = time.monotonic() + _DYING_S
    while time.monotonic() < deadline and waiting.launched.exit_code() is None:
        time.sleep(_POLL_S)


def _attempt(waiting: _Waiting, path: str, body: Mapping[str, Any]) -> tuple[int, str]:
    """(status, "") for a successful completion, else (status or 0, the reason)."""
    result: list[tuple[int, str]] = []

    def attempt() -> None:
        try:
            result.append(_stream(waiting, path, body))
        except OSError as error:
            result.append((0, str(error) or type(error).__name__))

    # In a thread, so that a process that dies or hangs during the request is noticed at once.
    thread = threading.Thread(target=attempt, daemon=True, name="first-completion")
    thread.start()
    while thread.is_alive():
        waiting.look("the first completion gave no answer")
        thread.join(_POLL_S)
    return result[0]


def _stream(waiting: _Waiting, path: str, body: Mapping[str, Any]) -> tuple[int, str]:
    # Longer than the time left: the wait itself ends the attempt, and reports it.
    timeout = max(1.0, waiting.spec.ready_timeout_s - waiting.seconds) + 5.0
    with exchange(
        waiting.launched.base_url,
        path,
        method="POST",
        headers=waiting.headers,
        body=dict(body),
        timeout_s=timeout,
        insecure=waiting.spec.insecure,
    ) as response:
        if response.status != 200:
            text = response.read(2000).decode(errors="replace")
            return response.status, f"HTTP {response.status}: {cut(text, 300, waiting.secrets)}"
        answered = False
        for line in response:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                break
            event = read_json(data)
            if not isinstance(event, dict):
                return (
                    200,
                    f"not a stream of completions: {cut(data.decode(errors='replace'), 200, waiting.secrets)}",
                )
            if "error" in event:
                return 200, cut(str(event["error"]), 300, waiting.secrets)
            answered = answered or bool(event.get("choices"))
        return 200, "" if answered else "an empty stream"


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
