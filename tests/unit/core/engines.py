"""Whole routers in one process and one thread: a real loop driven turn by turn, socket pairs, clients on the engine.

A clock that only moves when a test moves it; a turn that is over is over: what was sent over a socket pair is readable
at once, so `settle` returns when there is nothing left to do anywhere.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

from cproton_ffi import lib

from vanrouter.adaptors.amqp import AmqpConnections, AmqpSettings
from vanrouter.core.connection import Connection
from vanrouter.core.links import LinkKind, Receiver, Sender
from vanrouter.core.peer import Role, put_symbols, write_open
from vanrouter.core.router import Mode, Router
from vanrouter.core.table import Treatment
from vanrouter.engine import proton
from vanrouter.engine.connection import EngineConnection
from vanrouter.engine.messages import Message, encode_message
from vanrouter.net.reactor import Reactor

LEFT_EMPTY = (
    *("incoming", "outgoing", "receivers", "senders", "outstanding"),
    *("waiting", "shut_sessions", "paused", "grants", "trunks"),
)
"""Of a connection that is over."""

MAX_TURNS = 200_000
ACCEPTED, REJECTED, RELEASED, MODIFIED, RECEIVED = 0x24, 0x25, 0x26, 0x27, 0x23

SND_UNSETTLED, SND_SETTLED, SND_MIXED = 0, 1, 2


def message(to: str | None = None, body: object = "x", **fields: Any) -> bytes:
    """A whole small message."""
    return encode_message(Message(to=to, durable=False, body=body, **fields))


class InOrder(dict[Any, None]):
    """A set that gives back in the order in which it was given, so that what happened once happens again."""

    def add(self, one: Any) -> None:
        self[one] = None

    def discard(self, one: Any) -> None:
        super().pop(one, None)

    def pop(self) -> Any:  # type: ignore[override]  # of a set
        first = next(iter(self))
        del self[first]
        return first


class World:
    """All routers and clients of one test."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.reactor = Reactor(lambda: self.time)
        self.reactor.dirty = InOrder()  # type: ignore[assignment]  # as far as a set is used
        self.routers: list[Router] = []
        self.connections: list[Connection] = []
        """Every connection that ever was."""
        self.clients: list[Client] = []
        self.allows_crashes = False

    # Time and turns.

    @property
    def is_busy(self) -> bool:
        reactor = self.reactor
        return bool(reactor.dirty or reactor._held or reactor._soon or reactor._poller.poll(0))

    def turn(self) -> None:
        self.reactor.run_once(0)

    def settle(self) -> None:
        """Run turns until nothing happens any more."""
        for _ in range(MAX_TURNS):
            if not self.is_busy:
                break
            self.turn()
        else:
            raise AssertionError("it never comes to rest")
        assert self.allows_crashes or not self.reactor.crashes, "a callback raised"

    def advance(self, seconds: float) -> None:
        """Let time pass; each timer runs when it is due."""
        end = self.time + seconds
        while True:
            self.settle()
            due = min((timer.deadline for _, _, timer in self.reactor._timers if timer.callback), default=end)
            if due >= end:
                break
            self.time = max(self.time, due)
            self.turn()
        self.time = end
        self.turn()
        self.settle()

    def until(self, condition: Callable[[], Any], limit_s: float = 120.0) -> Any:
        """Let time pass until something is so."""
        end = self.time + limit_s
        self.settle()
        while not (found := condition()):
            assert self.time < end, "it never came true"
            self.advance(0.1)
        return found

    # What there is.

    def router(self, name: str = "R", mode: str = Mode.STANDALONE, **options: Any) -> Router:
        options.setdefault("instance", 1)
        options.setdefault("default_treatment", Treatment.BALANCED)
        router = Router(self.reactor, name, mode, **options)
        self.routers.append(router)
        return router

    def interior(self, name: str, **options: Any) -> Router:
        return self.router(name, Mode.INTERIOR, **options)

    def chain(self, *names: str, **options: Any) -> list[Router]:
        """Interior routers in a row that know each other."""
        routers = [self.interior(name) for name in names]
        for left, right in pairwise(routers):
            self.link(left, right, **options)
        self.until(lambda: all(len(router.nodes) == len(names) - 1 for router in routers))
        return routers

    def link(self, connector: Router, listener: Router, **options: Any) -> tuple[Connection, Connection]:
        """Connect two routers; the first is the connector."""
        near, far = socket.socketpair()
        options.setdefault("role", Role.INTER_ROUTER)
        there = self._put(listener, far, is_server=True, **options)
        return self._put(connector, near, is_server=False, **options), there

    def _put(self, router: Router, sock: socket.socket, *, is_server: bool, **options: Any) -> Connection:
        sock.setblocking(False)
        options.setdefault("idle_timeout_s", 0)
        settings = AmqpSettings(name="", host="test", port="0", **options)
        connections = AmqpConnections(router)
        connection = connections.make(sock, settings, None, is_server=is_server, host="test:0")
        connection.on_opened = lambda: connections.opened(connection)
        connections.start(connection)
        self.connections.append(connection)
        return connection

    def client(self, router: Router, **options: Any) -> Client:
        """A client that has opened its connection."""
        client = self.unopened(router, **options)
        client.open()
        self.settle()
        return client

    def unopened(
        self,
        router: Router,
        *,
        role: Role = Role.NORMAL,
        container: str = "client",
        frame: int = 16384,
        capabilities: tuple[str, ...] = (),
        properties: dict[str, Any] | None = None,
        **options: Any,
    ) -> Client:
        near, far = socket.socketpair()
        connection = self._put(router, far, is_server=True, role=role, **options)
        client = Client(self, near, connection, container, frame, capabilities, properties or {})
        self.clients.append(client)
        return client

    def raw(self, router: Router, role: Role = Role.NORMAL) -> tuple[socket.socket, Connection]:
        """The bare socket of a peer."""
        near, far = socket.socketpair()
        near.setblocking(False)
        return near, self._put(router, far, is_server=True, role=role)

    # The end, and what must be so then.

    def close(self) -> None:
        for client in self.clients:
            client.drop()
        for connection in self.connections:
            if not connection.is_closed:
                connection.engine.drop(None)
        self.settle()
        self.advance(200.0)
        self.check_empty()
        self.reactor.close()
        assert self.allows_crashes or not self.reactor.crashes

    def check_empty(self) -> None:
        """Nothing is left of anything."""
        for connection in self.connections:
            for name in LEFT_EMPTY:
                assert not getattr(connection, name), f"{name} of a closed connection: {getattr(connection, name)}"
        for router in self.routers:
            assert not router.links
            assert not router.connections
            assert not router.amqp_connections
            assert not router.nodes
            left = [key for key, found in router.table.addresses.items() if not found.permanent and not found.services]
            assert not left, f"addresses left: {left}"
            for address in router.table.addresses.values():
                assert not address.producers
                assert not address.consumers
                assert not address.remotes

    def check(self) -> None:
        """What must be so at every moment of rest: counts agree with what there is, and no credit is lost."""
        for connection in self.connections:
            if connection.is_closed:
                continue
            for receiver in connection.receivers.values():
                self._check_receiver(connection, receiver)
            for sender in connection.senders.values():
                open_out = sum(found.sender is sender for found in connection.outgoing.values())
                assert sender.unsettled == open_out, (sender.name, sender.unsettled, open_out)
                assert sender.busy is not None or sender.credit == proton.link_credit(sender.pn), (
                    f"{sender.name}: {sender.credit}, the engine has {proton.link_credit(sender.pn)}"
                )
                self._check_counts(sender)
                if not sender.queue and sender.busy is None:
                    assert sender.ready == (sender.credit > 0 and not sender.is_shut)
            for sender in connection.waiting:
                assert sender.pn in connection.senders
            assert all(count > 0 for count in connection.outstanding.values())

    @staticmethod
    def _check_counts(link: Receiver | Sender) -> None:
        """Nothing is counted twice."""
        settled = link.accepted + link.rejected + link.released + link.modified + link.presettled
        if isinstance(link, Sender):
            settled -= link.dropped_presettled  # they were never sent
        assert settled + link.unsettled <= link.deliveries, (link.name, settled, link.unsettled, link.deliveries)

    def _check_receiver(self, connection: Connection, receiver: Receiver) -> None:
        self._check_counts(receiver)
        open_in = sum(found.receiver is receiver for found in connection.incoming.values())
        assert receiver.unsettled == open_in, (receiver.name, receiver.unsettled, open_in)
        assert receiver.to_grant < receiver.grants_at or receiver.kind is LinkKind.CONTROL
        if receiver.granted and not receiver.drained and receiver.on_message is None:
            credit = proton.link_credit(receiver.pn)
            # The engine takes a credit when the link moves on, not when a delivery begins.
            is_open = receiver.current is not None and receiver.current in connection.incoming.values()
            if receiver.replenishes_at_once:
                held = receiver.held
            elif receiver.replenishes_streams:
                held = -is_open
            else:
                held = receiver.unsettled - is_open + receiver.held
            assert credit + held + receiver.to_grant == receiver.capacity, (receiver.name, credit, held)


