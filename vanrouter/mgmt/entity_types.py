"""The schema of vanrouter: every entity type in the order of the listings, and the log modules. Layer: 2, pure.

Source: management specification, section 8. A new attribute goes into the table of its type in `types_*.py`.
"""

from __future__ import annotations

from vanrouter.mgmt import types_observed as observed
from vanrouter.mgmt import types_policy as policy
from vanrouter.mgmt import types_router as router
from vanrouter.mgmt import types_services as services
from vanrouter.mgmt.attributes import flag, measured, text, whole, word
from vanrouter.mgmt.permissions import MANAGEMENT_PERMISSION
from vanrouter.mgmt.schema import EntityType, Schema

DEFAULT_LOG_MODULE = "DEFAULT"
"""The module whose settings the others fall back to."""

LOG_MODULES = (
    "ROUTER",
    "ROUTER_CORE",
    "ROUTER_HELLO",
    "ROUTER_LS",
    "ROUTER_MA",
    "MESSAGE",
    "SERVER",
    "AGENT",
    "CONTAINER",
    "ERROR",
    "POLICY",
    "HTTP",
    "CONN_MGR",
    "PYTHON",
    "PROTOCOL",
    "TCP_ADAPTOR",
    "HTTP_ADAPTOR",
    "FLOW_LOG",
    "ADDRESS_WATCH",
    "HTTP1_OBSERVER",
    "HTTP2_OBSERVER",
    "HTTP2_DECODER",
    DEFAULT_LOG_MODULE,
)

LOG_FORMATS = ("text", "json")
LOG_FORMAT_HELP = "`text` as the C router has it, or `json`: one object a line."

ENTITY = EntityType(short="entity", help="Base of all entity types.")

AMQP_MANAGEMENT = EntityType(
    short="org.amqp.management",
    help="The management node as AMQP management defines it.",
    base="operationalEntity",
    operations=("QUERY", "GET-TYPES", "GET-ANNOTATIONS", "GET-OPERATIONS", "GET-ATTRIBUTES", "GET-MGMT-NODES"),
)

MANAGEMENT = EntityType(
    short="management",
    help="The management node of this router.",
    base="org.amqp.management",
    operations=("GET-SCHEMA", "GET-JSON-SCHEMA", "GET-LOG", "PROFILE"),
    extension_operations=("RELOAD",),
    singleton=True,
)

CONFIGURATION_ENTITY = EntityType(
    short="configurationEntity", help="Base of the types that are configured.", base="entity", operations=("READ",)
)

OPERATIONAL_ENTITY = EntityType(
    short="operationalEntity", help="Base of the types that show live state.", base="entity", operations=("READ",)
)

LOG = EntityType(
    short="log",
    help="Where events of one module are written, and which.",
    base="configurationEntity",
    section=True,
    operations=("UPDATE",),
    own=(
        word("module", LOG_MODULES, "F", "Module; `DEFAULT` is what the others fall back to.", required=True),
        text(
            "enable",
            "U",
            "Comma list of levels (none, debug, info, warning, error, critical, default), each with `+` for it and "
            "above.",
        ),
        flag("includeTimestamp", "U", "Put the time before each line."),
        flag("includeSource", "U", "Put file and line after each text."),
        text("outputFile", "U", "`stderr`, `stdout`, `syslog` or a file opened for append."),
        word("format", LOG_FORMATS, "U", LOG_FORMAT_HELP, extension=True),
    ),
)

LOG_SINK = EntityType(
    short="logSink",
    help="One more destination of the log, with modules, levels and format of its own.",
    base="configurationEntity",
    section=True,
    extension=True,
    operations=("CREATE", "UPDATE", "DELETE"),
    own=(
        text("outputFile", "CU", "`stderr`, `stdout`, `syslog` or a file opened for append.", required=True),
        text("modules", "CU", "Comma list of modules; empty = all.", default=""),
        text("enable", "CU", "Comma list of levels, as `log.enable`.", default="info+"),
        word("format", LOG_FORMATS, "CU", LOG_FORMAT_HELP, default="text"),
        flag("includeTimestamp", "CU", "Put the time before each line.", default=True),
        flag("includeSource", "CU", "Put file and line after each text.", default=False),
        measured("linesWritten", "Lines that were written."),
        measured("linesQueued", "Lines that wait."),
        measured("linesDropped", "Lines lost because the destination was too slow or failed."),
    ),
)

DUMMY = EntityType(
    short="dummy",
    help="For tests: created, changed and called at will.",
    base="entity",
    operations=("CREATE", "READ", "UPDATE", "DELETE", "CALLME"),
    own=(
        text("arg1", "CU", "Free."),
        text("arg2", "CU", "Free."),
        whole("num1", "CU", "Free."),
        whole("num2", "CU", "Free."),
    ),
)

SCHEMA = Schema(
    (
        ENTITY,
        AMQP_MANAGEMENT,
        MANAGEMENT,
        CONFIGURATION_ENTITY,
        OPERATIONAL_ENTITY,
        observed.ROUTER_METRICS,
        router.ROUTER,
        router.NETWORK,
        router.SITE,
        router.SSL_PROFILE,
        router.PROXY_PROFILE,
        router.LISTENER,
        router.CONNECTOR,
        services.TCP_LISTENER,
        services.TCP_CONNECTOR,
        services.LISTENER_ADDRESS,
        LOG,
        observed.LOG_STATS,
        router.ADDRESS,
        router.AUTO_LINK,
        observed.ROUTER_LINK,
        observed.ROUTER_ADDRESS,
        observed.ROUTER_NODE,
        observed.CONNECTION,
        services.TCP_CONNECTION,
        observed.ALLOCATOR,
        policy.POLICY,
        policy.VHOST,
        policy.VHOST_USER_GROUP_SETTINGS,
        policy.VHOST_STATS,
        DUMMY,
        LOG_SINK,
        MANAGEMENT_PERMISSION,
        services.HTTP_LISTENER,
        services.HTTP_CONNECTOR,
        services.HTTP_REQUEST_INFO,
        observed.ROUTING_PROTOCOL,
    )
)


def modules_of(text: str) -> tuple[str, ...]:
    """Return the modules that a comma list names; none of an empty list.

    Raises:
        ValueError: one is unknown; the text says which there are.
    """
    names = tuple(word.strip().upper() for word in text.split(",") if word.strip())
    for name in names:
        if name not in LOG_MODULES or name == DEFAULT_LOG_MODULE:
            known = ", ".join(module for module in LOG_MODULES if module != DEFAULT_LOG_MODULE)
            raise ValueError(f"{name[:40]!r} is not a log module; use a comma list of {known}")
    return names
