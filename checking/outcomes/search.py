"""Which answers a script can have, and with which exchanges: the search.

May live here: which states are kept, what they must still agree with, and when two are the same. May not: what an
exchange does and which ways a version has (exchanges.py), and what a script asks for (plan.py).

Theory of operation
-------------------
There are far too many ways in which gossip can run to try them all. So an exchange is thought of only when an answer
needs it, also afterwards: a *state* is a set of exchanges so far, and what was seen so far (*limits*: "at this moment
server 1 held no more than put 3 of this key"). To let server A show put w at a moment, one way is added by which w can
have come to A until then, and all that was seen before must still be true.

**Nothing is lost by that.** Take any run R: the set of all exchanges that there were, whose answers are what they
are. For each answer that showed a put w at a server, some exchanges of R were the way of w to that server. Keep one
such way for each answer, and drop all other exchanges. Fewer exchanges make nobody know more; so no server holds more
than in R, and each still holds what it showed, since that had its way: hence all answers are the same. (An ERR_DEP
needs nothing but that servers hold no more than they did.) So it is enough to look at runs that are unions of one way
for each answer, and to build them answer by answer.

Of the ways themselves, not all are tried. The following changes to a way make nobody know more at any moment, whatever
other exchanges there are or will be, and leave w where it was needed; so the ways that they lead to are enough:

- *A way without detours.* A server that was passed twice held w all the time between.
- *The last exchange is taken as late as can be*: just before the answer, or before the link breaks.
- *Where a server on the way hands w on before one of its changes, it has taken it as late as can be*, but before that
  change. Before which of its changes is left open.
- *A server that holds w, or has just taken it, shows it as early as can be*: at once, or when the link is made.
- *Shortcuts*: where the next server but one could have been told directly, by an exchange between the same two
  moments, the server between is left out.

So with all servers linked to each other there is just one way for each version, and states are few, however many
writes there are.

Three more things keep the search small. Keys are independent where only one line is asked about: which answers a line
can have is found from its key and client alone, and only lines with several such answers, their keys and their writes
take part in the search for whole outputs (what every run answers rules nothing out). A stabilize that makes all
servers equal forgets all exchanges before it: nobody can tell them apart any more. And equal states are merged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from checking.outcomes.exchanges import Chain, Epoch, Knowledge, World, ranked
from checking.outcomes.plan import Get, Plan, Print, Put, Stabilize, Step
from checking.outcomes.ways import Ways

__all__ = ["BEHIND", "Budget", "Exhausted", "Search", "State", "live_puts"]

BEHIND = -1
"""The answer ERR_DEP, where others are the numbers of puts; 0 is ERR_KEY."""


class Exhausted(Exception):
    """The search has taken as many steps as it may."""


class Budget:
    """How many steps a search may take. Some 50,000 take a second."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Take some. Raises Exhausted."""
        self.left -= steps
        if self.left < 0:
            raise Exhausted


class Limit(NamedTuple):
    """At this time this server held no put of the key that is larger than *version*."""

    server: int
    time: int
    key: bytes
    version: int


class State(NamedTuple):
    """What has been decided of a run. *seen*: (client, key, version), the newest that a session has seen."""

    exchanges: Chain = ()
    limits: tuple[Limit, ...] = ()
    seen: tuple[tuple[int, bytes, int], ...] = ()
    past: tuple[Chain, ...] = ()
    """The exchanges of earlier epochs, where they are wanted."""

    @property
    def size(self) -> int:
        """How many exchanges there are in all."""
        return len(self.exchanges) + sum(map(len, self.past))

    def seen_by(self, client: int, key: bytes) -> int:
        """The newest version that a session has seen of a key; 0 for none."""
        return next((version for c, k, version in self.seen if (c, k) == (client, key)), 0)

    def sees(self, client: int, key: bytes, version: int) -> State:
        """With a session that has seen this version."""
        if version <= self.seen_by(client, key):
            return self
        others = (one for one in self.seen if one[:2] != (client, key))
        return self._replace(seen=tuple(sorted((*others, (client, key, version)))))


