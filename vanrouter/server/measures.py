"""The running router as `/metrics` shows it: families made from the records that are there, some links at a time.

Layer: 5. Nothing is counted for this page alone: each number is read where its room keeps it. The generator yields
pieces of families, or None where only time has passed; between any two the loop may serve others. What is shown
together may therefore have been read a few turns apart.
"""

from __future__ import annotations

import platform
import resource
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import chain
from typing import TYPE_CHECKING

from vanrouter import __version__
from vanrouter.adaptors.amqp import AmqpListener
from vanrouter.adaptors.amqp_connector import AmqpConnector
from vanrouter.adaptors.http_connector import HttpConnector
from vanrouter.adaptors.http_listener import HttpListener
from vanrouter.adaptors.tcp_connector import ConnectorService
from vanrouter.adaptors.tcp_listener import ListenerService
from vanrouter.core.connection import Connection
from vanrouter.mgmt import series
from vanrouter.mgmt.entities import Entity
from vanrouter.mgmt.metrics import Families, families, family, histogram
from vanrouter.server.pools import pools
from vanrouter.server.readiness import problems
from vanrouter.server.totals import Totals, sliced
from vanrouter.server.views import memory

if TYPE_CHECKING:
    from vanrouter.server.site import Site

PROTON_VERSION = version("python-qpid-proton")

SLICE_ROWS = 128
"""Rows looked at in one go where a row costs a microsecond or two."""

SERVICES = (ListenerService, ConnectorService, HttpListener, HttpConnector)

Source = Callable[["Site"], Families]


def measures(site: Site) -> Families:
    """Yield everything that `/metrics` shows."""
    yield from c_router(site)
    for source in SOURCES:
        yield from source(site)


def c_router(site: Site) -> Families:
    """Yield the series of the C router, in its order."""
    totals = Totals(site.router)
    yield from totals.gather()
    row = site.views.router_metrics(totals)
    yield None
    counters: dict[str, int] = row["connectionCounters"]
    memory_pools = pools(site)
    special = {
        "qdr_last_topology_change_timestamp": int(site.router.control.last_topology_change),
        "qdr_alloc_pool_bytes": sum(pool.size * pool.count for pool in memory_pools),
        **{f"{pool.name}:{end}": value for pool in memory_pools for end, value in pool.gauges().items()},
        **{f"qdr_{name}_service_connections": count for name, count in counters.items()},
    }
    for entry in series.C_ROUTER:
        value = row.get(entry.column) if entry.column else special[entry.name]
        if value is not None:  # the system does not say
            yield family(entry, value)
    yield from families(series.UNSETTLED, [(("in",), totals.unsettled_in), (("out",), totals.unsettled_out)])
    yield family(series.QUEUED, totals.queued)


def _build(site: Site) -> Families:
    labels = (__version__, platform.python_version(), platform.python_implementation(), PROTON_VERSION)
    yield from families(series.BUILD_INFO, [(labels, 1)])
    router = site.router
    network = router.space.network_id or ""
    yield from families(series.ROUTER_INFO, [((router.router_id, str(router.mode), network), 1)])
    yield family(series.READY, not problems(site))


# Services.


def service_labels(entity: Entity) -> Sequence[str]:
    """Return the labels of a service."""
    return entity.type.short, entity.name or entity.identity, entity.text("address")


def _services(site: Site) -> Families:
    """Yield what TCP services count; the octets of open flows are added up here, some services at a time."""
    found = [
        (service_labels(entity), live)
        for entity, live in list(site.objects.items())
        if isinstance(live, (ListenerService, ConnectorService))
    ]
    octets: list[tuple[Sequence[str], int]] = []
    for labels, live in found:
        bytes_in = bytes_out = 0
        for more_in, more_out in live.octets(SLICE_ROWS):
            bytes_in += more_in
            bytes_out += more_out
            yield None
        octets += [((*labels, "in"), bytes_in), ((*labels, "out"), bytes_out)]
    yield from families(series.FLOWS, ((labels, len(live.flows)) for labels, live in found))
    yield from families(series.FLOWS_OPENED, ((labels, live.connections_opened) for labels, live in found))
    yield from families(series.FLOW_BYTES, octets)
    yield from families(series.FLOWS_FAILED, chain.from_iterable(_failures(*entry) for entry in found))
    yield from histogram(series.FLOW_SETUP, [((), site.tcp.flow_setup)])


