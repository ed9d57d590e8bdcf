"""A headless Chromium, driven over its own protocol.

The only way to a browser in the tests: Debian's `chromium`, or whatever Chromium there is.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from devcluster.command import need_tools
from devcluster.lock import locked
from support.waiting import wait_until

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_INSTALLING = Path(tempfile.gettempdir()) / "modelserver-tests-chromium"
_PATIENCE_SECONDS = 90
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--hide-scrollbars", "--remote-debugging-port=0", "--force-color-profile=srgb"),
)


def _program() -> str:
    """Where it is; installed first where it is missing, by one test process at a time."""
    with locked(_INSTALLING):
        found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
        if found is None:
            need_tools({_PROGRAMS[0]: _PROGRAMS[0]}, purpose="the tests of the gateway's page")
            found = shutil.which(_PROGRAMS[0])
    return found or _PROGRAMS[0]


class Tab:
    """One page. `problems` are errors of scripts, and what the policy of the page has stopped."""

    def __init__(self, connection: ClientConnection) -> None:
        self.problems: list[str] = []
        self._connection = connection
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def listen(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self._connection:
                message = json.loads(text)
                if "id" in message:
                    self._answers.pop(message["id"]).set_result(message)
                else:
                    self._note(message["method"], message["params"])

    async def call(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        message = await asyncio.wait_for(answer, _PATIENCE_SECONDS)
        assert "error" not in message, f"{method}: {message['error']}"
        return message["result"]

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def value(self, script: str) -> Any:
        """Of an expression; promises are waited for."""
        result = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, script: str) -> Any:
        """Waits until an expression is true."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        while not (seen := await self.value(script)):
            is_late = asyncio.get_running_loop().time() > deadline
            assert not is_late, f"not true: {script}\n{await self.value('document.body.innerText')}"
            await asyncio.sleep(0.05)
        return seen

    async def text(self, selector: str) -> str:
        return await self.value(f"document.querySelector({json.dumps(selector)}).innerText")

    async def click(self, selector: str) -> None:
        await self.value(f"document.querySelector({json.dumps(selector)}).click()")

    async def write(self, selector: str, text: str) -> None:
        """By the keyboard, into a field that a person can reach."""
        await self.value(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.call("Input.insertText", text=text)

    async def press(self, name: str, code: int) -> None:
        key = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        text = {"text": "\r"} if name == "Enter" else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **key, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    async def be(self, width: int, height: int, *, is_dark: bool = False, scale: float = 1) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 640,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme, still])

    async def picture(self) -> bytes:
        """What is in sight, as PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot"))["data"])

    def _note(self, method: str, params: Any) -> None:
        if method == "Runtime.exceptionThrown":
            self.problems.append(str(params["exceptionDetails"]))
        elif method == "Log.entryAdded":
            entry = params["entry"]
            # A refused request is told by the page itself.
            if entry["level"] == "error" and entry["source"] != "network":
                self.problems.append(entry["text"])


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[int]:
    """The port on which it takes orders."""
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            [_program(), *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            stdout=log,
            stderr=log,
        )
    try:
        yield _port(folder / "profile" / "DevToolsActivePort")
    finally:
        process.kill()
        process.wait(30)


@contextlib.asynccontextmanager
async def new_tab(port: int) -> AsyncIterator[Tab]:
    """With a memory of its own."""
    async with httpx.AsyncClient(trust_env=False, timeout=_PATIENCE_SECONDS) as client:
        made = (await client.put(f"http://127.0.0.1:{port}/json/new?about:blank")).json()
    async with connect(made["webSocketDebuggerUrl"], max_size=None) as connection:
        tab = Tab(connection)
        listening = asyncio.create_task(tab.listen())
        for domain in ("Page", "Runtime", "Log"):
            await tab.call(f"{domain}.enable")
        # Otherwise the one that was made before has the keyboard.
        await tab.call("Page.bringToFront")
        yield tab
        await tab.call("Page.close")
        listening.cancel()


def _port(path: Path) -> int:
    wait_until(
        lambda: path.exists() and path.read_text().count("\n") >= 1,
        timeout=_PATIENCE_SECONDS,
        what="the browser listens",
        interval=0.05,
    )
    return int(path.read_text().split()[0])
