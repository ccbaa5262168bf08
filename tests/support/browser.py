"""The browser of checking/browser.py for tests, which are skipped with a reason if there is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from checking.browser import NoBrowser, launched


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser for all tests of a session."""
    try:
        with launched() as browser:
            yield browser
    except NoBrowser as reason:
        pytest.skip(str(reason))
