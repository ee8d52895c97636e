from typing import Any

import pytest

from vanrouter.mgmt import vanflow_picture
from vanrouter.mgmt.vanflow import Attribute, Attributes, RecordType
from vanrouter.mgmt.vanflow_picture import (
    ENDING_S,
    SILENCE_S,
    AskAll,
    Command,
    Picture,
    Subscribe,
    Totals,
    Unsubscribe,
)

S = "aaaaa:0"
PLAIN, FLOWS = f"mc/sfe.{S}", f"mc/sfe.{S}.flows"


class Feed:
    """A picture and the messages of one source for it."""

    def __init__(self, **wants: bool) -> None:
        self.picture = Picture(**wants)
        self.now_s = 100.0
        self.numbers = {PLAIN: 0, FLOWS: 0}

    def beacon(self, kind: str = "ROUTER", **more: Any) -> list[Command]:
        properties = {"v": 1, "sourceType": kind, "id": S, "address": PLAIN, "direct": f"sfe.{S}", **more}
        return self.picture.on_message("mc/sfe.all", "BEACON", properties, None, None, self.now_s)

    def heartbeat(self, now: int = 1000) -> list[Command]:
        return self.picture.on_message(PLAIN, "HEARTBEAT", {"v": 1, "now": now, "id": S}, None, None, self.now_s)

    def records(self, *records: Attributes, address: str = PLAIN, number: int | None = None) -> list[Command]:
        self.numbers[address] += 1
        number = self.numbers[address] if number is None else number
        self.numbers[address] = number
        return self.picture.on_message(address, "RECORD", None, list(records), number, self.now_s)


@pytest.fixture
def feed() -> Feed:
    feed = Feed()
    feed.beacon()
    feed.heartbeat()
    return feed


def listener(number: int = 3, **more: Any) -> Attributes:
    return {0: 4, 1: f"aaaaa:{number}", 2: S, 3: 5, 19: "svc", 16: "tcp", **more}


def flow(number: int, start: int = 2000, octets: int = 0) -> Attributes:
    return {0: 16, 1: f"aaaaa:{number}", 2: "aaaaa:3", 3: start, 14: "h", 17: "1", 23: octets, 58: 2 * octets}


def test_a_beacon_leads_to_subscriptions_and_the_first_message_to_a_flush() -> None:
    feed = Feed(wants_logs=True)
    assert feed.heartbeat() == []  # of a source that nobody has announced
    addresses = [PLAIN, FLOWS, f"{PLAIN}.logs"]
    assert feed.beacon() == [Subscribe(address=address) for address in addresses]
    assert feed.beacon() == []
    assert feed.heartbeat() == [AskAll(address=f"sfe.{S}")]
    assert feed.heartbeat() == []
    assert feed.records(listener()) == []


def test_controllers_beat_elsewhere() -> None:
    feed = Feed()
    assert feed.beacon("CONTROLLER") == [Subscribe(address=PLAIN), Subscribe(address=f"{PLAIN}.heartbeats")]
    found = feed.picture.on_message(f"{PLAIN}.heartbeats", "HEARTBEAT", {"now": 5}, None, None, 0.0)
    assert found == [AskAll(address=f"sfe.{S}")]


def test_what_is_no_beacon_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed()
    assert feed.beacon(id=5) == feed.beacon(address="") == feed.beacon(id="") == []
    assert feed.picture.refused == 3
    assert feed.picture.on_message(PLAIN, "HELLO", None, None, None, 0.0) == []
    monkeypatch.setattr(vanflow_picture, "MAX_SOURCES", 0)
    assert feed.beacon() == []
    assert feed.picture.left_out == 1


def test_records_are_patched(feed: Feed) -> None:
    feed.records(listener())
    feed.records({0: 4, 1: "aaaaa:3", 40: 7})
    assert feed.picture.of_type(RecordType.LISTENER) == {"aaaaa:3": listener() | {40: 7}}
    assert feed.picture.get("aaaaa:3") == listener() | {40: 7}
    source = feed.picture.source_of("aaaaa:3")
    assert source is not None
    assert source.identity == S
    assert feed.picture.get("aaaaa:99") is feed.picture.source_of("aaaaa:99") is None
    feed.records({1: "aaaaa:3", 4: 9})
    feed.records({0: 4, 1: "aaaaa:3", 40: 8})
    assert feed.picture.live(RecordType.LISTENER) == {}
    ended = feed.picture.get("aaaaa:3")
    assert ended is not None
    assert ended[40] == 7  # the end is the last message
    feed.now_s += 100
    feed.heartbeat()
    feed.picture.on_timer(feed.now_s)
    assert feed.picture.get("aaaaa:3") is None


def test_what_cannot_be_read_is_counted(feed: Feed) -> None:
    assert feed.picture.on_message(PLAIN, "RECORD", None, "text", 1, 0.0) == []
    assert feed.picture.refused == 1
    feed.records({1: "aaaaa:77"})  # neither known nor with a type
    feed.records({0: "text", 1: "aaaaa:78"})
    assert feed.picture.get("aaaaa:77") is feed.picture.get("aaaaa:78") is None


