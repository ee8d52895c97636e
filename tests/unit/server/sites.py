"""A whole site in the test's process: its loop turn by turn, clients of its listeners, requests to its management."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from tests.unit.core.engines import ACCEPTED, Client, Drain, Source, World
from vanrouter.adaptors.amqp import AmqpListener
from vanrouter.engine import proton
from vanrouter.engine.messages import Message, decode_message, encode_message
from vanrouter.errors import ManagementError
from vanrouter.mgmt.config import load_text
from vanrouter.mgmt.logs import Logs
from vanrouter.mgmt.options import StartOptions
from vanrouter.server.site import Site

ROUTER = """
router {
    mode: standalone
    id: S
}
"""
LISTENER = """
listener {
    name: l
    host: 127.0.0.1
    port: 0
    authenticatePeer: no
}
"""

SLICES = 50
"""Slices that an answer may take; whoever expects none waits so long in virtual time."""


class Bench(World):
    """The world of one site."""

    def __init__(self, text: str = ROUTER + LISTENER) -> None:
        super().__init__()
        self.reactor.close()
        configuration = load_text(text, "test.conf")
        self.logs = Logs()
        self.site = Site(configuration, StartOptions(logs=self.logs, on_ready=lambda: None))
        self.reactor = self.site.reactor
        self.time = self.reactor.now
        self.reactor.clock = lambda: self.time
        self.managers: list[Manager] = []

    def start(self) -> Bench:
        self.site.start()
        self.settle()
        return self

    def live(self, name: str, kind: str | None = None) -> Any:
        """The live object of an entity."""
        return next(
            found
            for entity, found in self.site.objects.items()
            if entity.name == name and kind in (None, entity.type.short)
        )

    def port(self, name: str = "l") -> int:
        listener: AmqpListener = self.live(name)
        assert listener._acceptor is not None
        return listener._acceptor.port

    def connect(self, name: str = "l", *, hostname: str | None = None, container: str = "client") -> Client:
        """A client of a listener."""
        sock = socket.create_connection(("127.0.0.1", self.port(name)), 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is sent is there at once
        before = set(self.site.router.amqp_connections)
        self.settle()
        (number,) = set(self.site.router.amqp_connections) - before
        there = self.site.router.amqp_connections[number]
        client = Client(self, sock, there, container, 16384, (), {})
        self.clients.append(client)
        if hostname is not None:
            proton.connection_set_hostname(client.engine.connection, hostname.encode())
        client.open()
        self.settle()
        return client

    @property
    def manager(self) -> Manager:
        if not self.managers:
            self.managers.append(Manager(self.connect(container="manager")))
        return self.managers[0]

    def close(self) -> None:
        for client in self.clients:
            client.drop()
        self.settle()
        for entity in reversed(list(self.site.objects)):  # listenerAddress before its tcpListener
            self.site.delete(entity)
        self.settle()
        self.site.shut_down()
        self.settle()
        crashes = self.reactor.crashes
        self.reactor.close()
        self.logs.shutdown()
        assert self.allows_crashes or not crashes


class Manager:
    """Asks the management node over a client's connection."""

    def __init__(self, client: Client, address: str = "$management") -> None:
        self.client = client
        self.world = client.world
        self.source: Source = client.sender(address)
        self.drain: Drain = client.receiver(dynamic=True, auto=ACCEPTED)
        self._number = 0

    def send(self, operation: object, body: object, **properties: object) -> Message | None:
        """Send one request; the reply, if there is one."""
        self._number += 1
        before = len(self.drain.got)
        given = {} if operation is None else {"operation": operation}
        request = Message(
            to="$management",
            durable=False,
            reply_to=self.drain.address,
            correlation_id=self._number,
            application_properties={**given, **properties},
            body=body,
        )
        self.source.send(encode_message(request))
        self.world.settle()
        for _ in range(SLICES):  # a long answer is gathered in slices, with a timer between two of them
            if self.drain.got[before:]:
                break
            self.world.advance(0.01)
        answers = self.drain.got[before:]
        if not answers:
            return None
        (got,) = answers
        self.drain.credit(1)
        reply = decode_message(bytes(got.content))
        assert reply.correlation_id == self._number
        return reply

    def call(self, operation: object, body: object = None, **properties: object) -> Any:
        """Send one request and return the body of the reply.

        Raises:
            ManagementError: the router refuses.
        """
        reply = self.send(operation, {} if body is None else body, **properties)
        assert reply is not None, "no reply"
        status: Any = reply.application_properties["statusCode"]
        if not 200 <= status < 300:
            raise ManagementError(status, str(reply.application_properties["statusDescription"]))
        return reply.body

    def query(self, kind: str, **properties: object) -> list[Mapping[str, Any]]:
        body = self.call("QUERY", {"attributeNames": []}, entityType=kind, **properties)
        return [dict(zip(body["attributeNames"], row, strict=True)) for row in body["results"]]
