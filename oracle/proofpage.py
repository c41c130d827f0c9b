"""The page docs/proofs.md: what vLLM's own code was asked, what it answered, and what that proves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import proofs
import questions as maker
from proofs import Excepted, Judged
from rocbench.rules.explain import standing_table
from rocbench.rules.load import shipped
from rocbench.rules.standing import standing

HEAD = """\
# Proofs

vLLM's own configuration code was run as if on 8 MI325X (gfx942) or 8 MI355X (gfx950), on a machine without a GPU. It was
asked about the plans that `bench` makes: it parses the arguments, makes the engine's configuration, chooses the attention
backend, and makes one attention layer and the KV connector where that needs no kernel. `oracle/README.md` describes the
questions and the answers; `src/rocbench/configs/proofs/` holds the answers.

A question is one plan: every model profile on both GPUs, as it is, with AITER off, with KV offload, without each
argument and variable of its serve variant, and with nothing set; and for every rule the plans of its cases, on each side of
its condition and at each edge of its version range. A plan that `bench` refuses is asked as with `--force`.

## Answers

"Partly" counts accepted plans of which this machine could not ask every part. "Unclear" counts plans that it could not
ask at all. "Outdated" counts answers to plans that `bench` does not make any more.
"""
EXPLAINED = """
A **disagreement** is a plan that `bench` accepts and vLLM refuses, a plan that `bench` refuses with a hard error and vLLM
accepts, or a value (backend, block size, KV dtype, graph mode, model runner, pinned default) that differs.
The tests fail for each, unless an exception below covers it.
"""
STANDING = """
## Standing of the rules

A rule that refuses is *proved* in a release if vLLM refused every plan that the rule refuses there, at least one with
the words that the rule's message quotes (or those that `claims.yaml` gives for it), and accepted a plan on the other side: without
the condition, or in a release outside the range if the rule has no other condition. A rule that sets a value as a hard error: vLLM accepted a plan with the value, and refused the plan without it.
Any other rule is proved only if `claims.yaml` says what answers must show, and every answer on each side of the rule shows
it: for example the backend with and without the setting. `pin-defaults`: every plan with nothing set got the defaults that
`bench` pins.
"""


def page() -> str:
    """The page's text."""
    judged, table = proofs.all_judged(), shipped()
    exceptions = proofs.read_exceptions()
    lines = [
        HEAD,
        *_answers(judged),
        EXPLAINED,
        *_left(judged),
        "## Exceptions",
        "",
        *_exceptions(judged, exceptions),
    ]
    lines += [STANDING, *standing_table(table), "", "## Hard errors without a proof", "", *_unproved(judged)]
    return "\n".join(lines) + "\n"


_COLUMNS = (
    "vLLM", "questions", "asked", "not asked", "accepted", "partly", "refused", "unclear", "values compared",
    "with an exception", "disagreements", "outdated", "minutes", "made with",
)  # fmt: skip


def _answers(judged: Iterable[Judged]) -> Iterator[str]:
    yield "| " + " | ".join(_COLUMNS) + " |"
    yield "|---|" + "---:|" * (len(_COLUMNS) - 2) + "---|"
    known = {one.vllm: one for one in judged}
    headers = {version: one.header for version, one in proofs.read().items()}
    for version in dict.fromkeys((*maker.RELEASES, *known)):
        one = known.get(version)
        if one is None:
            count = len(proofs.asked(version))
            yield f"| {version} | {count} | 0 | {count} |" + " - |" * (len(_COLUMNS) - 4)
            continue
        answers = one.answers.values()
        partly = sum(bool(answer["accepted"] and answer.get("unseen")) for answer in answers)
        minutes = sum(answer.get("seconds") or 0 for answer in answers) / 60
        made = headers[version]
        files = (made.get("files") or {}).get("sha256") or "-"
        cells = (
            version,
            len(one.questions),
            len(one.questions) - one.not_asked,
            one.not_asked,
            one.accepted(yes=True),
            partly,
            one.accepted(yes=False),
            len(one.unclear),
            one.compared,
            len(one.excepted),
            len(one.disagreements),
            one.outdated,
            f"{minutes:.0f}",
            f"files {files[:8]}, torch {made.get('torch', '-')}",
        )
        yield "| " + " | ".join(map(str, cells)) + " |"


def _left(judged: Iterable[Judged]) -> Iterator[str]:
    """The disagreements that are left: one line for each text, with its number of plans."""
    found: dict[str, int] = {}
    for one in judged:
        for left in one.disagreements:
            text = f"{one.vllm}: {left.text}"
            found[text] = found.get(text, 0) + 1
    if found:
        yield "## Disagreements\n"
        yield from (f"- {_cell(text)} ({count} plans)" for text, count in found.items())
        yield ""


def _exceptions(judged: Iterable[Judged], exceptions: Iterable[Excepted]) -> Iterator[str]:
    yield "| About | Releases | This machine cannot see | Plans | Why |"
    yield "|---|---|---|---:|---|"
    for name in exceptions:
        where = name.span.text if name.span else "all"
        where += "" if name.models == ("*",) else f", {', '.join(name.models)}"
        where += "" if len(name.gfx) > 1 else f", {name.gfx[0]}"
        plans = sum(used is name or used == name for one in judged for used, _ in one.excepted)
        kind = {"rule": "rule", "error": "vLLM's error", "value": "value"}[name.kind]
        cells = (f"{kind} `{name.pattern}`", where, name.cannot_see.replace("_", " "), str(plans), name.why)
        yield "| " + " | ".join(map(_cell, cells)) + " |"


def _unproved(judged: Iterable[Judged]) -> Iterator[str]:
    """Each hard error without a proof, with the reason."""
    table = shipped()
    asked = {
        view.about[1]
        for one in judged
        for question in one.questions
        if question.id in one.answers
        for view in question.views
        if view.about[0] == "rule"
    }
    named = {left.name: name for one in judged for name, left in one.excepted if left.kind == "rule"}
    yield "| Rule | Standing | Why it is not proved |"
    yield "|---|---|---|"
    for rule in table.rules:
        known = standing(rule, table)
        if rule.severity != "hard_error" or known.word == "proved":
            continue
        if rule.id in named:
            why = f"{named[rule.id].cannot_see.replace('_', ' ')}: {named[rule.id].why}"
        elif rule.platform == "cpu":
            why = "about the CPU"
        elif rule.id not in asked:
            why = "not asked"
        elif rule.warn:
            why = "a warning: the failure is inferred, so no answer is expected"
        elif rule.offers:
            why = "an offer: it states no refusal"
        else:
            why = "no answer with the rule's words, or none on the other side of its condition"
        yield f"| `{rule.id}` | {known.word} | {_cell(why)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")
