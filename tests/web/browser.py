"""A real Chromium without a window, told over a pipe what to do (Chrome DevTools Protocol)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.deadlines import scaled

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def installed() -> str | None:
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Page:
    """One page of the browser. `complaints` are what its console said, the policy's refusals included."""

    def __init__(self, process: subprocess.Popen[bytes], to_it: int, from_it: int) -> None:
        self._process = process
        self._to_it, self._from_it = to_it, from_it
        self._number = 0
        self._read = b""
        self._session: str | None = None
        self._events: list[str] = []
        self.complaints: list[str] = []

    def begin(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to_it, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + scaled(60)
        while True:
            found = self._next(deadline)
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._from_it], [], [], max(0.0, deadline - time.monotonic()))
            assert ready and self._process.poll() is None, "the browser says nothing"
            self._read += os.read(self._from_it, 1 << 20)
        text, _, self._read = self._read.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        method, said = found.get("method", ""), found.get("params", {})
        self._events.append(method)
        if method == "Log.entryAdded":
            self.complaints.append(said["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(said["exceptionDetails"]))
        return found

    def open(self, url: str) -> None:
        """Load a page, to the end."""
        self._events.clear()
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + scaled(60)
        while "Page.loadEventFired" not in self._events:
            self._next(deadline)

    def value(self, expression: str) -> Any:
        """What JavaScript makes of it (also where the page may run none)."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def look(self, width: int, height: int, scheme: str) -> None:
        """Be so large, and light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)


@contextlib.contextmanager
def browser(directory: Path) -> Iterator[Page]:
    """A page that shows nothing yet."""
    program = installed()
    assert program is not None
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()

    with (directory / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            [
                # It reads from 3 and writes to 4.
                *("bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash"),
                *(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *("--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={directory}/profile"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(theirs_in, theirs_out),
        )
    os.close(theirs_in)
    os.close(theirs_out)
    page = Page(process, ours_out, ours_in)
    try:
        page.begin()
        yield page
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(scaled(10))
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours_in)
        os.close(ours_out)
