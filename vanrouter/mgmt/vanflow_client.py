"""A collector of records on Proton's own Python classes, for `van top` and for tests. Layer: 2.

Source: vanflow, sections 1 to 3. It is attached to one router and hears of all of the network. Proton's container runs
in a thread of its own and owns the picture; others look at it with `with collector.picture() as picture`. The daemon
never imports this module.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container

from vanrouter.mgmt.client import DEFAULT_TIMEOUT_S, ClientError, Credentials, parsed_url, tls_domain
from vanrouter.mgmt.vanflow import FLUSH
from vanrouter.mgmt.vanflow_picture import FIRST_SUBSCRIPTION, AskAll, Command, Picture, Subscribe, Unsubscribe

CREDIT = 256
"""Messages that a router may send on each subscription before we have taken them (section 11)."""
TIMER_S = 1.0
STOP_TIMEOUT_S = 2.0
NO_CREDENTIALS = Credentials()


class Collector:
    """A connection to one router, through which the records of the whole network come.

    Args:
        url: as for `ManagementClient`.
        timeout_s: for the connection.
        credentials: TLS and SASL.
        wants_logs: subscribe to log events, too.

    Raises:
        ClientError: there is no connection; the text says why.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        credentials: Credentials = NO_CREDENTIALS,
        wants_logs: bool = False,
    ) -> None:
        shown, address, in_url, has_tls = parsed_url(url)
        user, password = in_url if in_url[0] is not None else (credentials.user, credentials.password)
        self._picture = Picture(wants_logs=wants_logs)
        self._lock = threading.Lock()
        self._opened = threading.Event()
        options = {
            "ssl_domain": tls_domain(credentials) if has_tls else None,
            "sasl_enabled": credentials.wants_sasl or user is not None,
            "allowed_mechs": credentials.mechanisms,
            "user": user,
            "password": password,
            "reconnect": False,
        }
        self._handler = _Handler(address, options, self._picture, self._lock, self._opened)
        self._container = Container(self._handler)
        self._thread = threading.Thread(target=self._container.run, name="collector", daemon=True)
        self._thread.start()
        if not self._opened.wait(timeout_s):
            self._handler.is_stopping = True
            raise ClientError(f"{shown}: no answer within {timeout_s:g} s")
        if self._handler.failure is not None:
            raise ClientError(f"{shown}: {self._handler.failure}")
        self._shown = shown

    @contextmanager
    def picture(self) -> Iterator[Picture]:
        """Look at what is known while nothing changes.

        Raises:
            ClientError: the connection was lost.
        """
        if self._handler.failure is not None:
            raise ClientError(f"{self._shown}: {self._handler.failure}")
        with self._lock:
            yield self._picture

    def wait_for(self, condition: Callable[[Picture], Any], timeout_s: float) -> Any:
        """Look again and again until something is known; returns what `condition` found, or None in the end."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self.picture() as picture:
                found = condition(picture)
            if found or time.monotonic() > deadline:
                return found or None
            self._handler.changed.wait(0.2)
            self._handler.changed.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; harmless when it is gone."""
        self._handler.is_stopping = True
        self._thread.join(STOP_TIMEOUT_S)


class _Handler(MessagingHandler):  # type: ignore[misc]  # Proton has no types
    """Runs in the collector's thread."""

    def __init__(
        self,
        address: str,
        options: dict[str, Any],
        picture: Picture,
        lock: threading.Lock,
        opened: threading.Event,
    ) -> None:
        super().__init__(prefetch=CREDIT)
        self._address = address
        self._options = options
        self._picture = picture
        self._lock = lock
        self._opened = opened
        self.changed = threading.Event()
        self.failure: str | None = None
        self.is_stopping = False
        self._container: Any = None
        self._connection: Any = None
        self._receivers: dict[str, Any] = {}
        self._addresses: dict[Any, str] = {}
        self._senders: dict[str, Any] = {}
        self._asks: set[str] = set()
        self._timer_at_s = 0.0

    def on_start(self, event: Any) -> None:
        """Connect."""
        self._container = event.container
        self._connection = event.container.connect(self._address, handler=self, **self._options)
        event.container.schedule(0.1, self)

    def on_connection_opened(self, _event: Any) -> None:
        """The router has answered."""
        self._do([FIRST_SUBSCRIPTION])
        self._opened.set()

    def on_transport_error(self, event: Any) -> None:
        """There is no connection, or none any more."""
        self._failed(_reason(event, "connection lost"))

    def on_connection_error(self, event: Any) -> None:
        """The router has closed the connection."""
        condition = event.connection.remote_condition
        self._failed("closed by the router" if condition is None else condition.description or condition.name)

    def on_connection_closed(self, _event: Any) -> None:
        """The connection is over."""
        if not self.is_stopping:
            self._failed("closed by the router")

    def on_disconnected(self, event: Any) -> None:
        """The socket is gone, or there never was one."""
        if not self.is_stopping:
            self._failed(_reason(event, "connection lost"))

    def _failed(self, reason: str) -> None:
        self.failure = self.failure or reason
        self._opened.set()
        self.changed.set()
        if self._connection is not None:
            self._connection.close()

    def on_timer_task(self, event: Any) -> None:
        """Look whether we are to end; let time pass for the picture."""
        if self.is_stopping or self.failure is not None:
            self._connection.close()
            event.container.stop()
            return
        now_s = time.time()
        if now_s - self._timer_at_s >= TIMER_S:
            self._timer_at_s = now_s
            with self._lock:
                commands = self._picture.on_timer(now_s)
            self._do(commands)
        event.container.schedule(0.1, self)

    def on_message(self, event: Any) -> None:
        """A message of a source."""
        message = event.message
        address = self._addresses.get(event.receiver)
        if address is None:
            return
        with self._lock:
            commands = self._picture.on_message(
                address, message.subject, message.properties, message.body, message.id, time.time()
            )
        self._do(commands)
        self.changed.set()

    def on_sendable(self, event: Any) -> None:
        """A source takes what it was to be asked."""
        address = event.sender.target.address
        if address in self._asks:
            self._asks.discard(address)
            event.sender.send(Message(address=address, subject=FLUSH))

    def _do(self, commands: Sequence[Command]) -> None:
        for command in commands:
            address = command.address
            if isinstance(command, Subscribe):
                receiver = self._container.create_receiver(self._connection, address)
                self._receivers[address] = receiver
                self._addresses[receiver] = address
            elif isinstance(command, AskAll):
                sender = self._senders.get(address)
                self._asks.add(address)
                if sender is None:
                    self._senders[address] = self._container.create_sender(self._connection, address)
                elif sender.credit:
                    self._asks.discard(address)
                    sender.send(Message(address=address, subject=FLUSH))
            elif isinstance(command, Unsubscribe):
                receiver = self._receivers.pop(address, None)
                if receiver is not None:
                    self._addresses.pop(receiver, None)
                    receiver.close()


def _reason(event: Any, otherwise: str) -> str:
    condition = None if event.transport is None else event.transport.condition
    return otherwise if condition is None else str(condition.description or condition.name)
