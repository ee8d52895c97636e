import pytest

from vanrouter.engine.messages import (
    APPLICATION_PROPERTIES,
    DATA,
    FOOTER,
    HEADER,
    MAX_HEAD_BYTES,
    MESSAGE_ANNOTATIONS,
    PROPERTIES,
    SEQUENCE,
    VALUE,
    Head,
    Message,
    decode_message,
    encode_message,
    encode_stream_head,
    parse_head,
    scan,
    section_at,
    skip_stream_marker,
)
from vanrouter.engine.sections import NEED_MORE, Described, Symbol, UByte, UInt, ULong, encode
from vanrouter.errors import PeerError


def section(code: int, value: object) -> bytes:
    return encode(Described(ULong(code), value))


def headed(octets: bytes, is_complete: bool = False) -> Head:
    head = parse_head(octets, 0, len(octets), is_complete)
    assert head is not NEED_MORE
    return head


# Router protocol, section 5.1, as routers lay it out: the wide forms of lists and maps.
HELLO = (
    bytes.fromhex("005370 d0 00000005 00000001 42")
    + bytes.fromhex("005373 d0 0000001f 00000006 40 40 a1 14") + b"amqp:/_local/qdhello" + bytes.fromhex("40 40 40")
    + bytes.fromhex("005374 d1 00000013 00000002 a1 06") + b"opcode" + b"\xa1\x05HELLO"
    + bytes.fromhex("005377 d1 00000018 00000006 a1 02") + b"id" + bytes.fromhex("a1 01 41 a1 04") + b"seen"
    + bytes.fromhex("45 a1 02") + b"pv" + bytes.fromhex("54 01")
)  # fmt: skip


def test_reads_a_control_message_of_a_router() -> None:
    message = decode_message(HELLO)
    assert (message.to, message.durable, message.priority) == ("amqp:/_local/qdhello", False, 4)
    assert message.application_properties == {"opcode": "HELLO"}
    assert message.body == {"id": "A", "seen": [], "pv": 1}
    assert scan(HELLO, 0, len(HELLO), True) == (4, "amqp:/_local/qdhello")


@pytest.mark.parametrize(("length", "count"), [(6, 6), (3, 3), (0, 3), (7, 7)])
def test_writes_control_messages_with_the_lists_that_routers_use(length: int, count: int) -> None:
    message = Message(to="a", durable=False, application_properties={"opcode": "RA"}, body={"id": "A"})
    octets = encode_message(message, length)
    assert octets.startswith(bytes.fromhex("005370 c0 02 01 42 005373 c0") + bytes((count + 3, count)))


@pytest.mark.parametrize(
    "message",
    [
        Message(),
        Message(to="x", body=[["a", 1], None]),
        Message(to="", message_id=ULong(5), correlation_id=b"c", user_id=b"me", subject="s", reply_to="r"),
        Message(content_type="text/plain", body=b"octets", is_data=True, durable=True, priority=9),
        Message(message_annotations={"x-opt": 1}, application_properties={"a": "b", "n": 1}, body="text"),
    ],
)
def test_whole_messages_come_back(message: Message) -> None:
    found = decode_message(encode_message(message))
    expected = message
    for name in (
        "to",
        "subject",
        "reply_to",
        "message_id",
        "correlation_id",
        "user_id",
        "content_type",
        "body",
        "is_data",
    ):
        assert getattr(found, name) == getattr(expected, name)
    assert found.durable == bool(message.durable)
    assert found.priority == (4 if message.priority is None else message.priority)
    assert found.message_annotations == message.message_annotations
    assert found.application_properties == message.application_properties


def test_data_and_sequences_may_come_in_parts() -> None:
    assert decode_message(section(DATA, b"ab") + section(DATA, b"c")).body == b"abc"
    assert decode_message(section(SEQUENCE, [1]) + section(SEQUENCE, [2]) + section(FOOTER, {})).body == [1, 2]
    assert decode_message(b"") == decode_message(section(VALUE, None))


