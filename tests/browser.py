"""A headless browser that tests drive and look through: pages, scripts in them, what their consoles say, pictures."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import needed
from websockets.sync.client import ClientConnection, connect

TOLD = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
WAIT_S = 60


class Tab:
    """One page."""

    def __init__(self, socket: ClientConnection):
        self._socket, self._number = socket, 0
        self.messages: list[str] = []
        """What the page wrote to its console, and its uncaught errors."""
        for domain in ("Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=WAIT_S))
            if answer.get("method") in TOLD:
                self.messages.append(json.dumps(answer["params"]))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; of a promise what it comes to."""
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, script: str) -> Any:
        """The value of an expression as soon as it is something."""
        end = time.monotonic() + WAIT_S
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"{script} is still {value!r}"
            time.sleep(0.05)
        return value

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def picture(self, path: Path, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        time.sleep(0.5)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """A page of a browser of one's own; skips the test where none is installed."""
    command = [
        needed.program("chromium", "chromium-browser", "google-chrome"),
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--autoplay-policy=no-user-gesture-required",
        "--remote-debugging-port=0",
        "--window-size=1400,1000",
        f"--user-data-dir={profile}",
        "about:blank",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port, end = profile / "DevToolsActivePort", time.monotonic() + WAIT_S
        while not (port.is_file() and port.read_text().count("\n")):
            assert process.poll() is None, "the browser ended"
            assert time.monotonic() < end, "the browser does not answer"
            time.sleep(0.05)
        address = f"http://127.0.0.1:{port.read_text().split()[0]}/json"
        with urllib.request.urlopen(address, timeout=WAIT_S) as answer:
            page = next(item for item in json.load(answer) if item["type"] == "page")
        with connect(page["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait(WAIT_S)
