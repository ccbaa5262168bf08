"""Foretelling what a script prints where nothing but stabilize moves updates.

May live here: carrying a script out without processes, and the orders in which concurrent puts may stand. May not:
gossip.

The oracle (checking/oracle.py), which knows the contract alone, checks answers that were given; without gossip it can
give them. It compares writes by their numbers, and numbers them in the order of the script: the last put stands. Where
any of several concurrent puts may stand, a put gets, one after the other, every number that is larger than those of the
writes that its author had seen, and everything is carried out once for each.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from checking.oracle import NOTHING, Oracle
from grading.cases import Answer

__all__ = ["outputs"]


def outputs(lines: Sequence[bytes], any_order: bool, most: int) -> tuple[list[tuple[Answer, ...]], list[int], bool]:
    """The whole outputs of a script, each once, the numbers of its lines that are errors, and whether that is all.

    *any_order*: whether any of several concurrent puts may stand. *most*: how many are looked for. The first output is
    the one in which the last put stands.
    """
    found: dict[tuple[Answer, ...], None] = {}
    errors: list[int] = []
    places: list[int] = []  # for each put, how many of the places that were possible were passed over
    for _ in range(most):
        teller = _Teller(places, any_order)
        errors = [number for number, line in enumerate(lines, 1) if teller.step(line)]
        found.setdefault(tuple(teller.given))
        places = teller.next_places()
        if not places:
            return list(found), errors, True
    return list(found), errors, False


class _Teller(Oracle):
    """The oracle, which gives the answers itself."""

    def __init__(self, places: Sequence[int], any_order: bool) -> None:
        super().__init__(gossip=False)
        self.given: list[Answer] = []
        self._values: dict[tuple[bytes, Any], bytes] = {}  # by key and number, which may be any fraction here
        self._any_order = any_order
        self._given_places = places
        self._places: list[int] = []
        self._possible: list[int] = []
        self._orders: dict[bytes, list[Any]] = {}  # by key, the numbers of its writes, rising
        self._known: dict[tuple[int, bytes], frozenset[Any]] = {}  # by client and key: what its session knows of
        self._behind: dict[tuple[bytes, Any], frozenset[Any]] = {}  # what the author of a write knew of

    def next_places(self) -> list[int]:
        """The choices of the next run; empty after the last one."""
        places = list(self._places)
        while places and places[-1] + 1 >= self._possible[len(places) - 1]:
            places.pop()
        if places:
            places[-1] += 1
        return places

    def put(self, line: bytes, words: list[bytes]) -> None:
        key = words[2] if len(words) > 2 else b""
        super().put(line, words)  # checks it
        number = self._number(key, int(words[1]))
        self._values[key, number] = self.values.pop()
        client = int(words[1])
        server = self.usable(client)[0]
        self.stores[server][key] = {number}
        self.seen[client, key] = number
        known = self._known.get((client, key), frozenset())
        self._behind[key, number] = known
        self._known[client, key] = known | {number}

    def _number(self, key: bytes, client: int) -> Any:
        """A number for a new write, larger than those that its author knows of."""
        order = self._orders.setdefault(key, [NOTHING])
        possible = 1
        if self._any_order:
            known = self._known.get((client, key), frozenset())
            possible = len(order) - (bisect_left(order, max(known)) if known else 0)
        turn = len(self._places)
        chosen = self._given_places[turn] if turn < len(self._given_places) else 0
        self._places.append(chosen)
        self._possible.append(possible)
        place = len(order) - chosen  # the largest number first: the last put stands
        above = order[place] if place < len(order) else order[-1] + 2
        number = Fraction(order[place - 1] + above, 2)
        order.insert(place, number)
        return number

    def get(self, client: int, key: bytes) -> None:
        seen = self.seen.get((client, key), NOTHING)
        for server in self.usable(client):
            (number,) = self.stores[server].get(key, {NOTHING})
            if number >= seen:
                break
        else:
            self.given.append((key + b":ERR_DEP",))
            return
        self.given.append((key + b":" + self._values.get((key, number), b"ERR_KEY"),))
        self.seen[client, key] = number
        if number != NOTHING:
            known = self._known.get((client, key), frozenset())
            self._known[client, key] = known | self._behind[key, number] | {number}

    def print_store(self, server: int) -> None:
        self.check_running(server)
        store = {key: number for key, (number,) in self.stores[server].items() if number != NOTHING}
        self.given.append(tuple(key + b":" + self._values[key, store[key]] for key in sorted(store)))
