"""A log's filter: whatever pieces come, no secret goes out, and everything else as it came."""

import json
import os
import resource
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from rocbench import logfilter
from rocbench.logfilter import LONGEST_LINE, Lines, Log
from rocbench.redact import redacted

SECRETS = ("hf_planted0123456789", "pass phrase of mine", "schlüssel-0123456789")
VARIABLES = {"MYTHING": "opaque-0815", "HOME": "/opt/me"}


def through(data: bytes, cuts: list[int]) -> bytes:
    """What comes out of a filter that is given the data in pieces."""
    lines, at, out = Lines(SECRETS, VARIABLES), 0, b""
    for cut in sorted(cuts):
        out += lines.take(data[at:cut])
        at = max(at, cut)
    return out + lines.take(data[at:]) + lines.end()


WORDS = st.sampled_from(
    [*SECRETS, "a b", "\xff\x00", "tqdm 1%\r", "x" * 50, "api_key='abcdef'", "MYTHING=opaque-0815"]
)


@given(st.lists(st.tuples(WORDS, st.sampled_from([" ", "\n", ""])), max_size=20), st.data())
def test_however_it_comes(words, data):
    """Cut anywhere, the same comes out, and no secret in it."""
    text = "".join(word + end for word, end in words).encode()
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=10))

    out = through(text, cuts)
    assert out == through(text, [])
    for secret in (*SECRETS, "abcdef", "opaque-0815"):
        assert secret.encode() not in out
    assert out.count(b"\n") == text.count(b"\n")


HINTS = st.sampled_from(
    "api_key= 'auth_token': 'HF_TOKEN=x1 prompt_token_ids: [1, 22, 3] --token abc ?key=1 pass word: secret=[ab,c] "
    "MYTHING=opaque-0815 MYTHING= opaque-0815 0123 12345678901 1,2 num-77-ber password bearer abcdefghij ://a:b@c 7".split()
)


@given(st.lists(st.lists(HINTS, max_size=12), max_size=6), st.sampled_from([" ", ",", ""]))
def test_no_line_is_passed_over(lines, between):
    """What is looked at closely is enough: the same comes out as of a filter that masks each line."""
    secrets = ("num-77-ber", "12345678901", "7 pass word")
    said = "".join(between.join(words) + "\n" for words in lines)

    out = Lines(secrets, {"MYTHING": "opaque-0815"}).take(said.encode()).decode()
    whole = (line.replace("MYTHING=opaque-0815", "MYTHING=***") for line in said.splitlines(keepends=True))
    assert out == "".join(redacted(line, secrets) for line in whole)


def test_a_request_is_no_suspect(monkeypatch):
    """`prompt_token_ids` in each line must not cost the masking of each line: the server would wait for its log."""
    monkeypatch.setattr(logfilter, "redacted", lambda *_: "")
    line = (
        b"INFO 11-30 12:00:01 [logger.py:43] Received request cmpl-0a: prompt: 'Hello', params: SamplingParams(n=1, "
        b"stop_token_ids=[], max_tokens=128, skip_special_tokens=True, truncate_prompt_tokens=None), "
        b"prompt_token_ids: ["
        + b"15496, 11, " * 500
        + b"1], prompt_embeds shape: None, lora_request: None.\n"
    )
    lines = Lines(SECRETS, {**VARIABLES, "_": "/usr/bin/bench", "A1": "something"})

    assert lines.take(line) == line


def test_another_goes_on():
    """The line that the previous filter left unfinished may hold half a secret."""
    lines = Lines(SECRETS, begun=True)
    assert lines.take(b"0123456") == b""
    assert lines.take(b"789 and so on\nwhole\nmore") == b"whole\n"
    assert lines.end() == b"more"


def test_values_that_overlap():
    """A variable's value may hold another's, and a name end in another: each value is masked."""
    variables = {"A": "x", "BA": "valA=x", "HOME": "/me", "MYHOME": "/you", "Q": "it's"}
    said = b"env BA=valA=x, MYHOME=/me HOME=/me {'Q': 'it's', \"HOME\": \"/me\"} MYHOME=/you HOME=/you A =x\n"
    told = b"env BA=***, MYHOME=*** HOME=*** {'Q': '***', \"HOME\": \"***\"} MYHOME=*** HOME=/you A =x\n"
    assert Lines((), variables).take(said) == told


def test_values_as_mappings_write_them():
    """Of several lines, with quotation marks and backslashes: as Python and JSON write a mapping."""
    variables = {"WHATEVER": "two lines\nNewt-multi-line-4141", "Q": "it's so", "B": "x\"'\\y"}
    shown = f"{variables}\n{json.dumps(variables)}\n"
    told = dict.fromkeys(variables, "***")
    expected = f"{told}\n{json.dumps(told)}\n".replace("'Q': '***'", "'Q': \"***\"")
    assert Lines((), variables).take(shown.encode()).decode() == expected


def test_lines_between_suspects_stay_in_their_order():
    """Whatever ends them."""
    said = b"one\rpassword: a\r\n\ntwo\r\rapi_key='b\nthree\n\npassword: c"
    lines = Lines(())
    told = b"one\rpassword: ***\r\n\ntwo\r\rapi_key='***\nthree\n\npassword: ***"
    assert lines.take(said) + lines.end() == told


def test_other_bytes_stay():
    """Bytes that are not text, and text without a secret."""
    data = bytes(range(256)) * 3 + b"\nINFO 1,234 tokens/s\n" + b"MYTHING is opaque-0815\n"
    assert through(data, [5, 700]) == data


def test_a_line_without_end():
    """Is written as it grows, and holds no secret wherever it is cut."""
    lines, secret = Lines(SECRETS), SECRETS[0].encode()
    out = b""
    for _ in range(40):
        out += lines.take((b"y" * 4999 + secret)[:5003])
        out += lines.take((b"y" * 4999 + secret)[5003:])
    assert len(out) > LONGEST_LINE
    out += lines.end()
    assert secret not in out
    assert out.count(b"***") == 40


def test_what_cannot_be_written_is_counted(tmp_path):
    """A full disk loses lines; the log states how many bytes once there is space."""
    path = tmp_path / "log"
    with open(path, "ab") as file:
        log = Log(file.fileno())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            log.write(b"a" * 90 + b"\n")
            log.write(b"b" * 50)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        log.write(b"c\n")
    assert b"[bench: 41 bytes of this log could not be written: File too large]\nc\n" in path.read_bytes()


def test_it_takes_everything_and_hears_no_signal():
    """It ends with the last writer, not with a signal that is meant for bench."""
    read = os.memfd_create("told")
    os.write(read, b'{"secrets": ["planted-0123456789"], "variables": {}, "died": ""}')
    os.lseek(read, 0, os.SEEK_SET)
    process = subprocess.Popen(
        [sys.executable, "-m", "rocbench.logfilter", str(read)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(read,),
    )
    os.close(read)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"begins\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"begins\n"
    process.terminate()
    out, _ = process.communicate(b"planted-0123456789 ends")
    assert (out, process.returncode) == (b"*** ends", 0)
