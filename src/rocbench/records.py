"""The records of a load. The load generator and the simulator write them; all other code only reads them.

One `LoadResult` is the result of one cell's load: a row per request (`REQUEST_DTYPE`), histograms of the gaps
between tokens, counts in the measured window, and the client's measurements of itself.

All timestamps are int64 nanoseconds of CLOCK_REALTIME; `NONE` (-1) means absent. Absent is not zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag, StrEnum

import numpy as np
import numpy.typing as npt

SCHEMA_VERSION = 2
"""1: first form. 2: `resent`; a request that was cut has a row without an end."""

NONE = -1
"""Absent, in every integer field of a request row."""


class Phase(IntEnum):
    """The phase of the load in which a request began."""

    WARMUP = 0
    MEASURED = 1
    TAIL = 2
    """Began after the window's end, sent only to keep the load full."""


class Failure(StrEnum):
    """The class of a request that did not complete; each failed request has one."""

    HTTP_STATUS = "http_status"
    IN_BAND_ERROR = "in_band_error"
    TRUNCATED = "truncated"
    RESET = "reset"
    TIMEOUT = "timeout"
    BAD_JSON = "bad_json"
    EARLY_STOP = "early_stop"
    CONNECT = "connect"
    ABORTED = "aborted"
    TOO_LARGE = "too_large"
    """The answer, its head or one of its events exceeds the maximum size; the rest was not read."""


class Resend(StrEnum):
    """The end of the kept-alive connection on which a request was sent first, before the first byte of its answer."""

    RESET = "reset"
    """The connection was reset: the server may have read the request."""
    CLOSED = "closed"
    """The connection was closed in order: the server may have read the request."""
    UNREAD = "unread"
    """The server had closed the connection before the request arrived: its kernel discarded the request."""


RESENDS = tuple(Resend)
"""`resent` in a request row is an index into this, or NONE for a request that was sent once."""

FAILURES = tuple(Failure)
"""`failure` in a request row is an index into this, or NONE for a completed request."""


class Doubt(IntFlag):
    """Contradictions in a completed answer."""

    USAGE = 1
    """Token counts and text contradict each other."""
    ONE_PIECE = 2
    """The whole answer came at once."""
    UNKNOWN_TEXT = 4
    """Text came under an unknown field name, and has no timestamp."""
    END = 8
    """The finish reason is missing or unknown."""


BURST_EVENTS = 4
BURST_TOKENS = 16
"""Minimum events, or tokens in fewer events (speculative decoding sends several at once), to decide if an
answer came in one piece.
"""

REQUEST_DTYPE = np.dtype(
    [
        ("request_id", "i8"),  # unique within the cell and repeat
        ("worker", "i2"),
        ("user", "i4"),  # the closed-loop user, NONE under open loop
        ("turn", "i2"),  # index in its conversation, 0 for single-turn
        ("phase", "i1"),  # Phase
        ("intended_ns", "i8"),  # planned send (open loop); equals sent_ns under closed loop
        ("sent_ns", "i8"),  # read last before the first write, of the first attempt; NONE: never sent
        ("first_chunk_ns", "i8"),  # first SSE event of any kind (ttfc)
        ("first_token_ns", "i8"),  # first text, reasoning or tool delta, or counted token without text
        ("last_token_ns", "i8"),
        ("end_ns", "i8"),  # last byte of the answer, or when the failure was known; NONE: cut by the client
        ("isl_asked", "i4"),  # prompt tokens sent (text only); NONE where text was sent, not ids
        ("osl_asked", "i4"),
        ("prompt_tokens", "i4"),  # usage.prompt_tokens
        ("output_tokens", "i4"),  # usage.completion_tokens, else token_ids; NONE if neither came
        ("image_tokens", "i4"),  # usage details, else prompt_tokens - isl_asked; NONE without images
        ("cached_tokens", "i4"),  # usage.prompt_tokens_details.cached_tokens
        ("images", "i2"),  # images sent
        ("chunks", "i4"),  # SSE events that carried tokens
        ("zero_gaps", "i4"),  # token gaps of less than 0.1 ms between chunks
        (
            "coalesced",
            "i4",
        ),  # token events with the same timestamp as another, because they were read at once
        ("http_status", "i2"),
        ("failure", "i1"),  # index into FAILURES, or NONE
        ("resent", "i1"),  # index into RESENDS, or NONE
        ("first_tokens", "i4"),  # tokens in the first event that carried some; 0 if unknown
        ("doubts", "i1"),  # Doubt
    ]
)

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
RequestArray = npt.NDArray[np.void]


