"""A `bench` of each test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """`bench` in a folder of its own; whatever a failed test left of it is ended."""
    made = Bench(tmp_path)
    yield made
    made.kill_left()
