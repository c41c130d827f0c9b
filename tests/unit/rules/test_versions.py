"""Versions stand for releases: nightlies, candidates and local builds fall on the right side of every bound."""

from __future__ import annotations

import pytest

from rocbench.errors import InputError
from rocbench.rules.versions import Range, is_development, release


@pytest.mark.parametrize(
    ("version", "span", "inside"),
    [
        ("0.14.1", ">=0.14,<0.15", True),
        ("0.14.1+rocm700", ">=0.14,<0.15", True),
        ("0.14.1.post1", ">=0.14,<0.15", True),
        ("0.14.1+rocm700", "<=0.14.1", True),
        ("0.16.0rc2", ">=0.16", True),
        ("0.16.0rc2", "<0.16", False),
        ("0.16.0rc2.dev45+gabc1234", ">=0.16,<0.18", True),
        ("0.16.1.dev3+gabc1234.rocm700", ">=0.16,<0.18", True),
        ("0.18.0", "<0.18", False),
        ("0.9.2", ">=0.14", False),
        ("0.32.0+cpu", "==0.32.0", True),
    ],
)
def test_a_version_is_held_as_the_release_it_stands_for(version, span, inside):
    """Pre-releases, development, post and local versions match as their release does."""
    assert Range.parse(span).holds(version) is inside


def test_every_version_is_on_one_side_of_a_bound():
    """A release candidate lies in exactly one of `<X` and `>=X`, which PEP 440 alone does not give."""
    for version in ("0.18.0rc1", "0.18.0.dev1", "0.18.0", "0.18.0.post1", "0.18.0+x", "0.17.9"):
        assert Range.parse("<0.18").holds(version) is not Range.parse(">=0.18").holds(version)


def test_what_is_no_version_is_an_input_error():
    """`latest` is refused with an example."""
    with pytest.raises(InputError, match="'latest' is not a version"):
        release("latest")
    with pytest.raises(ValueError, match="not a version range"):
        Range.parse("0.14 and up")


@pytest.mark.parametrize(
    ("version", "development"),
    [("0.16.0", False), ("0.16.0rc1", True), ("0.16.1.dev3", True), ("0.14.1+a", False)],
)
def test_development_versions_are_told(version, development):
    """Candidates and nightlies are known as such."""
    assert is_development(version) is development
