"""Bad networks are normal: cuts, losses, long ways, moving addresses, silent name servers, on real interfaces."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.long.lab import Lab, Machine, NameServer, laboratory, time_passes
from tests.system.harness import Router, Section, tcp_connector, tcp_listener
from tests.system.network import eventually
from tests.system.pki import Pki
from tests.system.process import shown

LINK_PORT = 5671
SERVICE_PORT = 7000
"""Where a machine's clients find the service; machines have their ports to themselves."""
BACK_S = 5.0
"""A link is in use again so soon after its network can be used, at round trips of up to 100 ms."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with laboratory(tmp_path) as made, shown(lambda: made.routers):
        yield made


def listening(**more: object) -> Section:
    return ("listener", {"name": "link", "host": "0.0.0.0", "port": LINK_PORT, "role": "inter-router", **more})


def connecting(host: str, **more: object) -> Section:
    return ("connector", {"name": "up", "host": host, "port": LINK_PORT, "role": "inter-router", **more})


class Pair:
    """A, which connects and where the clients are, and B, which listens and has the service."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.a: Machine = lab.machine("a")
        self.b: Machine = lab.machine("b")
        self.a_sections: list[Section] = [tcp_listener("svc", port=SERVICE_PORT)]
        self.b_sections: list[Section] = [tcp_connector("svc", self.b.echo_server())]
        self.port = SERVICE_PORT
        self.more: dict[str, object] = {}
        """Further attributes of both routers."""

    def start(self, host: str, *, listener: Section | None = None, **more: object) -> Router:
        self.a_sections.append(connecting(host, **more))
        self.b_sections.append(listener or listening())
        self.start_b()
        return self.start_a()

    def start_a(self) -> Router:
        self.a_router = self.a.router("A", self.a_sections, more=self.more)
        return self.a_router

    def start_b(self) -> Router:
        self.b_router = self.b.router("B", self.b_sections, more=self.more)
        return self.b_router

    def up(self, limit_s: float = BACK_S, timeout_s: float = 1.0) -> float:
        """Wait until flows go through the network; returns for how long."""
        return self.a.back_after(self.port, limit_s, timeout_s)

    def is_down(self) -> None:
        eventually(lambda: not self.a.succeeds(self.port), 20)


@pytest.fixture
def pair(lab: Lab) -> Pair:
    return Pair(lab)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "mutual TLS"])
def test_fifty_random_cuts(pair: Pair, tmp_path: Path, has_tls: bool) -> None:
    """At a round trip of 100 ms; some cuts are short, some outlast every time-out, some take the interface away."""
    _, host = pair.lab.slow_wire(pair.a, pair.b, delay_ms=50)
    more: dict[str, object] = {}
    listener = listening()
    if has_tls:
        pki = Pki(tmp_path / "pki")
        for sections, name in ((pair.a_sections, "a"), (pair.b_sections, "b")):
            sections.insert(0, pki.issue(name).ssl_profile("mutual"))
        more = {"sslProfile": "mutual", "saslMechanisms": "EXTERNAL", "verifyHostname": False}
        listener = listening(sslProfile="mutual", saslMechanisms="EXTERNAL", authenticatePeer=True)
    pair.start(host, listener=listener, **more)
    pair.up()
    chance = random.Random(3)
    backs = []
    for number in range(25 if has_tls else 50):
        lasts_s = min(25.0, chance.expovariate(0.25) + 0.2)
        if number % 5 == 4:
            pair.a.ip("link", "set", "tun1", "down")
            time_passes(lasts_s)
            pair.a.ip("link", "set", "tun1", "up")
        else:
            pair.a.silence()
            time_passes(lasts_s)
            pair.a.heal()
        backs.append((round(pair.a.back_after(pair.port, 3 * BACK_S), 2), round(lasts_s, 1)))
        time_passes(chance.random() * 2)
    print("back after (cut for):", sorted(backs))
    slow = [back for back in backs if back[0] > BACK_S]
    assert not slow, f"(back after, cut for): {slow}"
    pair.a_router.check_log()
    pair.b_router.check_log()


def neighbours_found(router: Router) -> int:
    """How many neighbours a router's log tells of; in a ring each of them changes its routes."""
    return sum(line.count("HELLO on connection") for line in router.log)


def test_partition_heals(lab: Lab) -> None:
    """A ring over two switches; each half goes on without the other, and they find each other again."""
    trunk = lab.trunk("east", "west")
    machines = {name: lab.machine(name, "east" if name in "ab" else "west") for name in "abcd"}
    ring = list(machines)
    for place, name in enumerate(ring):
        following = ring[(place + 1) % 4]
        sections = [
            listening(),
            connecting(machines[following].address),
            tcp_connector(f"at-{name}", machines[name].echo_server()),
            *(tcp_listener(f"at-{other}") for other in ring if other != name),
        ]
        machines[name].router(name, sections)
    # All flows work before that, in a line: its ends would have no way when the line is cut.
    eventually(lambda: all(neighbours_found(router) == 2 for router in lab.routers), BACK_S)
    ports = {router.router_id: {other: router.port(f"at-{other}") for other in ring if other != router.router_id}
             for router in lab.routers}  # fmt: skip
    ways = [(here, there) for here in ring for there in ring if here != there]
    for here, there in ways:
        machines[here].back_after(ports[here][there], BACK_S)
    for cut_s in (4.0, 20.0):
        lab.unplug(trunk)
        began = time.monotonic()
        while time.monotonic() - began < cut_s:
            assert machines["a"].succeeds(ports["a"]["b"])
            assert machines["d"].succeeds(ports["d"]["c"])
            time_passes(0.2)
        assert not machines["a"].succeeds(ports["a"]["d"])
        lab.plug(trunk)
        began = time.monotonic()
        for here, there in ways:
            machines[here].back_after(ports[here][there], BACK_S)
        assert time.monotonic() - began < BACK_S
        time_passes(1.0)


