"""Which worker hangs, told by its counters and the time."""

from __future__ import annotations

import pytest

from rocbench.load.control import Control, Count
from rocbench.load.pulse import HURRY_S, PREPARE_S, REPORT_S, STUCK_S, Pulse


@pytest.fixture
def control():
    """Two workers."""
    made = Control.create(2)
    yield made
    made.close()


def looks(pulse, seconds, each=lambda: None, began=1000.0):
    """Look each half second; what is said at last."""
    said = ""
    for step in range(int(seconds * 2) + 1):
        each()
        said = pulse.check(began + step / 2)
        if said:
            break
    return said


def mark(control, worker, count, value=1):
    """Set a counter, and give its cells back."""
    cells = control.counters(worker)
    cells[count] = value
    cells.release()


def beat(control, *workers):
    """Those go round their loops."""
    for worker in workers:
        cells = control.counters(worker)
        cells[Count.BEAT] += 1
        cells.release()


def test_a_worker_that_stands_still_is_named(control):
    """The other goes on; the silence of the one that is over is none."""
    pulse = Pulse(control)
    for worker in (0, 1):
        mark(control, worker, Count.READY)
    assert looks(pulse, 3 * STUCK_S, lambda: beat(control, 0, 1)) == ""
    assert "load worker 1 made no progress for 30 s" in looks(
        pulse, 2 * STUCK_S, lambda: beat(control, 0), began=2000.0
    )

    pulse = Pulse(control)
    mark(control, 1, Count.OVER)
    assert looks(pulse, 3 * STUCK_S, lambda: beat(control, 0)) == ""


def test_each_phase_has_its_limit(control):
    """Preparing takes minutes, and so may reports of millions of rows; somebody who waits does not."""
    assert looks(Pulse(control), PREPARE_S - 5) == ""
    assert "load worker 0, 1 was not ready" in looks(Pulse(control), PREPARE_S + 5)
    for worker in (0, 1):
        mark(control, worker, Count.READY)
        mark(control, worker, Count.OVER)
    assert looks(Pulse(control), REPORT_S - 5) == ""
    assert "not reported" in looks(Pulse(control), REPORT_S + 5)
    pulse = Pulse(control)
    pulse.hurry = True
    assert "not reported" in looks(pulse, HURRY_S + 2)


def test_a_driver_that_was_stopped_itself_saw_nothing(control):
    """A laptop that slept for an hour has no worker that hangs."""
    pulse = Pulse(control)
    for worker in (0, 1):
        mark(control, worker, Count.READY)
    assert pulse.check(0.0) == ""
    assert pulse.check(3600.0) == ""
