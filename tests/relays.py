"""A relay between client and server that spoils streams: what gateways do, one kind at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

from rocbench.httpd import Exchange

KINDS = ("pass", "hold", "batch", "merge", "double", "replay", "event", "json")
"""pass: nothing; hold: the beginning for a while; batch: what came, now and then; merge: several events in one;
double: each event twice; replay: all at the end; event, json: all at the end, in one."""
DONE = b"data: [DONE]\n\n"


def relay(upstream: str, kind: str, seconds: float = 0.1, events: int = 8) -> Callable[[Exchange], None]:
    """A handler that passes requests on to `upstream` and spoils the streams that come back.

    Args:
        upstream: the server's base URL.
        kind: one of KINDS.
        seconds: how long the beginning is held, and how often a batch is sent.
        events: how many are merged.
    """
    where = urlsplit(upstream)
    running: set[asyncio.Task[None]] = set()

    async def carry(exchange: Exchange) -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            kept = {k: v for k, v in exchange.headers.items() if k not in {"host", "connection"}}
            lines = [
                f"{exchange.method} {exchange.path} HTTP/1.1",
                f"Host: {where.netloc}",
                "Connection: close",
            ]
            lines += [f"{name}: {value}" for name, value in kept.items()]
            writer.write("\r\n".join([*lines, "", ""]).encode() + exchange.body)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b"event-stream" in head:
                await _spoil(exchange, _events(reader), kind, seconds, events)
            else:
                status = int(head.split()[1])
                exchange.respond(status, await _body(reader, head), _header(head, b"content-type"))
        finally:
            writer.close()

    def handler(exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(carry(exchange))
        running.add(task)
        task.add_done_callback(running.discard)

    return handler


def _header(head: bytes, name: bytes) -> str:
    lines = [line for line in head.split(b"\r\n") if line.startswith(name + b":")]
    return lines[0].partition(b":")[2].strip().decode() if lines else ""


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    length = _header(head, b"content-length")
    return await (reader.readexactly(int(length)) if length else reader.read())


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The events of a chunked body as they come."""
    rest = b""
    while size := int(await reader.readline(), 16):
        rest += (await reader.readexactly(size + 2))[:-2]
        *whole, rest = rest.split(b"\n\n")
        for event in whole:
            yield event + b"\n\n"


async def _spoil(
    exchange: Exchange, events: AsyncIterator[bytes], kind: str, seconds: float, many: int
) -> None:
    loop = asyncio.get_running_loop()
    held: list[bytes] = []
    until = None
    if kind not in {"event", "json"}:
        exchange.begin_stream()
    flushing = loop.create_task(_flush(exchange, held, seconds)) if kind == "batch" else None
    async for event in events:
        now = loop.time()
        until = now + seconds if until is None else until
        if kind == "hold" and now >= until:
            exchange.write(b"".join(held))
            held.clear()
        if kind == "pass" or (kind == "hold" and now >= until):
            exchange.write(event)
        elif kind == "double":
            exchange.write(event if event == DONE else event + event)
        else:
            held.append(event)
        if kind == "merge" and len(held) >= many:
            exchange.write(_merged(held))
            held.clear()
    if flushing is not None:
        await asyncio.sleep(seconds)
        flushing.cancel()
    if kind == "json":
        exchange.respond(200, _merged(held).removeprefix(b"data: ").removesuffix(DONE))
        return
    if kind == "event":
        exchange.begin_stream()
    for event in [_merged(held)] if kind in {"merge", "event"} else held:
        exchange.write(event)
    exchange.end()


async def _flush(exchange: Exchange, held: list[bytes], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        exchange.write(b"".join(held))
        held.clear()


def _merged(events: list[bytes]) -> bytes:
    """Events of /v1/completions as one, with all their text and the last count; the end stays the end."""
    told = [json.loads(event[6:]) for event in events if event != DONE]
    choices = [one["choices"][0] for one in told if one["choices"]]
    end = DONE if DONE in events else b""
    if not choices:
        return b"".join(events)
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    text = "".join(choice["text"] for choice in choices)
    whole = told[-1] | {
        "choices": [{"index": 0, "text": text, "finish_reason": reasons[0] if reasons else None}]
    }
    return f"data: {json.dumps(whole)}\n\n".encode() + end
