"""Question: how does the routing protocol scale? Convergence, recomputation, idle cost and many addresses.

Runs the control plane in the simulator of the property tests, in virtual time, and prints one JSON record:

- cold start of random graphs of degree 4: virtual seconds until every router has a route to and the addresses of every
  other, beside the bound of diameter + 5 s; and again after the router with most neighbours is killed. 2,000 routers in
  one process take 10 GB, and half an hour of a processor that is shared;
- one recomputation at 500 and 2,000 routers: own routes, the tree of one more ingress, own routes after one link state
  has changed; and all that a router does when such a link state comes in, routes installed;
- 50 idle routers: processor seconds for one of virtual time, all together;
- 100,000 mobile addresses in a network of 50, 2,000 at each router: convergence and a change in each.

Usage: python bench/routing_scale.py [--quick] [--routers N ...]
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.property.networks import random_network  # noqa: E402  # needs the path above
from tests.property.simulator import Network  # noqa: E402
from vanrouter.routing.control import ControlPlane  # noqa: E402
from vanrouter.routing.messages import advertisement_body, hello_body, link_state_update_body  # noqa: E402
from vanrouter.routing.paths import PathMap  # noqa: E402


def component_sizes(network: Network) -> dict[str, int]:
    """Return how many routers each living router can reach, itself included."""
    graph = network.true_graph()
    sizes: dict[str, int] = {}
    for start in graph:
        if start not in sizes:
            found, at = {start}, [start]
            while at:
                new = set(graph[at.pop()]) - found
                found |= new
                at += new
            sizes.update(dict.fromkeys(found, len(found)))
    return sizes


def is_complete(network: Network) -> bool:
    for name, size in component_sizes(network).items():
        host = network.hosts[name]
        if not len(host.routes) == len(host.bound) == size - 1:
            return False
    return True


def run_to_completion(network: Network, limit_s: float) -> float | None:
    """Return the virtual seconds until all routes and addresses are there, None beyond the limit."""
    start = network.now
    while network.now - start < limit_s:
        network.run_until(network.now + 0.25)
        if is_complete(network):
            return network.now - start
    return None


def cold_start(count: int) -> dict[str, object]:
    began = time.process_time()
    network = random_network(count, 4, count)
    network.is_express = True
    took = run_to_completion(network, 60)
    diameter = max(host.radius for host in network.hosts.values())
    record: dict[str, object] = {
        "routers": count,
        "diameter": diameter,
        "bound_s": diameter + 5,
        "converged_after_virtual_s": took,
        "path_computations_per_router": statistics.mean(
            host.plane.counters.path_computations for host in network.hosts.values()
        ),
        "control_messages_sent_per_router": statistics.mean(
            sum(host.plane.counters.sent.values()) for host in network.hosts.values()
        ),
    }
    network.run_until(network.now + 20)
    lost = max(network.hosts.values(), key=lambda host: len(host.ways))
    network.kill(lost)
    record["after_kill_of_a_router_virtual_s"] = run_to_completion(network, 60)
    record["cpu_s"] = round(time.process_time() - began, 1)
    return record


def recomputation(count: int, rounds: int) -> dict[str, object]:
    network = random_network(count, 4, count)
    graph = network.true_graph()
    names = list(graph)
    times: dict[str, list[float]] = {"own_routes_ms": [], "one_more_ingress_ms": [], "after_a_change_ms": []}
    for number in range(rounds):
        began = time.perf_counter()
        paths = PathMap(names[number % count], graph)
        routes = time.perf_counter()
        paths.forwarded_for(names[(number + 7) % count])
        ingress = time.perf_counter()
        changed = names[(number + 3) % count]
        costlier = {**graph, changed: {peer: cost + 1 for peer, cost in graph[changed].items()}}
        change = time.perf_counter()
        PathMap(names[number % count], costlier, paths)
        times["own_routes_ms"].append(1000 * (routes - began))
        times["one_more_ingress_ms"].append(1000 * (ingress - routes))
        times["after_a_change_ms"].append(1000 * (time.perf_counter() - change))
    return {"routers": count, **{what: shown(all_ms) for what, all_ms in times.items()}}


def shown(times_ms: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(times_ms), 2), "worst": round(max(times_ms), 2)}


def link_state(plane: ControlPlane, name: str, peers: dict[str, int], ls_seq: int, now: float) -> None:
    """Tell a router of the link state of another, over its first connection."""
    plane.on_message("RA", advertisement_body(name, 1, ls_seq, 0), 1, now)
    plane.on_message("LSU", link_state_update_body(name, 1, ls_seq, peers), 1, now)


def updates(count: int, rounds: int) -> dict[str, object]:
    """Time all that one router does about a link state: the costs of far routers change, one after the other."""
    links = random_network(count, 4, count).true_graph()
    me, *others = links
    plane, now = ControlPlane(me, 1), 0.0
    for connection_id, (peer, cost) in enumerate(links[me].items(), 1):
        plane.on_link_up(connection_id, cost, now)
        plane.on_message("HELLO", hello_body(peer, 1, [me]), connection_id, now)
    for name in others:
        link_state(plane, name, links[name], 1, now)
    spent: list[float] = []
    for number in range(rounds):
        now += 0.5
        for connection_id, peer in enumerate(links[me], 1):
            plane.on_message("HELLO", hello_body(peer, 1, [me]), connection_id, now)
        plane.on_timer(now)
        now += 0.5  # long enough for a change to be computed at once
        name = others[(7 * number + 3) % len(others)]
        before = plane.counters.path_computations
        began = time.perf_counter()
        link_state(plane, name, {peer: cost + 1 + number for peer, cost in links[name].items()}, 2, now)
        spent.append(1000 * (time.perf_counter() - began))
        assert plane.counters.path_computations == before + 1
    return {"routers": count, "known": len(list(plane.nodes())), "link_state_taken_in_ms": shown(spent)}


def idle(count: int, virtual_s: float) -> dict[str, object]:
    network = random_network(count, 4, count)
    run_to_completion(network, 60)
    network.run_until(network.now + 60)
    before, began = network.sent, time.process_time()
    network.run_until(network.now + virtual_s)
    cpu = time.process_time() - began
    return {
        "routers": count,
        "virtual_s": virtual_s,
        "messages_per_router_and_s": round((network.sent - before) / virtual_s / count, 2),
        "cpu_percent_of_a_core_simulator_included": round(100 * cpu / virtual_s, 3),
    }


def many_addresses(routers: int, addresses: int) -> dict[str, object]:
    began = time.process_time()
    network = random_network(routers, 4, routers)
    each = addresses // routers
    for number, host in enumerate(network.hosts.values()):
        for index in range(each):
            network.add_address(host, f"Mservice/{number}/{index}")
    took = run_to_completion(network, 60)
    loaded = time.process_time() - began
    known = sum(len(bound) for bound in next(iter(network.hosts.values())).bound.values())
    network.run_until(network.now + 10)
    began, start = time.process_time(), network.now
    for number, host in enumerate(network.hosts.values()):
        network.add_address(host, f"Mnew/{number}")
    while not all(
        f"Mnew/{number}" in other.bound[name]
        for number, name in enumerate(network.hosts)
        for other in network.hosts.values()
        if other.id != name
    ):
        network.run_until(network.now + 0.05)
    return {
        "routers": routers,
        "addresses": addresses,
        "known_at_one_router": known,
        "converged_after_virtual_s": took,
        "cpu_s": round(loaded, 1),
        "one_more_at_each_after_virtual_s": round(network.now - start, 2),
        "one_more_at_each_cpu_s": round(time.process_time() - began, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 routers and 10,000 addresses")
    parser.add_argument("--routers", type=int, nargs="+", help="sizes of the networks that start cold; 500")
    options = parser.parse_args()
    gc.disable()  # the collector would walk millions of records that live to the end
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    counts = options.routers or [100 if options.quick else 500]
    record = {
        "bench": "routing_scale",
        "commit": commit.stdout.strip(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cpu": platform.processor() or platform.machine(),
        "recomputation": [recomputation(count, 20) for count in (500, 2000)],
        "updates": [updates(count, 50) for count in (500, 2000)],
        "idle": idle(50, 60 if options.quick else 300),
        "addresses": many_addresses(50, 10_000 if options.quick else 100_000),
        "cold_start": [cold_start(count) for count in counts],
    }
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
