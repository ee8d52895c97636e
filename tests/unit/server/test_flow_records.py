from vanrouter.core.flows import COUNTERPART, ERROR, LATENCY, ServiceKind, ServiceRecord
from vanrouter.server.flow_records import LOCAL, Counterpart, Request, Transport


class Owner:
    def __init__(self) -> None:
        self.sent = 10
        self.written = 20
        self.asked = 0

    def tell_next(self) -> None:
        self.asked += 1


def service(identity: str = "a:1") -> ServiceRecord:
    record = ServiceRecord(ServiceKind.LISTENER, "l", "tcp", "127.0.0.1", "80", "svc")
    record.identity = identity
    return record


def test_a_flow_is_told_whole_then_what_has_changed() -> None:
    owner = Owner()
    record = Transport("a:5", service(), owner, "10.0.0.1", "4711")
    record.started_us = 1000
    first = {0: 16, 1: "a:5", 2: "a:1", 3: 1000, 14: "10.0.0.1", 17: "4711", 23: 10, 58: 20}
    assert record.describe(False) == first
    assert record.describe(False) == {0: 16, 1: "a:5"}
    owner.written = 25
    assert record.describe(False) == {0: 16, 1: "a:5", 58: 25}
    record.latency_us = 7
    record.news |= LATENCY
    assert record.describe(False) == {0: 16, 1: "a:5", 24: 7}
    assert record.describe(True) == {**first, 58: 25, 24: 7}
    assert owner.asked == 5
    record.owner, record.octets, record.ended_us, record.error = None, 11, 2000, "broken"
    assert record.describe(False) == {0: 16, 1: "a:5", 4: 2000, 23: 11, 58: 25, 64: "broken"}


def test_the_other_end_writes_its_part_and_no_more() -> None:
    record = Transport("a:5", service(), Owner(), "h", "1")
    record.describe(False)
    assert not record.is_complete
    record.merge({0: 16, 1: "a:5", 2: "evil", 4: 1, 14: "evil", 31: "0/A", 60: "b:2", 62: "127.0.0.1", 63: "5"})
    assert record.describe(False) == {0: 16, 1: "a:5", 31: "0/A", 60: "b:2", 62: "127.0.0.1", 63: "5"}
    assert not record.is_complete
    record.merge({61: 99})
    assert record.is_complete
    assert record.describe(False)[61] == 99
    record.merge({61: "text", 65: "x" * 1000})
    assert record.connector_error == "x" * 300
    assert record.process_latency_us == 99
    failed = Transport("a:6", service(), Owner(), "h", "1")
    failed.merge({65: "refused"})
    assert failed.is_complete
    assert failed.describe(False)[65] == "refused"


def test_a_counterpart_tells_each_thing_once() -> None:
    record = Counterpart("x:5", service("b:2"), Owner(), "0/A|0/B")
    assert record.describe() == {0: 16, 1: "x:5", 31: "0/A|0/B", 60: "b:2"}
    assert record.describe() == {0: 16, 1: "x:5"}
    record.proxy_host, record.proxy_port, record.latency_us = "127.0.0.1", "6", 50
    record.error = "refused"
    record.news = COUNTERPART | LATENCY | ERROR
    assert record.describe() == {0: 16, 1: "x:5", 62: "127.0.0.1", 63: "6", 61: 50, 65: "refused"}
    assert Counterpart("x:5", service("b:2"), Owner(), "").describe()[31] == LOCAL


def test_a_request() -> None:
    flow = Transport("a:5", service(), Owner(), "h", "1")
    record = Request("a:6", flow, "HTTP/1.1", "GET", None)
    record.started_us = 5
    begun = {0: 17, 1: "a:6", 2: "a:5", 3: 5, 16: "HTTP/1.1", 27: "GET"}
    assert record.describe(False) == begun
    assert record.describe(False) == {0: 17, 1: "a:6"}
    record.ended_us, record.octets, record.octets_reverse = 9, 0, 300
    record.result, record.reason, record.latency_us, record.host = "200", "OK", 4, "10.1.1.1"
    ended = {4: 9, 23: 0, 58: 300, 24: 4, 28: "200", 29: "OK", 14: "10.1.1.1"}
    assert record.describe(False) == {0: 17, 1: "a:6", **ended}
    assert record.describe(True) == {**begun, **ended}
    assert Request("a:7", flow, "HTTP/2", "POST", 3).describe(False)[47] == 3
