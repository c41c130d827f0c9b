"""A small forward proxy for tests: absolute URLs and CONNECT, and a list of what went through it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Seen:
    """What the proxy was asked."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        """Request lines."""
        self.credentials: list[str] = []
        """Values of Proxy-Authorization."""


@contextmanager
def forward_proxy(target: str, refuse: bytes = b"") -> Iterator[tuple[str, Seen]]:
    """Serve a proxy that sends everything to `target` (HOST:PORT), or answers each request with `refuse`.

    Gives its URL and what it saw. Whatever host is asked for, the target answers: no test needs a name of its own.
    """
    seen, (host, port) = Seen(), target.rsplit(":", 1)
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(sock,), daemon=True).start()

    def one(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                more = sock.recv(65536)
                if not more:
                    return
                head += more
            lines = head.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
            seen.lines.append(lines[0])
            seen.credentials += [
                line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("proxy-auth")
            ]
            if refuse:
                sock.sendall(refuse)
                return
            with socket.create_connection((host, int(port))) as onward:
                if lines[0].startswith("CONNECT"):
                    sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    onward.sendall(head)
                back = threading.Thread(target=copy, args=(onward, sock), daemon=True)
                back.start()
                copy(sock, onward)
                back.join(10)

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
