"""Deliberate mistakes, each of which the tests must catch: a checker that catches nothing proves nothing.

Each mutant is one small change to one file, as somebody might make it. It is applied to a copy of the project, and
what should catch it is run there: the simulator, or a test. The simulator must name a promise that was broken; that
the code falls over is not enough. For each that the simulator catches, the smallest schedule that shows it stands in
tests/schedules/, as it was shrunk: a story of a few steps in which the mistake breaks a promise. It must still do so.
With --search, the simulator must also find the mistake again among a few thousand random schedules.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from checking.driver import ROOT

SIMULATOR = ("scripts/simulate.py", "--schedules", "4000", "--no-shrink")
SCHEDULES = ROOT / "tests" / "schedules"
PARTS = ("*.py", "__pycache__", "control", "rpc", "console", "checking", "scripts", "tests", "pyproject.toml")


def pytest_run(*arguments: str) -> tuple[str, ...]:
    """A run of some tests."""
    return ("-m", "pytest", "-x", *arguments)


def given_up(which: str, seeds: int) -> tuple[str, ...]:
    """A run of random scripts whose groups are given up."""
    return pytest_run("tests/processes/test_given_up.py", "-k", f"random_scripts and {which}", "--seeds", str(seeds))


PUZZLES = pytest_run("tests/tools/test_check.py", "-k", "puzzles")
RELAYS = pytest_run("tests/tools/test_check.py", "-k", "relay")
OUTCOMES = pytest_run("tests/tools/test_outcomes.py", "-k", "tiny_scripts_have", "--seeds", "24")


class Mutant(NamedTuple):
    """A mistake: *right* in *file* becomes *wrong*."""

    name: str
    file: str
    right: str
    wrong: str
    catcher: tuple[str, ...] = SIMULATOR
    differential: tuple[str, ...] = ()
    """A second catcher: random scripts that real processes run in several ways."""


MUTANTS = [
    Mutant(
        "versions are compared by the replica's own counter",
        "vector_clock.py",
        "return self.timestamp, self.dot",
        "return self.dot.counter, self.dot",
    ),
    Mutant(
        "a vector clock that is concurrent counts as before",
        "vector_clock.py",
        "below, above = self <= other, other <= self",
        "below, above = not other <= self, other <= self",
        pytest_run("tests/unit/test_vector_clock.py"),
    ),
    Mutant(
        "the write that came last stands",
        "model.py",
        "if standing is None or standing.version.order < write.version.order:",
        "if True:",
    ),
    Mutant(
        "the context is joined before the last part has come",
        "model.py",
        "return [pack_delta(chunk), [server, incarnation, counter]]",
        "return [pack_delta(chunk, self.context), [server, incarnation, counter]]",
    ),
    Mutant(
        "the context comes at the end of an answer in parts without another look from the start",
        "model.py",
        "whole = cursor is None",
        "whole = True",
    ),
    Mutant(
        "the cloud is left out of the comparison of contexts",
        "context.py",
        "self.covers(Dot(replica, counter)) for replica, counters in other.cloud",
        "True for replica, counters in other.cloud",
    ),
    Mutant(
        "a dot beyond a hole moves the version vector over the hole",
        "context.py",
        "self.cloud.setdefault(replica, set()).add(counter)",
        "self.vector[replica] = counter",
    ),
    Mutant(
        "a context is believed after damage",
        "peer.py",
        "self.model.apply(writes, None if damaged else context)",
        "self.model.apply(writes, context)",
    ),
    Mutant(
        "a revived server goes on under its old name, so that dots are used twice",
        "model.py",
        "        self.replica = replica\n        self.context = Context()",
        "        self.replica = Replica(replica.server, 0)\n        self.context = Context()",
    ),
    Mutant(
        "a put that the log has refused keeps its place",
        "peer.py",
        "            self._log.append(pack_delta(writes), self.model, group)\n            self.model.apply(writes)\n",
        "            self.model.apply(writes)\n            self._log.append(pack_delta(writes), self.model, group)\n",
    ),
    Mutant(
        "a put is acknowledged, and only the next one brings it into the log",
        "peer.py",
        "            self._log.append(pack_delta(writes), self.model, group)\n",
        "            if hasattr(self, 'late'):\n"
        "                self._log.append(self.late, self.model, group)\n"
        "            self.late = pack_delta(writes)\n",
    ),
    Mutant(
        "what a neighbour has sent is not logged",
        "peer.py",
        "            self._log.append(answer.pull[0], self.model)\n",
        "",
    ),
    Mutant(
        "an answer is taken in over a link that was broken meanwhile",
        "peer.py",
        "if answer is None or self._peer.links.get(self.neighbour) is not self.link:",
        "if answer is None:",
    ),
    Mutant(
        "anybody's request is answered",
        "peer.py",
        "        if neighbour not in self.links:\n            return None\n        digest = ",
        "        digest = ",
    ),
    Mutant(
        "the dependency is dropped when the session goes on to its next server",
        "session.py",
        "                unsatisfied = True",
        "                unsatisfied, operation = True, operation._replace(seen=None)",
    ),
    Mutant(
        "a put that goes on to the next server counts as refused by the first",
        "session.py",
        "                self.mark(server, False)\n                cut_short = cut_short or loss.cut_short",
        "                return UncertainPut(timestamp)",
    ),
    Mutant(
        "a session forgets what it has written",
        "session.py",
        "            self.add_seen(operation.key, Version(operation.timestamp, dot, clock.with_dot(dot)))\n",
        "",
    ),
    Mutant(
        "a session forgets what it has read",
        "session.py",
        "        self.add_seen(operation.key, Version(timestamp, Dot.from_flat(dot), VectorClock.from_flat(clock)))\n",
        "",
    ),
    Mutant(
        "a missing value is no older than what the session has seen",
        "model.py",
        "return Missing.KEY if dependency is None else Missing.DEPENDENCY",
        "return Missing.KEY",
    ),
    Mutant(
        "a session does not read its own write",
        "model.py",
        "standing.version.timestamp < dependency[0]",
        "standing.version.timestamp <= dependency[0]",
    ),
    Mutant(
        "within a group a get does not see the put before it",
        "model.py",
        "standing = fresh.get(key) or self._store.get(key)",
        "standing = self._store.get(key)",
    ),
    Mutant(
        "a group that was lost with its server comes back with it",
        "storage.py",
        "                os.truncate(newest, last[1])",
        "                pass",
    ),
    Mutant(
        "a torn record stays in front of the next",
        "storage.py",
        "log_size = scans[-1].end if scans else 0",
        "log_size = scans[-1].size if scans else 0",
    ),
    Mutant(
        "a record's checksum is not looked at",
        "records.py",
        "if zlib.crc32(payload) == payload_check:",
        "if payload:",
        pytest_run("tests/unit/test_records.py", "-k", "flipped"),
    ),
    Mutant(
        "the context in a snapshot speaks of writes that came while it was written",
        "compaction.py",
        "self._append(self._context)",
        "self._append(self._source.context_delta())",
        pytest_run("tests/unit/test_compaction.py", "-k", "compaction or snapshot"),
    ),
    Mutant(
        "the old log is deleted before the snapshot is complete",
        "compaction.py",
        "        self._switch_to(self._new_log(self.number + 1, self.log.size))",
        "        before = self.log.size\n        self.log.discard()\n"
        "        self._switch_to(self._new_log(self.number + 1, before))",
    ),
    Mutant(
        "a snapshot gets its name before it is on the disk itself",
        "compaction.py",
        "        if sync:\n            self.file.sync()\n        self.file.close()",
        "        self.file.close()",
        pytest_run("tests/unit/test_power.py", "-k", "compaction_loses"),
    ),
    Mutant(
        "an append waits until a snapshot is on the disk itself",
        "compaction.py",
        "self._executor = self._start_executor()",
        "self._executor = None",
        pytest_run("tests/unit/test_compaction.py", "-k", "no_append"),
    ),
    Mutant(
        "a put of a large value writes most of a snapshot",
        "compaction.py",
        "budget = min(snapshot.owed, SNAPSHOT_MOST_BYTES + 2 * appended)",
        "budget = snapshot.owed",
        pytest_run("tests/unit/test_compaction.py", "-k", "in_proportion_to_it"),
    ),
    Mutant(
        "a log that lost all that it had is taken for a new one",
        "storage.py",
        "if self._was_begun(generation, files):",
        "if False:",
        pytest_run("tests/unit/test_storage_damage.py", "-k", "lost_all or two_empty or very_first"),
    ),
    Mutant(
        "a log is trusted again after a sync of it has failed",
        "storage.py",
        "        if self._generations.log.failure is not None:\n            self.renew(source)\n",
        "        self._generations.log.failure = None\n",
        pytest_run("tests/unit/test_power.py", "-k", "where_syncs_fail"),
    ),
    Mutant(
        "a log of another server is taken for one's own",
        "records.py",
        "        elif self.lineage not in (None, lineage):",
        "        elif False:",
        pytest_run("tests/unit/test_storage_damage.py", "-k", "exchanged"),
    ),
    Mutant(
        "what is older than a snapshot is removed before that is on the disk itself",
        "compaction.py",
        "self._syncs_snapshots = syncs or kept",
        "self._syncs_snapshots = syncs",
        pytest_run("tests/unit/test_power.py", "-k", "compaction_loses"),
    ),
    Mutant(
        "links are taken note of though what came along was refused",
        "peer.py",
        "        news = self.model.is_news(answer.writes, answer.context)\n",
        "        self.router.merge(answer.records)\n        news = self.model.is_news(answer.writes, answer.context)\n",
        pytest_run("tests/unit/test_peer.py"),
    ),
    Mutant(
        "a server that was linked with many takes those for known that have their turn later",
        "peer.py",
        "return neighbour in self._strangers and self.router.has_confirmed(neighbour)",
        "return neighbour in self._strangers",
        pytest_run("tests/unit/test_peer.py"),
    ),
    Mutant(
        "an exchange of gossip that has failed is not tried again",
        "peer.py",
        "            self._failed.add(neighbour)\n",
        "",
    ),
    Mutant(
        "a neighbour is thought to know what it was told, news or not",
        "peer.py",
        "return context is not None and context.includes(self.model.context) and not",
        "return context is not None and not",
    ),
    Mutant(
        "a neighbour that lacks something does not ask for it",
        "peer.py",
        "                self._ahead.add(neighbour)\n",
        "                pass\n",
    ),
    Mutant(
        "a new master's clock starts at the time of day, however far that was set back",
        "control/clock.py",
        "self._last = bound",
        "self._last = 0",
    ),
    Mutant(
        "a link counts when one end has heard of it",
        "router.py",
        "server: {other for other in neighbours if server in recorded.get(other, ())}",
        "server: {other for other in neighbours if other in recorded}",
        pytest_run("tests/unit/test_router.py"),
    ),
    Mutant(
        "stabilize gathers, and forgets to scatter",
        "router.py",
        "        steps.append({server: [tree.parents[server]] for tree in trees for server in tree.level(level)})\n",
        "        pass\n",
    ),
    Mutant(
        "breakConnection forgets to tell the servers",
        "control/cluster.py",
        "            self._supervisor.ask_servers(unlinks)\n",
        "",
        pytest_run("tests/tools/test_scripts.py", "-k", "random"),
    ),
    Mutant(
        "a client keeps the connection that was broken",
        "control/cluster.py",
        '            self._supervisor.ask_client(client, "disconnect", server)\n',
        "",
        pytest_run("tests/processes/test_transcripts.py", "-k", "session or break"),
    ),
    Mutant(
        "what a group leaves undone is carried out with a new timestamp",
        "groups.py",
        "[Undone(timestamp) for timestamp in self._timestamps]",
        "[Undone(None) for timestamp in self._timestamps]",
        differential=given_up("both_ways", 3),
    ),
    Mutant(
        "exchanges are not held while a group is under way",
        "groups.py",
        "            self.held = self._holds\n",
        "",
        differential=given_up("gossip", 5),
    ),
    Mutant(
        "a part of a group is carried out again when it comes late",
        "groups.py",
        "return group if group.number == number and not group.closed else None",
        "return group if group.number == number else None",
        differential=given_up("both_ways", 10),
    ),
    Mutant(
        "a group's release is forgotten",
        "peer.py",
        "        self.groups.release()\n",
        "",
        differential=given_up("gossip", 1),
    ),
    Mutant(
        "a group that a lost client is asked for may still be completed",
        "groups.py",
        "        self._latest.give_up()\n",
        "",
    ),
    Mutant(
        "what a lost client was answered in a group is not asked for",
        "groups.py",
        "            self._ask_server_of(client, calls, answered, lost)\n",
        "",
    ),
    Mutant(
        "a client remembers what a group brought that was taken back",
        "groups.py",
        "                    calls.undo(client)\n",
        "                    pass\n",
    ),
    Mutant(
        "a group is not cut off the log of a server that was lost in it",
        "groups.py",
        "            calls.take_back(server, loss, self.number)\n",
        "",
    ),
    Mutant(
        "the log is written anew, with a group in it that is not settled",
        "peer.py",
        "        if self._ends_with_group:\n            return False\n",
        "",
    ),
    Mutant(
        "clients with several connections take part in groups",
        "groups.py",
        "and len(connections) == 1 and",
        "and connections and",
        pytest_run("tests/processes/test_pipeline.py", "-k", "mixed", "--seeds", "2"),
    ),
    Mutant(
        "only the last server that was lost makes a put uncertain",
        "session.py",
        "cut_short = cut_short or loss.cut_short",
        "cut_short = loss.cut_short",
        pytest_run("tests/unit/test_session.py", "-k", "cut_short"),
    ),
    Mutant(
        "what is left of a long torn record stays behind a short one",
        "records.py",
        "self._dirty_tail = os.fstat(self._fd).st_size > size",
        "self._dirty_tail = False",
        pytest_run("tests/unit/test_records.py", "-k", "long_torn"),
    ),
    Mutant(
        "what a group has answered is shown behind what comes later",
        "console/text_output.py",
        "self._pieces += pieces",
        "self._pieces = pieces + self._pieces",
        pytest_run("tests/processes/test_transcripts.py", "-k", "groups-print-in-script-order"),
    ),
    Mutant(
        "a server that was revived is taken for one that has all that it had shown",
        "control/witness.py",
        "seen.life == self._lives.get(seen.server, 0)",
        "True",
        pytest_run("tests/unit/test_witness.py"),
    ),
    Mutant(
        "a server that is silent is thought to have nothing",
        "control/witness.py",
        "if silent and not able:",
        "if False:",
        pytest_run("tests/unit/test_witness.py"),
    ),
    Mutant(
        "a server that has changed its process is the same as before",
        "console/status.py",
        "said[ident] = overview.servers[ident], overview.links[ident], *facts",
        "said[ident] = overview.links[ident], *facts",
        pytest_run("tests/unit/test_status.py", "-k", "changed"),
    ),
    Mutant(
        "a group's size is that of its commands alone",
        "control/script.py",
        "        return len(self.command.key) + len(self.command.value) if self.command else 0",
        "        return 0",
        pytest_run("tests/processes/test_pipeline.py", "-k", "large"),
    ),
    Mutant(
        "a group answers with any number of large values",
        "groups.py",
        "return model.answer_bytes(operations) <= self._answer_bytes",
        "return True",
        pytest_run("tests/processes/test_pipeline.py", "-k", "too_large"),
    ),
    Mutant(
        "a server that has no descriptor left takes no connection any more",
        "rpc/listener.py",
        "_NO_ROOM = (errno.ECONNABORTED, errno.EMFILE, errno.ENFILE,",
        "_NO_ROOM = (errno.ECONNABORTED,",
        pytest_run("tests/processes/test_failures.py", "-k", "without_descriptors_makes"),
    ),
    Mutant(
        "a client keeps the socket of a connection that was broken",
        "client.py",
        "        self._lost.pop(server, None)\n        self._hang_up(server)\n\n    def exposed_server_up",
        "        self._lost.pop(server, None)\n\n    def exposed_server_up",
        pytest_run("tests/processes/test_processes.py", "-k", "broken_connection"),
    ),
    Mutant(
        "what a client is told and doesn't answer for is left unread",
        "control/supervisor.py",
        "client.remote.tell(name, *args)",
        "client.remote.send(name, *args)",
        pytest_run("tests/processes/test_failures.py", "-k", "asked_nothing"),
    ),
    Mutant(
        "a link that breaks is no news",
        "peer.py",
        "        if self.links.pop(neighbour, None) is not None:\n            self._note_news(now)\n",
        "        self.links.pop(neighbour, None)\n",
        pytest_run("tests/unit/test_peer.py", "-k", "goes_another_way"),
    ),
    Mutant(
        "a failed exchange with a neighbour beside the tree is forgotten",
        "peer.py",
        "failed, self._failed = self._failed, set()",
        "failed, self._failed = self._failed & found, set()",
        pytest_run("tests/unit/test_peer.py", "-k", "beside_the_tree_that_fails"),
    ),
    Mutant(
        "a link that is not confirmed yet is not in the tree",
        "router.py",
        "frozenset(on_tree | (self.neighbours - graph[self.server]))",
        "frozenset(on_tree)",
        pytest_run("tests/unit/test_router.py", "-k", "StateMachine or confirmed"),
    ),
    Mutant(
        "the tree is that of the links that were known first",
        "router.py",
        "                self._tree = self._fingerprint = None\n                news = True\n",
        "                self._fingerprint = None\n                news = True\n",
        pytest_run("tests/unit/test_router.py", "-k", "StateMachine or tree"),
    ),
    Mutant(
        "the list of link records is never asked for",
        "peer.py",
        "self._must_list = answer.records is None and not self._must_list",
        "self._must_list = False",
        pytest_run("tests/unit/test_peer.py", "-k", "many_records"),
    ),
    Mutant(
        "the checker lets a version pass over a server that has a larger one",
        "checking/spread.py",
        "passed = links.first_late(time, ends[server], begins[other])",
        "passed = links.first_late(time, FOREVER, begins[other])",
        PUZZLES,
    ),
    Mutant(
        "the checker forgets what servers held before a stabilize",
        "checking/spread.py",
        "self.ups = self._carry_ups(ups) if self.stabilizes else ups",
        "self.ups = ups",
        RELAYS,
    ),
    Mutant(
        "the checker forgets what stabilize has brought",
        "checking/spread.py",
        "self.lows = self._carry_lows(lows) if self.stabilizes else lows",
        "self.lows = lows",
        PUZZLES,
    ),
    Mutant(
        "the checker chooses paths without regard to each other",
        "checking/explain.py",
        "            case.add_up(ups, parent, time, arrivals.version)\n",
        "",
        RELAYS,
    ),
    Mutant(
        "the checker forgets all that was known when all servers held the same",
        "checking/spread.py",
        "return self.base if timeline.births[server] < self.base_time else 0",
        "return 0",
        PUZZLES,
    ),
    Mutant(
        "the checker takes any session's ERR_DEP for due",
        "checking/checker.py",
        "dependency = seen[-1].version if seen else 0",
        "dependency = key.log.newest",
        pytest_run("tests/tools/test_check.py", "-k", "longer"),
    ),
    Mutant(
        "the checker has a get ask all servers at one moment",
        "checking/checker.py",
        "                time += 2  # one after another",
        "                time += 0  # one after another",
        pytest_run("tests/tools/test_check.py", "-k", "asks_one_server_after_another"),
    ),
    Mutant(
        "the checker forgets at once what a client was that has died",
        "checking/members.py",
        "return ghost if died_at > began else None",
        "return None",
        pytest_run("tests/tools/test_check.py", "-k", "client_may_have_answered"),
    ),
    Mutant(
        "the checker believes any reason why a command failed",
        "checking/members.py",
        "self._speaks_against(excuse, int(found[1])) if found else None",
        "None",
        pytest_run("tests/tools/test_check.py", "-k", "fails_only_for_a_reason"),
    ),
    Mutant(
        "the invocation comes into the history when the command is done",
        "control/history.py",
        "            self.under_way += 1\n        self.flush()\n",
        "            self.under_way += 1\n",
        pytest_run("tests/unit/test_history.py", "-k", "an_invocation_is_there"),
    ),
    Mutant(
        "a get's timestamp in the history is that of the get",
        "messages.py",
        "return Value(value, server, timestamp)",
        "return Value(value, server, issued)",
        pytest_run("tests/tools/test_check.py", "-k", "random_scripts", "--seeds", "1"),
    ),
    Mutant(
        "outcomes: only neighbours exchange, and hops are forgotten",
        "checking/outcomes/ways.py",
        "                yield from self._before(end.after(exchange, life), max(above, version))",
        "                pass",
        OUTCOMES,
    ),
    Mutant(
        "outcomes: gossip goes on over a broken link",
        "checking/outcomes/ways.py",
        "taken = min(end.until, life.end - 1)",
        "taken = end.until",
        OUTCOMES,
    ),
    Mutant(
        "outcomes: a get does not go on to the next server",
        "checking/outcomes/search.py",
        "            waiting = behind\n",
        "            waiting = behind\n            break\n",
        pytest_run("tests/tools/test_outcomes.py", "-k", "goes_on_to_the_next"),
    ),
    Mutant(
        "outcomes: what was seen before is not looked at again",
        "checking/outcomes/search.py",
        "if self._agrees(knowledge_then, state):",
        "if True:",
        OUTCOMES,
    ),
    Mutant(
        "outcomes: what is handed on is shown late",
        "checking/outcomes/ways.py",
        "            rest = (rest[0]._replace(shown=max(exchange.taken, self.link_start + 1)), *rest[1:])\n",
        "            pass\n",
        pytest_run("tests/tools/test_outcomes.py", "-k", "shown_at_once"),
    ),
    Mutant(
        "outcomes: a shortcut counts though its link is broken by then",
        "checking/outcomes/plan.py",
        "return self.start < first and last < self.end",
        "return self.start < first",
        OUTCOMES,
    ),
    Mutant(
        "outcomes: any stabilize makes all servers equal",
        "checking/outcomes/exchanges.py",
        "if len(step.components) == 1 and",
        "if True or",
        OUTCOMES,
    ),
    Mutant(
        "outcomes: a death matters to puts and gets alone",
        "checking/outcomes/plan.py",
        "        for server in self._members.servers:\n            self._matters(server)\n",
        "",
        pytest_run("tests/tools/test_outcomes.py", "-k", "just_before_stabilize"),
    ),
    Mutant(
        "a message overtakes one that was sent before",
        "shape.py",
        "self._last = max(self._last, now + delay)",
        "self._last = now + delay",
        pytest_run("tests/unit/test_shape.py"),
    ),
    Mutant(
        "a message can be lost for ever",
        "shape.py",
        "if lost and losses < MOST_LOSSES:",
        "if lost:",
        pytest_run("tests/unit/test_shape.py"),
    ),
    Mutant(
        "a call and its answer have the same fate",
        "shape.py",
        'f"{seed}: {called} answers {caller}"',
        'f"{seed}: {caller} calls {called}"',
        pytest_run("tests/unit/test_shape.py"),
    ),
    Mutant(
        "messages wait behind one of a link that was broken",
        "peer.py",
        "            lanes.clear()\n",
        "            pass\n",
        pytest_run("tests/unit/test_peer.py"),
    ),
    Mutant(
        "news that comes while an exchange is under way is kept from the neighbour",
        "peer.py",
        "            self._partners.append(exchange.neighbour)\n",
        "",
        pytest_run("tests/unit/test_peer.py"),
    ),
    Mutant(
        "a second exchange begins while one with the same neighbour is under way",
        "peer.py",
        "            if neighbour in self.under_way:\n",
        "            if False:\n",
        pytest_run("tests/unit/test_peer.py"),
    ),
    Mutant(
        "what was under way when the shape of its link changed arrives",
        "peer.py",
        "            self.links[neighbour] = Link(link.address, lanes)\n",
        "            pass\n",
        pytest_run("tests/unit/test_peer.py"),
    ),
    Mutant(
        "an answer over a slow link arrives at once",
        "rpc/crossing.py",
        '    yield from _cross(lanes.answers, draw, patient, ["answer", name, called, pending.stamp])\n',
        "",
        pytest_run("tests/processes/test_links.py", "-k", "equal_seeds"),
    ),
    Mutant(
        "a message of a put that was lost is not sent again",
        "rpc/crossing.py",
        "        if not patient:\n",
        "        if True:\n",
        pytest_run("tests/processes/test_links.py", "-k", "equal_seeds"),
    ),
]


def copy(folder: Path) -> None:
    """A copy of the project, without its documents and tools; but with what Python has compiled, and when."""
    for pattern in PARTS:
        for path in ROOT.glob(pattern):
            if path.is_dir():
                shutil.copytree(path, folder / path.name, copy_function=link)
            else:
                link(str(path), str(folder / path.name))


def link(path: str, to: str) -> None:
    """Have a file in a second place. Whoever writes it anew there must remove it first."""
    try:
        os.link(path, to)
    except OSError:  # another file system
        shutil.copy2(path, to)


def run(folder: Path, catcher: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DAADKVS_PATIENCE": "15"}  # with a mistake, what is awaited may never come
    command = [sys.executable, *catcher]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_deliberate_mistake_is_caught(mutant: Mutant, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    make(mutant, tmp_path)
    if mutant.catcher is not SIMULATOR or request.config.getoption("--search"):
        assert_catches(tmp_path, mutant.catcher)
    if mutant.catcher is SIMULATOR:
        done = run(tmp_path, ("scripts/simulate.py", "--replay", str(schedule_of(mutant))))
        assert done.returncode == 1, done.stdout + done.stderr
        assert re.search("^Violation: ", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize(
    "mutant", [mutant for mutant in MUTANTS if mutant.differential], ids=lambda mutant: mutant.name.replace(" ", "-")
)
def test_a_mistake_about_groups_is_caught_by_random_scripts_as_well(mutant: Mutant, tmp_path: Path) -> None:
    make(mutant, tmp_path)
    assert_catches(tmp_path, mutant.differential)


def make(mutant: Mutant, folder: Path) -> None:
    """A copy of the project, with the mistake."""
    copy(folder)
    file = folder / mutant.file
    text = file.read_text()
    assert text.count(mutant.right) == 1, f"{mutant.file} has {text.count(mutant.right)} times {mutant.right!r}"
    file.unlink()
    file.write_text(text.replace(mutant.right, mutant.wrong))


def assert_catches(folder: Path, catcher: tuple[str, ...]) -> None:
    done = run(folder, catcher)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search("^(seed .*: Violation: |FAILED tests/)", done.stdout, re.MULTILINE), done.stdout


def schedule_of(mutant: Mutant) -> Path:
    """The smallest schedule that shows a mistake."""
    return SCHEDULES / (re.sub("[^a-z0-9]+", "-", mutant.name) + ".txt")


def test_each_schedule_is_that_of_a_mistake() -> None:
    assert sorted(SCHEDULES.iterdir()) == sorted(schedule_of(m) for m in MUTANTS if m.catcher is SIMULATOR)


def test_a_copy_without_a_mistake_passes(tmp_path: Path) -> None:
    """(All of the catchers pass in the project itself: they are part of its tests.)"""
    copy(tmp_path)
    for catcher in (("scripts/simulate.py", "--schedules", "100"), pytest_run("tests/unit/test_router.py")):
        done = run(tmp_path, catcher)
        assert done.returncode == 0, done.stdout + done.stderr
