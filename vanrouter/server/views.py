"""The running router as management sees it: rows of links, addresses, nodes and connections, and live attributes.

Layer: 5. Source: management.md, section 8. Rows are made when they are asked for; nothing is kept for them.
"""

from __future__ import annotations

import resource
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from vanrouter import __version__
from vanrouter.adaptors.amqp_connector import AmqpConnector
from vanrouter.adaptors.http_connector import HttpConnector
from vanrouter.adaptors.http_listener import HttpListener
from vanrouter.adaptors.tcp_connector import ConnectorService
from vanrouter.adaptors.tcp_listener import ListenerAddress, ListenerService
from vanrouter.core.auto_links import AutoLink
from vanrouter.core.connection import Connection
from vanrouter.core.links import LinkKind, Receiver, Sender
from vanrouter.core.peer import Role
from vanrouter.core.router import CONTAINER_ROLES
from vanrouter.core.services import MessageService
from vanrouter.core.stuck import stuck_deliveries, zero_credit_s
from vanrouter.core.table import Address
from vanrouter.engine import proton, trace
from vanrouter.engine.proton import link_credit
from vanrouter.mgmt.entities import Entity
from vanrouter.server.pools import pools
from vanrouter.server.totals import Totals

if TYPE_CHECKING:
    from vanrouter.server.site import Site

PROTOCOL_VERSION = 1