@pytest.mark.parametrize("who", ["the connector", "the listener"])
def test_lost_without_a_trace_and_started_again(pair: Pair, who: str) -> None:
    """A machine ends without a word, and its router is back at once under a new instance."""
    pair.start(pair.b.address)
    pair.up()
    for _ in range(3):
        machine, router = (pair.a, pair.a_router) if who == "the connector" else (pair.b, pair.b_router)
        machine.silence()
        router.kill()
        time_passes(0.2)
        machine.heal()
        if who == "the connector":
            pair.start_a()
        else:
            pair.start_b()
        began = time.monotonic()  # ready: how long a process starts is the machine's affair
        pair.a.back_after(pair.port, 2 * BACK_S)
        took = time.monotonic() - began
        print(f"{who} is back after {took:.2f} s")
        assert took < BACK_S


def beat(machine: Machine, port: int, seconds: float) -> float:
    """Begin flows for so long; returns the longest that one took, in seconds."""
    longest, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        assert machine.succeeds(port, 5)
        longest = max(longest, time.monotonic() - began)
        time_passes(0.02)
    return longest


def test_a_name_server_that_stops_answering(pair: Pair) -> None:
    names: NameServer = pair.lab.names_of(pair.a)
    names.addresses["b.example"] = [pair.b.address]
    names.is_silent = True
    pair.a_sections += [tcp_connector("local", pair.a.echo_server()), tcp_listener("near", "local", port=7001)]
    pair.start("b.example")
    port = pair.a_router.port("near")
    assert beat(pair.a, port, 8.0) < 0.5  # the loop does not wait for names
    names.is_silent = False
    assert pair.up() < BACK_S
    time_passes(6.0)  # what was resolved is old now
    for cut_s in (8.0, 20.0):
        names.is_silent = True
        pair.a.silence()
        time_passes(cut_s)
        pair.a.heal()
        took = pair.a.back_after(pair.port, 2 * BACK_S)
        print(f"name server silent, cut for {cut_s} s: back after {took:.2f} s")
        assert took < BACK_S
    assert pair.a_router.terminate(timeout_s=3) == 0  # no thread that waits for a name holds it up


def test_a_peer_that_moves(pair: Pair) -> None:
    names = pair.lab.names_of(pair.a)
    names.addresses["b.example"] = [pair.b.address]
    pair.start("b.example")
    pair.up()
    for address in ("10.77.0.40", "10.77.0.41"):
        before = names.addresses["b.example"][0]
        pair.b.ip("addr", "del", f"{before}/24", "dev", "eth0")
        pair.b.ip("addr", "add", f"{address}/24", "dev", "eth0")
        names.addresses["b.example"] = [address]
        moved = time.monotonic()
        pair.is_down()
        pair.a.back_after(pair.port, 2 * BACK_S)
        took = time.monotonic() - moved
        print(f"moved to {address}: back after {took:.2f} s, its loss seen meanwhile")
        assert took < BACK_S


def test_addresses_that_cannot_be_reached(pair: Pair) -> None:
    """The resolver lists IPv6 first; nothing answers there."""
    names = pair.lab.names_of(pair.a)
    names.addresses["b.example"] = ["fd77::dead", "fd77::beef", "fd77::f00d", pair.b.address]
    for dead in ("dead", "beef", "f00d"):
        pair.a.ip("neigh", "add", f"fd77::{dead}", "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent")
    pair.start("b.example")
    took = pair.up()
    print(f"up after {took:.2f} s")
    pair.a.silence()
    time_passes(8.0)
    pair.a.heal()
    assert pair.a.back_after(pair.port, 2 * BACK_S) < BACK_S


@pytest.mark.timeout(400)
def test_long_ways_with_losses(pair: Pair) -> None:
    """A round trip of 2 s, 7 % of the packets lost each way, a rate of 2 Mbit/s; the hello age is 20 s there."""
    _, host = pair.lab.slow_wire(pair.a, pair.b, delay_ms=1000, kbit=2000)
    pair.more = {"helloMaxAgeSeconds": 20}
    patience: dict[str, object] = {"idleTimeoutSeconds": 120}
    pair.a.lose(7)
    pair.start(host, listener=listening(**patience), **patience)
    took = pair.up(60, 20)
    print(f"up after {took:.1f} s")
    for cut_s in (5.0, 30.0, 50.0):
        pair.a.silence()
        time_passes(cut_s)
        pair.a.lose(7)
        took = pair.up(90, 20)
        print(f"cut for {cut_s} s: back after {took:.1f} s")
        assert took < 60


def test_the_c_router_holds_the_dead_connection(pair: Pair, c_router: str) -> None:
    """It refuses the new one of the same group for up to 16 s; vanrouter comes as another group."""
    pair.a_sections.append(connecting(pair.b.address))
    pair.b_sections.append(listening())
    pair.b.router("B", pair.b_sections, program=c_router)
    pair.start_a()
    pair.up(3 * BACK_S)
    for cut_s in (4.0, 7.0, 12.0, 25.0):
        pair.a.silence()
        time_passes(cut_s)
        pair.a.heal()
        took = pair.up(4 * BACK_S)
        print(f"cut for {cut_s} s: back after {took:.2f} s")
        assert took < BACK_S
        time_passes(3.0)
