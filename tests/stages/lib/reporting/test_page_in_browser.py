"""The report page in a real Chromium, driven over the DevTools protocol's pipe."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.stages import plot_inputs

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --hide-scrollbars "
    "--remote-debugging-pipe"
)

# Chromium reads commands from descriptor 3 and writes answers to 4.
LAUNCH = """
import fcntl, os, sys
reading, writing = (fcntl.fcntl(int(at), fcntl.F_DUPFD, 10) for at in sys.argv[1:3])
os.dup2(reading, 3)
os.dup2(writing, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

pytestmark = [
    pytest.mark.skipif(
        sys.platform == "win32", reason="Chromium's pipe is opened by POSIX file descriptors here"
    ),
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium on this machine"
    ),
]


class Browser:
    """A headless Chromium with one tab."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM, "CI has to have Chromium: apt-get install chromium"
        (read_3, self._out), (self._in, write_4) = os.pipe(), os.pipe()
        launch = [sys.executable, "-c", LAUNCH, str(read_3), str(write_4)]
        self.process = subprocess.Popen(
            [*launch, CHROMIUM, *FLAGS.split(), f"--user-data-dir={profile}"],
            pass_fds=(read_3, write_4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_3)
        os.close(write_4)
        self._number = 0
        self._rest = b""
        self._session = ""
        self.events: list[dict[str, Any]] = []
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            self.events.append(answer)
        assert "result" in answer, answer
        return cast(dict[str, Any], answer["result"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], 60)[0], "Chromium says nothing for a minute"
            part = os.read(self._in, 1 << 20)
            assert part, "Chromium has ended"
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return cast(dict[str, Any], json.loads(message))

    def open(
        self, path: Path, *, width: int = 1100, dark: bool = False, script: bool = True
    ) -> None:
        """Opens a file and waits until everything in it is loaded."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not self.named("Page.loadEventFired"):
            self.events.append(self._receive())

    def named(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, promises awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            parameters = {"key": key, "code": key, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type=kind, **parameters, **text)

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def close(self) -> None:
        with contextlib.suppress(AssertionError, OSError):
            self._session = ""
            self.call("Browser.close")
        os.close(self._out)
        os.close(self._in)
        self.process.wait(timeout=20)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small data set with warnings, and with names that try to break it."""
    folder = tmp_path_factory.mktemp("page")
    plot_inputs.write(folder)
    plot_inputs.plant_leaks(folder)
    assert plot_inputs.run_plot(folder).returncode == 0
    return folder / "reports/index.html"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100], ids=["narrow", "wide"])
def test_nothing_leaves_the_page_and_everything_in_it_shows(
    browser: Browser, page: Path, width: int, dark: bool
) -> None:
    browser.open(page, width=width, dark=dark)
    decoded = browser.evaluate(
        "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))"
    )
    assert len(decoded) == 9
    assert min(decoded) > 0
    assert browser.evaluate("document.querySelectorAll('table').length") == 16
    addresses = [event["request"]["url"] for event in browser.named("Network.requestWillBeSent")]
    assert [url for url in addresses if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert not browser.named("Runtime.consoleAPICalled")
    assert not browser.named("Runtime.exceptionThrown")
    assert not browser.named("Log.entryAdded")


@pytest.mark.parametrize("width", [360, 1100], ids=["narrow", "wide"])
def test_only_tables_scroll_sideways(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    assert browser.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_contrast(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, dark=dark)
    assert browser.evaluate(CONTRASTS) >= 4.5


def test_the_keyboard_sorts_a_table(browser: Browser, page: Path) -> None:
    browser.open(page)
    table = "document.querySelector('#classes table')"
    f1 = f"[...{table}.tBodies[0].rows].map(row => row.cells[4].textContent)"
    browser.evaluate(f"{table}.tHead.rows[0].cells[4].querySelector('button').focus()")
    for expected in ("ascending", "descending"):
        browser.press("Enter", 13)
        assert browser.evaluate(f"{table}.tHead.rows[0].cells[4].ariaSort") == expected
        shown = [float(text.split()[0]) for text in browser.evaluate(f1)]
        assert shown == sorted(shown, reverse=expected == "descending")
        assert len(set(shown)) > 1


def test_a_text_column_sorts_by_its_text(browser: Browser, page: Path) -> None:
    browser.open(page)
    table = "document.querySelector('#run table')"
    browser.evaluate(f"{table}.tHead.rows[0].cells[0].querySelector('button').click()")
    keys = browser.evaluate(f"[...{table}.tBodies[0].rows].map(row => row.cells[0].textContent)")
    assert keys == sorted(keys)


def test_without_javascript_nothing_is_missing_and_no_button_is_dead(
    browser: Browser, page: Path
) -> None:
    browser.open(page, script=False)
    document = browser.call("DOM.getDocument")["root"]["nodeId"]

    def count(selector: str) -> int:
        matches = browser.call("DOM.querySelectorAll", nodeId=document, selector=selector)
        return len(matches["nodeIds"])

    assert (count("table"), count("img"), count("button")) == (16, 9, 0)


def test_printing_opens_what_is_folded(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert browser.evaluate("document.querySelectorAll('details:not([open])').length") == 0
    browser.evaluate("dispatchEvent(new Event('afterprint'))")
    assert browser.evaluate("document.querySelectorAll('details[open]').length") == 0


# The lowest contrast of any text on the page with what is behind it.
# Source: Web Content Accessibility Guidelines 2.2, "relative luminance" and "contrast ratio".
CONTRASTS = """
(() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = colour => {
    const [r, g, b] = channels(colour).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((channels(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  document.querySelectorAll("details").forEach(details => { details.open = true; });
  let lowest = Infinity;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.tagName === "SCRIPT") continue;
    const [a, b] = [getComputedStyle(element).color, behind(element)].map(luminance);
    lowest = Math.min(lowest, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return lowest;
})()
"""
