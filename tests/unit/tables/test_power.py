"""Energy and power of a window from GPU readings."""

from __future__ import annotations

import pytest

from rocbench.records import GpuSample
from rocbench.tables.power import window_columns

S = 1_000_000_000


def readings(gpus=2, seconds=range(-2, 13), watts=500.0, energy=True, **fields):
    """One reading a second of each GPU at constant power."""
    return [
        GpuSample(
            at_ns=second * S + S // 2,
            gpu=gpu,
            power_w=watts,
            energy_j=1000 + watts * (second + 0.5) if energy else None,
            **fields,
        )
        for second in seconds
        for gpu in range(gpus)
    ]


def test_constant_power_by_the_accumulator():
    """Two GPUs at 500 W for 10 s are 10 kJ, whichever way they are counted."""
    row = window_columns(readings(), 0, 10 * S, 5000)
    assert row["energy_j"] == pytest.approx(10_000)
    assert row["energy_source"] == "accumulator"
    assert row["energy_disagreement"] == pytest.approx(0)
    assert row["mean_power_w"] == pytest.approx(1000)
    assert row["peak_power_w"] == pytest.approx(1000)
    assert row["joules_per_output_token"] == pytest.approx(2)


def test_without_accumulator_the_integral_stands():
    """A GPU without an energy accumulator is integrated, and the row says so."""
    row = window_columns(readings(energy=False), 0, 10 * S, 5000)
    assert row["energy_source"] == "integral"
    assert row["energy_j"] == pytest.approx(10_000)
    assert row["energy_disagreement"] is None


def test_one_gpu_without_readings_leaves_the_sum_absent():
    """A sum over GPUs needs all of them."""
    samples = readings(gpus=1) + [GpuSample(at_ns=s * S + S // 2, gpu=1) for s in range(-2, 13)]
    row = window_columns(samples, 0, 10 * S, 5000)
    assert row["energy_j"] is None
    assert row["mean_power_w"] is None
    assert row["peak_power_w"] is None


def test_a_reset_accumulator_is_not_trusted():
    """An accumulator that falls is left for the integral."""
    samples = readings(gpus=1)
    samples[7] = GpuSample(at_ns=samples[7].at_ns, gpu=0, power_w=500.0, energy_j=3.0)
    assert window_columns(samples, 0, 10 * S, 1)["energy_source"] == "integral"


def test_a_hole_in_the_readings_is_unknown():
    """Eight seconds without a reading are not guessed."""
    samples = readings(energy=False, seconds=[-1, 0, 1, 9, 10, 11])
    assert window_columns(samples, 0, 10 * S, 1)["energy_j"] is None


def test_peak_is_of_readings_taken_together():
    """The peak is the highest sum at one time, not the sum of each GPU's highest."""
    samples = [
        GpuSample(at_ns=S, gpu=0, power_w=700.0),
        GpuSample(at_ns=S, gpu=1, power_w=300.0),
        GpuSample(at_ns=2 * S, gpu=0, power_w=400.0),
        GpuSample(at_ns=2 * S, gpu=1, power_w=650.0),
    ]
    assert window_columns(samples, 0, 3 * S, 1)["peak_power_w"] == 1050


def test_heat_and_throttling_inside_the_window_only():
    """The hottest of hotspot and memory, and throttling, count inside the window; N/A stays absent."""
    samples = [
        GpuSample(at_ns=S, gpu=0, temperature_hotspot_c=80, temperature_memory_c=91, throttled=False),
        GpuSample(at_ns=20 * S, gpu=0, temperature_hotspot_c=105, throttled=True),
    ]
    row = window_columns(samples, 0, 10 * S, 1)
    assert row["hottest_c"] == 91
    assert row["throttled"] is False
    assert window_columns([GpuSample(at_ns=S, gpu=0)], 0, 10 * S, 1)["throttled"] is None


def test_no_telemetry_is_absent():
    """A machine without AMD GPUs has no figures, not zeros."""
    assert set(window_columns([], 0, 10 * S, 1).values()) == {None}
