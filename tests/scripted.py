"""A server for tests whose every answer is decided by a function, on a thread of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rocbench.httpd import Exchange, Server, serve


def token(index: int, text: str = " tok", finish: str | None = None, **more: Any) -> bytes:
    """The SSE event of one completion token with continuous usage."""
    body = {"choices": [{"index": 0, "text": text, "finish_reason": finish}]}
    body["usage"] = {"prompt_tokens": 5, "completion_tokens": index + 1}
    return f"data: {json.dumps(body | more)}\n\n".encode()


def whole(count: int) -> bytes:
    """The body of an answer of `count` tokens."""
    return (
        b"".join(token(i, finish="length" if i == count - 1 else None) for i in range(count))
        + b"data: [DONE]\n\n"
    )


def asked(exchange: Exchange) -> int:
    """Tokens that the request asks for."""
    return int(exchange.json()["max_tokens"])


def answer(exchange: Exchange) -> None:
    """A good answer at once."""
    exchange.begin_stream()
    exchange.write(whole(asked(exchange)))
    exchange.end()


@contextmanager
def scripted(handler: Callable[[Exchange], None], host: str = "127.0.0.1", **options: Any) -> Iterator[str]:
    """Serve with `handler` and give the base URL."""
    loop = asyncio.new_event_loop()
    started: list[Server] = []
    ready = threading.Event()

    async def main() -> None:
        started.append(await serve(handler, host, 0, **options))
        ready.set()

    def run() -> None:
        loop.run_until_complete(main())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    scheme = "https" if options.get("tls") else "http"
    name = f"[{host}]" if ":" in host else host
    try:
        yield f"{scheme}://{name}:{started[0].port}"
    finally:
        asyncio.run_coroutine_threadsafe(started[0].close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@contextmanager
def raw(handler: Callable[[socket.socket, int], None]) -> Iterator[str]:
    """Serve with `handler(connection, how many came before)`, each connection on a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    open_sockets = [listener]

    def accept() -> None:
        number = 0
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            open_sockets.append(sock)
            threading.Thread(target=serve_one, args=(sock, number), daemon=True).start()
            number += 1

    def serve_one(sock: socket.socket, number: int) -> None:
        try:
            handler(sock, number)
        except OSError:
            return
        finally:
            sock.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        for sock in open_sockets:
            sock.close()
        thread.join(10)


def read_request(sock: socket.socket) -> dict[str, Any] | None:
    """The JSON body of the next request on a connection; None when the client has closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(
        next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")).split()[1]
    )
    while len(body) < length:
        body += sock.recv(65536)
    return {**json.loads(body), "head": head.decode()}
