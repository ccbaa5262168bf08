"""A headless Chromium for tests, driven by Playwright; and pages that may do nothing wrong.

The browser is the system's: Playwright fetches none. Where there is no browser, or no Playwright, tests are skipped,
and say so.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")

FLAGS = (
    "--no-sandbox",  # or it won't run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running browser, for all tests of a session."""
    sync = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install -r tests/requirements-browser.txt"
    )
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"needs a browser: one of {', '.join(NAMES)}")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def opened(chromium: Any, path: Path) -> Iterator[Any]:
    """A page of its own, offline. Whatever the console says, and every request but that for the page, is a failure."""
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, offline=True, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(20_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda request: request.url.startswith(("blob:", path.as_uri())) or said.append(request.url))
    page.goto(path.as_uri())
    yield page
    assert not said
    context.close()
