"""Tables as text: aligned columns for a terminal, pipes for Markdown. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rocbench import harmless

INDENT = 4
"""Blanks before the further lines of a folded row."""


def text(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Return aligned columns; a column whose cells all begin like numbers is set flush right.

    If that is wider than `width` characters, a row continues on further lines: nothing is cut, and no word is
    broken.
    """
    header, rows = shown(header), [shown(row) for row in rows]
    columns = list(zip(header, *rows, strict=True)) if rows else [(name,) for name in header]
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [bool(rows) and all(_numeric(cell) for cell in column[1:]) for column in columns]
    parts = _parts(widths, width)

    def lines(cells: Sequence[str]) -> list[str]:
        padded = [
            cell.rjust(wide) if flush else cell.ljust(wide)
            for cell, wide, flush in zip(cells, widths, right, strict=True)
        ]
        found = []
        for number, part in enumerate(parts):
            indent = INDENT if number else 0
            line = "  ".join(padded[index] for index in part).rstrip()
            if width is not None and len(line) > width - indent:  # one column alone
                found += textwrap.wrap(
                    line.strip(), width, initial_indent=" " * indent, subsequent_indent=" " * indent
                )
            elif line:
                found.append(" " * indent + line)
        return found

    rule = lines(["-" * wide for wide in widths])[:1]
    return "\n".join([*lines(header), *rule, *(line for row in rows for line in lines(row))])


def shown(cells: Sequence[str]) -> list[str]:
    """Return cells of one line each."""
    return [harmless.one_line(cell) for cell in cells]


def _parts(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """Return the columns of each line, as many as fit; all of them without a width."""
    parts: list[list[int]] = [[]]
    used = 0
    for index, wide in enumerate(widths):
        if width is not None and parts[-1] and used + 2 + wide > width:
            parts.append([])
            used = INDENT - 2
        used += wide + (2 if parts[-1] or len(parts) > 1 else 0)
        parts[-1].append(index)
    return parts


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a GitHub table."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(harmless.safe_markdown, cells)) + " |"

    return "\n".join([line(header), "|" + "---|" * len(header), *(line(row) for row in rows)])


def _numeric(cell: str) -> bool:
    return cell in {"", "-"} or cell[0].isdigit() or (len(cell) > 1 and cell[0] in "+-" and cell[1].isdigit())
