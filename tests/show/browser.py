"""Chromium as a user drives it: real clicks, strokes and keys, told through the browser's own pipe; no package is needed."""

import fcntl
import itertools
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

__all__ = ["BROWSER", "Page", "opened"]

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 30


class Page:
    """One tab, and everything that it complained of."""

    def __init__(self, read: int, write: int) -> None:
        self._write, self._numbers, self._session = write, itertools.count(1), None
        self.complaints: list[str] = []
        self._heard: Queue[dict[str, Any]] = Queue()
        threading.Thread(target=self._listen, args=(read,), daemon=True).start()
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def _listen(self, read: int) -> None:
        with os.fdopen(read, "rb") as pipe:
            rest = b""
            while got := os.read(pipe.fileno(), 1 << 16):
                *whole, rest = (rest + got).split(b"\0")
                for message in whole:
                    self._heard.put(json.loads(message))

    def _call(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        told = {"id": number, "method": method, "params": params}
        told |= {} if self._session is None else {"sessionId": self._session}
        os.write(self._write, json.dumps(told).encode() + b"\0")
        while True:
            try:
                heard = self._heard.get(timeout=PATIENCE)
            except Empty:
                raise AssertionError(f"the browser does not answer {method}") from None
            if heard.get("id") == number:
                assert "error" not in heard, heard["error"]
                return heard["result"]
            if heard.get("method") in {"Runtime.exceptionThrown", "Log.entryAdded"}:
                self.complaints.append(json.dumps(heard["params"]))

    def go(self, address: str) -> None:
        """Open an address and wait until its script has run."""
        self._call("Page.navigate", url=address)
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    def value(self, script: str) -> Any:
        """Return what an expression gives in the page."""
        found = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until an expression is true in the page, and return it."""
        end = time.monotonic() + PATIENCE
        while not (found := self.value(script)):
            assert time.monotonic() < end, f"never true: {script}; complaints: {self.complaints}"
            time.sleep(0.02)
        return found

    def text(self, selector: str) -> str:
        """Return the visible text of an element."""
        return str(self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    def _place(self, selector: str, across: float, down: float) -> tuple[float, float]:
        box = self.value(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)}); one.scrollIntoView({{block: 'center'}}); "
            "const box = one.getBoundingClientRect(); return [box.left, box.top, box.width, box.height]; })()"
        )
        return box[0] + across * box[2], box[1] + down * box[3]

    def _mouse(self, kind: str, x: float, y: float, *, held: int = 0) -> None:
        self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=held, clickCount=1)

    def click(self, selector: str, *, across: float = 0.5, down: float = 0.5) -> None:
        """Click on an element, in its middle or at a part of its width and height."""
        x, y = self._place(selector, across, down)
        self._mouse("mouseMoved", x, y)
        self._mouse("mousePressed", x, y, held=1)
        self._mouse("mouseReleased", x, y)

    def point(self, selector: str, *, across: float, down: float) -> None:
        """Move the pointer over an element."""
        self._mouse("mouseMoved", *self._place(selector, across, down))

    def stroke(self, selector: str, places: list[tuple[float, float]]) -> None:
        """Press, move over the places and let go."""
        first, *others = [self._place(selector, *place) for place in places]
        self._mouse("mousePressed", *first, held=1)
        for place in others:
            self._mouse("mouseMoved", *place, held=1)
        self._mouse("mouseReleased", *(others or [first])[-1])

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        for letter in text:
            self.press(letter)

    def press(self, key: str, *, control: bool = False) -> None:
        """Press a key and let it go."""
        letters = {} if len(key) > 1 or control else {"text": key}
        for kind in ("keyDown", "keyUp"):
            self._call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                modifiers=2 * control,
                **(letters if kind == "keyDown" else {}),
            )


@contextmanager
def opened(home: Path) -> Iterator[Page]:
    """Start a browser of its own with one tab; it ends with the block."""
    (read_there, write), (read, write_there) = _pipe(), _pipe()
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--window-size=1200,900",
               f"--user-data-dir={home}"]  # fmt: skip
    silent = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
    pipes = [(os.POSIX_SPAWN_DUP2, read_there, 3), (os.POSIX_SPAWN_DUP2, write_there, 4)]
    process = os.posix_spawn(command[0], command, os.environ, file_actions=[*silent, *pipes])
    os.close(read_there)
    os.close(write_there)
    try:
        yield Page(read, write)
    finally:
        os.close(write)
        os.kill(process, signal.SIGTERM)
        os.waitpid(process, 0)


def _pipe() -> tuple[int, int]:
    """Return the ends of a pipe, numbered so high that they are in nobody's way."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 50) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
