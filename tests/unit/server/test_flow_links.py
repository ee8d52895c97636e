"""LINK and ROUTER_ACCESS records of two sites that are linked."""

from __future__ import annotations

import socket
from collections.abc import Callable

from tests.unit.server.sites import LISTENER, Bench
from vanrouter.mgmt.vanflow import Attribute, Attributes, RecordType
from vanrouter.mgmt.vanflow_source import Channel

INTERIOR = """
router {
    mode: interior
    id: S
}
listener {
    name: access
    role: inter-router
    host: 127.0.0.1
    port: 0
    authenticatePeer: no
}
connector {
    name: out
    role: inter-router
    host: 127.0.0.1
    port: %d
    cost: 3
}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def records(bench: Bench) -> dict[int, Attributes]:
    """The records of links, by their type."""
    bench.site.flows.links.write(bench.time)
    source = bench.site.recorder.source
    found = (record.describe(True) for record in source.live.values() if record.channel is Channel.PLAIN)
    return {int(record[0]): record for record in found if record[0] in (RecordType.LINK, RecordType.ROUTER_ACCESS)}


def test_a_link_that_is_down_says_why(bench_of: Callable[[str], Bench]) -> None:
    bench = bench_of(INTERIOR % free_port() + LISTENER).start()
    bench.advance(5)
    found = records(bench)
    link = found[RecordType.LINK]
    assert (link[Attribute.OPER_STATUS], link[Attribute.DOWN_COUNT], link[Attribute.LINK_COST]) == ("down", 1, 3)
    assert (link[Attribute.RESULT], link[Attribute.REASON]) == ("proton:io", "Connection refused")
    assert (link[Attribute.NAME], link[Attribute.ROLE], link[Attribute.HTTP_PROXY]) == ("out", "inter-router", "no")
    assert Attribute.UP_TIMESTAMP not in link
    assert found[RecordType.ROUTER_ACCESS][Attribute.LINK_COUNT] == 0


def test_both_ends_of_a_link(bench_of: Callable[[str], Bench]) -> None:
    far = bench_of(INTERIOR % free_port()).start()
    near = bench_of(INTERIOR.replace("id: S", "id: N") % far.port("access")).start()
    connector = near.live("out")

    def until(condition: Callable[[], bool]) -> None:
        for _ in range(200):
            if condition():
                return
            near.advance(0.1)
            far.settle()
        raise AssertionError("it never came true")

    until(lambda: connector.is_up)
    link, access = records(near)[RecordType.LINK], records(far)[RecordType.ROUTER_ACCESS]
    assert link[Attribute.OPER_STATUS] == "up"
    assert link[Attribute.PEER] == access[Attribute.IDENTITY]
    assert access[Attribute.LINK_COUNT] == 1
    sent = connector.octets()
    assert sent[0] > 0
    assert (link[Attribute.OCTETS], link[Attribute.OCTETS_REVERSE]) == sent
    connector.connection.engine.drop(None)
    near.settle()
    far.settle()
    assert records(far)[RecordType.ROUTER_ACCESS][Attribute.LINK_COUNT] == 0
    link = records(near)[RecordType.LINK]
    assert (link[Attribute.OPER_STATUS], link[Attribute.DOWN_COUNT]) == ("down", 1)
    assert connector.octets() >= sent
    until(lambda: connector.is_up)


def test_records_end_with_their_entities(bench_of: Callable[[str], Bench]) -> None:
    bench = bench_of(INTERIOR % free_port() + LISTENER).start()
    live = [bench.live("out"), bench.live("access"), bench.live("l")]
    for one in live:
        bench.site.flows.links.remove(one)
    bench.advance(1)
    assert records(bench) == {}
