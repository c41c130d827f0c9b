"""Faults of the simulated server, for tests of its supervision. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from rocbench.records import Failure
from rocbench.settings.strict import Strict


class Faults(Strict):
    """All off by default. Times are seconds since the server became ready."""

    die_at_load: bool = False
    """Exit with code 1 and vLLM's message while the model loads."""
    hang_at_load: bool = False
    """Never become ready."""
    oom_at_load: str | None = None
    """Exit while the model loads, with this message (an out-of-memory error)."""
    die_after_s: float | None = None
    die_after_requests: int | None = None
    """Exit at once after this number of answered requests."""
    engine_dead_after_s: float | None = None
    """The engine dies: running streams get an error event, new requests 500, health 503; exit after 7 s."""
    health_503_after_s: float | None = None
    health_503_for_s: float = 1e9
    metrics_gone_after_s: float | None = None
    """/metrics answers 404 from this time on."""
    jit_line_after_s: float | None = None
    """Print a line of an AITER build."""
    log_flood_bytes: int = Field(default=0, ge=0, le=1 << 40)
    """Print this number of bytes to the log once ready."""
    fail: dict[Failure, float] = Field(default_factory=dict)
    """Share of requests that fail, by class of failure."""
    orphan: bool = False
    """Start a child that outlives the server, as worker processes outlive a killed API server."""
    slow_stop_s: float = 0.0
    ignore_sigterm: bool = False
    max_running: int | None = Field(default=None, gt=0)
    """Maximum number of running requests; overrides `--max-num-seqs`."""
    wrong_block_size: int | None = None
    """Block size that `cache_config_info` reports."""
    wrong_backend: str | None = None
    """Attention backend that the log names."""
    early_stop_share: float = 0.0
    """Share of requests that end at half their length despite `ignore_eos`."""
    extra_prefix_hits: int = 0
    """Tokens of prefix cache hits added for each request."""
    duplicate_tokens: float = 0.0
    """Share of token events sent twice."""
    miscount_tokens: int = 0
    """Added to usage.completion_tokens."""


def check(faults: Mapping[str, Any]) -> None:
    """Check the names and values of faults.

    Raises:
        ValueError: names the first unknown fault or invalid value.
    """
    try:
        Faults.model_validate(faults)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            raise ValueError(f"the simulated server has no fault `{name}`") from None
        raise ValueError(
            f"the simulated server's fault `{name}` cannot have the value {fault['input']!r:.60}"
        ) from None
