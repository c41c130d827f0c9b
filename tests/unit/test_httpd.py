"""What a client sees when the server drops its connection."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from rocbench.httpd import Exchange, serve


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_reset_is_no_polite_end(loop):
    """A RST fails the client's read, where an abort ends it."""

    def handle(exchange: Exchange) -> None:
        exchange.reset() if exchange.path == "/reset" else exchange.abort()

    async def ask(port: int, path: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        try:
            return await reader.read()
        finally:
            writer.close()

    async def both() -> None:
        server = await serve(handle)
        assert not await ask(server.port, "/abort")
        with pytest.raises(ConnectionResetError):
            await ask(server.port, "/reset")
        await server.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(both())
