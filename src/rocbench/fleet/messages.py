"""Messages to and from a node. Plain values that can be pickled; both sides run the same version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from rocbench.conduct.bind import ClientOptions
from rocbench.errors import BenchError
from rocbench.plan.expand import Overrides, Plan
from rocbench.tables.parts import Identity
from rocbench.tables.row import Key, Row


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of a plan that one node runs."""

    piece: str
    attempt: int
    """Number of nodes that have tried before."""
    version: str
    """rocbench's version on the sending side."""
    run_id: str
    plan: Plan
    client: ClientOptions
    overrides: Overrides
    names: dict[str, str] = field(default_factory=dict)
    """Names of nodes by Ray id."""
    rows: tuple[Row, ...] = ()
    servers: tuple[str, ...] = ()
    late: frozenset[Key] = frozenset()
    """Measurements that run after all others."""
    reap: bool = False
    despite_doctor: bool = False
    shown: str = ""
    """Variables listed on the sending side, in addition to those that always are (`variables.show_more`)."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A node has begun: its name and its facts."""

    node: str
    manifest: dict[str, Any]
    """Its facts (probe.environment) and the outcome of its doctor."""


@dataclass(frozen=True, slots=True)
class Line:
    """The node's current activity, for the live view."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """A note for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement that is on the node's disk."""

    identity: Identity
    row: Row
    parts: dict[str, pa.Table]


@dataclass(frozen=True, slots=True)
class NodeEnded:
    """The node has ended its work."""

    error: BenchError | None
    servers: bytes
    """servers/ as a tar archive."""
    events: tuple[dict[str, Any], ...]
    """Its log."""


Message = Begun | Line | Note | Measured | NodeEnded


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message, and the piece and attempt that sent it."""

    piece: str
    attempt: int
    message: Message
