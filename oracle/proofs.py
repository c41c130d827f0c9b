"""Holds the rules against the answers of vLLM's own code, and writes what the answers prove.

`python oracle/proofs.py` prints the table and every disagreement, and exits with 1 if there is one. `--write` also writes
`configs/rules/proved.yaml`, from which `bench` shows the standing of a rule. docs/proofs.md explains the terms.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from packaging.version import Version

if __name__ == "__main__":  # as a program; a test has the folders on its path already
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import questions as maker
from questions import Question, View
from rocbench.rules.load import FOLDER, shipped
from rocbench.rules.table import Rule, RuleTable
from rocbench.rules.versions import Range

PROOFS = FOLDER.parent / "proofs"
PROVED = FOLDER / "proved.yaml"
CANNOT_SEE = ("kernel", "gpu_memory", "triton", "needs_weights", "needs_tokenizer", "other")
"""Reasons why this machine cannot see what a rule says."""
SAME_DTYPE = {"fp8": "fp8_e4m3", "float16": "half"}
"""KV dtypes with two names."""
PINNED = {
    "--max-num-batched-tokens": "max_num_batched_tokens",
    "--max-num-seqs": "max_num_seqs",
    "--max-model-len": "max_model_len",
    "--gpu-memory-utilization": "memory",
    "--enable-prefix-caching": "prefix_caching",
}
"""Pinned defaults that an answer shows, and their keys."""


@dataclass(frozen=True, slots=True)
class Proofs:
    """The answers of one release."""

    vllm: str
    header: Mapping[str, Any]
    answers: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A plan about which bench and vLLM differ."""

    question: Question
    view: View
    kind: str
    """`error`: vLLM refuses a plan that bench accepts. `rule`: vLLM accepts a plan that a rule refuses.
    `value`: they expect different values."""
    name: str
    """The rule, or the value's name; of a refusal, vLLM's message."""
    text: str

    def __str__(self) -> str:
        plan = " ".join(self.view.about)
        return f"{self.question.vllm} {self.question.gfx} {self.question.id} ({plan}): {self.text}"


@dataclass(frozen=True, slots=True)
class Excepted:
    """A named exception: disagreements that the oracle cannot help, with the reason."""

    kind: str
    pattern: str
    """A glob of the rule, of vLLM's message, or of the value's name."""
    span: Range | None
    models: tuple[str, ...]
    gfx: tuple[str, ...]
    cannot_see: str
    why: str

    def covers(self, found: Disagreement) -> bool:
        """True if the exception is about this disagreement."""
        question = found.question
        return (
            self.kind == found.kind
            and fnmatchcase(found.name, self.pattern)
            and (self.span is None or self.span.holds(question.vllm))
            and any(fnmatchcase(question.model, model) for model in self.models)
            and question.gfx in self.gfx
        )


@dataclass(frozen=True, slots=True)
class Claims:
    """What answers must show so that they prove a rule, where the rule's message alone does not say it."""

    refusals: Mapping[str, str] = field(default_factory=dict)
    """A pattern of vLLM's words, for rules that refuse with other words than vLLM."""
    shown: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    """For rules that refuse nothing: by side of the rule, the values of every answer."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One release: its questions, the answers to them, and the disagreements."""

    vllm: str
    questions: Sequence[Question]
    answers: Mapping[str, Mapping[str, Any]]
    """Only those to questions that are made now, and only yes or no."""
    unclear: Mapping[str, Mapping[str, Any]]
    """Answers that are neither: this machine could not ask."""
    outdated: int
    """Answers to plans that are not made any more."""
    disagreements: tuple[Disagreement, ...]
    """Without those that a named exception covers."""
    excepted: tuple[tuple[Excepted, Disagreement], ...]
    compared: int
    """Values that both sides state."""

    @property
    def not_asked(self) -> int:
        """Questions without an answer."""
        return len(self.questions) - len(self.answers) - len(self.unclear)

    def accepted(self, *, yes: bool) -> int:
        """Plans that vLLM accepted, or refused."""
        return sum(answer["accepted"] is yes for answer in self.answers.values())


def read(folder: Path = PROOFS) -> dict[str, Proofs]:
    """The committed answers by release."""
    found = {}
    for path in sorted(folder.glob("*.jsonl"), key=lambda path: Version(path.stem)):
        header, *answers = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        found[path.stem] = Proofs(path.stem, header, {answer["id"]: answer for answer in answers})
    return found


