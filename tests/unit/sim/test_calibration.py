"""What a calibration's factors may say, and what comes of them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rocbench.sim.calibration import MOST_US, Calibration, When

BASE = {"bandwidth": 0.5, "compute": 0.5, "communication": 0.5, "step_overhead_ms": 1}


def with_factor(**factor: object) -> Calibration:
    """A calibration with one factor for everything."""
    return Calibration.model_validate(
        {
            "name": "x",
            "what": "assumed",
            "note": "",
            "base": BASE,
            "factors": [{"when": {}, "why": "", **factor}],
        }
    )


@pytest.mark.parametrize("odd", [{"run_cv": 11}, {"run_cv": -1}, {"answer_median": 0}, {"answer_sigma": 1e9}])
def test_what_takes_the_place_of_the_base_is_bounded_like_it(odd: dict[str, float]) -> None:
    """At reading, not when a server is resolved."""
    with pytest.raises(ValidationError):
        with_factor(**odd)


def test_factors_stay_within_what_an_efficiency_may_be() -> None:
    """Whatever is multiplied or added."""
    low = with_factor(step_overhead_ms=-5, bandwidth=1e4).efficiency(When())
    high = with_factor(step_overhead_ms=MOST_US / 1e3, sequence_overhead_us=MOST_US).efficiency(When())

    assert (low.step_overhead_ms, low.bandwidth) == (0, 1)
    assert (high.step_overhead_ms, high.sequence_overhead_us) == (MOST_US / 1e3, MOST_US)
