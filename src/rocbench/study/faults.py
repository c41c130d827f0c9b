"""Eight artefacts of a harness that a study's figures can show, each looked for in its rows. Pure.

Each check takes the rows of `cells` of one or more runs and locates the artefact from the rows themselves:
requests in flight, how the window ended, repeats, lengths, cache hits. Rows of a method without artefacts
give no finding.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rocbench.tables.row import Row, figures, listed

SAME = 0.05
"""Share within which in-flight figures, or throughputs, count as equal."""
UNDELIVERED = 0.95
"""Fewer requests in flight than this share of the declared users: the users were not delivered."""
FLAT = 0.02
"""More users gain at most this share: the curve is flat."""
EXPLAINS = 0.5
"""Answer lengths that vary by less than this share of the variation of repeats do not explain it."""
GAIN = 0.05
"""The study's own rule: a level that gains less than this over the previous level is saturated."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One artefact at one place."""

    fault: str
    where: str
    evidence: str
    codes: tuple[str, ...]
    """Verdict codes that the rows carry for it; () where the check alone names it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A way to be misled by a harness."""

    id: str
    what: str
    check: Callable[[Sequence[Row], str], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Point:
    """A level of a curve; its repeats are combined."""

    users: int
    in_flight: float
    output: float
    total: float
    rows: tuple[Row, ...]

    def mean(self, column: str) -> float | None:
        """Return the mean over repeats; None where no row has the column."""
        values = figures(self.rows, column)
        return statistics.fmean(values) if values else None

    def spread(self, column: str) -> float | None:
        """Return the coefficient of variation over repeats; None for fewer than two."""
        return _cov(self.rows, column) if len(figures(self.rows, column)) > 1 else None


def examine(rows: Sequence[Row], headline: str) -> list[Finding]:
    """Return every finding of every check. `headline` is the column that the study calls throughput."""
    return [finding for fault in FAULTS for finding in fault.check(judged(rows), headline)]


def judged(rows: Sequence[Row]) -> list[Row]:
    """Return rows with figures that count."""
    return [row for row in rows if row.figure("output_throughput") and not row.discarded]


# --- curves


def curves(rows: Sequence[Row]) -> dict[str, list[Point]]:
    """Return levels in order of users, by server, workload and maximum number of requests per level."""
    found: dict[str, dict[int, list[Row]]] = {}
    for row in rows:
        if (users := row.figure("concurrency")) is not None:
            found.setdefault(_name(row), {}).setdefault(int(users), []).append(row)
    return {name: [_point(users, mine) for users, mine in sorted(by.items())] for name, by in found.items()}


def _name(row: Row) -> str:
    key = str(row.get("key") or f"{row.get('model')}/{row.get('workload')}/")
    arm = f" AITER {row['aiter']}" if row.get("aiter") else ""
    most = f", {row['max_requests']} requests" if row.get("max_requests") else ""
    return key.rpartition("/")[0] + arm + most


def _point(users: int, rows: list[Row]) -> Point:
    return Point(
        users,
        _mean(rows, "achieved_concurrency"),
        _mean(rows, "output_throughput"),
        _mean(rows, "total_token_throughput"),
        tuple(rows),
    )


def _mean(rows: Sequence[Row], name: str) -> float:
    values = figures(rows, name)
    return statistics.fmean(values) if values else 0.0


def _throughput(point: Point, headline: str) -> float:
    return point.total if headline == "total_token_throughput" else point.output


def _codes(points: Sequence[Point], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the wanted codes that every point carries in some row."""
    carried = [listed(point.rows) for point in points]
    return tuple(code for code in wanted if all(code in codes for codes in carried))


# --- the checks


def _plateau(rows: Sequence[Row], _: str) -> Iterator[Finding]:
    """Levels beyond the number of requests: the same load under several names."""
    for name, points in curves(rows).items():
        for same in _alike(points):
            codes = _codes(same[1:], ("concurrency_not_delivered", "too_few_requests"))
            users = ", ".join(str(p.users) for p in same)
            text = f"levels {users} all had about {same[-1].in_flight:.0f} requests in flight"
            yield Finding("plateau", name, text, codes)


def _alike(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Yield runs of two or more neighbouring levels with equal requests in flight, fewer than declared."""
    group: list[Point] = []
    for point in points:
        near = group and abs(point.in_flight / group[-1].in_flight - 1) < SAME
        if near and point.in_flight < UNDELIVERED * point.users:
            group.append(point)
            continue
        if len(group) > 1:
            yield group
        group = [point]
    if len(group) > 1:
        yield group


def _wave(rows: Sequence[Row], headline: str) -> Iterator[Finding]:
    """A peak before a last wave that is not full."""
    for name, points in curves(rows).items():
        for before, point in itertools.pairwise(points):
            requests = _mean(point.rows, "completed")
            counted = all(row.get("window_ended_by") == "count" for row in point.rows)
            gain = _throughput(point, headline) / _throughput(before, headline) - 1
            if (
                counted
                and gain < FLAT
                and point.users < requests < 5 * point.users
                and requests % point.users
            ):
                text = (
                    f"{gain:+.1%} from {before.users} to {point.users} users: {requests:.0f} requests end in a wave"
                    f" of {requests % point.users:.0f}"
                )
                codes = _codes([point], ("count_bound", "too_few_requests"))
                yield Finding("wave", name, text, codes)


def _knee(rows: Sequence[Row], headline: str) -> Iterator[Finding]:
    """A saturation claim where no more requests were in flight than before."""
    for name, points in curves(rows).items():
        for before, point in itertools.pairwise(points):
            if _throughput(point, headline) >= (1 + GAIN) * _throughput(before, headline):
                continue
            if (
                point.in_flight < (1 + GAIN) * before.in_flight
                and point.in_flight < UNDELIVERED * point.users
            ):
                text = (
                    f"saturated at {point.users} by the rule of {GAIN:.0%}, with {point.in_flight:.0f} in flight"
                    f" after {before.in_flight:.0f}: the number of requests is the knee"
                )
                yield Finding("knee", name, text, _codes([point], ("concurrency_not_delivered",)))
            break


def _headline(rows: Sequence[Row], headline: str) -> Iterator[Finding]:
    """Prompt tokens counted as throughput."""
    if headline != "total_token_throughput":
        return
    for name, points in curves(rows).items():
        best = max(points, key=lambda point: point.total)
        if best.output and best.total > 2 * best.output:
            share = best.output / best.total
            text = f"of {best.total:,.0f} tokens/s at {best.users} users {share:.0%} are output"
            yield Finding("headline", name, text, ())


def _cached(rows: Sequence[Row], _: str) -> Iterator[Finding]:
    """Prompts that came from the cache and were not computed."""
    for name, points in curves(rows).items():
        hit = [point for point in points if _hits(point) > SAME]
        if hit:
            best = max(hit, key=lambda point: point.total)
            text = (
                f"{_hits(best):.0%} of the prompt tokens at {best.users} users came out of the prefix cache"
            )
            yield Finding("cached", name, text, _codes(hit, ("prefix_cache_hits",)))


def _hits(point: Point) -> float:
    prompts = _mean(point.rows, "server_prompt_tokens")
    found = _mean(point.rows, "prefix_cache_hits") + _mean(point.rows, "external_prefix_cache_hits")
    return found / prompts if prompts else 0.0


def _lengths(rows: Sequence[Row], _: str) -> Iterator[Finding]:
    """Repeats that differ because their answers differ."""
    for name, points in curves(rows).items():
        for point in points:
            if len(point.rows) < 2 or not _codes([point], ("natural_lengths",)):
                continue
            spread, answers = _cov(point.rows, "total_token_throughput"), _cov(point.rows, "osl_had")
            if not answers or answers < EXPLAINS * spread:
                continue
            asked, had = _mean(point.rows, "osl_asked"), _mean(point.rows, "osl_had")
            text = (
                f"at {point.users} users repeats differ by {spread:.1%} (CoV) and their answers by {answers:.1%};"
                f" {had:.0f} tokens on average where {asked:.0f} were asked"
            )
            yield Finding("lengths", name, text, ("natural_lengths",))


def _cov(rows: Sequence[Row], name: str) -> float:
    values = figures(rows, name)
    return statistics.stdev(values) / statistics.fmean(values) if len(values) > 1 and any(values) else 0.0


def _condition(rows: Sequence[Row], _: str) -> Iterator[Finding]:
    """Levels of an ablation that are one condition, counted as several."""
    arms: dict[str, set[str]] = {}
    for row in rows:
        arms.setdefault(f"{row.get('model')}/{row.get('workload')}", set()).add(str(row.get("aiter")))
    for name, values in arms.items():
        if len(values) < 2:
            continue
        mine = [row for row in rows if f"{row.get('model')}/{row.get('workload')}" == name]
        groups = [
            tuple(point.users for point in same)
            for points in curves(mine).values()
            for same in _alike(points)
        ]
        for users in dict.fromkeys(groups):
            if groups.count(users) == len(values):
                text = f"levels {', '.join(map(str, users))} of the arms are one condition: one effect, not {len(users)}"
                yield Finding("condition", name, text, ("concurrency_not_delivered",))


def _client(rows: Sequence[Row], _: str) -> Iterator[Finding]:
    """A client that never reaches the declared users in flight, although there were enough requests."""
    for name, points in curves(rows).items():
        for point in points:
            began = _mean(point.rows, "requests_per_user") * point.users
            if _mean(point.rows, "peak_concurrency") < 0.5 * min(point.users, began):
                law = _mean(point.rows, "request_throughput") * _mean(point.rows, "mean_e2el_ms") / 1e3
                text = (
                    f"{point.in_flight:.0f} in flight at {point.users} users (rate x latency says {law:.0f})"
                )
                yield Finding("client", name, text, _codes([point], ("concurrency_not_delivered",)))


FAULTS: tuple[Fault, ...] = (
    Fault("plateau", "a plateau where the requests of a level run out", _plateau),
    Fault("wave", "a peak and a fall that are a last wave half full", _wave),
    Fault("knee", "a saturation point that moves with the number of requests", _knee),
    Fault("headline", "prompt and image tokens counted as throughput", _headline),
    Fault("cached", "prompts out of the prefix cache, counted as if computed", _cached),
    Fault("lengths", "variation of answer lengths taken for variation of the server", _lengths),
    Fault("condition", "levels of an ablation that are one condition", _condition),
    Fault("client", "a client test with a handful of requests in flight", _client),
)
