"""A headless Chromium that a test drives: clicks, keys, and what the page then shows. No package is needed for it.

It is spoken to in the DevTools protocol through a pipe: JSON messages with a zero byte behind each.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

PROGRAM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
_PATIENCE_S = 30.0


class Browser:
    """One page at a time. ``errors``: what its scripts have complained about."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 900) -> None:
        assert PROGRAM is not None
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ]
        high = [fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (read_there, write_there)]

        def as_3_and_4() -> None:  # where Chromium looks for them
            for descriptor, one in enumerate(high, start=3):
                os.dup2(one, descriptor)

        self._process = subprocess.Popen(
            [PROGRAM, *options, "about:blank"],
            preexec_fn=as_3_and_4,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for one in (read_there, write_there, *high):
            os.close(one)
        self._read, self._write, self._buffer, self._number = read_here, write_here, b"", 0
        self._events: list[dict[str, Any]] = []
        target = self._ask("Target.createTarget", {"url": "about:blank"}, session=None)["targetId"]
        attached = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True}, session=None)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime"):
            self._ask(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)
        os.close(self._read)
        self._process.terminate()
        self._process.wait(_PATIENCE_S)

    @property
    def errors(self) -> list[str]:
        thrown = [one["params"] for one in self._events if one["method"] == "Runtime.exceptionThrown"]
        return [str(one["exceptionDetails"]) for one in thrown]

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._ask("Emulation.setDeviceMetricsOverride", size)

    def open(self, page: Path) -> None:
        self._events.clear()
        self._ask("Page.navigate", {"url": page.resolve().as_uri()})
        deadline = time.monotonic() + _PATIENCE_S
        while not any(one["method"] == "Page.loadEventFired" for one in self._events):
            self._receive(deadline)

    def value(self, expression: str) -> Any:
        """Of JavaScript."""
        found = self._ask("Runtime.evaluate", {"expression": expression, "returnByValue": True, "awaitPromise": True})
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of the first such element, which must be seen there."""
        x, y = self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self._ask("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1})

    def hover(self, selector: str) -> None:
        x, y = self._middle(selector)
        self._ask("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})

    def press(self, key: str) -> None:
        """``Tab``, ``Enter``, ``ArrowRight``, ... on what has the focus."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        given = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "text": "\r" if key == "Enter" else ""}
        self._ask("Input.dispatchKeyEvent", {"type": "keyDown", **given})
        self._ask("Input.dispatchKeyEvent", {"type": "keyUp", **given, "text": ""})

    def seen(self, selector: str) -> int:
        """How many such elements are shown."""
        return int(
            self.value(f"[...document.querySelectorAll({selector!r})].filter(e => e.getClientRects().length).length")
        )

    def text(self, selector: str) -> str:
        return str(self.value(f"document.querySelector({selector!r}).innerText"))

    def _middle(self, selector: str) -> tuple[float, float]:
        found = self.value(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}});"
            "const b = e.getBoundingClientRect(), x = b.left + b.width / 2, y = b.top + b.height / 2;"
            "const top = document.elementFromPoint(x, y); return [x, y, e === top || e.contains(top)]; })()"
        )
        assert found[2], f"{selector} is covered or not shown"
        return found[0], found[1]

    def _ask(self, method: str, params: dict[str, Any] | None = None, session: str | None = "page") -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params or {}}
        if session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            found = self._receive(deadline)
            if found.get("id") == self._number:
                assert "error" not in found, found
                return dict(found["result"])

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            found = os.read(self._read, 1 << 20)
            assert found, "Chromium has ended"
            self._buffer += found
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._events.append(message)
        return message
