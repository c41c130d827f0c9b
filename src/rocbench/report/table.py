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

    def numeric(self, column: int) -> bool:
        """Return whether a column holds figures, which are right-aligned."""
        cells = [row[column] for row in self.rows if row[column] not in {"", "-"}]
        return bool(cells) and all(_FIGURE.match(cell) for cell in cells)

    def aligned(self) -> Iterator[tuple[str, bool]]:
        """Each heading, and True if its column is right-aligned."""
        for index, name in enumerate(self.header):
            yield name, self.numeric(index)

    def classes(self) -> Iterator[tuple[str, str]]:
        """Each heading and its column's kind: `n` figures, `s` words on one line, `t` text."""
        for index, (name, flush) in enumerate(self.aligned()):
            longest = max((len(row[index]) for row in self.rows), default=0)
            yield name, "n" if flush else "s" if longest <= SHORT else "t"

    def without_constant(self, column: str) -> Table:
        """The table without a column whose value is the same in every row; the heading has the value."""
        index = self.header.index(column)
        said = {row[index] for row in self.rows}
        if len(said) != 1:
            return self

        def others(cells: tuple[str, ...]) -> tuple[str, ...]:
            return cells[:index] + cells[index + 1 :]

        title = f"{self.title}, {said.pop()}"
        return replace(self, title=title, header=others(self.header), rows=tuple(map(others, self.rows)))

    def without_absent(self) -> Table:
        """The table without columns that are empty in every row."""
        kept = [i for i in range(len(self.header)) if any(row[i] not in {"", "-"} for row in self.rows)]
        if not self.rows or len(kept) == len(self.header):
            return self
        header = tuple(self.header[i] for i in kept)
        return replace(self, header=header, rows=tuple(tuple(row[i] for i in kept) for row in self.rows))

    def cut(self, most: int, rest: str) -> Table:
        """The table with at most `most` rows, and a note on the location of the rest."""
        if len(self.rows) <= most:
            return self
        note = f"the first {most:,} of {len(self.rows):,} rows; {rest}"
        bad = frozenset(index for index in self.bad if index < most)
        return replace(self, rows=self.rows[:most], notes=(*self.notes, note), bad=bad)


TEX_LINE = 90
"""Characters that fit in a line of a paper."""
SHORT = 34
"""Maximum characters of a cell that does not wrap."""
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
    """CSV without thousands commas; a figure and the half width of its interval are two columns."""
    split = [any(" ± " in row[index] for row in table.rows) for index in range(len(table.header))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_texts(_split(table.header, split, [f"{name}, half width" for name in table.header])))
    for row in table.rows:
        parts = [cell.partition(" ± ") for cell in row]
        writer.writerow(_texts(_split([_plain(p[0]) for p in parts], split, [_plain(p[2]) for p in parts])))
    return out.getvalue()


def _texts(cells: Sequence[str]) -> list[str]:
    return [harmless.csv_text(cell) for cell in cells]


def _split(cells: Sequence[str], split: Sequence[bool], more: Sequence[str]) -> list[str]:
    return [
        part
        for cell, two, half in zip(cells, split, more, strict=True)
        for part in ((cell, half) if two else (cell,))
    ]


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
