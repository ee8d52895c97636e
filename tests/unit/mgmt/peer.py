"""A router of Proton's own classes that has nothing but a management node: the other end for the management client."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Any, Self

from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container

from tests.unit.mgmt.fakes import Managed
from vanrouter.mgmt.agent import Reply, Request


class Peer(MessagingHandler):  # type: ignore[misc] # Proton has no types
    """Answers on a port of the loopback address until its one connection has ended."""

    def __init__(self, managed: Managed) -> None:
        super().__init__(auto_accept=False)
        self.managed = managed
        self.requests: list[dict[str, Any]] = []
        self.addresses: list[str] = []
        self.port = 0
        self.has_status = True
        self._ready = threading.Event()
        self._senders: dict[str, Any] = {}
        self._acceptor: Any = None
        self._thread = threading.Thread(target=Container(self).run, name="peer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive() or error is not None, "the client left its connection open"

    def on_start(self, event: Any) -> None:
        self._acceptor = event.container.listen("127.0.0.1:0")
        listening = socket.socket(fileno=self._acceptor._selectable.fileno())
        self.port = listening.getsockname()[1]
        listening.detach()
        self._ready.set()

    def on_link_opening(self, event: Any) -> None:
        link = event.link
        if link.is_sender and link.remote_source.dynamic:
            address = f"amqp:/_topo/0/A/temp.{len(self._senders)}"
            link.source.address = address
            self._senders[address] = link

    def on_message(self, event: Any) -> None:
        message = event.message
        self.addresses.append(message.address)
        if "nosuch" in message.address:
            self.release(event.delivery, delivered=False)
            return
        if "refused" in message.address:
            self.reject(event.delivery)
            return
        self.accept(event.delivery)
        properties = {str(key): value for key, value in message.properties.items()}
        self.requests.append(properties)
        later: list[Reply] = []
        reply = self.managed.agent.handle(Request.of(properties, message.body), later.append) or later[0]
        answer = Message(
            address=message.reply_to,
            correlation_id=message.correlation_id,
            properties={"statusCode": reply.status, "statusDescription": reply.description} if self.has_status else {},
            body=reply.body,
        )
        self._senders[message.reply_to].send(answer)

    def on_connection_closed(self, event: Any) -> None:
        self._acceptor.close()
