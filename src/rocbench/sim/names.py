"""Reads the flag names of the rule table."""

from __future__ import annotations

from importlib import resources

import yaml

from rocbench.rules.flags import Name, Names


def known_names() -> Names:
    """All flags of the releases read, from `configs/rules/names.yaml`."""
    raw = yaml.safe_load((resources.files("rocbench") / "configs/rules/names.yaml").read_text())

    def read(part: str) -> dict[str, Name]:
        return {
            name: Name(
                kind=said.get("type", "str"),
                since=_text(said.get("since")),
                until=_text(said.get("until")),
                also=tuple(said.get("also", ())),
            )
            for name, said in raw[part].items()
        }

    return Names(tuple(str(release) for release in raw["releases"]), read("flags"), read("env"))


def _text(value: object) -> str | None:
    return None if value is None else str(value)
