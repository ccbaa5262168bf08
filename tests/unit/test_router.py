"""Graphs are compared with brute force, and link-state gossip runs until every server knows the links."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router import FEW_RECORDS, MOST_CHILDREN, Router, centre, components, reachable, spanning_tree

FAR = 10**6


@st.composite
def graphs(draw: st.DrawFn, size: int = 8) -> dict[int, set[int]]:
    """Any graph of a few servers with ids that are not in a row."""
    servers = draw(st.lists(st.integers(0, 99), min_size=1, max_size=size, unique=True))
    pairs = list(combinations(servers, 2))
    links = draw(st.sets(st.sampled_from(pairs))) if pairs else set()
    return graph_of(servers, links)


@st.composite
def trees(draw: st.DrawFn) -> dict[int, set[int]]:
    """Any tree."""
    servers = draw(st.permutations(range(draw(st.integers(1, 14)))))
    links = {(servers[child], servers[draw(st.integers(0, child - 1))]) for child in range(1, len(servers))}
    return graph_of(servers, links)


def graph_of(servers: Iterable[int], links: Iterable[tuple[int, int]]) -> dict[int, set[int]]:
    graph: dict[int, set[int]] = {server: set() for server in servers}
    for one, other in links:
        graph[one].add(other)
        graph[other].add(one)
    return graph


def distances(graph: dict[int, set[int]]) -> dict[tuple[int, int], int]:
    """The number of hops between all servers, by Floyd and Warshall; FAR if there is no path."""
    hops = {(a, b): 0 if a == b else 1 if b in graph[a] else FAR for a in graph for b in graph}
    for via in graph:
        for a in graph:
            for b in graph:
                hops[a, b] = min(hops[a, b], hops[a, via] + hops[via, b])
    return hops


def depths(graph: dict[int, set[int]]) -> dict[int, int]:
    """Server -> the depth of a breadth-first tree from it."""
    hops = distances(graph)
    return {a: max(hops[a, b] for b in graph if hops[a, b] < FAR) for a in graph}


# -- graphs ------------------------------------------------------------------------------------------------


@given(graphs())
def test_reachable_are_those_at_a_finite_distance(graph: dict[int, set[int]]) -> None:
    hops = distances(graph)
    for start in graph:
        assert reachable(graph, start) == {server for server in graph if hops[start, server] < FAR}


@given(graphs())
def test_components_are_the_sets_of_servers_that_can_reach_each_other(graph: dict[int, set[int]]) -> None:
    hops = distances(graph)
    found = components(graph)
    assert sorted(server for component in found for server in component) == sorted(graph)
    for component in found:
        assert all((hops[a, b] < FAR) == (b in component) for a in component for b in graph)
    assert [min(component) for component in found] == sorted(min(component) for component in found)


@given(graphs())
def test_a_spanning_tree_consists_of_links_and_of_shortest_paths(graph: dict[int, set[int]]) -> None:
    hops = distances(graph)
    for root in graph:
        tree = spanning_tree(graph, root)
        assert {root, *tree.parents} == reachable(graph, root)
        assert root not in tree.parents
        for child, parent in tree.parents.items():
            assert parent in graph[child]
            assert hops[root, parent] + 1 == hops[root, child]
        assert [server for level in tree.levels for server in level] == sorted(
            reachable(graph, root), key=lambda server: (hops[root, server], server)
        )
        assert all(hops[root, server] == depth for depth, level in enumerate(tree.levels) for server in level)


@given(graphs())
def test_of_several_possible_parents_the_lowest_is_chosen(graph: dict[int, set[int]]) -> None:
    root = max(graph)
    hops = distances(graph)
    for child, parent in spanning_tree(graph, root).parents.items():
        assert parent == min(other for other in graph[child] if hops[root, other] + 1 == hops[root, child])


@given(graphs(), st.randoms(use_true_random=False))
def test_equal_graphs_give_equal_trees_however_they_are_written(
    graph: dict[int, set[int]], shuffle: random.Random
) -> None:
    servers = list(graph)
    shuffle.shuffle(servers)
    again = {server: set(shuffle.sample(sorted(graph[server]), len(graph[server]))) for server in servers}
    for root in graph:
        assert spanning_tree(again, root) == spanning_tree(graph, root)


@given(graphs())
def test_children_are_the_inverse_of_parents(graph: dict[int, set[int]]) -> None:
    tree = spanning_tree(graph, min(graph))
    pairs = [(child, parent) for parent, children in tree.children().items() for child in children]
    assert sorted(pairs) == sorted(tree.parents.items())
    assert all(children == sorted(children) for children in tree.children().values())


@given(trees(), st.integers(0, 13))
def test_from_the_centre_of_a_tree_no_tree_is_shallower(graph: dict[int, set[int]], start: int) -> None:
    depth = depths(graph)
    assert depth[centre(graph, start % len(graph))] == min(depth.values())


@given(graphs())
def test_a_centre_is_in_the_component_and_never_a_worse_root_than_the_worst(graph: dict[int, set[int]]) -> None:
    depth = depths(graph)
    for start in graph:
        found = centre(graph, start)
        component = reachable(graph, start)
        assert found in component
        assert depth[found] <= max(depth[server] for server in component)
        assert centre(graph, start) == found


def test_the_centre_of_a_chain_is_its_middle() -> None:
    chain = graph_of(range(7), [(i, i + 1) for i in range(6)])
    assert [centre(chain, start) for start in range(7)] == [3] * 7
    assert len(spanning_tree(chain, 3).levels) == 4


def test_the_centre_of_a_star_is_its_hub() -> None:
    star = graph_of(range(9), [(4, leaf) for leaf in range(9) if leaf != 4])
    assert {centre(star, start) for start in star} == {4}


def test_a_server_alone_is_its_own_tree_component_and_centre() -> None:
    graph: dict[int, set[int]] = {7: set()}
    assert spanning_tree(graph, 7).levels == [[7]]
    assert spanning_tree(graph, 7).children() == {}
    assert components(graph) == [{7}]
    assert centre(graph, 7) == 7
    assert components({}) == []


def test_a_server_has_few_children_where_others_can_have_them() -> None:
    mesh = {server: set(range(1000)) - {server} for server in range(1000)}
    tree = spanning_tree(mesh, 500)
    assert {*tree.parents} == mesh.keys() - {500}
    assert all(parent in mesh[child] for child, parent in tree.parents.items())
    assert max(map(len, tree.children().values())) == MOST_CHILDREN
    assert list(map(len, tree.levels)) == [1, MOST_CHILDREN, 999 - MOST_CHILDREN]


def test_a_server_has_all_children_that_no_other_can_have() -> None:
    """Leaf 999 is linked to leaf 1 as well, and leaf 1 to a server behind it."""
    star = graph_of(range(1001), [(0, leaf) for leaf in range(1, 1000)] + [(1, 999), (1, 1000)])
    tree = spanning_tree(star, 0)
    assert {*tree.parents} == star.keys() - {0}
    assert tree.children() == {0: list(range(1, 999)), 1: [999, 1000]}
    assert tree.levels == [[0], list(range(1, 999)), [999, 1000]]


@given(graphs())
def test_a_tree_with_few_children_is_at_most_twice_as_deep(graph: dict[int, set[int]]) -> None:
    hops = distances(graph)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("router.MOST_CHILDREN", 2)
        for root in graph:
            tree = spanning_tree(graph, root)
            assert {root, *tree.parents} == reachable(graph, root)
            assert all(parent in graph[child] for child, parent in tree.parents.items())
            depth = {server: depth for depth, level in enumerate(tree.levels) for server in level}
            assert depth.keys() == {root, *tree.parents}
            assert all(depth[child] == depth[parent] + 1 for child, parent in tree.parents.items())
            assert all(depth[server] <= 2 * hops[root, server] for server in depth)


def test_a_ring_around_a_hub_does_not_become_a_chain() -> None:
    rim = [(leaf, leaf % 200 + 1) for leaf in range(1, 201)]
    wheel = graph_of(range(201), [(0, leaf) for leaf in range(1, 201)] + rim)
    assert len(spanning_tree(wheel, 0).levels) == 3


def test_a_tree_by_example() -> None:
    graph = graph_of(range(6), [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)])
    tree = spanning_tree(graph, 0)
    assert tree.parents == {1: 0, 2: 0, 3: 1, 4: 3}
    assert tree.levels == [[0], [1, 2], [3], [4]]
    assert tree.children() == {0: [1, 2], 1: [3], 3: [4]}


# -- link-state records ------------------------------------------------------------------------------------


def exchange(receiver: Router, sender: Router) -> bool:
    """An exchange of link records, as a pull carries it."""
    return receiver.merge(sender.newer_than(receiver.digest()))


def test_a_server_knows_its_own_links_at_once() -> None:
    router = Router(1, 1)
    router.link(2)
    router.link(3)
    router.unlink(2)
    assert router.neighbours == {3}


def test_a_link_that_only_one_end_has_recorded_does_not_count() -> None:
    one, other = Router(1, 1), Router(2, 1)
    one.link(2)
    exchange(one, other)
    assert one.graph() == {1: set(), 2: set()}
    assert one.reachable() == {1, 2}, "a server's own links are certain"
    third = Router(3, 1)
    exchange(third, one)
    third.link(1)
    assert third.reachable() == {1, 3}, "what one end says of a link is not enough for others"
    other.link(1)
    exchange(one, other)
    assert one.graph() == {1: {2}, 2: {1}}
    assert one.reachable() == {1, 2}


def test_what_changes_nothing_is_no_news() -> None:
    one, other = Router(1, 1), Router(2, 1)
    one.link(2)
    before = one.digest()
    one.link(2)
    one.unlink(9)
    assert one.digest() == before
    assert exchange(other, one)
    assert not exchange(other, one)
    assert one.newer_than(other.digest()) == []


def test_the_digest_shows_which_records_a_server_lacks() -> None:
    one, other = Router(1, 1), Router(2, 1)
    assert one.lacks(other.digest())
    exchange(one, other)
    assert not one.lacks(other.digest())
    other.link(1)
    assert one.lacks(other.digest())
    assert [server for server, _, _ in other.newer_than(one.digest())] == [2]


def test_an_older_record_does_not_replace_a_newer_one() -> None:
    one, other, late = Router(1, 1), Router(2, 1), Router(3, 1)
    other.link(3)
    stale = other.newer_than({})
    other.unlink(3)
    exchange(one, other)
    assert not one.merge(stale)
    late.merge(stale)
    assert not exchange(one, late) or one.graph()[2] == set()
    assert [record for record in one.newer_than({}) if record[0] == 2] == other.newer_than({})


def test_a_servers_own_record_is_never_replaced_by_others() -> None:
    router = Router(1, 1)
    router.link(2)
    assert not router.merge([[1, [99, 99], [7]]])
    assert router.neighbours == {2}


def test_a_record_of_a_new_incarnation_replaces_those_of_the_one_before() -> None:
    first, second, peer = Router(1, 10), Router(1, 11), Router(2, 1)
    for neighbour in (2, 3, 4):
        first.link(neighbour)
    exchange(peer, first)
    second.link(2)
    assert exchange(peer, second)
    assert not exchange(peer, first)
    exchange(second, peer)
    assert second.neighbours == {2}


def test_the_last_record_of_a_dead_server_connects_nobody() -> None:
    routers = {server: Router(server, 1) for server in (1, 2, 3)}
    for one, other in ((1, 2), (2, 3)):
        routers[one].link(other)
        routers[other].link(one)
    for receiver in (1, 3):
        exchange(routers[receiver], routers[2])
    exchange(routers[2], routers[3])
    exchange(routers[1], routers[2])
    assert routers[1].reachable() == {1, 2, 3}
    routers[1].unlink(2)  # 2 has been killed; its record still says that it is linked to 1 and 3
    routers[3].unlink(2)
    assert routers[1].reachable() == {1}
    assert routers[3].reachable() == {3}


def test_news_goes_along_a_tree_from_the_middle() -> None:
    routers = {server: Router(server, 1) for server in range(5)}
    for one, other in ((0, 1), (0, 2), (1, 2), (2, 3), (3, 4)):
        routers[one].link(other)
        routers[other].link(one)
    assert routers[0].tree_neighbours() == {1, 2}, "neither has confirmed its link yet"
    for _ in routers:
        for receiver, router in routers.items():
            for sender in routers[receiver].neighbours:
                exchange(router, routers[sender])
    trees = {server: set(router.tree_neighbours()) for server, router in routers.items()}
    assert trees == {0: {2}, 1: {2}, 2: {0, 1, 3}, 3: {2, 4}, 4: {3}}, "but for the link between 0 and 1"


def test_a_link_that_the_neighbour_has_not_confirmed_is_part_of_the_tree() -> None:
    one, other = Router(1, 1), Router(2, 1)
    one.link(2)
    assert one.tree_neighbours() == {2}
    exchange(one, other)
    assert one.tree_neighbours() == {2}, "it is not in its record of links"
    other.link(1)
    exchange(one, other)
    assert one.tree_neighbours() == {2}
    one.unlink(2)
    assert one.tree_neighbours() == set()


def test_equal_records_have_equal_fingerprints() -> None:
    one, other = Router(1, 1), Router(2, 1)
    assert one.fingerprint() != other.fingerprint()
    exchange(one, other)
    exchange(other, one)
    assert one.fingerprint() == other.fingerprint()
    one.link(2)
    assert one.fingerprint() != other.fingerprint()


def test_few_records_are_listed_at_once_and_many_are_not() -> None:
    one = Router(1, 1)
    one.merge([[server, [1, 0], []] for server in range(2, FEW_RECORDS + 1)])
    assert one.summary() == one.digest()
    one.merge([[FEW_RECORDS + 1, [1, 0], []]])
    assert one.summary() == one.fingerprint()


@pytest.mark.parametrize("seed", range(20))
def test_once_all_records_are_merged_everywhere_every_graph_is_correct(seed: int) -> None:
    chance = random.Random(seed)
    servers = list(range(chance.randint(2, 7)))
    routers = {server: Router(server, 1) for server in servers}
    truth: dict[int, set[int]] = {server: set() for server in servers}
    for _ in range(60):
        one, other = chance.sample(servers, 2)
        if chance.random() < 0.4:
            exchange(routers[one], routers[other])
        elif other in truth[one]:
            routers[one].unlink(other)
            routers[other].unlink(one)
            truth[one].remove(other)
            truth[other].remove(one)
        else:
            routers[one].link(other)
            routers[other].link(one)
            truth[one].add(other)
            truth[other].add(one)
    pairs = [(one, other) for one in servers for other in servers if one != other]
    chance.shuffle(pairs)
    for one, other in pairs:  # everybody's records to everybody, in some order
        exchange(routers[one], routers[other])
    for one, other in pairs:
        exchange(routers[one], routers[other])
        assert not routers[one].lacks(routers[other].digest())
    for server, router in routers.items():
        assert router.graph() == truth
        assert router.reachable() == reachable(truth, server)


class LinkStateMachine(RuleBasedStateMachine):
    """Links come and go, servers die and come back, records travel along links only."""

    SERVERS = range(5)

    def __init__(self) -> None:
        super().__init__()
        self.life = 1
        self.routers = {server: Router(server, 1) for server in self.SERVERS}
        self.truth: dict[int, set[int]] = {server: set() for server in self.SERVERS}

    @rule(one=st.sampled_from(SERVERS), other=st.sampled_from(SERVERS))
    def toggle(self, one: int, other: int) -> None:
        if one == other or one not in self.routers or other not in self.routers:
            return
        for near, far in ((one, other), (other, one)):
            if far in self.truth[near]:
                self.routers[near].unlink(far)
                self.truth[near].remove(far)
            else:
                self.routers[near].link(far)
                self.truth[near].add(far)

    @rule(server=st.sampled_from(SERVERS))
    def kill_or_revive(self, server: int) -> None:
        if server not in self.routers:
            self.life += 1
            self.routers[server] = Router(server, self.life)
            return
        del self.routers[server]
        for neighbour in self.truth[server]:
            self.routers[neighbour].unlink(server)
            self.truth[neighbour].remove(server)
        self.truth[server] = set()

    @rule(receiver=st.sampled_from(SERVERS), sender=st.sampled_from(SERVERS))
    def gossip(self, receiver: int, sender: int) -> None:
        if sender in self.truth[receiver]:
            exchange(self.routers[receiver], self.routers[sender])

    @rule()
    def gossip_until_silent(self) -> None:
        """Once each server has told those in its tree what it knows, each knows its component."""
        has_changed = True
        while has_changed:
            has_changed = False
            for router in self.routers.values():
                for neighbour in router.tree_neighbours():
                    has_changed = exchange(self.routers[neighbour], router) or has_changed
        for server, router in self.routers.items():
            known = router.graph()
            component = reachable(self.truth, server)
            assert {member: known[member] for member in component} == {
                member: self.truth[member] for member in component
            }
            assert router.reachable() == component

    @invariant()
    def own_links_are_always_right(self) -> None:
        for server, router in self.routers.items():
            assert router.neighbours == self.truth[server]
            assert router.graph()[server] <= self.truth[server]
            assert server in router.reachable()


TestLinkStateMachine = LinkStateMachine.TestCase
TestLinkStateMachine.settings = settings(max_examples=40, stateful_step_count=40)
