"""Tables as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io

import pytest

from rocbench import plaintable
from rocbench.report import table as table_module
from rocbench.report.table import Table, as_csv, latex, sentence, table_markdown, with_window_note

TABLE = Table(
    "t",
    "Results & more",
    ("model", "tok/s", "note"),
    (("a_b", "1,234 ± 56", "50 % | more"), ("c", "-", "")),
    ("a note",),
)


def test_markdown_escapes_what_ends_a_cell():
    """A pipe in a cell stays in it."""
    text = table_markdown(TABLE)
    assert "| a_b | 1,234 ± 56 | 50 % \\| more |" in text
    assert text.startswith("### Results & more\n")
    assert text.endswith("A note.\n")


def test_csv_has_figures_that_programs_read():
    """No thousands commas; an interval is a column of its own; absent is empty."""
    rows = list(csv.reader(io.StringIO(as_csv(TABLE))))
    assert rows == [
        ["model", "tok/s", "tok/s, half width", "note"],
        ["a_b", "1234", "56", "50 % | more"],
        ["c", "", "", ""],
    ]


def test_an_interval_within_the_window_has_a_note_and_columns_of_its_own():
    """Brackets mean one window; programs read the ends as numbers, and an absent end as empty."""
    table = with_window_note(
        Table("t", "x", ("p99, ms", "why"), (("1,812 [1,790, -]", "a [b, c]"), ("9.5", "")))
    )
    assert "repeats differ by at least this much" in table.notes[-1]
    assert list(csv.reader(io.StringIO(as_csv(table)))) == [
        ["p99, ms", "p99, ms, low", "p99, ms, high", "why"],
        ["1812", "1790", "", "a [b, c]"],
        ["9.5", "", "", ""],
    ]
    assert with_window_note(TABLE) == TABLE


def test_latex_compiles_in_principle():
    """Every special character is escaped, figures are flush right."""
    text = latex(TABLE)
    assert r"\caption{Results \& more}" in text
    assert r"\begin{tabular}{lrl}" in text
    assert r"a\_b & 1,234 $\pm$ 56 & 50 \% $|$ more \\" in text
    assert text.count(r"\begin") == text.count(r"\end")


def test_latex_keeps_flags_and_breaks_long_cells():
    """Two dashes stay two, and a column of long text is a paragraph as wide as the line allows."""
    text = latex(Table("t", "x", ("flag", "n", "why"), (("--block-size", "1", "a long reason " * 9),)))
    assert r"-{}-block-size & 1" in text
    assert r"\begin{tabular}{lrp{0.81\linewidth}}" in text


def test_a_column_that_says_the_same_goes_into_the_heading():
    """One workload: its name stands once."""
    table = Table("t", "Best", ("workload", "x"), (("w", "1"), ("w", "2")))
    assert table.without_constant("workload") == Table("t", "Best, w", ("x",), (("1",), ("2",)))
    unlike = Table("t", "Best", ("workload", "x"), (("v", "1"), ("w", "2")))
    assert unlike.without_constant("workload") is unlike


def test_a_cut_table_says_so(monkeypatch):
    """A note counts the rows, and marks of rows stay right."""
    monkeypatch.setattr(table_module, "MAX_ROWS", 3)
    table = Table("t", "x", ("a",), tuple((str(n),) for n in range(10)), bad=frozenset({1, 9}))
    cut = table.cut()
    assert len(cut.rows) == 3
    assert cut.bad == {1}
    assert cut.notes == ("the first 3 of 10 rows; all rows are in the run folder's cells.csv",)


def test_notes_are_sentences():
    """A capital, and one full stop."""
    assert [sentence(note) for note in ("a note", "A note.", "`x` differs")] == [
        "A note.",
        "A note.",
        "`x` differs.",
    ]


@pytest.mark.parametrize("width", [17, 20, 40, 80])
def test_a_table_wider_than_the_terminal_is_folded(width):
    """A row goes on below itself: no line is too long, and no cell is broken or lost."""
    cells = ["m", "output_tokens", "[1.0, 2.0]", "not reached: the last pays"]
    lines = plaintable.text_table(["model", "metric", "interval", "note"], [cells, cells], width).splitlines()
    assert all(len(line) <= width for line in lines)
    text = " ".join(" ".join(lines).split())
    assert all(text.count(cell) == 2 for cell in cells[1:])
    assert plaintable.text_table(["a"], [["b"]], width) == plaintable.text_table(["a"], [["b"]])
