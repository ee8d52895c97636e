"""Rules that one attribute alone cannot state: ranges, roles against mode, names that must exist. Layer: 2, pure.

Source: management specification, sections 5, 8, 10 and 18. The same checks serve files and CREATE; texts that other
programs search for are kept as they are known, status codes too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from vanrouter.ids import MAX_ADDRESS_LENGTH
from vanrouter.mgmt.attributes import quoted, suggestion
from vanrouter.mgmt.entities import Entity, Registry
from vanrouter.mgmt.entity_types import modules_of
from vanrouter.mgmt.levels import parse_levels
from vanrouter.mgmt.permissions import ALL, OPERATIONS, READING_PREFIX, entries
from vanrouter.mgmt.schema import EntityType, InvalidEntityError

MAX_COST = 2**31 - 1
MIN_FRAME_BYTES = 512
"""AMQP 1.0, part 2.7.1: no peer may offer less."""
MAX_FRAME_BYTES = 2**31 - 1
MAX_SESSIONS = 32768
MIN_SESSION_FRAMES = 2
MAX_PRIORITY = 9
MAX_PORT = 65535
MAX_POLICY_CONNECTIONS = 65535

ROUTER_ROLES = frozenset({"inter-router", "edge"})
"""Roles of connections to other routers, for which a standalone router has no use."""

RESERVED_PROPERTIES = frozenset(
    {"product", "version", "failover-server-list", "network-host", "port", "scheme", "hostname"}
)
RESERVED_PREFIXES = ("qd.", "x-opt-qd.")

UID_FORMAT = re.compile(r"(?:[cslon]|u|[125])*")

Attributes = Mapping[str, object]


def check(entity_type: EntityType, attributes: Attributes, registry: Registry) -> None:
    """Check an entity against its rules and against what is configured already.

    Args:
        entity_type: its type.
        attributes: converted and completed.
        registry: the other entities.

    Raises:
        InvalidEntityError: with the status and text of the refusal.
    """
    for rule in _RULES.get(entity_type.short, ()):
        rule(entity_type, attributes, registry)


def configuration_error(entity_type: EntityType, attribute: str, reason: str) -> InvalidEntityError:
    """Return the refusal that the C router words as `CError: Configuration: ...` with status 500."""
    text = f"Configuration: {reason}"
    return InvalidEntityError(entity_type.full, attribute, text, status=500, description=f"CError: {text}")


def _refusal(entity_type: EntityType, attribute: str, reason: str) -> InvalidEntityError:
    return InvalidEntityError(entity_type.full, attribute, reason, description=reason)


def _number(attributes: Attributes, name: str) -> int | None:
    value = attributes.get(name)
    return value if isinstance(value, int) else None


def _router_id(entity_type: EntityType, attributes: Attributes, _: Registry) -> None:
    router_id = str(attributes.get("id", ""))
    if any(character in "|$" for character in router_id):
        reason = f'Router ID "{router_id}" containes at least one illegal character ("|$").'
        raise _refusal(entity_type, "id", reason)
    for character in router_id:
        if character in "/\\" or character.isspace() or not character.isprintable():
            # Programs search for these words, the name of the exception in front included.
            place = f"character '{character}' in id '{router_id}'"
            reason = f"AttributeError: Router id attribute containing {place} is disallowed."
            raise _refusal(entity_type, "id", reason)


def _role(entity_type: EntityType, attributes: Attributes, registry: Registry) -> None:
    role = attributes.get("role")
    router = registry.single("router")
    mode = "standalone" if router is None else router.text("mode")
    if role not in ROUTER_ROLES:
        return
    if mode == "standalone":
        reason = "role='standalone' not allowed to connect to or accept connections from other routers."
        raise _refusal(entity_type, "role", f"{reason} Set mode='interior' or 'edge' for router, or role: normal.")
    if role == "inter-router" and mode != "interior":
        raise _refusal(entity_type, "role", "role='inter-router' only allowed with router mode='interior'")
    if role == "edge" and mode == "edge" and entity_type.short == "listener":
        raise _refusal(entity_type, "role", "role='edge' only allowed with router mode='interior' for listeners")


def _cost(entity_type: EntityType, attributes: Attributes, _: Registry) -> None:
    cost = _number(attributes, "cost")
    if cost is not None and not 1 <= cost <= MAX_COST:
        reason = f"Invalid cost ({cost}) specified. Minimum value for cost is 1 and maximum value is {MAX_COST}"
        raise configuration_error(entity_type, "cost", reason)


def _amqp_limits(entity_type: EntityType, attributes: Attributes, _: Registry) -> None:
    frame = _number(attributes, "maxFrameSize")
    if frame is not None and frame != 0 and not MIN_FRAME_BYTES <= frame <= MAX_FRAME_BYTES:
        reason = f"Invalid maxFrameSize specified ({frame}); 0 or {MIN_FRAME_BYTES} to {MAX_FRAME_BYTES} is needed"
        raise configuration_error(entity_type, "maxFrameSize", reason)
    sessions = _number(attributes, "maxSessions")
    if sessions is not None and not 0 <= sessions <= MAX_SESSIONS:
        reason = f"Invalid maxSessions specified ({sessions}); 0 to {MAX_SESSIONS} is needed"
        raise configuration_error(entity_type, "maxSessions", reason)
    frames = _number(attributes, "maxSessionFrames")
    if frames is not None and frames < MIN_SESSION_FRAMES:
        reason = f"Invalid maxSessionFrames specified ({frames}); at least {MIN_SESSION_FRAMES} is needed"
        raise configuration_error(entity_type, "maxSessionFrames", reason)


def _profiles(entity_type: EntityType, attributes: Attributes, registry: Registry) -> None:
    for profile in ("sslProfile", "proxyProfile"):
        name = attributes.get(profile)
        if isinstance(name, str) and name and registry.named(profile, name) is None:
            known = ", ".join(entity.name or "" for entity in registry.of(profile)[:10]) or "none"
            reason = f"{profile} '{name}' not found; configured: {known}"
            raise configuration_error(entity_type, profile, reason)


def _port(entity_type: EntityType, attributes: Attributes, _: Registry) -> None:
    port = str(attributes.get("port", ""))
    if not port and entity_type.short not in ("listener", "connector", "proxyProfile"):
        raise configuration_error(entity_type, "port", "port must be set to a number or the name of a service")
    digits = port.removeprefix("-")
    if digits.isdecimal() and (port != digits or len(digits) > 5 or int(digits) > MAX_PORT):
        raise configuration_error(entity_type, "port", f"port {port[:20]} is out of range; 0 to {MAX_PORT} is needed")


def _open_properties(entity_type: EntityType, attributes: Attributes, _: Registry) -> None:
    properties = attributes.get("openProperties")
    if not isinstance(properties, Mapping) or not properties:
        return
    # The name of the exception in front belongs to the words that programs search for.
    role = attributes.get("role")
    if role in ROUTER_ROLES:
        reason = f"ValidationError: openProperties not allowed for role {role}"
        raise _refusal(entity_type, "openProperties", reason)
    for key in properties:
        if key in RESERVED_PROPERTIES or str(key).startswith(RESERVED_PREFIXES):
            reason = f"ValidationError: Reserved key '{str(key)[:80]}' not allowed in openProperties"
            raise _refusal(entity_type, "openProperties", reason)


def _ordinals(entity_type: EntityType, attributes: Attributes, _: Registry) -> None:
    ordinal = _number(attributes, "ordinal")
    oldest = _number(attributes, "oldestValidOrdinal")
    if (ordinal or 0) < 0 or (oldest or 0) < 0:
        raise configuration_error(entity_type, "ordinal", "Negative ordinal field values are invalid")
    if (oldest or 0) > (ordinal or 0):
        raise configuration_error(entity_type, "ordinal", "ordinal must be >= oldestValidOrdinal")


def _tcp_listener_address(entity_type: EntityType, attributes: Attributes, _: Registry) -> None:
    has_strategy = attributes.get("multiAddressStrategy", "none") != "none"
    if bool(attributes.get("address")) == has_strategy:
        reason = "Exactly one of the 'address' or 'multiAddressStrategy' field must be set"
        raise configuration_error(entity_type, "address", reason)


def _tcp_connector_address(entity_type: EntityType, attributes: Attributes, _: Registry) -> None:
    if not attributes.get("address"):
        raise configuration_error(entity_type, "address", "Address must be set")


def _address_length(entity_type: EntityType, attributes: Attributes, _: Registry) -> None:
    length = len(str(attributes.get("address") or ""))
    if length > MAX_ADDRESS_LENGTH:
        reason = f"an address may have {MAX_ADDRESS_LENGTH} characters at most, not {length}"
        raise configuration_error(entity_type, "address", reason)


def _health_check(entity_type: EntityType, attributes: Attributes, _: Registry) -> None:
    probe = str(attributes.get("healthCheck", "none"))
    if probe not in ("none", "tcp") and not probe.startswith("http:/"):
        raise configuration_error(entity_type, "healthCheck", f"{probe[:80]!r} is not none, tcp or http:/path")


def _listener_address(entity_type: EntityType, attributes: Attributes, registry: Registry) -> None:
    name = str(attributes.get("listener", ""))
    listener = registry.named("tcpListener", name)
    if listener is None:
        reason = f"tcpListener {name!r} not found; create it first, with multiAddressStrategy"
        text = f"CError: Not found: {reason}"
        raise InvalidEntityError(entity_type.full, "listener", reason, status=500, description=text)
    strategy = listener.text("multiAddressStrategy")
    if strategy in ("", "none"):
        raise configuration_error(entity_type, "listener", f"tcpListener {name!r} has no multiAddressStrategy")
    value = _number(attributes, "value")
    if strategy == "weighted" and (value is None or value <= 0):
        raise configuration_error(entity_type, "value", f"a weight must be positive, not {value}")


def _address_match(entity_type: EntityType, attributes: Attributes, registry: Registry) -> None:
    prefix, pattern = attributes.get("prefix"), attributes.get("pattern")
    if prefix is None and pattern is None:
        raise _refusal(entity_type, "prefix", "Either a 'prefix' or 'pattern' attribute must be provided")
    if prefix is not None and pattern is not None:
        raise _refusal(entity_type, "prefix", "Cannot specify both a 'prefix' and a 'pattern' attribute")
    word = "Prefix" if pattern is None else "Pattern"
    if not (prefix or pattern):
        raise _refusal(entity_type, word.lower(), f"{word} must be a non-empty string type")
    mine = address_pattern(attributes)
    if not mine:
        raise _refusal(entity_type, word.lower(), f"{word} invalid - no tokens")
    if mine in registry.by_key("address", address_pattern):
        raise _refusal(entity_type, word.lower(), "Already exists")
    priority = _number(attributes, "priority")
    if priority is not None and not 0 <= priority <= MAX_PRIORITY:
        reason = "Priority value, if present, must be between 0 and QDR_MAX_PRIORITY"
        raise _refusal(entity_type, "priority", reason)


def address_pattern(attributes: Attributes) -> str:
    """Return the wildcard pattern of an address entity, separators made equal: prefix `a.b` gives `a/b/#`."""
    pattern = attributes.get("pattern")
    text = str(attributes.get("prefix", "") if pattern is None else pattern)
    joined = "/".join(re.split(r"[./]", text.strip("./")))
    if not joined:
        return ""
    return joined if pattern is not None else f"{joined}/#"


def _auto_link(entity_type: EntityType, attributes: Attributes, _: Registry) -> None:
    if attributes.get("connection") and attributes.get("containerId"):
        reason = "Both connection and containerId cannot be specified. Specify only one"
        raise _refusal(entity_type, "connection", reason)
    if not attributes.get("address") and attributes.get("direction") != "in":
        raise _refusal(entity_type, "address", "address field is only optional if direction is incoming")


def _log(entity_type: EntityType, attributes: Attributes, _: Registry) -> None:
    levels = attributes.get("enable")
    try:
        parse_levels(str(levels) if levels is not None else "")
    except ValueError as error:
        raise configuration_error(entity_type, "enable", str(error)) from None


def _log_sink(entity_type: EntityType, attributes: Attributes, registry: Registry) -> None:
    _log(entity_type, attributes, registry)
    try:
        modules_of(str(attributes.get("modules", "")))
    except ValueError as error:
        raise configuration_error(entity_type, "modules", str(error)) from None


def _permission(entity_type: EntityType, attributes: Attributes, registry: Registry) -> None:
    for operation in entries(str(attributes.get("operations", "")).upper()):
        if operation not in OPERATIONS and not operation.startswith(READING_PREFIX):
            known = ", ".join(sorted(OPERATIONS))
            raise configuration_error(entity_type, "operations", f"{operation[:40]!r} is none of {known} and GET-...")
    for name in entries(str(attributes.get("entityTypes", ""))) - {ALL}:
        if registry.schema.find(name) is None:
            hint = suggestion(name, tuple(registry.schema.types))
            raise configuration_error(entity_type, "entityTypes", f"No such entity type {quoted(name)}{hint}")


def _vhost(entity_type: EntityType, attributes: Attributes, _: Registry) -> None:
    for name in ("maxConnections", "maxConnectionsPerUser", "maxConnectionsPerHost"):
        limit = _number(attributes, name)
        if limit is not None and not 0 <= limit <= MAX_POLICY_CONNECTIONS:
            raise _policy_error(
                entity_type, name, f"{name} {limit} is out of range; 0 to {MAX_POLICY_CONNECTIONS} is needed"
            )
    groups = attributes.get("groups", {})
    if not isinstance(groups, Mapping):
        raise _policy_error(entity_type, "groups", "groups must be a map from name to settings")
    if attributes.get("allowUnknownUser") is True and "$default" not in groups:
        raise _policy_error(entity_type, "groups", "allowUnknownUser needs a group named $default")
    owner: dict[str, str] = {}
    for group, settings in groups.items():
        if not isinstance(settings, Mapping):
            raise _policy_error(entity_type, "groups", f"group {group!r} must be a map of settings")
        for user in str(settings.get("users") or "").split(","):
            taken = owner.setdefault(user.strip(), str(group))
            if user.strip() and taken != group:
                raise _policy_error(
                    entity_type, "groups", f"user {user.strip()!r} is in groups {taken!r} and {group!r}"
                )


def _policy_error(entity_type: EntityType, attribute: str, reason: str) -> InvalidEntityError:
    return InvalidEntityError(entity_type.full, attribute, reason, status=500, description=f"PolicyError: {reason}")


_Rule = Callable[[EntityType, Attributes, Registry], None]
_AMQP_RULES: tuple[_Rule, ...] = (_role, _cost, _amqp_limits, _port, _profiles, _open_properties)
_RULES: dict[str, tuple[_Rule, ...]] = {
    "router": (_router_id,),
    "listener": _AMQP_RULES,
    "connector": _AMQP_RULES,
    "sslProfile": (_ordinals,),
    "proxyProfile": (_port,),
    "tcpListener": (_tcp_listener_address, _address_length, _port, _profiles),
    "tcpConnector": (_tcp_connector_address, _address_length, _port, _profiles, _health_check),
    "listenerAddress": (_listener_address, _address_length),
    "httpListener": (_address_length, _port, _profiles),
    "httpConnector": (_address_length, _port, _profiles),
    "address": (_address_match,),
    "autoLink": (_auto_link, _address_length),
    "log": (_log,),
    "logSink": (_log_sink,),
    "managementPermission": (_permission,),
    "vhost": (_vhost,),
}


def check_delete(entity: Entity, registry: Registry) -> None:
    """Check that nothing configured still needs an entity.

    Raises:
        InvalidEntityError: something does.
    """
    if entity.type.short != "tcpListener":
        return
    users = [other.identity for other in registry.of("listenerAddress") if other.text("listener") == entity.name]
    if users:
        raise configuration_error(
            entity.type, "", f"{entity.identity} is used by {', '.join(users[:5])}; delete it first"
        )
