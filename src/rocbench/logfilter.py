"""A server's output on its way into its log, without secrets: `python -m rocbench.logfilter FD`.

A process of its own: it lives as long as anything holds the other end of the pipe, so a server whose `bench` was killed
writes on, and what it writes is still filtered. It ends when the last writer has. What comes in is always taken, also
when the disk is full, so that no server waits for its log; what could not be written is counted in the log itself.

Args:
    FD: a file that holds JSON: `secrets`, values to mask; `variables`, name to value, of which the value is masked.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from rocbench.redact import MASK, hinted, redacted

LONGEST_LINE = 64 * 1024
"""Bytes of a line that are held until its end comes; of a longer one what has come is written, less `HELD`."""
HELD = 4096
_DUMPS = (("=", ""), ("': '", "'"), ('": "', '"'))
"""How an environment is printed: NAME=value, and as Python and JSON write a mapping."""
_READ = 256 * 1024
_DEAF = tuple(getattr(signal, f"SIG{name}") for name in "INT TERM HUP QUIT USR1 USR2 PIPE".split())


class Lines:
    """Bytes in, masked bytes out, in whole lines."""

    def __init__(self, secrets: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        # Any bytes come; as latin-1 they are text, and go out as they came.
        self._secrets = tuple(_latin(secret) for secret in secrets)
        self._phrases = tuple(secret for secret in self._secrets if len(secret.split()) != 1)
        self._words = tuple(secret for secret in self._secrets if secret not in self._phrases)
        self._held = max([HELD, *(len(secret) for secret in self._secrets)])
        self._variables = {_latin(name): _latin(value) for name, value in (variables or {}).items()}
        self._rest = ""

    def take(self, data: bytes) -> bytes:
        """What can be written after these bytes have come."""
        self._rest += data.decode("latin-1")
        end = max(self._rest.rfind("\n"), self._rest.rfind("\r")) + 1
        done, self._rest = self._masked(self._rest[:end]), self._rest[end:]
        if len(self._rest) > LONGEST_LINE + self._held:
            # Whatever is whole is masked by now, and what is not begins in the bytes that are held.
            masked = self._masked(self._rest)
            done, self._rest = done + masked[: -self._held], masked[-self._held :]
        return done.encode("latin-1")

    def end(self) -> bytes:
        """What is left when nothing more comes."""
        done, self._rest = self._masked(self._rest), ""
        return done.encode("latin-1")

    def _masked(self, text: str) -> str:
        if not self._suspected(text):
            return text
        for name, value in self._variables.items():
            if name in text:
                for between, after in _DUMPS:
                    text = text.replace(f"{name}{between}{value}{after}", f"{name}{between}{MASK}{after}")
        return redacted(text, self._secrets)

    def _suspected(self, text: str) -> bool:
        """Whether anything may be in it. A log says the same words again and again, so each is looked at once."""
        words = "\n".join(set(text.split()))
        return (
            hinted(words)
            or any(secret in words for secret in self._words)
            or any(name in words for name in self._variables)
            or any(secret in text for secret in self._phrases)
        )


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
    with open(int(sys.argv[1]), encoding="utf-8") as file:
        told = json.load(file)
    lines, log = Lines(told["secrets"], told["variables"]), Log(sys.stdout.fileno())
    while data := os.read(sys.stdin.fileno(), _READ):
        if done := lines.take(data):
            log.write(done)
    log.write(lines.end())


if __name__ == "__main__":
    main()