def _http_services(site: Site) -> Families:
    """Yield what HTTP services count, requests of all peers together."""
    found = [
        (service_labels(entity), live)
        for entity, live in list(site.objects.items())
        if isinstance(live, (HttpListener, HttpConnector))
    ]
    open_now = ((labels, live.connections_opened - live.connections_closed) for labels, live in found)
    yield from families(series.HTTP_CONNECTIONS, open_now)
    requests: list[tuple[Sequence[str], int]] = []
    for labels, live in found:
        statuses: dict[int, int] = {}
        for peers in sliced(list(live.counts.peers.values()), SLICE_ROWS):
            for peer in peers:
                for (_, status), count in peer.details.items():
                    statuses[status] = statuses.get(status, 0) + count
            yield None
        requests += [((*labels, str(status)), count) for status, count in statuses.items()]
    yield from families(series.HTTP_REQUESTS, requests)
    yield from families(series.HTTP_RETRIES, ((labels, live.counts.retried) for labels, live in found))
    yield from histogram(series.HTTP_LATENCY, ((labels, live.counts.latency) for labels, live in found))


def _states(site: Site) -> Families:
    """Yield whether services are up, of all kinds."""
    found = [(entity, live.oper_status) for entity, live in list(site.objects.items()) if isinstance(live, SERVICES)]
    known = ((service_labels(entity), state == "up") for entity, state in found if state != "unknown")
    yield from families(series.SERVICE_UP, known)


def _failures(labels: Sequence[str], live: ListenerService | ConnectorService) -> Iterator[tuple[Sequence[str], float]]:
    causes = {"timeout": live.timed_out, "window_ignored": live.overrun, "tls_handshake": live.handshake_failures}
    if isinstance(live, ListenerService):
        causes["unreachable"] = live.refused
    else:
        causes["connect"] = live.connect_failures
    for cause, count in causes.items():
        yield (*labels, cause), count


# Connections and routing.


def _connections(site: Site) -> Families:
    counts: dict[tuple[str, str], int] = {}
    octets: dict[tuple[str, str, str], int] = {}
    connections = list(site.router.amqp_connections.values())
    for begin in range(0, len(connections), SLICE_ROWS):
        for connection in connections[begin : begin + SLICE_ROWS]:
            _add_connection(connection, counts, octets)
        yield None
    yield from families(series.CONNECTIONS, counts.items())
    yield from families(series.ROUTER_BYTES, octets.items())
    objects = list(site.objects.values())
    listeners = [(live.settings, live.is_listening) for live in objects if isinstance(live, AmqpListener)]
    connectors = [(live.settings, live.status == "SUCCESS") for live in objects if isinstance(live, AmqpConnector)]
    for entry, found in ((series.LISTENER_UP, listeners), (series.CONNECTOR_UP, connectors)):
        yield from families(entry, (((its.name, its.role.value, its.host, its.port), is_up) for its, is_up in found))


def _add_connection(
    connection: Connection, counts: dict[tuple[str, str], int], octets: dict[tuple[str, str, str], int]
) -> None:
    if not connection.is_opened or connection.engine.lost:
        return
    role = connection.role.value
    key = (role, "out" if connection.is_outbound else "in")
    counts[key] = counts.get(key, 0) + 1
    if connection.role.is_router:
        peer = connection.peer.container
        for direction, count in (("in", connection.engine.bytes_in), ("out", connection.engine.bytes_out)):
            octets[peer, role, direction] = octets.get((peer, role, direction), 0) + count


