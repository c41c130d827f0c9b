"""Taking secrets out of a log that a server has written."""

from rocbench.server.scrub import scrub

TOKEN = "hf_planted0123456789"


def test_scrub_in_place(tmp_path):
    """A log that a server wrote a secret into keeps its length and loses the secret."""
    log = tmp_path / "server.log"
    log.write_bytes(b"a\n" + TOKEN.encode() + b" and " + TOKEN.encode() + b"\nz\n")
    size = log.stat().st_size

    assert scrub(log, [TOKEN]) == 2
    assert log.stat().st_size == size
    assert TOKEN.encode() not in log.read_bytes()


def test_scrub_without_a_log(tmp_path):
    """No log, an empty log and no secrets are no error."""
    (tmp_path / "empty").touch()

    assert scrub(tmp_path / "none", [TOKEN]) == scrub(tmp_path / "empty", [TOKEN]) == 0
    assert scrub(tmp_path / "empty", []) == 0