class LiveViews:
    """Read-only views for the agent."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._router = site.router
        self._host_name: str | None = None

    # The protocol of the agent.

    def rows(self, entity_type: str, skip: int = 0) -> Iterable[Mapping[str, object]]:
        """Return the rows of an operational type, without the first ones."""
        if entity_type == "connection":
            return self._rows_connection(skip)
        maker = getattr(self, f"_rows_{entity_type.replace('.', '_')}", None)
        rows: Iterable[Mapping[str, object]] = () if maker is None else maker()
        return islice(rows, skip, None)

    def live(self, entity: Entity) -> Mapping[str, object]:
        """Return what was observed of a configured entity."""
        if entity.type.short == "router":
            return {"version": __version__, "hostName": self._host(), "area": "0"}
        if entity.type.short == "logSink":
            return self._site.options.logs.sink_counts(entity.identity)
        if entity.type.short == "policy":
            return self._policy()
        live = self._site.objects.get(entity)
        if isinstance(live, (ListenerService, ConnectorService, HttpListener, HttpConnector)):
            return live.live_attributes()
        if isinstance(live, ListenerAddress):
            return {"connectionsOpened": live.connections_opened}
        if isinstance(live, AmqpConnector):
            return {"connectionStatus": live.status, "connectionMsg": live.message, "failoverUrls": live.failover_urls}
        if isinstance(live, AutoLink):
            link_id = live.link_id
            return {
                "linkRef": None if link_id is None else str(link_id),
                "operStatus": live.state.value,
                "lastError": live.last_error,
            }
        return {}

    def _policy(self) -> Mapping[str, object]:
        amqp, totals = self._site.amqp, self._site.gate.totals()
        return {
            **totals,
            "connectionsProcessed": amqp.processed,
            "connectionsDenied": amqp.refused,
            "connectionsCurrent": len(amqp.accepted),
            "totalDenials": totals["totalDenials"] + amqp.refused,
        }

    def _rows_vhostStats(self) -> Iterable[Mapping[str, object]]:  # noqa: N802  # named for the entity type
        return self._site.gate.rows()

    def _rows_httpRequestInfo(self) -> Iterable[Mapping[str, object]]:  # noqa: N802  # named for the entity type
        return self._site.http.request_rows()

    def nodes(self) -> list[str]:
        """Return the ids of the known interior routers, self first."""
        if not self._router.is_interior:
            return []
        return [node.id for node in self._router.control.plane.nodes()]

    def log_entries(self, limit: int) -> list[list[object]]:
        """Return the newest events."""
        return self._site.options.logs.entries(limit)

    def _host(self) -> str:
        if self._host_name is None:
            self._host_name = socket.gethostname()
        return self._host_name

    # Rows.

    def _rows_logStats(self) -> Iterable[Mapping[str, object]]:  # noqa: N802  # named for the entity type
        return self._site.options.logs.counts()

    def _rows_allocator(self) -> Iterable[Mapping[str, object]]:
        return [pool.row() for pool in pools(self._site)]

    def _rows_connection(self, skip: int = 0) -> Iterator[Mapping[str, object]]:
        shown = (
            connection
            for connection in list(self._router.connections.values())
            if not isinstance(connection, Connection) or connection.is_opened
        )
        for connection in islice(shown, skip, None):
            if not isinstance(connection, Connection):
                yield connection.management_row()
            elif not connection.is_closed:
                yield connection_row(connection, self._router.reactor.now)

    def _rows_router_link(self) -> Iterator[Mapping[str, object]]:
        now = self._router.reactor.now
        stuck = stuck_deliveries(self._router, now)
        for link in list(self._router.links.values()):
            if not link.closed and not link.connection.engine.lost:
                yield link_row(link, now, stuck[link], self._site.rates.rate(link))

    def _rows_router_address(self) -> Iterator[Mapping[str, object]]:
        for address in list(self._router.table.addresses.values()):
            yield address_row(address)

    def _rows_router_node(self) -> Iterator[Mapping[str, object]]:
        if not self._router.is_interior:
            return
        control = self._router.control
        for index, node in enumerate(control.plane.nodes()):
            is_self = node.id == self._router.router_id
            connection = None if node.connection_id is None else self._router.connections.get(node.connection_id)
            out = getattr(connection, "control_out", None)
            yield {
                "identity": f"router.node/{node.id}",
                "name": f"router.node/{node.id}",
                "id": node.id,
                "protocolVersion": PROTOCOL_VERSION,
                "instance": node.instance or 0,
                "linkState": list(node.neighbours),
                "nextHop": "(self)" if is_self else None if node.is_neighbour else node.next_hop,
                "validOrigins": [] if is_self else list(node.valid_origins),
                "address": f"amqp:/_topo/0/{node.id}",
                "routerLink": out.id if node.is_neighbour and out is not None else None,
                "cost": None if is_self else node.cost,
                "lastTopoChange": int(control.last_topology_change) if is_self else None,
                "index": index,
                "ageSeconds": None if node.heard_at is None else int(self._router.reactor.now - node.heard_at),
                "linkCosts": dict(node.peers),
                "linkStateSequence": node.ls_seq,
                "mobileSequence": node.mobile_seq,
                "addressCount": node.address_count,
            }

    def _rows_routingProtocol(self) -> Iterator[Mapping[str, object]]:  # noqa: N802  # named for the entity type
        if not self._router.is_interior:
            return
        plane = self._router.control.plane
        counters = plane.counters
        yield {
            "identity": "1",
            "name": "routingProtocol",
            "sent": dict(counters.sent),
            "received": dict(counters.received),
            "ignored": dict(counters.ignored),
            "malformed": dict(counters.malformed),
            "repeatedFloods": counters.repeated,
            "pathComputations": counters.path_computations,
            "restartsSeen": counters.restarts_seen,
            "neighboursHeld": counters.held_neighbours,
            "forgedIds": counters.forged,
            "oversizedUpdates": counters.oversized_updates,
            "routersRefused": plane.routers_refused,
            "messagesWithheld": self._router.control.withheld,
        }

    def _rows_routerMetrics(self) -> Iterator[Mapping[str, object]]:  # noqa: N802  # named for the entity type
        totals = Totals(self._router)
        deque(totals.gather(), maxlen=0)
        yield self.router_metrics(totals)

    def router_metrics(self, sums: Totals) -> dict[str, Any]:
        """Return the row of routerMetrics, given the sums."""
        router = self._router
        totals = sums.counts
        size, resident = memory()
        return {
            "identity": "1",
            "id": router.router_id,
            "version": __version__,
            "addrCount": len(router.table.addresses),
            "linkCount": len(router.links),
            "nodeCount": len(router.nodes),
            "autoLinkCount": len(router.auto_links),
            "connectionCount": len(router.connections),
            "presettledDeliveries": totals.get("presettled", 0),
            "droppedPresettledDeliveries": totals.get("dropped_presettled", 0),
            "acceptedDeliveries": totals.get("accepted", 0),
            "rejectedDeliveries": totals.get("rejected", 0),
            "releasedDeliveries": totals.get("released", 0),
            "modifiedDeliveries": totals.get("modified", 0),
            "deliveriesDelayed1Sec": totals.get("delayed_1s", 0),
            "deliveriesDelayed10Sec": totals.get("delayed_10s", 0),
            "deliveriesStuck": sums.stuck,
            "deliveriesIngress": sums.ingress,
            "deliveriesEgress": sums.egress,
            "deliveriesTransit": sums.transit,
            "deliveriesIngressRouteContainer": totals.get("in route-container", 0),
            "deliveriesEgressRouteContainer": totals.get("out route-container", 0),
            "deliveriesIngressInterNetwork": totals.get("in inter-network", 0),
            "deliveriesEgressInterNetwork": totals.get("out inter-network", 0),
            "deliveriesRedirectedToFallback": 0,
            "linksBlocked": sums.blocked,
            "uptimeSeconds": int(router.reactor.now - self._site.started_at),
            "memoryUsage": size,
            "residentMemoryUsage": resident,
            "connectionCounters": sums.services,
            **self._refused(),
        }

    def _refused(self) -> dict[str, int]:
        """Return what the router's own limits have refused (extensions)."""
        return {
            "connectionsRefused": self._site.amqp.refused,
            "handshakesRefused": self._site.amqp.handshakes_refused,
            "sessionsRefused": self._router.sessions_refused,
            "linksRefused": self._router.links_refused,
            "flowsEndedForMemory": self._site.router.memory.ended,
            "bufferedBytes": self._site.router.memory.held,
        }


