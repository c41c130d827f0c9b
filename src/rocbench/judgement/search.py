"""The search for the largest load that meets an SLO, from the rows of one server and workload. Pure.

The rows on disk are the whole state: the next level follows from them, so that an interrupted search can
resume. `slo` holds the search itself; this module converts rows to its trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rocbench.columns import better
from rocbench.judgement import slo
from rocbench.judgement.capacity import meaning, saturation
from rocbench.judgement.service import service
from rocbench.judgement.slo import Limit, Step, Trial, by_level
from rocbench.settings.goals import Search
from rocbench.tables.backlog import Z95
from rocbench.tables.row import Row, figures, listed


def limits_of(search: Search) -> tuple[Limit, ...]:
    """The limits of a search, each on the side on which its column is worse."""
    return tuple(
        Limit(name, "<=" if better(name) == "lower" else ">=", value) for name, value in search.slo.items()
    )


def trial(row: Row, limits: Sequence[Limit]) -> Trial:
    """A row as a trial of the search."""
    level = row.level or 0.0
    said = meaning(row)
    if said not in ("figures", "overloaded"):
        return Trial(level, {}, delivered=False)
    return Trial(
        level,
        {limit.metric: row.figure(limit.metric) for limit in limits},
        overloaded=said == "overloaded",
        service=None if row.shape == "closed" else service(row),
        least={limit.metric: _within(row, limit.metric) for limit in limits},
    )


def _within(row: Row, metric: str) -> float:
    """Standard deviation of a figure's logarithm within its window, from its 95 % interval; 0 if the row has none."""
    stem = metric.removesuffix("_ms")
    low, high = row.figure(f"{stem}_low_ms"), row.figure(f"{stem}_high_ms")
    return math.log(high / low) / (2 * Z95) if low and high and 0 < low < high else 0.0


def next_step(rows: Sequence[Row], search: Search, *, whole: bool, used: int) -> Step:
    """The next level to measure, or the end with its reason.

    Args:
        rows: rows of one server and workload, without discarded ones.
        search: limits and bounds of the search.
        whole: True if levels are users, not requests/s.
        used: measurements that count against `max_measurements`.
    """
    limits, levels = limits_of(search), by_level(rows)
    trials = [trial(row, limits) for row in rows]
    step = slo.next_step(trials, limits, search, whole=whole, left=search.max_measurements - used)
    again = next((level for level, at_level in levels.items() if _again(at_level)), None)
    if used >= search.max_measurements:
        return replace(step, level=None, why=f"stopped after {used} measurements, the maximum of the search")
    if again is not None:
        return replace(step, level=again, why="measure again")
    if step.level is None and step.failed is not None:
        failed = levels[step.failed]
        if {meaning(row) for row in failed} == {"invalid"}:
            codes = ", ".join(sorted(listed(failed)))
            return replace(step, why=f"at {step.failed:g} no measurement is valid: {codes}")
    return step


def _again(rows: Sequence[Row]) -> bool:
    """Return True if a level's only measurement is invalid."""
    return [meaning(row) for row in rows] == ["invalid"]


def report(rows: Sequence[Row], search: Search, step: Step, *, whole: bool, gain: float) -> dict[str, Any]:
    """The state of a search for `search.json`: the answer, the reason for its end, each level's outcome.

    `best` is shown to meet the limits, `failed` is shown to miss one (or its load was not delivered): the capacity lies
    between them. Both are told with 95 % confidence.
    """
    limits = limits_of(search)
    found = slo.curve([trial(row, limits) for row in rows], limits, whole=whole)
    outcomes = {standing.level: standing.outcome for standing in found.levels}
    levels = by_level(rows)
    return {
        "unit": "users" if whole else "requests/s",
        "limits": [str(limit) for limit in limits],
        "best": step.best,
        "failed": step.failed,
        "not_shown": [
            level
            for level, outcome in outcomes.items()
            if outcome == "unclear" and level > (step.best or 0.0) and level < (step.failed or math.inf)
        ],
        "spread": found.noise.sd if found.noise.df else None,
        "notes": found.notes,
        "ended": step.level is None,
        "why": step.why,
        "measurements": len(rows),
        "levels": [
            {
                "level": level,
                "outcome": outcomes[level],
                "n": len(at_level),
                "said": sorted({meaning(row) for row in at_level}),
                "figures": {limit.metric: _mean(at_level, limit.metric) for limit in limits},
            }
            for level, at_level in levels.items()
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
            "not_shown": list(entry.get("not_shown") or ()),
            "notes": list(entry.get("notes") or ()),
        }
        for entry in entries
    ]


def _mean(rows: Sequence[Row], metric: str) -> float | None:
    values = figures((row for row in rows if meaning(row) == "figures"), metric)
    return sum(values) / len(values) if values else None
