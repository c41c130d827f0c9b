"""The rules against the committed answers of vLLM's own code; and the judge itself, with answers made for it."""

from __future__ import annotations

import dataclasses

import pytest

import proofs
import questions as maker
from proofs import Claims, Excepted, Proofs
from questions import Question, View
from rocbench.rules.load import shipped
from rocbench.rules.versions import Range

COMMITTED = proofs.read()
TABLE = shipped()


NEWEST = TABLE.names.releases[-1]
BY_RELEASE = [pytest.param(one, marks=[] if one == NEWEST else [pytest.mark.slow]) for one in COMMITTED]


@pytest.mark.parametrize("version", BY_RELEASE)
def test_no_rule_disagrees_with_vllm(version):
    """Whatever bench calls good vLLM accepts, and the reverse, and both choose the same values."""
    judged = proofs.judge(COMMITTED[version], proofs.asked(version), proofs.read_exceptions())
    assert not judged.disagreements, "\n".join(map(str, judged.disagreements))
    assert version not in maker.COMPLETE or not judged.not_asked


@pytest.mark.parametrize("version", COMMITTED)
def test_answers_are_written_in_one_form(version):
    """A header with the hash of vLLM's files; answers sorted by id, each once, of this release."""
    text = (proofs.PROOFS / f"{version}.jsonl").read_text(encoding="utf-8")
    held = COMMITTED[version]
    assert held.header["vllm"] == version
    assert len(held.header["files"]["sha256"]) == 64
    assert list(held.answers) == sorted(held.answers)
    assert len(text.splitlines()) == 1 + len(held.answers)
    for answer in held.answers.values():
        assert answer["accepted"] in {True, False, None}
        assert answer.get("error") is None or answer["accepted"] is False


@pytest.mark.slow
def test_every_exception_covers_something_and_the_standing_is_current():
    """No exception outlives its reason; scripts/generate-docs would not change configs/rules/proved.yaml."""
    assert proofs.idle(proofs.all_judged(), proofs.read_exceptions()) == []
    assert proofs.PROVED.read_text(encoding="utf-8") == proofs.proved_text()
    claims = proofs.read_claims()
    known = {rule.id for rule in TABLE.rules}
    assert {*claims.refusals, *claims.shown} <= known


# --- the judge

HEADS = next(rule for rule in TABLE.rules if rule.id == "heads-divisible")
MESSAGE = "Total number of attention heads (64) must be divisible by tensor parallel size (3)."


def view(*about, refused=(), doubts=(), chosen=(), pinned=(), judged=True):
    """A plan behind a question."""
    return View(
        about or ("profile", "m", "mi325x", "default"),
        judged,
        dict(refused),
        tuple(doubts),
        dict(chosen),
        dict(pinned),
    )


def question(*views, args=("--seed", "1"), gfx="gfx942", model="m"):
    """A question of release 0.33.0."""
    return Question("0.33.0", gfx, model, {}, args, {}, views, 0)


def judged(*pairs, exceptions=()):
    """The judgement of questions with their answers."""
    answers = {
        q.id: {"id": q.id, "accepted": True, "error": None, "refused_at": None} | answer
        for q, answer in pairs
    }
    return proofs.judge(Proofs("0.33.0", {}, answers), [q for q, _ in pairs], exceptions)


def refusal(text=f"ValueError: {MESSAGE}"):
    """An answer that refuses."""
    return {"accepted": False, "refused_at": "config", "error": text}


def exception(kind, pattern, **more):
    """A named exception."""
    given = {
        "span": None,
        "models": ("*",),
        "gfx": maker.GFX,
        "cannot_see": "kernel",
        "why": "a reason",
    } | more
    return Excepted(kind, pattern, **given)


def test_a_good_plan_that_vllm_refuses_is_a_disagreement():
    """Unless a rule leaves it in doubt, or says nothing of it."""
    (found,) = judged((question(view()), refusal())).disagreements
    assert (found.kind, found.name) == ("error", f"ValueError: {MESSAGE}")
    assert not judged((question(view(doubts=["off-region"])), refusal())).disagreements
    assert not judged((question(view(judged=False)), refusal())).disagreements
    assert not judged((question(view()), {})).disagreements


