"""A second user of the machine, who may put anything where all may write. Needs root: `needs_root` skips without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import rocbench

UID = 65534
"""`nobody`, as which no test runs otherwise."""
AS = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="a second user needs root and setpriv"
)


def given_away(path: Path) -> Path:
    """The same file, link or folder, the stranger's."""
    os.chown(path, UID, UID, follow_symlinks=False)
    return path


_RUNS_ITSELF = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import rocbench.server.lock'], check=True)"


@cache
def _interpreter() -> str | None:
    """A Python of this version that the stranger may run, and whose children may run it; this one lies in a home, maybe."""
    system = shutil.which(
        f"python{sys.version_info.major}.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin"
    )
    for python in filter(None, (sys.executable, system)):
        words = [*AS, python, "-c", _RUNS_ITSELF]
        if subprocess.run(words, capture_output=True, check=False, cwd="/", env=_env()).returncode == 0:
            return python
    return None


def _env(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    ours = (str(Path(rocbench.__file__).parents[1]), *(path for path in sys.path if "site-packages" in path))
    return {**env, "PYTHONPATH": os.pathsep.join(ours), "PYTHONDONTWRITEBYTECODE": "1"}


def python(*words: str, env: Mapping[str, str] = os.environ, **more: Any) -> subprocess.Popen[str]:
    """A Python with our package, as the stranger; skips where its files are hidden from other users."""
    interpreter = _interpreter()
    if interpreter is None:
        pytest.skip("another user may not read this installation")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    argv = [*AS, interpreter, *words]
    return subprocess.Popen(argv, env=_env(env), text=True, cwd="/", **pipes, **more)
