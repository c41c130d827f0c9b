"""An unexpected exception during one server, and a full disk."""

from __future__ import annotations

import errno

import pytest

from rocbench.conduct import conductor
from rocbench.conduct.bind import ClientOptions
from rocbench.conduct.conductor import Conductor
from rocbench.conduct.interrupts import SignalGuard
from rocbench.conduct.run import exit_code
from rocbench.errors import DiskFault, Exit, InputError
from rocbench.report.live import PlainScreen
from rocbench.store.folder import RunFolder
from virtual import SMALL, plan_of

KEY = "sk-planted-0123456789"


@pytest.fixture
def conduct(tmp_path, monkeypatch):
    """A conductor over two models whose servers raise the given exceptions."""

    def make(*errors: Exception) -> Conductor:
        left = list(errors)

        def start(*_: object) -> None:
            raise left.pop(0)

        monkeypatch.setattr(conductor, "start", start)
        folder = RunFolder.create(tmp_path / "run")
        folder.secrets = (KEY,)
        plan = plan_of(SMALL | {"models": ["llama-3.1-405b", "qwen3-235b"]})
        return Conductor(plan, ClientOptions(), PlainScreen(), folder, "run", None, set())

    return make


def test_an_unforeseen_exception_costs_one_server(conduct, capsys):
    """Its cells have the reason, the log has the traceback, the next server starts, and no key is shown."""
    made = conduct(ValueError(f"Invalid header value Bearer {KEY}"), AttributeError("no get"))
    with SignalGuard() as guard:
        for launch in made.plan.launches:
            made.launch(launch, guard)

    rows = made.folder.rows
    assert {row["model"] for row in rows} == {"llama-3.1-405b", "qwen3-235b"}
    assert {row["reasons"] for row in rows} == {"server_failed"}
    assert "ValueError: Invalid header value Bearer ***" in rows[0]["failure_message"]
    events = [event for event in made.folder.events() if event["event"] == "unforeseen"]
    assert "Traceback" in events[0]["traceback"][0]
    assert KEY not in str(events) + str(rows) + str(capsys.readouterr())
    assert exit_code(rows) == Exit.ENVIRONMENT


def test_a_full_disk_still_ends_the_run(conduct):
    """Later measurements could not be stored."""
    made = conduct(OSError(errno.ENOSPC, "No space left on device"))
    with SignalGuard() as guard, pytest.raises(DiskFault):
        made.launch(made.plan.launches[0], guard)


def test_a_file_where_the_run_folder_is_to_be(tmp_path):
    """Free space would not help."""
    (tmp_path / "run").touch()
    for path in (tmp_path / "run", tmp_path / "run" / "below"):
        with pytest.raises(InputError, match="path of the run folder is a file"):
            RunFolder.create(path)