class Search:
    """The ways in which some lines of a script can be answered; lines are taken in order."""

    def __init__(
        self,
        world: World,
        budget: Budget,
        sessions: Collection[tuple[int, bytes]],
        *,
        keeps: bool = False,
        most: int | None = None,
    ) -> None:
        """*sessions*: (client, key), where it matters what was seen. *keeps*: states keep the exchanges of earlier
        epochs. *most*: states with more exchanges than that are dropped; for this `Ways` tries more ways.
        """
        self._world = world
        self.budget = budget
        self._sessions = set(sessions)
        self._keeps = keeps
        self._most = most

    # -- steps that ask nothing ----------------------------------------------------------------------------

    def passes(self, state: State, step: Step) -> State:
        """A step that prints nothing."""
        if isinstance(step, Put) and (step.client, step.key) in self._sessions:
            return state.sees(step.client, step.key, step.number)
        if isinstance(step, Stabilize):
            for epoch in self._world.epochs:
                if epoch.start == step.time:
                    return self._begin(state, epoch)
        return state

    def _begin(self, state: State, epoch: Epoch) -> State:
        """All servers are equal now, so nothing that a session has seen is newer than what they hold."""
        seen = []
        for client, key, version in state.seen:
            standing = self._world.version(epoch.base, key)
            seen.append((client, key, max(version, standing)))
        past = (*state.past, state.exchanges) if self._keeps else ()
        return State((), (), tuple(seen), past)

    # -- answers -------------------------------------------------------------------------------------------

    def gets(self, state: State, step: Get) -> Iterator[tuple[State, int]]:
        """Each way in which a get can be answered: the state then, and the version, or BEHIND."""
        seen = state.seen_by(step.client, step.key)
        waiting = [state]
        for ask in step.asks:
            behind: list[State] = []
            for before in waiting:
                for after, version in self._holds(before, ask.server, ask.time, step.key, seen):
                    if version == BEHIND:
                        behind.append(after)
                    else:
                        yield self.reads(after, step, version), version
            waiting = behind
        for after in waiting:
            yield after, BEHIND

    def reads(self, state: State, step: Get, version: int) -> State:
        """A get has found this version, or is BEHIND."""
        if version <= 0 or (step.client, step.key) not in self._sessions:
            return state
        return state.sees(step.client, step.key, version)

    def prints(self, state: State, step: Print, keys: Collection[bytes]) -> Iterator[tuple[State, tuple[int, ...]]]:
        """Each way in which a server can hold these keys: the state then, and the version of each key."""
        found: list[tuple[State, tuple[int, ...]]] = [(state, ())]
        for key in keys:
            found = [
                (after, (*versions, version))
                for before, versions in found
                for after, version in self._holds(before, step.server, step.time, key, 0)
            ]
        yield from found

    def _holds(self, state: State, server: int, time: int, key: bytes, least: int) -> Iterator[tuple[State, int]]:
        """Each version from *least* up that a server may hold of a key at a time; BEHIND where it holds less."""
        world, epoch = self._world, self._world.epoch_at(time)
        knowledge = self._knowledge(epoch, state.exchanges)
        now = world.version(knowledge.at(server, time), key)
        if now < least:
            yield self._limited(state, Limit(server, time, key, least - 1)), BEHIND
        else:
            yield self._limited(state, Limit(server, time, key, now)), now
        met: set[Chain] = set()
        most = None if self._most is None else self._most - state.size
        for chain in Ways(world, knowledge, key, most, self.budget.spend).to(server, time, max(now, least - 1)):
            exchanges = ranked((*state.exchanges, *chain))
            if exchanges in met:
                continue
            met.add(exchanges)
            knowledge_then = self._knowledge(epoch, exchanges)
            if self._agrees(knowledge_then, state):
                version = world.version(knowledge_then.at(server, time), key)
                after = state._replace(exchanges=exchanges)
                yield self._limited(after, Limit(server, time, key, version)), version

    def _knowledge(self, epoch: Epoch, exchanges: Chain) -> Knowledge:
        knowledge = Knowledge(epoch, exchanges)
        self.budget.spend(1 + knowledge.size // 8)
        return knowledge

    def _agrees(self, knowledge: Knowledge, state: State) -> bool:
        """Whether all that was seen is still true."""
        world = self._world
        return all(
            world.version(knowledge.at(server, time), key) <= version for server, time, key, version in state.limits
        )

    @staticmethod
    def _limited(state: State, limit: Limit) -> State:
        if limit in state.limits:
            return state
        return state._replace(limits=(*state.limits, limit))


def live_puts(plan: Plan, is_asked: Callable[[Step], Collection[bytes]]) -> list[Put]:
    """The puts of those keys that any of the steps asks for later; *is_asked*: the keys that a step asks for."""
    asked: set[bytes] = set()
    puts: list[Put] = []
    for step in reversed(plan.steps):
        if isinstance(step, Put):
            if step.key in asked:
                puts.append(step)
        else:
            asked.update(is_asked(step))
    return puts[::-1]
