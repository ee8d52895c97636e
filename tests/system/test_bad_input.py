"""Peers that break AMQP: each gets the right condition, is counted, and costs the flow beside it nothing."""

from __future__ import annotations

import os
import re
import socket
import struct
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from proton import Message, Timeout
from proton.reactor import AtLeastOnce, AtMostOnce
from proton.utils import BlockingConnection

from tests.system.conftest import StartSites
from tests.system.harness import Router, Section, Sites, tcp_connector, tcp_listener
from tests.system.services import connect, receive_exactly
from vanrouter.engine.sections import Described, Symbol, UInt, ULong, encode

AMQP = b"AMQP\x00\x01\x00\x00"
SASL = b"AMQP\x03\x01\x00\x00"
PATIENCE_S = 10.0
FRAMING = "amqp:connection:framing-error"
DROPPED = "qdr_dropped_presettled_deliveries_total"
MEGABYTES_KEPT = 30
"""More than the queues of a session and of five links: 1 MiB, and 250 messages of 10 kB on each link."""
UNAUTHORIZED = "amqp:unauthorized-access"


def frame(code: int, fields: list[object], *, kind: int = 0, channel: int = 0, payload: bytes = b"") -> bytes:
    body = encode(Described(ULong(code), fields)) + payload
    return struct.pack(">IBBH", 8 + len(body), 2, kind, channel) + body


def sasl(code: int, *fields: object) -> bytes:
    return frame(code, list(fields), kind=1)


def attach(handle: int, name: str, *, receives: bool, address: str) -> bytes:
    termini = Described(ULong(0x28), [address]), Described(ULong(0x29), [address])
    more = [] if receives else [None, None, UInt(0)]
    return frame(0x12, [name, UInt(handle), receives, None, None, *termini, *more])


OPEN = frame(0x10, ["rude", "host"])
BEGIN = frame(0x11, [None, UInt(0), UInt(1000), UInt(1000)])
TRANSFER = frame(0x14, [UInt(9), UInt(0), b"t", UInt(0), True], payload=b"\x00Sw\xa1\x01x")
BROKEN = struct.pack(">IBBH", 12, 9, 0, 0) + b"\x00\x53\x11\x45"

FAULTS = {
    "a frame of seven octets": (AMQP + OPEN + struct.pack(">IBBH", 7, 2, 0, 0), FRAMING),
    "a frame whose body begins behind it": (AMQP + OPEN + BROKEN, FRAMING),
    "a frame beyond the limit": (AMQP + OPEN + struct.pack(">IBBH", 1 << 20, 2, 0, 0) + bytes(30_000), FRAMING),
    "an address of 64 kB": (AMQP + OPEN + BEGIN + attach(0, "l", receives=True, address="a" * 65_000), FRAMING),
    "a channel beyond the limit": (AMQP + OPEN + frame(0x11, [None, UInt(0)], channel=60_000), FRAMING),
    "a performative that AMQP does not have": (AMQP + OPEN + frame(0xF0, []), "amqp:not-implemented"),
    "a transfer without a session": (AMQP + OPEN + TRANSFER, "amqp:not-allowed"),
    "a transfer beyond the window": (AMQP + OPEN + BEGIN + TRANSFER, "amqp:session:window-violation"),
    "an end without a session": (AMQP + OPEN + frame(0x17, []), "amqp:not-allowed"),
    "a detach without a link": (AMQP + OPEN + BEGIN + frame(0x16, [UInt(7), True]), "amqp:invalid-field"),
    "a link name twice": (
        AMQP + OPEN + BEGIN + b"".join(attach(handle, "l", receives=True, address="a") for handle in (0, 1)),
        "amqp:invalid-field",
    ),
}

BEFORE_AUTHENTICATION = {
    "a response before anything": sasl(0x43, b"x"),
    "an empty response": sasl(0x43),
    "an outcome of its own": sasl(0x44, UInt(0)),
    "an OPEN": OPEN + BEGIN + attach(0, "l", receives=True, address="a"),
    "no mechanism": sasl(0x41),
    "no mechanism twice": sasl(0x41, None) + sasl(0x41, None),
    "an unknown mechanism, and more": sasl(0x41, Symbol("NONSENSE")) + sasl(0x43, b"x"),
    "a wrong password, and an OPEN": sasl(0x41, Symbol("PLAIN"), b"\0nobody\0wrong") + AMQP + OPEN,
    "a first step, and an OPEN": sasl(0x41, Symbol("SCRAM-SHA-256"), b"n,,n=user,r=abc") + OPEN,
}


@pytest.fixture(scope="module")
def sites(start_module_sites: StartSites, echo_port: int) -> Sites:
    http: Section = ("listener", {"name": "http", "host": "127.0.0.1", "port": 0, "http": True})
    strict: Section = (
        "listener",
        {"name": "strict", "host": "127.0.0.1", "port": 0, "authenticatePeer": True},
    )
    return start_module_sites(
        a_sections=[http, strict, tcp_listener("echo")], b_sections=[tcp_connector("echo", echo_port)]
    )


