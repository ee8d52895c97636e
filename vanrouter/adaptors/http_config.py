"""Configuration of HTTP services as the adaptor uses it: checked and converted by the schema before.

Layer: 4. Source: HTTP over AMQP, section 1; extensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from vanrouter.adaptors.http_exchange import HeadLimits
from vanrouter.net.tls import TlsFiles

CLOSE, ANSWER_503 = "close", "503"
"""Values of `whenUnreachable`."""
SAFE, NONE = "safe", "none"
"""Values of `retry`."""
HTTP1, HTTP2 = "HTTP1", "HTTP2"
"""Values of `protocolVersion`."""
STREAM, MESSAGE = "stream", "message"
"""Values of `form`."""


def _limits(attributes: Mapping[str, Any]) -> HeadLimits:
    return HeadLimits(attributes.get("maxHeaderBytes") or 65536, attributes.get("maxHeaders") or 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpListenerConfig:
    """An httpListener."""

    name: str
    address: str
    port: str
    host: str = ""
    backlog: int = 0
    site_id: str = ""
    protocol: str = HTTP1
    form: str = STREAM
    aggregation: str | None = None
    event_channel: bool = False
    authenticate_peer: bool = False
    tls: TlsFiles | None = None
    when_unreachable: str = CLOSE
    request_timeout_s: float = 0
    limits: HeadLimits = field(default_factory=HeadLimits)
    retry: str = SAFE
    forwarded_headers: bool = False

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], tls: TlsFiles | None = None) -> Self:
        """Take the attributes of the entity, defaults filled in or not."""
        return cls(
            name=attributes.get("name") or "",
            address=attributes["address"],
            host=attributes.get("host") or "",
            port=str(attributes["port"]),
            backlog=attributes.get("backlog") or 0,
            site_id=attributes.get("siteId") or "",
            protocol=attributes.get("protocolVersion") or HTTP1,
            form=attributes.get("form") or STREAM,
            aggregation=attributes.get("aggregation") or None,
            event_channel=bool(attributes.get("eventChannel")),
            authenticate_peer=bool(attributes.get("authenticatePeer")),
            tls=tls,
            when_unreachable=attributes.get("whenUnreachable") or CLOSE,
            request_timeout_s=attributes.get("requestTimeoutSeconds") or 0,
            limits=_limits(attributes),
            retry=attributes.get("retry") or SAFE,
            forwarded_headers=bool(attributes.get("forwardedHeaders")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConnectorConfig:
    """An httpConnector."""

    name: str
    address: str
    port: str
    host: str = "127.0.0.1"
    site_id: str = ""
    protocol: str = HTTP1
    form: str = STREAM
    aggregation: str | None = None
    event_channel: bool = False
    tls: TlsFiles | None = None
    verify_hostname: bool = True
    host_override: str | None = None
    request_timeout_s: float = 0
    limits: HeadLimits = field(default_factory=HeadLimits)
    retry: str = SAFE
    forwarded_headers: bool = False
    connect_timeout_s: float = 5
    health_check: str = "none"
    health_check_interval_s: float = 5
    healthy_threshold: int = 1
    unhealthy_threshold: int = 3

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any], tls: TlsFiles | None = None) -> Self:
        """Take the attributes of the entity, defaults filled in or not."""
        return cls(
            name=attributes.get("name") or "",
            address=attributes["address"],
            host=attributes.get("host") or "127.0.0.1",
            port=str(attributes["port"]),
            site_id=attributes.get("siteId") or "",
            protocol=attributes.get("protocolVersion") or HTTP1,
            form=attributes.get("form") or STREAM,
            aggregation=attributes.get("aggregation") or None,
            event_channel=bool(attributes.get("eventChannel")),
            tls=tls,
            verify_hostname=attributes.get("verifyHostname") is not False,
            host_override=attributes.get("hostOverride") or None,
            request_timeout_s=attributes.get("requestTimeoutSeconds") or 0,
            limits=_limits(attributes),
            retry=attributes.get("retry") or SAFE,
            forwarded_headers=bool(attributes.get("forwardedHeaders")),
        )
