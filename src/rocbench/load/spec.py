"""The parameters of a load: plain frozen values that can be pickled to a worker, here or on another host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Api = Literal["completions", "chat"]


@dataclass(frozen=True, slots=True)
class Target:
    """The server under load."""

    base_url: str
    """`http://127.0.0.1:8000`, `https://...` or `http://[::1]:8000`; a `/v1` is cut."""
    model: str
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Additional headers of each request; they may hold secrets."""
    insecure: bool = False
    """Accept any TLS certificate."""
    vocab_size: int | None = None
    tokenizer: str | None = None
    """Path of a `tokenizer.json`, or of its folder."""
    special_ids: frozenset[int] = frozenset()
    """Ids never sent, in addition to the tokenizer's own special ids."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Token lengths: all `mean`; uniform in [low, high]; or lognormal with that mean, cut to [low, high]."""

    mean: int
    kind: Literal["fixed", "uniform", "lognormal"] = "fixed"
    low: int | None = None
    high: int | None = None
    sigma: float | None = None
    """Standard deviation of the underlying normal, for lognormal."""


@dataclass(frozen=True, slots=True)
class Images:
    """Synthetic images of each request: real files, each unique."""

    count: int
    width: int
    height: int
    format: Literal["png", "jpeg"] = "jpeg"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Prompts from a JSON file (docs/load.md describes the formats)."""

    path: str
    shape: Literal["prompt", "sharegpt", "trace"] = "prompt"
    multi_turn: bool = False
    """Send all turns of a conversation one after the other, each with the turns before it."""
    skip_bad: bool = False
    """Skip unusable entries and report their number; else an unusable entry ends the load."""


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """The parameters of a request."""

    isl: Lengths
    osl: Lengths
    images: Images | None = None
    dataset: Dataset | None = None
    api: Literal["auto", "completions", "chat"] = "auto"
    """auto: chat with images or a multi-turn dataset, else completions with token ids."""
    shared_prefix_ratio: float = 0.0
    """Share of the prompt that all requests of the cell have in common: the requested cache hit ratio."""
    prompt_pool: int | None = None
    """Number of prompts and images, which requests take in turn; None makes each unique."""
    ignore_eos: bool = True
    temperature: float = 0.0
    extra_body: Mapping[str, object] = field(default_factory=dict)
    """Additional fields of each request's body."""

    @property
    def resolved_api(self) -> Api:
        """The API in use."""
        if self.api != "auto":
            return self.api
        many_turns = self.dataset is not None and self.dataset.multi_turn
        return "chat" if self.images or many_turns else "completions"


@dataclass(frozen=True, slots=True)
class Closed:
    """N users; each sends its next request when its last one has ended."""

    users: int


@dataclass(frozen=True, slots=True)
class Open:
    """Requests sent by the clock, at `rate` per second."""

    rate: float
    arrival: Literal["constant", "poisson", "gamma"] = "poisson"
    burstiness: float = 1.0
    """Shape of the gamma distribution of the gaps: 1 is Poisson, lower is burstier."""
    max_in_flight: int | None = None
    """Due requests beyond it wait; their lateness is in their rows."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests at the timestamps of a file, `speed` times as fast."""

    path: str
    speed: float = 1.0
    unit: Literal["s", "ms"] | None = None
    """Unit of a bare `timestamp`; None derives it from the file's format, and refuses a file whose
    format does not define it."""
    skip_bad: bool = False
    """Skip unusable lines and report their number; else an unusable line ends the load."""


Shape = Closed | Open | Trace


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Rules for the begin and end of the measured window."""

    duration_s: float = 30.0
    """Minimum window length."""
    max_duration_s: float = 1800.0
    """Maximum length of the window, and of the warm-up before it."""
    min_requests_per_user: float = 5.0
    """The window is extended until this many requests per user have begun in it."""
    max_requests: int | None = None
    """Bound by count instead: number of requests in all, every one measured, without warm-up."""
    ramp_s: float | None = None
    """Time over which users start. None: all at once, each with a first answer of random length (unmeasured),
    which spreads them over one request's time."""
    wave: bool = False
    """Start all users at once with full lengths, so that fixed lengths run in one wave."""
    max_tail_s: float | None = None
    """Time for which the load continues after the window for its last requests; None follows the window
    (`load.window`)."""
    max_tail_requests: int | None = None
    """Maximum number of requests sent in that time; None follows the window."""
    max_drain_s: float | None = None
    """Maximum wait for requests then in flight; None: a window (open loop), or a request's maximum time."""


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """The load of one cell."""

    target: Target
    requests: RequestPlan
    shape: Shape
    window: WindowPlan = WindowPlan()
    seed: int = 0
    run_id: str = ""
    cell_id: str = ""
    repeat: int = 0
    transport: Literal["auto", "wire", "aiohttp"] = "auto"
    """auto: wire for plain HTTP on Linux, else aiohttp."""
    workers: int | None = None
    """Worker processes; None follows the calibrated ceiling (docs/load.md)."""
    cpus: tuple[int, ...] | None = None
    """CPUs for the workers, one each in turn; None leaves them to the kernel."""
    keep_stamps: bool = False
    request_timeout_s: float = 600.0
    """Time limit from the send to the last byte."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Values that are masked in the server's text before it is cut."""
    probe: bool = True
    """Test with one short request which body fields the server accepts."""


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a load for a live view. Rates and latencies are of the last interval; None if it had none."""

    phase: Literal["connect", "warm-up", "measure", "tail", "drain"]
    elapsed_s: float
    """Time since the phase began."""
    in_flight: int
    completed: int
    failed: int
    output_tokens: int
    output_tokens_per_s: float | None
    ttft_ms: float | None
    tpot_ms: float | None


@dataclass(frozen=True, slots=True)
class Dialect:
    """The body fields that a server accepts."""

    include_usage: bool = True
    continuous_usage: bool = True
    vllm_fields: bool = True
    """`ignore_eos` and `min_tokens`."""
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The field for the requested answer length."""
    temperature: bool = True
    """False omits it: the server's own sampling applies."""
    token_ids: bool = False
    """`return_token_ids`, requested only if usage does not come with each chunk."""


@dataclass(frozen=True, slots=True)
class TextCost:
    """Cost of text in tokens, learned by the probe: tokens = words * per_word + overhead."""

    per_word: float
    overhead: float
    """The chat template's own tokens."""
    exact: bool
    """True if the formula gives the probe's exact prompt tokens."""


NO_COST = TextCost(per_word=1.0, overhead=0.0, exact=False)
"""Used if nothing was learned: a word counts as a token."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """All parameters of one worker. It can be pickled; a worker may run on another host."""

    load: LoadSpec
    index: int
    workers: int
    transport: Literal["wire", "aiohttp"]
    dialect: Dialect
    addresses: tuple[tuple[int, object], ...]
    """(address family, socket address), the one that answered the probe first."""
    text_cost: TextCost | None = None
    cpu: int | None = None
    parent_pid: int = 0
    """The worker ends itself when its parent is no longer this process; 0 for none."""
