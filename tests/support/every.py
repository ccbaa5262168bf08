"""All outputs of a tiny script, by trying everything: to be compared with checking/outcomes/.

Written from docs/semantics.md alone, and without any reduction. A state is what each server holds, what each has held
since each of its links was made (an answer may come late), what each session has seen, and what was printed. Between
any two commands, and while a get asks one server after another, any server may take in any of what a neighbour has
held. All states that can be reached are kept. That takes exponential time, so it is only for a handful of servers and
lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

__all__ = ["TooMany", "every_output", "tiny_script"]

MOST_STATES = 15_000

Store = tuple[int, ...]
"""The number of the put that stands under each key; 0 for none."""


class State(NamedTuple):
    stores: tuple[tuple[int, Store], ...]
    shown: frozenset[tuple[int, int, Store]]
    """(source, target, what the source has held since their link was made)."""
    seen: tuple[tuple[int, int, int], ...]
    printed: bytes


class TooMany(Exception):
    """The script has more states than can be tried."""


def every_output(script: str, deaths: int = 0) -> set[bytes]:
    """What the script can print. Lines must be well-formed; commands may be errors. Raises TooMany."""
    lines = [line.split(maxsplit=3) for line in script.splitlines()]
    return set(_outputs(lines, deaths))


def _outputs(lines: list[list[str]], deaths: int) -> Iterator[bytes]:
    yield from _Every(lines).run()
    if deaths:
        servers = {line[1] for line in lines if line[0] == "joinServer"}
        for place in range(len(lines)):
            for server in servers:
                died = ["died", server]
                if lines[place][0] != "died":
                    yield from _outputs([*lines[:place], died, *lines[place:]], deaths - 1)


class _Every:
    def __init__(self, lines: list[list[str]]) -> None:
        self._lines = lines
        self._keys = sorted({line[2] for line in lines if line[0] in ("put", "get")})
        self._values = [b"ERR_KEY"]
        self._running: list[int] = []
        self._links: set[tuple[int, int]] = set()  # both ways
        self._clients: dict[int, list[int]] = {}
        self._ever: set[int] = set()
        self._states = {State((), frozenset(), (), b"")}

    def run(self) -> set[bytes]:
        for word, *words in self._lines:
            self._exchange()
            ids = [int(text) for text in words[: 1 if word in ("put", "get") else 2]]
            getattr(self, f"_{word}")(*ids, *words[len(ids) :])
        return {state.printed for state in self._states}

    # -- exchanges -----------------------------------------------------------------------------------------

    def _exchange(self) -> None:
        border = list(self._states)
        while border:
            state = border.pop()
            stores = dict(state.stores)
            for _, target, held in state.shown:
                taken = tuple(map(max, stores[target], held))
                if taken != stores[target]:
                    after = self._holds(state, target, taken)
                    if after not in self._states:
                        self._states.add(after)
                        border.append(after)
            if len(self._states) > MOST_STATES:
                raise TooMany

    def _holds(self, state: State, server: int, store: Store) -> State:
        """With a server that holds this from now on, and may show it to its neighbours."""
        stores = {**dict(state.stores), server: store}
        shown = {(server, target, store) for source, target in self._links if source == server}
        return state._replace(stores=tuple(sorted(stores.items())), shown=state.shown | shown)

    def _only_over_links(self) -> None:
        self._states = {
            state._replace(shown=frozenset(one for one in state.shown if one[:2] in self._links))
            for state in self._states
        }

    # -- servers and links ---------------------------------------------------------------------------------

    def _joinServer(self, server: int) -> None:
        if server in self._running or server in self._clients:
            return
        self._running.append(server)
        if server not in self._ever:
            self._ever.add(server)
            nothing = (0,) * len(self._keys)
            self._states = {self._holds(state, server, nothing) for state in self._states}
        for other in self._running[:-1]:
            self._link(server, other)

    def _link(self, one: int, other: int) -> None:
        if (one, other) in self._links:
            return
        self._links |= {(one, other), (other, one)}
        after = set()
        for state in self._states:
            stores = dict(state.stores)
            shown = {(one, other, stores[one]), (other, one, stores[other])}
            after.add(state._replace(shown=state.shown | shown))
        self._states = after

    def _killServer(self, server: int) -> None:
        if server in self._running:
            self._running.remove(server)
            self._links = {link for link in self._links if server not in link}
            self._only_over_links()

    _died = _killServer

    def _breakConnection(self, one: int, other: int) -> None:
        self._links -= {(one, other), (other, one)}
        self._only_over_links()
        for client, server in ((one, other), (other, one)):
            if server in self._clients.get(client, ()):
                self._clients[client].remove(server)

    def _createConnection(self, one: int, other: int) -> None:
        if one in self._clients or other in self._clients:
            client, server = (one, other) if one in self._clients else (other, one)
            if server in self._running:
                self._connect(client, server)
        elif one in self._running and other in self._running and one != other:
            self._link(one, other)

    def _joinClient(self, client: int, server: int) -> None:
        if server in self._running and client not in self._ever:
            self._clients.setdefault(client, [])
            self._connect(client, server)

    def _connect(self, client: int, server: int) -> None:
        if server not in self._clients[client]:
            self._clients[client].append(server)

    def _stabilize(self) -> None:
        after = set()
        for state in self._states:
            stores = dict(state.stores)
            for server in self._running:
                reached = {server}
                while more := {b for a, b in self._links if a in reached} - reached:
                    reached |= more
                all_of_them = tuple(max(versions) for versions in zip(*(stores[one] for one in reached), strict=True))
                for one in reached:
                    stores[one] = all_of_them
            for server, store in stores.items():
                state = self._holds(state, server, store)
            after.add(state)
        self._states = after

    # -- puts and answers ----------------------------------------------------------------------------------

    def _usable(self, client: int) -> list[int]:
        return [server for server in self._clients.get(client, ()) if server in self._running]

    def _put(self, client: int, key: str, value: str) -> None:
        servers = self._usable(client)
        if not servers:
            return
        self._values.append(value.encode())
        place, version = self._keys.index(key), len(self._values) - 1
        after = set()
        for state in self._states:
            store = dict(state.stores)[servers[0]]
            taken = (*store[:place], version, *store[place + 1 :])
            after.add(self._sees(self._holds(state, servers[0], taken), client, place, version))
        self._states = after

    @staticmethod
    def _sees(state: State, client: int, place: int, version: int) -> State:
        others = {one for one in state.seen if one[:2] != (client, place)}
        return state._replace(seen=tuple(sorted({*others, (client, place, version)})))

    def _get(self, client: int, key: str) -> None:
        place, servers = self._keys.index(key), self._usable(client)
        if not servers:
            return
        answered: set[State] = set()
        for server in servers:
            self._exchange()
            behind = set()
            for state in self._states:
                version = dict(state.stores)[server][place]
                seen = next((v for c, p, v in state.seen if (c, p) == (client, place)), 0)
                if version < seen:
                    behind.add(state)
                else:
                    line = key.encode() + b":" + self._values[version] + b"\n"
                    after = state._replace(printed=state.printed + line)
                    answered.add(self._sees(after, client, place, version) if version else after)
            self._states = behind
        self._states = answered | {
            state._replace(printed=state.printed + key.encode() + b":ERR_DEP\n") for state in self._states
        }

    def _printStore(self, server: int) -> None:
        if server not in self._running:
            return
        after = set()
        for state in self._states:
            store = dict(state.stores)[server]
            lines = [
                key.encode() + b":" + self._values[version] + b"\n"
                for key, version in zip(self._keys, store, strict=True)
                if version
            ]
            after.add(state._replace(printed=state.printed + b"".join(lines)))
        self._states = after


# -- scripts ---------------------------------------------------------------------------------------------------


def tiny_script(random: Random) -> str:
    """A few commands for two to four servers that are linked somehow, and as many clients, one at each at first."""
    servers = random.choice((2, 2, 3, 3, 3, 4))
    lines = [f"joinServer {server}" for server in range(servers)]
    links = [(one, other) for other in range(servers) for one in range(other)]
    for one, other in random.sample(links, random.choice((0, 0, 1, 1, 2, 3)) if servers > 2 else 0):
        lines.append(f"breakConnection {one} {other}")
    lines += [f"joinClient {10 + server} {server}" for server in range(servers)]
    left = {"put": 4, "get": 5 if servers < 4 else 3, "printStore": 1}
    keys = "ab"[: random.choice((1, 2, 2))]
    for number in range(random.randint(4, 11)):
        kinds = ("put", "get", "printStore", "stabilize", "cut", "mend", "kill", "join", "connect", "disconnect")
        (kind,) = random.choices(kinds, (22 - 3 * number, 8 + 2 * number, 3, 1, 3, 2, 1, 2, 3, 1))
        if left.get(kind, 1) == 0:
            continue
        if kind in left:
            left[kind] -= 1
        client, server = 10 + random.randrange(servers), random.randrange(servers)
        pair = "{} {}".format(*random.sample(range(servers), 2))
        lines.append(
            {
                "put": f"put {client} {random.choice(keys)} {number if random.random() < 0.9 else 'same'}",
                "get": f"get {client} {random.choice(keys)}",
                "printStore": f"printStore {server}",
                "stabilize": "stabilize",
                "cut": f"breakConnection {pair}",
                "mend": f"createConnection {pair}",
                "kill": f"killServer {server}",
                "join": f"joinServer {server}",
                "connect": f"createConnection {client} {server}",
                "disconnect": f"breakConnection {client} {server}",
            }[kind]
        )
    return "\n".join(lines) + "\n"
