"""Garbage on every port: answered with the right end, counted as that peer's fault, no cost to anybody else."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.system.conftest import StartSites
from tests.system.harness import Section, Sites, mutual_credentials, tcp_connector, tcp_listener
from tests.system.pki import Pki
from tests.system.services import connect, has_ended, receive_exactly

AMQP = b"AMQP\x00\x01\x00\x00"
SASL = b"AMQP\x03\x01\x00\x00"
TLS = b"AMQP\x02\x01\x00\x00"
OPEN = bytes.fromhex("00000016 02000000 005310 c009 02 a1056775657374 40")
PORTS = ["amqp", "link", "plain-link", "echo"]


@pytest.fixture(scope="module")
def sites(start_module_sites: StartSites, pki: Pki, echo_port: int) -> Sites:
    a, b = mutual_credentials(pki)
    plain: Section = ("listener", {"name": "plain-link", "role": "inter-router", "host": "127.0.0.1", "port": 0})
    impatient: Section = (
        "listener",
        {"name": "impatient", "host": "127.0.0.1", "port": 0, "initialHandshakeTimeoutSeconds": 1},
    )
    return start_module_sites(
        credentials_a=a,
        credentials_b=b,
        a_sections=[plain, impatient, tcp_listener("echo")],
        b_sections=[tcp_connector("echo", echo_port)],
    )


@pytest.fixture(scope="module")
def ports(sites: Sites) -> dict[str, int]:
    return {name: sites.a.port(name) for name in ("amqp", "plain-link", "echo")} | {"link": sites.link_port}


@pytest.fixture(scope="module")
def bystander(sites: Sites) -> Iterator[socket.socket]:
    """A flow that is open all the time; each test sends something through it at its end."""
    with connect(sites.a.port("echo")) as client:
        yield client


@pytest.fixture(autouse=True)
def nobody_else_notices(sites: Sites, bystander: socket.socket) -> Iterator[None]:
    yield
    begun = time.monotonic()
    bystander.sendall(b"still here")
    assert receive_exactly(bystander, 10) == b"still here"
    assert time.monotonic() - begun < 1
    for router in sites.routers():
        assert router.is_alive(), router.tail()
        router.check_log()


PATIENCE_S = 5.0


def send_and_leave(port: int, data: bytes, *, close: bool = True) -> None:
    """Send garbage; the router has to end the connection (or, where `close`, see that we did)."""
    with connect(port) as client:
        client.settimeout(PATIENCE_S)
        try:
            client.sendall(data)
            if close:
                client.shutdown(socket.SHUT_WR)
        except OSError:
            return
        assert has_ended(client), f"the connection stays open after {data[:40]!r}"


headers = st.sampled_from(
    [b"", AMQP, SASL, AMQP + OPEN, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\n\r\n"]
)
frames = st.builds(
    lambda size, offset, kind, channel, body: struct.pack(">IBBH", size, offset, kind, channel) + body,
    st.one_of(st.integers(0, 64), st.integers(0, 2**32 - 1)),
    st.integers(0, 255),
    st.integers(0, 3),
    st.integers(0, 65535),
    st.binary(max_size=60),
)


@pytest.mark.parametrize("name", ["amqp", "link", "plain-link"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=headers, rest=st.one_of(st.binary(max_size=200), frames, st.lists(frames, max_size=3).map(b"".join)))
def test_any_bytes(ports: dict[str, int], name: str, header: bytes, rest: bytes) -> None:
    send_and_leave(ports[name], header + rest)


@pytest.mark.parametrize("name", ["amqp", "plain-link", "link"])
def test_a_lot_of_noise(ports: dict[str, int], name: str) -> None:
    send_and_leave(ports[name], random.Random(3).randbytes(1 << 20))


@pytest.mark.parametrize("name", ["amqp", "plain-link"])
@pytest.mark.parametrize(
    "data",
    [
        AMQP + struct.pack(">IBBH", 0xFFFFFFFF, 2, 0, 0),
        AMQP + OPEN + struct.pack(">IBBH", 0x7FFFFFFF, 2, 0, 0) + bytes(100_000),
        AMQP + OPEN + struct.pack(">IBBH", 7, 2, 0, 0),
        AMQP + OPEN + struct.pack(">IBBH", 8 + 4, 2, 0, 9) + b"\x00\x53\x14\x45",
        b"AMQP\x00\x09\x09\x09",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=[
        "frame of 4 GiB",
        "oversized frame",
        "frame of 7",
        "transfer without link",
        "version",
        "http",
    ],
)
def test_broken_frames_end_the_connection_at_once(ports: dict[str, int], name: str, data: bytes) -> None:
    send_and_leave(ports[name], data, close=False)


@pytest.mark.parametrize("name", ["amqp", "plain-link"])
def test_unknown_performative_is_answered(ports: dict[str, int], name: str) -> None:
    with connect(ports[name]) as client:
        client.settimeout(PATIENCE_S)
        client.sendall(AMQP + OPEN + struct.pack(">IBBH", 8 + 4, 2, 0, 0) + b"\x00\x53\xf0\x45")
        answer = b""
        while data := client.recv(4096):
            answer += data
        assert b"amqp:not-implemented" in answer


def test_plain_octets_at_a_port_of_tls(ports: dict[str, int]) -> None:
    send_and_leave(ports["link"], AMQP + OPEN, close=False)


def test_garbage_to_a_service_is_the_services_business(ports: dict[str, int]) -> None:
    data = random.Random(4).randbytes(300_000)
    with connect(ports["echo"]) as client:
        for begin in range(0, len(data), 30_000):
            client.sendall(data[begin : begin + 30_000])
            assert receive_exactly(client, 30_000) == data[begin : begin + 30_000]


def test_connections_without_a_word(sites: Sites, ports: dict[str, int]) -> None:
    silent = [connect(ports["amqp"]) for _ in range(50)]
    for client in silent:
        client.close()
    with connect(sites.a.port("impatient")) as client:
        assert has_ended(client)


def test_connections_that_are_reset(ports: dict[str, int]) -> None:
    for port in ports.values():
        for data in (b"", AMQP, AMQP + OPEN):
            with connect(port) as client:
                client.sendall(data)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
