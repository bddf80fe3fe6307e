"""A real headless Chromium, driven over its DevTools protocol; nothing beyond the websockets library is needed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.events: list[dict[str, Any]] = []
        """What the browser told by itself, in order (console, requests), for the domains that were enabled."""

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            heard: dict[str, Any] = json.loads(self._socket.recv(60))
            if heard.get("id") == self._number:
                assert "error" not in heard, heard
                return dict(heard["result"])
            if "method" in heard:
                self.events.append(heard)

    def run(self, script: str) -> Any:
        """The value of a script in the page; promises are waited for."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def act(self, script: str) -> None:
        """Do what may take the page away: answered before it is done, since an answer can be lost with the page."""
        self.run(f"void setTimeout(() => {{ {script} }})")

    def open(self, address: str) -> None:
        self.send("Page.navigate", url=address)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def until(self, condition: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if self.run(f"!!({condition})"):
                    return
            except AssertionError:  # the page was being replaced
                pass
            assert time.monotonic() < deadline, (condition, self.run("document.body && document.body.innerText.slice(0, 400)"))
            time.sleep(0.1)

    def screenshot(self, path: Path) -> None:
        import base64

        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """A browser with an empty profile; skips where none is installed."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: `apt-get install chromium` to run this test")
    process = subprocess.Popen(
        [found, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0",
         "--no-first-run", "--disable-background-networking", "--window-size=1500,1000", f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        port_file, deadline = profile / "DevToolsActivePort", time.monotonic() + 60
        while not (port_file.is_file() and len(port_file.read_text().splitlines()) == 2):
            assert process.poll() is None and time.monotonic() < deadline, "Chromium did not start"
            time.sleep(0.1)
        import httpx

        port = int(port_file.read_text().splitlines()[0])
        tab = next(one for one in httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json() if one["type"] == "page")
        with connect(tab["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
            yield Page(socket)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)
