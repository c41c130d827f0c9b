"""Make foreign text (names of models and profiles, output of servers) harmless for each kind of output. Pure.

Parquet and JSON keep it unchanged. Each kind of output has one function here, called where that output is
made.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a module that prints one line needs no tables
    import pandas as pd

_CODE = re.compile(r"<U\+([0-9A-F]{4,6})>")
_KINDS = {"Cc", "Cf", "Cn", "Cs", "Zl", "Zp"}
"""Categories of characters that affect the text around them, or are not characters: controls, direction
marks, halves of surrogate pairs.
"""


_COMMAND = re.compile(
    r"#(?=#(?:vso|teamcity)?\[)|:(?=:(?:add-(?:mask|matcher|path)|remove-matcher|set-(?:env|output)|save-state|(?:end)?group"
    r"|stop-commands|echo|debug|notice|warning|error)(?:\s[^\n]*?)?::)",
    re.IGNORECASE,
)
"""Start of a line that a CI runner executes: `::error::`, `##[error]` (GitHub), `##vso[...]` (Azure)."""


def visible(text: str, keep: str = "\n\t") -> str:
    """Return text in which each character that a terminal, a reader or a CI runner would interpret is shown as
    `<U+001B>`.

    Args:
        text: of any origin.
        keep: controls that stay.
    """
    if "::" in text or "##" in text:
        text = _COMMAND.sub(lambda match: _code(match[0]), text)
    if text.isprintable():
        return text
    return "".join(c if c in keep or not _interpreted(c) else _code(c) for c in text)


def one_line(text: str) -> str:
    """The same for a name or a message that must not begin a new line: no control stays."""
    return visible(text, keep="")


def visible_data(value: Any) -> Any:
    """The same for every text in mappings and lists; of controls only the end of a line stays."""
    if isinstance(value, str):
        return visible(value, keep="\n")
    if isinstance(value, Mapping):
        return {visible_data(name): visible_data(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(visible_data, value))
    return value


def json_text(value: Any) -> str:
    """JSON for standard output, the same value when read back; no part of it is a command to a CI runner."""
    text = json.dumps(value, indent=2)
    return _COMMAND.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def visible_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The same for every text in a table."""
    return _texts(frame, visible_data)


def whole(text: str) -> str:
    """Text that any file takes: half of a pair of surrogates, which JSON can hold, is shown as `<U+D800>`."""
    return text if text.isascii() else "".join(_code(c) if "\ud800" <= c <= "\udfff" else c for c in text)


def _interpreted(char: str) -> bool:
    return not char.isprintable() and unicodedata.category(char) in _KINDS


def _code(char: str) -> str:
    return f"<U+{ord(char):04X}>"


# --- CSV: text that a spreadsheet would read as a formula gets a leading apostrophe; all of it can be undone

_FORMULA = re.compile(r"'*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20]")
_FIGURE = re.compile(r"[+-]?[\d .,%±\[\]<>+-]*")
"""Figures, signed or with an interval: no spreadsheet calls a function or a program for these."""


def csv_text(text: str) -> str:
    """Return one cell of a CSV file. `from_csv` restores it."""
    shown = _CODE.sub(lambda match: f"{_code('<')}{match[0][1:]}", text)
    shown = visible(shown, keep="\n")
    return f"'{shown}" if _FORMULA.match(shown) and not _FIGURE.fullmatch(shown) else shown


def from_csv(text: str) -> str:
    """Return a cell as it was before `csv_text`."""
    bare = text[1:] if text.startswith("'") and _FORMULA.match(text) else text
    return _CODE.sub(_decoded, bare)


def _decoded(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    return chr(number) if number < 0xD800 or 0xDFFF < number < 0x110000 else match[0]


def as_csv(frame: pd.DataFrame) -> str:
    """Return a table as CSV; absent values are empty, numbers unchanged."""
    named = _texts(frame, csv_text).rename(columns=lambda name: csv_text(str(name)))
    text = named.to_csv(index=False)
    assert text is not None
    return text


def undone(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table that `as_csv` wrote, as it was before."""
    return _texts(frame, from_csv).rename(columns=lambda name: from_csv(str(name)))


def _texts(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """Return the table with its texts changed; columns without a change stay as they are."""
    result = frame.copy(deep=False)
    for place, dtype in enumerate(frame.dtypes):
        if str(dtype) in {"object", "str", "string"}:
            column = frame.iloc[:, place]
            cells = column.tolist()
            changed = [change(cell) if isinstance(cell, str) else cell for cell in cells]
            if changed != cells:
                result.isetitem(place, type(column)(changed, dtype=dtype).array)
    return result


# --- Markdown

_SPAN = re.compile(r"(`[^`]+`)")
_BACKSLASH = re.compile(r"\\(?=[!-/:-@\[-`{-~]|$)")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_MENTION = re.compile(r"(?<![A-Za-z0-9_])@(?=[A-Za-z0-9])")
"""A mention, which notifies a user on GitHub."""
_LINK = re.compile(r"\](?=[(:\[])")


def safe_markdown(text: str) -> str:
    """Return one line of Markdown, also for a cell of a table: no HTML, link, picture, mention or extra
    column.

    `Words in backticks` stay code.
    """
    line = " ".join(visible(text).split())
    spans = _SPAN.split(line)
    if any("`" in part for part in spans[::2]) or any("\\|" in part for part in spans[1::2]):
        return _plain_markdown(line).replace("`", "\\`")
    return "".join(
        part.replace("|", "\\|") if place % 2 else _plain_markdown(part) for place, part in enumerate(spans)
    )


def _plain_markdown(text: str) -> str:
    text = _MENTION.sub(_code("@"), _BACKSLASH.sub(r"\\\\", text))
    text = _LINK.sub(r"\\]", _TAG.sub(r"\\<", text))
    return text.replace("|", "\\|")


def fenced(text: str, language: str = "") -> str:
    """Return a block of code that its text cannot end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{visible(text)}\n{fence}"


# --- LaTeX and plotly

_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "·": r"$\cdot$",
}


def latex(text: str) -> str:
    """Return text of one paragraph of LaTeX, without commands; also at the beginning of a table's row."""
    words = "".join(_TEX.get(c, c) for c in " ".join(visible(text).split()))
    words = re.sub("-(?=-)", "-{}", words)  # two dashes would be one, a longer one
    return f"{{}}{words}" if words.startswith(("[", "*")) else words


def plotly(text: str) -> str:
    """Return text for a chart in the page: plotly reads some HTML, and `%{name}` as a value."""
    shown = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return shown.replace("%{", "%&#123;")