def test_a_refused_plan_that_vllm_accepts_is_a_disagreement_of_each_rule():
    """Every rule that refuses it is wrong, or needs an exception of its own."""
    asked = question(view(refused={"a": "x", "b": "y"}))
    assert [found.name for found in judged((asked, {})).disagreements] == ["a", "b"]
    assert not judged((asked, refusal())).disagreements
    one = judged((asked, {}), exceptions=[exception("rule", "a")])
    assert [found.name for found in one.disagreements] == ["b"]
    assert len(one.excepted) == 1


def test_values_are_compared_where_both_sides_state_them():
    """A backend that differs is a disagreement; an absent one, and one of a refused plan, is not."""
    asked = question(view(chosen={"backend": "ROCM_ATTN", "kv_cache_dtype": "fp8"}))
    (found,) = judged((asked, {"backend": "TRITON_ATTN", "kv_cache_dtype": "fp8_e4m3"})).disagreements
    assert (found.kind, found.name) == ("value", "backend")
    assert judged((asked, {"backend": "ROCM_ATTN"})).compared == 1
    assert not judged((asked, {"backend": None})).disagreements
    other = judged((asked, {"backend": "TRITON_ATTN"}), exceptions=[exception("value", "backend")])
    assert not other.disagreements


def test_defaults_are_compared_with_those_of_a_plan_that_sets_none():
    """A pinned default that vLLM does not have is a disagreement."""
    asked = question(view(judged=False, pinned={"--max-num-seqs": 1024}))
    assert not judged((asked, {"max_num_seqs": 1024})).disagreements
    assert judged((asked, {"max_num_seqs": 256})).disagreements


@pytest.mark.parametrize(
    "more",
    [
        {"span": Range.parse("<0.33")},
        {"models": ("other-*",)},
        {"gfx": ("gfx950",)},
        {"pattern": "another"},
        {"kind": "error"},
    ],
)
def test_an_exception_covers_only_what_it_names(more):
    """Another release, model, architecture, rule or kind is not covered, and the exception is idle."""
    name = exception(more.pop("kind", "rule"), more.pop("pattern", "a"), **more)
    one = judged((question(view(refused={"a": "x"})), {}), exceptions=[name])
    assert one.disagreements
    assert proofs.idle([one], [name]) == ([] if name.span else [name])
    assert proofs.idle([], [name]) == []


def test_what_was_not_answered_is_counted():
    """A question without an answer; an answer that is neither yes nor no; an answer to no question."""
    asked = [question(view(), args=(str(n),)) for n in range(3)]
    answers = {asked[0].id: {"accepted": True}, asked[1].id: {"accepted": None}, "0" * 16: {"accepted": True}}
    one = proofs.judge(Proofs("0.33.0", {}, answers), asked, ())
    assert (one.not_asked, len(one.unclear), one.outdated, one.accepted(yes=True)) == (1, 1, 1, 1)


def sides(fired, other, *, message="x", more=()):
    """A rule's firing plan, and a plan on the other side, with their answers."""
    return judged(
        (question(view("rule", HEADS.id, "refuses", "", refused={HEADS.id: message}), args=("1",)), fired),
        (question(view("rule", HEADS.id, "silent", ""), args=("2",)), other),
        *more,
        exceptions=[exception("rule", "*"), exception("error", "*")],
    )


def proves(one, claims=None):
    """The rules that the answers prove."""
    return proofs.proved([one], TABLE, claims or Claims())


def test_a_refusal_is_proved_by_vllms_words_and_the_other_side():
    """Refused with the rule's words, and accepted without the condition."""
    assert proves(sides(refusal(), {})) == {HEADS.id: ("0.33.0",)}
    assert not proves(sides(refusal("ValueError: something else"), {}))
    assert not proves(sides(refusal(), refusal()))
    assert not proves(sides({}, {}))
    told = Claims(refusals={HEADS.id: "something else"})
    assert proves(sides(refusal("ValueError: something else"), {}), told)
    assert not proves(sides(refusal(), {}), told)


