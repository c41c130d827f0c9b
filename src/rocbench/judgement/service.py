"""Does the server serve the rate that it is offered? Pure.

Above its capacity a server's batch is full: the time per token stays, while the queue grows as long as the load lasts.
So a limit on TPOT alone says nothing there. What a server serves at a rate above its capacity is its capacity: a rate
is an answer only below that, with headroom for the error of both. If every rate was served, the repeats of the answer
must show that little was left unserved.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rocbench.judgement.evidence import ALPHA, quantile
from rocbench.tables.row import Row

HEADROOM = 0.05
"""An answer is at most this share below the rate that the overloaded server served."""
LOST = 0.05
"""Share of the offered load that a served rate may leave unserved."""


@dataclass(frozen=True, slots=True)
class Service:
    """How much of the offered load one measurement at a rate served."""

    unserved: float
    """1 - served / offered."""
    noise: float
    """Standard deviation of `unserved` by the randomness of the arrivals."""


def service(row: Row) -> Service | None:
    """The service of an open loop's row; None if the row does not say how much was served.

    By `unserved_share`, else by `request_throughput` over the requested rate.
    """
    unserved, rate = row.figure("unserved_share"), row.level
    ended, seconds = row.figure("request_throughput"), row.figure("duration_s")
    if unserved is None and ended is not None and rate:
        unserved = 1 - ended / rate
    if unserved is None:
        return None
    noise = row.figure("arrival_noise_share")
    if noise is None:
        noise = math.sqrt(2 / (rate * seconds)) if rate and seconds else LOST
    return Service(unserved, noise)


@dataclass(frozen=True, slots=True)
class Served:
    """Rates that the server served, and its capacity."""

    capacity: float | None
    """Requests/s that the server served when it was offered more; None if no rate was above its capacity."""
    served: frozenset[float]
    """Rates shown to be served."""
    overloaded: frozenset[float]
    """Rates shown to be above the capacity."""
    unknown: frozenset[float]
    """Rates whose rows do not say how much was served."""

    @property
    def most(self) -> float:
        """Largest rate that may be an answer."""
        return math.inf if self.capacity is None else self.capacity * (1 - HEADROOM)

    @property
    def notes(self) -> list[str]:
        """The capacity and what is unknown, as text."""
        notes = []
        if self.capacity is not None:
            notes.append(
                f"overloaded, the server serves {self.capacity:.4g} requests/s: an answer is at most {1 - HEADROOM:.0%} of that"
            )
        if self.unknown:
            notes.append(
                "rates without `unserved_share` and `request_throughput` are no answer: the queue may grow"
            )
        return notes


def served(services: Mapping[float, Sequence[Service]], flagged: Iterable[float] = ()) -> Served:
    """Which rates the server served.

    Args:
        services: of each rate, the service of its repeats.
        flagged: rates that a row's reason codes call overloaded.
    """
    flags = frozenset(flagged)
    lost = {rate: _lost(repeats) for rate, repeats in services.items() if repeats}
    z = quantile(ALPHA / 2, math.inf)
    over = flags | {rate for rate, (mean, error) in lost.items() if mean > max(LOST, z * error)}
    plateau = [
        rate * (1 - each.unserved) for rate in over for each in services.get(rate, ()) if each.unserved > 0
    ]
    capacity = statistics.median(plateau) if plateau else None
    most = math.inf if capacity is None else capacity * (1 - HEADROOM)
    sure = quantile(ALPHA, math.inf)
    good = {
        rate
        for rate, (mean, error) in lost.items()
        if rate not in over and rate <= most and (over or mean + sure * error < LOST)
    }
    unknown = frozenset(rate for rate, repeats in services.items() if not repeats) - flags
    return Served(capacity, frozenset(good), over, unknown)


def _lost(repeats: Sequence[Service]) -> tuple[float, float]:
    """Mean unserved share, and its standard error."""
    n = len(repeats)
    return sum(each.unserved for each in repeats) / n, math.sqrt(sum(each.noise**2 for each in repeats)) / n