def completed(rows: RequestArray) -> BoolArray:
    """True for each request that completed: it has an end and no failure."""
    mask: BoolArray = (rows["end_ns"] != NONE) & (rows["failure"] == NONE)
    return mask


def in_flight_spans(
    sent_ns: Int64Array, end_ns: Int64Array, start_ns: int, stop_ns: int
) -> tuple[Int64Array, Int64Array]:
    """Begin and end of each request's time in flight within [start, stop), of those that have any.

    A request without an end (NONE) stays in flight; one never sent (NONE) is never in flight.
    """
    sent, ended = sent_ns[sent_ns != NONE], end_ns[sent_ns != NONE]
    begin = np.clip(sent, start_ns, stop_ns)
    end = np.clip(np.where(ended == NONE, stop_ns, ended), start_ns, stop_ns)
    inside = end > begin
    return begin[inside], end[inside]


@dataclass(slots=True)
class Histogram:
    """Counts on a logarithmic grid from 1 us to 10,000 s, relative width 0.1 %; values under 1 us in bin 0.

    Memory is bounded for any number of tokens. `add` takes nanoseconds.
    """

    counts: Int64Array = field(default_factory=lambda: np.zeros(Histogram.bins(), dtype=np.int64))
    total: int = 0
    sum_ns: int = 0

    @staticmethod
    def bins() -> int:
        """Number of bins: ln(1e13 / 1e3) / ln(1.001), and one for what is below."""
        return int(np.ceil(np.log(1e13 / 1e3) / np.log(1.001))) + 2

    @staticmethod
    def bin_of(gaps_ns: npt.NDArray[np.int64]) -> Int64Array:
        """Return the bin index of each gap in ns."""
        scaled = np.log(np.maximum(gaps_ns, 1) / 1e3) / np.log(1.001)
        bins: Int64Array = np.clip(np.floor(scaled).astype(np.int64) + 1, 0, Histogram.bins() - 1)
        return bins

    def add(self, gaps_ns: npt.NDArray[np.int64], weights: npt.NDArray[np.int64] | None = None) -> None:
        """Count gaps (ns); `weights` is the number of tokens of each gap."""
        if not len(gaps_ns):
            return
        if weights is None:
            self.counts += np.bincount(self.bin_of(gaps_ns), minlength=self.bins())
            self.total += len(gaps_ns)
            self.sum_ns += int(gaps_ns.sum())
        else:
            bins = np.bincount(self.bin_of(gaps_ns), weights=weights, minlength=self.bins())
            self.counts += bins.astype(np.int64)
            self.total += int(weights.sum())
            self.sum_ns += int((gaps_ns * weights).sum())

    def merge(self, other: Histogram) -> None:
        """Add another histogram's counts to this one."""
        self.counts += other.counts
        self.total += other.total
        self.sum_ns += other.sum_ns

    def mean_ns(self) -> float:
        """Return the exact mean in ns; NaN when empty."""
        return self.sum_ns / self.total if self.total else float("nan")

    def percentile_ns(self, q: float) -> float:
        """Return the q-th percentile (0 to 100) in ns, at the middle of its bin; NaN when empty."""
        if not self.total:
            return float("nan")
        rank = max(1, int(np.ceil(q / 100 * self.total)))
        index = int(np.searchsorted(np.cumsum(self.counts), rank))
        return self.middle_ns(index)

    @staticmethod
    def middle_ns(index: int) -> float:
        """Return the middle of a bin in ns; 0 for the bin of values under 1 us."""
        return 1e3 * 1.001 ** (index - 0.5) if index else 0.0


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """A load worker's measurements of itself, over the measured window."""

    worker: int
    host: str
    cpu_s: float
    wall_s: float
    longest_pause_ms: float
    """Maximum time between two polls, without reads or sends."""
    connections_opened: int
    reads: int
    coalesced_reads: int
    """Reads with more than one token event, which have one timestamp."""
    tokens: int
    cpu_wait_s: float | None = None
    """Time runnable but not running (second figure of /proc/thread-self/schedstat), over the same wall time."""
    idle_closes: int = 0
    """Kept-alive connections that the server closed before their next request."""


