"""The YAML of a study as frozen models: `configs/studies/NAME/study.yaml` and `tables.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rocbench.settings.amounts import Factor, Repeats, Requests, Seconds, Tokens, Users, Variation
from rocbench.settings.schema import VersionText
from rocbench.settings.strict import FolderName, Strict


class Variant(Strict):
    """A vLLM version on which a method is run."""

    name: FolderName
    vllm: VersionText | None = None
    """None: the versions that the sweeps name."""
    calibration: str | None = None
    """Calibration of predictions and the simulated server; None: the one that the sweeps name."""


class Method(Strict):
    """A way of measuring a study."""

    what: str
    """Description of the method."""
    headline: Literal["output_throughput", "total_token_throughput"]
    """The column that the method calls throughput."""
    sweeps: tuple[str, ...]
    """Names of files in `sweeps/`."""
    variants: tuple[Variant, ...]
    by_design: tuple[str, ...] = ()
    """Codes that void rows of this method on any server: repeating such a row changes nothing."""


class Question(Strict):
    """A question with the cells that answer it. A budget takes questions in their order."""

    asks: str
    """The question."""
    method: str
    variant: str
    sweep: str
    models: tuple[str, ...] = ()
    """Empty means all models."""
    workloads: tuple[str, ...] = ()
    concurrency: tuple[Users, ...] = ()
    repeats: Repeats = 1


class Small(Strict):
    """The study reduced, so that it runs on the simulated server in minutes."""

    parts: tuple[str, ...] = ()
    """Ids of the parts kept (`corrected-runs-0.14.1`); empty means all."""
    models: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Models kept, by part; a part that is not named keeps all."""
    concurrency: dict[str, tuple[Users, ...]] = Field(default_factory=dict)
    """Levels kept, by workload; a workload that is not named is left out."""
    repeats: Repeats = 2
    duration_s: Seconds = 4.0
    min_requests_per_user: float = Field(default=5.0, gt=0, le=1e6)
    divisor: Tokens = 1
    """Divisor of the lengths of prompts (without images) and answers."""
    speed: Factor = 1.0
    """Speed of the simulated server, as a factor."""


class Study(Strict):
    """A study: its methods and questions."""

    name: str
    title: str
    source: str
    methods: dict[str, Method]
    questions: tuple[Question, ...] = ()
    small: Small = Small()


PublishedRow = tuple[int, float, float | None, float | None]
"""Users, total tokens/s, output tokens/s, p99 E2EL in s."""


class PublishedCurve(Strict):
    """Published levels of one model and workload."""

    page: str
    sweep: str
    model: str
    workload: str
    requests: Requests
    """Maximum number of requests of a level."""
    aiter: Literal["on", "off"] | None = None
    held_out: bool = False
    """True if the curve is left out of the fit and predicted from it."""
    peak: bool = False
    """True if only the peak was readable; its level and lengths are inferred."""
    rows: tuple[PublishedRow, ...] = Field(min_length=1)


class Answers(Strict):
    """Lengths of answers that end by themselves, lognormal."""

    median: float = Field(gt=0, le=1e8)
    """Tokens."""
    sigma: float = Field(gt=0, le=5)
    why: str = ""


class Tables(Strict):
    """All published tables of a study, and other facts that a replay needs."""

    answers: dict[str, Answers] = Field(default_factory=dict)
    """Answer lengths by model; answers of other models end at the limit."""
    run_cv: dict[str, Variation] = Field(default_factory=dict)
    """Coefficient of variation between runs that the tables imply, by model or `MODEL@aiter=on`."""
    curves: tuple[PublishedCurve, ...]
