"""Consistency of a server's counters: in one process they only grow, and the process starts once. Pure.

All functions take readings in the order of their time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rocbench.records import ServerSample

STARTED = "process_start_time_seconds"
"""Start time of the answering process, from prometheus_client."""
_TOKENS = ("generation_tokens_total", "prompt_tokens_total")
_ROUNDING = 1e-9
"""Relative tolerance: the last digits of a sum over engines depend on their order."""


def is_counter(name: str) -> bool:
    """True if a value only grows: a counter, or the sum, count or bucket of a histogram."""
    return name.endswith(("_total", "_sum", "_count")) or "_bucket:" in name


def fallen(samples: Sequence[ServerSample]) -> tuple[str, ...] | None:
    """Counters that are lower than in the reading before; None if no counter was read twice."""
    last: dict[str, float] = {}
    lower: dict[str, None] = {}
    compared = False
    for sample in samples:
        for name, value in sample.values.items():
            if not is_counter(name):
                continue
            if name in last:
                compared = True
                if value < last[name] - _ROUNDING * abs(last[name]):
                    lower[name] = None
            last[name] = value
    return tuple(lower) if compared else None


def of_one_process(samples: Sequence[ServerSample]) -> bool:
    """True if all readings may be of one process, so that their differences are meaningful."""
    started = {sample.values[STARTED] for sample in samples if STARTED in sample.values}
    return len(started) <= 1 and not fallen(samples)


def restarted(samples: Sequence[ServerSample]) -> bool | None:
    """True if a new process answers: it reports a later start, or its token counters start again.

    None if several processes answer in turn, as behind a gateway, and if no two readings have a start time or a
    counter.
    """
    started = [sample.values[STARTED] for sample in samples if STARTED in sample.values]
    if len(started) > 1:
        if len(set(started)) == 1:
            return False
        return True if started == sorted(started) else None
    counts = [[s.values[name] for s in samples if name in s.values] for name in _TOKENS]
    falls = [sum(b < a for a, b in itertools.pairwise(values)) for values in counts if len(values) > 1]
    if 1 in falls:
        return True
    return False if falls and not any(falls) else None
