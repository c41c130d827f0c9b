"""Checks of a study's rows for eight artefacts that its harness can cause. Pure.

Each check takes `cells` rows of one or more runs and finds the artefact from the rows themselves: requests in
flight, the end of the window, repeats, lengths, cache hits. Rows of a sound method show none.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rocbench.report.curves import by_level
from rocbench.tables.row import Row, figures, listed

SAME = 0.05
"""Share within which in-flight figures, or throughputs, count as equal."""
UNDELIVERED = 0.95
"""With fewer requests in flight than this share of the declared users, the users were not delivered."""
FLAT = 0.02
"""Maximum gain of a level over the previous one, as a share, at which a curve is flat."""
EXPLAINS = 0.5
"""Answer lengths that vary by less than this share of the variation of repeats do not explain it."""
GAIN = 0.05
"""The study's own rule: a level that gains less than this over the previous level is saturated."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """One artefact in one curve."""

    check: str
    """Id of the check that found it."""
    where: str
    evidence: str
    codes: tuple[str, ...]
    """Verdict codes that the rows carry for it; empty if only the check finds it."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check for one kind of artefact."""

    id: str
    title: str
    find: Callable[[Sequence[Row], str], Iterator[Artefact]]
    """Takes rows and the column that the study calls throughput."""


@dataclass(frozen=True, slots=True)
class CurveLevel:
    """A level of a curve with all its repeats, invalid ones included."""

    users: int
    rows: tuple[Row, ...]

    @property
    def in_flight(self) -> float:
        """Mean requests in flight."""
        return _mean(self.rows, "achieved_concurrency")

    @property
    def output(self) -> float:
        """Mean output tokens/s."""
        return _mean(self.rows, "output_throughput")

    @property
    def total(self) -> float:
        """Mean total tokens/s."""
        return _mean(self.rows, "total_token_throughput")

    def mean(self, column: str) -> float | None:
        """Return the mean over repeats; None if no row has the column."""
        values = figures(self.rows, column)
        return statistics.fmean(values) if values else None

    def spread(self, column: str) -> float | None:
        """Return the coefficient of variation over repeats; None for fewer than two."""
        return _cov(self.rows, column) if len(figures(self.rows, column)) > 1 else None


def examine(rows: Sequence[Row], headline: str) -> list[Artefact]:
    """Return every artefact that the checks find. `headline` is the column that the study calls throughput."""
    return [artefact for check in CHECKS for artefact in check.find(counted(rows), headline)]


