"""A server's output on its way into its log, without secrets: `python -m rocbench.logfilter FD`.

A process of its own: it lives as long as anything holds the other end of the pipe, so a server whose `bench` was killed
writes on, and what it writes is still filtered. It ends when the last writer has. What comes in is always taken, also
when the disk is full, so that no server waits for its log; what could not be written is counted in the log itself.

Args:
    FD: a file in memory that holds JSON: `secrets`, values to mask; `variables`, name to value, of which the value is
        masked; `died`, how the filter before this one ended (empty: there was none). Once it is read, the file holds one
        byte: whether bytes have been read that are not written yet (`AT_REST` where none are).
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
from collections.abc import Mapping, Sequence

from rocbench.redact import MASK, hinted, redacted, written_forms

LONGEST_LINE = 64 * 1024
"""Bytes of a line that are held until its end comes; of a longer one what has come is written, less `HELD`."""
HELD = 4096
_DUMPS = (("=", ""), ("': '", "'"), ("': \"", '"'), ('": "', '"'))
"""How an environment is printed: NAME=value, and as Python (with either mark) and JSON write a mapping."""
AT_REST = b"\0"
_BUSY = b"\1"
_READ = 256 * 1024
_DEAF = tuple(getattr(signal, f"SIG{name}") for name in "INT TERM HUP QUIT USR1 USR2 PIPE".split())
_NUMBERS = b"0123456789,[]"
"""What makes up lists of token ids; the words of a log differ in little else."""
_MOST_WORDS = 50_000
_LONGEST_WORD = 200


class Lines:
    """Bytes in, masked bytes out, in whole lines.

    Masking costs 500 ns a byte, and a server that logs its requests logs megabytes a second. So it is done only in lines
    that hold a suspicious word, and each word is looked at once: a log says the same words again and again, but for numbers.
    """

    def __init__(
        self, secrets: Sequence[str], variables: Mapping[str, str] | None = None, *, begun: bool = False
    ) -> None:
        """Makes a filter.

        Args:
            begun: the first line has begun before: what comes of it is dropped, as it may be the end of a secret.
        """
        # Any bytes come; as latin-1 they are text, and go out as they came.
        self._secrets = tuple(_latin(secret) for secret in secrets)
        dumps = {
            f"{_latin(name)}{between}": ([_latin(form) for form in _longest_first(value)], after)
            for name, value in (variables or {}).items()
            for between, after in _DUMPS
        }
        self._dumps = {
            head: ([form for form in forms if not _is_tall(form)], after)
            for head, (forms, after) in dumps.items()
        }
        self._heads = re.compile("|".join(map(re.escape, self._dumps)))
        self._held = max([HELD, *(len(secret) for secret in self._secrets)])
        texts = [text.encode("latin-1") for text in self._secrets]
        self._phrases = tuple(text for text in texts if text.split() != [text] or not _skeleton(text))
        self._words = tuple({_skeleton(text) for text in texts if text not in self._phrases})
        names = {_skeleton(_latin(name).encode("latin-1")) for name in variables or {}}
        self._names = {name: tuple(name + end for end in (b"=", b"':", b'":')) for name in names}
        # Over several lines: no line alone shows it.
        self._tall = tuple(secret for secret in self._secrets if _is_tall(secret))
        self._low = tuple(secret for secret in self._secrets if not _is_tall(secret))
        self._tall_dumps = tuple(
            (f"{head}{form}{after}", f"{head}{MASK}{after}")
            for head, (forms, after) in dumps.items()
            for form in forms
            if _is_tall(form)
        )
        self._innocent: set[bytes] = set()
        self._rest = b""
        self._begun = begun

    def take(self, data: bytes) -> bytes:
        """What can be written after these bytes have come."""
        if self._begun:
            _, end, data = data.partition(b"\n")
            self._begun = not end
        self._rest += data
        end_at = max(self._rest.rfind(b"\n"), self._rest.rfind(b"\r")) + 1
        done, self._rest = self._masked(self._rest[:end_at]), self._rest[end_at:]
        if len(self._rest) > LONGEST_LINE + self._held:
            # Whatever is whole is masked by now, and what is not begins in the bytes that are held.
            masked = self._masked(self._rest)
            done, self._rest = done + masked[: -self._held], masked[-self._held :]
        return done

    def end(self) -> bytes:
        """What is left when nothing more comes."""
        done, self._rest = self._masked(self._rest), b""
        return done

    def _masked(self, data: bytes) -> bytes:
        phrased = any(phrase in data for phrase in self._phrases)
        suspects = self._suspects(data)
        if not phrased and not suspects:
            return data
        text = data.decode("latin-1")
        for dump, masked in self._tall_dumps:
            text = text.replace(dump, masked)
        for secret in self._tall:
            text = text.replace(secret, MASK)
        lines = text.encode("latin-1").splitlines(keepends=True)
        chosen = [
            number
            for number, line in enumerate(lines)
            if phrased or not suspects.isdisjoint(_skeleton(line).split())
        ]
        # Together: what is looked for is looked for once. No mask takes or makes the end of a line.
        done = self._masked_lines(b"".join(lines[number] for number in chosen), b"\n".join(suspects))
        for number, line in zip(chosen, done.splitlines(keepends=True), strict=True):
            lines[number] = line
        return b"".join(lines)

    def _masked_lines(self, lines: bytes, suspects: bytes) -> bytes:
        text = self._without_dumps(lines.decode("latin-1"))
        return redacted(text, self._low, suspects.decode("latin-1")).encode("latin-1")

    def _without_dumps(self, text: str) -> str:
        """Each value masked that stands behind its variable's name, also where two of them overlap."""
        done, at = [], 0
        found = self._heads.search(text) if self._dumps else None
        while found is not None:
            start = found.end()
            forms, after = self._dumps[found[0]]
            form = next((form for form in forms if text.startswith(form + after, start)), None)
            if form is not None:
                if start >= at:
                    done += [text[at:start], MASK]
                at = max(at, start + len(form))
            found = self._heads.search(text, found.start() + 1)
        return "".join([*done, text[at:]]) if done else text

    def _suspects(self, data: bytes) -> set[bytes]:
        """Words, without their digits, of which a secret or its name may be a part."""
        new = set(_skeleton(data).split()) - self._innocent
        any_is = self._hinted(b"\n".join(new))
        suspects = {word for word in new if self._hinted(word)} if any_is else set()
        if len(self._innocent) > _MOST_WORDS:
            self._innocent.clear()
        self._innocent.update(word for word in new if word not in suspects and len(word) <= _LONGEST_WORD)
        return suspects

    def _hinted(self, words: bytes) -> bool:
        return (
            hinted(words.decode("latin-1"))
            or any(word in words for word in self._words)
            or any(
                name in words and any(form in words for form in forms) for name, forms in self._names.items()
            )
        )