@contextlib.contextmanager
def world() -> Iterator[World]:
    """A world whose end is checked, unless the test has failed already."""
    here = World()
    yield here
    here.close()


class Client:
    """A peer on the engine, the handler of its own pump."""

    def __init__(
        self,
        world: World,
        sock: socket.socket,
        connection: Connection,
        container: str,
        frame: int,
        capabilities: tuple[str, ...],
        properties: dict[str, Any],
    ) -> None:
        self.world = world
        self.there = connection
        """The router's side."""
        sock.setblocking(False)
        self.engine = EngineConnection(world.reactor, sock, self, is_server=False)
        proton.transport_set_max_frame(self.engine.transport, frame)
        proton.connection_set_container(self.engine.connection, container.encode())
        write_open(self.engine.connection, capabilities=capabilities, properties=properties)
        self.links: dict[Any, Source | Drain] = {}
        self.sent: dict[Any, Sent] = {}
        self.got: dict[Any, Got] = {}
        self.sessions: list[Any] = []
        self.closed_sessions: list[tuple[Any, tuple[str, str] | None]] = []
        self.is_open = False
        self.is_lost = False
        self.condition: tuple[str, str] | None = None
        """Condition of the router's CLOSE."""

    def open(self) -> None:
        proton.connection_open(self.engine.connection)
        self.engine.start()

    # What a test does with it.

    def session(self, window_bytes: int = 1 << 20) -> Any:
        session = proton.session_new(self.engine.connection)
        proton.session_set_incoming_capacity(session, window_bytes)
        proton.session_open(session)
        self.sessions.append(session)
        self.touch()
        return session

    def sender(self, address: str | None = None, **options: Any) -> Source:
        """Attach a sender; wait for the answer."""
        link = Source(self, self._session(options), address, **options)
        self.world.settle()
        return link

    def receiver(self, address: str | None = None, *, credit: int = 100, **options: Any) -> Drain:
        """Attach a receiver with credit; wait for the answer."""
        link = Drain(self, self._session(options), address, **options)
        if credit:
            link.credit(credit)
        self.world.settle()
        return link

    def _session(self, options: dict[str, Any]) -> Any:
        session = options.pop("session", None)
        if session is not None:
            return session
        return self.sessions[0] if self.sessions else self.session()

    def touch(self) -> None:
        self.world.reactor.dirty.add(self.engine)

    def stop_reading(self) -> None:
        self.world.reactor.modify(self.engine.fd, 0)

    def read_on(self) -> None:
        self.world.reactor.modify(self.engine.fd, 0x001 | (0x004 if self.engine.blocked else 0))

    def close(self) -> None:
        self.engine.close()
        self.world.settle()

    def close_session(self, session: Any) -> None:
        proton.session_close(session)
        self.touch()
        self.world.settle()

    def drop(self) -> None:
        """The socket is gone without a word."""
        self.engine.drop(None)

    # The pump's calls.

    def on_remote_open(self) -> None:
        self.is_open = True

    def on_remote_close(self) -> None:
        self.condition = proton.condition_text(proton.connection_remote_condition(self.engine.connection))
        self.engine.close()

    def on_session_open(self, session: Any) -> None:
        if session not in self.sessions:
            proton.session_set_incoming_capacity(session, 1 << 20)
            proton.session_open(session)

    def on_session_close(self, session: Any) -> None:
        self.closed_sessions.append((session, None))
        proton.session_close(session)

    def on_link_open(self, link: Any) -> None:
        known = self.links.get(link)
        if known is not None:
            known.answered()
            return
        # The router attaches: a stream's link.
        if proton.link_is_receiver(link):
            drain = Drain(self, None, None, pn=link)
            proton.link_open(link)
            drain.credit(10)

    def on_link_close(self, link: Any, closed: bool) -> None:
        known = self.links.get(link)
        if known is not None:
            known.is_closed = True
            known.condition = proton.condition_text(proton.link_remote_condition(link))
        proton.link_close(link)
        self.touch()

    def on_delivery(self, pn: Any) -> None:
        sent = self.sent.get(pn)
        if sent is not None:
            sent.on_update()
            return
        got = self.got.get(pn)
        if got is None:
            link = self.links[proton.delivery_link(pn)]
            assert isinstance(link, Drain)
            if proton.link_current(link.pn) != pn:
                return  # its turn comes when what is before it has been read; or it is settled, and this is late
            got = self.got[pn] = Got(link, pn)
            link.got.append(got)
        got.on_update()

    def on_flow(self, link: Any) -> None:
        known = self.links.get(link)
        if isinstance(known, Source) and known.answers_drain and proton.link_get_drain(link):
            known.drained += proton.link_drained(link)
            self.touch()

    def before_flush(self) -> None: ...

    def on_sent(self) -> None: ...

    def on_writable(self) -> None: ...

    def on_lost(self, condition: tuple[str, str] | None) -> None:
        self.is_lost = True
        self.sent.clear()
        self.got.clear()


