"""A YAML fault is one message with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocbench.commands import planning
from rocbench.errors import ConfigError, InputError
from rocbench.plan.expand import Overrides
from rocbench.redact import redacted
from rocbench.settings import yamlfile
from rocbench.settings.schema import Hardware, Sweep

SWEEP = """\
name: mine
models: [llama-3.1-405b]
workloads: [short]
concurrency: [1, 8]
load:
  duration_s: 5
"""


def write(folder: Path, text: str) -> Path:
    """A sweep file with this text."""
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


def test_reads_a_sweep(tmp_path: Path) -> None:
    """A correct file becomes a frozen model with defaults filled."""
    sweep = yamlfile.load(write(tmp_path, SWEEP), Sweep)

    assert (5.0, 1) == (sweep.load.duration_s, sweep.repeats)


def test_bare_on_and_off_are_words(tmp_path: Path) -> None:
    """`aiter: off` is the word, not the boolean False."""
    sweep = yamlfile.load(
        write(tmp_path, SWEEP + "aiter: off\nmatrix: {product: {aiter: [on, off]}}\n"), Sweep
    )

    assert "off" == sweep.aiter
    assert ("on", "off") == sweep.matrix.product["aiter"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            SWEEP.replace("duration_s", "durations_s"),
            6,
            ["unknown key 'durations_s'", "did you mean 'duration_s'"],
        ),
        (SWEEP.replace("[1, 8]", "[1, eight]"), 4, ["concurrency", "eight"]),
        (SWEEP.replace("duration_s: 5", "duration_s: -5"), 6, ["load.duration_s", "greater than 0", "-5"]),
        (SWEEP + "name: twice\n", 7, ["'name' is given twice"]),
        (SWEEP + "load: [\n", 8, ["not valid YAML"]),
        (SWEEP + "vllm: latest\n", 7, ["vllm", "not a version"]),
        ("models: [a]\nworkloads: [b]\nconcurrency: [1]\n", 1, ["key 'name' is missing"]),
        (SWEEP.replace("concurrency: [1, 8]\n", ""), 1, ["needs `concurrency`"]),
        (SWEEP + "  shape: {kind: sideways}\n", 7, ["load.shape", "sideways"]),
        (SWEEP.replace("mine", "../../mine"), 1, ["name: must have 1 to 100 printable characters"]),
        (SWEEP.replace("mine", ".mine"), 1, ["name: must have 1 to 100 printable characters"]),
        (SWEEP.replace("5", ".inf"), 6, ["load.duration_s", "finite"]),
        (SWEEP + "until: {interval_half_width: .nan, max: 3}\n", 7, ["until.interval_half_width"]),
        (SWEEP.replace("[1, 8]", "[]"), 4, ["yaml:4: a closed loop needs `concurrency`"]),
        (SWEEP + "  shape: {kind: open}\n", 7, ["yaml:7: an open loop"]),
        (SWEEP.replace("[1, 8]", "4"), 4, ["concurrency: must be a list (got 4)"]),
        (SWEEP + "matrix:\n  product:\n    tp: []\n", 9, ["matrix: `product.tp` has no values"]),
        (SWEEP + "matrix:\n  exclude: [{tpp: 3}]\n", 8, ["'tpp', which is not an axis of this sweep"]),
        (SWEEP + "server:\n  kind: attached\n", 8, ["server: ", "needs `base_url`"]),
        (SWEEP + "server: {base_url: 'http://h:1'}\n", 7, ["set `kind: attached`, not simulated"]),
        (SWEEP.replace("8", "1"), 4, ["concurrency: 1 is listed twice"]),
        (SWEEP.replace("[short]", "[short, short]"), 3, ["workloads: 'short' is listed twice"]),
        (
            SWEEP + "server:\n  kind: container\n  image: -v/:/host\n",
            9,
            ["server.image", "no dash at the start"],
        ),
        (SWEEP + "server: {image: --privileged}\n", 7, ["server.image", "no dash at the start"]),
        (SWEEP + 'server: {image: "a\\nb"}\n', 7, ["server.image", "printable"]),
        (SWEEP + "server: {image: ''}\n", 7, ["server.image", "an argument of a command"]),
        (SWEEP + "server: {command: [-c, x]}\n", 7, ["server.command", "write ./-c for a file"]),
        (
            SWEEP.replace("models: [llama-3.1-405b]", "models: [{profile: a, path: --x}]"),
            2,
            ["path", "write ./--x for a file"],
        ),
        (SWEEP + "env:\n  A B: x\n", 8, ["'A B' is not a valid name of an environment variable"]),
        (
            SWEEP + "matrix: {product: {env.: [1]}}\n",
            1,
            ["'' is not a valid name of an environment variable"],
        ),
    ],
)
def test_fault_names_file_line_and_key(tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    """Each kind of fault names the line it stands on and what to write instead."""
    path = write(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        yamlfile.load(path, Sweep)

    message = caught.value.text()
    assert f"{path}:{line}" in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://user:PLANTED@host", "must not contain a user, password or query"),
        ("http://host/?api_key=PLANTED", "must not contain a user, password or query"),
        ("http://user:PLAN/TED@host", "not the URL of a server"),
        ("http://127.0.0.1:99999", "not the URL of a server"),
        ("http://[::1:80", "not the URL of a server"),
        ("ftp://host", "not the URL of a server"),
        ("http://:80", "not the URL of a server"),
    ],
)
def test_urls_of_servers(tmp_path: Path, url: str, told: str) -> None:
    """One that holds a secret, or is none, is refused in a file and on the command line, and not repeated."""
    path = write(tmp_path, SWEEP + f"server: {{kind: attached, base_url: '{url}'}}\n")
    with pytest.raises(ConfigError, match=told) as in_a_file:
        yamlfile.load(path, Sweep)
    with pytest.raises(InputError, match=told) as as_an_option:
        planning.adhoc(url, "m", {"concurrency": [1]}, {}, Overrides())

    assert "PLAN" not in in_a_file.value.text() + as_an_option.value.text()


def test_all_faults_at_once(tmp_path: Path) -> None:
    """Two faults in one file come in one message."""
    path = write(tmp_path, SWEEP.replace("duration_s", "lenght") + "sed: 3\n")

    with pytest.raises(ConfigError) as caught:
        yamlfile.load(path, Sweep)

    assert "lenght" in caught.value.text()
    assert "did you mean 'seed'" in caught.value.text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SWEEP + "serve_args: {max_num_seqs: [1, 2]}\n",
            "serve_args.max_num_seqs: must be true or false or a whole number or a number or text or a mapping",
        ),
        (
            SWEEP.replace("[llama-3.1-405b]", "[{profile: x, tpp: 4}]"),
            "unknown key 'tpp'; did you mean 'tp'?",
        ),
        (SWEEP.replace("[llama-3.1-405b]", "[{tp: 4}]"), "key 'profile' is missing"),
    ],
)
def test_one_message_a_key(tmp_path: Path, text: str, message: str) -> None:
    """A key that may be of several types has one fault, not one a type."""
    path = write(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        yamlfile.load(path, Sweep)

    assert [message] == [line.partition(": ")[2] for line in caught.value.text().splitlines()]


@pytest.mark.parametrize("key", ["X_TOKEN: 41414141", "MINE: 41414141", "VLLM_X: 41414141"])
def test_a_fault_does_not_tell_a_secret(tmp_path: Path, key: str) -> None:
    """Nor the value of a variable that is not listed; the sentence is whole."""
    with pytest.raises(ConfigError) as caught:
        yamlfile.load(write(tmp_path, SWEEP + f"env: {{{key}}}\n"), Sweep)

    told = " (got 41414141)" if key.startswith("VLLM") else ""
    assert redacted(caught.value.text()).endswith(f"env.{key.partition(':')[0]}: must be text{told}")


def test_missing_file_suggests_a_near_one(tmp_path: Path) -> None:
    """A path with a typing error is answered with the file that is there."""
    write(tmp_path, SWEEP)

    with pytest.raises(ConfigError) as caught:
        yamlfile.load(tmp_path / "sweeps.yaml", Sweep)

    assert "sweep.yaml" in caught.value.fix


def test_not_a_mapping(tmp_path: Path) -> None:
    """A list where a mapping belongs is refused."""
    with pytest.raises(ConfigError, match="mapping"):
        yamlfile.load(write(tmp_path, "- a\n- b\n"), Hardware)


def test_a_key_that_is_right_elsewhere_is_no_misspelling(tmp_path: Path) -> None:
    """`tp` lies below `product` of a matrix, or is a model's own."""
    path = tmp_path / "sweep.yaml"
    path.write_text("name: x\nmodels: [quick]\nworkloads: [short]\nmatrix: {tp: [4, 8]}\n")
    with pytest.raises(ConfigError, match=r"unknown key 'tp' here; it belongs to another section"):
        yamlfile.load(path, Sweep)


def test_a_wrong_value_has_one_message_in_a_file_and_on_the_command_line(tmp_path: Path) -> None:
    """Only the place differs."""
    with pytest.raises(ConfigError) as in_a_file:
        yamlfile.load(write(tmp_path, SWEEP + "repeats: 0\n"), Sweep)
    with pytest.raises(InputError) as as_an_option:
        planning.plan(str(write(tmp_path, SWEEP)), Overrides(), {"repeats": 0})

    assert in_a_file.value.text().partition(":7: ")[2] == as_an_option.value.what