def _skeleton(text: bytes) -> bytes:
    return text.translate(None, _NUMBERS)


def _longest_first(value: str) -> list[str]:
    return sorted(written_forms(value), key=len, reverse=True)


def _is_tall(text: str) -> bool:
    return "\n" in text or "\r" in text


class Log:
    """A file that may refuse what is written; counted, and told in it as soon as there is room."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.lost = 0
        self.why = ""

    def write(self, data: bytes) -> None:
        """Write all of it, or count what is lost."""
        if self.lost:
            note = f"\n[bench: {self.lost} bytes of this log could not be written: {self.why}]\n".encode()
            if self._write(note) == len(note):
                self.lost = 0
        self.lost += len(data) - self._write(data)

    def _write(self, data: bytes) -> int:
        done = 0
        try:
            while done < len(data):
                done += os.write(self.file, data[done:])
        except OSError as error:
            self.why = error.strerror or str(error)
        return done


def _latin(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def main() -> None:
    """From standard input to standard output, until its end."""
    for number in _DEAF:
        signal.signal(number, signal.SIG_IGN)
    state = int(sys.argv[1])
    with open(state, encoding="utf-8", closefd=False) as file:
        told = json.load(file)
    died = told.get("died", "")
    lines, log = Lines(told["secrets"], told["variables"], begun=bool(died)), Log(sys.stdout.fileno())
    if died:
        log.write(
            f"\n[bench: the filter of this log ended ({died}); another goes on, without what that one had read "
            "and without the line that follows]\n".encode()
        )
    source = sys.stdin.fileno()
    os.ftruncate(state, 1)
    while True:
        os.pwrite(state, AT_REST, 0)
        select.select([source], [], [])
        os.pwrite(state, _BUSY, 0)  # before it is read: whoever finds the pipe empty finds this
        data = os.read(source, _READ)
        if not data:
            break
        if done := lines.take(data):
            log.write(done)
    log.write(lines.end())


if __name__ == "__main__":
    main()
