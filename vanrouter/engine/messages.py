"""Sections of AMQP messages: what routing needs to know of them, and whole small messages.

Layer: 2. Source: AMQP 1.0 part 3, section 3.2; router protocol, section 5.1; TCP over AMQP, section 5.

Three depths, for three prices: `scan` (priority and destination, on the data path), `parse_head` (all that stands in
front of the body), `decode_message` (everything, for messages addressed to this router).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vanrouter.engine.decoding import DECODE_ERROR, decode, decode_pairs, skip
from vanrouter.engine.encoding import encode, encode_into
from vanrouter.engine.values import NEED_MORE, NeedMore, Symbol, UByte, UInt
from vanrouter.errors import PeerError

Buffer = bytes | bytearray | memoryview

DEFAULT_PRIORITY = 4
"""Of a message without a header section, or one without a priority (AMQP 1.0 part 3, section 3.2.1)."""
MAX_PRIORITY = 9

STREAM_CONTENT_TYPE = "application/octet-stream"
"""Marks a TCP stream (TCP over AMQP, section 2)."""
STREAM_MARKER = b"\x00\x53\x77\x40"
"""Body of a stream: an AMQP value holding null; bare octets follow."""
STREAM_VERSION = 1
_EMPTY_DATA_MARKER = b"\x00\x53\x75\xa0\x00"

MAX_HEAD_BYTES = 1 << 20
"""In front of the body; beyond it a delivery that does not come to its body is refused instead of held."""

HEADER, DELIVERY_ANNOTATIONS, MESSAGE_ANNOTATIONS, PROPERTIES, APPLICATION_PROPERTIES = range(0x70, 0x75)
DATA, SEQUENCE, VALUE, FOOTER = range(0x75, 0x79)

_SYMBOLIC = {
    "amqp:header:list": HEADER,
    "amqp:delivery-annotations:map": DELIVERY_ANNOTATIONS,
    "amqp:message-annotations:map": MESSAGE_ANNOTATIONS,
    "amqp:properties:list": PROPERTIES,
    "amqp:application-properties:map": APPLICATION_PROPERTIES,
    "amqp:data:binary": DATA,
    "amqp:amqp-sequence:list": SEQUENCE,
    "amqp:amqp-value:*": VALUE,
    "amqp:footer:map": FOOTER,
}


class Head:
    """What stands in front of the body. Decoded as far as it was asked for."""

    __slots__ = ("_application", "_buffer", "_properties", "body_offset", "durable", "priority")

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._properties: list[Any] = []
        self._application: dict[Any, Any] | tuple[int, int] | None = None
        self.durable = False
        self.priority = DEFAULT_PRIORITY
        self.body_offset = 0

    def _text(self, position: int) -> str | None:
        value = self.property_at(position)
        return value if isinstance(value, str) else None

    def property_at(self, position: int) -> Any:
        """Return the property at a position of its section; None where there is none."""
        return self._properties[position] if position < len(self._properties) else None

    @property
    def message_id(self) -> Any:
        """As its sender encoded it."""
        return self.property_at(0)

    @property
    def user_id(self) -> bytes | None:
        """User that the sender claims."""
        value = self.property_at(1)
        return value if isinstance(value, bytes) else None

    @property
    def to(self) -> str | None:
        """Destination."""
        return self._text(2)

    @property
    def subject(self) -> str | None:
        """Subject."""
        return self._text(3)

    @property
    def reply_to(self) -> str | None:
        """Where answers go."""
        return self._text(4)

    @property
    def correlation_id(self) -> Any:
        """As its sender encoded it."""
        return self.property_at(5)

    @property
    def content_type(self) -> str | None:
        """Symbol or string: routers write a string."""
        return self._text(6)

    def application_properties(self) -> dict[Any, Any]:
        """Decode the application properties.

        Raises:
            PeerError: they are not a map.
        """
        found = self._application
        if isinstance(found, tuple):
            value, end = decode(bytes(self._buffer[found[0] : found[1]]))
            if not isinstance(value, dict) or end != found[1] - found[0]:
                raise _invalid()
            self._application = found = value
        return {} if found is None else found

    def application_pairs(self) -> list[tuple[Any, Any]]:
        """Decode the application properties in their order; a key may come several times.

        Raises:
            PeerError: they are not a map.
        """
        found = self._application
        return decode_pairs(bytes(self._buffer[found[0] : found[1]])) if isinstance(found, tuple) else []


def _invalid() -> PeerError:
    return PeerError(DECODE_ERROR, "invalid message format")


def section_at(buffer: Buffer, offset: int, end: int) -> tuple[int, int] | NeedMore:
    """Return the code of the section at `offset` and where its value begins; code 0 where no section begins."""
    if offset + 3 > end:
        return NEED_MORE
    if buffer[offset] != 0x00:
        return 0, offset
    code = buffer[offset + 1]
    if code == 0x53:
        return buffer[offset + 2], offset + 3
    if code not in (0x80, 0xA3, 0xB3):
        return 0, offset
    value_offset = skip(buffer, offset + 1, end)
    if value_offset < 0:
        return NEED_MORE
    descriptor = decode(bytes(buffer[offset + 1 : value_offset]))[0]
    return _SYMBOLIC.get(descriptor, 0) if isinstance(descriptor, str) else int(descriptor), value_offset


def scan(buffer: Buffer, start: int, end: int, needs_to: bool) -> tuple[int, str | None] | NeedMore:
    """Find the priority, and the destination when it is asked for, in the fewest steps.

    Args:
        buffer: holds the octets received.
        start: where the router annotations end.
        end: where the octets that have come so far end.
        needs_to: False where a link's target address or an override already says where the message goes.

    Returns:
        Priority 0 to 9, and `to` (None without one); NEED_MORE when too little has come.

    Raises:
        PeerError: the sections are broken.
    """
    priority = DEFAULT_PRIORITY
    offset = start
    if end - offset < 5:
        return NEED_MORE
    if buffer[offset + 2] == 0x70 and buffer[offset + 1] == 0x53 and buffer[offset] == 0x00:
        code = buffer[offset + 3]
        if code == 0x45:
            offset += 4
        else:
            if code == 0xC0:
                first, offset = offset + 6, offset + 5 + buffer[offset + 4]
            else:
                first, offset = offset + 12, skip(buffer, offset + 3, end)
            if offset < 0 or offset > end:
                return NEED_MORE
            priority = _priority(buffer, first, offset)
    if not needs_to:
        return priority, None
    # The usual next section: properties as list8 or list32, with to as a string behind two nulls.
    if offset + 16 <= end and buffer[offset + 2] == 0x73 and buffer[offset + 1] == 0x53 and buffer[offset] == 0x00:
        code = buffer[offset + 3]
        offset_to = offset + 8 if code == 0xC0 else offset + 14
        if buffer[offset_to] == 0xA1 and (code == 0xC0 or code == 0xD0):
            last = offset_to + 2 + buffer[offset_to + 1]
            count = buffer[offset + 5] if code == 0xC0 else buffer[offset + 11]
            if buffer[offset_to - 1] == 0x40 and buffer[offset_to - 2] == 0x40 and last <= end and count >= 3:
                try:
                    return priority, str(buffer[offset_to + 2 : last], "utf-8")
                except UnicodeDecodeError:
                    raise _invalid() from None
    return _scan_to(buffer, offset, end, priority)


def priority_of(buffer: Buffer, start: int, end: int) -> int:
    """Return the priority of a message, 0 to 9; that of none where too little has come to tell.

    Args:
        buffer: holds the octets received.
        start: where the router annotations end.
        end: where the octets that have come so far end.

    Raises:
        PeerError: the header is broken.
    """
    scanned = scan(buffer, start, end, False)
    return DEFAULT_PRIORITY if scanned is NEED_MORE else scanned[0]


def decides_priority(buffer: Buffer, start: int, end: int) -> int:
    """Return how far the octets reach that say the priority of a message: to the end of its header.

    Where it has none, to the end of what says which section comes first. `scan` has accepted the message.
    """
    if buffer[start + 2] == 0x70 and buffer[start + 1] == 0x53 and buffer[start] == 0x00:
        return skip(buffer, start + 3, end)
    return start + 3


def _priority(buffer: Buffer, offset: int, end: int) -> int:
    """Return the priority in a header whose first element stands at `offset`."""
    if offset < end:
        code = buffer[offset]
        offset += 2 if code == 0x56 else 1
        if code not in (0x40, 0x41, 0x42, 0x56):
            raise _invalid()
        if offset + 1 < end and buffer[offset] == 0x50:
            return min(buffer[offset + 1], MAX_PRIORITY)
    return DEFAULT_PRIORITY


def _scan_to(buffer: Buffer, offset: int, end: int, priority: int) -> tuple[int, str | None] | NeedMore:
    while True:
        if offset >= end:
            return NEED_MORE
        section = section_at(buffer, offset, end)
        if section is NEED_MORE:
            return NEED_MORE
        code, value_offset = section
        if not HEADER <= code <= PROPERTIES:
            return priority, None
        after = _section_end(buffer, offset, value_offset, end)
        if after < 0:
            return NEED_MORE
        if code == PROPERTIES:
            return priority, _third_text(buffer, value_offset, after)
        offset = after


def _third_text(buffer: Buffer, offset: int, end: int) -> str | None:
    """Return the third element of the list at `offset`; None when it is not there or no string."""
    code = buffer[offset]
    if code not in (0x45, 0xC0, 0xD0):
        raise _invalid()
    if code == 0x45:
        return None
    offset += 3 if code == 0xC0 else 9
    for _ in range(2):
        offset = skip(buffer, offset, end)
        if offset < 0:
            return None
    last = skip(buffer, offset, end)
    if last < 0:
        return None
    text = decode(bytes(buffer[offset:last]))[0]
    return text if isinstance(text, str) else None


def _section_end(buffer: Buffer, offset: int, value_offset: int, end: int) -> int:
    """Return where the section ends; -1 when that is beyond `end`."""
    after = skip(buffer, value_offset, end)
    if after < 0 and end - offset > MAX_HEAD_BYTES:
        raise _invalid()
    return after


def _list(buffer: Buffer, offset: int, end: int) -> list[Any]:
    value, after = decode(bytes(buffer[offset:end]))
    if type(value) is not list or after != end - offset:
        raise _invalid()
    return value


def parse_head(buffer: Buffer, start: int, end: int, is_complete: bool = False) -> Head | NeedMore:
    """Parse everything in front of the body.

    Args:
        buffer: holds the octets received. `Head.application_properties()` reads it again: ask at once, or give bytes.
        start: where the router annotations end.
        end: where the octets that have come so far end.
        is_complete: no more octets will come: a message without a body has a head too.

    Returns:
        The head; NEED_MORE until the first octets of the body (or of something that is no section) are there, or all
        application properties.

    Raises:
        PeerError: a section is broken.
    """
    head = Head(buffer)
    offset, previous = start, 0
    while True:
        if is_complete and offset == end:
            head.body_offset = offset
            return head
        section = section_at(buffer, offset, end)
        if section is NEED_MORE:
            if is_complete:
                raise _invalid()
            if offset == end and previous == APPLICATION_PROPERTIES:  # only a body can follow
                head.body_offset = offset
                return head
            return NEED_MORE
        code, value_offset = section
        if not HEADER <= code <= APPLICATION_PROPERTIES:
            head.body_offset = offset
            return head
        if code <= previous:
            raise _invalid()
        after = _section_end(buffer, offset, value_offset, end)
        if after < 0:
            if is_complete:
                raise _invalid()
            return NEED_MORE
        if code == HEADER:
            _take_header(head, _list(buffer, value_offset, after))
        elif code == PROPERTIES:
            head._properties = _list(buffer, value_offset, after)
        elif code == APPLICATION_PROPERTIES:
            head._application = (value_offset, after)
        offset, previous = after, code


def _take_header(head: Head, fields: list[Any]) -> None:
    if fields and fields[0] is True:
        head.durable = True
    if len(fields) > 1 and isinstance(fields[1], UByte):
        head.priority = min(int(fields[1]), MAX_PRIORITY)


# --- streams ----------------------------------------------------------------------------------------------------------


def skip_stream_marker(buffer: Buffer, offset: int, end: int) -> int | NeedMore:
    """Return where the octets of a stream begin, its body marker standing at `offset`.

    Raises:
        PeerError: something else stands there.
    """
    begin = bytes(buffer[offset : min(end, offset + 5)])
    if begin.startswith(STREAM_MARKER):
        return offset + 4
    if begin == _EMPTY_DATA_MARKER:
        return offset + 5
    if STREAM_MARKER.startswith(begin) or _EMPTY_DATA_MARKER.startswith(begin):
        return NEED_MORE
    raise _invalid()


_OPTIONAL_PROPERTIES = encode({"V": UInt(STREAM_VERSION), "vr": UInt(1)})
_PLAIN_PROPERTIES = encode({"V": UInt(STREAM_VERSION)})
_HTTP_PROPERTIES = {
    protocol: encode({"V": UInt(STREAM_VERSION), "vr": UInt(1), "vr.http": protocol}) for protocol in ("1", "2")
}
"""By the version of HTTP that a stream of one exchange speaks (HTTP over AMQP, section 6)."""


MAX_ALPN_OCTETS = 255
"""Of a protocol's name (RFC 7301, section 3.1); those that exist are ASCII."""


