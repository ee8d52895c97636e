from __future__ import annotations

import pytest

from tests.unit.mgmt.fakes import Managed
from vanrouter.mgmt import rules
from vanrouter.mgmt.entity_types import SCHEMA
from vanrouter.mgmt.schema import InvalidEntityError

CONFIG = """
router {
    mode: interior
    id: A
}
sslProfile {
    name: tls
}
tcpListener {
    name: many
    port: 1
    multiAddressStrategy: weighted
}
tcpListener {
    name: one
    port: 2
    address: a
}
address {
    prefix: a.b
}
"""

REFUSED = [
    ("listener", {"cost": 0}, 500, "CError: Configuration: Invalid cost (0)"),
    ("connector", {"cost": 2**31}, 500, "maximum value is 2147483647"),
    ("listener", {"maxFrameSize": 511}, 500, "Invalid maxFrameSize"),
    ("listener", {"maxSessions": 32769}, 500, "Invalid maxSessions"),
    ("listener", {"maxSessionFrames": 1}, 500, "Invalid maxSessionFrames"),
    ("listener", {"port": "65536"}, 500, "out of range"),
    ("listener", {"port": "-1"}, 500, "out of range"),
    ("listener", {"sslProfile": "x"}, 500, "sslProfile 'x' not found; configured: tls"),
    ("connector", {"proxyProfile": "x"}, 500, "proxyProfile 'x' not found; configured: none"),
    ("listener", {"openProperties": {"product": "x"}}, 400, "Reserved key 'product' not allowed in openProperties"),
    ("listener", {"openProperties": {"qd.x": 1}}, 400, "Reserved key 'qd.x'"),
    ("listener", {"openProperties": {"x": 1}, "role": "edge"}, 400, "openProperties not allowed for role edge"),
    ("sslProfile", {"ordinal": -1}, 500, "Negative ordinal field values are invalid"),
    ("sslProfile", {"oldestValidOrdinal": 1}, 500, "ordinal must be >= oldestValidOrdinal"),
    ("tcpListener", {"port": "1"}, 500, "Exactly one of the 'address' or 'multiAddressStrategy' field must be set"),
    ("tcpListener", {"port": "1", "address": "a", "multiAddressStrategy": "priority"}, 500, "Exactly one of"),
    ("tcpListener", {"address": "a"}, 500, "port must be set"),
    ("tcpConnector", {"port": "1"}, 500, "Configuration: Address must be set"),
    ("tcpListener", {"port": "1", "address": "a" * 4001}, 500, "4000 characters at most, not 4001"),
    ("httpConnector", {"port": "1", "address": "a" * 70_000}, 500, "4000 characters at most, not 70000"),
    ("autoLink", {"direction": "in", "address": "a" * 4001}, 500, "4000 characters at most"),
    ("tcpConnector", {"port": "1", "address": "a", "healthCheck": "ping"}, 500, "none, tcp or http:/path"),
    ("listenerAddress", {"listener": "none", "address": "a", "value": 1}, 500, "CError: Not found: tcpListener 'none'"),
    ("listenerAddress", {"listener": "one", "address": "a", "value": 1}, 500, "has no multiAddressStrategy"),
    ("listenerAddress", {"listener": "many", "address": "a", "value": 0}, 500, "must be positive"),
    ("address", {}, 400, "Either a 'prefix' or 'pattern' attribute must be provided"),
    ("address", {"prefix": "a", "pattern": "b"}, 400, "Cannot specify both a 'prefix' and a 'pattern' attribute"),
    ("address", {"prefix": ""}, 400, "Prefix must be a non-empty string type"),
    ("address", {"pattern": "/./"}, 400, "Pattern invalid - no tokens"),
    ("address", {"prefix": "/a/b/"}, 400, "Already exists"),
    ("address", {"pattern": "a/b/#"}, 400, "Already exists"),
    ("address", {"prefix": "x", "priority": 10}, 400, "must be between 0 and QDR_MAX_PRIORITY"),
    ("autoLink", {"direction": "in", "connection": "a", "containerId": "b"}, 400, "Specify only one"),
    ("autoLink", {"direction": "out"}, 400, "address field is only optional if direction is incoming"),
    ("log", {"module": "HTTP", "enable": "loud"}, 500, "'loud' is not a log level"),
    ("vhost", {"hostname": "v", "maxConnections": 65536}, 500, "PolicyError: maxConnections 65536 is out of range"),
    ("vhost", {"hostname": "v", "groups": []}, 500, "groups must be a map"),
    ("vhost", {"hostname": "v", "groups": {"g": 1}}, 500, "group 'g' must be a map"),
    ("vhost", {"hostname": "v", "allowUnknownUser": True}, 500, "a group named $default"),
    ("vhost", {"hostname": "v", "groups": {"g": {"users": "a"}, "h": {"users": "b, a"}}}, 500, "user 'a' is in groups"),
    ("proxyProfile", {"port": "99999"}, 500, "out of range"),
    ("router", {"id": "a/b"}, 400, "disallowed"),
    ("router", {"id": "a\\b"}, 400, "disallowed"),
]


