"""The client side of the reference server: its start, and the record of its times."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from rocbench.errors import EnvironmentFault
from rocbench.records import Int64Array


@dataclass(frozen=True)
class ServerRecord:
    """Times of the reference server's actions. One entry per request, in order of their ends."""

    ids: npt.NDArray[np.str_]
    """The X-Request-Id header of each request."""
    arrived_ns: Int64Array
    """Kernel receive time of the request's last bytes."""
    chunks: Int64Array
    """Number of sent chunks with tokens."""
    times_ns: Int64Array
    """Write time of each chunk, request after request."""
    steps: Int64Array
    """(steps, 4): due time, begin and end of each step, in ns, and its number of streams."""

    @classmethod
    def fetch(cls, base_url: str) -> Self:
        """Ask a running reference server."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(base_url + "/record", timeout=60) as answer:
            arrays = np.load(io.BytesIO(answer.read()))
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    @property
    def starts(self) -> Int64Array:
        """Index in `times_ns` of each request's first chunk."""
        return np.concatenate(([0], np.cumsum(self.chunks)))[:-1].astype(np.int64)


@contextmanager
def serving(
    arguments: Sequence[str], program: Sequence[str] = ("-m", "rocbench.load.reference")
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a reference server; give its base URL and process; end it.

    Args:
        arguments: of its command line.
        program: arguments of Python that name it.
    """
    command = [sys.executable, *program, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline().split()
            if line[:1] != ["ready"]:
                raise EnvironmentFault("the reference server did not start", where=" ".join(command))
            yield f"http://127.0.0.1:{line[1]}", process
        finally:
            process.terminate()