class StreamProperties:
    """What the application properties of a stream say."""

    __slots__ = ("alpn", "http", "is_vanrouter", "version")

    def __init__(self, properties: dict[Any, Any]) -> None:
        version, alpn, http = properties.get("V"), properties.get("alpn"), properties.get("vr.http")
        self.version = version if isinstance(version, int) else None
        is_name = isinstance(alpn, str) and 0 < len(alpn) <= MAX_ALPN_OCTETS and alpn.isascii()
        self.alpn: str | None = alpn if is_name else None
        self.http = http if isinstance(http, str) else None
        self.is_vanrouter = bool(properties.get("vr"))


_stream_properties: dict[bytes, StreamProperties] = {}
"""Application properties of streams by their octets: there are few of them, and every stream brings one."""
MAX_STREAM_PROPERTIES = 64


def scan_stream_head(buffer: Buffer, start: int, end: int) -> tuple[list[str | None], StreamProperties, int] | None:
    """Take apart the header of a stream as routers write it, in the fewest steps.

    Args:
        buffer: holds the beginning of the delivery.
        start: where its router annotations end.
        end: where the octets that have come so far end.

    Returns:
        The seven properties, what the application properties say and where the body begins, marker and all;
        None when the header has another shape, or has not come whole: `parse_head` knows more.
    """
    if end - start < 16 or buffer[start + 3] != 0xC0 or buffer[start + 5] != 7 or buffer[start + 2] != 0x73:
        return None
    after = start + 5 + buffer[start + 4]
    if buffer[start] or buffer[start + 1] != 0x53 or after + 5 > end:
        return None
    texts: list[str | None] = []
    offset = start + 6
    for _ in range(7):
        code = buffer[offset]
        if code == 0x40:
            texts.append(None)
            offset += 1
        elif code == 0xA1:
            last = offset + 2 + buffer[offset + 1]
            if last > after:
                return None
            try:
                texts.append(str(buffer[offset + 2 : last], "utf-8"))
            except UnicodeDecodeError:
                return None
            offset = last
        else:
            return None
    if offset != after or buffer[after] or buffer[after + 1] != 0x53 or buffer[after + 2] != 0x74:
        return None
    if buffer[after + 3] != 0xC1:
        return None
    offset = after + 5 + buffer[after + 4]
    if offset > end:
        return None
    section = bytes(buffer[after + 3 : offset])
    properties = _stream_properties.get(section)
    if properties is None:
        found, length = decode(section)
        if type(found) is not dict or length != len(section):
            raise _invalid()
        properties = StreamProperties(found)
        if len(_stream_properties) >= MAX_STREAM_PROPERTIES:
            _stream_properties.clear()
        _stream_properties[section] = properties
    return texts, properties, offset


