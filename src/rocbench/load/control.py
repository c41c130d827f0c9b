"""The block of shared memory between the driver and its workers: int64 cells, each written by one side only.

The driver writes the command and the window's edges; each worker writes its own counters. An edge is
announced before its time, so a worker that still reads it as unset knows that everything received so far
lies before it. The block is small and plain, so that an agent on another host can mirror it.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from enum import IntEnum
from typing import Final

UNSET: Final = 2**62
"""An edge that is not yet announced; later than any stamp."""


class Command(IntEnum):
    """Commands of the driver to the workers."""

    WAIT = 0
    RUN = 1
    DRAIN = 2
    """Send nothing new; let the requests in flight end."""
    ABORT = 3
    """Close everything now and report."""


class Head(IntEnum):
    """Cells that the driver writes."""

    COMMAND = 0
    GO_NS = 1
    """Start time of the users, CLOCK_REALTIME."""
    START_NS = 2
    END_NS = 3


class Count(IntEnum):
    """Cells of one worker."""

    READY = 0
    IN_FLIGHT = 1
    SENT = 2
    COMPLETED = 3
    FAILED = 4
    CONNECT_FAILED = 5
    """Failed requests that reached no server."""
    OUTPUT_TOKENS = 6
    BEGUN = 7
    """Requests that began in the measured window."""
    OUTSTANDING = 8
    """Requests of the window that are in flight or waiting to be sent; exact only once TAIL_SEEN is set."""
    TURNED_OVER = 9
    """Closed loop: users that have ended a request."""
    TTFT_SUM_NS = 10
    TTFT_COUNT = 11
    TPOT_SUM_NS = 12
    TPOT_COUNT = 13
    TAIL_SEEN = 14
    EXHAUSTED = 15
    """Set when no request is left to send: bound by count, or the trace has ended."""
    WAITING = 16
    """Open loop: requests that are due but wait for room."""
    TALKING = 17
    """Requests in flight whose connection is established."""
    BEAT = 18
    """A counter that grows while the worker's loop runs."""
    OVER = 19
    """Set when the worker has left its loop; only its report is missing."""


_HEAD_CELLS = 16
_WORKER_CELLS = 32


class Control:
    """The block: call `create` in the driver, `attach` in a worker that inherited the file descriptor."""

    __slots__ = ("_map", "cells", "fd", "workers")

    def __init__(self, fd: int, workers: int) -> None:
        self.fd = fd
        self.workers = workers
        self._map = mmap.mmap(fd, (_HEAD_CELLS + workers * _WORKER_CELLS) * 8)
        self.cells = memoryview(self._map).cast("q")

    @classmethod
    def create(cls, workers: int) -> Control:
        """Create a block with nothing announced."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("rocbench-control")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, (_HEAD_CELLS + workers * _WORKER_CELLS) * 8)
        control = cls(fd, workers)
        control.cells[Head.START_NS] = control.cells[Head.END_NS] = UNSET
        return control

    def counters(self, worker: int) -> memoryview[int]:
        """The cells of one worker, indexed by `Count`."""
        first = _HEAD_CELLS + worker * _WORKER_CELLS
        return self.cells[first : first + _WORKER_CELLS]

    def total(self, count: Count) -> int:
        """Sum of a counter over all workers."""
        return sum(self.cells[_HEAD_CELLS + count :: _WORKER_CELLS].tolist())

    def close(self) -> None:
        """Release the memory. The map stays until all views of it are gone."""
        self.cells.release()
        os.close(self.fd)
