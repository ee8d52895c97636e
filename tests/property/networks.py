"""What has to hold of a simulated network: agreement with the oracle, no loop, no black hole, true address tables."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from tests.property import oracle
from tests.property.simulator import Host, Network


def faults_of(network: Network, *, check_origins: bool = False) -> Iterator[str]:
    """Find what is not yet, or no longer, as it should be: nothing once the network has converged.

    One after the other, as the oracle takes its time: while a network converges its first routers tell that it has not.
    """
    graph = network.true_graph()
    is_sound = True
    for name in graph:
        host = network.hosts[name]
        expected = oracle.routes_of(graph, name)
        actual = {route.router_id: (route.next_hop, route.cost) for route in host.routes.values()}
        wanted = {to: (next_hop, cost) for to, (next_hop, cost, _) in expected.items()}
        if actual != wanted:
            is_sound = False
            yield f"{name} routes {sorted(actual.items())} instead of {sorted(wanted.items())}"
        radius = max((hops for _, _, hops in expected.values()), default=0)
        if host.radius != radius:
            is_sound = False
            yield f"{name} radius {host.radius} instead of {radius}"
        yield from address_faults(network, host, wanted)
        if check_origins and is_sound:
            for to, origins in oracle.valid_origins_of(graph, name).items():
                known = set(host.plane._paths.valid_origins(to)) & set(
                    expected
                )  # link states of the lost live on a while
                if known != origins:
                    yield f"{name} valid origins of {to}"
    yield from broken_ways(network, graph)


def address_faults(network: Network, host: Host, reachable: dict[str, tuple[str, int]]) -> Iterator[str]:
    """Compare the bindings of a host with what the routers it can reach want."""
    for name, other in network.hosts.items():
        bound = {key: command.hint for key, command in host.bound.get(name, {}).items()}
        wanted = other.wanted if name in reachable else {}
        if bound != wanted:
            yield f"{host.id} has addresses {sorted(bound)} of {name} instead of {sorted(wanted)}"


def broken_ways(network: Network, graph: dict[str, dict[str, int]]) -> Iterator[str]:
    """Send a message from every router to every other, as a core would: next hops, valid origins, length of trace."""
    for start in graph:
        for end in network.hosts[start].routes:
            here, hops = start, 0
            while here != end:
                host = network.hosts[here]
                route = host.routes.get(end)
                if route is None or route.next_hop not in graph.get(here, {}):
                    break
                if here != start and not host.plane.is_valid_origin(end, start):
                    break
                here, hops = route.next_hop, hops + 1
                if not network.hosts[here].plane.is_plausible_trace(f"0/{start}", hops):
                    break
            else:
                continue
            yield f"message from {start} to {end} ends at {here} after {hops} hops"


def converge(network: Network, within_s: float, step_s: float = 0.25, **checks: bool) -> float:
    """Run until nothing is wrong; returns the virtual seconds it took.

    Raises:
        AssertionError: it took longer than `within_s`.
    """
    start = network.now
    while True:
        faults = list(islice(faults_of(network, **checks), 1 if network.now - start < within_s else 5))
        if not faults:
            return network.now - start
        assert network.now - start < within_s, f"after {within_s} s: " + "; ".join(faults)
        network.run_until(network.now + step_s)


def random_network(count: int, degree: int, seed: int, max_delay_s: float = 0.05) -> Network:
    """A connected random graph with mixed costs and delays, each router with an address of its own and a common one."""
    network = Network(seed)
    random = network.random
    names = [f"R{number:04}" for number in range(count)]
    pairs = {(random.randrange(number), number) for number in range(1, count)}
    while len(pairs) < min(count * degree // 2, count * (count - 1) // 2):
        first, second = sorted(random.sample(range(count), 2))
        pairs.add((first, second))
    for name in names:
        network.add_router(name)
        network.add_address(network.hosts[name], f"M{name}")
        network.add_address(network.hosts[name], "Mcommon", 1)
    for first, second in sorted(pairs):
        cost = random.choice([1, 1, 1, 2, 5])
        network.add_wire(names[first], names[second], cost=cost, delay_s=random.uniform(0.001, max_delay_s))
    return network
