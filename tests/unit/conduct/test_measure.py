"""Columns from one cell's readings."""

from __future__ import annotations

import pytest

from rocbench.conduct import measure
from rocbench.probe.health import HealthWatch
from rocbench.records import ServerSample


def test_a_simulated_server_that_died_had_said_so():
    """Any reading shows it: the last one may have failed, or be of another process on the port."""
    simulated = ServerSample(1, {"sim_steps_total": 1.0})
    silent = ServerSample(2, {"generation_tokens_total": 1.0})

    assert measure._says_simulated([simulated, silent])
    assert not measure._says_simulated([silent])
    assert not measure._says_simulated([])


@pytest.mark.parametrize(
    ("ended_by", "died", "unresponsive", "expected"),
    [
        ("interrupted", True, False, "server_died"),
        ("server_unresponsive", True, False, "server_died"),
        ("interrupted", False, True, "server_unresponsive"),
        ("server_unresponsive", False, False, ""),
        ("interrupted", False, False, ""),
        ("duration", True, False, ""),
        ("duration", False, True, ""),
    ],
)
def test_only_a_process_that_ended_is_dead(ended_by, died, unresponsive, expected):
    """Refused connections and failed health checks do not mean that the server died."""
    health = HealthWatch("http://127.0.0.1:9", died=died, unresponsive=unresponsive)

    assert measure.how_it_ended(ended_by, health) == expected