def test_a_missing_message_makes_us_ask_again(feed: Feed) -> None:
    assert feed.records(listener()) == []
    assert feed.records(listener(), number=5) == [AskAll(address=f"sfe.{S}")]
    assert feed.picture.gaps == 1
    assert feed.records(flow(9), address=FLOWS, number=70) == []  # the first at its address


def test_silence_ends_a_source(feed: Feed) -> None:
    feed.records(listener())
    assert feed.picture.on_timer(feed.now_s + SILENCE_S) == []
    assert feed.picture.on_timer(feed.now_s + SILENCE_S + 1) == [Unsubscribe(address=PLAIN), Unsubscribe(address=FLOWS)]
    assert feed.picture.get("aaaaa:3") is None
    assert feed.picture.sources == {}
    assert feed.beacon()


def test_a_source_that_says_nothing_is_asked_all_the_same() -> None:
    feed = Feed()
    feed.beacon()
    assert feed.picture.on_timer(feed.now_s + 1) == []
    assert feed.picture.on_timer(feed.now_s + 6) == [AskAll(address=f"sfe.{S}")]
    assert feed.picture.on_timer(feed.now_s + 7) == []


def test_a_source_that_has_started_again_begins_anew(feed: Feed) -> None:
    router = {0: 1, 1: S, 3: 10, 30: "0/A"}
    feed.records(router, listener())
    feed.records(router)
    assert feed.picture.get("aaaaa:3")
    feed.records({**router, 3: 20})
    assert feed.picture.get("aaaaa:3") is None
    assert feed.picture.get(S) == {**router, 3: 20}


def test_flows_are_metered_as_they_progress(feed: Feed) -> None:
    feed.records(flow(7, start=500, octets=1000), flow(8, start=2000, octets=10), address=FLOWS)
    totals = feed.picture.totals["aaaaa:3"]
    assert (totals.opened, totals.octets, totals.octets_reverse) == (1, 10, 20)  # 7 began before us
    feed.records({0: 16, 1: "aaaaa:7", 23: 1100}, {0: 16, 1: "aaaaa:8", 24: 5000, 58: 30}, address=FLOWS)
    feed.records({0: 16, 1: "aaaaa:8", 24: 5000}, address=FLOWS)
    assert (totals.octets, totals.octets_reverse, list(totals.latencies_us)) == (110, 30, [5000])
    feed.records(flow(8, octets=10), address=FLOWS)  # everything once more
    assert (totals.opened, totals.octets, totals.octets_reverse) == (1, 110, 30)
    feed.records({0: 16, 1: "aaaaa:8", 4: 9, 23: 15, 65: "refused"}, {0: 16, 1: "aaaaa:7", 4: 9}, address=FLOWS)
    assert (totals.closed, totals.failed, totals.octets) == (2, 1, 115)
    feed.records({0: 16, 1: "aaaaa:50", 23: 5}, address=FLOWS)  # its begin was missed
    assert totals.octets == 115


def test_requests_are_counted_where_their_flow_came_in(feed: Feed) -> None:
    feed.records(flow(8), address=FLOWS)
    begun = {0: 17, 1: "aaaaa:9", 2: "aaaaa:8", 3: 2500, 27: "GET"}
    feed.records(begun, {**begun, 1: "aaaaa:10", 2: "aaaaa:99"}, address=FLOWS)
    feed.records({0: 17, 1: "aaaaa:9", 4: 3000, 28: "200"}, begun, address=FLOWS)
    assert feed.picture.totals["aaaaa:3"].requests == 1
    assert feed.picture.of_type(RecordType.BIFLOW_APP)["aaaaa:9"][Attribute.RESULT] == "200"


def test_log_events_are_kept_apart(feed: Feed) -> None:
    feed.records({0: 14, 1: "aaaaa:60", 3: 1, 4: 1, 49: "text"})
    assert [record[49] for record in feed.picture.logs] == ["text"]
    assert feed.picture.get("aaaaa:60") is None


def test_bounds(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vanflow_picture, "MAX_RECORDS", 2)
    monkeypatch.setattr(vanflow_picture, "MAX_ENDED", 1)
    feed.records(listener(3), listener(4), listener(5))
    assert feed.picture.left_out == 1
    feed.records({0: 4, 1: "aaaaa:3", 4: 9}, {0: 4, 1: "aaaaa:4", 4: 9})
    feed.picture.on_timer(feed.now_s)
    assert set(feed.picture.of_type(RecordType.LISTENER)) == {"aaaaa:4"}
    assert Totals().latencies_us.maxlen == 100


def test_a_source_that_says_that_it_ends(feed: Feed) -> None:
    """It is kept for its last records, then forgotten; one that was unknown is not begun."""
    feed.records(listener())
    assert feed.beacon(ending=True) == []
    assert feed.picture.on_timer(feed.now_s + ENDING_S) == []
    assert feed.picture.on_timer(feed.now_s + ENDING_S + 1) == [Unsubscribe(address=PLAIN), Unsubscribe(address=FLOWS)]
    assert feed.beacon(ending=True) == []
    assert feed.picture.sources == {}