class _Link:
    def __init__(self, client: Client, pn: Any) -> None:
        self.client = client
        self.pn = pn
        self.address: str | None = None
        """What the router's answer says; it outlives the link."""
        self.is_closed = False
        self.condition: tuple[str, str] | None = None
        client.links[pn] = self  # type: ignore[assignment]

    @property
    def _answer(self) -> Any:
        raise NotImplementedError

    def answered(self) -> None:
        self.address = proton.text(proton.terminus_get_address(self._answer))

    def detach(self, *, closed: bool = True) -> None:
        if closed:
            proton.link_close(self.pn)
        else:
            lib.pn_link_detach(self.pn)
        self.client.touch()
        self.client.world.settle()

    @property
    def is_refused(self) -> bool:
        return self.is_closed

    @property
    def here(self) -> Any:
        """The router's record of it."""
        name = proton.text(proton.link_name(self.pn))
        connection = self.client.there
        return next(
            found for found in [*connection.receivers.values(), *connection.senders.values()] if found.name == name
        )

    def _open(self, address: str | None, capabilities: tuple[str, ...], dynamic: bool, end: Any, settle: int) -> None:
        pn = self.pn
        proton.terminus_set_type(proton.link_source(pn), proton.TERMINUS_SOURCE)
        proton.terminus_set_type(proton.link_target(pn), proton.TERMINUS_TARGET)
        if address is not None:
            proton.terminus_set_address(end, address.encode("utf-8", "surrogateescape"))
        if dynamic:
            proton.terminus_set_dynamic(end, True)
        if capabilities:
            for terminus in (proton.link_source(pn), proton.link_target(pn)):
                put_symbols(proton.terminus_capabilities(terminus), capabilities)
        proton.link_set_snd_settle_mode(pn, settle)
        proton.link_open(pn)
        self.client.touch()


