"""Read the rule table of the package. This is the only module of `rules` that reads files."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from rocbench.rules.reader import (
    parse_architectures,
    parse_defaults,
    parse_names,
    parse_parts,
    parse_reasons,
    parse_rules,
)
from rocbench.rules.table import RuleTable, RuleTableError

FOLDER = Path(__file__).parent.parent / "configs" / "rules"
_DATA = {
    "names.yaml",
    "environment.yaml",
    "aiter.yaml",
    "architectures.yaml",
    "defaults.yaml",
    "reasons.yaml",
    "proved.yaml",
}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if PyYAML was built with it


@lru_cache(maxsize=1)
def shipped() -> RuleTable:
    """The rule table of the package, read once."""
    return read_rules(FOLDER)


def read_rules(folder: Path) -> RuleTable:
    """The rule table of a folder: the data files, and all other YAML files as rules, sorted by name.

    Raises:
        RuleTableError: a file is missing, is not YAML, or holds an invalid rule.
    """
    names = parse_names("names.yaml", _yaml(folder / "names.yaml"), _yaml(folder / "environment.yaml")["env"])
    rules = tuple(
        rule
        for path in sorted(folder.glob("*.yaml"))
        if path.name not in _DATA
        for rule in parse_rules(path.name, _yaml(path), names)
    )
    seen: set[str] = set()
    for rule in rules:
        if rule.id in seen:
            raise RuleTableError("this id occurs twice", where=f"{rule.file}: {rule.id}: id")
        seen.add(rule.id)
    return RuleTable(
        names=names,
        parts=parse_parts("aiter.yaml", _yaml(folder / "aiter.yaml"), names),
        architectures=parse_architectures(_yaml(folder / "architectures.yaml")),
        rules=rules,
        defaults=parse_defaults("defaults.yaml", _yaml(folder / "defaults.yaml"), names),
        reasons=parse_reasons("reasons.yaml", _yaml(folder / "reasons.yaml"), names),
        proved={
            str(rule): tuple(map(str, releases))
            for rule, releases in _yaml(folder / "proved.yaml")["proved"].items()
        },
    )


def _yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 a safe loader
    except OSError as error:
        raise RuleTableError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except yaml.YAMLError as error:
        raise RuleTableError(f"not valid YAML: {error}", where=str(path)) from None
    if not isinstance(data, dict):
        raise RuleTableError("must be a mapping", where=str(path))
    return data
