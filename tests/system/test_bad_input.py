"""Peers that break AMQP: each gets the right condition, is counted, and costs the flow beside it nothing."""

from __future__ import annotations

import os
import re
import socket
import ssl
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
from tests.system.harness import COLLECTED_AT, Router, Section, Sites, tcp_connector, tcp_listener
from tests.system.pki import Pki
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

SILENT = "said before it may say anything"
MESSAGE = (
    BEGIN
    + attach(0, "l", receives=False, address=SILENT)
    + frame(0x14, [UInt(0), UInt(0), b"t", UInt(0), True], payload=b"\x00Sw\xa1\x01x")
)

BEFORE_AUTHENTICATION = {
    "a response before anything": sasl(0x43, b"x"),
    "an empty response": sasl(0x43),
    "an OPEN": OPEN + MESSAGE,
    "no OPEN but a session": MESSAGE,
    "no mechanism": sasl(0x41),
    "no mechanism twice": sasl(0x41, None) + sasl(0x41, None),
    "an unknown mechanism, and more": sasl(0x41, Symbol("NONSENSE")) + sasl(0x43, b"x"),
    "a wrong password, and an OPEN": sasl(0x41, Symbol("PLAIN"), b"\0nobody\0wrong") + AMQP + OPEN,
    "a first step, and an OPEN": sasl(0x41, Symbol("SCRAM-SHA-256"), b"n,,n=user,r=abc") + OPEN,
    "a first step, and a session": sasl(0x41, Symbol("LOGIN")) + MESSAGE,
    "a first step twice": sasl(0x41, Symbol("LOGIN")) * 2,
}

HASTE = {"initialHandshakeTimeoutSeconds": 1}
LISTENERS: dict[str, dict[str, object]] = {
    "strict": {"authenticatePeer": True},
    "tls": {"sslProfile": "clients", "requireSsl": True},
    "strict-tls": {"sslProfile": "clients", "saslMechanisms": "PLAIN LOGIN", "authenticatePeer": True},
    "mutual": {"sslProfile": "clients", "saslMechanisms": "EXTERNAL", "authenticatePeer": True, "requireSsl": True},
}
"""Besides the usual one, `amqp`."""


@pytest.fixture(scope="module")
def sites(start_module_sites: StartSites, pki: Pki, echo_port: int) -> Sites:
    sections: list[Section] = [
        pki.issue("bad-input-server").ssl_profile("clients"),
        ("listener", {"name": "http", "host": "127.0.0.1", "port": 0, "http": True}),
    ]
    for name, attributes in LISTENERS.items():
        sections.append(("listener", {"name": name, "host": "127.0.0.1", "port": 0, **HASTE, **attributes}))
    return start_module_sites(
        a_sections=[*sections, tcp_listener("echo")], b_sections=[tcp_connector("echo", echo_port)]
    )


@pytest.fixture(scope="module")
def client_tls(pki: Pki) -> ssl.SSLContext:
    """A client with a certificate that the router trusts."""
    files = pki.issue("bad-input-client")
    context = ssl.create_default_context(cafile=files.ca)
    context.load_cert_chain(files.cert, files.key)
    return context


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


def say(port: int, octets: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """Say it, and return all that is answered until the router ends the connection."""
    with connect(port) as plain:
        plain.settimeout(PATIENCE_S)
        if tls is None:
            return answer_to(plain, octets)
        with tls.wrap_socket(plain, server_hostname="localhost") as client:
            return answer_to(client, octets)


def answer_to(client: socket.socket, octets: bytes) -> bytes:
    answer = b""
    try:
        client.sendall(octets)
        while data := client.recv(65_536):
            answer += data
    except (ConnectionError, ssl.SSLEOFError):
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


@pytest.mark.parametrize("words", BEFORE_AUTHENTICATION)
def test_nothing_is_done_before_authentication(sites: Sites, client_tls: ssl.SSLContext, words: str) -> None:
    before = count(sites.a, UNAUTHORIZED)
    mark = len(sites.a.log)
    consumer = BlockingConnection(f"amqp://127.0.0.1:{sites.a.port('amqp')}", timeout=PATIENCE_S)
    try:
        receiver = consumer.create_receiver(SILENT, credit=1)
        for name in ("amqp", *LISTENERS):
            tls = client_tls if "sslProfile" in LISTENERS.get(name, {}) else None
            say(sites.a.port(name), SASL + BEFORE_AUTHENTICATION[words], tls)
        assert count(sites.a, UNAUTHORIZED) == before + 1 + len(LISTENERS)
        assert not [line for line in sites.a.log[mark:] if "container_id=rude" in line]
        consumer.create_sender(SILENT).link.send(Message(body="the first"))
        assert receiver.receive(PATIENCE_S).body == "the first"
    finally:
        consumer.close()


@pytest.mark.parametrize("listener", ["amqp", "tls"])
def test_an_outcome_from_a_client(sites: Sites, client_tls: ssl.SSLContext, listener: str) -> None:
    """Under TLS, the engine takes no more after it without a word: the time-out for the handshake ends it."""
    condition, tls = (UNAUTHORIZED, None) if listener == "amqp" else ("amqp:not-allowed", client_tls)
    before = count(sites.a, condition)
    say(sites.a.port(listener), SASL + sasl(0x44, UInt(0)), tls)
    assert count(sites.a, condition) == before + 1


def test_a_session_without_an_open(sites: Sites) -> None:
    condition = "amqp:not-allowed"
    before = count(sites.a, condition)
    say(sites.a.port("amqp"), AMQP + MESSAGE)
    assert count(sites.a, condition) == before + 1


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
        assert resident_bytes(sites.a) < COLLECTED_AT * before + (MEGABYTES_KEPT << 20)


@pytest.mark.parametrize("credit", [0, 1_000_000], ids=["never grants credit", "never reads"])
def test_settled_messages_for_who_takes_nothing_are_dropped(sites: Sites, credit: int) -> None:
    name = f"settled-{credit}"
    with deaf_peer(sites, name, credit=credit):
        before, dropped = resident_bytes(sites.a), series(sites.a, DROPPED)
        sent = send_while_it_may(sites.a, name, 10_000, settled=True)
        assert resident_bytes(sites.a) < COLLECTED_AT * before + (MEGABYTES_KEPT << 20)
        assert sent < 10_000 or series(sites.a, DROPPED) > dropped
