"""A real Chromium on the page of a real service, and what a test looks at in it."""

import io
import json
import os
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)

CHROMIUM = Path("/usr/bin/chromium")
"""Debian's: nothing is downloaded."""

_ARGUMENTS = (
    "--no-sandbox",  # it does not start as root with one
    # WebGL on the CPU.
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    # It asks nothing of any host on its own account, and finds none but ours.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

DESKTOP = (1280, 800)
TABLET = (820, 1180)

WAIT_MS = 60_000
"""Of every step: the model takes seconds, and more where other tests run."""


def require() -> None:
    """Fail in CI, and skip elsewhere, where Chromium is not installed."""
    if CHROMIUM.exists():
        return
    reason = f"not installed: {CHROMIUM} (Debian: chromium)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*_ARGUMENTS])
        yield browser
        browser.close()


@dataclass
class Visit:
    """A visit of the page: what was asked of which host, and what the browser complained of."""

    context: BrowserContext
    page: Page
    address: str
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @classmethod
    @contextmanager
    def begin(
        cls,
        browser: Browser,
        address: str,
        viewport: tuple[int, int] = DESKTOP,
        touch: bool = False,
    ) -> "Iterator[Visit]":
        """Open the page with nothing in the browser's memory."""
        width, height = viewport
        context = browser.new_context(
            viewport={"width": width, "height": height}, has_touch=touch, accept_downloads=True
        )
        context.set_default_timeout(WAIT_MS)
        visit = cls(context, context.new_page(), address)
        context.on("request", visit._asked)
        context.on("console", visit._heard)
        context.on("weberror", lambda error: visit.complaints.append(str(error.error)))
        visit.page.goto(address)
        try:
            yield visit
        finally:
            context.close()

    def _asked(self, request: Request) -> None:
        self.requests.append(request)

    def _heard(self, message: ConsoleMessage) -> None:
        """Errors, among them what the policy forbids; a problem that was answered is none."""
        if message.type == "error" and "the server responded with a status of" not in message.text:
            self.complaints.append(message.text)

    def check(self) -> None:
        """Nothing was asked of another host, and nothing went wrong unseen."""
        assert self.other_hosts() == []
        assert self.complaints == []

    def choose(self, *files: Path, button: str = "Choose files") -> None:
        """Pick files, or a folder, as a reader does."""
        with self.page.expect_file_chooser() as chosen:
            self.page.get_by_role("button", name=button).click()
        chosen.value.set_files([*files])

    def wait_shown(self) -> None:
        """Until the viewer shows the study."""
        expect(self.heading("Findings")).to_be_visible(timeout=WAIT_MS)
        expect(self.cursor).to_contain_text("HU", timeout=WAIT_MS)
        expect(self.page.get_by_text("Loading the")).to_be_hidden(timeout=WAIT_MS)

    def show(self, *files: Path) -> None:
        self.choose(*files)
        self.wait_shown()

    def open(self, analysed: str) -> None:
        """A study that the service has analysed before, by its address."""
        self.page.goto(analysed)
        self.wait_shown()

    def heading(self, name: str) -> Locator:
        return self.page.get_by_role("heading", name=name, exact=True)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def viewer(self) -> Locator:
        return self.page.get_by_role("group", name="CT viewer")

    @property
    def cursor(self) -> Locator:
        """Where the cursor is, in words."""
        return self.page.get_by_label("At the cursor")

    @property
    def slice_number(self) -> int:
        """From 1, as it is shown."""
        found = re.search(r"Slice (\d+)", self.cursor.inner_text())
        assert found, self.cursor.inner_text()
        return int(found[1])

    def expect_slice(self, number: int) -> None:
        expect(self.cursor).to_contain_text(re.compile(rf"Slice {number}\b"))

    def picture(self) -> np.ndarray:
        """The viewer, once it has drawn."""
        drawn = (
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        self.page.evaluate(drawn)
        return picture(self.viewer)

    def overlay(self, liver: bool = True, tumor: bool = True) -> None:
        self.page.get_by_label("Liver", exact=True).set_checked(liver)
        self.page.get_by_label("Tumour", exact=True).set_checked(tumor)

    def job(self, job_id: str = "") -> dict[str, Any]:
        """A segmentation, by default the one that the address names, from the service itself."""
        job_id = job_id or self.page.url.partition("#")[2]
        with urllib.request.urlopen(f"{self.address}/v1/segmentations/{job_id}") as answer:
            return dict(json.loads(answer.read()))

    def other_hosts(self) -> list[str]:
        """Addresses asked for that are not the service's; what is made in memory is no request."""
        own = (f"{self.address}/", "blob:", "data:")
        return [request.url for request in self.requests if not request.url.startswith(own)]

    def bytes_of_page(self) -> dict[str, int]:
        """What was sent for each file of the page itself, heads and bodies as on the wire."""
        found: dict[str, int] = {}
        for request in self.requests:
            path = request.url.removeprefix(self.address)
            if path == "/" or (path.startswith("/ui/") and path != "/ui/sample.zip"):
                sizes = request.sizes()
                found[path] = sizes["responseBodySize"] + sizes["responseHeadersSize"]
        return found

    def violations(self) -> list[str]:
        """What axe finds serious or worse, each with where."""
        try:
            found = Axe().run(self.page).response["violations"]
        except Error as error:
            pytest.fail(f"axe did not run: {error}")
        return [
            f"{item['impact']}: {item['id']}: {item['help']}: "
            + "; ".join(node["html"][:160] for node in item["nodes"])
            for item in found
            if item["impact"] in ("serious", "critical")
        ]

    def scrolls_sideways(self) -> bool:
        return bool(
            self.page.evaluate(
                "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            )
        )


def picture(shown: Locator) -> np.ndarray:
    """What an element looks like: [row, column, channel], int16 so that differences keep a sign."""
    with Image.open(io.BytesIO(shown.screenshot(animations="disabled"))) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)


def changed(before: np.ndarray, after: np.ndarray, by: int = 12) -> np.ndarray:
    """[row, column] where two pictures differ clearly in any channel."""
    return np.asarray(np.abs(after - before).max(axis=-1) > by)


def greenish(shown: np.ndarray) -> np.ndarray:
    """[row, column] of the liver's colour; CT is grey."""
    return np.asarray((shown[..., 1] - shown[..., 0] > 12) & (shown[..., 1] - shown[..., 2] > 6))


def reddish(shown: np.ndarray) -> np.ndarray:
    """[row, column] of the tumour's colour."""
    return np.asarray(shown[..., 0] - shown[..., 1:].max(axis=-1) > 30)


def yellow(shown: np.ndarray) -> np.ndarray:
    """[row, column] of the marked diameter's colour."""
    lowest = shown[..., :2].min(axis=-1)
    return np.asarray((lowest > 170) & (lowest - shown[..., 2] > 70))


def column_of(mask: np.ndarray) -> float:
    """The mean column of a mask, from 0 at the left to 1 at the right."""
    return float(np.nonzero(mask)[1].mean() / mask.shape[1])
