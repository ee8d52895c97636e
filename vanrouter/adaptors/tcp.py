"""The TCP adaptor: what the composition root creates and deletes.

Layer: 4. Source: TCP over AMQP, sections 3 and 4; management, section on effects of changes.
"""

from __future__ import annotations

from vanrouter.adaptors.tcp_config import ConnectorConfig, ListenerConfig
from vanrouter.adaptors.tcp_connector import ConnectorService
from vanrouter.adaptors.tcp_listener import ListenerAddress, ListenerService
from vanrouter.adaptors.tcp_shared import DEFAULT_MAX_BUFFERED_BYTES, Service, Shared, StreamRouter
from vanrouter.core.flows import FlowRecorder
from vanrouter.errors import ConfigError
from vanrouter.net.tls import TlsFiles

__all__ = ["ConnectorConfig", "ListenerConfig", "TcpAdaptor", "TlsFiles"]


class TcpAdaptor:
    """All TCP services of one router.

    Args:
        router: the core.
        tenant: `network.tenantId`; stands in front of the addresses of streams (section 5.4). Watches and subscriptions
            get addresses without it: the core adds it.
        max_buffered_bytes: octets kept for sockets that take no more, of all flows (`router.maxBufferedBytes`).
        recorder: told of services and flows; None: nobody.
    """

    def __init__(
        self,
        router: StreamRouter,
        *,
        tenant: str | None = None,
        max_buffered_bytes: int = DEFAULT_MAX_BUFFERED_BYTES,
        recorder: FlowRecorder | None = None,
    ) -> None:
        self.shared = Shared(router, max_buffered_bytes, tenant, recorder)
        self.listeners: dict[str, ListenerService] = {}
        self.connectors: dict[str, ConnectorService] = {}
        self._retired: list[Service] = []

    def create_listener(self, config: ListenerConfig) -> ListenerService:
        """Create and start a tcpListener.

        Raises:
            ConfigError: the name is taken, or its TLS files are wrong.
        """
        if config.name in self.listeners:
            raise ConfigError("tcpListener.name", f"{config.name} exists already")
        service = ListenerService(self.shared, config)
        self.listeners[config.name] = service
        service.start()
        return service

    def create_connector(self, config: ConnectorConfig) -> ConnectorService:
        """Create and start a tcpConnector.

        Raises:
            ConfigError: the name is taken, or its TLS files are wrong.
        """
        if config.name in self.connectors:
            raise ConfigError("tcpConnector.name", f"{config.name} exists already")
        service = ConnectorService(self.shared, config)
        self.connectors[config.name] = service
        service.start()
        return service

    def add_listener_address(self, listener: str, name: str, address: str, value: int) -> ListenerAddress:
        """Create a listenerAddress.

        Raises:
            ConfigError: no such listener, or not one for several addresses; a weight that is not positive.
        """
        service = self.listeners.get(listener)
        if service is None:
            raise ConfigError("listenerAddress.listener", f"there is no tcpListener named {listener}")
        if service.config.strategy == "none":
            raise ConfigError("listenerAddress.listener", f"{listener} has multiAddressStrategy none")
        if service.config.strategy == "weighted" and value < 1:
            raise ConfigError("listenerAddress.value", "a weight is at least 1")
        return service.add_address(name, address, value)

    def remove_listener_address(self, listener: str, name: str) -> None:
        """Delete a listenerAddress; flows stay."""
        self.listeners[listener].remove_address(name)

    def delete_listener(self, name: str, *, drop_connections: bool = True) -> None:
        """Delete a tcpListener.

        Raises:
            ConfigError: it still has addresses.
        """
        self.listeners[name].delete(drop_connections)
        self._retire(self.listeners.pop(name))

    def delete_connector(self, name: str, *, drop_connections: bool = True) -> None:
        """Delete a tcpConnector."""
        self.connectors[name].delete(drop_connections)
        self._retire(self.connectors.pop(name))

    def _retire(self, service: Service) -> None:
        """Remember a deleted service while its flows run to their end."""
        self._retired = [entry for entry in (*self._retired, service) if entry.has_flows]

    def _services(self) -> list[Service]:
        return [*self.listeners.values(), *self.connectors.values(), *self._retired]

    @property
    def open_flows(self) -> int:
        """Connections open now, those of deleted services included."""
        return sum(len(service.flows) for service in self._services())

    def stop_accepting(self) -> None:
        """Take no new flows; those that are open run on (drain)."""
        for listener in self.listeners.values():
            listener.shut_down()
        for connector in self.connectors.values():
            connector.shut_down()

    def close(self) -> None:
        """End everything."""
        self.stop_accepting()
        for service in self._services():
            service.drop_flows()
