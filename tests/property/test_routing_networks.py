"""Whole networks in virtual time: after any faults they converge to the oracle's paths, without loop or black hole."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.property.networks import converge, random_network
from tests.property.simulator import Network, Wire

CLEAN = {"jitter_s": 0.0, "loss": 0.0, "doubling": 0.0}
BAD = {"jitter_s": 0.2, "loss": 0.1, "doubling": 0.1}
FAIR = {"jitter_s": 0.2, "loss": 0.02, "doubling": 0.1}
"""What bad links become for the time of convergence: with a tenth lost, every thousandth time three HELLOs in a row
get lost and a neighbour with them, so that a large network is never at rest."""

FAULTS = ("cut", "heal", "mute", "kill", "restart", "cost", "add", "remove")

faults = st.lists(
    st.tuples(st.sampled_from(FAULTS), st.integers(0, 1000), st.sampled_from([0.0, 0.02, 0.3, 1.0, 2.5, 5.0, 12.0])),
    max_size=12,
)


def set_quality(network: Network, quality: dict[str, float]) -> None:
    for wire in network.wires:
        wire.jitter_s, wire.loss, wire.doubling = quality["jitter_s"], quality["loss"], quality["doubling"]


def inflict(network: Network, fault: str, number: int) -> None:
    wires, hosts = network.wires, list(network.hosts.values())
    wire: Wire = wires[number % len(wires)]
    host = hosts[number % len(hosts)]
    key = f"Mkey{number % 5}"
    if fault == "cut":
        network.cut(wire)
    elif fault == "heal":
        network.heal(wire)
    elif fault == "mute":
        wire.is_mute = wire.ids is not None
    elif fault == "kill":
        network.kill(host)
    elif fault == "restart":
        network.restart(host)
    elif fault == "cost":
        network.set_cost(wire, 1 + number % 7)
    elif fault == "add":
        network.add_address(host, key, number % 5)
    else:
        network.remove_address(host, key)


def suffer(network: Network, sequence: list[tuple[str, int, float]]) -> None:
    for fault, number, pause in sequence:
        inflict(network, fault, number)
        network.run_until(network.now + pause)


@given(st.integers(3, 8), st.integers(0, 2**32), faults)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_clean_links(count: int, seed: int, sequence: list[tuple[str, int, float]]) -> None:
    network = random_network(count, 3, seed)
    suffer(network, sequence)
    converge(network, 12, check_origins=True)


@given(st.integers(3, 8), st.integers(0, 2**32), faults)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_bad_links(count: int, seed: int, sequence: list[tuple[str, int, float]]) -> None:
    network = random_network(count, 3, seed)
    set_quality(network, BAD)
    suffer(network, sequence)
    set_quality(network, FAIR)
    converge(network, 60)


@pytest.mark.parametrize("seed", range(24))
def test_many_faults(seed: int) -> None:
    """Longer sequences than hypothesis likes to draw."""
    random = Random(seed)
    network = random_network(random.randint(6, 12), random.choice([2, 3, 4]), seed)
    is_bad = seed % 3 == 0
    set_quality(network, BAD if is_bad else CLEAN)
    pauses = [0.0, 0.02, 0.3, 1.0, 2.5, 5.0, 12.0]
    suffer(network, [(random.choice(FAULTS), random.randrange(1000), random.choice(pauses)) for _ in range(20)])
    set_quality(network, FAIR if is_bad else CLEAN)
    converge(network, 60 if is_bad else 12)


@pytest.mark.parametrize("count", [2, 3, 7, 12])
def test_cold_start_takes_diameter_and_five_seconds(count: int) -> None:
    network = random_network(count, 3, count)
    took = converge(network, count + 5)
    diameter = max(host.radius for host in network.hosts.values())
    assert took <= diameter + 5


def test_nothing_is_done_for_an_idle_tick_but_the_hello() -> None:
    network = random_network(6, 3, 1)
    converge(network, 15)
    network.run_until(network.now + 60)
    before = [host.plane.counters.sent.copy() for host in network.hosts.values()]
    computations = [host.plane.counters.path_computations for host in network.hosts.values()]
    network.run_until(network.now + 60)
    for host, sent in zip(network.hosts.values(), before, strict=True):
        now_sent = host.plane.counters.sent - sent
        assert set(now_sent) == {"HELLO", "RA"}
        assert now_sent["RA"] <= 3
    assert computations == [host.plane.counters.path_computations for host in network.hosts.values()]


def test_lost_transit_router_is_replaced_at_once() -> None:
    """A ring of four: the routers beside the lost one know within their links' delay, without waiting for a tick."""
    network = Network(4)
    for name in "ABCD":
        network.add_router(name)
    for a, b in ("AB", "BC", "CD", "DA"):
        network.add_wire(a, b, delay_s=0.01)
    network.add_address(network.hosts["C"], "Mservice")
    converge(network, 8)
    network.run_until(network.now + 20)
    used = network.hosts["A"].routes["C"].next_hop
    network.kill(network.hosts[used])
    network.run_until(network.now + 0.1)
    assert network.hosts["A"].routes["C"].next_hop not in (used, "C")
    assert network.hosts["A"].bound["C"]


@pytest.mark.parametrize("is_express", [False, True], ids=["every copy", "express"])
def test_no_periodic_timer_is_waited_for_after_a_loss(is_express: bool) -> None:
    """The router with most neighbours dies: all routes are right soon after the hold-off, before the next RAs."""
    network = random_network(40, 4, 40)
    network.is_express = is_express
    converge(network, 15, step_s=1.0)
    network.run_until(network.now + 20)
    network.kill(max(network.hosts.values(), key=lambda host: len(host.ways)))
    settings = network.settings
    assert converge(network, settings.ra_interval_flux_s) <= settings.unreachable_holdoff_s + 2.0


@pytest.mark.long
@pytest.mark.timeout(900)
@given(st.integers(10, 60), st.integers(0, 2**32), faults, st.booleans())
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_larger_networks(count: int, seed: int, sequence: list[tuple[str, int, float]], is_bad: bool) -> None:
    """Twenty of them, up to four minutes of virtual time each: a minute or more of processor time."""
    network = random_network(count, 4, seed)
    if is_bad:
        set_quality(network, BAD)
    suffer(network, sequence)
    if is_bad:
        set_quality(network, {**FAIR, "loss": 0.005})
    converge(network, 90 if is_bad else 30)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [100, 200])
def test_large_networks_survive_many_faults(count: int) -> None:
    network = random_network(count, 4, count)
    random = Random(count)
    converge(network, 30, step_s=1.0)
    for _ in range(30):
        inflict(network, random.choice(FAULTS), random.randrange(1000))
        network.run_until(network.now + random.choice([0.0, 0.5, 3.0]))
    converge(network, 40, step_s=1.0)
