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
from rocbench.judgement.capacity import said, saturation
from rocbench.judgement.slo import Limit, SearchSettings, Step, Trial
from rocbench.settings.goals import Search
from rocbench.tables.row import Row, figures, listed

FAR = 1e6
"""Multiple of the limit that represents "overloaded": it fails alone, and is unclear with one that passed."""


def limits(search: Search) -> tuple[Limit, ...]:
    """The limits of a search, each on the side on which its column is worse."""
    return tuple(
        Limit(name, "<=" if better(name) == "lower" else ">=", value) for name, value in search.slo.items()
    )


def trial(row: Row, wanted: Sequence[Limit]) -> Trial:
    """A row as a trial of the search."""
    level = row.level or 0.0
    match said(row):
        case "figures":
            return Trial(level, {limit.metric: row.figure(limit.metric) for limit in wanted})
        case "overloaded":
            worst = {limit.metric: limit.value * FAR if limit.upper else 0.0 for limit in wanted}
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
    wanted, settings = limits(search), _settings(search, whole=whole)
    trials = [trial(row, wanted) for row in rows]
    step = slo.next_step(trials, wanted, settings)
    again = next((level for level in sorted({t.level for t in trials}) if _again(level, rows, search)), None)
    if again is not None:
        step = replace(step, level=again, why="measure again")
    elif step.level is not None and not whole:
        step = replace(step, level=float(f"{step.level:.4g}"))
    if step.level is not None and used >= search.max_measurements:
        return replace(step, level=None, why=f"stopped after {used} measurements")
    if step.level is None and step.failed is not None:
        mine = [row for row in rows if row.level == step.failed]
        if {said(row) for row in mine} == {"invalid"}:
            codes = ", ".join(sorted(listed(mine)))
            return replace(step, why=f"at {step.failed:g} no measurement is valid: {codes}")
    return step


def _again(level: float, rows: Sequence[Row], search: Search) -> bool:
    """Return whether a level has fewer repeats than requested, or only one, which is invalid."""
    mine = [said(row) for row in rows if row.level == level]
    if mine == ["invalid"]:
        return True
    return "not delivered" not in mine and len(mine) < search.repeats


def _settings(search: Search, *, whole: bool) -> SearchSettings:
    return SearchSettings(
        low=search.low,
        high=search.high,
        relative_step=search.relative_step,
        max_repeats=search.max_repeats,
        margin=search.margin,
        whole=whole,
    )


def report(rows: Sequence[Row], search: Search, step: Step, *, whole: bool, gain: float) -> dict[str, Any]:
    """The state of a search for `search.json`: the answer, the reason for its end, each level's outcome."""
    wanted, settings = limits(search), _settings(search, whole=whole)
    trials = [trial(row, wanted) for row in rows]
    levels = []
    for level in sorted({t.level for t in trials}):
        mine = [row for row in rows if row.level == level]
        levels.append(
            {
                "level": level,
                "outcome": slo.outcome_of(trials, level, wanted, settings),
                "n": len(mine),
                "said": sorted({said(row) for row in mine}),
                "figures": {limit.metric: _mean(mine, limit.metric) for limit in wanted},
            }
        )
    return {
        "unit": "users" if whole else "requests/s",
        "limits": [str(limit) for limit in wanted],
        "best": step.best,
        "failed": step.failed,
        "ended": step.level is None,
        "why": step.why,
        "measurements": len(rows),
        "levels": levels,
        "saturation": saturation(rows, gain),
    }


_UNTOLD: Mapping[str, Any] = {
    "server": "",
    "model": "?",
    "workload": "?",
    "unit": "users",
    "best": None,
    "failed": None,
    "ended": False,
    "why": "it does not say",
    "measurements": 0,
}


def stored(found: Any) -> list[dict[str, Any]]:
    """The searches of a `search.json` of any version; missing entries get defaults. Pure."""
    searches = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    return [
        {
            **_UNTOLD,
            **{name: value for name, value in entry.items() if value is not None},
            "axes": dict(entry.get("axes") or {}),
            "limits": list(entry.get("limits") or ()),
        }
        for entry in searches
    ]


def _mean(rows: Sequence[Row], metric: str) -> float | None:
    there = figures((row for row in rows if said(row) == "figures"), metric)
    return sum(there) / len(there) if there else None
