"""A fake amd-smi on PATH, and a server whose answer a test can change."""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

AMD_SMI = Path(__file__).parents[2] / "fixtures" / "amd-smi"


@pytest.fixture(params=["rocm6", "rocm7"])
def shape(request):
    """Each shape of amd-smi's answers in turn."""
    return request.param


@pytest.fixture
def answers(tmp_path, shape):
    """A copy of one shape's answers that a test may change: a function of question and old and new text."""
    folder = tmp_path / shape
    folder.mkdir()
    for path in (AMD_SMI / shape).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())

    def change(question: str, old: str, new: str, count: int = -1) -> None:
        path = folder / f"{question}.json"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, count))

    change.folder = folder
    return change


@pytest.fixture
def amd_smi_on_path(answers, monkeypatch):
    """`amd-smi` is found and answers with the test's own copy."""
    monkeypatch.setenv("PATH", f"{AMD_SMI}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("AMD_SMI_SHAPE", str(answers.folder))
    return answers


@pytest.fixture
def no_amd_smi(monkeypatch, tmp_path):
    """`amd-smi` is not found."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def server():
    """(URL, {"status", "body"} of all its answers, which a test can change) of an HTTP server."""
    state = {"status": 200, "body": ""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(state["status"])
            self.end_headers()
            self.wfile.write(state["body"].encode())

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}", state
    http.shutdown()
    http.server_close()
    thread.join()
