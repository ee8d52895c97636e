"""Entity types of TCP and HTTP services. Layer: 2, pure.

Source: management specification, section 8; TCP and HTTP additions by the extensions page.
"""

from __future__ import annotations

from vanrouter.mgmt.attributes import flag, mapping, measured, text, whole, word
from vanrouter.mgmt.schema import EntityType

TCP_LISTENER = EntityType(
    short="tcpListener",
    help="A TCP port whose connections are carried to a service address.",
    base="configurationEntity",
    section=True,
    operations=("CREATE", "UPDATE", "DELETE"),
    own=(
        text(
            "address",
            "C",
            "Service address clients are carried to. Exactly one of address and multiAddressStrategy (not `none`) "
            "must be given.",
        ),
        text("host", "C", "Bind address; empty = all.", default=""),
        whole("backlog", "C", "listen() backlog; 0, negative or above SOMAXCONN = SOMAXCONN.", default=0),
        text("port", "C", "Port or service name; `0` = ephemeral."),
        word(
            "multiAddressStrategy",
            ("none", "priority", "weighted"),
            "C",
            "`priority`: highest-valued reachable address wins. `weighted`: random choice in proportion to the values.",
            default="none",
        ),
        text("siteId", "C", "Deprecated, ignored.", deprecated=True),
        measured("connectionsOpened", "Client connections accepted so far."),
        measured("connectionsClosed", "Client connections ended so far."),
        measured("bytesIn", "Octets received."),
        measured("bytesOut", "Octets sent."),
        text("sslProfile", "C", "TLS towards the client."),
        flag("authenticatePeer", "C", "Demand a client certificate.", default=False),
        word(
            "operStatus",
            ("up", "down"),
            "",
            "`up` only while the socket is listening, i.e. while the address has a consumer somewhere.",
        ),
        text("connectionMsg", "", "Text of a hard listen failure, else empty."),
        word(
            "observer",
            ("none", "auto", "http1", "http2"),
            "CU",
            "Protocol sniffing for VanFlow records.",
            default="auto",
        ),
        whole(
            "idleTimeoutSeconds",
            "C",
            "End a flow without an octet in either direction for so long; 0 = never.",
            default=0,
            minimum=0,
            extension=True,
        ),
        whole(
            "halfCloseTimeoutSeconds",
            "C",
            "The same from the first end of file on; 0 = never.",
            default=0,
            minimum=0,
            extension=True,
        ),
        word(
            "whenUnreachable",
            ("close", "refuse"),
            "C",
            "Without a consumer: close the port, or keep it open and reset each connection.",
            default="close",
            extension=True,
        ),
    ),
)

TCP_CONNECTOR = EntityType(
    short="tcpConnector",
    help="A TCP server that serves a service address.",
    base="configurationEntity",
    section=True,
    operations=("CREATE", "DELETE"),
    own=(
        text("address", "C", "Service address served."),
        text("host", "C", "Server host.", default="127.0.0.1"),
        text("port", "C", "Server port."),
        text("siteId", "C", "Deprecated, ignored.", deprecated=True),
        text("processId", "C", "VanFlow process record this connector belongs to."),
        measured("connectionsOpened", "Connections opened so far, the permanent control connection included."),
        measured("connectionsClosed", "Connections ended so far."),
        measured("bytesIn", "Octets received."),
        measured("bytesOut", "Octets sent."),
        text("sslProfile", "C", "TLS towards the server."),
        flag("verifyHostname", "C", "Check the server certificate against the host.", default=True),
        whole(
            "idleTimeoutSeconds",
            "C",
            "End a flow without an octet in either direction for so long; 0 = never.",
            default=0,
            minimum=0,
            extension=True,
        ),
        whole(
            "halfCloseTimeoutSeconds",
            "C",
            "The same from the first end of file on; 0 = never.",
            default=0,
            minimum=0,
            extension=True,
        ),
        whole(
            "connectTimeoutSeconds", "C", "Time for the connection to the server.", default=5, minimum=1, extension=True
        ),
        whole(
            "weight",
            "C",
            "Share of new flows among the connectors of an address whose distribution is `even`.",
            default=1,
            minimum=1,
            maximum=1_000_000,
            extension=True,
        ),
        text(
            "healthCheck",
            "C",
            "`none`, `tcp` or `http:PATH`: how the server is probed.",
            default="none",
            extension=True,
        ),
        whole("healthCheckIntervalSeconds", "C", "Time between probes.", default=5, minimum=1, extension=True),
        whole(
            "healthyThreshold",
            "C",
            "Good probes in a row that make the server up.",
            default=1,
            minimum=1,
            extension=True,
        ),
        whole(
            "unhealthyThreshold",
            "C",
            "Failed probes in a row that make the server down.",
            default=3,
            minimum=1,
            extension=True,
        ),
        word("operStatus", ("up", "down", "unknown"), "", "What was last observed of the server.", extension=True),
    ),
)

LISTENER_ADDRESS = EntityType(
    short="listenerAddress",
    help="One of several service addresses of a tcpListener.",
    base="configurationEntity",
    section=True,
    operations=("CREATE", "DELETE"),
    own=(
        text("address", "C", "Service address added to the listener.", required=True),
        whole("value", "C", "Priority or weight (weights must be positive).", required=True),
        text("listener", "C", "Name of an existing multi-address tcpListener.", required=True),
        whole("connectionsOpened", "", "Connections sent to this address."),
    ),
)

