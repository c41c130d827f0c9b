"""A second user of the machine, who may put anything where all may write. Needs root: `needs_root` skips without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

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


@cache
def _able() -> bool:
    words = [*AS, sys.executable, "-c", "import rocbench.server.lock"]
    return subprocess.run(words, capture_output=True, check=False, cwd="/").returncode == 0


def python(*words: str, **more: object) -> subprocess.Popen[str]:
    """This Python with our package, as the stranger; skips where its files are hidden from other users."""
    if not _able():
        pytest.skip("another user may not read this installation")
    return subprocess.Popen(
        [*AS, sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        **more,  # type: ignore[call-overload]
    )
