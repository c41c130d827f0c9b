"""`bench` by its command line within the test's process, and runs to judge."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rocbench import cli
from virtual import SMALL, bench

REPEATED = SMALL | {"repeats": 5, "restart": "per_repeat"}


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture(name="command")
def _command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`command("gate", run, ...)` as a user would type it: exit code, standard output, standard error."""

    def run(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        code = ended.value.code
        return Said(code if isinstance(code, int) else 0 if code is None else 1, said.out, said.err)

    return run


@dataclass(frozen=True)
class Runs:
    """Run folders with known truth, in virtual time."""

    root: Path

    def __getattr__(self, name: str) -> Path:
        return self.root / name


@pytest.fixture(scope="session", name="runs")
def _runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """base and again are equal but for their noise, slower is 10 % slower, single has one repeat."""
    root = tmp_path_factory.mktemp("results")
    slower = SMALL["simulation"] | {"slowdown": 1.1}
    bench(root / "base", REPEATED)
    bench(root / "again", REPEATED)
    bench(root / "slower", REPEATED | {"simulation": slower})
    bench(root / "single", SMALL)
    bench(root / "arms", SMALL | {"repeats": 4, "factors": {"max_num_seqs": [256, 512]}, "concurrency": [8]})
    return Runs(root)
