"""Words that files may not hold: private English in what users read, paths of one machine, hosts of packages.

Why: a reader who knows the words of vLLM and pytest should not have to translate ours, and a phrase that was once
replaced comes back unless a test refuses it. docs/style.md shows what to write instead. Paths and package hosts are
refused because they are true on one machine only, and a copy of the repository should not tell where it was made.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MACHINE_PATH = re.compile(
    r"(?<![\w.$}/-])/(?:"
    + "|".join(("wo" + "rk", "tm" + "p", "opt/wh" + "eels", "opt/py" + "pi"))
    + r")(?![\w-])"
)
"""Absolute only: `net/` before it makes it something else. Folders of people's homes are checked apart."""
HOME_PATH = re.compile(
    r"(?<![\w.])/(?:home|Users)/(?!(?:user|me|x)\b|\.\.\.)\w+|(?<![\w.])/ro" + r"ot/(?!\.cache)"
)
PACKAGE_HOST = re.compile(
    "|".join(
        re.escape(".".join(parts))
        for parts in (
            ("py" + "pi", "org"),
            ("pythonhosted", "org"),
            ("deb", "debian", "org"),
            ("registry", "npmjs", "org"),
            ("download", "pytorch", "org"),
            ("repo", "radeon", "com"),
            ("conda", "anaconda", "org"),
        )
    ),
    re.IGNORECASE,
)


PRIVATE_ENGLISH = {
    r"\b(Least|Most|Longest|Shortest|Greatest) (length|number|share|size|time|wait|measurements)\b": "Minimum ..., Maximum ...",
    r"\b(can|cannot|can't|could not|not to|is to) be had\b": "is (not) available; failed to start",
    r"\bto be known\b": "note; you should know",
    r"\bgone on with\b|\bgo on with\b": "is resumed; resume with",
    r"\bno GPU (gave|has given)\b": "not measured on a GPU; the origin of the figures",
    r"\bhow unlike\b": "compare; differ",
    r"\bGPUs are wanted\b|\bis wanted\b|\bare wanted\b": "is needed; is expected",
    r"\bfor granted\b": "assumes",
    r"\bspoil(s|ed|t)?\b": "disturbed; damaged",
    r"\bgot round to\b": "name what happened",
    r"(?<!each )\bone's own\b": "user-defined; your own",
    r"\bin mid-\w+": "during the ...",
    r"\bleft out unseen\b": "every skipped row is listed",
    r"\bonce more\b": "again; retrying",
    r"(?<!there )\bis no (?!longer\b)[a-z]": "is not a ...",
    r"\bbesides?\b": "next to; and; as well as",
    r"\bone another\b": "each other; name the things",
    r"\b(goes|go|went) on (with|as|until|where)\b": "continues",
    r"\bstands? (in|at|beside|there)\b": "is in; name the place",
    r"\btells\b": "reports; says",
    r"\bat the (most|least)\b": "at most; at least",
    r"\b(whence|whither|hither|thither|thereof|whereof|wherein|herein|therewith|lest|aught|naught)\b": "a word of today",
    r"(^|[.;:] )(Never|Nor|Nowhere|Neither|Seldom|Rarely|Not once) (is|are|was|were|does|do|did|has|have|can|may|must|will)"
    r" (a|an|any|the|it|its|they|one|this|that)\b": "subject, verb, object",
    r"(^|[.;:] )(Of|From|In|By|To|With) (it|them|these|those|this|that|which) (is|are|was|were|comes?|stands?|follows?) ": (
        "subject, verb, object"
    ),
}
"""Phrases that users should not meet, and what to write instead."""
READ_BY_USERS = re.compile(r"README\.md|CONTRIBUTING\.md|docs/(?!style\.md).*\.md|src/.*\.(py|yaml)")
"""Files where these phrases are refused: code with its messages, help and docstrings, and pages. The style page quotes them."""


def tracked() -> list[Path]:
    """Every file that git knows and the checkout has, but links and folders."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True)
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def places(pattern: re.Pattern[str], paths: list[Path] | None = None) -> str:
    """Every place where the pattern stands, one a line."""
    return "\n".join(
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in (tracked() if paths is None else paths)
        for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), 1)
        if pattern.search(line)
    )


def test_no_file_names_a_package_host():
    """Where packages come from is the affair of the machine that installs them."""
    found = places(PACKAGE_HOST)
    assert not found, found


def test_no_file_names_a_folder_of_some_machine():
    """A path of one machine is wrong on every other."""
    found = "\n".join(filter(None, (places(MACHINE_PATH), places(HOME_PATH))))
    assert not found, found


def test_what_users_read_is_plain_english():
    """Messages, help, docstrings and pages use the words of docs/style.md."""
    paths = [path for path in tracked() if READ_BY_USERS.fullmatch(path.relative_to(ROOT).as_posix())]
    assert len(paths) > 300
    found = [
        f"{place}\n    write instead: {instead}"
        for phrase, instead in PRIVATE_ENGLISH.items()
        for place in places(re.compile(phrase), paths).splitlines()
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        'help="Least length of the window, s."',
        "the image vllm:1 cannot be had",
        "Verdicts: what is invalid, and what is to be known",
        "a run folder is gone on with",
        "4 GPUs are wanted, 2 are free",
        "the server died in mid-run",
        "Never is a row left out.",
        "the rows. Of these are counted two.",
    ],
)
def test_the_old_phrases_are_refused(text):
    """Each pattern sees the phrase that it was written for."""
    assert any(re.search(phrase, text) for phrase in PRIVATE_ENGLISH)