_names = iter(range(1, 1 << 62))


class Source(_Link):
    """A sender of a client."""

    def __init__(
        self,
        client: Client,
        session: Any,
        address: str | None = None,
        *,
        capabilities: tuple[str, ...] = (),
        dynamic: bool = False,
        settle: int = SND_MIXED,
        coordinator: bool = False,
    ) -> None:
        super().__init__(client, proton.sender_new(session, f"s{next(_names)}".encode()))
        self.answers_drain = True
        self.drained = 0
        self.sent: list[Sent] = []
        self._tag = 0
        target = proton.link_target(self.pn)
        if coordinator:
            proton.terminus_set_type(target, proton.TERMINUS_COORDINATOR)
            proton.link_open(self.pn)
            client.touch()
            return
        self._open(address, capabilities, dynamic, target, settle)

    @property
    def credit(self) -> int:
        return int(proton.link_credit(self.pn))

    @property
    def _answer(self) -> Any:
        return proton.link_remote_target(self.pn)

    def send(self, content: bytes = b"", *, settled: bool = False) -> Sent:
        """Send a whole message; the turns are for the test to run."""
        sent = self.begin(settled=settled)
        sent.write(content)
        sent.end()
        return sent

    def begin(self, *, settled: bool = False) -> Sent:
        """Begin a delivery that comes in pieces."""
        self._tag += 1
        tag = self._tag.to_bytes(8, "big")
        start = proton.from_buffer("char[]", tag)
        pn = proton.delivery_new(self.pn, proton.new("pn_bytes_t*", {"size": 8, "start": start})[0])
        sent = Sent(self, pn, settled)
        self.sent.append(sent)
        return sent