@pytest.mark.parametrize(("short", "attributes", "status", "said"), REFUSED)
def test_refused(short: str, attributes: dict[str, object], status: int, said: str) -> None:
    with pytest.raises(InvalidEntityError) as caught:
        rules.check(SCHEMA[short], attributes, Managed(CONFIG).registry)
    assert caught.value.status == status
    assert said in caught.value.description


@pytest.mark.parametrize(
    ("short", "attributes"),
    [
        ("listener", {"cost": 1, "maxFrameSize": 0, "maxSessions": 0, "maxSessionFrames": 2, "port": "amqp"}),
        ("listener", {"role": "inter-router", "sslProfile": "tls", "port": "0"}),
        ("listener", {"openProperties": {"colour": "blue"}, "role": "normal"}),
        ("sslProfile", {"ordinal": 5, "oldestValidOrdinal": 5}),
        ("tcpListener", {"port": "1", "multiAddressStrategy": "priority"}),
        ("tcpConnector", {"port": "1", "address": "a", "healthCheck": "http:/ready"}),
        ("listenerAddress", {"listener": "many", "address": "a", "value": 1}),
        ("address", {"pattern": "a/b"}),
        ("autoLink", {"direction": "in"}),
        ("vhost", {"hostname": "v", "allowUnknownUser": True, "groups": {"$default": {"users": "*"}}}),
        ("router", {"id": "Ünï-1.x"}),
    ],
)
def test_allowed(short: str, attributes: dict[str, object]) -> None:
    rules.check(SCHEMA[short], attributes, Managed(CONFIG).registry)


@pytest.mark.parametrize(
    ("mode", "short", "role", "said"),
    [
        ("standalone", "listener", "edge", "role='standalone' not allowed to connect to or accept connections"),
        ("edge", "connector", "inter-router", "role='inter-router' only allowed with router mode='interior'"),
        ("edge", "listener", "edge", "role='edge' only allowed with router mode='interior'"),
    ],
)
def test_roles_against_mode(mode: str, short: str, role: str, said: str) -> None:
    registry = Managed(f"router {{\n mode: {mode}\n}}\n").registry
    with pytest.raises(InvalidEntityError, match=said) as caught:
        rules.check(SCHEMA[short], {"role": role}, registry)
    assert caught.value.status == 400


def test_router_ids_with_known_texts() -> None:
    for router_id, said in (("a|b", "illegal character"), ("a$", "illegal character"), ("a\tb", "disallowed")):
        with pytest.raises(InvalidEntityError, match=said):
            rules.check(SCHEMA["router"], {"id": router_id}, Managed(CONFIG).registry)


def test_only_tcp_listeners_are_held_by_others() -> None:
    registry = Managed(CONFIG).registry
    for entity in registry:
        if entity.type.short != "tcpListener":
            rules.check_delete(entity, registry)


def test_a_listener_with_addresses_stays() -> None:
    managed = Managed(CONFIG)
    listener = managed.registry.named("tcpListener", "many")
    assert listener is not None
    rules.check_delete(listener, managed.registry)
    managed.registry.add(SCHEMA["listenerAddress"], {"listener": "many", "address": "a", "value": 1})
    with pytest.raises(InvalidEntityError, match="delete it first"):
        rules.check_delete(listener, managed.registry)


@pytest.mark.parametrize(
    ("attributes", "pattern"),
    [({"prefix": "a.b"}, "a/b/#"), ({"prefix": "/a/"}, "a/#"), ({"pattern": "a.*.b"}, "a/*/b"), ({"prefix": "//"}, "")],
)
def test_address_patterns(attributes: dict[str, object], pattern: str) -> None:
    assert rules.address_pattern(attributes) == pattern
