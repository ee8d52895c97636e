from collections.abc import Iterable

import pytest

from vanrouter.mgmt import vanflow_source
from vanrouter.mgmt.vanflow import HELD_TICKS, SLOTS, Attributes, RecordType
from vanrouter.mgmt.vanflow_source import Channel, Rate, Record, Source, Told


def made(number: int, channel: Channel = Channel.PLAIN, **more: int | str) -> Record:
    kind = RecordType.LISTENER if channel is Channel.PLAIN else RecordType.BIFLOW_TPORT
    return Record(kind, f"a:{number}", {23: 1, 30: f"n{number}"}, channel)


def flat(batches: Iterable[tuple[Channel, list[Attributes]]]) -> list[Attributes]:
    return [record for _, records in batches for record in records]


def second(source: Source) -> list[Attributes]:
    """What is due within a second."""
    found = []
    for _ in range(SLOTS):
        source.tick()
        found += flat(source.take(1000))
    return found


def test_nothing_is_kept_for_sending_while_nobody_listens() -> None:
    source = Source()
    record = made(1)
    source.begin(record)
    source.changed(record)
    assert second(source) == []
    assert not source.is_busy
    source.flush()
    assert not source.is_due


def test_who_begins_to_listen_gets_everything_then_changes_once_a_second() -> None:
    source = Source()
    record = made(1)
    source.begin(record)
    source.want(Channel.PLAIN, True)
    whole = {0: 4, 1: "a:1", 23: 1, 30: "n1"}
    assert flat(source.take(10)) == [whole]
    source.want(Channel.PLAIN, True)
    assert second(source) == []
    for octets in (2, 3, 4):
        assert record.update({23: octets, 30: "n1"})
        source.changed(record)
    assert not record.update({23: 4})
    assert second(source) == [{0: 4, 1: "a:1", 23: 4}]
    assert second(source) == []
    source.flush()
    assert flat(source.take(10)) == [{**whole, 23: 4}]
    source.want(Channel.PLAIN, False)
    source.changed(record)
    assert second(source) == []


def test_the_end_is_the_last_message() -> None:
    gone: list[Told] = []
    source = Source(gone.append)
    source.want(Channel.PLAIN, True)
    record = made(1)
    source.begin(record)
    record.end(77)
    source.end(record)
    source.changed(record)
    assert source.is_busy
    assert flat(source.take(10)) == [{0: 4, 1: "a:1", 23: 1, 30: "n1", 4: 77}]
    assert (gone, source.live) == ([record], {})
    assert second(source) == []


def test_an_end_that_nobody_hears_is_over_as_well() -> None:
    gone: list[Told] = []
    source = Source(gone.append)
    record = made(1, Channel.FLOWS)
    source.begin(record)
    assert source.transient == 1
    record.end(5)
    source.end(record)
    assert flat(source.take(10)) == []
    assert (gone, source.live, source.transient) == ([record], {}, 0)


def test_a_held_end_waits_for_the_other_end() -> None:
    source = Source()
    source.want(Channel.FLOWS, True)
    waiting, completed = made(1, Channel.FLOWS), made(2, Channel.FLOWS)
    for record in (waiting, completed):
        source.begin(record)
    assert len(second(source)) == 2
    for record in (waiting, completed):
        source.changed(record)
        record.end(9)
        source.end(record, is_held=True)
    source.complete(completed)
    source.complete(completed)
    assert [found[1] for found in flat(source.take(10))] == ["a:2"]
    source.flush()
    ticks = 0
    while not source.is_due:
        source.tick()
        ticks += 1
    assert ticks == HELD_TICKS
    assert flat(source.take(10)) == [{0: 16, 1: "a:1", 23: 1, 30: "n1", 4: 9}]  # whole: somebody flushed meanwhile
    assert not source.is_busy


def test_an_end_while_the_record_waits_to_be_sent_goes_out_once() -> None:
    source = Source()
    source.want(Channel.FLOWS, True)
    record = made(1, Channel.FLOWS)
    source.begin(record)
    source.flush()
    record.end(9)
    source.end(record, is_held=True)
    assert flat(source.take(10)) == []
    source.complete(record)
    assert flat(source.take(10)) == [{0: 16, 1: "a:1", 23: 1, 30: "n1", 4: 9}]
    assert flat(source.take(10)) == []


def test_batches_have_one_channel_and_fifty_records() -> None:
    source = Source()
    source.want(Channel.PLAIN, True)
    source.want(Channel.FLOWS, True)
    for number in range(120):
        source.begin(made(number, Channel.FLOWS if number % 2 else Channel.PLAIN))
    source.flush()
    batches = [(channel, len(records)) for channel, records in source.take(110)]
    assert batches == [(Channel.PLAIN, 50), (Channel.FLOWS, 50), (Channel.PLAIN, 10)]  # what is above first
    assert source.is_due
    assert len(flat(source.take(110))) == 10


def test_the_bound_of_flows_has_a_hysteresis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vanflow_source, "MAX_TRANSIENT", 10)
    monkeypatch.setattr(vanflow_source, "RESUME_TRANSIENT", 8)
    source = Source()
    records = [made(number, Channel.FLOWS) for number in range(10)]
    for record in records:
        assert source.has_room()
        source.begin(record)
    assert not source.has_room()
    for record in records[:3]:
        record.end(1)
        source.end(record)
        assert not source.has_room()
        list(source.take(1))
    assert source.has_room()
    assert source.not_kept == 4


def test_a_counter_that_begins_again_has_no_negative_rate() -> None:
    rate = Rate()
    rate.at(100, 5000)
    assert rate.at(102, 100) == 0
    assert rate.at(104, 300) == 20


def test_a_rate_is_of_ten_seconds() -> None:
    rate = Rate()
    assert rate.at(100, 0) == 0
    assert rate.at(101, 500) == 50
    for second_ in range(102, 110):
        rate.at(second_, 1000)
    assert rate.at(110, 1000) == 100
    for second_ in range(111, 125):
        last = rate.at(second_, 1000)
    assert last == 0
