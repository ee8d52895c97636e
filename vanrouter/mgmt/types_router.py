"""Entity types that configure the router and its AMQP connections. Layer: 2, pure.

Source: management specification, section 8; additions by the extensions page.
"""

from __future__ import annotations

from vanrouter.mgmt.attributes import flag, path, properties, text, whole, word
from vanrouter.mgmt.schema import EntityType

ROUTER = EntityType(
    short="router",
    help="The router itself: identity, mode and timing.",
    base="configurationEntity",
    section=True,
    singleton=True,
    own=(
        text(
            "id",
            "C",
            "Router name, unique in the network. No whitespace or control characters, no `|` or `$`. When left out "
            "the router invents `<Mode>_<15 random characters>` such as `Standalone_1EP9OalfBw0doEz`.",
        ),
        text("vanId", "C", "Old spelling of `network.tenantId`.", deprecated=True),
        word(
            "mode",
            ("standalone", "interior", "edge"),
            "C",
            "Operating mode: alone, full member of the mesh, or leaf attached to one interior router.",
            default="standalone",
        ),
        text("area", "F", "Always the string `0`."),
        text("version", "", "Version of the program."),
        text(
            "hostName",
            "",
            "Name of the machine from a reverse lookup of its own host name; empty string when that fails.",
        ),
        whole("helloIntervalSeconds", "C", "Period of HELLO messages to neighbours.", default=1, minimum=1),
        whole("helloMaxAgeSeconds", "C", "Silence after which a neighbour is considered gone.", default=3, minimum=1),
        whole(
            "raIntervalSeconds",
            "C",
            "Period of router advertisements while the network is stable.",
            default=30,
            minimum=1,
        ),
        whole("raIntervalFluxSeconds", "C", "Same period while the topology is changing.", default=4, minimum=1),
        whole(
            "remoteLsMaxAgeSeconds",
            "C",
            "Age at which a remote link state is dropped when not refreshed.",
            default=60,
            minimum=1,
        ),
        whole(
            "unreachableHoldoffSeconds",
            "C",
            "Delay between finding a router unreachable and forgetting its addresses.",
            default=1,
            minimum=0,
        ),
        whole(
            "workerThreads",
            "C",
            "Of the C router: its I/O threads. Kept because `auto` data connections are counted from it.",
            default=4,
        ),
        path("debugDumpFile", "C", "Of the C router; accepted, not used."),
        path("saslConfigDir", "C", "Folder(s) searched for the SASL configuration file."),
        text("saslConfigName", "C", "SASL application name; the file read is this plus `.conf`.", default="skrouterd"),
        flag("timestampsInUTC", "C", "Log times in UTC instead of local time (treated as false when unset)."),
        text("timestampFormat", "C", "strftime pattern for log times; `%%06lu` stands for the microseconds."),
        word(
            "defaultDistribution",
            ("multicast", "closest", "balanced", "unavailable"),
            "C",
            "Treatment of addresses that no `address` entity matches.",
            default="balanced",
        ),
        text("metadata", "C", "Free text shown by management, no effect on routing."),
        text(
            "dataConnectionCount",
            "C",
            "`auto` or a number: extra `inter-router-data` connections that each inter-router connector opens. `auto`"
            " = (workerThreads + 1) / 2, rounded down.",
            default="auto",
        ),
        flag(
            "dropTcpConnections",
            "C",
            "Whether deleting a tcpListener/tcpConnector also cuts its open TCP connections.",
            default=True,
        ),
        whole(
            "drainSeconds",
            "C",
            "How long SIGTERM waits for flows to finish; 0 = not at all.",
            default=0,
            minimum=0,
            extension=True,
        ),
        whole(
            "maxConnections",
            "C",
            "Connections of all kinds accepted at most; 0 = no limit of its own.",
            default=0,
            minimum=0,
            extension=True,
        ),
        whole(
            "maxHandshakes",
            "C",
            "Connections that may be in their handshake at once; 0 = no limit.",
            default=0,
            minimum=0,
            extension=True,
        ),
        whole(
            "maxSessionsPerConnection",
            "C",
            "AMQP sessions on a connection; 0 = as maxSessions says.",
            default=0,
            minimum=0,
            extension=True,
        ),
        whole(
            "maxLinksPerConnection",
            "C",
            "AMQP links on a connection; 0 = no limit.",
            default=0,
            minimum=0,
            extension=True,
        ),
        whole(
            "maxBufferedBytes",
            "C",
            "Octets that the whole process buffers; beyond it the flows that hold most are ended. 0 = a quarter of "
            "memory.",
            default=0,
            minimum=0,
            extension=True,
        ),
    ),
)