def memory() -> tuple[int | None, int | None]:
    """Return virtual and resident size in bytes."""
    try:
        with open("/proc/self/statm") as file:
            pages = file.read().split()
    except OSError:
        return None, None
    return int(pages[0]) * resource.getpagesize(), int(pages[1]) * resource.getpagesize()


def connection_row(connection: Connection, now: float) -> dict[str, Any]:
    """Return the row of an AMQP connection."""
    security = connection.security
    edge = connection.router.edge
    user = None if security is None else security.user
    properties: dict[str, Any] = {}
    for key, value in connection.peer.properties.items():
        if not isinstance(value, (str, int)) or isinstance(value, bool):
            break
        properties[key] = value
    last = connection.last_delivery_at
    ordinal = (
        None if connection.settings is None or connection.settings.tls is None else connection.settings.tls.ordinal
    )
    return {
        "identity": str(connection.id),
        "name": f"connection/{connection.host}",
        "host": connection.host,
        "localSocket": None,
        "role": connection.role.value,
        "protocol": "amqp",
        "dir": "out" if connection.is_outbound else "in",
        "container": connection.peer.container,
        "sasl": None if security is None else security.mechanism,
        "isAuthenticated": security is not None and security.is_authenticated,
        "user": user or "anonymous",
        "isEncrypted": security is not None and security.is_encrypted,
        "sslProto": None if security is None else security.tls_protocol,
        "sslCipher": None if security is None else security.tls_cipher,
        "properties": properties,
        "sslSsf": None if security is None or not security.is_encrypted else 256,
        "ssl": security is not None and security.is_encrypted,
        "opened": connection.is_opened,
        "active": edge is None or edge.is_active(connection),
        "adminStatus": "enabled",
        "operStatus": "closing" if connection.engine.closing else "up",
        "uptimeSeconds": int(now - connection.opened_at),
        "lastDlvSeconds": None if last is None else int(now - last),
        "enableProtocolTrace": trace.is_traced(connection.engine.transport),
        "meshId": connection.mesh_id,
        "tlsOrdinal": ordinal,
        "groupCorrelationId": connection.correlator or connection.peer.correlator,
        "groupOrdinal": connection.ordinal or connection.peer.ordinal,
    }


