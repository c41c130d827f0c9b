"""vLLM versions against PEP 440 ranges.

A version is reduced to the release it stands for: `0.14.1+rocm700` and `0.14.1.post1` are 0.14.1, `0.16.0rc2` and
`0.16.0.dev4` are 0.16.0. PEP 440 alone would put a release candidate in neither `<0.16` nor `>=0.16`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from rocbench.errors import InputError


def release(text: str) -> Version:
    """The release that `text` stands for.

    Raises:
        InputError: `text` is no version.
    """
    try:
        return Version(Version(text).base_version)
    except InvalidVersion:
        raise InputError(f"{text!r} is not a version", where="vllm", fix="give one such as 0.14.1") from None


def is_development(text: str) -> bool:
    """Whether `text` is a pre-release or development version."""
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
            ValueError: `text` is no range.
        """
        try:
            return cls(text, SpecifierSet(text))
        except InvalidSpecifier:
            raise ValueError(f"{text!r} is not a version range such as '>=0.14,<0.18'") from None

    def holds(self, version: str) -> bool:
        """Whether the release of `version` lies in the range."""
        return self.specifiers.contains(release(version), prereleases=True)

    def any_of(self, versions: Sequence[str]) -> bool:
        """Whether one of `versions` lies in the range."""
        return any(self.holds(version) for version in versions)
