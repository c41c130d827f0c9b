"""Bad input ends a sweep before anything starts: one message with its place, exit code 2, no traceback."""

import pytest

from sweeps import sweep


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\nvllm: 0.14.1\nmodles: [llama-3.3-70b]\n", ["sweep.yaml:3", "modles", "models"]),
        (
            "name: x\nvllm: 0.14.1\nmodels: [llama-3.3-70b]\nworkloads: [short]\nconcurrency: many\n",
            ["sweep.yaml:5", "concurrency"],
        ),
        ("name: [x\n", ["sweep.yaml", "not valid YAML"]),
    ],
    ids=["misspelt-key", "wrong-type", "no-yaml"],
)
def test_bad_sweep(bench, text, told):
    """A misspelt key (with the nearest known one), a wrong type, and no YAML at all."""
    path = bench.folder / "sweep.yaml"
    path.write_text(text)
    ended = bench.run("sweep", str(path), "--out", str(bench.out))

    assert ended.code == 2
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("bench: ") == 1
    assert all(word in ended.stderr for word in told), ended.stderr
    assert not bench.out.exists()


def test_missing_file(bench):
    """A sweep that is not there."""
    ended = bench.run("sweep", "no-such.yaml", "--out", str(bench.out))

    assert ended.code == 2
    assert "no-such.yaml" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not bench.out.exists()


@pytest.mark.slow
def test_unknown_names(bench):
    """A model, workload or hardware that nobody knows."""
    for change in ({"models": ["llama-9"]}, {"workloads": ["shrot"]}, {"hardware": "mi999"}):
        ended = bench.sweep(sweep(["llama-3.3-70b"]) | change)
        assert ended.code == 2
        assert not bench.out.exists()
