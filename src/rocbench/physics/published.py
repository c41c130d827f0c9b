"""A model's derived parameters and KV bytes, compared with the published ones. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rocbench.model.architecture import from_config
from rocbench.physics import kv
from rocbench.settings.schema import ModelProfile

WITHIN = 0.01
"""Largest deviation from an exact figure."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A derived figure and the published one."""

    what: str
    derived: float
    published: float | None
    unit: float = 0.0
    """Unit to which the published figure is rounded."""

    @property
    def deviation(self) -> float | None:
        """(derived - published) / published."""
        return self.derived / self.published - 1 if self.published else None

    @property
    def agrees(self) -> bool:
        """True if they are at most 1 % apart, or half of the unit that the source rounds to."""
        if self.published is None:
            return True
        return abs(self.derived - self.published) <= max(WITHIN * self.published, self.unit / 2)


def comparisons(profile: ModelProfile) -> Iterator[Comparison]:
    """Yield total and active parameters and KV bytes per token, each counted as the source counts it."""
    arch, known = from_config(profile.config), profile.published
    total, active = arch.total_params, arch.active_params
    if known is not None:
        total += (arch.vision_params if known.with_vision else 0) + (arch.parts.mtp if known.with_mtp else 0)
        active -= arch.parts.embedding if known.active_without else 0
        active -= arch.parts.head if known.active_without == "embedding and head" else 0
    yield Comparison(
        "total", total, known.total_params if known else None, (known and known.total_unit) or 0.0
    )
    yield Comparison(
        "active", active, known.active_params if known else None, (known and known.active_unit) or 0.0
    )
    yield Comparison("kv", kv.kv_bytes_per_token(arch), known.kv_bytes_per_token if known else None)
