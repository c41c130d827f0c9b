"""Does any file end `bench` other than with its message? Mutated settings, config.json and run folders.

    python benchmarks/fuzz.py yaml --seeds 20000
    python benchmarks/fuzz.py config --seeds 2000
    python benchmarks/fuzz.py run --seeds 2000
    python benchmarks/fuzz.py yaml --seeds 100 --command-line

A seed decides the file it begins with and what is done to it, so that a case is repeated by `--first SEED --seeds 1`.
Each case must end within `LIMIT_S`, without another exception than those of `rocbench.errors`, with an exit code of
their table, and in memory that does not grow. Prints each that did not and how many ended how; ends with 1 if any did not.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import mutated_configs
import mutated_runs
import mutated_settings
from mutated_settings import Case

LIMIT_S = 5.0
"""CPU time of one case, in seconds."""
START_S = 5.0
"""Extra time for a new process, which imports everything first."""
WAITED_S = 60.0
"""Wall time after which a case counts as hung, also on a busy machine."""
MEMORY = 1 << 30
"""Maximum memory of the process that runs all cases, in bytes."""
CODES = frozenset({0, 1, 2, 3, 4, 130})
"""Exit codes of docs/exit-codes.md that an input may cause: all but the crash."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int | str
    """Exit code, or the unexpected exception."""
    seconds: float
    told: str
    """The end of standard error, or the traceback."""

    @property
    def wrong(self) -> str:
        """Reason why this outcome is a defect; empty if it is allowed."""
        if self.code not in CODES:
            return f"ended with {self.code}"
        if "Traceback (most recent call last)" in self.told:
            return "a traceback"
        return "took longer than its limit" if self.seconds > LIMIT_S + START_S else ""


class TookTooLong(BaseException):
    """A case that did not end in time; no handler of the program catches it."""


@functools.cache
def bench() -> Any:
    """The command line application; building it takes four times as long as a plan."""
    from typer.main import get_command

    from rocbench import cli

    return get_command(cli.app)


def in_process(arguments: tuple[str, ...]) -> Ended:
    """Run a command in this process, as `rocbench.cli.main` does."""
    from rocbench import crash
    from rocbench.errors import BenchError

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TookTooLong

    err = io.StringIO()
    before = {number: signal.signal(number, stop) for number in (signal.SIGALRM, signal.SIGPROF)}
    begun = time.process_time()
    code: int | str
    try:
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        signal.setitimer(signal.ITIMER_REAL, WAITED_S)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
            code = bench().main(list(arguments), standalone_mode=False) or 0
    except BenchError as error:
        code = int(error.exit_code)
        err.write(error.text().encode().decode())  # as it must go to a terminal
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:  # noqa: BLE001 whatever it is, it is the finding
        fault = crash.foreseen(error) or error
        code = getattr(fault, "exit_code", type(error).__name__)  # of click's own errors
        if code not in CODES:
            err.write(traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    return Ended(code, time.process_time() - begun, err.getvalue()[-3000:])


def by_command_line(arguments: tuple[str, ...]) -> Ended:
    """Run a command as a user does."""
    command = [sys.executable, "-m", "rocbench", *arguments]
    begun = _cpu_of_children()
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace", timeout=WAITED_S
        )
    except subprocess.TimeoutExpired:
        return Ended("TookTooLong", _cpu_of_children() - begun, "")
    return Ended(done.returncode, _cpu_of_children() - begun, done.stderr[-3000:])


def _cpu_of_children() -> float:
    """CPU time of child processes that ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(
    cases: Iterator[Case], ends: Callable[[tuple[str, ...]], Ended], folder: Path, *, show: bool = False
) -> int:
    """Run all cases, print the failures, return their number."""
    with contextlib.redirect_stdout(io.StringIO()):  # everything is imported before the first is timed
        bench().main(["plan", "quick"], standalone_mode=False)
    counts: Counter[str] = Counter()
    wrong: dict[str, list[str]] = {}
    slowest = 0.0
    for seed, made_of, commands in cases:
        for arguments in commands:
            ended = ends(arguments)
            counts[str(ended.code)] += 1
            slowest = max(slowest, ended.seconds)
            if show:
                print(f"{seed} {ended.code} {ended.seconds:.1f} s {ended.told}".rstrip())
            if ended.wrong:
                last = ended.told.strip().rsplit("\n", 1)[-1]
                told = f"seed {seed}: bench {' '.join(arguments)}: {ended.wrong}: {last}"
                wrong.setdefault(_kind(ended), []).append(f"{told}\n  {made_of}\n{ended.told}")
    for kind, found in wrong.items():
        print(f"--- {len(found)} x {kind}\n{found[0]}\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    ways = ", ".join(f"{code}: {count}" for code, count in sorted(counts.items()))
    print(
        f"{sum(counts.values())} commands ended with {ways}; the slowest after {slowest:.2f} s; {peak >> 20} MiB"
    )
    if peak > MEMORY:
        print(f"more than {MEMORY >> 20} MiB in one process")
    print(f"wrong: {sum(map(len, wrong.values()))}; files of the last case in {folder}")
    return sum(map(len, wrong.values())) + (peak > MEMORY)


def _kind(ended: Ended) -> str:
    """Key that groups failures: the exception and the last line of this project in its traceback."""
    ours = [line.strip() for line in ended.told.splitlines() if "rocbench/" in line]
    return f"{ended.wrong} {ours[-1] if ours else ''}"


MODES: dict[str, Callable[[int, int, Path], Iterator[Case]]] = {
    "yaml": mutated_settings.cases,
    "config": mutated_configs.cases,
    "run": mutated_runs.cases,
}
"""Makers of cases: (first seed, number of seeds, folder to write in)."""


def main() -> None:
    """Run one mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mode", choices=list(MODES))
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--command-line", action="store_true", help="a new process for each command")
    parser.add_argument("--show", action="store_true", help="print every message")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rocbench-fuzz-"))
    cases = MODES[given.mode](given.first, given.seeds, folder)
    ends = by_command_line if given.command_line else in_process
    sys.exit(bool(run(cases, ends, folder, show=given.show)))


if __name__ == "__main__":
    main()
