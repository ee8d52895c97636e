"""Records: octets come back as they went; whatever begins, changes, ends or is lost, the reader has the truth."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vanrouter.engine.sections import decode
from vanrouter.errors import PeerError
from vanrouter.mgmt.vanflow import (
    HELD_TICKS,
    SLOTS,
    Attribute,
    Attributes,
    RecordType,
    encode_records,
    event_address,
    flow_address,
    records_of,
)
from vanrouter.mgmt.vanflow_picture import AskAll, Command, Picture
from vanrouter.mgmt.vanflow_source import Channel, Record, Source

numbers = st.integers(0, (1 << 64) - 1)
texts = st.text(max_size=300)
keys = st.integers(2, 255)
records = st.builds(
    lambda kind, identity, more: {0: kind, 1: identity, **more},
    st.sampled_from([int(kind) for kind in RecordType]),
    st.text(min_size=1, max_size=40),
    st.dictionaries(keys, st.one_of(numbers, texts), max_size=12),
)
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), texts, st.binary(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.integers(), texts), inner)),
    max_leaves=8,
)


@given(st.lists(records, max_size=60))
def test_what_is_encoded_comes_back(given_records: list[Attributes]) -> None:
    octets = encode_records(given_records)
    assert octets[:3] == b"\x00\x53\x77"
    value, end = decode(octets, 3)
    assert end == len(octets)
    assert records_of(value) == given_records


@given(values)
def test_any_body_gives_records_or_a_peer_error(body: Any) -> None:
    with contextlib.suppress(PeerError):
        for record in records_of(body):
            assert isinstance(record[Attribute.IDENTITY], str)


@given(
    st.lists(st.tuples(st.sampled_from(["BEACON", "HEARTBEAT", "RECORD", None]), values, values, values), max_size=8)
)
def test_no_message_harms_a_reader(messages: list[tuple[str | None, Any, Any, Any]]) -> None:
    picture = Picture()
    picture.on_message("mc/sfe.all", "BEACON", {"id": "s:0", "address": "mc/sfe.s:0"}, None, None, 0.0)
    for subject, properties, body, number in messages:
        texts_only = properties if isinstance(properties, dict) else {"id": properties, "address": properties}
        picture.on_message("mc/sfe.s:0", subject, texts_only, body, number, 0.0)
    picture.on_timer(100.0)


class World:
    """A source, its reader, and a network between them that loses messages."""

    def __init__(self) -> None:
        self.source = Source()
        for channel in (Channel.PLAIN, Channel.FLOWS):
            self.source.want(channel, True)
        self.picture = Picture()
        self.addresses = {Channel.PLAIN: event_address("s:0"), Channel.FLOWS: flow_address("s:0")}
        beacon = {"id": "s:0", "address": "mc/sfe.s:0", "direct": "sfe.s:0"}
        self.picture.on_message("mc/sfe.all", "BEACON", beacon, None, None, 0.0)
        self.sent = {Channel.PLAIN: 0, Channel.FLOWS: 0}
        self.truth: dict[str, Record] = {}
        self.ended: dict[str, Attributes] = {}
        self.count = 0
        self.is_lossy = False

    def begin(self, is_flow: bool) -> None:
        self.count += 1
        kind = RecordType.BIFLOW_TPORT if is_flow else RecordType.LISTENER
        channel = Channel.FLOWS if is_flow else Channel.PLAIN
        record = Record(kind, f"s:{self.count}", {Attribute.OCTETS: 0, Attribute.START_TIME: self.count}, channel)
        self.truth[record.identity] = record
        self.source.begin(record)

    def pick(self, index: int) -> Record | None:
        live = [record for record in self.truth.values() if not record.ended_us]
        return live[index % len(live)] if live else None

    def update(self, index: int, key: int, value: int | str) -> None:
        record = self.pick(index)
        if record is not None and record.update({key: value}):
            self.source.changed(record)

    def end(self, index: int, is_held: bool) -> None:
        record = self.pick(index)
        if record is not None:
            record.end(7)
            self.source.end(record, is_held=is_held and record.channel is Channel.FLOWS)

    def complete(self, index: int) -> None:
        ended = [record for record in self.truth.values() if record.ended_us]
        if ended:
            self.source.complete(ended[index % len(ended)])

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.source.tick()
            for channel, batch in self.source.take(1000):
                self.sent[channel] += 1
                if self.is_lossy and self.sent[channel] % 2:
                    continue
                value, _ = decode(encode_records(batch), 3)
                address = self.addresses[channel]
                self.obey(self.picture.on_message(address, "RECORD", None, value, self.sent[channel], 0.0))

    def obey(self, commands: list[Command]) -> None:
        if any(isinstance(command, AskAll) for command in commands):
            self.source.flush()

    def check(self) -> None:
        """All that lives is known as it is; nothing lives for the reader that has ended, unless its end was lost."""
        for identity, record in self.truth.items():
            whole = record.describe(True)
            if not record.ended_us:
                assert self.picture.get(identity) == whole
        for identity in (
            self.picture.live(RecordType.BIFLOW_TPORT).keys() | self.picture.live(RecordType.LISTENER).keys()
        ):
            assert not self.truth[identity].ended_us


steps = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.booleans()),
        st.tuples(st.just("update"), st.integers(0, 9), st.integers(30, 33), st.one_of(numbers, texts)),
        st.tuples(st.just("end"), st.integers(0, 9), st.booleans()),
        st.tuples(st.just("complete"), st.integers(0, 9)),
        st.tuples(st.just("tick"), st.integers(1, 7)),
        st.tuples(st.just("flush")),
        st.tuples(st.just("listen"), st.sampled_from([Channel.PLAIN, Channel.FLOWS]), st.booleans()),
    ),
    max_size=40,
)


def play(world: World, script: list[tuple[Any, ...]]) -> None:
    for name, *arguments in script:
        if name == "flush":
            world.source.flush()
        elif name == "listen":
            world.source.want(*arguments)
        else:
            getattr(world, name)(*arguments)


@given(steps)
def test_the_reader_ends_with_the_truth(script: list[tuple[Any, ...]]) -> None:
    world = World()
    play(world, [step for step in script if step[0] != "listen"])
    world.tick(HELD_TICKS + SLOTS + 1)
    world.check()
    for identity, record in world.truth.items():
        if record.ended_us:
            assert world.picture.get(identity) == record.describe(True)
    assert len(world.source.live) == sum(not record.ended_us for record in world.truth.values())
    assert world.source.transient == len(world.picture.live(RecordType.BIFLOW_TPORT))
    assert not world.source.is_busy


@given(steps)
def test_listening_now_and_then_ends_with_the_truth_of_what_lives(script: list[tuple[Any, ...]]) -> None:
    world = World()
    play(world, script)
    for channel in (Channel.PLAIN, Channel.FLOWS):
        world.source.want(channel, True)
    world.tick(HELD_TICKS + SLOTS + 1)
    for identity, record in world.truth.items():
        if not record.ended_us:
            assert world.picture.get(identity) == record.describe(True)
    assert len(world.source.live) == sum(not record.ended_us for record in world.truth.values())


@given(steps)
def test_what_is_lost_is_asked_for(script: list[tuple[Any, ...]]) -> None:
    world = World()
    for is_flow in (False, True):
        world.begin(is_flow)
    world.tick(2 * SLOTS)  # the first question is over
    world.is_lossy = True
    play(world, [step for step in script if step[0] not in ("end", "listen")])
    world.is_lossy = False
    for is_flow in (False, True):  # a later message of each address shows the gap
        world.begin(is_flow)
    world.tick(2 * SLOTS)
    world.check()
