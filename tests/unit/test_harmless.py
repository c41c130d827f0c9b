"""Each output's own way to make text harmless, and what can be undone of it."""

from __future__ import annotations

import io
import json
import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import hostile
from rocbench import harmless, stdio

TEXTS = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="'=+-@\t\r\n\x1b<U+0>1`|\\[](!x{}%$ ", max_size=12),
    st.sampled_from(list(hostile.STRINGS.values())),
)


def obeyed(text: str, keep: str = "\n") -> list[str]:
    """Characters of it that would be obeyed."""
    return [c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c not in keep]


@given(TEXTS)
def test_what_stands_in_csv_is_no_formula_and_comes_back(text):
    """Whatever it is, and however often it was made harmless before."""
    cell = harmless.csv_text(text)
    assert harmless.from_csv(cell) == text
    assert not cell.startswith(("=", "@", "\t", "\r", "\uff1d"))
    assert not (cell.startswith(("+", "-")) and any(c.isalpha() or c in "(|!" for c in cell))
    assert harmless.from_csv(harmless.csv_text(cell)) == cell


@pytest.mark.parametrize(
    "figure", ["-5", "+1.2%", "-1.5e3"[:4], "-", "-3.4% [-5.0%, -1.0%]", "", "llama-3.1", "1,024"]
)
def test_figures_stay_as_they_are(figure):
    """Also those that begin with a sign."""
    assert harmless.csv_text(figure) == figure


def test_a_table_comes_back():
    """Numbers, absent values, texts and headings."""
    frame = pd.DataFrame(
        {
            "text": [*hostile.STRINGS.values(), None],
            "=n": -1.5,
            "k": pd.array([-1] * len(hostile.STRINGS) + [None], "Int64"),
        }
    ).convert_dtypes()
    text = harmless.as_csv(frame)
    again = harmless.undone(pd.read_csv(io.StringIO(text), na_values=[""], keep_default_na=False))
    assert again.text.fillna("-").tolist() == [*hostile.STRINGS.values(), "-"]
    assert list(again.columns) == ["text", "=n", "k"]
    assert again["=n"].tolist() == [-1.5] * (len(hostile.STRINGS) + 1)
    assert text.splitlines()[1].endswith(",-1.5,-1")


@given(TEXTS, TEXTS)
def test_no_markdown_of_its_own(one, other):
    """In a table, a heading and a paragraph: no HTML, link, picture, rule, list or code block, and no column more."""
    parser = MarkdownIt("commonmark").enable("table")
    row = f"| {harmless.safe_markdown(one)} | {harmless.safe_markdown(other)} | last |"
    told = parser.parse(f"| a | b | c |\n|---|---|---|\n{row}\n\nend `code`")
    kinds = [token.type for token in told] + [c.type for token in told for c in token.children or ()]
    assert kinds.count("td_open") == 3
    assert [token.content for token in told if token.type == "inline"][5] == "last"
    assert kinds.count("code_inline") >= 1
    assert not {"html_block", "html_inline", "link_open", "image", "fence", "heading_open"} & set(kinds)


@given(TEXTS)
def test_a_block_of_code_holds_all_of_it(text):
    """A text with fences cannot end its block of code."""
    (block, *rest) = MarkdownIt("commonmark").parse(harmless.fenced(text, "sh"))
    assert block.type == "fence"
    assert not rest


@pytest.mark.parametrize(
    "text", ["a [b] c", "x <= 2, [1.0, 2.0]", "`p99_ttft_ms <= 2000`", "a_b_c, 5 %", "C:\\dir"]
)
def test_plain_markdown_stays_readable(text):
    """Nothing is escaped that does nothing."""
    assert harmless.safe_markdown(text) == text


@given(TEXTS)
def test_nothing_is_obeyed(text):
    """By a terminal, or by a reader's direction of writing."""
    assert not obeyed(harmless.visible(text), "\n\t")
    assert not obeyed(harmless.visible(text, keep=""), "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::x", "<U+003A>:error::x"),
        ("a\n ::Add-Mask ::x", "a\n <U+003A>:Add-Mask ::x"),
        ("a ##[group]b ##vso[c]", "a <U+0023>#[group]b <U+0023>#vso[c]"),
        ("::1 and http://[::]:80, std::error, ## [1] ::notes::", "="),
    ],
)
def test_a_runner_obeys_nothing(text, shown):
    """GitHub reads `##[` anywhere in a line. In JSON the same is read back."""
    assert harmless.visible(text) == (text if shown == "=" else shown)
    told = harmless.json_text({"a": [text]})
    assert harmless.visible(told) == told
    assert json.loads(told) == {"a": [text]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("@octocat", "\\<U+0040>octocat"),
        ("see (@org/team)", "see (\\<U+0040>org/team)"),
        ("me@here, git@x:y, a @ b, `@code`", "me@here, git@x:y, a @ b, `@code`"),
    ],
)
def test_nobody_is_mentioned(text, shown):
    """An address and code mention no user."""
    assert harmless.safe_markdown(text) == shown


@given(TEXTS)
def test_latex_takes_no_command(text):
    """Every special character is written out; no paragraph ends within."""
    shown = harmless.latex(text)
    for name in (
        "textbackslash{}",
        "textasciitilde{}",
        "textasciicircum{}",
        "pm",
        "leq",
        "geq",
        "approx",
        "cdot",
    ):
        shown = shown.replace(f"\\{name}", "")
    for char in "&%$#_{}":
        shown = shown.replace(f"\\{char}", "")
    for pair in ("$<$", "$>$", "$|$", "$$", "{}"):
        shown = shown.replace(pair, "")
    assert not set("\\&%$#_{}~^\n") & set(shown)


def test_the_streams_show_what_they_are_given():
    """Printed control characters are shown as text; those of a console pass."""
    raw = io.BytesIO()
    stream = stdio._Output(raw, encoding="utf-8", write_through=True)
    assert stream.write("a\x1b[2J\n") == 6
    stream.rich_proxied_file.write("\x1b[1m")
    assert raw.getvalue() == b"a<U+001B>[2J\n\x1b[1m"
