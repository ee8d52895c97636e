"""Every row of the event table of a TCP flow's life (TCP over AMQP, section 9.2), at both ends, in every order.

Whole routers in one thread, one to three in a row, real sockets at both ends. A model knows what each end must see:
octets exact and a clean end while nothing has failed, the beginning of them and then an end afterwards; and in no case
does anything stay.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.system.pki import Pki
from tests.unit.core.ends import Service as Consumer
from tests.unit.core.engines import MODIFIED, REJECTED, RELEASED, World
from vanrouter.adaptors.tcp_config import ConnectorConfig, ListenerConfig
from vanrouter.adaptors.tcp_connector import ConnectorService
from vanrouter.adaptors.tcp_listener import ListenerService
from vanrouter.adaptors.tcp_shared import Service, Shared
from vanrouter.engine.messages import Message, encode_message, encode_stream_head
from vanrouter.net.tls import TlsFiles

DEADLINE_S = 20.0
RESET = struct.pack("ii", 1, 0)
CLIENT, SERVER = 0, 1
NAMES = ("client", "server")
CONNECT_TIMEOUT_S = 3.0

ROWS = frozenset(
    (
        "client half-closes", "server half-closes", "both finished", "client resets", "server resets", "refused",
        "timed out", "TLS handshake fails", "consumer releases", "consumer rejects", "consumer modifies", "no route",
        "other encapsulation", "malformed", "path lost", "connector deleted", "listener deleted",
        "server closes, client sends on", "client closes, server sends on",
    )
)  # fmt: skip
seen: Counter[str] = Counter()
"""Rows that were drawn and came to pass."""


class Flow:
    """One flow through a row of routers, and what must become of it."""

    def __init__(self, world: World, routers: int, **target: Any) -> None:
        self.world = world
        self.chain = world.chain(*"ABC"[:routers]) if routers > 1 else [world.interior("A")]
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = str(self.server.getsockname()[1])
        self.near, self.far = Shared(self.chain[0]), Shared(self.chain[-1])
        self.services: list[Service] = []
        self.ends: list[socket.socket] = []
        self.sent, self.got = [b"", b""], [b"", b""]
        self.is_finished, self.is_gone = [False, False], [False, False]
        self.is_broken = False
        self.target = target

    def connect(self) -> None:
        """Have a connector, a listener and a flow between them."""
        settings = {"name": "c", "address": "svc", "port": self.port, "connect_timeout_s": CONNECT_TIMEOUT_S}
        self.connector = ConnectorService(self.far, ConnectorConfig(**{**settings, **self.target}))
        self.services.append(self.connector)
        self.connector.start()
        self.call()
        accepted = self.until(lambda: select.select([self.server], [], [], 0)[0] and self.server.accept()[0])
        self.ends.append(accepted)
        self.until(lambda: len(self.listener.flows) == len(self.connector.flows) == 1)

    def call(self) -> None:
        """Open a listener for `svc` and have a client connect."""
        self.listener = ListenerService(
            self.near, ListenerConfig(name="l", host="127.0.0.1", port="0", address="svc", observer="none")
        )
        self.services.insert(0, self.listener)
        self.listener.start()
        self.world.until(lambda: self.listener.bound_port)
        assert self.listener.bound_port
        self.ends.append(socket.create_connection(("127.0.0.1", self.listener.bound_port)))

    def until(self, condition: Callable[[], Any]) -> Any:
        """Run turns until it is so; the kernel may take a moment between two sockets."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            self.world.settle()
            if found := condition():
                return found
            assert time.monotonic() < deadline, "it never came true"
            select.select([], [], [], 0.001)

    # Events.

    def send(self, who: int, count: int) -> None:
        if self.is_finished[who] or self.is_gone[who]:
            return
        data = bytes((who + len(self.sent[who]) + place) & 255 for place in range(256)) * (count // 256 + 1)
        self.ends[who].setblocking(False)
        try:
            self.sent[who] += data[: self.ends[who].send(data[:count])]
        except BlockingIOError:
            pass
        except ConnectionError:
            assert self.is_broken, "its other end has failed"

    def receive(self, who: int, count: int) -> None:
        if self.is_gone[who]:
            return
        self.ends[who].setblocking(False)
        try:
            self.got[who] += self.ends[who].recv(count)
        except BlockingIOError:
            pass
        except ConnectionError:
            assert self.is_broken

    def finish(self, who: int) -> None:
        if self.is_finished[who] or self.is_gone[who]:
            return
        self.is_finished[who] = True
        try:
            self.ends[who].shutdown(socket.SHUT_WR)
        except OSError:
            assert self.is_broken
            return
        seen[f"{NAMES[who]} half-closes"] += not self.is_broken
        seen["both finished"] += all(self.is_finished) and not self.is_broken

    def reset(self, who: int) -> None:
        if not self.is_gone[who]:
            seen[f"{NAMES[who]} resets"] += not self.is_broken
            self.is_gone[who] = self.is_broken = True
            self.ends[who].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.ends[who].close()

    def close(self, who: int) -> None:
        """Close one end while the other goes on sending."""
        if not self.is_gone[who]:
            seen[f"{NAMES[who]} closes, {NAMES[1 - who]} sends on"] += not self.is_broken
            self.is_gone[who] = self.is_broken = True
            self.ends[who].close()
            self.world.settle()
            self.send(1 - who, 1000)

    def lose_the_path(self, _who: int) -> None:
        if len(self.chain) > 1:
            seen["path lost"] += not self.is_broken
            self.is_broken = True
            for connection in self.world.connections:
                if not connection.is_closed:
                    connection.engine.drop(None)

    def delete(self, who: int) -> None:
        service = self.services[who]
        seen[("listener deleted", "connector deleted")[who]] += not self.is_broken
        self.is_broken = True
        service.delete(True)  # type: ignore[attr-defined]  # either has it

    # The end.

    def end(self) -> None:
        """Whoever is left reads to the end, and then there is nothing."""
        for who in (CLIENT, SERVER)[: len(self.ends)]:
            if not self.is_broken:
                self.finish(who)
        rest = [who for who in (CLIENT, SERVER)[: len(self.ends)] if not self.is_gone[who]]
        is_well = {who: self.read_to_the_end(who) for who in rest}
        for who in rest:
            if not self.is_broken:
                assert is_well[who]
                assert self.got[who] == self.sent[1 - who]
            else:
                assert self.sent[1 - who].startswith(self.got[who])
            self.ends[who].close()
        self.check_nothing_is_left()

    def read_to_the_end(self, who: int) -> bool:
        """Return whether it ended well."""
        end = self.ends[who]
        end.setblocking(False)

        def step() -> str | None:
            try:
                data = end.recv(1 << 20)
            except BlockingIOError:
                return None
            except ConnectionError:
                return "reset"
            self.got[who] += data
            return None if data else "end"

        if not self.is_broken:
            return bool(self.until(step) == "end")
        # What has failed may be told only when something is sent, or after a time to linger.
        ended = None
        for _ in range(200):
            self.world.settle()
            while (ended := step()) is None and select.select([end], [], [], 0.001)[0]:
                pass
            if ended is not None or self.is_alone(who):
                break
            self.world.advance(0.5)
        return ended == "end"

    def is_alone(self, who: int) -> bool:
        """An end that has said that it is finished, of a flow that has nothing else to say."""
        return self.is_finished[who] and not self.services[who].flows

    def check_nothing_is_left(self) -> None:
        for service in self.services:
            service.shut_down()  # type: ignore[attr-defined]  # either has it
        self.world.advance(30.0)
        self.until(lambda: not any(service.has_flows for service in self.services))
        for shared in (self.near, self.far):
            assert len(shared.wheel) == 0
            assert shared.memory.kept == 0
            assert shared.memory.flows == 0
            assert not shared.backlogged
        for connection in self.world.connections:
            assert not connection.incoming
            assert not connection.outgoing
        self.server.close()


EVENTS: dict[str, Callable[[Flow, int, int], None]] = {
    "send": lambda flow, who, count: flow.send(who, count),
    "receive": lambda flow, who, count: flow.receive(who, count),
    "finish": lambda flow, who, _count: flow.finish(who),
    "reset": lambda flow, who, _count: flow.reset(who),
    "close": lambda flow, who, _count: flow.close(who),
    "path": lambda flow, who, _count: flow.lose_the_path(who),
    "delete": lambda flow, who, _count: flow.delete(who),
    "turns": lambda flow, _who, _count: flow.world.settle(),
    "time": lambda flow, _who, _count: flow.world.advance(0.2),
}
scripts = st.lists(
    st.tuples(
        st.sampled_from(("send", "send", "send", "receive", "turns", "time", "finish", "finish", *EVENTS)),
        st.sampled_from((CLIENT, SERVER)),
        st.integers(1, 150_000),
    ),
    max_size=10,
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """An authority that no server here has a certificate of."""
    return TlsFiles(ca_file=str(Pki(tmp_path_factory.mktemp("pki")).ca))


@settings(max_examples=settings.default.max_examples * 2 // 5)
@given(scripts, st.integers(1, 3))
@example([("send", CLIENT, 70_000), ("finish", CLIENT, 1), ("send", SERVER, 90_000), ("finish", SERVER, 1)], 2)
@example([("finish", SERVER, 1), ("send", CLIENT, 9), ("turns", 0, 1), ("finish", CLIENT, 1)], 3)
@example([("send", CLIENT, 100_000), ("turns", 0, 1), ("reset", CLIENT, 1)], 2)
@example([("send", SERVER, 100_000), ("reset", SERVER, 1), ("send", CLIENT, 5)], 3)
@example([("close", SERVER, 1)], 2)
@example([("send", SERVER, 10), ("close", CLIENT, 1)], 2)
@example([("send", CLIENT, 100_000), ("path", CLIENT, 1)], 2)
@example([("finish", CLIENT, 1), ("path", CLIENT, 1)], 3)
@example([("send", CLIENT, 100_000), ("delete", SERVER, 1)], 2)
@example([("send", SERVER, 100_000), ("delete", CLIENT, 1)], 1)
def test_a_flow_s_life(script: list[tuple[str, int, int]], routers: int) -> None:
    world = World()
    flow = Flow(world, routers)
    flow.connect()
    for event, who, count in script:
        EVENTS[event](flow, who, count)
    flow.end()
    world.close()


def refused(flow: Flow) -> None:
    flow.server.close()


def silent(flow: Flow) -> None:
    """No connection is taken any more: the kernel keeps two that nobody accepts, and drops what comes then."""
    flow.server.close()
    flow.server = socket.create_server(("127.0.0.1", int(flow.port)), backlog=0)
    flow.ends += [socket.socket() for _ in range(4)]
    for sock in flow.ends:
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", int(flow.port)))


FAILING: dict[str, Callable[[Flow], None] | int] = {
    "refused": refused,
    "timed out": silent,
    "TLS handshake fails": lambda flow: None,
    "consumer releases": RELEASED,
    "consumer rejects": REJECTED,
    "consumer modifies": MODIFIED,
    "no route": lambda flow: None,
}


@pytest.mark.parametrize("routers", [1, 2, 3])
@pytest.mark.parametrize("row", FAILING)
def test_a_flow_that_never_begins(row: str, routers: int, authority: TlsFiles) -> None:
    """The client is told, and nothing stays."""
    world = World()
    flow = Flow(world, routers)
    prepare = FAILING[row]
    crowd: list[socket.socket] = []
    subscription = None
    if callable(prepare):
        prepare(flow)
        crowd, flow.ends = flow.ends, []
        tls = {"tls": authority} if row.startswith("TLS") else {}
        settings: dict[str, Any] = {"name": "c", "address": "svc", "port": flow.port, **tls}
        flow.connector = ConnectorService(flow.far, ConnectorConfig(connect_timeout_s=CONNECT_TIMEOUT_S, **settings))
        flow.services.append(flow.connector)
        flow.connector.start()
    else:
        consumer = Consumer()
        consumer.answers = prepare
        subscription = flow.chain[-1].subscribe_stream("svc", consumer)
    flow.call()
    client = flow.ends[CLIENT]
    if row == "no route":
        # The address goes while the connection waits to be accepted.
        flow.connector.delete(True)
    elif row.startswith("TLS"):
        server = flow.until(lambda: select.select([flow.server], [], [], 0)[0] and flow.server.accept()[0])
        server.sendall(b"this is no TLS at all, whatever the client has said\r\n")
        crowd.append(server)
    flow.is_broken = True
    client.setblocking(False)
    flow.read_to_the_end(CLIENT)
    assert flow.got[CLIENT] == b""
    assert not flow.listener.flows
    seen[row] += 1
    for sock in (client, *crowd):
        sock.close()
    if subscription is not None:
        subscription.cancel()
    flow.check_nothing_is_left()
    world.close()


@pytest.mark.parametrize(("row", "content_type", "state"), [
    ("other encapsulation", None, RELEASED),
    ("other encapsulation", "text/plain", RELEASED),
    ("malformed", "application/octet-stream", REJECTED),
])  # fmt: skip
def test_what_a_connector_cannot_take(row: str, content_type: str | None, state: int) -> None:
    """2.7's legacy encapsulation has no content type, a flow id of its own, and data sections (section 2)."""
    world = World()
    flow = Flow(world, 1)
    connector = ConnectorService(flow.far, ConnectorConfig(name="c", address="svc", port=flow.port))
    flow.services.append(connector)
    connector.start()
    sender = world.client(flow.chain[0]).sender("svc")
    if row == "malformed":
        content = encode_stream_head("svc", None, None)  # nowhere to answer to
    else:
        content = encode_message(
            Message(to="svc", reply_to="amqp:/_topo/0/A/temp.x", subject="127.0.0.1:5@site", content_type=content_type,
                    application_properties={":flowid": "x:1"}, body=b"octets", durable=False)
        )  # fmt: skip
    sent = sender.send(content)
    world.settle()
    assert sent.state == state
    seen[row] += 1
    flow.check_nothing_is_left()
    world.close()


def test_every_row_was_drawn() -> None:
    """Last in this file: the examples named above hold each row, and what hypothesis has drawn comes on top."""
    if not seen:
        pytest.skip("no other test of this file has run")
    assert {row for row, count in seen.items() if count} == ROWS
