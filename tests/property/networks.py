"""What has to hold of a simulated network: agreement with the oracle, no loop, no black hole, true address tables."""

from __future__ import annotations

from tests.property import oracle
from tests.property.simulator import Host, Network


def faults_of(network: Network, *, check_origins: bool = False) -> list[str]:
    """Return what is not yet, or no longer, as it should be; an empty list once the network has converged."""
    graph = network.true_graph()
    faults: list[str] = []
    for name in graph:
        host = network.hosts[name]
        expected = oracle.routes_of(graph, name)
        actual = {route.router_id: (route.next_hop, route.cost) for route in host.routes.values()}
        wanted = {to: (next_hop, cost) for to, (next_hop, cost, _) in expected.items()}
        if actual != wanted:
            faults.append(f"{name} routes {sorted(actual.items())} instead of {sorted(wanted.items())}")
        radius = max((hops for _, _, hops in expected.values()), default=0)
        if host.radius != radius:
            faults.append(f"{name} radius {host.radius} instead of {radius}")
        faults += address_faults(network, host, wanted)
        if check_origins and not faults:
            for to, origins in oracle.valid_origins_of(graph, name).items():
                if set(host.plane._paths.valid_origins(to)) != origins:
                    faults.append(f"{name} valid origins of {to}")
    return faults + broken_ways(network, graph)


def address_faults(network: Network, host: Host, reachable: dict[str, tuple[str, int]]) -> list[str]:
    """Compare the bindings of a host with what the routers it can reach want."""
    faults = []
    for name, other in network.hosts.items():
        bound = {key: command.hint for key, command in host.bound.get(name, {}).items()}
        wanted = other.wanted if name in reachable else {}
        if bound != wanted:
            faults.append(f"{host.id} has addresses {sorted(bound)} of {name} instead of {sorted(wanted)}")
    return faults


def broken_ways(network: Network, graph: dict[str, dict[str, int]]) -> list[str]:
    """Follow the next hops of every pair."""
    faults = []
    for start in graph:
        for end in network.hosts[start].routes:
            here, steps = start, 0
            while here != end and steps <= len(graph):
                route = network.hosts[here].routes.get(end)
                if route is None or route.next_hop not in graph.get(here, {}):
                    break
                here, steps = route.next_hop, steps + 1
            if here != end:
                faults.append(f"way from {start} to {end} ends at {here} after {steps}")
    return faults


def converge(network: Network, within_s: float, step_s: float = 0.25, **checks: bool) -> float:
    """Run until nothing is wrong; returns the virtual seconds it took.

    Raises:
        AssertionError: it took longer than `within_s`.
    """
    start = network.now
    while True:
        faults = faults_of(network, **checks)
        if not faults:
            return network.now - start
        assert network.now - start < within_s, f"after {within_s} s: " + "; ".join(faults[:5])
        network.run_until(network.now + step_s)
