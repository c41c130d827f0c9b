"""The locks install anywhere what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"([a-z0-9][a-z0-9.-]*)==([\w.+!]+)( ; [\w.' =!<>()-]+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def lines(name: str) -> list[str]:
    """The lines of a lock."""
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def pins(name: str) -> dict[str, str]:
    """Package to version."""
    return {found[1]: found[2] for line in lines(name) if (found := PIN.fullmatch(line))}


def wanted(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for, with the given extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [text for extra in extras for text in project["optional-dependencies"][extra]]
    return [Requirement(text) for text in [*(project["dependencies"] if "dev" in extras else []), *optional]]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-ray.lock"])
def test_a_lock_holds_names_versions_and_hashes_only(name):
    """Any index can serve a lock, since it names none; and every package is fixed by its hashes."""
    strange = [line for line in lines(name) if not (PIN.fullmatch(line) or HASH.fullmatch(line))]
    assert strange == []
    assert pins(name)


@pytest.mark.parametrize(("name", "extra"), [("requirements.lock", "dev"), ("requirements-ray.lock", "ray")])
def test_a_lock_holds_what_the_project_asks_for(name, extra):
    """Nobody added a dependency or raised its bound and forgot scripts/lock."""
    locked = pins(name)
    for requirement in wanted(extra):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not in {name}: run scripts/lock"
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{name} holds {version}: {requirement}"
        )


def test_the_locks_agree():
    """Installing Ray beside the rest changes no version."""
    locked = pins("requirements.lock")
    assert {name: v for name, v in pins("requirements-ray.lock").items() if locked.get(name, v) != v} == {}