def test_one_accepted_plan_takes_the_proof_away():
    """Every plan that the rule refuses must be refused, also with an exception."""
    again = question(view("profile", "m", "mi325x", "default", refused={HEADS.id: "x"}), args=("3",))
    assert proves(sides(refusal(), {}, more=[(again, refusal())]))
    assert not proves(sides(refusal(), {}, more=[(again, {})]))


def test_a_rule_that_refuses_nothing_is_proved_by_the_values_it_claims():
    """Every answer of each side shows them, and each side was asked."""
    rule = "pin-gqa"
    told = {"sets": {"backend": "ROCM_AITER_FA"}, "unset": {"backend": ["ROCM_*", "OTHER"]}}
    claims = Claims(shown={rule: told})

    def both(with_it, without):
        return judged(
            (question(view("rule", rule, "sets", ""), args=("1",)), {"backend": with_it}),
            (question(view("rule", rule, "unset", ""), args=("2",)), {"backend": without}),
        )

    assert proves(both("ROCM_AITER_FA", "ROCM_ATTN"), claims) == {rule: ("0.33.0",)}
    assert not proves(both("ROCM_AITER_FA", "TRITON_ATTN"), claims)
    assert not proves(both(None, "ROCM_ATTN"), claims)
    assert not proves(both("ROCM_AITER_FA", "ROCM_ATTN"))


@pytest.mark.parametrize(
    ("message", "error", "same"),
    [
        ("Reason: ['MLA not supported']", "ValueError: Reason: ['MLA not supported', 'other']", True),
        ("Reason: ['MLA not supported']", "ValueError: Reason: ['non-MLA not supported']", False),
        (
            "The backend, {backend},is not MLA type.",
            "ValueError: The backend, ROCM_ATTN,is not MLA type.",
            True,
        ),
        ("Backend Enum.{backend} is not valid.", "ValueError: Backend Enum.ROCM_ATTN is not valid.", True),
        ("Only 16 work. Reasons include 'MLA not supported'.", "ValueError: ['MLA not supported']", True),
        ("It prints `No common block size for N`, later `a b`.", "ValueError: Reason: [a b]", True),
        ("It needs {heads} heads. Try another value.", "ValueError: It needs 8 heads.", False),
        ("It runs slower than it could.", "ValueError: It fails.", False),
    ],
)
def test_a_quotation_is_recognised(message, error, same):
    """Every piece of the message, with any value for a fact; a part of a word is no match."""
    assert proofs.quotes(message, error) is same


def test_an_exception_is_complete(tmp_path):
    """It names one thing, a category and a reason."""
    path = tmp_path / "exceptions.yaml"
    for text in (
        "[{rule: a, why: x}]",
        "[{rule: a, cannot_see: kernel}]",
        "[{rule: a, error: b, cannot_see: kernel, why: x}]",
        "[{cannot_see: kernel, why: x}]",
        "[{rule: a, cannot_see: kernel, why: x, versions: '>1'}]",
    ):
        path.write_text(f"exceptions: {text}", encoding="utf-8")
        with pytest.raises(ValueError, match="exception"):
            proofs.read_exceptions(path)
    path.write_text("exceptions: [{rule: a, cannot_see: kernel, why: x, model: m}]", encoding="utf-8")
    (name,) = proofs.read_exceptions(path)
    assert dataclasses.replace(name, why="x") == exception("rule", "a", models=("m",), why="x")


def test_a_rule_of_releases_alone_has_its_other_side_in_another_release():
    """A flag that was removed: the same plan is accepted in a release outside the range."""
    rule = next(rule for rule in TABLE.rules if rule.id == "swap-space")
    assert not rule.when.checks
    refused = judged(
        (question(view("rule", rule.id, "refuses", "", refused={rule.id: "x"})), refusal(rule.message))
    )
    older = judged((question(view("rule", rule.id, "silent", ""), args=("2",)), {}))
    older = dataclasses.replace(older, vllm="0.16.0")
    assert proofs.proved([older, refused], TABLE, Claims()) == {rule.id: ("0.33.0",)}
    assert not proofs.proved([refused], TABLE, Claims())