def encode_stream_head(
    to: str,
    reply_to: str | None,
    correlation_id: str | None,
    alpn: str | None = None,
    is_vanrouter: bool = True,
    http: str | None = None,
) -> bytes:
    """Encode the header of a TCP stream: properties, application properties, body marker (TCP over AMQP, section 5).

    `http`: the stream is one exchange of HTTP, of version "1" or "2".
    """
    properties = bytearray()
    encode_into((None, None, to, None, reply_to, correlation_id, STREAM_CONTENT_TYPE), properties)
    if http is not None:
        application = _HTTP_PROPERTIES[http]
    elif alpn is None:
        application = _OPTIONAL_PROPERTIES if is_vanrouter else _PLAIN_PROPERTIES
    else:
        keys: dict[str, Any] = {"V": UInt(STREAM_VERSION), "alpn": alpn}
        if is_vanrouter:
            keys["vr"] = UInt(1)
        application = encode(keys)
    return b"\x00\x53\x73" + properties + b"\x00\x53\x74" + application + STREAM_MARKER


# --- whole messages ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A whole small message: control protocol, management, telemetry."""

    to: str | None = None
    subject: str | None = None
    reply_to: str | None = None
    message_id: Any = None
    correlation_id: Any = None
    user_id: bytes | None = None
    content_type: str | None = None
    durable: bool | None = None
    """None: no header section."""
    priority: int | None = None
    message_annotations: dict[Any, Any] = field(default_factory=dict)
    application_properties: dict[Any, Any] = field(default_factory=dict)
    body: Any = None
    """Value of an AMQP value section; the octets of the data sections; the elements of the sequences, as a list."""
    is_data: bool = False
    """`body` (bytes) travels in a data section."""


