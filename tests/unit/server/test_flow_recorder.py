import logging

import pytest

from vanrouter.core.flows import COUNTERPART, ERROR, FlowRecord, ServiceKind, ServiceRecord
from vanrouter.mgmt.vanflow import Attribute, Attributes, RecordType
from vanrouter.mgmt.vanflow_source import Channel
from vanrouter.server import flow_recorder
from vanrouter.server.flow_recorder import Recorder, source_id


class Owner:
    sent = 0
    written = 0

    def tell_next(self) -> None:
        """Nothing is read here."""


class Bench:
    def __init__(self) -> None:
        self.time_s = 1_000_000.0
        self.wakes = 0
        self.recorder = Recorder(lambda: self.time_s, self._wake)
        self.recorder.next_identity()
        self.source = self.recorder.source
        self.listener = ServiceRecord(ServiceKind.LISTENER, "l", "tcp", "127.0.0.1", "80", "svc")
        self.connector = ServiceRecord(ServiceKind.CONNECTOR, "c", "tcp", "127.0.0.1", "81", "svc", "p:1")

    def _wake(self) -> None:
        self.wakes += 1

    def want(self) -> None:
        self.source.want(Channel.PLAIN, True)
        self.source.want(Channel.FLOWS, True)
        self.recorder.is_wanted = True

    def flow(self) -> FlowRecord:
        record = self.recorder.begin_flow(self.recorder.next_identity(), self.listener, Owner(), "h", "1")
        assert record is not None
        return record

    def sent(self) -> dict[str, Attributes]:
        found: dict[str, Attributes] = {}
        for _ in range(5):
            self.source.tick()
            for _, records in self.source.take(10_000):
                for record in records:
                    found.setdefault(str(record[1]), {}).update(record)
        return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_source_is_named_after_the_pod_or_at_random() -> None:
    assert source_id("router-7f9c-k8x2p") == "k8x2p"
    assert len(source_id("host")) == len(source_id(None)) == len(source_id("-short")) == 5
    assert source_id("plainhostname") != source_id("plainhostname")


def test_services(bench: Bench) -> None:
    bench.want()
    bench.recorder.begin_service(bench.listener)
    bench.recorder.begin_service(bench.connector)
    found = bench.sent()
    listener, connector = found[bench.listener.identity], found[bench.connector.identity]
    assert (listener[0], listener[19], listener[40]) == (RecordType.LISTENER, "svc", 0)
    assert (connector[0], connector[Attribute.PROCESS], connector[40]) == (RecordType.CONNECTOR, "p:1", 0)
    assert Attribute.PROCESS not in listener
    for _ in range(20):
        bench.flow()
    bench.recorder.write_counts(100.0)
    assert bench.sent()[bench.listener.identity][Attribute.FLOW_COUNT_L4] == 20
    bench.recorder.write_counts(101.0)
    assert bench.listener.identity not in bench.sent()
    bench.recorder.end_service(bench.connector)
    assert bench.sent()[bench.connector.identity][Attribute.FLOW_COUNT_L4] == 1
    bench.recorder.end_service(bench.listener)
    bench.recorder.end_service(bench.listener)
    assert Attribute.END_TIME in bench.sent()[bench.listener.identity]
    bench.flow()  # of a listener that is deleted: a client was just being accepted
    bench.recorder.write_counts(102.0)


def test_both_ends_on_one_router_make_one_record(bench: Bench) -> None:
    bench.recorder.begin_service(bench.connector)
    bench.want()
    flow = bench.flow()
    other = bench.recorder.begin_counterpart(flow.identity, bench.connector, Owner(), [])
    assert other is not None
    other.proxy_host, other.proxy_port = "127.0.0.1", "5"
    bench.recorder.changed(other, COUNTERPART)
    assert bench.connector.flows == 2
    bench.recorder.on_octets(flow, is_towards_server=True)
    bench.recorder.on_octets(other, is_towards_server=True)
    bench.time_s += 0.5
    bench.recorder.on_octets(other, is_towards_server=False)
    bench.time_s += 0.25
    bench.recorder.on_octets(flow, is_towards_server=False)
    found = bench.sent()[flow.identity]
    assert (found[24], found[61], found[31], found[60]) == (750_000, 500_000, "Local", bench.connector.identity)
    bench.recorder.end(other)
    bench.recorder.end(flow)
    assert bench.sent()[flow.identity][4] == int(bench.time_s * 1e6)
    assert not bench.recorder.has_counterpart_news
    assert bench.source.transient == 0


def test_the_other_end_elsewhere_is_told_by_message(bench: Bench) -> None:
    bench.recorder.observe(True)
    record = bench.recorder.begin_counterpart("other:9", bench.connector, Owner(), ["0/A", "0/B"])
    assert record is not None
    assert bench.wakes
    assert bench.recorder.take_counterparts() == {"vfcr.other:0": [{0: 16, 1: "other:9", 31: "0/A|0/B", 60: ""}]}
    assert bench.recorder.take_counterparts() == {}
    bench.recorder.on_octets(record, is_towards_server=True)
    bench.recorder.on_octets(record, is_towards_server=False)
    record.error = "refused"
    bench.recorder.end(record)
    assert bench.recorder.has_counterpart_news
    assert bench.recorder.take_counterparts() == {"vfcr.other:0": [{0: 16, 1: "other:9", 61: 0, 65: "refused"}]}
    assert not bench.recorder.has_counterpart_news


