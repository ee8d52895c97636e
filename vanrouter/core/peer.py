"""Roles of connections, and what a peer said of itself in its OPEN.

Layer: 3. Source: router protocol, sections 1.1, 1.3 and 1.4; extensions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from vanrouter.engine import proton
from vanrouter.engine.sections import Array, Symbol, decode, encode
from vanrouter.errors import PeerError

CAPABILITIES = ("ANONYMOUS-RELAY", "qd.streaming-links", "qd.connection_trunking")
"""Offered and desired on every connection, in this order (section 1.3)."""
INTER_EDGE_CAPABILITY = "qd.router-inter-edge"
VANROUTER_CAPABILITY = "vanrouter"

ANNOTATIONS_VERSION = 2
CORRELATOR_LENGTH = 15


class Role(Enum):
    """Roles; the values are the words of the configuration (section 1.1)."""

    NORMAL = "normal"
    INTER_ROUTER = "inter-router"
    ROUTE_CONTAINER = "route-container"
    EDGE = "edge"
    INTER_ROUTER_DATA = "inter-router-data"
    INTER_EDGE = "inter-edge"
    INTER_NETWORK = "inter-network"

    @property
    def is_router(self) -> bool:
        """Messages carry router annotations."""
        return self not in APPLICATION_ROLES

    @property
    def is_trusted(self) -> bool:
        """The peer is a router of this network, which answers for what it lets in."""
        return self.is_router and self is not Role.INTER_NETWORK


APPLICATION_ROLES = (Role.NORMAL, Role.ROUTE_CONTAINER)
EDGE, INTER_NETWORK = Role.EDGE, Role.INTER_NETWORK
"""Bound once for what runs for each delivery (see `table`)."""

INTER_ROUTER_DATA_CODE = 4
"""Value of `qd.inter-router-role`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What a peer's OPEN says; the defaults stand for a peer that has not opened."""

    container: str = ""
    hostname: str | None = None
    offers_streaming_links: bool = False
    offers_trunking: bool = False
    is_vanrouter: bool = False
    properties: dict[str, Any] = field(default_factory=dict)
    """Entries up to the first key that is not a symbol; values decoded."""
    cost: int = 1
    correlator: str = ""
    ordinal: int = 0
    is_data_connection: bool = False
    failover: tuple[dict[str, Any], ...] | None = None

    @staticmethod
    def read(connection: Any) -> Peer:
        """Read the OPEN of an engine's connection. What cannot be decoded is as if it were absent."""
        offered = read_symbols(proton.connection_remote_offered_capabilities(connection))
        properties: dict[str, Any] = {}
        value = read_value(proton.connection_remote_properties(connection))
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, Symbol):
                    break
                properties[str(key)] = item
        cost = _number(properties.get("qd.inter-router-cost"))
        role = _number(properties.get("qd.inter-router-role"))
        ordinal = _number(properties.get("qd.group-ordinal"))
        correlator = properties.get("qd.group-correlator")
        failover = properties.get("failover-server-list")
        return Peer(
            container=proton.text(proton.connection_remote_container(connection)) or "",
            hostname=proton.text(proton.connection_remote_hostname(connection)),
            offers_streaming_links="qd.streaming-links" in offered,
            offers_trunking="qd.connection_trunking" in offered,
            is_vanrouter=VANROUTER_CAPABILITY in offered,
            properties=properties,
            cost=max(1, cost or 1),
            correlator=correlator[:CORRELATOR_LENGTH] if type(correlator) is str else "",
            ordinal=ordinal or 0,
            is_data_connection=role == INTER_ROUTER_DATA_CODE,
            failover=tuple(entry for entry in failover if isinstance(entry, dict))
            if isinstance(failover, list)
            else None,
        )


def _number(value: object) -> int | None:
    """Return a number of any AMQP integer type. The C router wants exactly the type of section 1.4; we are tolerant."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_value(data: Any) -> object:
    """Decode an engine's data object; None when it is empty or cannot be decoded."""
    octets = proton.get_encoded(data)
    if not octets:
        return None
    try:
        return decode(octets)[0]
    except PeerError:
        return None


def read_symbols(data: Any) -> frozenset[str]:
    """Read one symbol or an array of them: capabilities."""
    value = read_value(data)
    if isinstance(value, Symbol):
        return frozenset((str(value),))
    if isinstance(value, list):
        return frozenset(str(item) for item in value if isinstance(item, Symbol))
    return frozenset()


def put_symbols(data: Any, symbols: tuple[str, ...]) -> None:
    """Write capabilities as an array of symbols."""
    proton.put_encoded(data, encode(Array(Symbol, [Symbol(symbol) for symbol in symbols])))


def write_open(connection: Any, *, capabilities: tuple[str, ...], properties: dict[str, Any]) -> None:
    """Fill capabilities and properties of our OPEN. Property keys become symbols."""
    put_symbols(proton.connection_offered_capabilities(connection), capabilities)
    put_symbols(proton.connection_desired_capabilities(connection), capabilities)
    proton.put_encoded(
        proton.connection_properties(connection), encode({Symbol(key): value for key, value in properties.items()})
    )
