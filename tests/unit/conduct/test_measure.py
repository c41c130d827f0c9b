"""What one cell's readings come to."""

from __future__ import annotations

from rocbench.conduct import measure
from rocbench.records import ServerSample


def test_a_simulated_server_that_died_had_said_so():
    """Any reading tells it: the last may have failed, or come from whatever took the port."""
    said = ServerSample(1, {"sim_steps_total": 1.0})
    silent = ServerSample(2, {"generation_tokens_total": 1.0})

    assert measure._says_simulated([said, silent])
    assert not measure._says_simulated([silent])
    assert not measure._says_simulated([])
