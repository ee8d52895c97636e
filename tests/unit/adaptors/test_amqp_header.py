"""What a client says first."""

from __future__ import annotations

import pytest

from tests.unit.core.engines import World
from vanrouter.adaptors.amqp_header import AMQP_HEADER, FirstOctets


@pytest.fixture
def here() -> World:
    return World()


@pytest.mark.parametrize(
    ("asked", "is_refused"), [(b"AMQP\x02\x01\x00\x00", True), (AMQP_HEADER, False), (b"AMQP", False)]
)
def test_tls_inside_amqp_is_refused(here: World, asked: bytes, is_refused: bool) -> None:
    sock, connection = here.raw(here.router())
    assert isinstance(connection.engine.channel, FirstOctets)
    assert connection.engine.channel.fileno() == connection.engine.fd
    sock.sendall(asked)
    here.settle()
    assert connection.is_closed is is_refused
    if is_refused:
        assert sock.recv(100) == AMQP_HEADER
        assert sock.recv(100) == b""
    else:
        assert not isinstance(connection.engine.channel, FirstOctets), "later octets go the short way"
    sock.close()
    here.settle()
    here.close()


def test_a_connection_that_says_nothing(here: World) -> None:
    sock, connection = here.raw(here.router())
    connection.engine.drop(None)
    here.settle()
    assert sock.recv(1) == b""
    sock.close()
    here.close()
