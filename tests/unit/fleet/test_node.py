"""The folder in which a node works, whose name whoever sees the run's can guess."""

import tempfile
from types import SimpleNamespace

import pytest

from rocbench import __version__, variables
from rocbench.errors import NodeFault
from rocbench.fleet import node
from rocbench.fleet.messages import NodeEnded
from strangers import given_away, needs_root

JOB = SimpleNamespace(
    run_id="20260301-quick-1f3a", piece="aa-1", attempt=1, rows=(), client=None, overrides=None, reap=False,
    despite_doctor=False, servers=(), version=__version__, plan=None, late=frozenset(), shown="",
)  # fmt: skip


def test_a_node_is_told_what_its_sender_shows(tmp_path, monkeypatch):
    """A job shows only its own variables, although one process runs several jobs."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(variables, "_more", set())
    seen = []
    monkeypatch.setattr(node, "run_plan", lambda *_: seen.append(variables.more()))
    for names in ("MY_SWITCH,THEIR_SWITCH", ""):
        variables.show_more(names)
        sent = variables.more()
        variables.show_more("OF_THE_JOB_BEFORE")
        node.work(SimpleNamespace(**vars(JOB) | {"shown": sent}), "n", lambda _: None)
    assert seen == ["MY_SWITCH,THEIR_SWITCH", ""]


@needs_root
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_folder_that_another_user_made(tmp_path, monkeypatch, kind):
    """Nothing is removed or run in another user's folder; the error names the owner."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(node, "run_plan", lambda *_: pytest.fail("it ran"))
    place = tmp_path / f"rocbench-{JOB.run_id}"
    target = tmp_path / "target" if kind == "link" else place
    (target / "aa-1.1").mkdir(parents=True)
    (target / "aa-1.1" / "kept").touch()
    if kind == "link":
        place.symlink_to(target)
    given_away(place)

    said: list[NodeEnded] = []
    node.work(JOB, "n", said.append)

    assert (target / "aa-1.1" / "kept").exists()
    assert isinstance(said[0].error, NodeFault)
    assert f"{place} is a" in said[0].error.what
    assert "of nobody (uid 65534), not a folder that you own" in said[0].error.what
