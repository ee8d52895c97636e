"""HTTP services of a site: from entities to listeners and connectors, and what they have counted.

Layer: 5. Source: HTTP over AMQP, sections 1 and 4; management.md, section 11.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from vanrouter.adaptors.http_config import HttpConnectorConfig, HttpListenerConfig
from vanrouter.adaptors.http_connector import HttpConnector
from vanrouter.adaptors.http_listener import HttpListener
from vanrouter.adaptors.http_shared import Shared
from vanrouter.core.flows import FlowRecorder
from vanrouter.core.router import Router
from vanrouter.errors import ConfigError
from vanrouter.mgmt.entities import Entity
from vanrouter.net.tls import TlsFiles
from vanrouter.server.settings import given_name

logger = logging.getLogger("vanrouter.adaptors.http")

HttpService = HttpListener | HttpConnector


class HttpServices:
    """All HTTP services of one router."""

    def __init__(self, router: Router, recorder: FlowRecorder | None = None) -> None:
        self.shared = Shared(router, router.space.tenant_id, recorder)
        self.services: list[HttpService] = []

    def bring_up(self, entity: Entity, tls: TlsFiles | None) -> HttpService:
        """Create and start what an entity describes.

        Raises:
            ConfigError: its attributes contradict each other, or its TLS files are wrong.
        """
        attributes = {**entity.attributes, "name": given_name(entity)}
        check(entity.type.short, attributes)
        service: HttpService
        if entity.type.short == "httpListener":
            service = HttpListener(self.shared, HttpListenerConfig.from_attributes(attributes, tls))
        else:
            service = HttpConnector(self.shared, HttpConnectorConfig.from_attributes(attributes, tls))
        endpoint = f"{entity.text('host')}:{entity.text('port')}"
        logger.info("Configured %s for %s, %s", title(service), entity.text("address"), endpoint)
        service.start()
        self.services.append(service)
        return service

    def delete(self, service: HttpService, *, drop_connections: bool) -> None:
        """Take a service down."""
        service.delete(drop_connections)
        self.services.remove(service)
        logger.info("Deleted %s for %s", title(service), service.counts.address)

    def request_rows(self) -> Iterator[Mapping[str, object]]:
        """Return the rows of `httpRequestInfo`; services of one address and peer share theirs."""
        found: dict[str, dict[str, Any]] = {}
        for service in self.services:
            for row in service.counts.rows():
                known = found.setdefault(row["name"], row)
                if known is not row:
                    _add(known, row)
        yield from found.values()


def title(service: HttpService) -> str:
    """Return the name of a service's type as logs have it."""
    return service.entity_type[0].upper() + service.entity_type[1:]


def check(kind: str, attributes: Mapping[str, Any]) -> None:
    """Refuse attributes that contradict each other.

    Raises:
        ConfigError: naming the attribute.
    """
    is_message = attributes.get("form") == "message"
    for name in ("aggregation", "eventChannel"):
        if attributes.get(name) and not is_message:
            raise ConfigError(f"{kind}.{name}", "needs form: message")
        if attributes.get(name) and attributes.get("protocolVersion") == "HTTP2":
            raise ConfigError(f"{kind}.{name}", "needs protocolVersion: HTTP1")


def _add(row: dict[str, Any], other: Mapping[str, Any]) -> None:
    for name in ("requests", "bytesIn", "bytesOut"):
        row[name] += other[name]
    row["maxLatency"] = max(row["maxLatency"], other["maxLatency"])
    for detail, count in other["details"].items():
        row["details"][detail] = row["details"].get(detail, 0) + count
