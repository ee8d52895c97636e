"""The list of all series: name, kind, what it says, labels. Layer: 2, pure.

Source: management.md section 13 (names of the C router: in its order, without labels); all others begin with
`vanrouter_`, or are the usual ones of a process. `docs/metrics.md` shows this list, a test holds both to each other;
the dashboard and the alert rules in `config/` may use nothing that is not here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Series:
    """One series. `kind` is `counter`, `gauge` or `histogram`; counters have `_total` at the end of their name."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    column: str = ""
    """Column of routerMetrics that it shows, for those of the C router."""


def _c(name: str, kind: str, text: str, column: str = "") -> Series:
    return Series(f"qdr_{name}", kind, text, (), column)


POOLS = ("qd_connection_t", "qd_tcp_connection_t", "qdr_address_t", "qdr_delivery_t", "qdr_link_t", "qdr_node_t")
"""Kinds of records whose memory is shown, by the C router's names."""

_POOL_GAUGES = (
    ("allocated", "Records of this kind that exist."),
    ("in_use", "Records of this kind in use."),
    ("cached", "Records of this kind kept for later; this router keeps none."),
    ("bytes", "Memory of these records, without what they refer to, bytes."),
)

C_ROUTER = (
    _c("connections_total", "gauge", "Open connections of every kind.", "connectionCount"),
    _c("links_total", "gauge", "Open AMQP links.", "linkCount"),
    _c("addresses_total", "gauge", "Known addresses.", "addrCount"),
    _c("routers_total", "gauge", "Other routers known.", "nodeCount"),
    _c("presettled_deliveries_total", "counter", "Pre-settled deliveries.", "presettledDeliveries"),
    _c(
        "dropped_presettled_deliveries_total",
        "counter",
        "Pre-settled deliveries that had nowhere to go.",
        "droppedPresettledDeliveries",
    ),
    _c("accepted_deliveries_total", "counter", "Accepted deliveries.", "acceptedDeliveries"),
    _c("released_deliveries_total", "counter", "Released deliveries.", "releasedDeliveries"),
    _c("rejected_deliveries_total", "counter", "Rejected deliveries.", "rejectedDeliveries"),
    _c("modified_deliveries_total", "counter", "Modified deliveries.", "modifiedDeliveries"),
    _c("deliveries_ingress_total", "counter", "Deliveries that entered the network here.", "deliveriesIngress"),
    _c("deliveries_egress_total", "counter", "Deliveries that left the network here.", "deliveriesEgress"),
    _c("deliveries_transit_total", "counter", "Deliveries passed on between routers.", "deliveriesTransit"),
    _c(
        "deliveries_delayed_1sec_total",
        "counter",
        "Deliveries settled later than a second after they came.",
        "deliveriesDelayed1Sec",
    ),
    _c(
        "deliveries_delayed_10sec_total",
        "counter",
        "Deliveries settled later than ten seconds after they came.",
        "deliveriesDelayed10Sec",
    ),
    _c("deliveries_stuck_total", "gauge", "Deliveries unsettled for more than ten seconds now.", "deliveriesStuck"),
    _c("links_blocked_total", "gauge", "Links without credit for more than ten seconds now.", "linksBlocked"),
    _c("last_topology_change_timestamp", "gauge", "When routes changed last, seconds since 1970; 0 before the first."),
    *(Series(f"{pool}:{end}", "gauge", text) for pool in POOLS for end, text in _POOL_GAUGES),
    _c("alloc_pool_bytes", "gauge", "Sum of the above, bytes."),
    _c("router_vmsize_bytes", "gauge", "Virtual memory of the process, bytes.", "memoryUsage"),
    _c("router_rss_bytes", "gauge", "Resident memory of the process, bytes.", "residentMemoryUsage"),
    _c("tcp_service_connections", "gauge", "Open TCP connections of clients and services."),
    _c("amqp_service_connections", "gauge", "Open AMQP connections of clients and services."),
    _c("http1_service_connections", "gauge", "Open HTTP/1 connections of clients and services."),
    _c("http2_service_connections", "gauge", "Open HTTP/2 connections of clients and services."),
)
"""The C router's, in its order."""


def _counter(name: str, text: str, *labels: str) -> Series:
    return Series(f"vanrouter_{name}_total", "counter", text, labels)


def _gauge(name: str, text: str, *labels: str) -> Series:
    return Series(f"vanrouter_{name}", "gauge", text, labels)


def _histogram(name: str, text: str, *labels: str) -> Series:
    return Series(f"vanrouter_{name}_seconds", "histogram", text, labels)


SERVICE = ("kind", "name", "address")
"""Labels of a service: entity type, name, service address."""

BUILD_INFO = _gauge("build_info", "Always 1; what runs.", "version", "python", "implementation", "proton")
ROUTER_INFO = _gauge("router_info", "Always 1; who it is.", "id", "mode", "network")
READY = _gauge("ready", "1 while /readyz says yes: linked and serving.")

