"""The input and the output of the engine. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from rocbench.records import FloatArray


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The scheduler's settings, from the server's flags and memory."""

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    block_size: int
    num_blocks: int
    prefix_caching: bool = True
    chunked_prefill: bool = True
    offload_blocks: int = 0
    """Blocks of the host memory tier, 0 without KV offload."""


@dataclass(slots=True, eq=False)
class Sequence:
    """One request inside the engine. The caller sets the first block of fields, the engine the second."""

    id: int
    prompt_tokens: int
    output_tokens: int
    """Tokens that it will emit; at least 1."""
    hashes: tuple[int, ...] = ()
    """Hashes of the full blocks of prompt and answer, each covering all before it; () for a unique prompt."""
    image_tokens: int = 0
    """Prompt tokens from the vision encoder."""

    arrived_s: float = 0.0
    scheduled_s: float | None = None
    emitted: int = 0
    cached_tokens: int = 0
    """Prompt tokens found in the prefix cache (GPU or host) at the first admission."""
    preemptions: int = 0
    computed: int = 0
    """Tokens whose KV is in the cache; for a decoding sequence, as of the step at which it joined."""
    joined_step: int = 0
    held: list[int] = field(default_factory=list)
    """Hashes of blocks it holds; its other blocks are nameless."""
    named: int = 0
    """Number of `hashes` already checked for `held`."""

    def needed(self) -> int:
        """Tokens to compute before the next token can be emitted."""
        return self.prompt_tokens + self.emitted


@dataclass(slots=True)
class StepOutcome:
    """The effect of one step, or of a run of similar steps, from `started_s` to `started_s + duration_s`."""

    started_s: float
    duration_s: float
    first_step: int
    """Index of the (first) step since the engine's start."""
    decoding: int
    """Number of sequences that emit one token in each step, without those in `prefilled`."""
    preempted: list[Sequence]
    """Sequences that lost their blocks before the step; their last token came with the step before."""
    prefilled: list[Sequence] = field(default_factory=list)
    """Sequences whose prompt is complete; each emits a token."""
    decoders: list[Sequence] = field(default_factory=list)
    """The decoding sequences, if `keep_decoders` is set."""
    finished: list[Sequence] = field(default_factory=list)
    """Sequences that emit their last token at the end."""
    prefill_tokens: int = 0
    steps: int = 1
    durations_s: FloatArray | None = None
    """Each step's duration in a run of several steps."""

    @property
    def ends_s(self) -> float:
        """Time at which its (last) tokens are out."""
        return self.started_s + self.duration_s


@dataclass(slots=True)
class Plan:
    """The prompts' part of a step."""

    chunks: list[tuple[Sequence, int]] = field(default_factory=list)
    image_tokens: int = 0
    loaded_tokens: int = 0
    """Tokens whose KV comes from host memory."""
    preempted: list[Sequence] = field(default_factory=list)


@dataclass(slots=True)
class Counters:
    """Totals since the start, as vLLM's metrics count them."""

    steps: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    external_queries: int = 0
    external_hits: int = 0
    preemptions: int = 0
