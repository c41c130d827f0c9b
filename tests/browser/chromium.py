"""A headless Chromium driven through its own DevTools protocol: no driver program, no further package."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import aiohttp

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-port=0"
).split()
START_S = 60.0
WAIT_S = 60.0


def executable() -> str | None:
    """Chromium's program, or None where there is none."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))),
        None,
    )


class Chromium:
    """One browser with one page, as a context manager."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._count = 0
        self.requests: list[str] = []
        """URLs that the page asked for, but files and data of its own."""
        self.errors: list[str] = []
        """Console errors, warnings of the browser and uncaught exceptions."""

    def __enter__(self) -> Self:
        program = executable()
        assert program is not None
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self._folder.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._runner.run(self._connect())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._session is not None:
            self._runner.run(self._close())
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._runner.close()
        self._folder.cleanup()

    async def _close(self) -> None:
        assert self._session is not None
        await self._session.close()

    async def _connect(self) -> None:
        port = await asyncio.wait_for(self._port(), START_S)
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [target for target in await answer.json() if target["type"] == "page"]
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self._send(f"{domain}.enable")

    async def _port(self) -> int:
        """The port it chose, from the file that it writes when it listens."""
        file = Path(self._folder.name) / "DevToolsActivePort"
        while True:
            lines = file.read_text().splitlines() if file.is_file() else []
            if lines:
                return int(lines[0])
            await asyncio.sleep(0.05)

    async def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        assert self._socket is not None
        self._count += 1
        number = self._count
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await asyncio.wait_for(self._socket.receive_json(), WAIT_S)
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                url = parameters["request"]["url"]
                if not url.startswith(("file:", "data:", "blob:", "about:")):
                    self.requests.append(url)
            case "Runtime.exceptionThrown":
                self.errors.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.errors.append(str(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.errors.append(str(parameters["entry"]))

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command of the protocol and give its result."""
        return self._runner.run(self._send(method, **parameters))

    def size(self, width: int, height: int = 900, *, mobile: bool = False) -> None:
        """Set the window's size in CSS pixels."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def open(self, path: Path, ready: str) -> None:
        """Open a file and wait until the expression `ready` is true."""
        self.command("Page.navigate", url=path.resolve().as_uri())
        self.wait(ready)

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + WAIT_S
        while not self.evaluate(f'document.readyState === "complete" && Boolean({expression})'):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.05)

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression; promises are waited for."""
        result = self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def move(self, x: float, y: float) -> None:
        """Move the mouse, twice: pages react to a move, not to a place."""
        for dx in (-3.0, 0.0):
            self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x + dx, y=y)

    def screenshot(self, path: Path, *, full: bool = False) -> Path:
        """Write a PNG of the window, or of the whole page."""
        more: dict[str, Any] = {}
        if full:
            box = self.command("Page.getLayoutMetrics")["cssContentSize"]
            more = {"captureBeyondViewport": True, "clip": {**box, "scale": 1}}
        data = self.command("Page.captureScreenshot", format="png", **more)["data"]
        path.write_bytes(base64.b64decode(data))
        return path
