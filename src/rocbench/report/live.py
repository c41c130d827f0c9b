"""The live view of a sweep: rich on a terminal, plain lines elsewhere. It runs in the conductor, never in a load worker."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from rocbench.harmless import one_line
from rocbench.load.spec import Progress
from rocbench.plan.planned import Launch, Plan, Run
from rocbench.report.curves import reasons, verdict_word
from rocbench.report.terminal import Terminal
from rocbench.tables.row import Row
from rocbench.units import count_of, duration, number, percent


class Screen:
    """Receiver of the conductor's events as they happen. This one ignores them; others show or send some."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def begin(self, plan: Plan, folder: str) -> None:
        """A run begins."""

    def server(self, launch: Launch, text: str, share: float | None) -> None:
        """Report the state of a starting server, and the share that is done."""

    def cell(self, run: Run, index: int, total: int) -> None:
        """A cell begins, the `index`-th of all."""

    def load(self, progress: Progress) -> None:
        """Report the progress of the cell's load, a few times a second."""

    def readings(self, values: Mapping[str, float]) -> None:
        """Report readings of the server and the GPUs: running, waiting, KV (share), power (W)."""

    def group(self, lines: Mapping[str, str]) -> None:
        """Report the state of each group, by its node and name, if several run at the same time."""

    def row(self, row: Row) -> None:
        """A row is finished."""

    def note(self, text: str) -> None:
        """Report a note."""


def run_text(run: Run) -> str:
    """A measurement by its cell and repeat: `model/workload/c64 repeat 1 (discarded)`."""
    discarded = " (discarded)" if run.discarded else ""
    return one_line(f"{run.cell.key} repeat {run.repeat}{discarded}")


def progress_parts(progress: Progress) -> list[str]:
    """The progress as short texts: `measure 12 s`, `in flight 1,000`, `12,345 tok/s`, `TTFT 120 ms`, ..."""
    parts = [
        f"{progress.phase} {duration(progress.elapsed_s)}",
        f"in flight {number(progress.in_flight)}",
        f"{number(progress.output_tokens_per_s, 0)} tok/s",
        f"TTFT {number(progress.ttft_ms)} ms",
        f"TPOT {number(progress.tpot_ms)} ms",
        f"done {number(progress.completed)}",
    ]
    if progress.failed:
        parts.append(f"failed {number(progress.failed)}")
    return parts


def progress_line(progress: Progress) -> str:
    """The parts as one line, for logs."""
    return "  ".join(progress_parts(progress))


def row_line(row: Row) -> str:
    """One finished row as one line."""
    codes = reasons([row])
    figures = (
        f"{number(row.get('output_throughput'), 0)} output tok/s, TTFT p50 {number(row.get('median_ttft_ms'))} ms, "
        f"TPOT p50 {number(row.get('median_tpot_ms'))} ms, "
    )
    return (
        f"{one_line(str(row['key']))}: {figures if row.get('output_throughput') is not None else ''}"
        f"{verdict_word(row)}{f' ({codes})' if codes else ''}"
    )


class PlainScreen(Screen):
    """Lines on standard error, with progress at most every ten seconds: for CI logs and files.

    Readings of the server are left out: they are too many for a log.
    """

    INTERVAL_S = 10.0

    def __init__(self) -> None:
        self._last_s = 0.0
        self._server_line = ""

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _due(self) -> bool:
        """True at most once per interval."""
        now = time.monotonic()
        due = now - self._last_s >= self.INTERVAL_S
        if due:
            self._last_s = now
        return due

    def begin(self, plan: Plan, folder: str) -> None:
        """Log the name and the size of the plan."""
        simulated = " (SIMULATED)" if plan.sweep.server.kind == "simulated" else ""
        self._print(
            f"{plan.sweep.name}{simulated}: {count_of(plan.runs, 'measurement')} on "
            f"{count_of(len(plan.launches), 'launch', 'launches')} -> {folder}"
        )

    def server(self, launch: Launch, text: str, share: float | None) -> None:
        """Log the server's state when it changes."""
        line = one_line(f"[{launch.group.server_id}] {text}")
        if line != self._server_line:
            self._server_line = line
            self._print(line)

    def cell(self, run: Run, index: int, total: int) -> None:
        """Log the cell that begins."""
        self._last_s = time.monotonic()
        self._print(f"[{index}/{total}] {run_text(run)}")

    def load(self, progress: Progress) -> None:
        """Log the progress if a line is due."""
        if self._due():
            self._print(f"    {progress_line(progress)}")

    def group(self, lines: Mapping[str, str]) -> None:
        """Log the state of each group if a line is due."""
        if self._due():
            for name, line in lines.items():
                self._print(one_line(f"    {name}: {line}"))

    def row(self, row: Row) -> None:
        """Log the result."""
        self._print(f"    {row_line(row)}")

    def note(self, text: str) -> None:
        """Log a warning."""
        self._print(f"! {text}")


