"""The page of a report in a real browser: it loads alone, its tables sort by clicks, and it has a dark side."""

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import imageio_ffmpeg
import pytest

from rfwp.runners.report.writer import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """Chromium without a window, driven by its DevTools protocol through a pipe. A context manager."""

    def __init__(self, program: str, profile: Path) -> None:
        ours, theirs = os.pipe(), os.pipe()  # what we say, what it says; it reads from 3 and writes to 4
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--window-size=1200,1000"]
        wrapper = f'exec "$0" "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", wrapper, program, *flags, "about:blank"],
            pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self.out, self.inp = os.fdopen(ours[1], "wb"), os.fdopen(theirs[0], "rb")
        self.count, self.events = 0, []
        self.session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command and returns its result; keeps the events that come before it."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params, **self.session}
        self.out.write(json.dumps(message).encode() + b"\0")
        self.out.flush()
        while (answer := self._read()).get("id") != self.count:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        text = bytearray()
        while (character := self.inp.read(1)) != b"\0":
            assert character, "the browser has gone"
            text += character
        return json.loads(text)

    def open(self, page: Path, scheme: str = "light") -> None:
        """Loads a page by its path, in the light or the dark."""
        self.events.clear()
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def click(self, selector: str, text: str) -> None:
        """Presses and releases the mouse on the element of that selector that has this text."""
        element = (
            f"[...document.querySelectorAll({json.dumps(selector)})].find(e => e.textContent === {json.dumps(text)})"
        )
        self.value(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = self.value(f"{element}.getBoundingClientRect().toJSON()")
        spot = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **spot)

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def close(self) -> None:
        self.out.close()
        self.inp.close()
        self.process.terminate()
        self.process.wait(60)


pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: on Debian, apt install chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, make_run: Callable[..., Any]) -> Path:
    """A report on two cores with two seeds and clips, alone in a folder: nothing beside it can be of help."""
    runs = tmp_path_factory.mktemp("runs")
    for core, score in (("lstm", 10.0), ("rdn", 9.5)):
        for seed in (1, 2):
            make_run(runs, "breakout", core, seed, score=score + seed)
    gif, film = runs / "breakout-rdn-1" / "videos" / "step-1.gif", runs / "breakout-lstm-1" / "videos" / "step-1.mp4"
    for path in (gif, film):
        path.parent.mkdir()
    gif.write_bytes(base64.b64decode("R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="))
    writer = imageio_ffmpeg.write_frames(str(film), (32, 48), macro_block_size=2)
    writer.send(None)
    for brightness in range(60):
        writer.send(bytes([brightness]) * 32 * 48 * 3)
    writer.close()
    report = write_report([runs], tmp_path_factory.mktemp("report"))
    return shutil.copy(report.page, tmp_path_factory.mktemp("alone") / "index.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM
    browser = Browser(CHROMIUM, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def column(browser: Browser, table: str, number: int) -> list[str]:
    return browser.value(f"[...document.querySelectorAll('#{table} tbody tr')].map(r => r.cells[{number}].textContent)")


def test_the_page_loads_without_anything_else_and_without_complaints(browser: Browser, page: Path) -> None:
    browser.open(page)
    asked = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert sum(url.startswith("file:") for url in asked) == 1
    complaints = [e for e in browser.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert complaints == []
    assert "Breakout" in browser.value("document.title")
    figures = browser.value("[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().height)")
    assert len(figures) >= 5
    assert min(figures) > 50
    assert browser.value("document.querySelector('.clips img').naturalWidth") == 1
    loaded = "new Promise(done => { const v = document.querySelector('video'); v.preload = 'auto'; v.currentTime = 1;"
    assert browser.value(loaded + " v.onseeked = () => done([v.videoWidth, v.videoHeight]); })") == [32, 48]


def test_a_click_sorts_a_table_by_numbers_and_another_turns_it_round(browser: Browser, page: Path) -> None:
    browser.open(page)
    number = browser.value("[...document.querySelectorAll('#table-runs th')].findIndex(h => h.textContent === 'score')")
    scores = column(browser, "table-runs", number)
    assert scores == ["11.0", "12.0", "10.5", "11.5"]
    browser.click("#table-runs th button", "score")
    assert column(browser, "table-runs", number) == ["10.5", "11.0", "11.5", "12.0"]
    assert column(browser, "table-runs", 2) == ["rdn", "lstm", "rdn", "lstm"]
    browser.click("#table-runs th button", "score")
    assert column(browser, "table-runs", number) == ["12.0", "11.5", "11.0", "10.5"]
    browser.click("#table-runs th button", "agent")
    assert column(browser, "table-runs", 2) == ["lstm", "lstm", "rdn", "rdn"]


def test_the_page_and_its_figures_are_light_by_day_and_dark_by_night(browser: Browser, page: Path, tmp_path) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        browser.open(page, scheme)
        ink = "getComputedStyle(document.querySelector('figure svg text')).fill"
        colours[scheme] = (browser.value("getComputedStyle(document.body).backgroundColor"), browser.value(ink))
        browser.screenshot(tmp_path / f"{scheme}.png")
    brightness = {
        scheme: [sum(map(int, re.findall(r"\d+", colour))) for colour in found] for scheme, found in colours.items()
    }
    assert brightness["light"][0] > 700 > 350 > brightness["light"][1]
    assert brightness["dark"][0] < 100 < 400 < brightness["dark"][1]
    shots = [cv2.imread(str(tmp_path / f"{scheme}.png")).mean() for scheme in ("light", "dark")]
    assert shots[0] > 200
    assert shots[1] < 60