NETWORK = EntityType(
    short="network",
    help="The network that the router is part of.",
    base="configurationEntity",
    section=True,
    singleton=True,
    operations=("UPDATE",),
    own=(
        text(
            "networkId",
            "CU",
            "Name of the network for cross-network addressing. Only attribute that can change at run time; once set "
            "(not `0`) dynamic addresses take the `_xtopo/<networkId>/0/<id>/...` form.",
        ),
        text(
            "tenantId",
            "C",
            "Prefix put in front of tcpListener/tcpConnector addresses and other tenant-scoped addresses as "
            "`<tenantId>/<address>`.",
        ),
    ),
)

SITE = EntityType(
    short="site",
    help="The site where the router runs, for flow records.",
    base="configurationEntity",
    section=True,
    own=(
        text("location", "C", "Text placed in the VanFlow SITE record."),
        text("provider", "C", "Text placed in the SITE record."),
        text("version", "C", "Control-plane build version for the SITE record."),
        text("platform", "C", "Platform name (kubernetes, podman, docker, linux ...)."),
        text("namespace", "C", "Platform namespace or user name."),
    ),
)

SSL_PROFILE = EntityType(
    short="sslProfile",
    help="Certificates and TLS settings, used by name.",
    base="configurationEntity",
    section=True,
    operations=("CREATE", "UPDATE", "DELETE"),
    own=(
        text("ciphers", "CU", "Cipher string in OpenSSL syntax."),
        text(
            "protocols",
            "CU",
            "Space-separated TLS versions (`TLSv1 TLSv1.1 TLSv1.2 TLSv1.3`); unset = library default.",
        ),
        path("caCertFile", "CU", "Trusted CA bundle (PEM)."),
        path("certFile", "CU", "Own certificate (PEM)."),
        path("privateKeyFile", "CU", "Private key of that certificate (PEM)."),
        text(
            "password",
            "CU",
            "Password of the key: `env:VARIABLE`, `file:PATH` (first line), `pass:TEXT`, `literal:TEXT` or the text "
            "itself.",
            secret=True,
        ),
        text(
            "uidFormat",
            "C",
            "Letters picking client-certificate fields that form the user name: c country, s state, l city, o "
            "organisation, u unit, n common name, 1, 2 or 5 fingerprint by SHA-1, 256 or 512.",
        ),
        text("uidNameMappingFile", "C", "JSON map from that user name to a display name."),
        whole("ordinal", "CU", "Revision number of the credentials, must be >= 0 and >= oldestValidOrdinal."),
        whole("oldestValidOrdinal", "CU", "Connections made with a lower revision are closed when this rises."),
    ),
)

PROXY_PROFILE = EntityType(
    short="proxyProfile",
    help="An HTTP proxy that connectors tunnel through, used by name.",
    base="configurationEntity",
    section=True,
    operations=("CREATE", "UPDATE", "DELETE"),
    own=(
        text("host", "CU", "HTTP proxy host."),
        text("port", "CU", "HTTP proxy port."),
        text("username", "CU", "Basic-auth user."),
        text("password", "CU", "Basic-auth password, written as sslProfile.password.", secret=True),
    ),
)

