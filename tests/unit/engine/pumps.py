"""Two pumps on a socket pair, with handlers that note what they are told."""

from __future__ import annotations

import socket
from typing import Any

from vanrouter.engine import proton
from vanrouter.engine.connection import EngineConnection
from vanrouter.net.reactor import Reactor


class Notes:
    """A handler."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.lost: list[tuple[str, str] | None] = []
        self.pointers: list[Any] = []
        self.engine: EngineConnection | None = None

    def _note(self, name: str, pointer: Any = None) -> None:
        self.events.append(name)
        self.pointers.append(pointer)

    def on_remote_open(self) -> None:
        self._note("open")

    def on_remote_close(self) -> None:
        self._note("close")
        assert self.engine is not None
        self.engine.close()

    def on_session_open(self, session: Any) -> None:
        self._note("session open", session)

    def on_session_close(self, session: Any) -> None:
        self._note("session close", session)

    def on_link_open(self, link: Any) -> None:
        self._note("link open", link)

    def on_link_close(self, link: Any, closed: bool) -> None:
        self._note(f"link close {closed}", link)

    def on_delivery(self, delivery: Any) -> None:
        self._note("delivery", delivery)

    def on_flow(self, link: Any) -> None:
        self._note("flow", link)

    def before_flush(self) -> None: ...

    def on_sent(self) -> None:
        self._note("sent")

    def on_writable(self) -> None: ...

    def on_lost(self, condition: tuple[str, str] | None) -> None:
        self.lost.append(condition)


class Pumps:
    """Client and server."""

    def __init__(self) -> None:
        self.time = 100.0
        self.reactor = Reactor(lambda: self.time)
        self.sockets = socket.socketpair()
        self.client, self.server = Notes(), Notes()
        for side, handler in enumerate((self.client, self.server)):
            sock = self.sockets[side]
            sock.setblocking(False)
            handler.engine = EngineConnection(self.reactor, sock, handler, is_server=side == 1)
            proton.connection_set_container(handler.engine.connection, b"x")

    @property
    def near(self) -> EngineConnection:
        assert self.client.engine is not None
        return self.client.engine

    @property
    def far(self) -> EngineConnection:
        assert self.server.engine is not None
        return self.server.engine

    def start(self) -> None:
        for engine in (self.near, self.far):
            proton.connection_open(engine.connection)
            engine.start()
        self.settle()

    def settle(self) -> None:
        reactor = self.reactor
        for _ in range(10_000):
            if not (reactor.dirty or reactor._held or reactor._soon or reactor._poller.poll(0)):
                return
            reactor.run_once(0)
        raise AssertionError("it never comes to rest")

    def advance(self, seconds: float) -> None:
        for _ in range(int(seconds * 10)):
            self.time += 0.1
            self.reactor.run_once(0)
            self.settle()

    def close(self) -> None:
        for engine in (self.near, self.far):
            engine.drop()
        self.settle()
        self.reactor.close()
