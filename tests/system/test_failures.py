"""Power failures, refused connections, silent peers: flows end at once, the survivor goes on, nothing hangs."""

from __future__ import annotations

import socket
import time

import pytest

from tests.system.conftest import StartSites
from tests.system.harness import Sites, mutual_credentials, tcp_connector, tcp_listener
from tests.system.pki import Pki
from tests.system.process import free_port
from tests.system.services import connect, echo_once, has_ended, receive_exactly

AT_ONCE_S = 2.0
"""A dead neighbour's socket is closed by the kernel: no hello has to be missed for it (three would be 3 s)."""
RELINK_S = 10.0
"""Back-off is capped at 2 s, a route is known a few hellos after."""


def new_sites(start_sites: StartSites, pki: Pki, echo_port: int, *, connects: str = "B") -> Sites:
    a, b = mutual_credentials(pki)
    return start_sites(
        credentials_a=a,
        credentials_b=b,
        connects=connects,
        a_sections=[tcp_listener("echo"), tcp_listener("nobody"), tcp_listener("local")],
        b_sections=[tcp_connector("echo", echo_port), tcp_connector("nobody", free_port())],
    )


def open_flow(port: int) -> socket.socket:
    client = connect(port)
    client.sendall(b"here")
    assert receive_exactly(client, 4) == b"here"
    return client


@pytest.mark.parametrize("connects", ["A", "B"])
@pytest.mark.parametrize("victim", ["A", "B"])
def test_kill_of_a_router(start_sites: StartSites, pki: Pki, connects: str, victim: str) -> None:
    # The service is a socket of the test, so that both ends of the flow are seen.
    with socket.create_server(("127.0.0.1", 0)) as service:
        sites = new_sites(start_sites, pki, service.getsockname()[1], connects=connects)
        with connect(sites.a.port("echo")) as client:
            served, _ = service.accept()
            with served:
                client.sendall(b"x" * 100)
                receive_exactly(served, 100)
                mark = sites.a.mark()
                (sites.a if victim == "A" else sites.b).kill()
                begun = time.monotonic()
                assert has_ended(served)
                assert has_ended(client)
                assert time.monotonic() - begun < AT_ONCE_S
        if victim == "A":
            mark = 0
            sites.start_a()
        else:
            sites.start_b()
        again = sites.a.port("echo", after=mark, timeout_s=RELINK_S)
        with connect(again) as client:
            served, _ = service.accept()
            with served:
                client.sendall(b"again")
                assert receive_exactly(served, 5) == b"again"


def test_refused_connection_ends_the_client(start_sites: StartSites, pki: Pki, echo_port: int) -> None:
    sites = new_sites(start_sites, pki, echo_port)
    with connect(sites.a.port("nobody")) as client:
        client.sendall(b"anybody?")
        assert has_ended(client)
    echo_once(sites.a.port("echo"))


def test_reader_that_stops_costs_no_other_flow(start_sites: StartSites, pki: Pki, echo_port: int) -> None:
    sites = new_sites(start_sites, pki, echo_port)
    port = sites.a.port("echo")
    with connect(port) as stuck:
        stuck.setblocking(False)
        chunk = bytes(65536)
        sent = 0
        quiet_since = time.monotonic()
        stuck_for_s = 0.5
        while time.monotonic() - quiet_since < stuck_for_s:  # fill every buffer on the way there and back
            try:
                sent += stuck.send(chunk)
                quiet_since = time.monotonic()
            except BlockingIOError:
                echo_once(port)
        assert sent > 0
        for _ in range(20):
            begun = time.monotonic()
            echo_once(port, b"y" * 10_000)
            assert time.monotonic() - begun < AT_ONCE_S
        stuck.setblocking(True)
        stuck.settimeout(20)
        assert receive_exactly(stuck, sent) == bytes(sent)


def test_port_is_closed_while_nobody_serves_the_address(start_sites: StartSites, pki: Pki, echo_port: int) -> None:
    sites = new_sites(start_sites, pki, echo_port)
    port = sites.a.port("echo")
    assert not any("(local)" in line for line in sites.a.log)
    sites.b.stop()
    deadline = time.monotonic() + RELINK_S
    while time.monotonic() < deadline:
        try:
            with connect(port) as client:
                assert has_ended(client)
        except ConnectionRefusedError:
            break
    else:
        pytest.fail("the port stayed open though the only server of the address has gone")
    sites.start_b()
    sites.a.port("echo", after=sites.a.mark() - 5)
