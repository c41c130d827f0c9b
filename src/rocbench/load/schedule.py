"""The client side of the reference server: its settings, its start, and the truth that it recorded."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rocbench.errors import EnvironmentFault
from rocbench.load.script import ScriptedFault

SO_TIMESTAMPNS = 35
"""Linux socket option for kernel receive stamps; the socket module has no name for it."""

FAULTS = tuple(ScriptedFault)
"""`Truth.fault` is an index into this, or -1."""

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Settings of the reference server."""

    step_ns: int
    tokens: int = 100
    """Answer length if the request names none."""
    max_running: int = 100_000
    prefill_steps: int = 2
    """Steps between joining the batch and the first token."""
    chunk_tokens: tuple[int, int] = (1, 1)
    """Minimum and maximum tokens of a chunk, drawn for each chunk."""
    continuous_usage: bool = True
    """False imitates a server that sends only the last usage event."""
    final_usage: bool = True
    allow_token_ids: bool = True
    faults: tuple[tuple[ScriptedFault, float], ...] = ()
    """Share of requests that fail in each class."""
    refuse_fields: tuple[str, ...] = ()
    """Body fields that get status 400, as from a strict server."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Truth:
    """Record of the reference server's actions. One entry per request, in order of their ends."""

    ids: npt.NDArray[np.str_]
    """The X-Request-Id header of each request."""
    arrived_ns: Int64Array
    """Kernel receive time of the request's last bytes."""
    prompt_tokens: Int64Array
    fault: npt.NDArray[np.int8]
    chunks: Int64Array
    """Number of sent chunks with tokens."""
    times_ns: Int64Array
    """Write time of each chunk, request after request."""
    sizes: Int64Array
    """Tokens of each chunk, in the same order."""
    steps: Int64Array
    """(steps, 4): due time, begin and end of each step, in ns, and its number of streams."""

    @classmethod
    def fetch(cls, base_url: str) -> Truth:
        """Ask a running reference server."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(base_url + "/truth", timeout=60) as answer:
            arrays = np.load(io.BytesIO(answer.read()))
            return cls(**{name: arrays[name] for name in cls.__slots__})

    @property
    def tokens(self) -> int:
        """Total tokens sent."""
        return int(self.sizes.sum())

    @property
    def starts(self) -> Int64Array:
        """Index in `times_ns` of each request's first chunk."""
        return np.concatenate(([0], np.cumsum(self.chunks)))[:-1].astype(np.int64)

    def ttft_ms(self) -> npt.NDArray[np.float64]:
        """First chunk's write time minus the request's arrival, for requests with a chunk."""
        some = self.chunks > 0
        return (self.times_ns[self.starts[some]] - self.arrived_ns[some]) / 1e6

    def gaps_ms(self) -> npt.NDArray[np.float64]:
        """Gaps between the writes of chunks of the same request."""
        gaps = np.diff(self.times_ns)
        inside = np.ones(len(gaps), dtype=bool)
        borders = self.starts[1:] - 1
        inside[borders[(borders >= 0) & (borders < len(gaps))]] = False
        return gaps[inside] / 1e6


@contextmanager
def serving(arguments: Sequence[str] = ()) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a reference server with command-line `arguments`; give its base URL and process; end it."""
    command = [sys.executable, "-m", "rocbench.load.reference", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline().split()
            if line[:1] != ["ready"]:
                raise EnvironmentFault("the reference server did not start", where=" ".join(command))
            yield f"http://127.0.0.1:{line[1]}", process
        finally:
            process.terminate()
