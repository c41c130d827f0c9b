"""What a node is told and what it tells. Plain values that can be pickled; both sides run the same version."""

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
    """How many nodes have tried before."""
    version: str
    """rocbench's, on the side that sends."""
    run_id: str
    plan: Plan
    client: ClientOptions
    overrides: Overrides
    names: dict[str, str] = field(default_factory=dict)
    """Ray id of a node to its name."""
    rows: tuple[Row, ...] = ()
    servers: tuple[str, ...] = ()
    late: frozenset[Key] = frozenset()
    """What is measured after everything else."""
    reap: bool = False
    despite_doctor: bool = False
    shown: str = ""
    """Variables that are listed on the side that sends, beside those that always are (`variables.show_more`)."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A node has begun: which, and what it is."""

    node: str
    manifest: dict[str, Any]
    """Its facts (probe.environment) and the outcome of its doctor."""


@dataclass(frozen=True, slots=True)
class Line:
    """What it is doing, for the live view."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something to know."""

    text: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement that is on the node's disk."""

    identity: Identity
    row: Row
    parts: dict[str, pa.Table]


@dataclass(frozen=True, slots=True)
class NodeEnded:
    """The node has ended, by itself."""

    error: BenchError | None
    servers: bytes
    """servers/ as a tar archive."""
    events: tuple[dict[str, Any], ...]
    """Its log."""


Word = Begun | Line | Note | Measured | NodeEnded


@dataclass(frozen=True, slots=True)
class Envelope:
    """A word and who says it."""

    piece: str
    attempt: int
    word: Word