class Sent:
    """A delivery of a client to the router."""

    def __init__(self, link: Source, pn: Any, settled: bool) -> None:
        self.link = link
        self.pn = pn
        self.was_settled = settled
        self.state = 0
        self.states: list[int] = []
        self.is_settled = False
        """By the router."""
        self.error: tuple[str, str] | None = None
        self.is_failed = False
        self.is_undeliverable = False
        self.received = 0
        self.is_ended = False
        """All of it was given to the engine, and it was not aborted."""
        self.is_over = False
        link.client.sent[pn] = self

    def write(self, content: bytes) -> None:
        if content:
            proton.link_send(self.link.pn, content, len(content))
        self.link.client.touch()

    def end(self) -> None:
        self.is_ended = True
        if self.was_settled:
            self.settle()
        else:
            proton.link_advance(self.link.pn)
        self.link.client.touch()

    def abort(self) -> None:
        self._over()
        self.state = 0  # what was said before has no meaning any more
        proton.delivery_abort(self.pn)
        self.link.client.touch()

    def settle(self) -> None:
        """Settle early."""
        self._over()
        proton.delivery_settle(self.pn)
        self.link.client.touch()

    def _over(self) -> None:
        self.is_over = True
        self.link.client.sent.pop(self.pn, None)

    @property
    def pending(self) -> int:
        """Octets that the engine has not sent."""
        return int(proton.delivery_pending(self.pn))

    def on_update(self) -> None:
        pn = self.pn
        state = int(proton.delivery_remote_state(pn))
        remote = proton.delivery_remote(pn)
        if state and (not self.states or self.states[-1] != state):
            self.states.append(state)
        self.state = state
        if state == REJECTED:
            self.error = proton.condition_text(proton.disposition_condition(remote))
        elif state == MODIFIED:
            self.is_failed = bool(proton.disposition_is_failed(remote))
            self.is_undeliverable = bool(proton.disposition_is_undeliverable(remote))
        elif state == RECEIVED:
            self.received = int(proton.disposition_get_section_offset(remote))
        if proton.delivery_settled(pn):
            assert not self.is_settled, "settled twice"
            self.is_settled = True
            if not proton.delivery_partial(pn) and not self.is_over:
                self._over()
                proton.delivery_settle(pn)
                self.link.client.touch()


