# SPDX-License-Identifier: Apache-2.0
"""A real browser without a window, driven by Chrome's DevTools protocol over two pipes.

Messages are JSON that ends with NUL: the browser reads them from descriptor 3 and writes to 4.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

DEADLINE_SECONDS = 120  # of one answer; far above need, since the machine may be busy
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
    "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--mute-audio",
)  # fmt: skip
PHONE, SCREEN = (375, 812), (1440, 1000)  # pixels

# The lowest contrast of any text with what is behind it, as WCAG 2 defines it, and where.
CONTRAST = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (colour) => [...rgba(colour)].slice(0, 3).map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    while (element && rgba(getComputedStyle(element).backgroundColor)[3] === 0)
      element = element.parentElement;
    return getComputedStyle(element ?? document.body).backgroundColor;
  };
  let worst = [99, ""];
  const look = (element, colour) => {
    const [a, b] = [light(colour), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, element.outerHTML.slice(0, 200)];
  };
  for (const element of document.body.querySelectorAll("*")) {
    if (!element.checkVisibility()) continue;
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (own) look(element, getComputedStyle(element).color);
    const before = getComputedStyle(element, "::before");
    if (!["none", '""'].includes(before.content)) look(element, before.color);
  }
  return worst;
})()"""


class Browser:
    """One browser with one page. Use as a context manager."""

    def __init__(self, profile: Path):
        program = shutil.which("chromium")
        assert program, "no chromium: run launch/setup --tests, which installs it"
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]
        self.log = profile.with_suffix(".log")
        command = ["bash", "-c", f'exec "$0" "$@" 3<&{theirs[0]} 4>&{theirs[1]}', program, *FLAGS]
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                [*command, f"--user-data-dir={profile}", "about:blank"],
                pass_fds=theirs, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        for end in (theirs_in, theirs_out, *theirs):
            os.close(end)
        self._in, self._out, self._buffer = ours_in, ours_out, b""
        self._number, self.events, self._session = 0, [], None

    def __enter__(self) -> "Browser":
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(info["targetId"] for info in targets if info["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # With the processes of its pages.
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **parameters) -> dict:
        """The answer to one command. Events that come meanwhile are kept in `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self.events.append(answer)

    def open(self, page: Path | str) -> None:
        """Shows a file or an address, and waits until it is whole."""
        self.events.clear()
        self.call("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def window(self, width: int, height: int) -> None:
        """As a phone or a screen of this many pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip

    def scheme(self, name: str) -> None:
        """What the system prefers: "light" or "dark"."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def evaluate(self, expression: str):
        """The value of an expression in the page, as JSON has it."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, (expression, found)
        return found["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """One key, as typed by a person."""
        down = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key,
                  windowsVirtualKeyCode=KEYS.get(key, 0), **down)  # fmt: skip
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    def type(self, text: str) -> None:
        for character in text:
            self.press(character, character)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def requests(self) -> list[str]:
        """Addresses that the page asked for since it was opened."""
        sent = (e for e in self.events if e.get("method") == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]

    def complaints(self) -> list[dict]:
        """What the console says, and exceptions."""
        methods = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event for event in self.events if event.get("method") in methods]

    def _receive(self) -> dict:
        end = time.monotonic() + DEADLINE_SECONDS
        while b"\0" not in self._buffer:
            ready = select.select([self._in], [], [], max(0, end - time.monotonic()))[0]
            data = os.read(self._in, 1 << 20) if ready else b""
            assert data, f"chromium does not answer: {self.log.read_text(errors='replace')[-2000:]}"
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)


KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowRight": 39}