HTTP_REQUESTS = (
    word(
        "form",
        ("stream", "message"),
        "C",
        "How requests travel: as a stream, or as AMQP messages.",
        default="stream",
        extension=True,
    ),
    whole("requestTimeoutSeconds", "C", "Answer 504 after it; 0 = never.", default=0, minimum=0, extension=True),
    whole("maxHeaderBytes", "C", "Octets of a header block; 431 beyond.", default=65536, minimum=1024, extension=True),
    whole("maxHeaders", "C", "Header fields; 431 beyond.", default=128, minimum=1, extension=True),
    flag("forwardedHeaders", "C", "Add X-Forwarded-For, -Proto and -Host.", default=False, extension=True),
    word(
        "retry",
        ("safe", "none"),
        "C",
        "Try GET, HEAD, OPTIONS, PUT and DELETE elsewhere when nothing reached a server.",
        default="safe",
        extension=True,
    ),
    measured("connectionsOpened", "Client connections so far.", extension=True),
    measured("connectionsClosed", "Client connections ended so far.", extension=True),
)
"""What listeners and connectors of HTTP have in common."""

HTTP_LISTENER = EntityType(
    short="httpListener",
    help="A port whose HTTP requests are carried to a service address.",
    base="configurationEntity",
    section=True,
    operations=("CREATE", "DELETE"),
    extension=True,
    own=(
        text("address", "C", "Service address requests are carried to.", required=True, extension=True),
        text("host", "C", "Bind address; empty = all.", default="", extension=True),
        text("port", "C", "Port or service name; `0` = ephemeral.", required=True, extension=True),
        whole("backlog", "C", "listen() backlog; 0 = the limit of the system.", default=0, minimum=0, extension=True),
        text("siteId", "C", "Copied to group-id of messages.", extension=True),
        word(
            "protocolVersion",
            ("HTTP1", "HTTP2"),
            "C",
            "What travels and what the service speaks.",
            default="HTTP1",
            extension=True,
        ),
        word(
            "aggregation",
            ("json", "multipart"),
            "C",
            "HTTP1 messages: gather the answers of many servers.",
            extension=True,
        ),
        flag("eventChannel", "C", "HTTP1 messages: one-way posts.", default=False, extension=True),
        text("sslProfile", "C", "Name of the sslProfile to use.", extension=True),
        flag("authenticatePeer", "C", "Demand a client certificate.", default=False, extension=True),
        word(
            "whenUnreachable",
            ("close", "503"),
            "C",
            "Without a consumer: close the port, or answer 503.",
            default="close",
            extension=True,
        ),
        *HTTP_REQUESTS,
        word("operStatus", ("up", "down"), "", "Whether the port is open.", extension=True),
    ),
)

HTTP_CONNECTOR = EntityType(
    short="httpConnector",
    help="An HTTP server that serves a service address.",
    base="configurationEntity",
    section=True,
    operations=("CREATE", "DELETE"),
    extension=True,
    own=(
        text("address", "C", "Service address served.", required=True, extension=True),
        text("host", "C", "Server host.", default="127.0.0.1", extension=True),
        text("port", "C", "Server port.", required=True, extension=True),
        text("siteId", "C", "Copied to group-id of messages.", extension=True),
        word(
            "protocolVersion",
            ("HTTP1", "HTTP2"),
            "C",
            "What travels and what the service speaks.",
            default="HTTP1",
            extension=True,
        ),
        word(
            "aggregation",
            ("json", "multipart"),
            "C",
            "HTTP1 messages: gather the answers of many servers.",
            extension=True,
        ),
        flag("eventChannel", "C", "HTTP1 messages: one-way posts.", default=False, extension=True),
        text("sslProfile", "C", "Name of the sslProfile to use.", extension=True),
        flag("verifyHostname", "C", "Check the server certificate against the host.", default=True, extension=True),
        text("hostOverride", "C", "HTTP1: replaces the value of the Host header.", extension=True),
        *HTTP_REQUESTS,
        word("operStatus", ("up", "down", "unknown"), "", "What was last observed of the server.", extension=True),
    ),
)

HTTP_REQUEST_INFO = EntityType(
    short="httpRequestInfo",
    help="Counts of HTTP requests by listener or connector and client.",
    base="operationalEntity",
    observed=True,
    extension=True,
    own=(
        text("address", "", "Service address.", extension=True),
        text("host", "", "Peer.", extension=True),
        word("direction", ("in", "out"), "", "in = listener, out = connector.", extension=True),
        text("site", "", "Site of the other end.", extension=True),
        measured("requests", "Requests.", extension=True),
        measured("bytesIn", "Octets received.", extension=True),
        measured("bytesOut", "Octets sent.", extension=True),
        measured("maxLatency", "Longest time to the answer, in milliseconds.", extension=True),
        mapping("details", "", "Map from method and status to number.", extension=True),
    ),
)

TCP_CONNECTION = EntityType(
    short="tcpConnection",
    help="Declared; always empty: TCP connections are listed as connection.",
    base="operationalEntity",
    observed=True,
    own=(
        text("address", "", "Service address."),
        text("host", "", "Peer."),
        word("direction", ("in", "out"), "", "in or out."),
        measured("bytesIn", "Octets received."),
        measured("bytesOut", "Octets sent."),
        measured("uptimeSeconds", "Age."),
        measured("lastInSeconds", "Idle time inbound."),
        measured("lastOutSeconds", "Idle time outbound."),
    ),
)
