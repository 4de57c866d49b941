"""Headless Chromium, driven over a pair of pipes: no network, no port, no package beside it."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# A renderer in a container may neither use a sandbox of its own nor much shared memory.
OPTIONS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"),
    *("--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"),
    *("--disable-extensions", "--disable-component-update", "--disable-sync", "--mute-audio"),
)


def chromium() -> str | None:
    """Where Chromium is, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Browser:
    """One page of a running Chromium; `events` are what it told without being asked."""

    orders: int
    answers: int
    session: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    _number: int = 0
    _unread: bytes = b""

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask for something of the DevTools protocol, and wait for the answer."""
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters}
        if self.session:
            order["sessionId"] = self.session
        os.write(self.orders, json.dumps(order).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])
            self.events.append(message)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            more = os.read(self.answers, 1 << 20)
            assert more, "Chromium has ended"
            self._unread += more
        message, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(message))

    def open(self, page: Path) -> None:
        """Load a file, forgetting what was told before, and wait until all of it is there."""
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        ready = "new Promise(done => document.readyState === 'complete' ? done() : onload = done)"
        self.run(ready)

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def told(self, *methods: str) -> list[dict[str, Any]]:
        """What the page said of these kinds, since it was opened."""
        return [event["params"] for event in self.events if event["method"] in methods]

    def show(self, width: int, height: int = 900, dark: bool = False, paper: bool = False) -> None:
        """Give the page a width in CSS pixels, a light or dark theme, and a screen or paper."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        medium = "print" if paper else "screen"
        self.call("Emulation.setEmulatedMedia", media=medium, features=[theme])

    def picture(self, target: Path) -> None:
        """Write the whole page as PNG."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        target.write_bytes(base64.b64decode(picture["data"]))

    def paper(self, target: Path) -> None:
        """Write the page as PDF, as it would be printed."""
        printed = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        target.write_bytes(base64.b64decode(printed["data"]))


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile, and end it.

    Args:
        profile: an empty folder of its own.
    """
    command = chromium()
    assert command is not None
    (to_read, orders), (answers, to_write) = os.pipe(), os.pipe()
    # Chromium reads its orders from descriptor 3 and answers on 4.
    shell = f'exec "$@" 3<&{to_read} 4>&{to_write}'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", command, *OPTIONS, f"--user-data-dir={profile}"],
        pass_fds=(to_read, to_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(to_write)
    try:
        browser = Browser(orders, answers)
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        browser.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            browser.call(f"{domain}.enable")
        yield browser
    finally:
        process.terminate()
        process.wait(timeout=20)
        os.close(orders)
        os.close(answers)
