"""Blocks of a sweep: what they leave unsaid is the sweep's, and nothing that it says is lost."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from rocbench.settings.schema import Sweep

BASE = {"name": "s", "models": ["m"], "workloads": ["w"], "concurrency": [1, 8]}
OPEN = {"rate": [2], "load": {"shape": {"kind": "open"}}}


def test_levels_that_no_block_takes_are_refused():
    """Each block has users of its own, or sends by the clock: the sweep's users would be measured nowhere."""
    for blocks in ([{"concurrency": [2]}], [OPEN], [{"concurrency": [2]}, OPEN]):
        with pytest.raises(ValidationError, match="no block uses the sweep's `concurrency`"):
            Sweep.model_validate(BASE | {"blocks": blocks})


def test_levels_that_some_block_takes_are_the_sweeps():
    """One block without users of its own is enough; without blocks the sweep is the block."""
    for blocks in ([], [{"workloads": ["v"]}], [{"concurrency": [2]}, OPEN, {}]):
        assert Sweep.model_validate(BASE | {"blocks": blocks}).concurrency == (1, 8)
