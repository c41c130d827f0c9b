"""A stand-in server that behaves as told, in folders of the test's own."""

import sys
from pathlib import Path

import pytest

from rocbench.server.spec import ServerSpec

STANDIN = Path(__file__).parents[2] / "fixtures" / "servers" / "standin.py"


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """The node's state (orphans, locks) of this test alone."""
    folder = tmp_path / "state"
    monkeypatch.setenv("ROCBENCH_STATE", str(folder))
    return folder


@pytest.fixture
def make_spec(tmp_path):
    """A spec for the stand-in: its flags, then fields of ServerSpec."""

    def make(*flags: str, **fields) -> ServerSpec:
        defaults = {
            "kind": "process",
            "model": "toy",
            "folder": tmp_path / "servers" / "s1",
            "command": (sys.executable, str(STANDIN), "serve", "toy", *flags),
            "grace_s": 0.3,
            "ready_timeout_s": 30.0,
        }
        return ServerSpec(**(defaults | fields))

    return make
