"""Settings of the simulated server, and assumptions of a plan about a real one."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from rocbench.settings import faults as sim_faults
from rocbench.settings.amounts import Factor, Quantity, Variation, Wait
from rocbench.settings.strict import Strict


class Assume(Strict):
    """Assumptions of a plan's time estimate. Nothing else uses them."""

    load_bytes_per_s: Quantity = 2e9
    """Rate at which a server start reads the weights, in bytes/s, all ranks together."""
    start_s: Wait = 120.0
    """Time of a server start without the weights, in seconds: engine, compilation, graph capture."""
    efficiency: float = Field(default=0.5, gt=0, le=1)
    """Speed of a step as a share of the speed that the physics expects."""


class Simulation(Strict):
    """Settings of the simulated server. They do not affect a real server."""

    efficiency: float | None = Field(default=None, gt=0, le=1)
    """Share of the physical bound that steps reach. None: as in `calibration`."""
    calibration: str = "default"
    """Name of the calibration: the efficiencies of step times."""
    noise_cv: Variation = 0.0
    """Coefficient of variation of step times."""
    run_cv: Variation = 0.0
    """Coefficient of variation of the server's overall speed. A new speed is drawn after each idle period."""
    speed: Factor = 1.0
    """Divide all step times by this factor; for tests."""
    load_s: Wait = 1.0
    """Time of the model load, in seconds."""
    slowdown: Factor = 1.0
    """Multiply all step times by this factor, as a regression would; for tests of the gate."""
    faults: dict[str, dict[str, Any]] = {}
    """Faults of each model's server (fields of `rocbench.settings.faults.Faults`), for tests of the supervision."""

    @model_validator(mode="after")
    def _faults_exist(self) -> Simulation:
        for faults in self.faults.values():
            sim_faults.check(faults)
        return self
