"""Virtual time and real time: the same load, predicted and run."""

from __future__ import annotations

import pytest

from rocbench.load.driver import drive
from rocbench.load.spec import Closed, Lengths, LoadSpec, RequestPlan, Target, WindowPlan
from rocbench.sim import predict
from rocbench.tables import metrics
from simnodes import node, serving

MODEL = "meta-llama/Llama-3.1-405B-Instruct"


def test_a_prediction_agrees_with_the_server_over_http(tmp_path):
    """Output throughput and median TPOT agree where the server kept its schedule (loosely, for a busy machine)."""
    simulation = {"speed": 0.5}
    with serving(tmp_path, simulation=simulation) as server:
        spec = LoadSpec(
            Target(server.url, MODEL, vocab_size=128_256),
            RequestPlan(Lengths(64), Lengths(24)),
            Closed(8),
            WindowPlan(duration_s=4.0, min_requests_per_user=2),
            run_id="agree",
            cell_id="c",
        )
        measured = metrics.summarise(drive(spec), gpus=8)
        late_s = server.metric("rocbench_sim:late_seconds_total")
    predicted = metrics.summarise(predict.drive(spec, node(simulation=simulation)).load, gpus=8)
    slack = 0.05 + late_s / 4.0
    assert measured["success_rate"] == 1.0
    for name in ("output_throughput", "median_tpot_ms", "median_e2el_ms"):
        assert measured[name] == pytest.approx(predicted[name], rel=slack), name
