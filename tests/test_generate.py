"""scripts/generate.py: scripts that run without errors, and whose histories are valid."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from check import check
from driver import ROOT, run

FAULTS = ("--partition-every", "60", "--kill-every", "60", "--move-every", "30", "--stabilize-every", "150")


def generate(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate.py"), *options], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--topology", "chain", *FAULTS),
        ("--topology", "ring", "--servers", "4", "--distribution", "zipf", *FAULTS),
        ("--topology", "star", "--clients", "9", "--reads", "0.9", *FAULTS),
        ("--topology", "tree", "--servers", "8", "--keys", "3", "--value-size", "1-300", *FAULTS),
        ("--servers", "1", "--clients", "1", "--stabilize-every", "0", *FAULTS[:6]),
        ("--servers", "2", "--kill-every", "3", "--partition-every", "4", "--move-every", "2"),
    ],
    ids=lambda options: " ".join(options[:4]) or "defaults",
)
@pytest.mark.parametrize("interval", ["0", "0.005"])
def test_scripts_run_without_errors_and_are_valid(
    options: tuple[str, ...], seed: int, interval: str, tmp_path: Path
) -> None:
    script = generate("--operations", "600", "--seed", str(seed), *options)
    assert (script.returncode, script.stderr) == (0, "")
    history = tmp_path / "history"
    result = run(script.stdout, "--gossip-interval", interval, "--history", str(history))
    assert (result.stderr, result.status) == ("", 0)
    verdict = check(history)
    assert verdict.verdict == "valid", verdict.why
    assert verdict.operations == len(script.stdout.splitlines())


def test_the_seed_decides() -> None:
    first, again, other = (generate("--operations", "300", *FAULTS, "--seed", seed).stdout for seed in "112")
    assert first == again != other


@pytest.mark.parametrize("words", ["put", "get", "killServer", "createConnection", "breakConnection", "stabilize"])
def test_faults_are_in_it(words: str) -> None:
    assert f"\n{words}" in generate("--operations", "600", *FAULTS).stdout


@pytest.mark.parametrize(
    "options",
    [
        ("--servers", "0"),
        ("--operations", "-1"),
        ("--reads", "2"),
        ("--value-size", "0"),
        ("--value-size", "9-3"),
        ("--topology", "circle"),
    ],
    ids=" ".join,
)
def test_wrong_options(options: tuple[str, ...]) -> None:
    result = generate(*options)
    assert (result.returncode, result.stdout) == (2, "")
    assert "error" in result.stderr


def test_help_explains_every_option() -> None:
    shown = generate("--help").stdout
    for option in ("--operations", "--topology", "--reads", "--distribution", "--value-size", "--kill-every", "--seed"):
        assert option in shown
    assert "of a value: N, or MIN-MAX (default: 16)\n" in shown


def test_what_the_documents_say_comes_of_it() -> None:
    page = (ROOT / "docs" / "history.md").read_text("utf-8")
    (options,) = re.findall(r"    scripts/generate\.py (.*) > script", page)
    assert f"valid: {len(generate(*options.split()).stdout.splitlines())} operations" in page
