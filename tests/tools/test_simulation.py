"""Thousands of simulated clusters with random schedules, and the small schedules that have shown a mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import router
from checking.driver import ROOT
from checking.scaling import TOPOLOGIES, measure_gossip, measure_stabilize, topology
from checking.seeds import SCHEDULES_PER_SEED, check_seed, check_seeds
from checking.simulator.schedule import WEIGHTS, Step, decode
from checking.simulator.simulation import Simulation, small_limits
from checking.simulator.truth import Violation
from checking.staleness import measure
from scripts.simulate import replay
from shape import Shape

SCHEDULES = sorted((ROOT / "tests" / "schedules").glob("*.txt"))


def test_random_schedules_break_no_promise(request: pytest.FixtureRequest) -> None:
    seeds = range(request.config.getoption("--schedules") // SCHEDULES_PER_SEED)
    failure = check_seeds(seeds, os.cpu_count() or 1)
    assert failure is None, failure


@pytest.mark.parametrize("path", SCHEDULES, ids=lambda path: path.stem)
def test_schedules_that_show_a_mistake_pass_without_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """(tests/tools/test_mutants.py checks that each of them shows the mistake that it is named after.)"""
    assert replay(path) == 0, capsys.readouterr().out


def test_a_schedule_always_does_the_same(tmp_path: Path) -> None:
    """Two runs of a schedule send the same messages, and end with the same stores."""
    schedule = decode(bytes((7 * n + n // 11) % 251 for n in range(600)))
    assert len({step.word for step in schedule}) > len(WEIGHTS) / 2
    ends = []
    for run in ("one", "other"):
        (tmp_path / run).mkdir()
        with small_limits():
            simulation = Simulation(tmp_path / run)
            for step in schedule:
                simulation.step(step)
            simulation.finish()
            simulation.close()
        ends.append({path.name: path.read_bytes() for path in sorted((tmp_path / run).rglob("log.*"))})
    assert ends[0] == ends[1]


def test_steps_are_read_as_they_are_written() -> None:
    for step in decode(bytes(range(1, 256)) + bytes(3)):
        assert Step.parse(str(step)) == step


@pytest.mark.parametrize("text", ["jump 1 2", "put 1", "put one 2", "put 1 2 3"])
def test_an_invalid_step_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "schedule").write_text(f"# nonsense\n\nput 1 2\n{text}\n")
    command = [sys.executable, str(ROOT / "scripts" / "simulate.py"), "--replay", str(tmp_path / "schedule")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {tmp_path}/schedule: line 4: ")
    assert ("a word and two whole numbers" in done.stderr) != (
        "no step is called 'jump'; there are join, " in done.stderr
    )


def test_a_schedule_that_cannot_be_read_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(tmp_path / "none") == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/none: No such file or directory\n"


def test_a_failure_is_shrunk_and_named_by_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgets(simulation: Simulation, client: int, key: int) -> None:
        if simulation.clients[101].session.seen(b"b"):
            raise Violation("this is a promise that nobody made")

    monkeypatch.setattr(Simulation, "_step_disconnect", forgets)
    failure = check_seed(3)
    assert failure is not None
    assert len(failure.schedule) == 2
    assert [step.word for step in failure.schedule][-1] == "disconnect"
    assert "nobody made" in str(failure)
    assert "--seed 3" in str(failure)


def test_a_hop_takes_an_interval_and_three_delays() -> None:
    assert measure("mesh", Shape(0.2), 0) == pytest.approx(1.6, abs=0.02)
    assert measure("chain", Shape(0.2), 0) == pytest.approx(4 * 1.6, abs=0.05)


def test_losses_make_gossip_late_and_not_incomplete() -> None:
    late = [measure("chain", Shape(0.05, 0.0, 0.4), seed) for seed in range(5)]
    assert late == [measure("chain", Shape(0.05, 0.0, 0.4), seed) for seed in range(5)]
    assert len({*late}) > 1
    assert min(late) >= measure("chain", Shape(0.05), 0)


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("servers", [1, 2, 9, 30])
def test_large_clusters_are_connected_and_come_to_rest(name: str, servers: int) -> None:
    graph = topology(name, servers)
    assert router.reachable(graph, 0) == set(range(servers))
    gossip = measure_gossip(graph, 5)
    stabilize = measure_stabilize(graph, 5)
    if servers == 1:
        assert (gossip.messages, stabilize.messages) == (0, 0)
    else:
        assert 2 * (servers - 1) <= gossip.messages
        assert stabilize.messages == 4 * (servers - 1)
    assert gossip.rounds <= servers
