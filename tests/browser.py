"""A real browser for tests: Debian's chromium, spoken to over its DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.real import require

_START_S = 60.0


class Tab:
    """One page. Calls are answered in order of their ids; events other than answers are kept."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(_START_S):
            while True:
                message = json.loads((await self._socket.receive()).data)
                if message.get("id") != number:
                    self.events.append(message)
                    continue
                assert "error" not in message, message["error"]
                return dict(message["result"])

    async def open(self, url: str, width: int = 1280, dark: bool = False) -> None:
        """Load a page at a width, and wait until it is there."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 720
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression (JSON)."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until an expression is true. Errors: TimeoutError."""
        async with asyncio.timeout(_START_S):
            while not await self.run(condition):  # noqa: ASYNC110  # the condition is in another process
                await asyncio.sleep(0.05)

    async def key(self, name: str) -> None:
        text = {"text": name} if len(name) == 1 else {}
        codes = {"Enter": 13, "Tab": 9, "ArrowDown": 40, "ArrowUp": 38, "Escape": 27}
        code = {"windowsVirtualKeyCode": codes[name]} if name in codes else {}
        if name == "Enter":
            text = {"text": "\r"}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=name, **text, **code)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=name, **code)

    def complaints(self) -> list[str]:
        """What the browser logged as an error: scripts that failed, what a policy refused, what was not found."""
        found = []
        for event in self.events:
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(event["params"]["exceptionDetails"]))
            if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                found.append(event["params"]["entry"]["text"])
        return found


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Tab]:
    """A headless chromium with one tab, ended at exit. `folder`: for its profile."""
    program = require("chromium", "chromium")
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
    process = await asyncio.create_subprocess_exec(
        program, *words, f"--user-data-dir={folder}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as session:
            address = f"http://127.0.0.1:{await _port(folder)}/json/list"
            async with asyncio.timeout(_START_S):
                while True:
                    async with session.get(address) as answer:
                        tabs = [one for one in await answer.json() if one["type"] == "page"]
                    if tabs:
                        break
                    await asyncio.sleep(0.05)
            async with session.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                yield Tab(socket)
    finally:
        process.kill()
        await process.wait()


async def _port(folder: Path) -> int:
    file = folder / "DevToolsActivePort"
    async with asyncio.timeout(_START_S):
        while True:
            if file.exists() and (lines := file.read_text().split()):
                return int(lines[0])
            await asyncio.sleep(0.05)
