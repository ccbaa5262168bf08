"""The book that `make book` makes, in a real browser, offline and from the file system."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from checking.driver import ROOT
from scripts import book

pytestmark = pytest.mark.skipif(
    find_spec("mkdocs") is None, reason="needs MkDocs: pip install -r scripts/requirements-book.txt"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    command = [sys.executable, str(ROOT / "scripts" / "book.py"), "-o", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def page(chromium: Any, site: Path) -> Iterator[Any]:
    """The book's first page, offline; a request that leaves the book is a failure, and so is an error."""
    context = chromium.new_context(offline=True)
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "request",
        lambda request: None if request.url.startswith(("blob:", site.as_uri())) else complaints.append(request.url),
    )
    opened.goto((site / "index.html").as_uri())
    yield opened
    assert complaints == []
    context.close()


def test_all_pages_are_in_it(site: Path) -> None:
    pages = [*ROOT.glob("docs/**/*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    for source in pages:
        assert (site / source.relative_to(ROOT)).with_suffix(".html").exists(), source


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for path in site.glob("**/*.html"):
        fetched = re.findall(
            r"<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)=[\"']?(https?:[^\"' >]+)", path.read_text()
        )
        assert fetched == [], path


def test_it_is_searched_offline(page: Any) -> None:
    page.locator("[data-md-component=search-query]").press_sequentially("hybrid logical clock")
    page.wait_for_selector(".md-search-result__item a[href*='protocol.html']")


def test_one_gets_from_page_to_page_and_answers_are_folded(page: Any) -> None:
    page.click("nav >> text=Session guarantees")
    page.wait_for_selector("h1:has-text('Session guarantees')")
    answer = page.locator("details:has-text('password:ERR_DEP')").first
    assert not answer.locator("pre").first.is_visible()
    answer.locator("summary").click()
    assert answer.locator("pre").first.is_visible()
    assert page.locator("img").first.evaluate("image => image.naturalWidth") > 0


def test_a_link_that_leads_nowhere_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gather = book.gather
    links = ("nowhere.md", "README.md#nowhere", "/absolute.md", "#gone")

    def gather_and_spoil(pages: Path) -> None:
        gather(pages)
        with (pages / "CHANGELOG.md").open("a") as file:
            file.write("".join(f"\n[a link]({link})\n" for link in links))

    monkeypatch.setattr(book, "gather", gather_and_spoil)
    monkeypatch.setattr(sys, "argv", ["book.py", "-o", str(tmp_path / "site")])
    assert book.main() == 1
    told = capsys.readouterr().err
    assert [link for link in links if f"'{link}'" not in told] == []
