"""Records between vanrouter and the C router: each reads what the other says of the other end of its flows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.network import Network
from tests.system.process import free_port
from tests.system.services import connect, receive_exactly
from vanrouter.mgmt.vanflow import Attribute, Attributes, RecordType, label
from vanrouter.mgmt.vanflow_client import Collector
from vanrouter.mgmt.vanflow_picture import Picture
from vanrouter.mgmt.vanflow_summary import has_all_routers

DEADLINE_S = 25.0

NOT_IN_C = {
    RecordType.LINK: {Attribute.DEST_HOST, Attribute.OCTET_RATE, Attribute.OCTET_RATE_REVERSE},
    RecordType.LISTENER: {Attribute.FLOW_RATE_L4},
    RecordType.CONNECTOR: {Attribute.FLOW_RATE_L4},
    RecordType.ROUTER: {Attribute.PARENT},
}
"""What vanrouter tells and a C router 3.5.1 was seen not to, although the specification has it. PARENT of a router: a C
router tells it only when the environment names the site."""
NOT_IN_OURS = {
    # Of a connection lost or refused before, which depends on who of the two was there first.
    RecordType.LINK: {Attribute.RESULT, Attribute.REASON, Attribute.DOWN_TIMESTAMP},
}


@pytest.fixture(params=["vanrouter listens", "C listens", "vanrouter alone", "C alone"])
def network(request: pytest.FixtureRequest, network: Network, c_router: str, echo_port: int) -> Network:
    programs = {
        "vanrouter listens": (None, c_router),
        "C listens": (c_router, None),
        "vanrouter alone": (None, None),
        "C alone": (c_router, c_router),
    }[request.param]
    for name, program in zip("AB", programs, strict=True):
        network.add(name, program)
        network.section(name, ("address", {"prefix": "mc", "distribution": "multicast"}))
    network.section("A", ("site", {"name": "here", "platform": "linux", "location": "lab", "provider": "p"}))
    network.link("A", "B", cost=3)
    network.service("echo", "B", echo_port)
    network.service("dead", "B", free_port())
    network.clients("echo", "A")
    network.clients("dead", "A")
    return network.start()


def records(network: Network) -> tuple[dict[RecordType, list[Attributes]], Picture]:
    """What a collector at B knows of the same story: one flow that works, one that is refused."""
    with Collector(f"127.0.0.1:{network['B'].port('amqp')}") as collector:
        assert collector.wait_for(has_all_routers, DEADLINE_S)
        assert collector.wait_for(lambda picture: len(picture.live(RecordType.LISTENER)) == 2, DEADLINE_S)
        with connect(network["A"].port("to-echo")) as client:
            client.sendall(bytes(700))
            receive_exactly(client, 700)
        with connect(network["A"].port("to-dead")) as client:
            assert client.recv(1) == b""

        def both_ended(picture: Picture) -> bool:
            return sum(Attribute.END_TIME in r for r in picture.of_type(RecordType.BIFLOW_TPORT).values()) == 2

        assert collector.wait_for(both_ended, DEADLINE_S)
        with collector.picture() as picture:
            found = {kind: [dict(record) for record in picture.of_type(kind).values()] for kind in RecordType}
            return found, picture


def test_both_ends_of_a_flow_are_in_its_record(network: Network) -> None:
    found, picture = records(network)
    good, bad = sorted(
        found[RecordType.BIFLOW_TPORT], key=lambda record: str(record.get(Attribute.ERROR_CONNECTOR_SIDE))
    )
    if Attribute.ERROR_CONNECTOR_SIDE in good:
        good, bad = bad, good
    assert (good[Attribute.OCTETS], good[Attribute.OCTETS_REVERSE], good[Attribute.TRACE]) == (700, 700, "0/A")
    connectors = {record[Attribute.IDENTITY]: record for record in found[RecordType.CONNECTOR]}
    listeners = {record[Attribute.IDENTITY]: record for record in found[RecordType.LISTENER]}
    for flow, address in ((good, "echo"), (bad, "dead")):
        assert connectors[flow[Attribute.CONNECTOR]][Attribute.VAN_ADDRESS] == address
        assert listeners[flow[Attribute.PARENT]][Attribute.VAN_ADDRESS] == address
    assert int(good[Attribute.LATENCY]) >= int(good[Attribute.PROCESS_LATENCY]) > 0
    assert good[Attribute.PROXY_HOST] == "127.0.0.1"
    assert "refused" in str(bad[Attribute.ERROR_CONNECTOR_SIDE])
    assert bad[Attribute.ERROR_LISTENER_SIDE] == "delivery-failed (destination unreachable)"
    (link,) = found[RecordType.LINK]
    (access,) = found[RecordType.ROUTER_ACCESS]
    assert link[Attribute.PEER] == access[Attribute.IDENTITY]
    assert (link[Attribute.OPER_STATUS], link[Attribute.LINK_COST], access[Attribute.LINK_COUNT]) == ("up", 3, 1)
    (site,) = found[RecordType.SITE]
    assert [site[key] for key in (Attribute.NAME, Attribute.PLATFORM, Attribute.LOCATION)] == ["here", "linux", "lab"]
    assert (picture.refused, picture.gaps) == (0, 0)


def shapes(found: dict[RecordType, list[Attributes]]) -> dict[RecordType, set[tuple[str, type]]]:
    """Which attributes the records of a type have, and of which kind they are."""
    return {
        kind: {(label(key), type(value)) for record in all_of for key, value in record.items()}
        for kind, all_of in found.items()
        if all_of
    }


def test_field_by_field_like_the_c_router(tmp_path: Path, c_router: str, echo_port: int) -> None:
    """The same story told by two C routers and by two of ours has the same types of records with the same fields."""
    told = {}
    for program in (None, c_router):
        made = Network(tmp_path / str(program is None))
        (tmp_path / str(program is None)).mkdir()
        for name in "AB":
            made.add(name, program)
            made.section(name, ("address", {"prefix": "mc", "distribution": "multicast"}))
        made.section("A", ("site", {"name": "here", "platform": "linux"}))
        made.link("A", "B", cost=3)
        made.service("echo", "B", echo_port)
        made.service("dead", "B", free_port())
        made.clients("echo", "A")
        made.clients("dead", "A")
        made.start()
        try:
            told[program] = shapes(records(made)[0])
        finally:
            made.kill()
    ours, theirs = told[None], told[c_router]
    assert ours.keys() == theirs.keys()
    for kind in ours:
        more = {name for name, _ in ours[kind] - theirs[kind]} - {label(key) for key in NOT_IN_C.get(kind, ())}
        less = {name for name, _ in theirs[kind] - ours[kind]} - {label(key) for key in NOT_IN_OURS.get(kind, ())}
        assert (kind, more, less) == (kind, more & {label(key) for key in NOT_IN_OURS.get(kind, ())}, set())
