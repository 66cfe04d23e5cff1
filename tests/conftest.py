"""Fixtures for every test: the shipped digits, a seeded generator, and a real browser."""

import gzip
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from isthmus.training.engines.base import StepBatch

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

# The names that scripts/install-browser looks for.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

BROWSER_FLAGS = (
    "--no-sandbox",  # Chromium refuses to run as root with its sandbox, and CI often is root
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Test processes run side by side; and sums in one thread do not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def apart() -> Callable[[StepBatch], Iterator[StepBatch]]:
    """apart(steps) gives each step by itself, as steps again."""

    def each(steps: StepBatch) -> Iterator[StepBatch]:
        start, steps = 0, steps.gathered()
        for size, rate, seed in zip(steps.sizes, steps.rates, steps.seeds, strict=True):
            part = slice(start, start + size)
            yield StepBatch(steps.rows[part], steps.weight[part], [size], [rate], [seed])
            start += size

    return each


def read_idx(path: Path, skip: int) -> NDArray[np.uint8]:
    """The bytes of a gzipped IDX file after its header of `skip` bytes."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=skip)


@pytest.fixture(scope="session")
def digits() -> NDArray[np.uint8]:
    """(1797, 8, 8) grey images, read without the code under test, and read-only."""
    return read_idx(EXAMPLES / "digits" / "images-idx3-ubyte.gz", 16).reshape(-1, 8, 8)


@pytest.fixture(scope="session")
def digit_labels() -> NDArray[np.uint8]:
    """(1797,) the digit each image shows, read-only."""
    return read_idx(EXAMPLES / "digits" / "labels-idx1-ubyte.gz", 8)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that starts the same in every test."""
    return np.random.default_rng(0)


def _runs(path: str) -> bool:
    # Some systems ship a stub that only says "install me".
    done = subprocess.run([path, "--version"], check=False, capture_output=True)
    return done.returncode == 0


def find_browser() -> str | None:
    """The path of a Chromium or Chrome that runs, or None."""
    for name in BROWSERS:
        path = shutil.which(name)
        if path and _runs(path):
            return path
    return None


# Not for the whole session: Playwright keeps an event loop running in this thread for as long
# as it lives, and asyncio.run of another module's test would refuse to start beside it.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Playwright browser on the system's Chromium; skips without one, except in CI."""
    path = find_browser()
    if path is None:
        message = f"no Chromium or Chrome here (looked for {', '.join(BROWSERS)})"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(BROWSER_FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the tabs of `page` reported; a test that expects something empties it itself."""
    return []


@pytest.fixture
def page(browser: Any, complaints: list[str]) -> Iterator[Callable[..., Any]]:
    """Opens a file (or a URL) in a fresh, offline tab: page(path, width=390, color_scheme="dark").

    The test fails at its end when a tab reported an error or asked for anything over a network.
    """
    contexts: list[Any] = []

    def open_page(
        target: Path | str, *, width: int = 1280, height: int = 800, **context: Any
    ) -> Any:
        viewport = {"width": width, "height": height}
        contexts.append(browser.new_context(viewport=viewport, offline=True, **context))
        tab = contexts[-1].new_page()
        _listen(tab, complaints)
        tab.goto(target.resolve().as_uri() if isinstance(target, Path) else target)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _listen(tab: Any, complaints: list[str]) -> None:
    def on_console(entry: Any) -> None:
        if entry.type == "error":
            complaints.append(entry.text)

    def on_request(request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            complaints.append(f"asked for {request.url}")

    tab.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    tab.on("console", on_console)
    tab.on("request", on_request)
