"""What a site tells a collector that is attached to it (vanflow, sections 1 to 4)."""

from __future__ import annotations

import logging
import socket
from itertools import pairwise
from typing import Any

import pytest

from tests.unit.core.engines import ACCEPTED, Client, Drain
from tests.unit.server.sites import LISTENER, ROUTER, Bench
from vanrouter.engine.messages import Message, decode_message, encode_message
from vanrouter.mgmt import vanflow
from vanrouter.mgmt.vanflow import Attribute, Attributes, RecordType, encode_records, records_of
from vanrouter.server.flows import END_S, MAX_LOG_EVENTS

SITE = """
site {
    name: here
    platform: linux
}
"""
SERVICES = """
tcpListener {
    name: front
    host: 127.0.0.1
    port: 0
    address: svc
}
tcpConnector {
    name: back
    host: 127.0.0.1
    port: %d
    address: svc
}
"""


class Collector:
    """A client that has subscribed to everything of a site's source."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.source = bench.site.recorder.identity
        self.client: Client = bench.connect(container="collector")
        self.drains: dict[str, Drain] = {}

    def subscribe(self, *addresses: str) -> Collector:
        for address in addresses:
            self.drains[address] = self.client.receiver(address, auto=ACCEPTED, credit=1000)
        self.bench.settle()
        return self

    def subscribe_all(self) -> Collector:
        base = vanflow.event_address(self.source)
        return self.subscribe(base, f"{base}.flows", f"{base}.logs")

    def take(self, address: str | None = None) -> list[Message]:
        drain = self.drains[address or vanflow.event_address(self.source)]
        messages = [decode_message(bytes(content)) for content in drain.contents]
        drain.got.clear()
        return messages

    def records(self, suffix: str = "") -> list[Attributes]:
        messages = self.take(vanflow.event_address(self.source) + suffix)
        return [record for message in messages if message.subject == "RECORD" for record in records_of(message.body)]

    def flush(self) -> None:
        sender = self.client.sender(vanflow.direct_address(self.source))
        self.bench.settle()
        sender.send(encode_message(Message(subject="FLUSH")))
        self.bench.settle()
        sender.detach()


def of_type(records: list[Attributes], kind: RecordType) -> list[Attributes]:
    return [record for record in records if record[0] == kind]


def test_beacons_and_heartbeats_only_while_somebody_listens(bench: Bench) -> None:
    flows = bench.site.flows
    bench.site.router.wall_clock = lambda: bench.time + 1_000_000
    bench.advance(30)
    assert flows.messages_sent == 0
    collector = Collector(bench).subscribe(vanflow.ALL_SOURCES)
    bench.advance(1)
    (beacon,) = collector.take(vanflow.ALL_SOURCES)
    source = collector.source
    assert beacon.subject == "BEACON"
    assert beacon.application_properties == {
        "v": 1,
        "sourceType": "ROUTER",
        "id": source,
        "address": f"mc/sfe.{source}",
        "direct": f"sfe.{source}",
    }
    collector.subscribe(vanflow.event_address(source))
    bench.advance(20.1)
    assert len(collector.take(vanflow.ALL_SOURCES)) == 2
    beats = [message for message in collector.take() if message.subject == "HEARTBEAT"]
    assert len(beats) == 10
    now = [int(beat.application_properties["now"]) for beat in beats]
    assert all(1_900_000 < later - sooner < 2_300_000 for sooner, later in pairwise(now))
    collector.client.drop()
    bench.advance(2)
    sent = flows.messages_sent
    bench.advance(30)
    assert flows.messages_sent == sent
    assert not flows._is_ticking


def test_a_collector_gets_everything_then_what_changes(bench_of: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        bench = bench_of(ROUTER + LISTENER + SITE + SERVICES % server.getsockname()[1]).start()
        collector = Collector(bench).subscribe_all()
        bench.advance(1.5)
        records = collector.records()
        (router,) = of_type(records, RecordType.ROUTER)
        (site,) = of_type(records, RecordType.SITE)
        assert (router[Attribute.NAME], router[Attribute.PARENT]) == ("0/S", site[Attribute.IDENTITY])
        assert (site[Attribute.NAME], site[Attribute.PLATFORM]) == ("here", "linux")
        (listener,) = of_type(records, RecordType.LISTENER)
        assert {record[Attribute.PARENT] for record in (listener, *of_type(records, RecordType.CONNECTOR))} == {
            collector.source
        }
        with socket.create_connection(("127.0.0.1", bench.live("front").bound_port), 5) as client:
            client.sendall(b"question")
            bench.settle()
            there, _ = server.accept()
            bench.settle()
            there.sendall(b"an answer")
            bench.settle()
            bench.advance(2)
            flow: Attributes = {}
            for record in collector.records(".flows"):
                flow.update(record)
            assert (flow[Attribute.OCTETS], flow[Attribute.OCTETS_REVERSE]) == (8, 9)
            assert (flow[Attribute.TRACE], flow[Attribute.PROXY_PORT]) == ("Local", str(there.getpeername()[1]))
            bench.advance(10)
            assert collector.records(".flows") == []
            collector.flush()
            bench.advance(2)
            (again,) = collector.records(".flows")
            assert again == flow
            assert {record[1] for record in collector.records()} >= {record[1] for record in records}
        there.close()
        bench.settle()
        bench.advance(2)
        (ended,) = collector.records(".flows")
        assert Attribute.END_TIME in ended
        collector.client.drop()


def test_messages_are_numbered(bench: Bench) -> None:
    collector = Collector(bench).subscribe_all()
    for _ in range(3):
        collector.flush()
        bench.advance(1.5)
    numbers = [message.message_id for message in collector.take() if message.subject == "RECORD"]
    assert numbers == list(range(1, len(numbers) + 1))


def test_many_records_go_out_piece_by_piece(bench: Bench) -> None:
    recorder = bench.site.recorder
    for _ in range(1000):
        recorder.add(RecordType.LISTENER, {Attribute.NAME: "x"})
    collector = Collector(bench).subscribe_all()
    bench.advance(1)
    assert len(of_type(collector.records(), RecordType.LISTENER)) == 1000


def test_warnings_are_told_and_secrets_are_not(bench: Bench) -> None:
    collector = Collector(bench).subscribe_all()
    bench.logs.hide("tres-secret")
    log = logging.getLogger("vanrouter.adaptors.tcp")
    log.warning("the key is tres-secret")
    log.info("nothing")
    logging.getLogger("vanrouter.flow").warning("not about itself")
    bench.advance(2)
    (record,) = collector.records(".logs")
    assert record[Attribute.LOG_TEXT] == "LOG_TCP_ADAPTOR: the key is ***"
    assert record[Attribute.LOG_SEVERITY] == 2
    assert record[Attribute.START_TIME] == record[Attribute.END_TIME]
    assert record[Attribute.SOURCE_FILE]
    assert record[Attribute.SOURCE_LINE]
    for _ in range(MAX_LOG_EVENTS + 5):
        log.error("a storm")
    bench.advance(2)
    assert len(collector.records(".logs")) == MAX_LOG_EVENTS
    assert bench.site.flows.events_left_out == 5
    log.error("one more")
    collector.client.drop()
    bench.advance(2)
    assert not bench.site.flows._events


def test_the_other_end_of_a_flow_speaks_by_message(bench: Bench) -> None:
    collector = Collector(bench)
    sender = collector.client.sender(str(vanflow.counterpart_address(collector.source)))
    bench.settle()
    for content in (
        encode_message(Message(subject="RECORD", body=None)),
        b"\x00\x53\x77\xff",
        encode_message(Message(subject="RECORD")).removesuffix(b"\x00\x53\x77\x40")
        + encode_records([{0: 16, 1: "x:1"}]),
    ):
        sender.send(content)
        bench.settle()
    assert bench.site.flows.refused == 2
    direct = collector.client.sender(vanflow.direct_address(collector.source))
    bench.settle()
    direct.send(b"\x00\x53\x77\xff")
    direct.send(encode_message(Message(subject="HELLO")))
    bench.settle()
    assert bench.site.flows.refused == 3


def test_the_site_id_comes_from_the_environment(bench_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKUPPER_SITE_ID", "the-site")
    monkeypatch.setenv("POD_NAMESPACE", "space")
    bench = bench_of(ROUTER + LISTENER + SITE).start()
    collector = Collector(bench).subscribe_all()
    bench.advance(1.5)
    records = collector.records()
    (router,) = of_type(records, RecordType.ROUTER)
    (site,) = of_type(records, RecordType.SITE)
    assert (site[1], router[Attribute.PARENT], router[Attribute.NAMESPACE]) == ("the-site", "the-site", "space")


def test_the_end_is_told(bench_of: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        bench = bench_of(ROUTER + LISTENER + SITE + SERVICES % server.getsockname()[1]).start()
        collector = Collector(bench).subscribe_all().subscribe(vanflow.ALL_SOURCES)
        with socket.create_connection(("127.0.0.1", bench.live("front").bound_port), 5) as client:
            client.sendall(b"x" * 7)
            bench.advance(3)
            for address in collector.drains:
                collector.take(address)
            ended: list[bool] = []
            bench.site.flows.finish(lambda: ended.append(True))
            bench.advance(0.1)
            assert ended == [True]
        plain, flows = collector.records(), collector.records(".flows")
        assert all(Attribute.END_TIME in record for record in (*plain, *flows))
        (flow,) = flows
        assert flow[Attribute.OCTETS] == 7
        kinds = [record[Attribute.RECORD_TYPE] for record in plain]
        assert sorted(kinds) == sorted((RecordType.CONNECTOR, RecordType.LISTENER, RecordType.ROUTER))
        assert kinds[-1] == RecordType.ROUTER, "what was there first ends last"
        (beacon,) = collector.take(vanflow.ALL_SOURCES)
        assert beacon.application_properties["ending"] is True


def test_a_bug_of_a_tick_is_not_the_last_one(bench_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(ROUTER + LISTENER).start()
    bench.allows_crashes = True
    collector = Collector(bench).subscribe(vanflow.ALL_SOURCES)
    flows = bench.site.flows
    made = flows._beacon

    def broken(*, is_ending: bool = False) -> None:
        monkeypatch.setattr(flows, "_beacon", made)
        raise RuntimeError("a bug")

    monkeypatch.setattr(flows, "_beacon", broken)
    while not bench.reactor.crashes:
        bench.time += 0.1
        bench.reactor.run_once(0)
    bench.reactor.crashes = 0
    bench.advance(1)
    assert collector.take(vanflow.ALL_SOURCES)

    collector.subscribe_all()
    monkeypatch.setattr(flows, "_beacon", broken)
    ended: list[bool] = []
    flows.finish(lambda: ended.append(True))
    while not bench.reactor.crashes:
        bench.time += 0.01
        bench.reactor.run_once(0)
    assert ended == [True]


def test_the_end_waits_for_nobody(bench_of: Any) -> None:
    """A collector that takes nothing holds the end up for half a second; no collector, not at all."""
    bench = bench_of(ROUTER + LISTENER).start()
    ended: list[float] = []
    bench.site.flows.finish(lambda: ended.append(bench.time))
    assert ended
    ended.clear()
    base = vanflow.event_address(bench.site.recorder.identity)
    bench.connect().receiver(base, credit=0)
    began = bench.time
    bench.site.flows.finish(lambda: ended.append(bench.time))
    bench.advance(1)
    assert ended == [pytest.approx(began + END_S, abs=0.05)]
