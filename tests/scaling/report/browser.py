"""Drives headless Chromium through its debugging pipe: widths, scripts off, printing, pictures, accessibility."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--hide-scrollbars",
          "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe")  # fmt: skip


class Browser:
    """A browser with one page."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        (self._commands, out), (back, self._answers) = _pipe(), _pipe()
        # Chromium reads commands from descriptor 3 and writes answers to descriptor 4.
        script = (
            f"exec 3<&{self._commands} 4>&{self._answers}; exec {CHROMIUM} {' '.join(_FLAGS)} --user-data-dir={folder}"
        )
        self._process = subprocess.Popen(
            ["bash", "-c", script + " about:blank"],
            pass_fds=(self._commands, self._answers),
            env={**os.environ, "HOME": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(self._commands)
        os.close(self._answers)
        self._to, self._from = os.fdopen(out, "wb", buffering=0), os.fdopen(back, "rb")
        self._number, self._session = 0, ""
        self.problems: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Accessibility", "DOM"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._to.close()
        self._process.terminate()
        self._process.wait(20)

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._read())
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            if answer.get("method") == "Runtime.exceptionThrown":
                self.problems.append(json.dumps(answer["params"])[:500])

    def _read(self) -> bytes:
        found = bytearray()
        while (byte := self._from.read(1)) not in (b"\0", b""):
            found += byte
        if not found:
            raise RuntimeError("Chromium ended")
        return bytes(found)

    def show(self, page: Path, width: int = 1280, scripts: bool = True, dark: bool = False) -> None:
        """Open a page and wait until its figures are drawn."""
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.call("Page.navigate", url=page.as_uri())
        ready = "document.readyState === 'complete'" + (" && document.body.dataset.ready === 'yes'" if scripts else "")
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if self.run(ready):
                return
            time.sleep(0.1)
        raise TimeoutError(f"{page} is not drawn; {self.problems}")

    def run(self, script: str) -> Any:
        """Evaluate an expression on the page, also where its own scripts are off."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"].get("exception", {}).get("description", str(result)))
        return result["result"].get("value")

    def picture(self, file: Path) -> None:
        """Write the whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(shot["data"]))

    def print_to(self, file: Path) -> None:
        """Print the page as PDF."""
        done = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        file.write_bytes(base64.b64decode(done["data"]))

    def on_paper(self, width: int, work: str) -> Any:
        """Evaluate an expression while the page is laid out for print at a width in pixels."""
        self.call("Emulation.setEmulatedMedia", media="print")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        return self.run(work)


def _pipe() -> tuple[int, int]:
    """Two ends of a pipe: for reading and for writing."""
    return os.pipe()
