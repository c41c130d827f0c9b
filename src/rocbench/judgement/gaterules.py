"""gate.yaml: the rules of a gate. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from rocbench.columns import CELLS
from rocbench.judgement.slo import COMPARISONS, Limit
from rocbench.judgement.verdicts import ALPHA
from rocbench.settings.goals import Change, Result
from rocbench.settings.strict import Strict

_LIMIT = re.compile(rf"^\s*(\w+)\s*({'|'.join(COMPARISONS)})\s*([-+0-9.eE]+)\s*$")
Where = dict[str, Any]


class RelativeRule(Strict):
    """Maximum loss of a metric against the baseline."""

    metric: Result
    worse_by: Change = 0.05
    where: Where = Field(default_factory=dict)
    """Mapping of columns to a value or a list of values; empty means every cell."""


class LimitRule(Strict):
    """A limit that a metric must meet: `p99_ttft_ms <= 2000`."""

    limit: str
    where: Where = Field(default_factory=dict)

    @field_validator("limit")
    @classmethod
    def _can_be_read(cls, text: str) -> str:
        parse_limit(text)
        return text


def _from_text(rule: Any) -> Any:
    """A limit without `where` is text alone."""
    return {"limit": rule} if isinstance(rule, str) else rule


class GateRules(Strict):
    """gate.yaml."""

    alpha: float = Field(default=ALPHA, gt=0, lt=1)
    method: str | None = None
    """Has no effect any more; accepted in older files."""
    looks: int = Field(default=1, ge=1, le=1000)
    """Number of times that a run is judged as its repeats come; each look spends alpha / looks."""
    cannot_tell: Literal["report", "pass", "fail"] = "report"
    """Effect of "cannot tell" on the exit code: 3, 0 or 1."""
    allow: tuple[str, ...] = ()
    """Guards that may differ from the baseline's (see docs/statistics.md)."""
    relative: tuple[RelativeRule, ...] = (
        RelativeRule(metric="output_throughput", worse_by=0.05),
        RelativeRule(metric="median_tpot_ms", worse_by=0.05),
        RelativeRule(metric="median_ttft_ms", worse_by=0.10),
    )
    limits: tuple[Annotated[LimitRule, BeforeValidator(_from_text)], ...] = ()

    @model_validator(mode="after")
    def _checks_something(self) -> GateRules:
        if not self.relative and not self.limits:
            raise ValueError("no rule under `relative` or `limits`, so the gate would check nothing")
        return self


def parse_limit(text: str) -> Limit:
    """`p99_ttft_ms <= 2000` as a Limit.

    Raises:
        ValueError: the text is not a limit, or does not name a column.
    """
    match = _LIMIT.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a limit such as 'p99_ttft_ms <= 2000'")
    if match[1] not in {column.name for column in CELLS}:
        raise ValueError(f"{match[1]!r} is not a column of cells; see docs/results.md")
    return Limit(match[1], match[2], float(match[3]))  # type: ignore[arg-type]
