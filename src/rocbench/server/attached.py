"""A server that someone else runs. bench uses it and never stops it."""

from __future__ import annotations

import time

from rocbench import baseurl, processes
from rocbench.errors import InputError, ServerFault
from rocbench.probe import causes
from rocbench.probe.fetch import Answer, TooLarge
from rocbench.processes import ProcessIdentity, ProcessTree
from rocbench.redact import redacted
from rocbench.server import listener
from rocbench.server.control import request
from rocbench.server.launched import Launched
from rocbench.server.secretvalues import of_server
from rocbench.server.spec import ServerSpec, StopReport

REFUSED_S = 1.0
"""Seconds for which an attached server may refuse connections: it is up already, or the URL is wrong."""
LOADING_S = 60.0
"""Seconds for which it, or the gateway in front of it, may answer "not ready"."""
HEALTH, MODELS = "/health", "/v1/models"
LIVENESS = ("/health/liveliness", "/health/live", "/livez")
"""Liveness paths of gateways whose /health asks their models: LiteLLM's and the usual Kubernetes ones."""
_SHORT_BYTES = 64
"""Maximum size of a plain health answer. vLLM's is empty; a gateway that lists deployments has asked them."""
_ANSWER_S = 4.0
_MODELS_S = 10.0
_POLL_S = 0.25
_SEARCHES = 3
"""Number of searches for its processes: a server that is loading does not listen yet."""


def reach(spec: ServerSpec) -> str:
    """Waits briefly for an answer; returns a health path that costs the server nothing.

    `/health` is used only if the server identifies itself as vLLM: a gateway may run its models for it.

    Raises:
        ServerFault: it cannot be reached, or does not serve; the message gives the reason.
        InputError: it expects another key.
    """
    url, began = checked(spec.base_url or ""), time.monotonic()
    while True:
        try:
            path, answer = _first_answer(spec, url)
            if answer.status not in {502, 503, 504}:
                return _free_path(spec, url, path, answer)
            cause, patience = _cause_of(spec, answer, url), LOADING_S
        except OSError as error:
            cause, patience = causes.of_error(error, url), REFUSED_S
        if cause.lasting or time.monotonic() - began > patience:
            raise ServerFault(f"{url}: {cause.what}", fix=cause.fix)
        time.sleep(_POLL_S)


def notes_on(path: str) -> list[str]:
    """Notes on how an attached server's health is checked."""
    if path == HEALTH:
        return []
    return [
        (
            f"bench treats the server as alive while it answers the benchmark's requests or GET {path} (once a second); "
            "bench does not send GET /health, because a gateway may run its models to answer it"
        )
    ]


def _first_answer(spec: ServerSpec, url: str) -> tuple[str, Answer]:
    """The path asked and the answer: health of a server with a /version like vLLM's, else its models."""
    try:
        version = request(spec, url, "/version", _ANSWER_S).json()
        if isinstance(version, dict) and "version" in version:
            return HEALTH, request(spec, url, HEALTH, _ANSWER_S)
    except (TimeoutError, TooLarge):  # a costly path, or not vLLM
        pass
    return MODELS, request(spec, url, MODELS, _ANSWER_S)


def _free_path(spec: ServerSpec, url: str, path: str, answer: Answer) -> str:
    """A path cheap enough for each second: vLLM's health, a gateway's liveness, or the list of models."""
    if path == HEALTH and answer.status == 200 and len(answer.body) <= _SHORT_BYTES:
        return HEALTH
    for liveness in LIVENESS:
        try:
            if request(spec, url, liveness, _ANSWER_S).status == 200:
                return liveness
        except OSError:
            continue
    _check_models(spec, url)
    return MODELS


def checked(base_url: str) -> str:
    """The server's root. Raises InputError if no request can be sent there."""
    baseurl.parse(base_url)
    return baseurl.root_of(base_url)


def models(spec: ServerSpec, url: str) -> Answer:
    """The answer of /v1/models.

    Raises:
        TooLarge, TimeoutError: the answer does not end.
        ServerFault: it does not answer.
        InputError: it expects another key.
    """
    try:
        answer = request(spec, url, MODELS, _MODELS_S)
    except (TooLarge, TimeoutError):
        raise
    except OSError as error:
        cause = causes.of_error(error, url)
        raise ServerFault(f"{url}: {cause.what}", fix=cause.fix) from None
    if answer.status in {401, 403}:
        cause = _cause_of(spec, answer, url)
        raise InputError(f"{url}: {cause.what}", fix=cause.fix)
    return answer


def _check_models(spec: ServerSpec, url: str) -> None:
    """Checks that /v1/models answers, for a server whose /health is not vLLM's."""
    answer = models(spec, url)
    if answer.status == 404:
        raise ServerFault(
            f"{url}/v1/models answers HTTP 404",
            fix="give the URL of an OpenAI-compatible server, without /v1 or anything after it (for example http://HOST:8000)",
        )
    if answer.status != 200:
        cause = _cause_of(spec, answer, url)
        raise ServerFault(f"{url}: {cause.what}", fix=cause.fix)


def _cause_of(spec: ServerSpec, answer: Answer, url: str) -> causes.Cause:
    message = answer.body.decode("utf-8", "replace")
    value = answer.json()
    if isinstance(value, dict):
        error = value.get("error", value.get("message", value.get("detail", message)))
        message = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    return causes.of_status(
        answer.status, redacted(message, of_server(spec)), url, location=answer.headers.get("location", "")
    )


class AttachedServer(Launched):
    """An attached server: bench starts and stops nothing."""

    def __init__(self, spec: ServerSpec) -> None:
        super().__init__(spec)
        self._tree: ProcessTree | None = None
        self._searches_left = _SEARCHES

    def launch(self) -> None:
        """Checks the URL's shape. Raises InputError."""
        self.base_url = checked(self.spec.base_url or "")
        self.spec.folder.mkdir(parents=True, exist_ok=True)

    def processes(self) -> tuple[ProcessIdentity, ...]:
        """Local processes that listen at its URL, and their descendants; none if they are not visible."""
        if self._tree is None and self._searches_left:
            self._searches_left -= 1
            leader = listener.leader_of(self.base_url)
            self._tree = ProcessTree(processes.identity_of(leader)) if leader is not None else None
        return self._tree.refresh() if self._tree else ()

    def stop(self) -> StopReport:
        """Leaves it running."""
        return StopReport("left_running", 0.0)
