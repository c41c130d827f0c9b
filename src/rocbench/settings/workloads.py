"""Workloads (`configs/workloads/*.yaml`): the content of a request."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rocbench.settings import amounts, body
from rocbench.settings.amounts import Pixels, Prompts, Tokens
from rocbench.settings.strict import Strict


class Length(Strict):
    """Length in tokens: fixed, uniform or lognormal."""

    kind: Literal["fixed", "uniform", "lognormal"] = "fixed"
    """Distribution of the lengths."""
    mean: Tokens
    """Mean length, in tokens; with `fixed` the length of every request."""
    low: Tokens | None = None
    """Minimum length, in tokens."""
    high: Tokens | None = None
    """Maximum length, in tokens."""
    sigma: float | None = Field(default=None, gt=0, le=5)
    """Standard deviation of the logarithm, for lognormal."""

    @model_validator(mode="after")
    def _fits_kind(self) -> Length:
        takes = {"fixed": (), "uniform": ("low", "high"), "lognormal": ("low", "high", "sigma")}[self.kind]
        for name in ("low", "high", "sigma"):
            if getattr(self, name) is not None and name not in takes:
                raise ValueError(
                    f"`{name}` has no effect on a {self.kind} length: remove it, or change `kind`"
                )
        low, high = self.low or 1, self.high or self.mean
        if self.kind == "uniform":
            if self.low is None or self.high is None or low > high:
                raise ValueError("a uniform length needs `low` <= `high`")
            if abs(2 * self.mean - low - high) > 1:
                raise ValueError(f"`mean` of a uniform length must be (low + high) / 2: {(low + high) / 2:g}")
        if self.kind == "lognormal" and not self.sigma:
            raise ValueError("a lognormal length needs `sigma`")
        if not low <= self.mean <= high:
            raise ValueError("`mean` must be between `low` and `high`")
        return self


class Images(Strict):
    """Synthetic images. Each is unique, and a real PNG or JPEG file."""

    count: amounts.Images
    """Number of images in each request."""
    width: Pixels
    """Width, in pixels."""
    height: Pixels
    """Height, in pixels."""
    format: Literal["png", "jpeg"] = "jpeg"
    """File format."""

    @model_validator(mode="after")
    def _fit_into_memory(self) -> Images:
        if (pixels := self.count * self.width * self.height) > amounts.MOST_PIXELS:
            raise ValueError(
                f"the images of one request have {pixels:,} pixels; at most {amounts.MOST_PIXELS:,} are allowed"
            )
        return self


class Dataset(Strict):
    """Prompts from a file."""

    path: str
    """File with JSON Lines or one JSON array; may be compressed with gzip."""
    shape: Literal["prompt", "sharegpt", "trace"] = "prompt"
    """Form of the entries."""
    multi_turn: bool = False
    """Send all turns of a conversation, each with the earlier turns."""
    skip_bad: bool = False
    """Skip entries that cannot be used, and report their number. Otherwise such an entry stops the plan."""


class Workload(Strict):
    """Content of one request."""

    name: str
    """Name of the workload, as in sweeps."""
    isl: Length
    """Input length: text tokens of the prompt. Image tokens are added to it."""
    osl: Length
    """Output length."""
    images: Images | None = None
    """Images of each request. None: text only."""
    dataset: Dataset | None = None
    """Prompts from a file, instead of random token ids."""
    api: Literal["auto", "completions", "chat"] = "auto"
    """API of the requests. auto: chat with images, otherwise completions with token ids."""
    shared_prefix_ratio: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the prompt that is the same in all requests. Set it only to measure the prefix cache."""
    prompt_pool: Prompts | None = None
    """Number of different prompts (with images), sent in turn, as in tools with a fixed list. None: every prompt is unique."""
    ignore_eos: bool = True
    """Answers end at their output length, not at an end-of-sequence token."""
    temperature: float = Field(default=0.0, ge=0, le=100)
    """Sampling temperature; 0 is greedy."""
    extra_body: dict[str, Any] = {}
    """Additional fields of each request's body: `{top_p: 0.9}`."""
    note: str = ""
    """Note for readers of the file."""

    @model_validator(mode="after")
    def _can_be_sent(self) -> Workload:
        if self.api == "completions" and self.images is not None:
            raise ValueError("`images` need the chat API: remove `api`, or set `api: chat`")
        body.check(self.extra_body)
        if self.temperature and "temperature" in self.extra_body:
            raise ValueError("`temperature` is also in `extra_body`: remove one of the two")
        return self
