"""Filter secrets out of a server's output on its way into its log: `python -m rocbench.logfilter FD`.

It is a separate process that lives as long as any process holds the other end of the pipe. So a server whose
`bench` was killed continues to write, and its output is still filtered. It ends after the last writer. It
always accepts input, even on a full disk, so that no server waits for its log; output that could not be
written is counted in the log itself.

Args:
    FD: a file in memory that holds JSON: `secrets`, values to mask; `variables`, name to value, of which the
        value is masked; `died`, how the previous filter ended (empty: there was none). Once it is
        read, the file holds one byte: `AT_REST`, or another value while bytes are read and not written yet.
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
"""Maximum bytes held until a line ends; of a longer line everything is written except the last `HELD`."""
HELD = 4096
_DUMPS = (("=", ""), ("': '", "'"), ("': \"", '"'), ('": "', '"'))
"""Forms of a printed environment: NAME=value, and as Python (with either mark) and JSON write a mapping."""
AT_REST = b"\0"
_BUSY = b"\1"
_READ = 256 * 1024
_IGNORED = tuple(getattr(signal, f"SIG{name}") for name in "INT TERM HUP QUIT USR1 USR2 PIPE".split())
_NUMBERS = b"0123456789,[]"
"""Characters of lists of token ids; the words of a log differ in little else."""
_MOST_WORDS = 50_000
_LONGEST_WORD = 200


class Lines:
    """Mask bytes, and return them in whole lines.

    Masking costs 500 ns per byte, and a server that logs its requests logs megabytes per second. So only
    lines with a suspicious word are masked, and each word is checked once: a log repeats the same words,
    except numbers.
    """

    def __init__(
        self, secrets: Sequence[str], variables: Mapping[str, str] | None = None, *, begun: bool = False
    ) -> None:
        """Make a filter.

        Args:
            begun: the first line began earlier: the rest of it is dropped, as it may be the end of a secret.
        """
        # The bytes are arbitrary; as latin-1 they are text, and are written unchanged.
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
        # Over several lines: no single line shows it.
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
        """Return the bytes that can be written after this input."""
        if self._begun:
            _, end, data = data.partition(b"\n")
            self._begun = not end
        self._rest += data
        end_at = max(self._rest.rfind(b"\n"), self._rest.rfind(b"\r")) + 1
        done, self._rest = self._masked(self._rest[:end_at]), self._rest[end_at:]
        if len(self._rest) > LONGEST_LINE + self._held:
            # Everything whole is masked by now, and the rest begins in the held bytes.
            masked = self._masked(self._rest)
            done, self._rest = done + masked[: -self._held], masked[-self._held :]
        return done

    def end(self) -> bytes:
        """Return the rest at the end of the input."""
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
        # Together: common searches are made once. No mask removes or adds the end of a line.
        done = self._masked_lines(b"".join(lines[number] for number in chosen), b"\n".join(suspects))
        for number, line in zip(chosen, done.splitlines(keepends=True), strict=True):
            lines[number] = line
        return b"".join(lines)

    def _masked_lines(self, lines: bytes, suspects: bytes) -> bytes:
        text = self._without_dumps(lines.decode("latin-1"))
        return redacted(text, self._low, suspects.decode("latin-1")).encode("latin-1")

    def _without_dumps(self, text: str) -> str:
        """Mask each value that follows its variable's name, also where two of them overlap."""
        done, at = [], 0
        match = self._heads.search(text) if self._dumps else None
        while match is not None:
            start = match.end()
            forms, after = self._dumps[match[0]]
            form = next((form for form in forms if text.startswith(form + after, start)), None)
            if form is not None:
                if start >= at:
                    done += [text[at:start], MASK]
                at = max(at, start + len(form))
            match = self._heads.search(text, match.start() + 1)
        return "".join([*done, text[at:]]) if done else text

    def _suspects(self, data: bytes) -> set[bytes]:
        """Return words, without their digits, that may be part of a secret or its name."""
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
    """A file that may refuse writes; losses are counted, and reported in it when there is room."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.lost = 0
        self.reason = ""

    def write(self, data: bytes) -> None:
        """Write all of it, or count the loss."""
        if self.lost:
            note = f"\n[bench: {self.lost} bytes of this log could not be written: {self.reason}]\n".encode()
            if self._write(note) == len(note):
                self.lost = 0
        self.lost += len(data) - self._write(data)

    def _write(self, data: bytes) -> int:
        done = 0
        try:
            while done < len(data):
                done += os.write(self.file, data[done:])
        except OSError as error:
            self.reason = error.strerror or str(error)
        return done


def _latin(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def main() -> None:
    """Filter standard input to standard output, until its end."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    state = int(sys.argv[1])
    with open(state, encoding="utf-8", closefd=False) as file:
        filter_settings = json.load(file)
    died = filter_settings["died"]
    lines, log = (
        Lines(filter_settings["secrets"], filter_settings["variables"], begun=bool(died)),
        Log(sys.stdout.fileno()),
    )
    if died:
        log.write(
            f"\n[bench: the process that filters this log ended ({died}) and was replaced; its unwritten output "
            "and the next line are lost]\n".encode()
        )
    source = sys.stdin.fileno()
    os.ftruncate(state, 1)
    while True:
        os.pwrite(state, AT_REST, 0)
        select.select([source], [], [])
        os.pwrite(state, _BUSY, 0)  # written before the pipe is read: a reader of the empty pipe sees it
        data = os.read(source, _READ)
        if not data:
            break
        if done := lines.take(data):
            log.write(done)
    log.write(lines.end())


if __name__ == "__main__":
    main()
