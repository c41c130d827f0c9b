"""What does a server with broken answers cost? Every mode of tests/nasty.py in `bench sweep`: message, time and memory.

    python benchmarks/nasty.py                                # all modes, as a table
    python benchmarks/nasty.py line_32mib metrics_50mb --transport aiohttp
    python benchmarks/nasty.py --driven                       # completions by the load generator alone, both transports

A mode holds if `bench` ends by itself within its limits, with one of the mode's words, without a traceback, and its
processes together never hold more than 500 MB. Ends with 1 if one does not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from nasty import MODES, Mode, as_told, driven, nasty, short_sweep  # noqa: E402
from sweeps import Bench  # noqa: E402

LIMIT_S = 90.0
LIMIT_MB = 500.0
RESENT = ("resent_after_reset", "resent_after_close", "resent_unread")
"""Columns that count requests that succeeded when they were sent again."""


@dataclass(frozen=True)
class Trial:
    """How `bench` took one mode."""

    mode: Mode
    word: str
    seconds: float
    megabytes: float
    code: int
    notes: str
    traceback: bool

    @property
    def holds(self) -> bool:
        """It ended well."""
        within = self.seconds < LIMIT_S and self.megabytes < LIMIT_MB
        return within and not self.traceback and set(self.word.split("+")) <= set(self.mode.words)

    def line(self) -> str:
        """A row of the table."""
        mark = "" if self.holds else "**does not hold** "
        return (
            f"| `{self.mode.name}` | {self.mode.what} | {mark}`{self.word}` | {self.seconds:.0f} | "
            f"{self.megabytes:.0f} | {self.notes} |"
        )


def trial(mode: Mode, transport: str) -> Trial:
    """Run one mode."""
    with tempfile.TemporaryDirectory() as folder, nasty(mode) as url:
        bench = Bench(Path(folder))
        began = time.monotonic()
        process = bench.begin(*short_sweep(bench, url, transport))
        peak = [0.0]
        watcher = threading.Thread(target=_watch, args=(process.pid, peak), daemon=True)
        watcher.start()
        try:
            ended = bench.end(process, LIMIT_S)
        except AssertionError as error:
            bench.kill_left()
            return Trial(mode, "hangs", time.monotonic() - began, peak[0], -1, str(error)[-200:], False)
        seconds = time.monotonic() - began
        watcher.join(5)
        said = ended.stdout + ended.stderr
        word, notes = "no row", " ".join(said.split())[-160:]
        if len(ended.rows):
            row = ended.rows.iloc[0].dropna().to_dict()
            failures = json.loads(row.get("failures") or "{}")
            told = [*failures, *(name for name in RESENT if row.get(name))]
            word = "+".join(told) or ("measured" if row.get("completed") else str(row["reasons"]))
            texts = [row.get("common_error"), row.get("metrics_note"), row.get("failure_message")]
            notes = next((str(text) for text in texts if text), "")[:120]
        elif ended.code == 4:
            word, notes = "server_failed", ended.stderr.strip().splitlines()[0][:160]
        notes = " ".join(notes.replace("|", "/").replace(url, "URL").split())
        return Trial(mode, word, seconds, peak[0], ended.code, notes, "Traceback" in said)


def _watch(pid: int, peak: list[float]) -> None:
    """Maximum memory of a process and its children together, in MB."""
    try:
        root = psutil.Process(pid)
        while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
            held = 0
            for process in [root, *root.children(recursive=True)]:
                try:
                    held += process.memory_info().rss
                except psutil.Error:
                    continue
            peak[0] = max(peak[0], held / 1e6)
            time.sleep(0.1)
    except psutil.Error:
        return


def both_transports(modes: list[Mode]) -> int:
    """The words of each mode of completions, a line each; 1 if one does not hold."""
    wrong = 0
    for mode in (mode for mode in modes if mode.path == "completion"):
        for transport in ("wire", "aiohttp"):
            words = driven(mode, transport)
            holds = as_told(mode, words)
            wrong += not holds
            print(
                f"{mode.name:24} {transport:8} {' '.join(sorted(words))}{'' if holds else '  OFF'}",
                flush=True,
            )
    print(f"{wrong} do not hold")
    return int(bool(wrong))


def main() -> int:
    """Run the named modes, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("modes", nargs="*", default=list(MODES), metavar="MODE")
    parser.add_argument("--transport", choices=["wire", "aiohttp"], default="wire")
    parser.add_argument("--driven", action="store_true", help="the load generator alone, by both transports")
    options = parser.parse_args()
    if options.driven:
        return both_transports([MODES[name] for name in options.modes])
    print("| Mode | Answer | Told as | s | MB | In the server's and our words |")
    print("|---|---|---|---|---|---|")
    trials = []
    for name in options.modes:
        trials.append(trial(MODES[name], options.transport))
        print(trials[-1].line(), flush=True)
    wrong = [found.mode.name for found in trials if not found.holds]
    worst = max(found.megabytes for found in trials)
    longest = max(found.seconds for found in trials)
    print(f"\n{len(trials)} modes, {len(wrong)} do not hold ({', '.join(wrong) or '-'})")
    print(f"at most {longest:.0f} s and {worst:.0f} MB")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
