"""Server configurations of one run with the same name, and the facts that distinguish them. Pure.

A key names the model and its axes (`MODEL@axis=value/WORKLOAD/LEVEL`). Two entries of one profile (tp 4 and tp 8) have
neither axes nor different names, so their cells have the same keys. Their differences are then shown like axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rocbench.judgement.compare import FLAGS, plain_value
from rocbench.tables import runformat
from rocbench.tables.row import Row

COLUMNS = {"precision": "precision", "tp": "tp", "aiter": "aiter", "vllm_version": "vllm"}
"""Facts that distinguish configurations before their flags: column, and its name as an axis."""


def disambiguated(rows: Iterable[Row]) -> list[Row]:
    """The rows, with keys that distinguish different servers of one run; unambiguous keys stay unchanged.

    Servers without a difference (each took some cells of one configuration) keep their name.
    """
    listed = list(rows)
    servers: dict[tuple[Any, str], dict[str, dict[str, str]]] = {}
    for row in listed:
        facts = servers.setdefault((row.get("run_id"), row.configuration), {}).setdefault(row.server, {})
        for name, value in _facts(row).items():
            facts.setdefault(name, value)
    names = {place: _names(list(facts.values())) for place, facts in servers.items() if len(facts) > 1}
    renamed = []
    for row in listed:
        _, name = place = row.get("run_id"), row.configuration
        facts = servers[place][row.server]
        shown = ",".join(f"{fact}={facts[fact]}" for fact in names.get(place, ()) if fact in facts)
        rest = str(row.get("key") or "").removeprefix(name)
        key = {"key": f"{name}{',' if '@' in name else '@'}{shown}{rest}"} if shown and rest else {}
        renamed.append(row | key)
    return renamed


def _facts(row: Row) -> dict[str, str]:
    """A row's facts on its server's configuration, by names of axes."""
    facts = {shown: row.get(column) for column, shown in COLUMNS.items()}
    for column in FLAGS:
        for name, value in runformat.json_column(row, column).items():
            facts[name.removeprefix("--") if name.startswith("--") else f"env.{name}"] = value
    return {name: str(plain_value(value)) for name, value in facts.items() if value is not None}


def _names(servers: Sequence[Mapping[str, str]]) -> list[str]:
    """Names of the fewest facts that distinguish all servers that differ; earlier facts take precedence."""
    chosen: list[str] = []
    for name in dict.fromkeys([*COLUMNS.values(), *(name for facts in servers for name in facts)]):
        groups: dict[tuple[str | None, ...], set[str | None]] = {}
        for facts in servers:
            groups.setdefault(tuple(facts.get(n) for n in chosen), set()).add(facts.get(name))
        unknown = {None} if name in COLUMNS.values() else set()  # for a flag, absence is a value
        if any(len(values - unknown) > 1 for values in groups.values()):
            chosen.append(name)
    return chosen
