"""What a server's counters tell of itself: in one process they only grow, and it began once. Pure.

Readings are taken one after the other, and are given in that order.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rocbench.records import ServerSample

STARTED = "process_start_time_seconds"
"""Of prometheus_client itself: when the process began that answers."""
_TOKENS = ("generation_tokens_total", "prompt_tokens_total")
_ROUNDING = 1e-9
"""A sum over engines depends on their order in its last digits."""


def is_counter(name: str) -> bool:
    """Whether a value only grows: a counter, or the sum, count or bucket of a histogram."""
    return name.endswith(("_total", "_sum", "_count")) or "_bucket:" in name


def fallen(samples: Sequence[ServerSample]) -> tuple[str, ...] | None:
    """Counters that a reading gives lower than the one before it; None where no counter was read twice."""
    last: dict[str, float] = {}
    fell: dict[str, None] = {}
    compared = False
    for sample in samples:
        for name, value in sample.values.items():
            if not is_counter(name):
                continue
            if name in last:
                compared = True
                if value < last[name] - _ROUNDING * abs(last[name]):
                    fell[name] = None
            last[name] = value
    return tuple(fell) if compared else None


def of_one_process(samples: Sequence[ServerSample]) -> bool:
    """Whether nothing shows that the readings are of more than one process, so that differences mean something."""
    started = {sample.values[STARTED] for sample in samples if STARTED in sample.values}
    return len(started) <= 1 and not fallen(samples)


def restarted(samples: Sequence[ServerSample]) -> bool | None:
    """Whether another process answers than did before: it says a later start, or its token counters begin anew.

    Of several that answer in turn, as behind a gateway, each comes again: then nothing is known, as where there is
    neither a start nor a counter in two readings.
    """
    started = [sample.values[STARTED] for sample in samples if STARTED in sample.values]
    if len(started) > 1:
        if len(set(started)) == 1:
            return False
        return True if started == sorted(started) else None
    counts = [[s.values[name] for s in samples if name in s.values] for name in _TOKENS]
    falls = [sum(b < a for a, b in itertools.pairwise(found)) for found in counts if len(found) > 1]
    if 1 in falls:
        return True
    return False if falls and not any(falls) else None
