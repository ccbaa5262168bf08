"""scripts/generate.py: scripts that run without errors, and whose histories are valid."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from support.scripts import FAULTS
from support.stalls import run_file, run_stalling

from checking.driver import ROOT, run
from checking.verdict import check


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
    assert_valid(history, script.stdout)


def assert_valid(history: Path, script: str) -> None:
    """A history that is not valid is kept for inspection."""
    verdict = check(history)
    if verdict.verdict != "valid":
        kept = Path(tempfile.mkdtemp(prefix="daadkvs-invalid-"))
        shutil.copy(history, kept / "history")
        (kept / "script").write_text(script)
        raise AssertionError(f"{verdict.verdict}: {verdict.why}\nhistory and script are kept in {kept}")
    assert verdict.operations == len(script.splitlines())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("interval", ["0", "0.005"])
def test_a_client_that_is_slow_changes_nothing(seed: int, interval: str, tmp_path: Path) -> None:
    """It is stopped repeatedly for more than half a time-out, so that its server gives groups up."""
    options = "--topology tree --servers 4 --clients 12 --keys 3 --value-size 1-300 --operations 600"
    faults = "--stabilize-every 50 --partition-every 200 --move-every 300"
    script, history = tmp_path / "script", tmp_path / "history"
    script.write_text(generate("--seed", str(seed), *options.split(), *faults.split()).stdout)
    told = ("--gossip-interval", interval, "--history", str(history))
    result = run_stalling(script, *told, random=Random(seed), stops=6)
    assert (result.stderr, result.status) == ("", 0)
    assert_valid(history, script.read_text())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_large_answers_change_nothing(seed: int, tmp_path: Path) -> None:
    """Several clients of a server ask for more than a group may answer with."""
    options = "--servers 2 --clients 3 --reads 0.98 --value-size 40000 --operations 3000 --keys 2"
    script, history = tmp_path / "script", tmp_path / "history"
    script.write_text(generate(*options.split(), "--stabilize-every", "1000", "--seed", str(seed)).stdout)
    together = run_file(script, "--gossip-interval", "0", "--history", str(history))
    is_same = together == run_file(script, "--gossip-interval", "0", "--no-pipeline")
    assert is_same  # (pytest would look long for where tens of MB differ)
    assert_valid(history, script.read_text())


@pytest.mark.parametrize("interval", ["0", "0.005"])
def test_slow_and_lossy_links_change_nothing(interval: str, tmp_path: Path) -> None:
    faults = ("--partition-every", "40", "--kill-every", "60", "--move-every", "30", "--stabilize-every", "50")
    script = generate("--operations", "200", "--delay", "10ms", "--loss", "20%", *faults)
    assert script.stdout.count("shapeConnection") == 10
    history = tmp_path / "history"
    result = run(script.stdout, "--gossip-interval", interval, "--history", str(history))
    assert (result.stderr, result.status) == ("", 0)
    assert_valid(history, script.stdout)


def test_the_seed_decides() -> None:
    first, again, other = (generate("--operations", "300", *FAULTS, "--seed", seed).stdout for seed in "112")
    assert first == again != other


def test_values_are_as_large_and_as_frequent_as_asked() -> None:
    script = generate("--operations", "4000", "--reads", "0", "--value-size", "16:70,100-200:20,1000:10").stdout
    sizes = [len(line.split(" ", 3)[3]) for line in script.splitlines() if line.startswith("put")]
    assert set(sizes) == {16, 1000, *range(100, 201)}
    assert 2700 < sizes.count(16) < 2900
    assert 350 < sizes.count(1000) < 450


def test_clients_are_spread_evenly_over_the_servers() -> None:
    script = generate("--operations", "0", "--servers", "3", "--clients", "12").stdout
    joined = [line.split()[2] for line in script.splitlines() if line.startswith("joinClient")]
    assert Counter(joined) == {"0": 4, "1": 4, "2": 4}


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
        ("--value-size", ""),
        ("--value-size", "16:"),
        ("--value-size", "16:0"),
        ("--value-size", "16:-1"),
        ("--value-size", "16:1.5"),
        ("--value-size", "16,"),
        ("--value-size", "16:90,x:9"),
        ("--value-size", "16 : 90"),
        ("--value-size", "67108865"),
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
    assert "of a value: N, or MIN-MAX, or a list" in " ".join(shown.split())
    assert "like 16:90,1000-4000:9,40000:1 (default: 16)" in " ".join(shown.split())


def test_what_the_documents_say_comes_of_it() -> None:
    page = (ROOT / "docs" / "history.md").read_text("utf-8")
    (options,) = re.findall(r"    scripts/generate\.py (.*) > script", page)
    assert f"valid: {len(generate(*options.split()).stdout.splitlines())} operations" in page
