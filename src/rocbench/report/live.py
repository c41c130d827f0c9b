"""The live view of a sweep: rich on a terminal, plain lines elsewhere. It runs in the conductor, never in a load worker."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from rocbench.load.spec import Progress
from rocbench.planned import Launch, Plan, Run
from rocbench.units import duration, number


class Screen(Protocol):
    """What the conductor tells, as it happens."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def begin(self, plan: Plan, folder: str) -> None: ...
    def server(self, launch: Launch, text: str, share: float | None) -> None: ...
    def cell(self, run: Run, index: int, total: int) -> None: ...
    def load(self, progress: Progress) -> None: ...
    def beside(self, facts: Mapping[str, float]) -> None: ...
    def row(self, row: Mapping[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...


def progress_line(progress: Progress) -> str:
    """`measure 12 s  in flight 1,000  12,345 tok/s  TTFT 120 ms  TPOT 52.1 ms  done 4,210  failed 0`."""
    parts = [
        f"{progress.phase} {progress.elapsed_s:.0f} s",
        f"in flight {number(progress.in_flight)}",
        f"{number(progress.output_tokens_per_s, 0)} tok/s",
        f"TTFT {number(progress.ttft_ms)} ms",
        f"TPOT {number(progress.tpot_ms)} ms",
        f"done {number(progress.completed)}",
    ]
    if progress.failed:
        parts.append(f"failed {number(progress.failed)}")
    return "  ".join(parts)


def row_line(row: Mapping[str, Any]) -> str:
    """One finished row in one line."""
    valid = {True: "valid", False: "INVALID", None: "unknown"}[row.get("valid")]
    reasons = f" ({row['reasons']})" if row.get("reasons") else ""
    return (
        f"{row['key']}: {number(row.get('output_throughput'), 0)} output tok/s, "
        f"TTFT p50 {number(row.get('median_ttft_ms'))} ms, TPOT p50 {number(row.get('median_tpot_ms'))} ms, "
        f"{valid}{reasons}"
    )


class PlainScreen:
    """Lines on standard error, a heartbeat at most every ten seconds: for CI logs and files."""

    HEARTBEAT_S = 10.0

    def __init__(self) -> None:
        self._beat = 0.0
        self._text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def begin(self, plan: Plan, folder: str) -> None:
        """Say what will be done."""
        simulated = " (SIMULATED)" if plan.sweep.server.kind == "simulated" else ""
        self._say(
            f"{plan.sweep.name}{simulated}: {plan.runs} measurements on {len(plan.launches)} launches -> {folder}"
        )

    def server(self, launch: Launch, text: str, share: float | None) -> None:
        """Say what the server is doing, when it changes."""
        line = f"[{launch.group.server_id}] {text}"
        if line != self._text:
            self._text = line
            self._say(line)

    def cell(self, run: Run, index: int, total: int) -> None:
        """Say which cell begins."""
        self._beat = time.monotonic()
        discarded = " (discarded)" if run.discarded else ""
        self._say(f"[{index}/{total}] {run.cell.key} repeat {run.repeat}{discarded}")

    def load(self, progress: Progress) -> None:
        """Now and then how it goes."""
        if time.monotonic() - self._beat >= self.HEARTBEAT_S:
            self._beat = time.monotonic()
            self._say(f"    {progress_line(progress)}")

    def beside(self, facts: Mapping[str, float]) -> None:
        """The server's own view; too much for a log."""

    def row(self, row: Mapping[str, Any]) -> None:
        """Say the result."""
        self._say(f"    {row_line(row)}")

    def note(self, text: str) -> None:
        """Say a warning as it comes."""
        self._say(f"! {text}")


class LiveScreen:
    """A few lines at the bottom of the terminal; finished rows and warnings scroll above."""

    REFRESH_PER_S = 4

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            console=self._console,
            refresh_per_second=self.REFRESH_PER_S,
            get_renderable=self._render,
            transient=True,
        )
        self._lock = threading.Lock()
        self._head = self._server = self._cell = self._load = ""
        self._beside: dict[str, float] = {}
        self._rates: deque[float] = deque(maxlen=60)
        self._began = time.monotonic()
        self._index = self._total = 0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _render(self) -> Group:
        with self._lock:
            lines = [Text.from_markup(self._head), Text(self._server)]
            if self._cell:
                lines.append(Text.from_markup(self._cell + self._left()))
            if self._load:
                lines.append(Text("  " + self._load))
            if len(self._rates) > 2:
                lines.append(Text("  tok/s " + sparkline(list(self._rates)), style="cyan"))
            if self._beside:
                facts = "  ".join(f"{name} {number(value)}" for name, value in self._beside.items())
                lines.append(Text("  " + facts, style="dim"))
        for line in lines:
            line.truncate(self._console.width, overflow="ellipsis")
        return Group(*lines)

    def _left(self) -> str:
        done = self._index - 1
        if done < 1:
            return ""
        left = (time.monotonic() - self._began) / done * (self._total - done)
        return f"  [dim]about {duration(left)} left[/]"

    def begin(self, plan: Plan, folder: str) -> None:
        """Say what will be done."""
        mark = " [yellow]SIMULATED[/]" if plan.sweep.server.kind == "simulated" else ""
        self._began = time.monotonic()
        with self._lock:
            self._head = f"[bold]{escape(plan.sweep.name)}[/]{mark}  -> {escape(folder)}"

    def server(self, launch: Launch, text: str, share: float | None) -> None:
        """What the server is doing."""
        done = f" {share:.0%}" if share is not None else ""
        with self._lock:
            self._server = f"{launch.group.server_id[3:]}: {text}{done}"
            self._load, self._beside = "", {}

    def cell(self, run: Run, index: int, total: int) -> None:
        """Which cell begins."""
        with self._lock:
            self._index, self._total = index, total
            self._cell = f"[bold]cell {index} of {total}[/]  {escape(run.cell.key)}  repeat {run.repeat}"
            self._rates.clear()

    def load(self, progress: Progress) -> None:
        """How the load goes."""
        with self._lock:
            self._load = progress_line(progress)
            self._rates.append(progress.output_tokens_per_s or 0.0)

    def beside(self, facts: Mapping[str, float]) -> None:
        """The server's own view: running, waiting, KV use, power."""
        with self._lock:
            self._beside = dict(facts)

    def row(self, row: Mapping[str, Any]) -> None:
        """A finished row scrolls by."""
        style = {True: "green", False: "red", None: "yellow"}[row.get("valid")]
        self._console.print(Text(row_line(row), style=style))

    def note(self, text: str) -> None:
        """A warning scrolls by."""
        self._console.print(Text(f"! {text}", style="yellow"))


def sparkline(values: list[float]) -> str:
    """Values as eighth blocks, scaled to their largest."""
    top = max(values) or 1.0
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * value / top))] for value in values)
