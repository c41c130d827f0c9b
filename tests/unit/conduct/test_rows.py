"""What a row says of its cell before anything was measured."""

from __future__ import annotations

from rocbench.conduct import rows
from rocbench.settings.schema import Load, Workload


def test_a_row_says_what_a_request_is_beside_its_means():
    """A workload of the same name with other content, and a load with another end, are told apart; defaults are not."""
    plain = {"name": "w", "isl": {"mean": 100}, "osl": {"mean": 10}}
    drawn = {"osl": {"kind": "uniform", "mean": 10, "low": 5, "high": 15}, "shared_prefix_ratio": 0.5}

    assert rows._workload_spec(Workload.model_validate(plain | {"note": "mine"})) == {}
    assert rows._workload_spec(Workload.model_validate(plain | drawn)) == {
        "osl": {"kind": "uniform", "low": 5, "high": 15},
        "shared_prefix_ratio": 0.5,
    }
    assert rows._load_spec(Load.model_validate({"duration_s": 5})) == {}
    bursts = {"shape": {"kind": "open", "arrival": "gamma", "burstiness": 0.5}, "max_requests": 100}
    assert rows._load_spec(Load.model_validate(bursts)) == {
        "arrival": "gamma",
        "burstiness": 0.5,
        "max_requests": 100,
    }
