"""A naive account of router protocol section 6 to hold the real one against: no heap, no numbering, no laziness."""

from __future__ import annotations

from collections.abc import Mapping

Graph = Mapping[str, Mapping[str, int]]


def complete(graph: Graph) -> dict[str, dict[str, int]]:
    """Give routers that are named without being known their provisional link state."""
    whole = {router: dict(peers) for router, peers in graph.items()}
    for router, peers in graph.items():
        for peer in peers:
            if peer not in whole:
                whole[peer] = {router: 1}
    return whole


def costs_from(graph: Graph, root: str) -> dict[str, int]:
    """Bellman and Ford: relax every edge until nothing changes."""
    costs = {root: 0}
    changed = True
    while changed:
        changed = False
        for router, peers in graph.items():
            if router in costs:
                for peer, cost in peers.items():
                    if costs[router] + cost < costs.get(peer, 2**62):
                        costs[peer] = costs[router] + cost
                        changed = True
    return costs


def predecessor(graph: Graph, here: str, costs: dict[str, int], before: Mapping[str, list[str]]) -> str:
    """Of the routers that are last but one on a cheapest path, the least in (cost, id)."""
    return min(
        (costs[router], router) for router in before[here] if costs[router] + graph[router][here] == costs[here]
    )[1]


def paths_from(graph: Graph, root: str) -> dict[str, list[str]]:
    """The path to each reachable router, the root apart, both ends included: walked back from the end."""
    whole = complete(graph)
    costs = costs_from(whole, root)
    before: dict[str, list[str]] = {router: [] for router in whole}
    for router in costs:
        for peer in whole[router]:
            before[peer].append(router)
    last_but_one = {router: predecessor(whole, router, costs, before) for router in costs if router != root}
    paths = {}
    for router in last_but_one:
        path = [router]
        while path[-1] != root:
            path.append(last_but_one[path[-1]])
        paths[router] = path[::-1]
    return paths


def routes_of(graph: Graph, me: str) -> dict[str, tuple[str, int, int]]:
    """Next hop, cost and hops to each reachable router."""
    costs = costs_from(complete(graph), me)
    return {to: (path[1], costs[to], len(path) - 1) for to, path in paths_from(graph, me).items()}


def valid_origins_of(graph: Graph, me: str) -> dict[str, set[str]]:
    """For each reachable router the origins on whose path to it this router lies strictly between."""
    paths = {origin: paths_from(graph, origin) for origin in complete(graph)}
    return {
        to: {origin for origin, ways in paths.items() if origin != me and me in ways.get(to, [])[1:-1]}
        for to in paths[me]
    }