def test_without_a_collector_only_failures_are_told_to_other_ends(bench: Bench) -> None:
    good, bad, late = (
        bench.recorder.begin_counterpart(f"other:{number}", bench.connector, Owner(), ["0/A"]) for number in (1, 2, 3)
    )
    assert good is not None
    assert bad is not None
    assert late is not None
    bench.recorder.end(good)
    bad.error = "refused"
    bench.recorder.end(bad)
    assert bench.recorder.take_counterparts() == {
        "vfcr.other:0": [{0: 16, 1: "other:2", 31: "0/A", 60: "", 65: "refused"}]
    }
    late.proxy_host, late.proxy_port = "127.0.0.1", "5"
    bench.recorder.changed(late, COUNTERPART)
    assert not bench.recorder.has_counterpart_news
    bench.recorder.observe(True)
    whole = {0: 16, 1: "other:3", 31: "0/A", 60: "", 62: "127.0.0.1", 63: "5"}
    assert bench.recorder.take_counterparts() == {"vfcr.other:0": [whole]}
    bench.recorder.observe(False)
    bench.recorder.end(late)
    assert not bench.recorder.has_counterpart_news


def test_a_clock_that_is_set_back_makes_no_negative_latency(bench: Bench) -> None:
    bench.want()
    bench.recorder.observe(True)
    record = bench.recorder.begin_counterpart("other:9", bench.connector, Owner(), [])
    request = bench.recorder.begin_request(bench.flow(), "HTTP/1.1", "GET")
    assert record is not None
    assert request is not None
    bench.recorder.on_octets(record, is_towards_server=True)
    bench.time_s -= 5
    bench.recorder.on_octets(record, is_towards_server=False)
    bench.recorder.end(request)
    assert bench.recorder.take_counterparts()["vfcr.other:0"][0][61] == 0
    assert bench.sent()[request.identity][24] == 0


def test_a_stream_without_identity_has_no_counterpart(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.recorder.begin_counterpart(None, bench.connector, Owner(), []) is None
    assert bench.recorder.begin_counterpart("nonsense", bench.connector, Owner(), []) is None
    monkeypatch.setattr(flow_recorder, "MAX_COUNTERPARTS", 0)
    assert bench.recorder.begin_counterpart("other:9", bench.connector, Owner(), []) is None


def test_messages_about_flows_that_are_not_ours_are_ignored(bench: Bench) -> None:
    bench.recorder.begin_service(bench.listener)
    before = dict(bench.source.live)
    for identity in ("other:1", bench.listener.identity, ""):
        bench.recorder.merge({1: identity, 65: "x"})
    assert bench.source.live == before


def test_a_late_word_of_the_other_end_completes_an_ended_flow(bench: Bench) -> None:
    bench.want()
    flow = bench.flow()
    bench.recorder.changed(flow, ERROR)
    bench.recorder.end(flow)
    assert flow.identity not in bench.sent()
    bench.recorder.merge({1: flow.identity, 60: "b:1"})
    assert flow.identity not in bench.sent()
    bench.recorder.merge({1: flow.identity, 65: "refused"})
    found = bench.sent()[flow.identity]
    assert (found[60], found[65], 4 in found) == ("b:1", "refused", True)


def test_requests_are_recorded_while_somebody_listens(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = bench.flow()
    assert bench.recorder.begin_request(None, "HTTP/1.1", "GET") is None
    assert bench.recorder.begin_request(flow, "HTTP/1.1", "GET") is None
    bench.want()
    request = bench.recorder.begin_request(flow, "HTTP/1.1", "GET")
    assert request is not None
    bench.time_s += 1
    bench.recorder.end(request)
    found = bench.sent()[request.identity]
    assert (found[2], found[27], found[24]) == (flow.identity, "GET", 1_000_000)
    assert (bench.listener.requests, bench.recorder.requests) == (2, 0)
    monkeypatch.setattr(flow_recorder, "MAX_REQUESTS", 0)
    assert bench.recorder.begin_request(flow, "HTTP/1.1", "GET") is None


def test_beyond_the_bound_flows_are_counted_only(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanrouter.mgmt.vanflow_source.MAX_TRANSIENT", 1)
    bench.flow()
    assert bench.recorder.begin_flow("a:9", bench.listener, Owner(), "h", "1") is None
    assert (bench.listener.flows, bench.source.not_kept) == (2, 1)


def test_each_ended_record_has_a_line_in_the_log_within_bounds(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "vanrouter.flow")
    monkeypatch.setattr(flow_recorder, "LINES_PER_S", 3)
    for _ in range(5):
        flow = bench.flow()
        flow.error = "broken"
        bench.recorder.end(flow)
        bench.recorder.merge({1: flow.identity, 65: "refused"})
    bench.sent()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert lines[0].startswith("BIFLOW_TPORT [")
    assert "errorListenerSide=broken errorConnectorSide=refused" in lines[0]
    bench.time_s += 1
    bench.recorder.end(bench.flow())
    for _ in range(6):
        bench.sent()
    assert any("without a line of their own: 2" in record.getMessage() for record in caplog.records)
