"""Power failures, refused connections, silent peers: flows end at once, the survivor goes on, nothing hangs."""

from __future__ import annotations

import select
import socket
import struct
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


def reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def connect_again(port: int, service: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Try as a client would until a flow reaches the service; the port may stay open while the address is held."""
    deadline = time.monotonic() + RELINK_S
    while time.monotonic() < deadline:
        try:
            client = connect(port)
        except ConnectionRefusedError:
            select.select([service], [], [], 0.05)
            continue
        if select.select([client, service], [], [], RELINK_S)[0] == [service]:
            return client, service.accept()[0]
        client.close()
    raise AssertionError("no flow reaches the service again")


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
                (sites.a if victim == "A" else sites.b).kill()
                begun = time.monotonic()
                assert has_ended(served)
                assert has_ended(client)
                assert time.monotonic() - begun < AT_ONCE_S
        if victim == "A":
            sites.start_a()
        else:
            sites.start_b()
        service.settimeout(RELINK_S)
        client, served = connect_again(sites.a.port("echo"), service)
        with client, served:
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


@pytest.mark.parametrize("answer", [b"", b"y" * 25], ids=["silent", "after a word"])
@pytest.mark.parametrize("is_read", [True, False], ids=["read", "unread"])
def test_reset_by_the_server_is_not_tried_again(
    start_sites: StartSites, pki: Pki, answer: bytes, is_read: bool
) -> None:
    # What a server has taken once, no server may get a second time: it may have been an order.
    with socket.create_server(("127.0.0.1", 0)) as service:
        service.settimeout(20)
        sites = new_sites(start_sites, pki, service.getsockname()[1])
        for client_is_done in (False, True) * 10:
            with connect(sites.a.port("echo")) as client:
                client.sendall(b"x" * 5000)
                if client_is_done:
                    client.shutdown(socket.SHUT_WR)
                served, _ = service.accept()
                if is_read:
                    receive_exactly(served, 5000)
                if answer:
                    served.sendall(answer)
                reset(served)
                ready = select.select([client, service], [], [], AT_ONCE_S)[0]
                assert service not in ready, "the flow came a second time"
                assert has_ended(client)


@pytest.mark.parametrize("is_reset", [True, False], ids=["reset", "closed"])
def test_client_that_leaves_at_once_comes_once_at_most(start_sites: StartSites, pki: Pki, is_reset: bool) -> None:
    flows = 20
    with socket.create_server(("127.0.0.1", 0)) as service:
        service.settimeout(20)
        sites = new_sites(start_sites, pki, service.getsockname()[1])
        for number in range(flows):
            with connect(sites.a.port("echo")) as client:
                client.sendall(b"%05d" % number * 1000)
                if is_reset:
                    reset(client)
        seen: list[bytes] = []
        while len(seen) < flows and select.select([service], [], [], 1.0 if is_reset else AT_ONCE_S)[0]:
            served, _ = service.accept()
            with served:
                if is_reset:
                    assert has_ended(served)
                    seen.append(b"")
                else:
                    seen.append(receive_exactly(served, 5000)[:5])
                    assert served.recv(1) == b""
        assert not select.select([service], [], [], 0.2)[0], "a flow came a second time"
        if not is_reset:  # a flow that was reset before it began may never have begun
            assert sorted(seen) == [b"%05d" % number for number in range(flows)]