class Drain(_Link):
    """A receiver of a client."""

    def __init__(
        self,
        client: Client,
        session: Any,
        address: str | None = None,
        *,
        capabilities: tuple[str, ...] = (),
        dynamic: bool = False,
        settle: int = SND_MIXED,
        pn: Any = None,
        auto: int | None = None,
    ) -> None:
        super().__init__(client, pn or proton.receiver_new(session, f"r{next(_names)}".encode()))
        self.got: list[Got] = []
        self.auto = auto
        """Outcome given to each message at once."""
        self.keeps_content = True
        self.reads = True
        if pn is None:
            self._open(address, capabilities, dynamic, proton.link_source(self.pn), settle)

    @property
    def _answer(self) -> Any:
        return proton.link_remote_source(self.pn)

    @property
    def contents(self) -> list[bytes]:
        return [bytes(got.content) for got in self.got if got.is_complete and not got.is_aborted]

    @property
    def credit_left(self) -> int:
        return int(proton.link_credit(self.pn))

    def credit(self, count: int) -> None:
        proton.link_flow(self.pn, count)
        self.client.touch()

    def drain(self) -> None:
        proton.link_set_drain(self.pn, True)
        self.client.touch()

    def read_on(self) -> None:
        """Read again, after `reads` was False."""
        self.reads = True
        self.client.touch()
        for got in list(self.client.got.values()):
            if got.link is self:
                got.on_update()


class Got:
    """A delivery that a client receives."""

    def __init__(self, link: Drain, pn: Any) -> None:
        self.link = link
        self.pn = pn
        self.content = bytearray()
        self.size = 0
        self.is_complete = False
        self.is_aborted = False
        self.was_settled = False
        self.remote_state = 0
        self.answer = 0
        """The state given last."""
        self.error: tuple[str, str] | None = None
        """What was given with it."""
        self.is_settled = False
        """By the router."""
        self.is_over = False

    def on_update(self) -> None:
        if not self.link.reads:
            return
        if not self.is_complete and not self.is_over:
            self._read()
        if self.is_over:
            return
        self.remote_state = int(proton.delivery_remote_state(self.pn))
        self.is_settled = bool(proton.delivery_settled(self.pn))
        if self.is_settled and self.is_complete:
            self.settle()
        elif self.is_complete and self.link.auto is not None:
            self.settle(self.link.auto)

    def _read(self) -> None:
        link = self.link.pn
        buffer = proton.new("char[]", 1 << 16)
        while True:
            count = proton.link_recv(link, buffer, 1 << 16)
            if count > 0:
                self.size += count
                if self.link.keeps_content:
                    self.content += proton._unpack(buffer, count)
                continue
            if count not in (proton.EOS, proton.ABORTED):
                return
            self.is_complete = True
            self.is_aborted = count == proton.ABORTED
            self.was_settled = bool(proton.delivery_settled(self.pn))
            proton.link_advance(link)
            self.link.client.touch()
            self._take_following()
            return

    def _take_following(self) -> None:
        following = proton.link_current(self.link.pn)
        if following:
            self.link.client.world.reactor.call_soon(partial(self._next, following))

    def _next(self, pn: Any) -> None:
        if not self.link.client.is_lost and proton.link_current(self.link.pn) == pn:
            self.link.client.on_delivery(pn)

    def update(
        self,
        state: int,
        *,
        settle: bool = False,
        error: tuple[str, str] | None = None,
        undeliverable: bool = False,
        offset: int = 0,
    ) -> None:
        local = proton.delivery_local(self.pn)
        self.error = error
        if error is not None:
            proton.set_condition(proton.disposition_condition(local), *error)
        if undeliverable:
            proton.disposition_set_undeliverable(local, True)
        if state == RECEIVED:
            proton.disposition_set_section_offset(local, offset)
        proton.delivery_update(self.pn, state)
        self.answer = state
        if settle:
            self.settle()
        self.link.client.touch()

    def settle(self, state: int = 0) -> None:
        if self.is_over:
            return
        if state:
            proton.delivery_update(self.pn, state)
            self.answer = state
        self.is_over = True
        self.link.client.got.pop(self.pn, None)
        proton.delivery_settle(self.pn)
        self._take_following()  # when it was not read to its end, the engine has moved on just now
        self.link.client.touch()

    def accept(self) -> None:
        self.settle(ACCEPTED)