class LiveScreen(Screen):
    """A few lines at the bottom of the terminal; finished rows and warnings scroll above."""

    REFRESH_PER_S = 4
    BAR = 24

    def __init__(self) -> None:
        self._console = Terminal(stderr=True)
        self._lock = threading.Lock()
        self._head = self._server = self._key = ""
        self._share: float | None = None
        self._load: list[str] = []
        self._readings: list[str] = []
        self._groups: list[str] = []
        self._rates: deque[float] = deque(maxlen=240)
        self._began = self._cell_began = time.monotonic()
        self._estimates: list[float] = []
        self._index = self._total = 0
        # last, because its constructor renders once
        self._live = Live(
            console=self._console,
            refresh_per_second=self.REFRESH_PER_S,
            get_renderable=self._render,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _render(self) -> Group:
        width = self._console.width
        with self._lock:
            lines = [Text.from_markup(self._head), *map(Text, self._groups)]
            if not self._groups:
                lines.append(Text(self._server_line(width)))
            if self._key:
                lines += [Text(line, style="bold") for line in fitted([self._place(), self._key], width, "")]
            lines += [Text(line) for line in fitted(self._load, width, "  ")]
            if len(self._rates) > 2:
                # one blank column, so that no terminal wraps the line
                rates = sparkline(list(self._rates)[-max(8, min(width - 11, 100)) :])
                lines.append(Text(f"  tok/s {rates}", style="cyan"))
            lines += [Text(line, style="dim") for line in fitted(self._readings, width, "  server: ")]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return Group(*lines)

    def _server_line(self, width: int) -> str:
        if self._share is None:
            return self._server
        shown = f"{self._server}  {bar(self._share, self.BAR)} {self._share:.0%}"
        return shown if len(shown) < width else f"{self._server}  {self._share:.0%}"

    def _place(self) -> str:
        """`cell 3 of 12, about 4 min left`."""
        left = time_left(self._estimates, self._index - 1, self._cell_began - self._began)
        if left is not None:
            left = max(1.0, left - (time.monotonic() - self._cell_began))
        return f"cell {self._index} of {self._total}" + (f", about {duration(left)} left" if left else "")

    def begin(self, plan: Plan, folder: str) -> None:
        """Show the name of the plan and the run's folder."""
        mark = " [yellow]SIMULATED[/]" if plan.sweep.server.kind == "simulated" else ""
        self._began = time.monotonic()
        known = [run.cell.estimate.duration_s or 0.0 for launch in plan.launches for run in launch.runs]
        with self._lock:
            self._estimates = known
            self._head = f"[bold]{escape(plan.sweep.name)}[/]{mark}  -> {escape(folder)}"

    def server(self, launch: Launch, text: str, share: float | None) -> None:
        """Show the server's state."""
        with self._lock:
            self._server, self._share = one_line(f"{launch.group.server_id[3:]}: {text}"), share
            self._key, self._load, self._readings = "", [], []
            self._rates.clear()

    def cell(self, run: Run, index: int, total: int) -> None:
        """Show the cell that begins."""
        with self._lock:
            self._cell_began = time.monotonic()
            self._index, self._total, self._share = index, total, None
            self._server = f"{self._server.partition(':')[0]}: serving"
            self._key = run_text(run)
            self._load, self._readings = [], []
            self._rates.clear()

    def load(self, progress: Progress) -> None:
        """Show the progress of the load."""
        with self._lock:
            self._load = progress_parts(progress)
            self._rates.append(progress.output_tokens_per_s or 0.0)

    def readings(self, values: Mapping[str, float]) -> None:
        """Show the server's readings: running, waiting, KV use, power."""
        with self._lock:
            self._readings = [_reading(name, value) for name, value in values.items()]

    def group(self, lines: Mapping[str, str]) -> None:
        """Show the state of each group, one line each."""
        with self._lock:
            self._groups = [f"{name}: {line}" for name, line in lines.items()]

    def row(self, row: Row) -> None:
        """Print a finished row above the live lines."""
        style = {"valid": "green", "invalid": "red", "unknown": "yellow"}[row.word]
        self._console.print(Text(row_line(row), style=style))

    def note(self, text: str) -> None:
        """Print a warning above the live lines."""
        self._console.print(Text(f"! {text}", style="yellow"))


def _reading(name: str, value: float) -> str:
    match name:
        case "KV":
            return f"KV {percent(value)}"
        case "power":
            return f"power {number(value, 0)} W"
        case _:
            return f"{name} {number(value, 0)}"


def fitted(parts: list[str], width: int, indent: str) -> list[str]:
    """Parts on as few lines as the width allows; later lines align with the first part of the first line."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 3 + len(part) < width:
            lines[-1] += f"   {part}"
        else:
            lines.append((" " * len(indent) if lines else indent) + part)
    return lines


def time_left(estimates: list[float], done: int, elapsed_s: float) -> float | None:
    """Seconds left: elapsed time scaled by the cells' estimates, or by their number without estimates."""
    if done < 1 or done >= len(estimates):
        return None
    weights = estimates if all(estimates) else [1.0] * len(estimates)
    return elapsed_s * sum(weights[done:]) / sum(weights[:done])


def bar(share: float, width: int) -> str:
    """A bar, `━━━━━╸    `, for a share of 0 to 1."""
    filled = max(0.0, min(1.0, share)) * width
    whole = int(filled)
    half = "╸" if filled - whole >= 0.5 else ""
    return ("━" * whole + half).ljust(width)


def sparkline(values: list[float]) -> str:
    """Values as eighth blocks, scaled to their largest."""
    top = max(values) or 1.0
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * value / top))] for value in values)