@pytest.fixture(scope="module")
def bystander(sites: Sites) -> Iterator[socket.socket]:
    """A flow that is open all the time; the first that really gets through."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with connect(sites.a.port("echo")) as client:
            if answers(client):
                yield client
                return
        assert time.monotonic() < deadline, "no flow gets through"


def answers(client: socket.socket) -> bool:
    try:
        client.sendall(b"!")
        return client.recv(1) == b"!"
    except ConnectionError:
        return False


@pytest.fixture(autouse=True)
def nobody_else_notices(sites: Sites, bystander: socket.socket) -> Iterator[None]:
    yield
    begun = time.monotonic()
    bystander.sendall(b"still here")
    assert receive_exactly(bystander, 10) == b"still here"
    assert time.monotonic() - begun < 1
    sites.a.check_log()


def series(router: Router, name: str) -> float:
    url = f"http://127.0.0.1:{router.port('http')}/metrics"
    request = urllib.request.Request(url, headers={"Accept": "text/plain"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        text = answer.read().decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def count(router: Router, condition: str) -> float:
    return series(router, f'vanrouter_connection_faults_total{{condition="{condition}"}}')


def say(port: int, octets: bytes) -> bytes:
    """Say it, and return all that is answered until the router ends the connection."""
    with connect(port) as client:
        client.settimeout(PATIENCE_S)
        answer = b""
        try:
            client.sendall(octets)
            while data := client.recv(65_536):
                answer += data
        except ConnectionError:
            pass
        return answer


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_counted(sites: Sites, fault: str) -> None:
    octets, condition = FAULTS[fault]
    before = count(sites.a, condition)
    assert condition.encode() in say(sites.a.port("amqp"), octets)
    assert count(sites.a, condition) == before + 1


@pytest.mark.parametrize("octets", [AMQP + sasl(0x41), AMQP + OPEN + sasl(0x41)], ids=["at once", "after OPEN"])
def test_sasl_in_place_of_amqp(sites: Sites, octets: bytes) -> None:
    before = count(sites.a, UNAUTHORIZED)
    say(sites.a.port("amqp"), octets)
    assert count(sites.a, UNAUTHORIZED) == before + 1


@pytest.mark.parametrize("listener", ["amqp", "strict"])
@pytest.mark.parametrize("words", BEFORE_AUTHENTICATION)
def test_nothing_is_done_before_authentication(sites: Sites, listener: str, words: str) -> None:
    before = count(sites.a, UNAUTHORIZED)
    mark = len(sites.a.log)
    say(sites.a.port(listener), SASL + BEFORE_AUTHENTICATION[words])
    assert count(sites.a, UNAUTHORIZED) == before + 1
    assert not [line for line in sites.a.log[mark:] if "container_id=rude" in line]


def test_a_long_address_is_refused_alone(sites: Sites) -> None:
    with connect(sites.a.port("amqp")) as client:
        client.settimeout(PATIENCE_S)
        client.sendall(AMQP + OPEN + BEGIN + attach(0, "l", receives=True, address="a" * 6_000))
        receive_until(client, b"amqp:invalid-field")
        client.sendall(frame(0x16, [UInt(0), True]) + attach(1, "m", receives=True, address="short"))
        receive_until(client, b"short")


def receive_until(client: socket.socket, wanted: bytes) -> None:
    answer = b""
    while wanted not in answer:
        data = client.recv(65_536)
        assert data, answer
        answer += data


def flow(handle: int, credit: int) -> bytes:
    return frame(0x13, [UInt(0), UInt(2**31 - 1), UInt(0), UInt(1000), UInt(handle), UInt(0), UInt(credit)])


def send_while_it_may(router: Router, address: str, limit: int, *, settled: bool) -> int:
    """Send messages of 10 kB as long as there is credit; return how many went before it stayed away."""
    connection = BlockingConnection(f"amqp://127.0.0.1:{router.port('amqp')}", timeout=PATIENCE_S)
    try:
        sender = connection.create_sender(address, options=AtMostOnce() if settled else AtLeastOnce())
        message = Message(body=bytes(10_000))
        sent = 0
        while sent < limit:
            try:
                connection.wait(lambda: sender.link.credit > 0, timeout=3)
            except Timeout:
                break
            for _ in range(sender.link.credit):
                sender.link.send(message)
                sent += 1
        return sent
    finally:
        connection.close()


def resident_bytes(router: Router) -> int:
    return int(Path(f"/proc/{router.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def deaf_peer(sites: Sites, name: str, *, credit: int) -> socket.socket:
    """A consumer whose session takes everything, which reads no more once its links are there."""
    client = connect(sites.a.port("amqp"))
    client.settimeout(PATIENCE_S)
    client.sendall(AMQP + OPEN + frame(0x11, [None, UInt(0), UInt(2**31 - 1), UInt(1000)]))
    for handle in range(5):
        client.sendall(attach(handle, f"{name}{handle}", receives=True, address=name))
    receive_until(client, f"{name}4".encode())
    if credit:
        client.sendall(b"".join(flow(handle, credit) for handle in range(5)))
    return client


@pytest.mark.parametrize("credit", [0, 1_000_000], ids=["never grants credit", "never reads"])
def test_who_takes_nothing_holds_senders_back(sites: Sites, credit: int) -> None:
    name = f"deaf-{credit}"
    with deaf_peer(sites, name, credit=credit):
        before = resident_bytes(sites.a)
        assert 0 < send_while_it_may(sites.a, name, 5_000, settled=False) <= 500
        assert resident_bytes(sites.a) - before < MEGABYTES_KEPT << 20


@pytest.mark.parametrize("credit", [0, 1_000_000], ids=["never grants credit", "never reads"])
def test_settled_messages_for_who_takes_nothing_are_dropped(sites: Sites, credit: int) -> None:
    name = f"settled-{credit}"
    with deaf_peer(sites, name, credit=credit):
        before, dropped = resident_bytes(sites.a), series(sites.a, DROPPED)
        sent = send_while_it_may(sites.a, name, 10_000, settled=True)
        assert resident_bytes(sites.a) - before < MEGABYTES_KEPT << 20
        assert sent < 10_000 or series(sites.a, DROPPED) > dropped
