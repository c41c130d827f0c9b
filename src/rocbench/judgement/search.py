"""The search for the largest load that meets an SLO, from the rows of one server and workload. Pure.

The rows on disk are the whole state: the next level follows from them, so that an interrupted search can
resume. `slo` holds the search itself; this module converts rows to its trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rocbench.columns import better
from rocbench.judgement import slo
from rocbench.judgement.capacity import meaning, saturation
from rocbench.judgement.slo import Limit, Step, Trial, by_level
from rocbench.settings.goals import Search
from rocbench.tables.row import Row, figures, listed

FAR = 1e6
"""Multiple of the limit that represents "overloaded": it fails alone, and is unclear with one that passed."""


def limits_of(search: Search) -> tuple[Limit, ...]:
    """The limits of a search, each on the side on which its column is worse."""
    return tuple(
        Limit(name, "<=" if better(name) == "lower" else ">=", value) for name, value in search.slo.items()
    )


def trial(row: Row, limits: Sequence[Limit]) -> Trial:
    """A row as a trial of the search."""
    level = row.level or 0.0
    match meaning(row):
        case "figures":
            return Trial(level, {limit.metric: row.figure(limit.metric) for limit in limits})
        case "overloaded":
            worst = {limit.metric: limit.value * FAR if limit.upper else 0.0 for limit in limits}
            return Trial(level, worst)
        case _:
            return Trial(level, {}, delivered=False)


def next_step(rows: Sequence[Row], search: Search, *, whole: bool, used: int) -> Step:
    """The next level to measure, or the end with its reason.

    Args:
        rows: rows of one server and workload, without discarded ones.
        search: limits and bounds of the search.
        whole: True if levels are users, not requests/s.
        used: measurements that count against `max_measurements`.
    """
    limits, levels = limits_of(search), by_level(rows)
    step = slo.next_step([trial(row, limits) for row in rows], limits, search, whole=whole)
    again = next((level for level, at_level in levels.items() if _again(at_level, search)), None)
    if again is not None:
        step = replace(step, level=again, why="measure again")
    elif step.level is not None and not whole:
        step = replace(step, level=float(f"{step.level:.4g}"))
    if step.level is not None and used >= search.max_measurements:
        return replace(step, level=None, why=f"stopped after {used} measurements, the maximum of the search")
    if step.level is None and step.failed is not None:
        failed = levels[step.failed]
        if {meaning(row) for row in failed} == {"invalid"}:
            codes = ", ".join(sorted(listed(failed)))
            return replace(step, why=f"at {step.failed:g} no measurement is valid: {codes}")
    return step


def _again(rows: Sequence[Row], search: Search) -> bool:
    """Return True if a level has fewer repeats than requested, or only one, which is invalid."""
    meanings = [meaning(row) for row in rows]
    if meanings == ["invalid"]:
        return True
    return "not delivered" not in meanings and len(meanings) < search.repeats


def report(rows: Sequence[Row], search: Search, step: Step, *, whole: bool, gain: float) -> dict[str, Any]:
    """The state of a search for `search.json`: the answer, the reason for its end, each level's outcome."""
    limits = limits_of(search)
    return {
        "unit": "users" if whole else "requests/s",
        "limits": [str(limit) for limit in limits],
        "best": step.best,
        "failed": step.failed,
        "ended": step.level is None,
        "why": step.why,
        "measurements": len(rows),
        "levels": [
            {
                "level": level,
                "outcome": slo.outcome_of([trial(row, limits) for row in at_level], limits, search),
                "n": len(at_level),
                "said": sorted({meaning(row) for row in at_level}),
                "figures": {limit.metric: _mean(at_level, limit.metric) for limit in limits},
            }
            for level, at_level in by_level(rows).items()
        ],
        "saturation": saturation(rows, gain),
    }


_DEFAULTS: Mapping[str, Any] = {
    "server": "",
    "model": "?",
    "workload": "?",
    "unit": "users",
    "best": None,
    "failed": None,
    "ended": False,
    "why": "not stated",
    "measurements": 0,
}


def stored(searches: Any) -> list[dict[str, Any]]:
    """The searches of a `search.json` of any version; missing entries get defaults. Pure."""
    entries = [entry for entry in searches if isinstance(entry, dict)] if isinstance(searches, list) else []
    return [
        {
            **_DEFAULTS,
            **{name: value for name, value in entry.items() if value is not None},
            "axes": dict(entry.get("axes") or {}),
            "limits": list(entry.get("limits") or ()),
        }
        for entry in entries
    ]


def _mean(rows: Sequence[Row], metric: str) -> float | None:
    values = figures((row for row in rows if meaning(row) == "figures"), metric)
    return sum(values) / len(values) if values else None