def _routing(site: Site) -> Families:
    plane = site.router.control.plane
    counters = plane.counters
    yield family(series.ROUTE_CHANGES, counters.path_computations)
    outcomes = {
        "sent": counters.sent,
        "received": counters.received,
        "ignored": counters.ignored,
        "malformed": counters.malformed,
    }
    yield from families(
        series.CONTROL_MESSAGES,
        (((opcode, name), count) for name, counts in outcomes.items() for opcode, count in counts.items()),
    )
    if site.router.is_interior:
        costs = []
        for index, node in enumerate(plane.nodes()):
            if node.cost is not None and node.id != site.router.router_id:
                costs.append(((node.id,), node.cost))
            if index % SLICE_ROWS == SLICE_ROWS - 1:
                yield None
        yield from families(series.ROUTE_COST, costs)


# What waits, what was refused, what was lost.


def _limits(site: Site) -> Families:
    router, amqp, logs = site.router, site.amqp, site.options.logs
    yield from histogram(series.QUEUE_WAIT, [((), router.queue_wait)])
    yield from histogram(series.SETTLEMENT, [((), router.time_to_settlement)])
    yield family(series.BUFFERED, site.router.memory.held)
    yield family(series.LOG_QUEUE, logs.queued)
    ports = site.ports.open_ports()
    refused = {
        "connections": amqp.refused,
        "handshakes": amqp.handshakes_refused,
        "sessions": router.sessions_refused,
        "links": router.links_refused,
        "memory": site.router.memory.ended,
        "policy": int(site.gate.totals()["totalDenials"]),
        "management": site.agent.refused,
        "port_requests": sum(port.refused for _, port in ports),
        "port_connections": sum(port.evicted for _, port in ports),
        "port_handshakes": sum(port.handshake_failures for _, port in ports),
    }
    yield from families(series.CONNECTION_FAULTS, (((condition,), count) for condition, count in router.faults.items()))
    yield from families(series.REFUSED, (((cause,), count) for cause, count in refused.items()))
    dropped = {"log_lines": logs.dropped, "management_replies": site.management.undeliverable}
    yield from families(series.DROPPED, (((cause,), count) for cause, count in dropped.items()))


def _port(site: Site) -> Families:
    ports = site.ports.open_ports()
    yield from families(series.PORT_CONNECTIONS, (((name,), len(port)) for name, port in ports))
    responses = (((name, str(status)), count) for name, port in ports for status, count in port.responses.items())
    yield from families(series.PORT_RESPONSES, responses)
    yield family(series.SCRAPE_COST, site.ports.scrape.cost_s)
    yield family(series.SCRAPE_SLICE, site.ports.scrape.longest_slice_s)


# The process.


def _loop(site: Site) -> Families:
    reactor = site.reactor
    yield from histogram(series.LOOP_TURN, [((), reactor.turn_time)])
    yield family(series.LOOP_LONGEST, reactor.busiest_turn_s)
    yield family(series.INTERNAL_ERRORS, reactor.crashes + site.agent.crashed)
    yield family(series.MEMORY_TRIMS, site.router.trimmer.trims)


def _certificates(site: Site) -> Families:
    site.ports.certificates.refresh(site.registry.of("sslProfile"))
    known = site.ports.certificates.known
    yield from families(
        series.CERTIFICATE_EXPIRY,
        (((each.profile, each.use, each.subject), each.ends_at) for each in known if each.ends_at is not None),
    )
    broken = (((each.profile, each.use), 1) for each in known if each.ends_at is None)
    yield from families(series.CERTIFICATE_UNREADABLE, broken)


def _process(site: Site) -> Families:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    size, resident = memory()
    values = {
        "process_cpu_seconds_total": usage.ru_utime + usage.ru_stime,
        "process_start_time_seconds": site.ports.began_at,
        "process_resident_memory_bytes": resident,
        "process_virtual_memory_bytes": size,
        "process_max_fds": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }
    for entry in series.PROCESS:
        value = values[entry.name]
        if value is not None:
            yield family(entry, value)


SOURCES: list[Source] = [
    _build, _services, _http_services, _states, _connections, _routing, _limits, _port, _loop, _certificates, _process,
]  # fmt: skip
"""The project's own, in order."""
