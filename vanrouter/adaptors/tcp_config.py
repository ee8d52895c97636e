"""Configuration of TCP services as the adaptor uses it: checked and converted by the schema before.

Layer: 4. Source: TCP over AMQP, section 3; extensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from vanrouter.errors import ConfigError
from vanrouter.net.tls import TlsFiles

CLOSE, REFUSE = "close", "refuse"
"""Values of `whenUnreachable`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerConfig:
    """A tcpListener."""

    name: str
    port: str
    host: str = ""
    address: str | None = None
    strategy: str = "none"
    backlog: int = 0
    observer: str = "auto"
    authenticate_peer: bool = False
    tls: TlsFiles | None = None
    idle_timeout_s: float = 0
    half_close_timeout_s: float = 0
    when_unreachable: str = CLOSE

    def __post_init__(self) -> None:
        if bool(self.address) == (self.strategy != "none"):
            raise ConfigError(
                "tcpListener.address", "Exactly one of address and multiAddressStrategy (not none) must be given"
            )

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], tls: TlsFiles | None = None) -> Self:
        """Take the attributes of the entity, defaults filled in or not.

        Raises:
            ConfigError: the attributes contradict each other.
        """
        return cls(
            name=attributes.get("name") or "",
            host=attributes.get("host") or "",
            port=str(attributes["port"]),
            address=attributes.get("address") or None,
            strategy=attributes.get("multiAddressStrategy") or "none",
            backlog=attributes.get("backlog") or 0,
            observer=attributes.get("observer") or "auto",
            authenticate_peer=bool(attributes.get("authenticatePeer")),
            tls=tls,
            idle_timeout_s=attributes.get("idleTimeoutSeconds") or 0,
            half_close_timeout_s=attributes.get("halfCloseTimeoutSeconds") or 0,
            when_unreachable=attributes.get("whenUnreachable") or CLOSE,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorConfig:
    """A tcpConnector."""

    name: str
    address: str
    port: str
    host: str = "127.0.0.1"
    verify_hostname: bool = True
    tls: TlsFiles | None = None
    weight: int = 1
    connect_timeout_s: float = 5
    idle_timeout_s: float = 0
    half_close_timeout_s: float = 0
    health_check: str = "none"
    health_check_interval_s: float = 5
    healthy_threshold: int = 1
    unhealthy_threshold: int = 3
    process: str = ""
    """Identity of the record of the process that serves (`processId`)."""

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], tls: TlsFiles | None = None) -> Self:
        """Take the attributes of the entity, defaults filled in or not.

        Raises:
            ConfigError: the address is missing.
        """
        if not attributes.get("address"):
            raise ConfigError("tcpConnector.address", "is required")
        verify = attributes.get("verifyHostname")
        return cls(
            name=attributes.get("name") or "",
            address=attributes["address"],
            host=attributes.get("host") or "127.0.0.1",
            port=str(attributes["port"]),
            verify_hostname=verify is not False,
            tls=tls,
            weight=attributes.get("weight") or 1,
            connect_timeout_s=attributes.get("connectTimeoutSeconds") or 5,
            idle_timeout_s=attributes.get("idleTimeoutSeconds") or 0,
            half_close_timeout_s=attributes.get("halfCloseTimeoutSeconds") or 0,
            health_check=attributes.get("healthCheck") or "none",
            health_check_interval_s=attributes.get("healthCheckIntervalSeconds") or 5,
            healthy_threshold=attributes.get("healthyThreshold") or 1,
            unhealthy_threshold=attributes.get("unhealthyThreshold") or 3,
            process=attributes.get("processId") or "",
        )
