"""Energy, power and temperature of the measured window from GPU readings. Pure; watts, joules, degrees Celsius.

Energy is the difference of the GPUs' accumulators between the edges of the window (interpolated, because a
reading is up to a second away from an edge), and is compared with the integral of the power readings. A sum
over sockets is absent if one socket lacks its reading. GPUs that are partitions of one socket share its power
and energy, which only the lowest of them reports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rocbench.column import Values
from rocbench.records import GpuSample

HOLE_S = 5.0
"""Maximum gap between power readings, in s; a longer gap leaves the integral unknown."""
EDGE_S = 3.0
"""Maximum distance of a reading from the window's edge, in s, to represent the edge in the integral."""

EnergyOf = Callable[[Sequence[GpuSample], int, int], float | None]


def window_columns(samples: Sequence[GpuSample], start_ns: int, end_ns: int, output_tokens: int) -> Values:
    """Columns of `cells` for the window [start, end).

    Args:
        samples: readings of the GPUs that the server uses, including some just outside the window.
        start_ns: start of the window.
        end_ns: end of the window.
        output_tokens: tokens with timestamps in the window.
    """
    names = ("mean_power_w", "peak_power_w", "energy_j", "energy_source", "energy_disagreement")
    row: Values = dict.fromkeys((*names, "joules_per_output_token", "hottest_c", "throttled"))
    inside = [sample for sample in samples if start_ns <= sample.at_ns < end_ns]
    if not samples or end_ns <= start_ns:
        return row
    counted = _sum_over_sockets(samples, start_ns, end_ns, accumulated_j)
    integral = _sum_over_sockets(samples, start_ns, end_ns, integrated_j)
    if counted == 0 and integral:
        counted = None  # an accumulator that stays constant under load does not work
    energy = counted if counted is not None else integral
    row["peak_power_w"] = _peak_w(inside, len({_socket(sample) for sample in samples}))
    row["hottest_c"] = max(
        (t for s in inside for t in (s.temperature_hotspot_c, s.temperature_memory_c) if t is not None),
        default=None,
    )
    known = [sample.throttled for sample in inside if sample.throttled is not None]
    row["throttled"] = any(known) if known else None
    if energy is None:
        return row
    row["energy_j"] = energy
    row["energy_source"] = "accumulator" if counted is not None else "integral"
    row["mean_power_w"] = energy / ((end_ns - start_ns) / 1e9)
    row["joules_per_output_token"] = energy / output_tokens if output_tokens else None
    row["energy_disagreement"] = integral / counted - 1 if counted and integral is not None else None
    return row


def accumulated_j(samples: Sequence[GpuSample], start_ns: int, end_ns: int) -> float | None:
    """One GPU's energy by its accumulator, interpolated at both edges.

    None without a reading beyond each edge, or if the accumulator fell (a reset of the driver).
    """
    known = [(s.at_ns, s.energy_j) for s in samples if s.energy_j is not None]
    if not known or known[0][0] > start_ns or known[-1][0] < end_ns:
        return None
    stamps, joules = np.array([at for at, _ in known], np.int64), np.array([j for _, j in known], float)
    if (np.diff(joules) < 0).any():
        return None
    at_start, at_end = np.interp([0.0, end_ns - start_ns], (stamps - start_ns).astype(float), joules)
    return float(at_end - at_start)


def integrated_j(samples: Sequence[GpuSample], start_ns: int, end_ns: int) -> float | None:
    """One GPU's energy as the integral of its power (trapezoids), constant for up to 3 s at the edges.

    None if readings are missing for longer: 3 s at an edge, 5 s between.
    """
    known = [(s.at_ns, s.power_w) for s in samples if s.power_w is not None]
    if len(known) < 2:
        return None
    at = (np.array([at for at, _ in known], np.int64) - start_ns).astype(float) / 1e9
    watts, length = np.array([w for _, w in known], float), (end_ns - start_ns) / 1e9
    if at[0] > EDGE_S or at[-1] < length - EDGE_S or (np.diff(at) > HOLE_S).any():
        return None
    grid = np.unique(np.concatenate([[0.0, length], at[(at > 0) & (at < length)]]))
    return float(np.trapezoid(np.interp(grid, at, watts), grid))


def _socket(sample: GpuSample) -> int:
    return sample.gpu if sample.socket is None else sample.socket


def _sum_over_sockets(
    samples: Sequence[GpuSample], start_ns: int, end_ns: int, energy_of: EnergyOf
) -> float | None:
    by_socket: dict[int, list[GpuSample]] = {}
    for sample in sorted(samples, key=lambda sample: sample.at_ns):
        by_socket.setdefault(_socket(sample), []).append(sample)
    total = 0.0
    for readings in by_socket.values():
        energy = energy_of(readings, start_ns, end_ns)
        if energy is None:
            return None
        total += energy
    return total


def _peak_w(inside: Sequence[GpuSample], sockets: int) -> float | None:
    """Maximum sum over all sockets of simultaneous readings (with the same timestamp)."""
    sums: dict[int, list[float]] = {}
    for sample in inside:
        if sample.power_w is not None:
            sums.setdefault(sample.at_ns, []).append(sample.power_w)
    return max((sum(watts) for watts in sums.values() if len(watts) == sockets), default=None)
