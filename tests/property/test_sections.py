"""The codec: what goes out comes back; whatever comes in is a value or PeerError; whole equals octet by octet."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from vanrouter.core.stream import parse_stream_head
from vanrouter.engine.annotations import NO_ANNOTATIONS
from vanrouter.engine.messages import Message, decode_message, encode_message, parse_head, scan
from vanrouter.engine.sections import (
    NEED_MORE,
    Array,
    Described,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    decode,
    encode,
    iterate_list,
    skip,
)
from vanrouter.errors import PeerError

texts = st.text(max_size=300)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    texts,
    texts.map(Symbol),
    st.binary(max_size=300),
    st.integers(0, 255).map(UByte),
    st.integers(0, (1 << 32) - 1).map(UInt),
    st.integers(0, (1 << 64) - 1).map(ULong),
    st.integers(-(1 << 63), (1 << 63) - 1).map(Timestamp),
    st.uuids(),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.dictionaries(texts, inner, max_size=5),
        st.builds(Described, st.integers(0, 1 << 40).map(ULong), inner),
        st.lists(st.lists(inner, max_size=3), max_size=3).map(lambda items: Array(list, items)),
        st.lists(texts, max_size=5).map(lambda items: Array(Symbol, items)),
        st.lists(st.integers(0, 99), max_size=5).map(lambda items: Array(UInt, items, Symbol("d"))),
    ),
    max_leaves=20,
)


@given(values)
def test_what_goes_out_comes_back(value: object) -> None:
    octets = encode(value)
    assert decode(octets) == (value, len(octets))
    assert skip(octets, 0, len(octets)) == len(octets)


@given(values, st.data())
def test_a_changed_octet_gives_a_value_or_an_error(value: object, data: st.DataObject) -> None:
    octets = bytearray(encode(value))
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PeerError):
        decode(octets)
    with contextlib.suppress(PeerError):
        list(iterate_list(octets))


@given(st.binary(max_size=200))
def test_any_octets_give_a_value_or_an_error(octets: bytes) -> None:
    for read in (
        lambda: decode(octets),
        lambda: list(iterate_list(octets)),
        lambda: skip(octets, 0, len(octets)),
        lambda: parse_head(octets, 0, len(octets)),
        lambda: scan(octets, 0, len(octets), True),
        lambda: decode_message(octets),
        lambda: parse_stream_head(octets, 0, len(octets), NO_ANNOTATIONS),
    ):
        with contextlib.suppress(PeerError):
            read()


messages = st.builds(
    Message,
    to=st.none() | texts,
    subject=st.none() | texts,
    reply_to=st.none() | texts,
    message_id=st.none() | texts | st.uuids() | st.integers(0, 1 << 40).map(ULong) | st.binary(max_size=20),
    priority=st.none() | st.integers(0, 9),
    application_properties=st.dictionaries(texts, scalars, max_size=4),
    body=values,
)


@given(messages, st.data())
def test_heads_grow_octet_by_octet_to_one_answer(message: Message, data: st.DataObject) -> None:
    octets = encode_message(message)
    if data.draw(st.booleans()):
        octets = bytearray(octets)
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))

    def answer(end: int) -> object:
        try:
            head = parse_head(octets, 0, end)
        except PeerError:
            return "error"
        return NEED_MORE if head is NEED_MORE else (head.priority, head.to, head.reply_to, head.body_offset)

    def scanned(end: int) -> object:
        try:
            return scan(octets, 0, end, True)
        except PeerError:
            return "error"

    for ask in (answer, scanned):
        whole = ask(len(octets))
        assert {ask(end) for end in range(len(octets))} - {NEED_MORE} <= {whole}
    with contextlib.suppress(PeerError):
        found = decode_message(bytes(octets))
        assert scanned(len(octets)) in {NEED_MORE, (found.priority, found.to)}


@given(messages)
def test_whole_messages_come_back(message: Message) -> None:
    found = decode_message(encode_message(message))
    assert (found.to, found.subject, found.reply_to, found.body) == (
        message.to,
        message.subject,
        message.reply_to,
        message.body,
    )
    assert found.application_properties == message.application_properties
