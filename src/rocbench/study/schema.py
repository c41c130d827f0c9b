"""The YAML of a study as frozen models: `configs/studies/NAME/study.yaml` and `tables.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rocbench.settings.amounts import Factor, Repeats, Requests, Seconds, Tokens, Users, Variation
from rocbench.settings.schema import VersionText
from rocbench.settings.strict import FolderName, Strict


class Variant(Strict):
    """One vLLM that a method is run on."""

    name: FolderName
    vllm: VersionText | None = None
    """None: the versions that the sweeps name."""
    calibration: str | None = None
    """For predictions and the simulated server; None: the one that the sweeps name."""


class Method(Strict):
    """How a study is measured."""

    what: str
    headline: Literal["output_throughput", "total_token_throughput"]
    """The column that it calls throughput."""
    sweeps: tuple[str, ...]
    """Names of files in `sweeps/`."""
    variants: tuple[Variant, ...]
    by_design: tuple[str, ...] = ()
    """Codes that void rows of this method whatever the server does: to measure such a row again would change nothing."""


class Question(Strict):
    """Something to be decided, and the cells that decide it. A budget takes questions in their order."""

    asks: str
    method: str
    variant: str
    sweep: str
    models: tuple[str, ...] = ()
    """None named is all."""
    workloads: tuple[str, ...] = ()
    concurrency: tuple[Users, ...] = ()
    repeats: Repeats = 1


class Small(Strict):
    """The study reduced, so that it runs on the simulated server in minutes."""

    parts: tuple[str, ...] = ()
    """Parts kept (`corrected-runs-0.14.1`); none named is all."""
    models: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Part to the models kept; a part not named keeps all."""
    concurrency: dict[str, tuple[Users, ...]] = Field(default_factory=dict)
    """Workload to the levels kept; a workload not named is left out."""
    repeats: Repeats = 2
    duration_s: Seconds = 4.0
    min_requests_per_user: float = Field(default=5.0, gt=0, le=1e6)
    divisor: Tokens = 1
    """Prompts (but not images) and answers are shortened by it."""
    speed: Factor = 1.0
    """How many times as fast the simulated server is."""


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


class Curve(Strict):
    """Levels of one model and workload as they were published."""

    page: str
    sweep: str
    model: str
    workload: str
    requests: Requests
    """Requests of a level, at most."""
    aiter: Literal["on", "off"] | None = None
    held_out: bool = False
    """Left out of the fit, and predicted from it."""
    peak: bool = False
    """Only this figure was readable: its level and lengths are inferred."""
    rows: tuple[PublishedRow, ...] = Field(min_length=1)


class Answers(Strict):
    """Answers that end by themselves: lognormal."""

    median: float = Field(gt=0, le=1e8)
    """Tokens."""
    sigma: float = Field(gt=0, le=5)
    why: str = ""


class Tables(Strict):
    """All published tables of a study, and what else of it decides a replay."""

    answers: dict[str, Answers] = Field(default_factory=dict)
    """Model to how long its answers are; those of a model not named end at the limit."""
    run_cv: dict[str, Variation] = Field(default_factory=dict)
    """Model, or `MODEL@aiter=on`, to the coefficient of variation between runs that its tables imply."""
    curves: tuple[Curve, ...]