def counted(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that have figures and were not discarded."""
    return [row for row in rows if row.figure("output_throughput") and not row.discarded]


# --- curves


def curves(rows: Sequence[Row]) -> dict[str, list[CurveLevel]]:
    """Return levels in order of users, by server, workload and maximum number of requests per level."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        if row.figure("concurrency") is not None:
            by_name.setdefault(_name(row), []).append(row)
    return {
        name: [CurveLevel(int(users), tuple(group)) for users, group in by_level(named).items()]
        for name, named in by_name.items()
    }


def _name(row: Row) -> str:
    key = str(row.get("key") or f"{row.get('model')}/{row.get('workload')}/")
    arm = f" AITER {row['aiter']}" if row.get("aiter") else ""
    most = f", {row['max_requests']} requests" if row.get("max_requests") else ""
    return key.rpartition("/")[0] + arm + most


def _mean(rows: Sequence[Row], name: str) -> float:
    values = figures(rows, name)
    return statistics.fmean(values) if values else 0.0


def _common_codes(levels: Sequence[CurveLevel], *codes: str) -> tuple[str, ...]:
    """Return those of these codes that every level has in some row."""
    carried = [listed(level.rows) for level in levels]
    return tuple(code for code in codes if all(code in present for present in carried))


# --- the checks


def _plateau(rows: Sequence[Row], _: str) -> Iterator[Artefact]:
    """Levels beyond the number of requests: the same load under several names."""
    for name, levels in curves(rows).items():
        for same in _equal_loads(levels):
            codes = _common_codes(same[1:], "concurrency_not_delivered", "too_few_requests")
            users = ", ".join(str(level.users) for level in same)
            text = f"levels {users} all had about {same[-1].in_flight:.0f} requests in flight"
            yield Artefact("plateau", name, text, codes)


def _equal_loads(levels: Sequence[CurveLevel]) -> Iterator[list[CurveLevel]]:
    """Yield groups of neighbouring levels with equal requests in flight, fewer than declared."""
    group: list[CurveLevel] = []
    for level in levels:
        near = group and abs(level.in_flight / group[-1].in_flight - 1) < SAME
        if near and level.in_flight < UNDELIVERED * level.users:
            group.append(level)
            continue
        if len(group) > 1:
            yield group
        group = [level]
    if len(group) > 1:
        yield group


def _steps(rows: Sequence[Row], headline: str) -> Iterator[tuple[str, CurveLevel, CurveLevel, float]]:
    """Yield each curve's neighbouring levels, and the gain of throughput between them as a share."""
    for name, levels in curves(rows).items():
        for before, level in itertools.pairwise(levels):
            yield name, before, level, _mean(level.rows, headline) / _mean(before.rows, headline) - 1


def _wave(rows: Sequence[Row], headline: str) -> Iterator[Artefact]:
    """A peak before a last wave that is not full."""
    for name, before, level, gain in _steps(rows, headline):
        requests = _mean(level.rows, "completed")
        limited = all(row.get("window_ended_by") == "count" for row in level.rows)
        last = requests % level.users
        if limited and gain < FLAT and level.users < requests < 5 * level.users and last:
            text = (
                f"throughput changed by {gain:+.1%} from {before.users} to {level.users} users: of {requests:.0f} requests,"
                f" only {last:.0f} were in the last wave"
            )
            yield Artefact("wave", name, text, _common_codes([level], "count_bound", "too_few_requests"))


def _knee(rows: Sequence[Row], headline: str) -> Iterator[Artefact]:
    """A saturation claim at a level with no more requests in flight than the level before it."""
    seen = set()
    for name, before, level, gain in _steps(rows, headline):
        if gain >= GAIN or name in seen:
            continue
        seen.add(name)
        if level.in_flight < min((1 + GAIN) * before.in_flight, UNDELIVERED * level.users):
            text = (
                f"throughput gained less than {GAIN:.0%} at {level.users} users, but only {level.in_flight:.0f} requests were in"
                f" flight (before: {before.in_flight:.0f}): the number of requests, not the server, sets this saturation point"
            )
            yield Artefact("knee", name, text, _common_codes([level], "concurrency_not_delivered"))


def _headline(rows: Sequence[Row], headline: str) -> Iterator[Artefact]:
    """Prompt tokens counted as throughput."""
    if headline != "total_token_throughput":
        return
    for name, levels in curves(rows).items():
        best = max(levels, key=lambda level: level.total)
        if best.output and best.total > 2 * best.output:
            share = best.output / best.total
            text = (
                f"only {share:.0%} of the {best.total:,.0f} tokens/s at {best.users} users are output tokens"
            )
            yield Artefact("headline", name, text, ())


def _cached(rows: Sequence[Row], _: str) -> Iterator[Artefact]:
    """Prompts that came from the cache and were not computed."""
    for name, levels in curves(rows).items():
        cached = [level for level in levels if _hits(level) > SAME]
        if cached:
            best = max(cached, key=lambda level: level.total)
            text = f"{_hits(best):.0%} of the prompt tokens at {best.users} users came from the prefix cache"
            yield Artefact("cached", name, text, _common_codes(cached, "prefix_cache_hits"))


def _hits(level: CurveLevel) -> float:
    """Share of the prompt tokens that were in a cache."""
    prompts = _mean(level.rows, "server_prompt_tokens")
    hits = _mean(level.rows, "prefix_cache_hits") + _mean(level.rows, "external_prefix_cache_hits")
    return hits / prompts if prompts else 0.0


def _lengths(rows: Sequence[Row], _: str) -> Iterator[Artefact]:
    """Repeats that differ because their answers differ."""
    for name, levels in curves(rows).items():
        for level in levels:
            if len(level.rows) < 2 or not _common_codes([level], "natural_lengths"):
                continue
            spread, answers = _cov(level.rows, "total_token_throughput"), _cov(level.rows, "osl_had")
            if not answers or answers < EXPLAINS * spread:
                continue
            requested, mean = _mean(level.rows, "osl_asked"), _mean(level.rows, "osl_had")
            text = (
                f"at {level.users} users, the throughput of the repeats has a CoV of {spread:.1%}, and their answer length a CoV of"
                f" {answers:.1%}; answers have {mean:.0f} tokens on average, but {requested:.0f} were requested"
            )
            yield Artefact("lengths", name, text, ("natural_lengths",))


def _cov(rows: Sequence[Row], name: str) -> float:
    values = figures(rows, name)
    return statistics.stdev(values) / statistics.fmean(values) if len(values) > 1 and any(values) else 0.0


def _condition(rows: Sequence[Row], _: str) -> Iterator[Artefact]:
    """Levels of an ablation that are one condition, counted as several."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(f"{row.get('model')}/{row.get('workload')}", []).append(row)
    for name, group in groups.items():
        arms = {str(row.get("aiter")) for row in group}
        if len(arms) < 2:
            continue
        equal = [
            tuple(level.users for level in same)
            for levels in curves(group).values()
            for same in _equal_loads(levels)
        ]
        for users in dict.fromkeys(equal):
            if equal.count(users) == len(arms):
                text = f"levels {', '.join(map(str, users))} had the same load in each arm: they show one effect, not {len(users)}"
                yield Artefact("condition", name, text, ("concurrency_not_delivered",))


def _client(rows: Sequence[Row], _: str) -> Iterator[Artefact]:
    """A client that does not reach the declared users in flight, although it had enough requests."""
    for name, levels in curves(rows).items():
        for level in levels:
            began = _mean(level.rows, "requests_per_user") * level.users
            if _mean(level.rows, "peak_concurrency") < 0.5 * min(level.users, began):
                law = _mean(level.rows, "request_throughput") * _mean(level.rows, "mean_e2el_ms") / 1e3
                text = f"only {level.in_flight:.0f} requests were in flight with {level.users} users (request rate x latency gives {law:.0f})"
                yield Artefact("client", name, text, _common_codes([level], "concurrency_not_delivered"))


CHECKS = (
    Check("plateau", "a plateau because there are fewer requests than users", _plateau),
    Check("wave", "a drop in throughput because the last wave of requests is not full", _wave),
    Check("knee", "a saturation point that depends on the number of requests", _knee),
    Check("headline", "prompt and image tokens counted as throughput", _headline),
    Check("cached", "cached prompt tokens counted as if they had been computed", _cached),
    Check("lengths", "variation of answer lengths, attributed to the server", _lengths),
    Check("condition", "several levels of an ablation with the same load", _condition),
    Check("client", "a client test with fewer requests in flight than users", _client),
)
