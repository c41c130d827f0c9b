"""GPU readings from the `amdsmi` Python library (extra `amd`): cheaper than the command, with the same values.

Calls as in amdsmi 7.0.2 (py-interface/amdsmi_interface.py). Each value has its own call, so a call that this
GPU, driver or partition does not support leaves only that value absent.
"""

from __future__ import annotations

import importlib
from typing import Any

from rocbench.probe.sockets import Identity, Sockets, grouped
from rocbench.records import GpuSample

_MIB = 1024**2
_WATTS = 100_000
"""A larger power limit is in microwatts: no socket draws as many watts."""
_RESIDENCIES = (
    "prochot_residency_acc",
    "socket_thm_residency_acc",
    "vr_thm_residency_acc",
    "hbm_thm_residency_acc",
)


class Library:
    """The initialised library. Raises OSError if it cannot be used here, for any reason."""

    def __init__(self) -> None:
        try:
            self._smi: Any = importlib.import_module("amdsmi")
            self._smi.amdsmi_init()
            self._handles = list(self._smi.amdsmi_get_processor_handles())
        except Exception as error:
            # Missing package, missing libamd_smi.so, no driver: each version raises another error.
            raise OSError(f"amdsmi cannot be used: {error}") from error
        if not self._handles:
            raise OSError("amdsmi finds no GPU")

    def read(self, at_ns: int) -> list[tuple[GpuSample, int | None]]:
        """Read each GPU, with its throttle residency."""
        return [self._one(index, handle, at_ns) for index, handle in enumerate(self._handles)]

    def sockets(self) -> Sockets:
        """Group the GPUs by socket."""
        return grouped({index: self._identity(handle) for index, handle in enumerate(self._handles)})

    def _identity(self, handle: Any) -> Identity:
        bdf, mode = self._ask("amdsmi_get_gpu_device_bdf", handle), self._mode(handle)
        partition = _number(self._values("amdsmi_get_gpu_kfd_info", handle).get("current_partition_id"))
        serial = self._values("amdsmi_get_gpu_asic_info", handle).get("asic_serial")
        cap = self._values("amdsmi_get_power_cap_info", handle)
        limit = _first(cap.get("max_power_cap"), cap.get("power_cap"))
        return Identity(
            bdf=bdf if isinstance(bdf, str) else "",
            serial=serial if isinstance(serial, str) and serial != "N/A" else "",
            partition=None if partition is None else int(partition),
            mode=mode,
            # Microwatts; early versions gave watts.
            cap_w=None if not limit else limit / 1e6 if limit > _WATTS else limit,
        )

    def _mode(self, handle: Any) -> str:
        mode = self._ask("amdsmi_get_gpu_compute_partition", handle)
        if isinstance(mode, str) and mode.upper().endswith("PX"):
            return mode.upper()
        profile = self._values("amdsmi_get_gpu_accelerator_partition_profile", handle).get(
            "partition_profile"
        )
        name = str(profile.get("profile_type", "")).upper() if isinstance(profile, dict) else ""
        return name if name.endswith("PX") else ""

    def close(self) -> None:
        """Close the library."""
        self._ask("amdsmi_shut_down")

    def _one(self, index: int, handle: Any, at_ns: int) -> tuple[GpuSample, int | None]:
        power = self._values("amdsmi_get_power_info", handle)
        metrics = self._values("amdsmi_get_gpu_metrics_info", handle)
        vram = self._values("amdsmi_get_gpu_vram_usage", handle)
        activity = self._values("amdsmi_get_gpu_activity", handle)
        errors = self._values("amdsmi_get_gpu_total_ecc_count", handle)
        all_clocks = metrics.get("current_gfxclks")
        used, busy = _number(vram.get("vram_used")), _number(activity.get("gfx_activity"))
        clocks = [c for c in map(_number, all_clocks if isinstance(all_clocks, list) else ()) if c]
        uncorrectable = _number(errors.get("uncorrectable_count"))
        sample = GpuSample(
            at_ns=at_ns,
            gpu=index,
            power_w=_first(power.get("socket_power"), power.get("current_socket_power")),
            energy_j=self._energy(handle),
            temperature_hotspot_c=self._temperature(handle, "HOTSPOT"),
            temperature_memory_c=self._temperature(handle, "VRAM"),
            clock_mhz=sum(clocks) / len(clocks) if clocks else None,
            vram_used_bytes=None if used is None else int(used * _MIB),
            activity=None if busy is None else busy / 100,
            ecc_uncorrectable=None if uncorrectable is None else int(uncorrectable),
        )
        residencies = [r for r in (_number(metrics.get(name)) for name in _RESIDENCIES) if r is not None]
        return sample, int(sum(residencies)) if residencies else None

    def _energy(self, handle: Any) -> float | None:
        """Joules: accumulator x resolution in uJ (15.259 on MI300)."""
        counter = self._values("amdsmi_get_energy_count", handle)
        ticks = _first(counter.get("energy_accumulator"), counter.get("power"))
        micro_j = _number(counter.get("counter_resolution"))
        return None if ticks is None or micro_j is None else ticks * micro_j / 1e6

    def _temperature(self, handle: Any, sensor: str) -> float | None:
        smi = self._smi
        try:
            kind = getattr(smi.AmdSmiTemperatureType, sensor)
            current = smi.AmdSmiTemperatureMetric.CURRENT
        except AttributeError:
            return None
        degrees = _number(self._ask("amdsmi_get_temp_metric", handle, kind, current))
        # The wrapper divides, the README says millidegrees, and both have shipped.
        return degrees / 1000 if degrees is not None and degrees > 1000 else degrees

    def _values(self, call: str, handle: Any) -> dict[str, Any]:
        answer = self._ask(call, handle)
        return answer if isinstance(answer, dict) else {}

    def _ask(self, call: str, *arguments: Any) -> Any:
        try:
            return getattr(self._smi, call)(*arguments)
        except Exception:  # noqa: BLE001 - the library's own exception tree changes by version
            return None


def _number(value: Any) -> float | None:
    """A number; None for "N/A" and for the all-ones patterns with which firmware marks a missing value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return None if value in (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF) else float(value)


def _first(*values: Any) -> float | None:
    return next((n for n in map(_number, values) if n is not None), None)
