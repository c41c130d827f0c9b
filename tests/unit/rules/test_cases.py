"""Each rule acts inside its bounds and not outside; the cases notice a rule that is lost or moved."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

import pytest
from packaging.version import Version

from rocbench.rules.conditions import Condition
from rocbench.rules.load import shipped
from rocbench.rules.table import Rule, RuleTable
from rocbench.rules.versions import Range
from rulecases import DATA, cases_of, wrong

TABLE = shipped()
PATCHES = ("0.11.2", *TABLE.names.releases, "0.34.0")
MINORS = tuple(version for version in PATCHES if Version(version).micro == 0)


def test_every_rule_has_cases():
    """No rule is without a case, and no case without a rule."""
    assert set(DATA["cases"]) == {rule.id for rule in TABLE.rules}


@pytest.mark.parametrize("rule", [rule.id for rule in TABLE.rules])
def test_rule_does_what_its_cases_say(rule):
    """The rule sets, refuses, warns, offers or labels where it must, and is silent where it must."""
    assert not [fault for case in cases_of(rule) if (fault := wrong(case, TABLE))]


def mutants(rule: Rule) -> Iterator[tuple[str, RuleTable]]:
    """The table without the rule, without its range, and with each bound of it moved by one release."""
    yield f"{rule.id} removed", _table_with(rule.id)
    if rule.span is None:
        return
    bounds = rule.span.text.split(",")
    yield f"{rule.id} at every version", _table_with(rule.id, dataclasses.replace(rule, span=None))
    for place, bound in enumerate(bounds):
        for moved in _moved(bound):
            text = ",".join([*bounds[:place], moved, *bounds[place + 1 :]])
            yield f"{rule.id} {text}", _table_with(rule.id, dataclasses.replace(rule, span=Range.parse(text)))


def _table_with(rule_id: str, *changed: Rule) -> RuleTable:
    """The table with a changed rule, or none, in place of the one of this id."""
    rules = TABLE.rules
    place = [rule.id for rule in rules].index(rule_id)
    return dataclasses.replace(TABLE, rules=(*rules[:place], *changed, *rules[place + 1 :]))


def _moved(bound: str) -> Iterator[str]:
    """The bound one minor release lower and one higher; a bound at a patch, one patch lower and higher."""
    operator, version = re.fullmatch(r"([<>]=?)\s*(\S+)", bound).groups()
    releases = PATCHES if Version(version).micro else MINORS
    place = next(i for i, known in enumerate(releases) if Version(known) >= Version(version))
    yield f"{operator}{releases[place - 1] if place else PATCHES[0]}"
    yield f"{operator}{releases[place + 1]}"


@pytest.mark.parametrize("rule", TABLE.rules, ids=lambda rule: rule.id)
def test_a_lost_or_moved_rule_is_noticed(rule):
    """For every mutant of the rule, some case of it fails: bounds are held to the minor release, or to the patch that they name."""
    survivors = [
        name for name, table in mutants(rule) if not any(wrong(case, table) for case in cases_of(rule.id))
    ]
    assert not survivors


@pytest.mark.parametrize("rule", TABLE.rules, ids=lambda rule: rule.id)
def test_a_lost_condition_is_noticed(rule):
    """Without any one of its conditions, some case of the rule fails: none is idle."""
    checks = rule.when.checks
    survivors = [
        checks[place][0]
        for place in range(len(checks))
        if not _noticed(rule, dataclasses.replace(rule, when=Condition(checks[:place] + checks[place + 1 :])))
    ]
    assert not survivors


def _noticed(rule: Rule, mutant: Rule) -> bool:
    return any(wrong(case, _table_with(rule.id, mutant)) for case in cases_of(rule.id))
