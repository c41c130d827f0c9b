"""What a load is: plain frozen values that can be pickled to a worker, here or on another host."""

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
    """Further headers of each request; they may hold secrets."""
    insecure: bool = False
    """Take any TLS certificate."""
    vocab_size: int | None = None
    tokenizer: str | None = None
    """Path of a `tokenizer.json`, or of the folder that holds it."""
    special_ids: frozenset[int] = frozenset()
    """Ids never sent, beside those that the tokenizer itself calls special."""


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
    """Prompts from a file of JSON (docs/load.md has the shapes)."""

    path: str
    shape: Literal["prompt", "sharegpt", "trace"] = "prompt"
    multi_turn: bool = False
    """Send all turns of a conversation one after the other, each with what came before."""
    skip_bad: bool = False
    """Leave out entries that cannot be used, and tell how many; else one of them ends the load."""


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """What one request is."""

    isl: Lengths
    osl: Lengths
    images: Images | None = None
    dataset: Dataset | None = None
    api: Literal["auto", "completions", "chat"] = "auto"
    """auto: chat with images or a multi-turn dataset, else completions with token ids."""
    shared_prefix_ratio: float = 0.0
    """Share of the prompt that all requests of the cell have in common: the cache hit ratio asked for."""
    prompt_pool: int | None = None
    """Prompts and images are taken in turn from so many; None makes each unique."""
    ignore_eos: bool = True
    temperature: float = 0.0
    extra_body: Mapping[str, object] = field(default_factory=dict)
    """Further fields of each request's body."""

    @property
    def resolved_api(self) -> Api:
        """The API that is really used."""
        if self.api != "auto":
            return self.api
        many_turns = self.dataset is not None and self.dataset.multi_turn
        return "chat" if self.images or many_turns else "completions"


@dataclass(frozen=True, slots=True)
class Closed:
    """N users; each sends its next request when the last has ended."""

    users: int


@dataclass(frozen=True, slots=True)
class Open:
    """Requests sent by the clock, at `rate` per second."""

    rate: float
    arrival: Literal["constant", "poisson", "gamma"] = "poisson"
    burstiness: float = 1.0
    """Shape of the gamma distribution of the gaps: 1 is Poisson, lower is burstier."""
    max_in_flight: int | None = None
    """Requests due beyond it wait; their lateness is in their rows."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests at the timestamps of a file, `speed` times as fast."""

    path: str
    speed: float = 1.0
    unit: Literal["s", "ms"] | None = None
    """Of a bare `timestamp`; None takes what the file's form tells, and refuses it where that tells nothing."""
    skip_bad: bool = False
    """Leave out lines that cannot be used, and tell how many; else one of them ends the load."""


Shape = Closed | Open | Trace


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """When the measured window begins and ends."""

    duration_s: float = 30.0
    """Minimum window length."""
    max_duration_s: float = 1800.0
    """Maximum length of the window, and of the warm-up before it."""
    min_requests_per_user: float = 5.0
    """The window is extended until this many requests per user have begun in it."""
    max_requests: int | None = None
    """Bound by count instead: so many requests in all, every one measured, without warm-up."""
    ramp_s: float | None = None
    """Users start over so many seconds. None: all at once, each with a first answer of random length (unmeasured),
    which spreads them over one request's time."""
    wave: bool = False
    """Start all at once with full lengths, so that fixed lengths march in one wave."""
    max_tail_s: float | None = None
    """How long the load is kept up after the window for its last requests; None follows the window (`load.rule`)."""
    max_tail_requests: int | None = None
    """How many requests are sent for that; None follows the window."""
    max_drain_s: float | None = None
    """How long is waited for what is then in flight; None: a window (open loop), or as long as a request may take."""


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """One cell's load."""

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
    """From sent to the last byte."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Values that are masked in the words of the server before they are cut."""
    probe: bool = True
    """Ask the server first, with one short request, which body fields it takes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a load stands, for a live view. Rates and latencies are of the last interval; None if it had none."""

    phase: Literal["connect", "warm-up", "measure", "tail", "drain"]
    elapsed_s: float
    """Since the phase began."""
    in_flight: int
    completed: int
    failed: int
    output_tokens: int
    output_tokens_per_s: float | None
    ttft_ms: float | None
    tpot_ms: float | None


@dataclass(frozen=True, slots=True)
class Dialect:
    """The body fields that a server takes."""

    include_usage: bool = True
    continuous_usage: bool = True
    vllm_fields: bool = True
    """`ignore_eos` and `min_tokens`."""
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the answer's length is asked for by."""
    temperature: bool = True
    """False sends none: the server's own sampling holds."""
    token_ids: bool = False
    """`return_token_ids`, asked for only where usage does not come with each chunk."""


@dataclass(frozen=True, slots=True)
class TextCost:
    """What text costs in tokens, learned by the probe: tokens = words * per_word + overhead."""

    per_word: float
    overhead: float
    """The chat template's own tokens."""
    exact: bool
    """The probe's prompt tokens fit the formula to the token."""


NO_COST = TextCost(per_word=1.0, overhead=0.0, exact=False)
"""Nothing learned: a word is taken for a token."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Everything one worker needs. It can be pickled; a worker may run on another host."""

    load: LoadSpec
    index: int
    workers: int
    transport: Literal["wire", "aiohttp"]
    dialect: Dialect
    addresses: tuple[tuple[int, object], ...]
    """(address family, socket address), the one that answered first."""
    text_cost: TextCost | None = None
    cpu: int | None = None
    parent_pid: int = 0
    """The worker ends itself when this process is no longer its parent; 0 for none."""
