"""A server, a connector to it and a listener for its clients, in one loop."""

from __future__ import annotations

import socket
from typing import Any

from tests.unit.adaptors.streams import Loop, accepted, connected, listening
from vanrouter.adaptors.tcp_config import ConnectorConfig, ListenerConfig
from vanrouter.adaptors.tcp_connector import ConnectorService
from vanrouter.adaptors.tcp_listener import ListenerAddress, ListenerService
from vanrouter.adaptors.tcp_shared import Service, Shared
from vanrouter.core.flows import FlowRecorder


class Services:
    """The TCP services of one router by name, as the composition root holds them by entity."""

    def __init__(self, *shared: Any, **more: Any) -> None:
        self.shared = Shared(*shared, **more)
        self.listeners: dict[str, ListenerService] = {}
        self.connectors: dict[str, ConnectorService] = {}
        self._retired: list[Service] = []

    def create_listener(self, config: ListenerConfig) -> ListenerService:
        service = self.listeners[config.name] = ListenerService(self.shared, config)
        service.start()
        return service

    def create_connector(self, config: ConnectorConfig) -> ConnectorService:
        service = self.connectors[config.name] = ConnectorService(self.shared, config)
        service.start()
        return service

    def add_listener_address(self, listener: str, name: str, address: str, value: int) -> ListenerAddress:
        return self.listeners[listener].add_address(name, address, value)

    def remove_listener_address(self, listener: str, name: str) -> None:
        self.listeners[listener].remove_address(name)

    def delete_listener(self, name: str, *, drop_connections: bool = True) -> None:
        self.listeners[name].delete(drop_connections)
        self._retired.append(self.listeners.pop(name))

    def delete_connector(self, name: str, *, drop_connections: bool = True) -> None:
        self.connectors[name].delete(drop_connections)
        self._retired.append(self.connectors.pop(name))

    def stop_accepting(self) -> None:
        for service in (*self.listeners.values(), *self.connectors.values()):
            service.shut_down()

    def close(self) -> None:
        self.stop_accepting()
        for service in (*self.listeners.values(), *self.connectors.values(), *self._retired):
            service.drop_flows()


class Site:
    def __init__(self, loop: Loop, *, listener: dict[str, Any] | None = None, connector: dict[str, Any] | None = None,
                 max_buffered_bytes: int = 1 << 30, recorder: FlowRecorder | None = None) -> None:  # fmt: skip
        self.loop = loop
        self.router = loop.router
        self.server = listening()
        loop.router.memory.set_limit(max_buffered_bytes)
        self.adaptor = loop.call(lambda: Services(loop.router, recorder=recorder))
        loop.at_end.append(self.adaptor.close)
        self.connector = self.connect_to(self.server, "c", **(connector or {}))
        self.listener = self.listen("l", **(listener or {}))

    def connect_to(self, server: socket.socket, name: str, **more: Any) -> ConnectorService:
        port = str(server.getsockname()[1])
        settings = {"name": name, "address": "svc", "port": port, **more}
        service: ConnectorService = self.loop.call(lambda: self.adaptor.create_connector(ConnectorConfig(**settings)))
        return service

    def listen(self, name: str, **more: Any) -> ListenerService:
        settings = {"name": name, "host": "127.0.0.1", "port": "0", "address": "svc", **more}
        service: ListenerService = self.loop.call(lambda: self.adaptor.create_listener(ListenerConfig(**settings)))
        return service

    @property
    def port(self) -> int:
        assert self.listener.bound_port
        return self.listener.bound_port

    def client(self) -> socket.socket:
        return connected(self.port)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A client and the server's end of its connection."""
        client = self.client()
        return client, accepted(self.server)

    def wait_until_empty(self) -> None:
        self.loop.wait_for(
            lambda: (
                not (self.listener.flows or self.connector.flows or self.connector.waiting or self.adaptor.shared.wheel)
            )
        )
        # Rows: only the permanent one of each connector; addresses: no reply address.
        assert self.loop.call(lambda: len(self.router.connections)) == len(self.adaptor.connectors)
        assert self.loop.call(lambda: [name for name in self.router.subscriptions if "temp" in name]) == []
        assert self.adaptor.shared.memory.kept == 0
        assert not self.adaptor.shared.backlogged