@dataclass(frozen=True, slots=True)
class LoadHost:
    """A host of the load other than the driver's."""

    name: str
    workers: int
    clock_offset_ms: float
    """Lead of its clock over the driver's."""
    clock_bound_ms: float
    """Error bound of the offset, including drift during the load."""
    silence_ms: float
    """The longest time without a message to it."""


@dataclass(frozen=True, slots=True)
class Window:
    """The measured window, [start, end) in ns of CLOCK_REALTIME, and the reason of its end."""

    start_ns: int
    end_ns: int
    ended_by: str
    """`duration`, `requests`, `count`, `max_duration`, `interrupted`, `server_died`, `server_unresponsive`, or
    `never_began`."""

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(slots=True)
class LoadResult:
    """The result of one cell's load."""

    requests: RequestArray
    """REQUEST_DTYPE, every request of every phase, in order of sent_ns."""
    errors: dict[int, str]
    """request_id to message, for failed requests (each cut to 500 characters)."""
    window: Window
    itl: Histogram
    """Gaps between tokens, weighted by tokens, of completed requests that began in the window."""
    icl: Histogram
    """Gaps between chunks that carried tokens, of the same requests."""
    output_tokens_in_window: int
    """Tokens of completed and failed requests with timestamps in the window, whenever the request began."""
    input_tokens_in_window: int
    """Prompt tokens without image tokens, of requests whose first token is in the window."""
    image_tokens_in_window: int
    tokens_per_second: Int64Array
    """Output tokens in each whole second of the window, for the check of steadiness."""
    concurrency_asked: int | None
    transport: str
    """`wire` (kernel timestamps) or `aiohttp` (user-space timestamps)."""
    workers: tuple[WorkerStats, ...]
    clock_step_ns: int
    """Largest change of (realtime - monotonic) seen over the run."""
    open_file_limit: int
    notes: tuple[str, ...] = ()
    stamps: dict[int, Int64Array] | None = None
    """request_id to token timestamps (ns), only with `keep_stamps`."""
    hosts: tuple[LoadHost, ...] = ()
    """Hosts that sent the load; empty if only the driver's host did."""
    rate_asked: float | None = None
    """Open loop: requested requests/s."""
    osl_mean: float | None = None
    """Mean output tokens of the lengths that requests are drawn from; None if unknown."""
    silences: Int64Array | None = None
    """(n, 2): start and end of each period in the window longer than 100 ms without a token in any stream."""


@dataclass(frozen=True, slots=True)
class ServerSample:
    """One reading of the server's /metrics: vLLM's names without the `vllm:` prefix, sums over engines."""

    at_ns: int
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One reading of one GPU. None if the tool reported N/A."""

    at_ns: int
    gpu: int
    power_w: float | None = None
    energy_j: float | None = None
    temperature_hotspot_c: float | None = None
    temperature_memory_c: float | None = None
    clock_mhz: float | None = None
    vram_used_bytes: int | None = None
    activity: float | None = None
    throttled: bool | None = None
    ecc_uncorrectable: int | None = None
    socket: int | None = None
    """Lowest GPU of the socket among those that the server uses; only this one has the socket's power and
    energy. None if each GPU is a socket, or sockets are unknown.
    """
