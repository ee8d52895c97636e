"""The floor of the AMQP figures: one hop in plain Python on Proton's engine, called directly, with no rule at all.

    python -m bench.amqp_floor

It takes messages and passes them to the consumers of the same address in turn, passes outcomes back, and gives credit
back one for one. No annotations, no routing, no counters, no clean-up: what is left is the cost of the engine, of
calling it from Python, and of the sockets. A router's message rate is quoted as a ratio to this one's.
"""

from __future__ import annotations

import json
import select
import socket
from typing import Any

from vanrouter.engine import proton
from vanrouter.engine.proton import (
    collector_peek,
    collector_pop,
    delivery_link,
    delivery_new,
    delivery_partial,
    delivery_remote_state,
    delivery_settle,
    delivery_settled,
    delivery_update,
    event_delivery,
    event_type,
    link_advance,
    link_credit,
    link_flow,
    link_is_receiver,
    link_recv,
    link_send,
)

CREDIT = 250
"""For each producer, as a router gives by default. Less than what the load's consumers give: what lies in the engine
without credit on its link is looked at again for every few frames of output, which would make this no floor."""
BUFFER_BYTES = 256 * 1024
_inbuf = bytearray(BUFFER_BYTES)
_inptr = proton.from_buffer("char[]", _inbuf)
_outbuf = bytearray(BUFFER_BYTES)
_outptr = proton.from_buffer("char[]", _outbuf)
_outview = memoryview(_outbuf)
_message = proton.from_buffer("char[]", bytearray(1024 * 1024))
_tag = bytearray(8)
_number = memoryview(_tag).cast("Q")
_tag_bytes = proton.new("pn_bytes_t*", {"size": 8, "start": proton.from_buffer("char[]", _tag)})


class Address:
    """The consumers of an address and whose turn it is; producers are given credit when there is a consumer."""

    __slots__ = ("consumers", "producers", "turn")

    def __init__(self) -> None:
        self.consumers: list[tuple[Any, Peer]] = []
        self.producers: list[tuple[Any, Peer]] = []
        self.turn = 0

    def next(self) -> tuple[Any, Peer]:
        """The consumer of the next message: the first with credit from the one whose turn it is."""
        consumers = self.consumers
        count = len(consumers)
        turn = self.turn
        for _ in range(count):
            turn = turn + 1 if turn + 1 < count else 0
            if link_credit(consumers[turn][0]) > 0:
                break
        self.turn = turn
        return consumers[turn]


class Floor:
    """The one process."""

    def __init__(self) -> None:
        self.poller = select.epoll()
        self.peers: dict[int, Peer] = {}
        self.dirty: set[Peer] = set()
        self.addresses: dict[str, Address] = {}
        self.in_flight: dict[Any, tuple[Any, Any, Peer]] = {}
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.poller.register(self.listener, select.EPOLLIN)

    def run(self) -> None:
        """Serve for ever; one write for each connection and turn."""
        listener = self.listener.fileno()
        while True:
            for fd, _ in self.poller.poll():
                if fd == listener:
                    peer = Peer(self, self.listener.accept()[0])
                    self.peers[peer.fd] = peer
                elif fd in self.peers:
                    self.peers[fd].ready()
            while self.dirty:
                self.dirty.pop().flush()