def encode_message(message: Message, properties_length: int = 0) -> bytes:
    """Encode `message`, without router annotations.

    Args:
        message: what to encode.
        properties_length: least number of elements of the properties list: routers write 6 in topology messages and 3
            in those about mobile addresses.
    """
    out = bytearray()
    if message.durable is not None or message.priority is not None:
        header: list[Any] = [bool(message.durable)]
        if message.priority is not None:
            header.append(UByte(message.priority))
        _put_section(out, HEADER, header)
    if message.message_annotations:
        _put_section(
            out, MESSAGE_ANNOTATIONS, {Symbol(key): value for key, value in message.message_annotations.items()}
        )
    content_type = None if message.content_type is None else Symbol(message.content_type)
    properties = [
        message.message_id,
        message.user_id,
        message.to,
        message.subject,
        message.reply_to,
        message.correlation_id,
        content_type,
    ]
    while properties and properties[-1] is None and len(properties) > properties_length:
        properties.pop()
    if properties:
        _put_section(out, PROPERTIES, properties)
    if message.application_properties:
        _put_section(out, APPLICATION_PROPERTIES, message.application_properties)
    _put_section(out, DATA if message.is_data else VALUE, message.body)
    return bytes(out)


def _put_section(out: bytearray, code: int, value: Any) -> None:
    out += bytes((0x00, 0x53, code))
    out += encode(value)


