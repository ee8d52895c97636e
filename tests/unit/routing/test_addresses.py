"""Address texts to keys: the table that was verified on the wire, and the rules in edge mode and with networks."""

from __future__ import annotations

import pytest

from vanrouter.routing import addresses
from vanrouter.routing.addresses import EDGE_KEY, AddressSpace, path_of

VERIFIED = {
    # router protocol section 3.2: keys of a real interior router with id A and no network id
    "amqp://h:5672/foo/bar/": "Mfoo/bar",
    "//host/dd": "Mdd",
    "/y1": "My1",
    "amqp:z1": "Mamqp:z1",
    "a:b:/c1": "Mc1",
    "http://h/p1?q=1": "Mp1?q=1",
    "://k1": "M://k1",
    "a::/k2": "Ma::/k2",
    "amqp:/": "Mamqp:",
    "x1.": "Mx1",
    "x2//": "Mx2/",
    "_foo1": "M_foo1",
    "UPPER/Case": "MUPPER/Case",
    "_topo/0/A/loc1": "Lloc1",
    "_topo/all/all/w1": "Tw1",
    "_topo/0/all/w2": "Tw2",
    "_topo/9/R/x": "A9",
    "_topo/0/B/sub/x": "RB",
    "_topo/0/B": "RB",
    "_topo/0/A": "RA",
    "_edge/Q/z": "HQ",
    "_edge/A/loc2": "Lloc2",
    "_local/loc3": "Lloc3",
    "_xtopo/n1/0/A/loc4": "Lloc4",
    "_xtopo/n1/0/C/q": "RC",
    "_xedge/n1/D/q": "HD",
    # the protocol's own (section 3.3)
    addresses.HELLO_TO: "Lqdhello",
    addresses.TOPOLOGY_ALL_TO: "Tqdrouter",
    addresses.MOBILE_ALL_TO: "Tqdrouter.ma",
    addresses.topology_to("B"): "RB",
    addresses.topology_to("A"): "Lqdrouter",
    addresses.mobile_to("A"): "Lqdrouter.ma",
    # elements that end too early
    "_topo": "M_topo",
    "_topo/": "M_topo",
    "_topo/0": "A0",
    "_topo/0/all": "Rall",
    "_edge/A": "HA",
    "_xtopo/n1": "Nn1",
    "_other/x": "M_other/x",
}


@pytest.mark.parametrize(("text", "key"), VERIFIED.items())
def test_interior(text: str, key: str) -> None:
    space = AddressSpace("A")
    assert space.key(text) == key
    assert space.key(text) == key  # from the cache


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ""),
        ("/", "/"),
        ("//", "//"),
        ("//host", "//host"),
        ("//host/", "//host/"),
        ("///x", "x"),
        ("amqp:/x", "x"),
        ("amqp:///x", "x"),
        ("amqp://host", "amqp://host"),
        ("amqp://host/", "amqp://host/"),
        ("a:", "a:"),
        ("plain", "plain"),
    ],
)
def test_paths(text: str, path: str) -> None:
    assert path_of(text) == path


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("_local/x", "Lx"),
        ("_topo/0/all/x", "Tx"),
        ("_topo/0/E/x", "Lx"),
        ("_topo/0/B/x", EDGE_KEY),
        ("_topo/7/B/x", EDGE_KEY),
        ("_edge/E/x", "Lx"),
        ("_edge/F/x", EDGE_KEY),
        ("_edge/G/x", "HG"),
        ("_xedge/net/E/x", "Lx"),
        ("_xtopo/other/0/B/x", EDGE_KEY),
        ("foo", "Mfoo"),
    ],
)
def test_edge(text: str, key: str) -> None:
    space = AddressSpace("E", is_edge=True, network_id="net")
    space.add_edge_peer("G")
    assert space.key(text) == key


def test_edge_peers_come_and_go() -> None:
    space = AddressSpace("E", is_edge=True)
    assert space.key("_edge/G/x") == EDGE_KEY
    space.add_edge_peer("G")
    assert space.key("_edge/G/x") == "HG"
    space.remove_edge_peer("G")
    assert space.key("_edge/G/x") == EDGE_KEY


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("_xtopo/mine/0/A/x", "Lx"),
        ("_xtopo/0/0/B/x", "RB"),
        ("_xtopo/other/0/A/x", "Nother"),
        ("_xtopo/other", "Nother"),
        ("_xedge/mine/E/x", "HE"),
        ("_xedge/other/E/x", "Nother"),
    ],
)
def test_networks(text: str, key: str) -> None:
    space = AddressSpace("A")
    space.set_network_id("mine")
    assert space.network_id == "mine"
    assert space.key(text) == key


@pytest.mark.parametrize("none", [None, "", "0"])
def test_no_network(none: str | None) -> None:
    assert AddressSpace("A", network_id=none).network_id is None


def test_dynamic_addresses() -> None:
    assert AddressSpace("A").dynamic_source("x") == "amqp:/_topo/0/A/temp.x"
    assert AddressSpace("A", network_id="n").dynamic_source("x") == "amqp:/_xtopo/n/0/A/temp.x"
    assert AddressSpace("E", is_edge=True).dynamic_source("x") == "amqp:/_edge/E/temp.x"
    assert AddressSpace("E", is_edge=True, network_id="n").dynamic_source("x") == "amqp:/_xedge/n/E/temp.x"
    tenant = AddressSpace("A", tenant_id="t")
    assert tenant.dynamic_source("x") == "amqp:/_topo/0/A/t/temp.x"
    assert tenant.key(tenant.dynamic_source("x")) == "Lt/temp.x"
    assert tenant.dynamic_target("x") == "amqp:/_$temp.x"
    assert tenant.service_address("svc") == "t/svc"
    assert AddressSpace("A").service_address("svc") == "svc"


def test_annotation_ids() -> None:
    assert addresses.annotation_id("A") == "0/A"
    assert addresses.bare_id("0/A") == addresses.bare_id("A") == "A"


def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "KEY_CACHE_SIZE", 2)
    space = AddressSpace("A")
    assert [space.key(text) for text in ("a", "b", "c", "a")] == ["Ma", "Mb", "Mc", "Ma"]
    assert len(space._keys) <= 2
