"""Listening sockets on loopback: ports, families, floods, and no descriptors left."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.net.test_dial import keeps_alive
from vanrouter.net.dial import Address
from vanrouter.net.listener import ACCEPTED_IN_A_TURN, RETRY_ACCEPT_S, Acceptor, bind, text_address
from vanrouter.net.reactor import Reactor

V4 = Address(socket.AF_INET, ("127.0.0.1", 0))
V6 = Address(socket.AF_INET6, ("::1", 0, 0, 0))


class Place:
    """A loop on a clock of the test, and everything that was accepted in it."""

    def __init__(self) -> None:
        self.time = 1.0
        self.reactor = Reactor(lambda: self.time)
        self.taken: list[tuple[socket.socket, Any]] = []
        self.sockets: list[socket.socket] = []

    def acceptor(self, sockets: list[socket.socket]) -> Acceptor:
        self.sockets += sockets
        return Acceptor(self.reactor, sockets, lambda sock, address: self.taken.append((sock, address)))

    def connect(self, port: int, host: str = "127.0.0.1") -> socket.socket:
        sock = socket.create_connection((host, port), 5)
        self.sockets.append(sock)
        return sock

    def close(self) -> None:
        for sock in (*self.sockets, *(sock for sock, _ in self.taken)):
            sock.close()
        assert self.reactor.crashes == 0
        self.reactor.close()


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.close()


def test_a_port_of_the_systems_choice(place: Place) -> None:
    acceptor = place.acceptor(bind([V4]))
    assert acceptor.port > 0
    client = place.connect(acceptor.port)
    place.reactor.run_once(0)
    ((sock, address),) = place.taken
    assert address == client.getsockname()
    assert not sock.getblocking()
    assert keeps_alive(sock)


def test_two_families_have_one_port(place: Place) -> None:
    sockets = bind([V4, V6])
    acceptor = place.acceptor(sockets)
    assert [sock.getsockname()[1] for sock in sockets] == [acceptor.port] * 2
    assert sockets[1].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    place.connect(acceptor.port)
    place.connect(acceptor.port, "::1")
    place.reactor.run_once(0)
    assert {sock.family for sock, _ in place.taken} == {socket.AF_INET, socket.AF_INET6}


def test_all_addresses_or_none(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []
    plain = socket.socket

    def make(*args: Any) -> socket.socket:
        made.append(plain(*args))
        return made[-1]

    (holder,) = bind([V4])
    place.sockets.append(holder)
    used = Address(socket.AF_INET, holder.getsockname())
    monkeypatch.setattr("vanrouter.net.listener.socket.socket", make)
    with pytest.raises(OSError) as raised:
        bind([V6, used])
    assert raised.value.errno == errno.EADDRINUSE
    assert [sock.fileno() for sock in made] == [-1, -1]


def test_a_small_backlog_is_taken(place: Place) -> None:
    acceptor = place.acceptor(bind([V4], backlog=1))
    place.connect(acceptor.port)
    place.reactor.run_once(0)
    assert len(place.taken) == 1


def test_a_flood_does_not_hold_the_turn(place: Place) -> None:
    acceptor = place.acceptor(bind([V4], backlog=4096))
    for _ in range(ACCEPTED_IN_A_TURN + 5):
        place.connect(acceptor.port)
    place.reactor.run_once(0)
    assert len(place.taken) == ACCEPTED_IN_A_TURN
    place.reactor.run_once(0)
    assert len(place.taken) == ACCEPTED_IN_A_TURN + 5


class Refusing:
    """A listening socket whose `accept` fails as often as asked."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self.failures = 1
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        if self.failures:
            self.failures -= 1
            raise OSError(self.number, "no")
        return self.sock.accept()


def refusing(place: Place, number: int) -> tuple[Acceptor, Refusing]:
    (sock,) = bind([V4])
    place.sockets.append(sock)
    fake = Refusing(sock, number)
    acceptor = place.acceptor([fake])  # type: ignore[list-item]  # it has all that is used
    place.connect(acceptor.port)
    return acceptor, fake


def test_out_of_descriptors_waits_for_some_time(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    acceptor, fake = refusing(place, errno.EMFILE)
    fake.failures = 2
    for asked in (1, 2):
        place.reactor.run_once(0)
        place.reactor.run_once(0)
        assert (fake.asked, place.taken) == (asked, []), "it asks again at once"
        place.time += RETRY_ACCEPT_S
    place.reactor.run_once(0)
    place.reactor.run_once(0)
    assert len(place.taken) == 1
    (said,) = caplog.messages
    assert (
        f"Port {acceptor.port} takes no connections for now: Too many open files; if it comes again, raise the limit"
        in said
    )
    acceptor.close()
    place.reactor.run_once(0)


def test_closed_while_it_waits_for_descriptors(place: Place) -> None:
    acceptor, fake = refusing(place, errno.ENFILE)
    place.reactor.run_once(0)
    acceptor.close()
    place.time += RETRY_ACCEPT_S
    place.reactor.run_once(0)
    place.reactor.run_once(0)
    assert (fake.asked, place.taken) == (1, [])


def test_a_client_that_went_away_is_no_matter(place: Place) -> None:
    _, fake = refusing(place, errno.ECONNABORTED)
    place.reactor.run_once(0)
    place.reactor.run_once(0)
    assert len(place.taken) == 1
    assert fake.asked > 1


def test_close_stops_listening_but_keeps_what_was_taken(place: Place) -> None:
    acceptor = place.acceptor(bind([V4]))
    port = acceptor.port
    client = place.connect(port)
    place.reactor.run_once(0)
    acceptor.close()
    place.reactor.run_once(0)
    with pytest.raises(ConnectionRefusedError):
        place.connect(port)
    client.send(b"x")
    assert place.taken[0][0].recv(1) == b"x"


def test_a_port_that_is_opened_again_in_the_turn_in_which_it_was_closed(place: Place) -> None:
    acceptor = place.acceptor(bind([V4]))
    port = acceptor.port
    acceptor.close()
    again = place.acceptor(bind([Address(V4.family, ("127.0.0.1", port))]))
    place.reactor.run_once(0)
    place.connect(port)
    place.reactor.run_once(0)
    assert (again.port, len(place.taken)) == (port, 1)


def test_closed_in_the_turn_in_which_a_client_came(place: Place) -> None:
    acceptor = place.acceptor(bind([V4]))
    place.connect(acceptor.port)
    (fd,) = acceptor._sockets
    acceptor.close()
    acceptor._accept(fd)
    place.reactor.run_once(0)
    assert place.taken == []


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::ffff:10.0.0.1", 80, 0, 0), "10.0.0.1:80"),
        (("::1", 80, 0, 0), "::1:80"),
        ("/run/socket", "/run/socket"),
        ("", ""),
    ],
)
def test_addresses_as_text(address: Any, text: str) -> None:
    assert text_address(address) == text