FLOWS = _gauge("flows", "Open connections of a service.", *SERVICE)
FLOWS_OPENED = _counter("flows_opened", "Connections of a service since it was created.", *SERVICE)
FLOW_BYTES = _counter(
    "flow_bytes", "Octets read from (in) and written to (out) a service's sockets.", *SERVICE, "direction"
)
FLOWS_FAILED = _counter("flows_failed", "Connections of a service that did not end as they should.", *SERVICE, "cause")
SERVICE_UP = _gauge(
    "service_up", "1: the port listens, or the server answered last; 0: not; absent: unknown.", *SERVICE
)
FLOW_SETUP = _histogram("flow_setup", "From a client's connection to the stream of the far end's connector.")

HTTP_CONNECTIONS = _gauge("http_connections", "Open connections of an HTTP service.", *SERVICE)
HTTP_REQUESTS = _counter("http_requests", "Requests of an HTTP service by status of the answer.", *SERVICE, "status")
HTTP_RETRIES = _counter("http_retries", "Requests of an HTTP service sent again, each time counted.", *SERVICE)
HTTP_LATENCY = _histogram("http_request", "From a request's head to the head of its answer.", *SERVICE)

CONNECTIONS = _gauge("connections", "Open AMQP connections.", "role", "direction")
CONNECTION_FAULTS = _counter(
    "connection_faults", "Connections that ended with an error condition found here.", "condition"
)
CONNECTOR_UP = _gauge(
    "connector_up", "1 while a connector's control connection is open.", "name", "role", "host", "port"
)
LISTENER_UP = _gauge("listener_up", "1 while an AMQP or HTTP listener's port is open.", "name", "role", "host", "port")
ROUTER_BYTES = _counter(
    "router_connection_bytes", "Octets on the open connections with another router.", "router", "role", "direction"
)
ROUTE_COST = _gauge("route_cost", "Cost of the way to another router.", "router")
ROUTE_CHANGES = _counter("route_changes", "Computations of all routes after the topology had changed.")
CONTROL_MESSAGES = _counter("control_messages", "Messages of the routing protocol.", "opcode", "outcome")

QUEUED = _gauge("queued_deliveries", "Deliveries that wait for credit now.")
UNSETTLED = _gauge("unsettled_deliveries", "Deliveries whose outcome has not come yet.", "direction")
QUEUE_WAIT = _histogram("delivery_queued", "From a delivery's arrival to its sending, of those that waited for credit.")
SETTLEMENT = _histogram(
    "delivery_settlement", "From a delivery's arrival to its settlement, of a sample: the first of a link and turn."
)
BUFFERED = _gauge("buffered_bytes", "Octets kept for slow readers, and the larger buffers of deliveries.")
LOG_QUEUE = _gauge("log_queue_lines", "Lines of the log that wait for their sink.")

REFUSED = _counter("refused", "Things refused by a limit or a rule.", "cause")
DROPPED = _counter("dropped", "Things thrown away.", "cause")

LOOP_TURN = _histogram("loop_turn", "Length of the event loop's turns: the lag that another event may see.")
LOOP_LONGEST = _gauge("loop_longest_turn_seconds", "Longest turn of the event loop since the start.")
INTERNAL_ERRORS = _counter("internal_errors", "Handlers that raised: bugs.")
MEMORY_TRIMS = _counter("memory_trims", "Times that freed memory was given back to the system.")

CERTIFICATE_EXPIRY = _gauge(
    "certificate_expiry_timestamp_seconds",
    "End of a certificate's validity, seconds since 1970.",
    "profile",
    "use",
    "subject",
)
CERTIFICATE_UNREADABLE = _gauge("certificate_unreadable", "1: a certificate's file cannot be read.", "profile", "use")

PORT_RESPONSES = _counter("port_responses", "Answers of the HTTP port.", "listener", "status")
PORT_CONNECTIONS = _gauge("port_connections", "Open connections of the HTTP port.", "listener")
SCRAPE_COST = _gauge("scrape_cost_seconds", "Processor time of the last rendering of these series.")
SCRAPE_SLICE = _gauge(
    "scrape_longest_slice_seconds", "Most processor time of a rendering without giving back the loop."
)

OWN = tuple(value for value in list(globals().values()) if isinstance(value, Series))
"""The project's own."""

PROCESS = (
    Series("process_cpu_seconds_total", "counter", "Processor time used."),
    Series("process_start_time_seconds", "gauge", "Start of the process, seconds since 1970."),
    Series("process_resident_memory_bytes", "gauge", "Resident memory."),
    Series("process_virtual_memory_bytes", "gauge", "Virtual memory."),
    Series("process_max_fds", "gauge", "Most descriptors that may be open."),
)
"""What every process shows under these names; not `process_open_fds`: with 10,000 flows it is 10 ms of work."""

ALL = (*C_ROUTER, *OWN, *PROCESS)