def read_exceptions(path: Path = PROOFS / "exceptions.yaml") -> tuple[Excepted, ...]:
    """The named exceptions.

    Raises:
        ValueError: an entry is incomplete.
    """
    data = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    return tuple(_excepted(raw) for raw in (data or {}).get("exceptions") or ())


def _excepted(raw: Mapping[str, Any]) -> Excepted:
    kinds = [kind for kind in ("rule", "error", "value") if kind in raw]
    unknown = set(raw) - {"rule", "error", "value", "vllm", "model", "gfx", "cannot_see", "why"}
    if len(kinds) != 1 or unknown:
        raise ValueError(f"an exception names one of rule, error, value: {dict(raw)}")
    if raw.get("cannot_see") not in CANNOT_SEE or not raw.get("why"):
        raise ValueError(f"an exception says why and one of {', '.join(CANNOT_SEE)}: {dict(raw)}")
    return Excepted(
        kind=kinds[0],
        pattern=raw[kinds[0]],
        span=Range.parse(raw["vllm"]) if "vllm" in raw else None,
        models=_listed(raw.get("model", "*")),
        gfx=_listed(raw.get("gfx", list(maker.GFX))),
        cannot_see=raw["cannot_see"],
        why=raw["why"],
    )


def _listed(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def read_claims(path: Path = PROOFS / "claims.yaml") -> Claims:
    """What answers must show beyond the rules' own messages."""
    data = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    return Claims((data or {}).get("refusals") or {}, (data or {}).get("shown") or {})


# --- judging. Pure.


def judge(proofs: Proofs, questions: Sequence[Question], exceptions: Sequence[Excepted]) -> Judged:
    """Compare the answers of a release with what the rules say of the same plans."""
    given = {q.id: proofs.answers[q.id] for q in questions if q.id in proofs.answers}
    answers = {key: answer for key, answer in given.items() if answer["accepted"] is not None}
    unclear = {key: answer for key, answer in given.items() if answer["accepted"] is None}
    left: list[Disagreement] = []
    excepted: list[tuple[Excepted, Disagreement]] = []
    compared = 0
    for question in questions:
        if question.id not in answers:
            continue
        for view in question.views:
            compared += len(list(_compared(view, answers[question.id])))
            for found in _differences(question, view, answers[question.id]):
                name = next((one for one in exceptions if one.covers(found)), None)
                if name is None:
                    left.append(found)
                else:
                    excepted.append((name, found))
    outdated = len(proofs.answers.keys() - given.keys())
    return Judged(proofs.vllm, questions, answers, unclear, outdated, tuple(left), tuple(excepted), compared)


def _differences(question: Question, view: View, answer: Mapping[str, Any]) -> Iterator[Disagreement]:
    if answer["accepted"] is False:
        if view.judged and not view.refused and not view.doubts:
            error = str(answer.get("error"))
            text = f"vLLM refuses at {answer.get('refused_at')}: {error}"
            yield Disagreement(question, view, "error", error, text)
        return
    for rule, message in view.refused.items():
        yield Disagreement(question, view, "rule", rule, f"vLLM accepts; [{rule}] {message}")
    for name, ours, theirs in _compared(view, answer):
        if not _same(ours, theirs):
            yield Disagreement(question, view, "value", name, f"{name}: bench {ours}, vLLM {theirs}")


def _compared(view: View, answer: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Values that both sides state: name, bench's, vLLM's."""
    if answer["accepted"] is not True:
        return
    ours = {**view.chosen, **{PINNED[name]: value for name, value in view.pinned.items() if name in PINNED}}
    for name, value in ours.items():
        theirs = _final_mode(answer) if name == "graph_mode" else answer.get(name)
        if theirs is not None and theirs != "auto":
            yield name, value, theirs


def _final_mode(answer: Mapping[str, Any]) -> Any:
    """The graph mode after vLLM's model runner reduced it to what the backend supports; None if that decides more.

    The configuration still has the mode that was asked for. Source: _check_and_update_cudagraph_mode of
    v1/worker/gpu_model_runner.py, resolve_cudagraph_mode_and_sizes of config/compilation.py.
    """
    mode, support = answer.get("graph_mode"), answer.get("graph_support")
    if answer.get("backend") == "ROCM_AITER_MLA_SPARSE":  # its indexer has a backend of its own
        return None
    if support == "UNIFORM_SINGLE_TOKEN_DECODE" and "--speculative-config" in answer["args"]:
        return None
    if mode in {None, "NONE", "PIECEWISE"} or support == "ALWAYS":
        return mode
    if support == "NEVER":
        return "PIECEWISE" if mode == "FULL_AND_PIECEWISE" else None
    return mode if support is not None and mode in {"FULL_AND_PIECEWISE", "FULL_DECODE_ONLY"} else None


def _same(ours: Any, theirs: Any) -> bool:
    return SAME_DTYPE.get(ours, ours) == SAME_DTYPE.get(theirs, theirs)


def idle(judged: Iterable[Judged], exceptions: Iterable[Excepted]) -> list[Excepted]:
    """Exceptions that cover nothing, although releases in their range were asked."""
    asked = list(judged)
    used = [name for one in asked for name, _ in one.excepted]
    return [
        name
        for name in exceptions
        if name not in used and any(name.span is None or name.span.holds(one.vllm) for one in asked)
    ]


# --- standing


def proved(judged: Iterable[Judged], table: RuleTable, claims: Claims) -> dict[str, tuple[str, ...]]:
    """Rules that the answers prove, each with its releases. Pure."""
    releases: dict[str, list[str]] = {}
    asked = [(one, _by_side(one)) for one in judged]
    for one, sides in asked:
        for rule in table.rules:
            others = [of.get(rule.id, {}) for _, of in asked]
            if _proves(rule, sides.get(rule.id, {}), others, claims) or (rule.pin and _pins(one)):
                releases.setdefault(rule.id, []).append(one.vllm)
    return {rule: tuple(found) for rule, found in sorted(releases.items())}


Sides = Mapping[str, list[tuple[View, Mapping[str, Any]]]]


def _by_side(one: Judged) -> dict[str, dict[str, list[tuple[View, Mapping[str, Any]]]]]:
    """By rule and side: the plans with their answers. A plan that a rule refuses is on its side `refused`."""
    found: dict[str, dict[str, list[tuple[View, Mapping[str, Any]]]]] = {}
    for question in one.questions:
        answer = one.answers.get(question.id)
        if answer is None:
            continue
        for view in question.views:
            for rule in view.refused:
                found.setdefault(rule, {}).setdefault("refused", []).append((view, answer))
            if view.about[0] == "rule" and view.about[1] not in view.refused:
                found.setdefault(view.about[1], {}).setdefault(view.about[2], []).append((view, answer))
    return found


def _proves(rule: Rule, sides: Sides, releases: Iterable[Sides], claims: Claims) -> bool:
    """True if the answers of one release prove a rule.

    A rule that refuses: vLLM refused every plan that the rule refuses, at least one with the rule's words, and accepted
    a plan on the other side: without the condition, or the same plan in a release outside the rule's range, if the
    rule has no other condition. Another rule: `claims.yaml` lists what every answer on each side shows.
    """
    if rule.id in claims.shown:
        return all(
            sides.get(side) and all(_shows(answer, values) for _, answer in sides[side])
            for side, values in claims.shown[rule.id].items()
        )
    if rule.severity != "hard_error":
        return False
    refused = sides.get("refused", [])
    across = releases if rule.span is not None and not rule.when.checks else [sides]
    return (
        bool(refused)
        and all(answer["accepted"] is False for _, answer in refused)
        and any(says(rule, answer, claims) for _, answer in refused)
        and any(
            answer["accepted"] is True and not view.refused
            for one in across
            for view, answer in (*one.get("silent", []), *one.get("sets", []))
        )
    )


def _shows(answer: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """True if vLLM accepted the plan (unless `accepted: false` is claimed), with these values."""
    if answer["accepted"] is not values.get("accepted", True):
        return False
    return all(_fits(answer.get(name), wanted) for name, wanted in values.items())


def _fits(value: Any, wanted: Any) -> bool:
    """True if a value is the wanted one, matches a glob, or is one of a list."""
    if isinstance(wanted, list):
        return any(_fits(value, one) for one in wanted)
    if isinstance(wanted, str):
        return isinstance(value, str) and fnmatchcase(value, wanted)
    return value is not None and bool(value == wanted)


def says(rule: Rule, answer: Mapping[str, Any], claims: Claims) -> bool:
    """True if vLLM's error has the words of the rule's message, or those that `claims.yaml` gives for it."""
    error = str(answer.get("error") or "")
    if rule.id in claims.refusals:
        return re.search(claims.refusals[rule.id], error) is not None
    return quotes(rule.message, error)


_PIECE = re.compile(r"[.,;:]+(?:\s|$)|[\[\]()'\"`]")
_QUOTED = re.compile(r"'([^'{}]+ [^'{}]+)'|`([^`{}]+ [^`{}]+)`")
_FACT = re.compile(r"\{[^{}]*\}")
_CUT = 295
"""Length from which an error may be cut: answers keep 300 characters."""


def quotes(message: str, error: str) -> bool:
    """True if an error has what a rule's message quotes in quotation marks, or else every piece of the message.

    A fact in the message can be any word. If the error was cut, the beginning of the message decides.
    """
    flat = " ".join(error.split())
    quoted = ["".join(found) for found in _QUOTED.findall(message)]
    if any(_pattern(text).search(flat) for text in quoted):
        return True
    pieces = [piece.strip() for piece in _PIECE.split(message) if len(piece.split()) > 1]
    found = [_pattern(piece).search(flat) is not None for piece in pieces]
    cut = len(error) >= _CUT and bool(pieces) and len(pieces[0].split()) > 4
    return bool(found) and (all(found) or (cut and found[0]))


def _pattern(piece: str) -> re.Pattern[str]:
    words = [r"\S+?".join(map(re.escape, _FACT.split(word))) for word in piece.split()]
    return re.compile(r"(?<![\w-])" + r"\s+".join(words) + r"(?![\w-])", re.IGNORECASE)


def _pins(one: Judged) -> bool:
    """True if every plan that leaves its values to vLLM got the defaults that bench pins."""
    seen: set[str] = set()
    for question in one.questions:
        answer = one.answers.get(question.id, {"accepted": None})
        for view in question.views:
            if not view.pinned:
                continue
            for name, ours, theirs in _compared(view, answer):
                if name in PINNED.values() and not _same(ours, theirs):
                    return False
                seen.add(name)
    return seen >= set(PINNED.values())


# --- the files and the page


@cache
def all_judged() -> tuple[Judged, ...]:
    """Every release with committed answers, judged."""
    exceptions = read_exceptions()
    return tuple(judge(one, asked(version), exceptions) for version, one in read().items())


@cache
def asked(version: str) -> list[Question]:
    """The questions of a release, made once: it takes a second or two."""
    return maker.questions(version)


PROVED_HEAD = """\
# The rules that vLLM's own configuration code proved, each with the releases. Written by oracle/proofs.py from
# configs/proofs/: do not edit. docs/proofs.md explains what counts as a proof.
"""


def proved_text() -> str:
    """The file `configs/rules/proved.yaml`."""
    found = proved(all_judged(), shipped(), read_claims())
    if not found:
        return PROVED_HEAD + "proved: {}\n"
    lines = [f"  {rule}: [{', '.join(releases)}]\n" for rule, releases in found.items()]
    return PROVED_HEAD + "proved:\n" + "".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Print the table and the disagreements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write configs/rules/proved.yaml")
    given = parser.parse_args(argv)
    judged = all_judged()
    for one in judged:
        sys.stdout.write(
            f"{one.vllm}: {len(one.answers)} of {len(one.questions)} asked, {one.accepted(yes=True)} accepted, "
            f"{one.accepted(yes=False)} refused, {len(one.disagreements)} disagreements, "
            f"{len(one.excepted)} excepted, {len(one.unclear)} unclear, {one.outdated} outdated\n"
        )
    for found in (d for one in judged for d in one.disagreements):
        sys.stdout.write(f"{found}\n")
    unused = idle(judged, read_exceptions())
    for name in unused:
        sys.stdout.write(f"this exception covers nothing: {name.kind} {name.pattern}\n")
    if given.write:
        PROVED.write_text(proved_text(), encoding="utf-8")
    return 1 if unused or any(one.disagreements for one in judged) else 0


if __name__ == "__main__":
    sys.exit(main())
