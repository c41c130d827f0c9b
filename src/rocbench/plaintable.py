"""Tables as text: aligned columns for a terminal, pipes for Markdown. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rocbench import harmless

INDENT = 4
"""Spaces before the further lines of a folded row."""


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Return aligned columns; a column whose cells all begin like numbers is right-aligned.

    A row wider than `width` characters continues on further lines: nothing is cut, and no word is broken.
    """
    header, rows = _one_line(header), [_one_line(row) for row in rows]
    columns = list(zip(header, *rows, strict=True)) if rows else [(name,) for name in header]
    widths = [max(map(len, column)) for column in columns]
    right = [bool(rows) and all(map(_numeric, column[1:])) for column in columns]
    parts = _parts(widths, width)

    def lines(cells: Sequence[str]) -> list[str]:
        padded = [
            cell.rjust(size) if at_right else cell.ljust(size)
            for cell, size, at_right in zip(cells, widths, right, strict=True)
        ]
        folded = []
        for number, part in enumerate(parts):
            indent = " " * INDENT if number else ""
            line = indent + "  ".join(padded[index] for index in part).rstrip()
            if width is not None and len(line) > width:  # a single column that is too wide
                folded += textwrap.wrap(line.strip(), width, initial_indent=indent, subsequent_indent=indent)
            elif line.strip():
                folded.append(line)
        return folded

    rule = lines(["-" * size for size in widths])[:1]
    return "\n".join([*lines(header), *rule, *(line for row in rows for line in lines(row))])


def _one_line(cells: Sequence[str]) -> list[str]:
    """Return the cells, each on one line."""
    return [harmless.one_line(cell) for cell in cells]


def _parts(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """Return the columns of each line, as many as fit; all of them without a width."""
    parts: list[list[int]] = [[]]
    used = 0
    for index, size in enumerate(widths):
        if width is not None and parts[-1] and used + 2 + size > width:
            parts.append([])
            used = INDENT - 2
        used += size + (2 if parts[-1] or len(parts) > 1 else 0)
        parts[-1].append(index)
    return parts


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a GitHub table."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(harmless.safe_markdown, cells)) + " |"

    return "\n".join([line(header), "|" + "---|" * len(header), *(line(row) for row in rows)])


def _numeric(cell: str) -> bool:
    return cell in {"", "-"} or cell[0].isdigit() or (len(cell) > 1 and cell[0] in "+-" and cell[1].isdigit())