AMQP_PEER = (
    word("socketAddressFamily", ("IPv4", "IPv6"), "C", "Force IPv4 or IPv6; otherwise derived from the host."),
    word(
        "role",
        ("normal", "inter-router", "route-container", "edge", "inter-edge", "inter-network"),
        "C",
        "What kind of peer is expected; decides the routing behaviour of the connection.",
        default="normal",
    ),
    whole(
        "cost",
        "CU",
        "Path cost of an inter-router connection, 1..2147483647; the larger of both ends applies.",
        default=1,
    ),
)
"""What listeners and connectors have in common, in the order of the specification."""

AMQP_FRAMES = (
    whole("maxFrameSize", "C", "AMQP max-frame-size offered; 0 = default, otherwise 512..2147483647.", default=16384),
    whole(
        "maxSessions",
        "C",
        "Highest number of AMQP sessions; 0 = default, otherwise 1..32768. channel-max sent is this minus one.",
        default=32768,
    ),
    whole(
        "maxSessionFrames",
        "C",
        "Incoming session window in frames, at least 2. Unset: 8 MiB worth of frames for role normal, 128 MiB for"
        " the other roles.",
    ),
    whole("idleTimeoutSeconds", "C", "AMQP idle timeout announced (sent in milliseconds).", default=16, minimum=0),
)
"""What a connection offers its peer."""

AMQP_LINKS = (
    word(
        "stripAnnotations",
        ("in", "out", "both", "no"),
        "C",
        "Whether router annotations are removed on the way in, out, both or not at all.",
        default="both",
    ),
    whole("linkCapacity", "C", "Credit window per link; unset or 0 = 250.", minimum=0),
)
"""How its links are treated."""

LISTENER = EntityType(
    short="listener",
    help="A port where AMQP peers connect.",
    base="configurationEntity",
    section=True,
    operations=("CREATE", "DELETE"),
    extension_operations=("UPDATE",),
    own=(
        text("host", "C", "Address to bind; empty = all.", default=""),
        text("port", "C", "Port number or service name; `0` = ephemeral, the real port is logged.", default="amqp"),
        *AMQP_PEER,
        text("sslProfile", "C", "Name of the sslProfile to use. Must exist."),
        text("saslMechanisms", "C", "Space-separated SASL mechanisms allowed."),
        flag("authenticatePeer", "C", "Require SASL authentication.", default=False),
        flag("requireEncryption", "C", "Require an encrypted transport.", default=False),
        flag("requireSsl", "C", "Require TLS (implies requireEncryption).", default=False),
        *AMQP_FRAMES,
        whole(
            "initialHandshakeTimeoutSeconds",
            "C",
            "Close when no OPEN came within this time; 0 = after 30 s.",
            default=0,
            minimum=0,
        ),
        *AMQP_LINKS,
        text(
            "failoverUrls",
            "C",
            "Comma list of alternative URLs (`[amqp|amqps|ws|wss://]host[:port]`) sent to clients in OPEN as "
            "`failover-server-list`.",
        ),
        flag("healthz", "C", "Serve `/healthz` when http is on.", default=True),
        flag("metrics", "C", "Serve `/metrics` when http is on.", default=True),
        flag("websockets", "C", "Allow AMQP over WebSocket when http is on.", default=True),
        flag("http", "C", "Make this an HTTP listener: HTTP and WebSocket only, no raw AMQP.", default=False),
        path("httpRootDir", "C", "Folder of static files; setting it switches http on."),
        text(
            "messageLoggingComponents",
            "C",
            "`none`, `all`, or a comma list of message properties to log for each message, such as `message-id`, `to`"
            " and `app-properties`.",
            default="none",
        ),
        text("policyVhost", "C", "vhost whose policy applies to connections here, instead of the OPEN hostname."),
        properties(
            "openProperties",
            "C",
            "Extra connection properties for OPEN. `product`, `version`, `failover-server-list`, `network-host`, "
            "`port`, `scheme`, `hostname` and keys starting `qd.` or `x-opt-qd.` are refused; not for roles inter-"
            "router and edge.",
        ),
    ),
)