@pytest.mark.parametrize(
    "octets",
    [
        b"x",
        b"\x00\x53",
        b"\x00\x53\x10\x40",
        section(DATA, b"a") + section(VALUE, 1),
        section(DATA, "text"),
        section(SEQUENCE, 1),
        section(MESSAGE_ANNOTATIONS, []),
        section(PROPERTIES, {}),
        section(APPLICATION_PROPERTIES, []),
        section(PROPERTIES, []) + section(HEADER, []),
        section(PROPERTIES, []) + section(PROPERTIES, []),
        section(VALUE, "text")[:-1],
        section(PROPERTIES, ["text"])[:-1],
        section(VALUE, 1) + b"\x00",
    ],
)
def test_broken_messages_are_refused(octets: bytes) -> None:
    with pytest.raises(PeerError) as raised:
        decode_message(octets)
    assert raised.value.condition == "amqp:decode-error"


def test_the_head_is_known_when_the_body_begins() -> None:
    octets = (
        section(HEADER, [True, UByte(7)])
        + section(0x71, {})
        + section(PROPERTIES, ["id", b"user", "to", "subject", "reply", 5, Symbol("type")])
        + section(APPLICATION_PROPERTIES, {"k": "v"})
    )
    message = octets + section(VALUE, "body")
    for end in range(len(octets) + 3):
        # Behind the application properties only a body can follow.
        assert (parse_head(message, 0, end) is NEED_MORE) == (end != len(octets))
    head = headed(message)
    assert (head.durable, head.priority, head.message_id, head.user_id, head.to, head.subject) == (
        True, 7, "id", b"user", "to", "subject",
    )  # fmt: skip
    assert (head.reply_to, head.correlation_id, head.content_type) == ("reply", 5, "type")
    assert head.application_properties() == head.application_properties() == {"k": "v"}
    assert head.body_offset == len(octets)
    assert headed(octets, is_complete=True).body_offset == len(octets)


def test_properties_of_other_types_count_as_absent() -> None:
    head = headed(section(PROPERTIES, [None, "user", 1, 2, 3]), is_complete=True)
    assert (head.user_id, head.to, head.subject, head.reply_to, head.content_type) == (None, None, None, None, None)
    assert headed(section(HEADER, [None, 5]), is_complete=True).priority == 4
    assert headed(section(HEADER, [False, UByte(77)]), is_complete=True).priority == 9


def test_a_head_without_end_is_refused() -> None:
    octets = b"\x00\x53\x73\xd0\xff\xff\xff\xff" + bytes(MAX_HEAD_BYTES)
    with pytest.raises(PeerError):
        parse_head(octets, 0, len(octets))
    assert parse_head(octets, 0, 1000) is NEED_MORE


def test_section_descriptors_may_be_written_in_every_form() -> None:
    assert section_at(b"\x00\x80\0\0\0\0\0\0\0\x73\x45", 0, 11) == (PROPERTIES, 10)
    symbol = b"\x00\xa3\x14amqp:properties:list"
    assert section_at(symbol + b"\x45", 0, 24) == (PROPERTIES, 23)
    assert section_at(symbol, 0, 12) is NEED_MORE
    assert section_at(b"\x00\xa3\x01x\x45", 0, 5) == (0, 4)
    assert section_at(b"\x00\x40\x40", 0, 3) == (0, 0)
    message = symbol + encode([None, None, "to"]) + section(VALUE, None)
    assert headed(message).to == "to"
    assert scan(message, 0, len(message), True) == (4, "to")


