"""A console that shows control characters in external text instead of obeying them."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.segment import Segment

from rocbench.harmless import visible


class Terminal(Console):
    """rich's console on standard output or error, without highlighting. rich's own control codes are kept."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        stream = sys.stderr if stderr else sys.stdout
        unfiltered = getattr(stream, "rich_proxied_file", None)
        super().__init__(file=unfiltered, stderr=stderr, width=width, highlight=False, soft_wrap=False)

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        return super()._render_buffer(
            part if part.control else Segment(visible(part.text), part.style) for part in buffer
        )
