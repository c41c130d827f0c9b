"""Comparison of vLLM versions with PEP 440 ranges.

A version is reduced to its release: `0.14.1+rocm700` and `0.14.1.post1` are 0.14.1, `0.16.0rc2` and
`0.16.0.dev4` are 0.16.0. PEP 440 alone would put a release candidate in neither `<0.16` nor `>=0.16`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from rocbench.errors import InputError


@lru_cache(maxsize=1024)  # a resolution asks for the same few versions thousands of times
def release(text: str) -> Version:
    """The release of the version `text`.

    Raises:
        InputError: `text` is not a version.
    """
    try:
        return Version(Version(text).base_version)
    except InvalidVersion:
        raise InputError(f"{text!r} is not a version", where="vllm", fix="for example 0.14.1") from None


def is_development(text: str) -> bool:
    """True if `text` is a pre-release or development version."""
    version = Version(text)
    return version.is_prerelease or version.is_devrelease


@dataclass(frozen=True, slots=True)
class Range:
    """A PEP 440 range, such as `>=0.14,<0.18`."""

    text: str
    specifiers: SpecifierSet

    @classmethod
    def parse(cls, text: str) -> Range:
        """Read a range.

        Raises:
            ValueError: `text` is not a range.
        """
        try:
            return cls(text, _specifiers(text))
        except InvalidSpecifier:
            raise ValueError(f"{text!r} is not a version range such as '>=0.14,<0.18'") from None

    def holds(self, version: str) -> bool:
        """True if the release of `version` is in the range."""
        return _contains(self.text, version)


@lru_cache(maxsize=1024)
def _specifiers(span: str) -> SpecifierSet:
    return SpecifierSet(span)


@lru_cache(maxsize=8192)
def _contains(span: str, version: str) -> bool:
    return _specifiers(span).contains(release(version), prereleases=True)
