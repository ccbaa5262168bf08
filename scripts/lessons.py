#!/usr/bin/env python3
"""Makes the pages of the lessons, docs/lessons/, from the scripts in examples/.

scripts/lessons.py                 all pages with their pictures; needs a browser: tests/requirements-browser.txt
scripts/lessons.py --no-pictures   only the texts
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # the checkout

from console import environment

environment.enter(__name__, ("msgpack",))

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from checking.browser import NoBrowser, launched
from checking.lessons import PAGES, learn, picture, scripts, text
from scripts.shared import run_main


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Makes the pages of the lessons, docs/lessons/, from the scripts in examples/."
    )
    parser.add_argument("--no-pictures", action="store_true", help="leave the pictures as they are; needs no browser")
    arguments = parser.parse_args()
    PAGES.mkdir(exist_ok=True)
    with ExitStack() as stack:
        try:
            browser = None if arguments.no_pictures else stack.enter_context(launched())
        except NoBrowser as reason:
            parser.error(f"pictures: {reason}")
        for script in scripts():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="daadkvs-lesson-")))
            lesson = learn(script, folder)
            (PAGES / f"{lesson.name}.md").write_text(text(lesson), "utf-8")
            if browser is not None:
                (PAGES / f"{lesson.name}.svg").write_text(picture(lesson, folder, browser), "utf-8")
            print(f"docs/lessons/{lesson.name}.md: {lesson.verdict.splitlines()[0]}")
    return 0


if __name__ == "__main__":
    run_main(main)