@pytest.mark.parametrize(
    ("octets", "priority", "to"),
    [
        (section(VALUE, "long enough"), 4, None),
        (section(HEADER, []) + section(PROPERTIES, [None, None, "destination"]), 4, "destination"),
        (section(HEADER, [False, UByte(7)]) + section(PROPERTIES, [None, None, "destination"]), 7, "destination"),
        (section(HEADER, [None, UByte(12)]) + section(PROPERTIES, [None, None, "a" * 300]), 9, "a" * 300),
        (section(HEADER, [True]) + section(PROPERTIES, ["id", b"u", "destination"]), 4, "destination"),
        (section(HEADER, [True, None]) + section(PROPERTIES, ["id", b"u"]) + b"xxx", 4, None),
        (b"\x00\x53\x70\xc0\x05\x02\x56\x01\x50\x03" + section(PROPERTIES, [None, None, None, "a" * 9]), 3, None),
        (b"\x00\x53\x70\xd0\x00\x00\x00\x07\x00\x00\x00\x02\x42\x50\x05" + section(PROPERTIES, []) + b"xxx", 5, None),
        (section(HEADER, []) + section(0x71, {}) + section(0x72, {}) + section(PROPERTIES, [0, 0, "to"]), 4, "to"),
        (section(PROPERTIES, [None, None, "x" * 20] + [None] * 300), 4, "x" * 20),
        (section(PROPERTIES, [None, None, Symbol("to" * 9)]), 4, "to" * 9),
        (section(PROPERTIES, [None]) + b"x" * 20, 4, None),
        (section(PROPERTIES, [None, None]) + b"\xa1\x01a" * 20, 4, None),
    ],
)
def test_scans_priority_and_destination(octets: bytes, priority: int, to: str | None) -> None:
    assert scan(octets, 0, len(octets), True) == (priority, to)
    assert scan(memoryview(b"x" + octets), 1, len(octets) + 1, False) == (priority, None)
    answers = {scan(octets, 0, end, True) for end in range(len(octets))} - {NEED_MORE}
    assert answers <= {(priority, to)}


@pytest.mark.parametrize(
    "octets",
    [
        b"\x00\x53\x70\xc0\x03\x01\xa1\x00" + b"x" * 9,
        b"\x00\x53\x73\xc0\x06\x03\x40\x40\xa1\x01\xff" + b"x" * 9,
        b"\x00\x53\x73\xc0\x06\x03\x42\x40\xa1\x01\xff" + b"x" * 9,
        section(PROPERTIES, {}) + b"x" * 9,
    ],
)
def test_scanning_refuses(octets: bytes) -> None:
    with pytest.raises(PeerError):
        scan(octets, 0, len(octets), True)


def test_stream_heads_have_the_layout_of_routers() -> None:
    octets = encode_stream_head("svc1", "amqp:/_topo/0/A3/temp.abcdefghijklmno", "sqIQc:5", is_vanrouter=False)
    # TCP over AMQP, section 5.1, with the short forms of list and map.
    assert octets == (
        bytes.fromhex("005373 c0 54 07 40 40 a1 04") + b"svc1" + bytes.fromhex("40 a1 25")
        + b"amqp:/_topo/0/A3/temp.abcdefghijklmno" + b"\xa1\x07sqIQc:5" + b"\xa1\x18application/octet-stream"
        + bytes.fromhex("005374 c1 06 02 a1 01 56 52 01") + bytes.fromhex("00537740")
    )  # fmt: skip
    own = headed(encode_stream_head("r", None, None))
    assert own.application_properties() == {"V": 1, "vr": 1}
    assert headed(encode_stream_head("r", None, None, "h2")).application_properties() == {"V": 1, "alpn": "h2", "vr": 1}
    assert headed(encode_stream_head("r", None, None, "h2", False)).application_properties() == {
        "V": UInt(1),
        "alpn": "h2",
    }


def test_stream_markers() -> None:
    assert skip_stream_marker(b"x\x00\x53\x77\x40rest", 1, 9) == 5
    assert skip_stream_marker(b"\x00\x53\x75\xa0\x00rest", 0, 9) == 5
    for end in range(4):
        assert skip_stream_marker(b"\x00\x53\x77\x40", 0, end) is NEED_MORE
    for end in range(5):
        assert skip_stream_marker(b"\x00\x53\x75\xa0\x00", 0, end) is NEED_MORE
    for octets in (b"\x00\x53\x77\x45", b"\x00\x53\x75\xa0\x01", b"hello"):
        with pytest.raises(PeerError):
            skip_stream_marker(octets, 0, len(octets))
