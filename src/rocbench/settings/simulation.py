"""What a sweep says of the simulated server, and what its plan assumes of a real one."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from rocbench.settings import faults as sim_faults
from rocbench.settings.amounts import Factor, Quantity, Variation, Wait
from rocbench.settings.strict import Strict


class Assume(Strict):
    """What a plan's time estimate assumes until it is measured. Nothing else reads it."""

    load_bytes_per_s: Quantity = 2e9
    """Rate at which a start reads the weights, all ranks together."""
    start_s: Wait = 120.0
    """Seconds of a start beside the weights: engine, compilation, graph capture."""
    efficiency: float = Field(default=0.5, gt=0, le=1)
    """Share of the speed that physics expects of a step."""


class Simulation(Strict):
    """Settings of the simulated server. They never touch a real one."""

    efficiency: float | None = Field(default=None, gt=0, le=1)
    """Share of the physical bound that steps reach; None takes the named calibration's."""
    calibration: str = "default"
    """Named efficiencies of the step times."""
    noise_cv: Variation = 0.0
    """Coefficient of variation of step times."""
    run_cv: Variation = 0.0
    """Coefficient of variation of the whole server's speed, drawn anew after each time it was idle."""
    speed: Factor = 1.0
    """Divide all step times; for tests."""
    load_s: Wait = 1.0
    """Seconds that the model load is made to last."""
    slowdown: Factor = 1.0
    """Multiply all step times: a regression, for the gate's tests."""
    faults: dict[str, dict[str, Any]] = {}
    """Faults of each model's server (fields of `rocbench.settings.faults.Faults`), to test what watches servers."""

    @model_validator(mode="after")
    def _can_be_had(self) -> Simulation:
        for each in self.faults.values():
            sim_faults.check(each)
        return self
