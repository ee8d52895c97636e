"""Control messages: what we send is understood as meant; whatever peers send is a record, ignored or PeerError."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from vanrouter.engine.sections import Symbol, decode, encode
from vanrouter.errors import PeerError
from vanrouter.routing import messages
from vanrouter.routing.commands import ControlSettings, SendControl
from vanrouter.routing.control import ControlPlane
from vanrouter.routing.messages import Descriptor, parse_control

LIMIT = 50

ids = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)
numbers = st.integers(0, 2**63 - 1)
costs = st.integers(1, 2**31 - 1)
keys = st.builds(lambda kind, rest: kind + rest, st.sampled_from("MHN"), st.text(max_size=20))
descriptors = st.builds(
    Descriptor,
    keys,
    st.integers(0, 4),
    st.one_of(st.none(), st.text(min_size=1, max_size=15)),
    st.one_of(st.none(), st.integers(1, 1000)),
)
junk = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.text(max_size=8),
        st.sampled_from(["A", "B", "C", "Mfoo", ""]),
        st.binary(max_size=8),
        st.text(max_size=8).map(Symbol),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.text(max_size=6), st.integers()), inner, max_size=4)
    ),
    max_leaves=8,
)
fields = st.sampled_from(
    ["id", "pv", "area", "instance", "seen", "ls_seq", "mobile_seq", "ls", "peers", "have_seq", "exist", "add", "del"]
)
bodies = st.one_of(junk, st.dictionaries(fields, junk, max_size=8))
opcodes = st.one_of(st.sampled_from([*messages.OPCODES, "FOO", ""]), st.text(max_size=5))


@given(ids, numbers, st.frozensets(ids, max_size=5))
def test_hello(own: str, instance: int, seen: frozenset[str]) -> None:
    record = parse_control("HELLO", messages.hello_body(own, instance, seen), LIMIT)
    assert record == messages.Hello(id=own, instance=instance, seen=seen)


@given(ids, numbers, numbers, numbers)
def test_advertisement(own: str, instance: int, ls_seq: int, mobile_seq: int) -> None:
    record = parse_control("RA", messages.advertisement_body(own, instance, ls_seq, mobile_seq), LIMIT)
    assert record == messages.Advertisement(id=own, instance=instance, ls_seq=ls_seq, mobile_seq=mobile_seq)


@given(ids, numbers, numbers, st.dictionaries(ids, costs, max_size=5))
def test_link_state_update(own: str, instance: int, ls_seq: int, peers: dict[str, int]) -> None:
    peers.pop(own, None)
    record = parse_control("LSU", messages.link_state_update_body(own, instance, ls_seq, peers), LIMIT)
    assert record == messages.LinkStateUpdate(id=own, instance=instance, ls_seq=ls_seq, peers=peers)


@given(ids, numbers)
def test_requests(own: str, have_seq: int) -> None:
    assert parse_control("LSR", messages.link_state_request_body(own), LIMIT) == messages.LinkStateRequest(id=own)
    record = parse_control("MAR", messages.mobile_request_body(own, have_seq), LIMIT)
    assert record == messages.MobileRequest(id=own, have_seq=have_seq)


@given(ids, numbers, st.lists(descriptors, max_size=5), st.frozensets(keys, max_size=5))
def test_mobile_updates(own: str, seq: int, entries: list[Descriptor], removed: frozenset[str]) -> None:
    by_key = {entry.key: entry for entry in entries}
    absolute = parse_control("MAU", messages.absolute_body(own, seq, by_key.values()), LIMIT)
    assert isinstance(absolute, messages.MobileUpdate)
    assert absolute.exist == by_key
    differential = parse_control("MAU", messages.differential_body(own, seq, by_key.values(), removed), LIMIT)
    assert isinstance(differential, messages.MobileUpdate)
    assert (differential.exist, differential.added, differential.removed) == (None, by_key, removed)


@given(ids, numbers, st.lists(descriptors, max_size=5))
def test_through_octets_and_with_symbols(own: str, seq: int, entries: list[Descriptor]) -> None:
    body = messages.absolute_body(own, seq, entries)
    wire = {Symbol(key): value for key, value in body.items()}
    decoded = decode(encode(wire))[0]
    assert parse_control("MAU", decoded, LIMIT) == parse_control("MAU", body, LIMIT)


@given(opcodes, bodies)
@settings(max_examples=300)
def test_junk_is_a_record_or_a_peer_error(opcode: str, body: object) -> None:
    with contextlib.suppress(PeerError):
        parse_control(opcode, body, LIMIT)


@given(st.lists(st.tuples(opcodes, bodies, st.integers(1, 3)), max_size=20))
@settings(max_examples=100)
def test_junk_leaves_the_control_plane_sound(sent: list[tuple[str, object, int]]) -> None:
    plane = ControlPlane("A", 1, ControlSettings(max_routers=8, max_addresses_per_router=LIMIT))
    plane.on_link_up(1, 1, 0.0)
    now = 0.0
    for opcode, body, connection_id in sent:
        now += 0.3
        plane.on_message(opcode, body, connection_id, now)
        plane.should_forward(opcode, body, 1, now)
        plane.on_timer(now)
    counters = plane.counters
    assert sum(counters.received.values()) == len(sent)
    assert sum(counters.malformed.values()) + sum(counters.ignored.values()) <= len(sent)
    plane.on_message("HELLO", messages.hello_body("B", 1, ["A"]), 1, now)
    answers = plane.on_message("LSR", messages.link_state_request_body("B"), 1, now)
    assert "LSU" in [command.opcode for command in answers if isinstance(command, SendControl)]