def link_row(link: Receiver | Sender, now: float, stuck: int, rate: int) -> dict[str, Any]:
    """Return the row of a link. `rate`: settlements a second."""
    is_out = isinstance(link, Sender)
    kind = link.kind.value.strip()
    if link.kind is LinkKind.STREAM and link.connection.role is not Role.INTER_ROUTER:
        kind = "endpoint"  # as the C router shows them, and tools count them
    return {
        "identity": str(link.id),
        "name": link.name,
        "linkName": link.name,
        "linkType": kind,
        "linkDir": "out" if is_out else "in",
        "owningAddr": owning_address(link),
        "capacity": link.capacity,
        "undeliveredCount": len(link.queue) if isinstance(link, Sender) else 0,
        "unsettledCount": link.unsettled,
        "deliveryCount": link.deliveries,
        "connectionId": str(link.connection.id),
        "operStatus": "up",
        "adminStatus": "enabled",
        "presettledCount": link.presettled,
        "droppedPresettledCount": link.dropped_presettled,
        "acceptedCount": link.accepted,
        "rejectedCount": link.rejected,
        "releasedCount": link.released,
        "modifiedCount": link.modified,
        "deliveriesDelayed1Sec": link.delayed_1s,
        "deliveriesDelayed10Sec": link.delayed_10s,
        "deliveriesStuck": stuck,
        "openMovedStreams": link.moved_streams if isinstance(link, Sender) else 0,
        "ingressHistogram": None,
        "priority": link.priority,
        "settleRate": rate,
        "creditAvailable": max(0, link_credit(link.pn)),
        "zeroCreditSeconds": int(zero_credit_s(link, now)),
    }


def owning_address(link: Receiver | Sender) -> str | None:
    """Return the key of the address that a link is bound to."""
    if link.kind is LinkKind.CONTROL and isinstance(link, Sender):
        return "Lqdhello"
    if link.address is not None:
        return link.address.key
    if isinstance(link, Sender) and link.connection.role is Role.EDGE:
        # What an edge asks of the protocol itself, such as the tracking of addresses: no address of the table.
        text = proton.text(proton.terminus_get_address(proton.link_remote_source(link.pn)))
        return f"M{text}" if text is not None and text in link.connection.router.internal_sources else None
    return None


WORDS = ("flood", "multicast", "closest", "balanced", "unavailable", "balanced")


def address_row(address: Address) -> dict[str, Any]:
    """Return the row of an address."""
    messages = sum(isinstance(service, MessageService) for service in address.services)
    container = dict(address.container_counts)
    links: list[Receiver | Sender] = [*address.producers, *address.consumers]
    for link in links:
        role = link.connection.role
        if role in CONTAINER_ROLES:
            name = f"{'in' if isinstance(link, Receiver) else 'out'} {role.value}"
            container[name] = container.get(name, 0) + link.deliveries
    return {
        "identity": address.key,
        "name": address.key,
        "key": address.key,
        "distribution": WORDS[address.treatment],
        "inProcess": messages,
        "subscriberCount": len(address.consumers) + len(address.services) - messages,
        "remoteCount": len(address.remotes),
        "containerCount": None,
        "remoteHostRouters": list(address.remotes),
        "deliveriesIngress": address.deliveries_ingress,
        "deliveriesEgress": address.deliveries_egress,
        "deliveriesTransit": address.deliveries_transit,
        "deliveriesToContainer": address.deliveries_to_container,
        "deliveriesFromContainer": address.deliveries_from_container,
        "deliveriesEgressRouteContainer": container.get("out route-container", 0),
        "deliveriesIngressRouteContainer": container.get("in route-container", 0),
        "deliveriesEgressInterNetwork": container.get("out inter-network", 0),
        "deliveriesIngressInterNetwork": container.get("in inter-network", 0),
        "transitOutstanding": None,
        "trackedDeliveries": address.tracked,
        "priority": -1 if address.priority is None else address.priority,
        "deliveriesRedirectedToFallback": 0,
        "watch": bool(address.watches),
    }