CONNECTOR = EntityType(
    short="connector",
    help="An AMQP connection that the router opens and keeps open.",
    base="configurationEntity",
    section=True,
    operations=("CREATE", "DELETE"),
    extension_operations=("UPDATE",),
    own=(
        text("host", "C", "Peer host; also the hostname field of OPEN.", default="127.0.0.1"),
        text("port", "C", "Peer port or service name.", default="amqp"),
        *AMQP_PEER,
        text("sslProfile", "C", "Name of the sslProfile to use. Must exist."),
        text("proxyProfile", "C", "Name of the proxyProfile to tunnel through."),
        text("saslMechanisms", "C", "Space-separated SASL mechanisms allowed."),
        flag("allowRedirect", "C", "Accepted, has no effect.", default=True),
        *AMQP_FRAMES,
        *AMQP_LINKS,
        flag("verifyHostname", "C", "Check the peer certificate against the host.", default=True),
        text("saslUsername", "C", "User for PLAIN and similar."),
        text(
            "saslPassword", "C", "Password: `env:VARIABLE`, `file:PATH`, `pass:TEXT` or the text itself.", secret=True
        ),
        text(
            "messageLoggingComponents",
            "C",
            "Message properties to log for each message, as for a listener.",
            default="none",
        ),
        text(
            "failoverUrls",
            "",
            "URLs in the order they will be tried, the current one first; fed by the `failover-server-list` of the "
            "peer.",
        ),
        text("connectionStatus", "", "CONNECTING, SUCCESS or FAILED; in passing INITIALIZING and CLOSING."),
        text("connectionMsg", "", "Text of the last failure, or what is known of the open connection."),
        text("policyVhost", "C", "vhost whose `$connector` group governs this outgoing connection."),
        properties("openProperties", "C", "Extra connection properties for OPEN, as for a listener."),
    ),
)

ADDRESS = EntityType(
    short="address",
    help="How addresses that match are treated.",
    base="configurationEntity",
    full="io.skupper.router.router.config.address",
    section=True,
    counted=True,
    operations=("CREATE", "DELETE"),
    columns=("name", "identity", "type", "prefix", "distribution", "pattern", "priority"),
    own=(
        text("prefix", "C", "Leading tokens to match. Leading/trailing `.` and `/` are stripped."),
        text("pattern", "C", "Wildcard pattern, `*` = one token, `#` = any number of tokens."),
        word(
            "distribution",
            ("multicast", "closest", "balanced", "unavailable"),
            "C",
            "Treatment.",
            default="balanced",
            extension_words=("even",),
        ),
        whole("priority", "C", "0..9 for messages without own priority; shown as -1 when unset.", unset=-1),
    ),
)

AUTO_LINK = EntityType(
    short="autoLink",
    help="A link that is attached whenever its connection is open.",
    base="configurationEntity",
    full="io.skupper.router.router.config.autoLink",
    section=True,
    counted=True,
    operations=("CREATE", "DELETE"),
    columns=(
        "name",
        "identity",
        "type",
        "address",
        "direction",
        "connection",
        "containerId",
        "externalAddress",
        "linkRef",
        "operStatus",
        "lastError",
    ),
    own=(
        text("address", "C", "Router-side address. May be left out only for direction `in` (anonymous link)."),
        word("direction", ("in", "out"), "C", "Flow seen from the router.", required=True),
        text("containerId", "C", "Activate on connections from this container id."),
        text("connection", "C", "Activate on connections of this listener/connector name."),
        text("externalAddress", "C", "Address at the peer when different."),
        text("linkRef", "", "identity of the router.link while attached."),
        word("operStatus", ("inactive", "attaching", "failed", "active", "quiescing", "idle"), "", "State."),
        text("lastError", "", "Text of the last attach failure. A failed attach is retried after 2 s, then every 5 s."),
    ),
)
