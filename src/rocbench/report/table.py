"""A table of text with its heading and notes, as Markdown, CSV and LaTeX. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rocbench import harmless, plaintable


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text. Cells are ready for display; units are in the header."""

    id: str
    """Name of the table's files."""
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    bad: frozenset[int] = frozenset()
    """Invalid rows: struck through in the page, marked by text elsewhere."""

    def classes(self) -> Iterator[tuple[str, str]]:
        """Each heading and its column's kind: `n` right-aligned figures, `s` words on one line, `t` text."""
        for index, name in enumerate(self.header):
            cells = [row[index] for row in self.rows if row[index] not in {"", "-"}]
            longest = max(map(len, cells), default=0)
            if cells and all(_FIGURE.match(cell) for cell in cells):
                yield name, "n"
            else:
                yield name, "s" if longest <= SHORT else "t"

    def without_constant(self, column: str) -> Table:
        """The table without a column whose value is the same in every row; the heading has the value."""
        index = self.header.index(column)
        values = {row[index] for row in self.rows}
        if len(values) != 1:
            return self
        others = [i for i in range(len(self.header)) if i != index]
        return replace(self._columns(others), title=f"{self.title}, {values.pop()}")

    def without_absent(self) -> Table:
        """The table without columns that are empty in every row."""
        kept = [i for i in range(len(self.header)) if any(row[i] not in {"", "-"} for row in self.rows)]
        return self._columns(kept) if self.rows else self

    def _columns(self, indices: Sequence[int]) -> Table:
        header, *rows = (tuple(cells[i] for i in indices) for cells in (self.header, *self.rows))
        return replace(self, header=header, rows=tuple(rows))

    def cut(self) -> Table:
        """The table with at most MAX_ROWS rows, and a note on the location of the rest."""
        if len(self.rows) <= MAX_ROWS:
            return self
        note = (
            f"the first {MAX_ROWS:,} of {len(self.rows):,} rows; all rows are in the run folder's cells.csv"
        )
        bad = frozenset(index for index in self.bad if index < MAX_ROWS)
        return replace(self, rows=self.rows[:MAX_ROWS], notes=(*self.notes, note), bad=bad)


def with_window_note(table: Table) -> Table:
    """The table with a note on its figures in brackets, if it has any."""
    if not any(_BRACKETS.match(cell) for row in table.rows for cell in row):
        return table
    return replace(table, notes=(*table.notes, WINDOW_NOTE))


WINDOW_NOTE = (
    "brackets: 95 % interval from within one window; repeats differ by at least this much; a dash means that the window is too short "
    "for an upper end"
)
MAX_ROWS = 400
"""Maximum rows of a table in a report; more would make the page slow to open."""
TEX_LINE = 90
"""Characters that fit in a line of a paper."""
SHORT = 34
"""Maximum characters of a cell that does not wrap."""
_BRACKETS = re.compile(r"^(?P<figure>[\d.,e+-]+) \[(?P<low>[^][ ]+), (?P<high>[^][ ]+)\]$")
_FIGURE = re.compile(
    r"^([<>≈±+-]?\d[\d,.]*(e-\d+)?(%| [A-Za-z/]+)?( ± [\d,.]+%?)?( \[[^]]*\])?|\(n=[\d,]+\))$"
)


def table_markdown(table: Table, heading: str = "###") -> str:
    """A GitHub table below its heading, followed by the notes."""
    lines = [f"{heading} {harmless.safe_markdown(table.title)}", ""] if table.title else []
    if table.rows:
        lines += [plaintable.markdown_table(table.header, table.rows), ""]
    lines += ["\n\n".join(harmless.safe_markdown(sentence(note)) for note in table.notes if note)]
    return "\n".join(lines).rstrip() + "\n"


def sentence(note: str) -> str:
    """A note with a capital letter and a full stop."""
    stop = "" if note.endswith((".", "!", "?")) else "."
    return f"{note[:1].upper()}{note[1:]}{stop}"


def as_csv(table: Table) -> str:
    """CSV without thousands commas; a figure, the half width of its interval, and ends in brackets have columns."""
    wide = [any(" ± " in row[index] for row in table.rows) for index in range(len(table.header))]
    ends = [any(_BRACKETS.match(row[index]) for row in table.rows) for index in range(len(table.header))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in (table.header, *table.rows):
        cells: list[str] = []
        for name, cell, half_width, bracketed in zip(table.header, row, wide, ends, strict=True):
            more = [f"{name}, half width"] * half_width + [f"{name}, low", f"{name}, high"] * bracketed
            cells += [name, *more] if row is table.header else _parts(cell, half_width, bracketed)
        writer.writerow([harmless.csv_text(cell) for cell in cells])
    return out.getvalue()


def _parts(cell: str, half_width: bool, bracketed: bool) -> list[str]:
    """A figure without its interval, then its half width and its ends, if the column has them."""
    match = _BRACKETS.match(cell) if bracketed else None
    figure, _, half = (match["figure"] if match else cell).partition(" ± ")
    ends = [match["low"], match["high"]] if match else ["", ""]
    return [_plain(part) for part in (figure, *[half] * half_width, *ends * bracketed)]


def _plain(cell: str) -> str:
    return cell.replace(",", "") if _FIGURE.match(cell) else "" if cell == "-" else cell


def latex(table: Table) -> str:
    """A booktabs table to include in a paper; columns of long text are paragraphs."""
    columns = "".join(_tex_columns(table))
    lines = [
        r"\begin{table}",
        rf"  \caption{{{harmless.latex(table.title)}}}",
        rf"  \label{{tab:{table.id}}}",
        rf"  \begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        "    " + _tex_row(table.header),
        r"    \midrule",
        *("    " + _tex_row(row) for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
    ]
    lines += [rf"  \par\footnotesize {harmless.latex(sentence(note))}" for note in table.notes if note]
    return "\n".join([*lines, r"\end{table}", ""])


def _tex_columns(table: Table) -> Iterator[str]:
    """`r` for figures, `l` for words, `p` for text: text columns share the line's rest by their length."""
    kinds = [kind for _, kind in table.classes()]
    longest = [max(len(row[index]) for row in (table.header, *table.rows)) for index in range(len(kinds))]
    short = sum(length for length, kind in zip(longest, kinds, strict=True) if kind != "t")
    text = sum(length for length, kind in zip(longest, kinds, strict=True) if kind == "t")
    left = max(0.95 - short / TEX_LINE, 0.3)
    for length, kind in zip(longest, kinds, strict=True):
        yield {"n": "r", "s": "l"}.get(kind, rf"p{{{left * length / (text or 1):.2f}\linewidth}}")


def _tex_row(cells: tuple[str, ...]) -> str:
    return " & ".join(harmless.latex(cell) for cell in cells) + r" \\"
