"""A workload (`configs/workloads/*.yaml`): what a request is."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rocbench.settings import amounts, body
from rocbench.settings.amounts import Pixels, Prompts, Tokens
from rocbench.settings.strict import Strict


class Length(Strict):
    """A token length: fixed, uniform or lognormal."""

    kind: Literal["fixed", "uniform", "lognormal"] = "fixed"
    """How lengths are drawn."""
    mean: Tokens
    """Tokens; of `fixed` each one's."""
    low: Tokens | None = None
    """Minimum length."""
    high: Tokens | None = None
    """Maximum length."""
    sigma: float | None = Field(default=None, gt=0, le=5)
    """Standard deviation of the underlying normal, for lognormal."""

    @model_validator(mode="after")
    def _fits_kind(self) -> Length:
        takes = {"fixed": (), "uniform": ("low", "high"), "lognormal": ("low", "high", "sigma")}[self.kind]
        for name in ("low", "high", "sigma"):
            if getattr(self, name) is not None and name not in takes:
                raise ValueError(
                    f"`{name}` has no effect on a {self.kind} length: leave it out or set `kind`"
                )
        low, high = self.low or 1, self.high or self.mean
        if self.kind == "uniform":
            if self.low is None or self.high is None or low > high:
                raise ValueError("a uniform length needs `low` <= `high`")
            if abs(2 * self.mean - low - high) > 1:
                raise ValueError(f"`mean` of a uniform length is (low + high) / 2: {(low + high) / 2:g}")
        if self.kind == "lognormal" and not self.sigma:
            raise ValueError("a lognormal length needs `sigma`")
        if not low <= self.mean <= high:
            raise ValueError("`mean` must lie between `low` and `high`")
        return self


class Images(Strict):
    """Synthetic images, unique and real files."""

    count: amounts.Images
    """In each request."""
    width: Pixels
    """Pixels."""
    height: Pixels
    """Pixels."""
    format: Literal["png", "jpeg"] = "jpeg"
    """File format."""

    @model_validator(mode="after")
    def _fit_into_memory(self) -> Images:
        if (pixels := self.count * self.width * self.height) > amounts.MOST_PIXELS:
            raise ValueError(f"{pixels:,} pixels in one request; {amounts.MOST_PIXELS:,} are the most")
        return self


class Dataset(Strict):
    """Prompts from a file."""

    path: str
    """JSON Lines, or one JSON array; may be packed with gzip."""
    shape: Literal["prompt", "sharegpt", "trace"] = "prompt"
    """What its entries are."""
    multi_turn: bool = False
    """Send all turns of a conversation, each with what came before."""
    skip_bad: bool = False
    """Leave out entries that cannot be used; how many is told. Else one of them stops the plan."""


class Workload(Strict):
    """What one request is."""

    name: str
    """As sweeps name it."""
    isl: Length
    """Text tokens of the prompt; image tokens come on top."""
    osl: Length
    """Output tokens."""
    images: Images | None = None
    """None sends text only."""
    dataset: Dataset | None = None
    """Prompts from a file, in place of random token ids."""
    api: Literal["auto", "completions", "chat"] = "auto"
    """auto: chat with images, else completions with token ids."""
    shared_prefix_ratio: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the prompt that all requests share. 0 unless the prefix cache is what is measured."""
    prompt_pool: Prompts | None = None
    """Take prompts (and images) in turn from so many, as harnesses with a fixed list do; None makes each unique."""
    ignore_eos: bool = True
    """Answers end at their length, not at the model's will."""
    temperature: float = Field(default=0.0, ge=0, le=100)
    """Of sampling; 0 is greedy."""
    extra_body: dict[str, Any] = {}
    """Further fields of each request's body, as the server takes them: `{top_p: 0.9}`."""
    note: str = ""
    """For its reader."""

    @model_validator(mode="after")
    def _can_be_sent(self) -> Workload:
        if self.api == "completions" and self.images is not None:
            raise ValueError("`images` are sent by chat only: leave `api` out, or set it to chat")
        body.check(self.extra_body)
        if self.temperature and "temperature" in self.extra_body:
            raise ValueError("`temperature` stands in `extra_body` too: keep one")
        return self