class Peer:
    """One connection."""

    __slots__ = ("blocked", "collector", "connection", "fd", "floor", "links", "owed", "sock", "transport")

    def __init__(self, floor: Floor, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.floor, self.sock, self.fd, self.blocked = floor, sock, sock.fileno(), False
        self.links: dict[Any, Address] = {}
        self.owed: list[tuple[Any, Peer]] = []  # presettled messages for this one whose producers wait for credit
        self.connection = proton.connection_new()
        self.collector = proton.collector_new()
        self.transport = proton.transport_new()
        proton.connection_collect(self.connection, self.collector)
        proton.transport_set_server(self.transport)
        proton.transport_set_max_frame(self.transport, 16384)
        proton.sasl_allowed_mechs(proton.sasl_new(self.transport), b"ANONYMOUS")
        proton.connection_set_container(self.connection, b"floor")
        proton.transport_bind(self.transport, self.connection)
        floor.poller.register(self.fd, select.EPOLLIN)

    def ready(self) -> None:
        """Read and process."""
        self.floor.dirty.add(self)
        try:
            count = self.sock.recv_into(_inbuf)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        done = 0
        while done < count:
            taken = proton.transport_push(self.transport, _inptr + done, count - done)
            if taken <= 0:
                count = 0
                break
            done += taken
            self.process()
        if count == 0:
            self.drop()

    def process(self) -> None:
        """Serve the engine's events."""
        collector = self.collector
        while event := collector_peek(collector):
            kind = event_type(event)
            if kind == proton.EVENT_DELIVERY:
                self.on_delivery(event_delivery(event))
            elif kind == proton.EVENT_CONNECTION_REMOTE_OPEN:
                proton.connection_open(self.connection)
            elif kind == proton.EVENT_SESSION_REMOTE_OPEN:
                session = proton.event_session(event)
                proton.session_set_incoming_capacity(session, 16 << 20)
                proton.session_open(session)
            elif kind == proton.EVENT_LINK_REMOTE_OPEN:
                self.on_link(proton.event_link(event))
            collector_pop(collector)

    def on_link(self, link: Any) -> None:
        """A producer or a consumer."""
        is_producer = link_is_receiver(link)
        terminus = proton.link_remote_target(link) if is_producer else proton.link_remote_source(link)
        address = self.floor.addresses.setdefault(proton.text(proton.terminus_get_address(terminus)) or "", Address())
        self.links[link] = address
        proton.link_open(link)
        if not is_producer:
            address.consumers.append((link, self))
            for producer, peer in address.producers:
                link_flow(producer, CREDIT)
                self.floor.dirty.add(peer)
            address.producers.clear()
        elif address.consumers:
            link_flow(link, CREDIT)
        else:
            address.producers.append((link, self))

    def on_delivery(self, delivery: Any) -> None:
        """A message, or the outcome of one."""
        origin = self.floor.in_flight.pop(delivery, None)
        if origin is not None:
            incoming, link, peer = origin
            delivery_update(incoming, delivery_remote_state(delivery))
            delivery_settle(incoming)
            delivery_settle(delivery)
            link_flow(link, 1)
            self.floor.dirty.add(peer)
            return
        link = delivery_link(delivery)
        address = self.links.get(link)
        if not link_is_receiver(link) or delivery_partial(delivery) or address is None or not address.consumers:
            return
        out_link, peer = address.next()
        count = link_recv(link, _message, 1024 * 1024)
        link_advance(link)
        _number[0] += 1
        outgoing = delivery_new(out_link, _tag_bytes[0])
        link_send(out_link, _message, count)
        if delivery_settled(delivery):
            delivery_settle(outgoing)
            delivery_settle(delivery)
            peer.owed.append((link, self))
        else:
            link_advance(out_link)
            self.floor.in_flight[outgoing] = (delivery, link, self)
        self.floor.dirty.add(peer)

    def flush(self) -> None:
        """Write what there is."""
        if self.fd not in self.floor.peers:
            return
        self.process()
        transport = self.transport
        while (pending := proton.transport_pending(transport)) > 0:
            count = proton.transport_peek(transport, _outptr, min(pending, BUFFER_BYTES))
            try:
                sent = self.sock.send(_outview[:count])
            except BlockingIOError:
                sent = 0
            except OSError:
                self.drop()
                return
            if sent:
                proton.transport_pop(transport, sent)
            if sent < count:
                self.watch(blocked=True)
                return
        self.watch(blocked=False)
        if self.owed and any(link_credit(link) > 0 for link in self.links):
            for link, peer in self.owed:
                link_flow(link, 1)
                self.floor.dirty.add(peer)
            self.owed.clear()

    def watch(self, *, blocked: bool) -> None:
        """Wait for room in the socket, or no more."""
        if blocked != self.blocked:
            self.blocked = blocked
            self.floor.poller.modify(self.fd, select.EPOLLIN | select.EPOLLOUT if blocked else select.EPOLLIN)

    def drop(self) -> None:
        """The connection has ended. What the engine holds for it is left alone: the benchmark's runs are few."""
        if self.floor.peers.pop(self.fd, None) is None:
            return
        self.floor.poller.unregister(self.fd)
        self.floor.dirty.discard(self)
        self.sock.close()
        for address in self.links.values():
            address.consumers = [one for one in address.consumers if one[1] is not self]
            address.producers = [one for one in address.producers if one[1] is not self]
        # Nothing that is kept of it may be given to the engine again.
        gone = [out for out, origin in self.floor.in_flight.items() if origin[2] is self]
        for outgoing in gone:
            del self.floor.in_flight[outgoing]
        for peer in self.floor.peers.values():
            peer.owed = [one for one in peer.owed if one[1] is not self]


def main() -> None:
    """Serve until ended; the port is said in one line of JSON."""
    floor = Floor()
    print(json.dumps({"port": floor.listener.getsockname()[1]}), flush=True)
    floor.run()


if __name__ == "__main__":
    main()
