"""The block that driver and workers share."""

from __future__ import annotations

from rocbench.load.control import UNSET, Command, Control, Count, Head


def test_both_sides_see_one_block():
    """What the driver writes is what a worker reads, and counters add up over workers."""
    driver = Control.create(3)
    worker = Control(driver.fd, 3)
    assert worker.cells[Head.START_NS] == worker.cells[Head.END_NS] == UNSET
    driver.cells[Head.COMMAND] = Command.DRAIN
    assert Command(worker.cells[Head.COMMAND]) is Command.DRAIN
    for index in range(3):
        worker.counters(index)[Count.COMPLETED] += index + 1
    assert driver.total(Count.COMPLETED) == 6
    assert driver.total(Count.FAILED) == 0
    worker.cells.release()
    driver.close()


def test_counters_do_not_overlap():
    """Each worker's cells are its own."""
    control = Control.create(2)
    for count in Count:
        control.counters(1)[count] = count + 1
    assert all(control.counters(0)[count] == 0 for count in Count)
    assert control.cells[Head.COMMAND] == Command.WAIT
    control.close()
