"""What no tracked file may say: where it was written, and which host packages come from."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MACHINE_PATH = re.compile(
    r"(?<![\w.$}/-])/(?:"
    + "|".join(("wo" + "rk", "tm" + "p", "opt/wh" + "eels", "opt/py" + "pi"))
    + r")(?![\w-])"
)
"""Absolute only: `net/` before it makes it something else. Folders of people's homes are checked apart."""
HOME_PATH = re.compile(
    r"(?<![\w.])/(?:home|Users)/(?!(?:user|me|x)\b|\.\.\.)\w+|(?<![\w.])/ro" + r"ot/(?!\.cache)"
)
PACKAGE_HOST = re.compile(
    "|".join(
        re.escape(".".join(parts))
        for parts in (
            ("py" + "pi", "org"),
            ("pythonhosted", "org"),
            ("deb", "debian", "org"),
            ("registry", "npmjs", "org"),
            ("download", "pytorch", "org"),
            ("repo", "radeon", "com"),
            ("conda", "anaconda", "org"),
        )
    ),
    re.IGNORECASE,
)


def tracked() -> list[Path]:
    """Every file that git knows and the checkout has, but links and folders."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True)
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def places(pattern: re.Pattern[str]) -> str:
    """Every place where the pattern stands, one a line."""
    return "\n".join(
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in tracked()
        for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), 1)
        if pattern.search(line)
    )


def test_no_file_names_a_package_host():
    """Where packages come from is the affair of the machine that installs them."""
    found = places(PACKAGE_HOST)
    assert not found, found


def test_no_file_names_a_folder_of_some_machine():
    """A path of one machine is wrong on every other."""
    found = "\n".join(filter(None, (places(MACHINE_PATH), places(HOME_PATH))))
    assert not found, found
