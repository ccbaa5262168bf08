"""A headless Chromium, driven by Playwright, and pages in it that must not report any error.

May live here: starting the browser, and opening pages in it. May not: what a page should show. The browser is that of
the system; Playwright downloads none.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")

FLAGS = (
    "--no-sandbox",  # without this it does not run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class NoBrowser(Exception):
    """There is no browser to use; the text says what is missing."""


@contextmanager
def launched() -> Iterator[Any]:
    """A running browser. Raises NoBrowser."""
    try:
        from playwright.sync_api import sync_playwright  # not at the top: it may be missing
    except ImportError:
        raise NoBrowser("needs Playwright: pip install -r tests/requirements-browser.txt") from None
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise NoBrowser(f"needs a browser: one of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, path: Path, query: str = "", **options: Any) -> Iterator[Any]:
    """Open a page, offline. Any message on its console, and any request but the one for the page, is a failure.

    *query*: what follows the path in the address. *options*: as for Playwright's `Browser.new_context`.
    """
    options = {"viewport": {"width": 1400, "height": 900}, **options}
    context = browser.new_context(offline=True, accept_downloads=True, **options)
    page = context.new_page()
    page.set_default_timeout(20_000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))

    def on_request(request: Any) -> None:
        if not request.url.startswith(("blob:", path.as_uri())):
            complaints.append(request.url)

    page.on("request", on_request)
    page.goto(path.as_uri() + query)
    page.wait_for_function("!document.getElementById('paper') || 'ready' in document.documentElement.dataset")
    yield page
    assert not complaints
    context.close()