def decode_message(octets: bytes) -> Message:
    """Decode a whole message that begins behind its router annotations.

    Raises:
        PeerError: `amqp:decode-error`.
    """
    head = parse_head(octets, 0, len(octets), is_complete=True)
    assert head is not NEED_MORE
    annotations: dict[Any, Any] = {}
    data: list[bytes] = []
    sequence: list[Any] = []
    value: Any = None
    kinds = set()
    offset = 0
    while offset < len(octets):
        section = section_at(octets, offset, len(octets))
        if section is NEED_MORE:
            raise _invalid()
        code, value_offset = section
        if not HEADER <= code <= FOOTER:
            raise _invalid()
        content, offset = decode(octets, value_offset)
        if code == MESSAGE_ANNOTATIONS and isinstance(content, dict):
            annotations = content
        elif code == DATA and isinstance(content, bytes):
            data.append(content)
        elif code == SEQUENCE and isinstance(content, list):
            sequence += content
        elif code == VALUE:
            value = content
        elif code in (MESSAGE_ANNOTATIONS, DATA, SEQUENCE):
            raise _invalid()
        if DATA <= code <= VALUE:
            kinds.add(code)
    if len(kinds) > 1:
        raise _invalid()
    return Message(
        to=head.to,
        subject=head.subject,
        reply_to=head.reply_to,
        message_id=head.message_id,
        correlation_id=head.correlation_id,
        user_id=head.user_id,
        content_type=head.content_type,
        durable=head.durable,
        priority=head.priority,
        message_annotations=annotations,
        application_properties=head.application_properties(),
        body=b"".join(data) if DATA in kinds else sequence if SEQUENCE in kinds else value,
        is_data=DATA in kinds,
    )
