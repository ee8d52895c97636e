"""Octets to AMQP 1.0 values. `engine/sections.py` is the door to this room.

Layer: 2. Source: AMQP 1.0 part 1, sections 1.2 and 1.6.

Peers' input is bounded: nesting by MAX_DEPTH, lengths by the octets there are, arrays of elements without octets by
MAX_EMPTY_ELEMENTS. Whatever the octets, `decode` returns a value or raises PeerError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from vanrouter.engine.values import (
    Array,
    Byte,
    Char,
    Decimal32,
    Decimal64,
    Decimal128,
    Described,
    Float,
    Int,
    Long,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
)
from vanrouter.errors import PeerError

MAX_DEPTH = 32
"""Lists in lists: control messages have 4, management answers 5."""

MAX_EMPTY_ELEMENTS = 32
"""Elements of an array whose constructor takes no octets (null, true, uint0): few octets must not make many objects."""

DECODE_ERROR = "amqp:decode-error"

_U8, _U16, _U32, _U64 = struct.Struct(">B"), struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q")
_I8, _I16, _I32, _I64 = struct.Struct(">b"), struct.Struct(">h"), struct.Struct(">i"), struct.Struct(">q")
_F32, _F64 = struct.Struct(">f"), struct.Struct(">d")


def decode(buffer: bytes | bytearray | memoryview, offset: int = 0) -> tuple[Any, int]:
    """Decode the value at `offset`.

    Signed integers come back as int, unsigned ones and timestamps as the types of this module, so that an identifier
    can be sent back as it came.

    Returns:
        The value and the offset behind it.

    Raises:
        PeerError: `amqp:decode-error`; the octets are not one whole value, or it is nested too deeply.
    """
    octets = buffer if isinstance(buffer, bytes) else bytes(buffer)
    try:
        return _decode(octets, offset, len(octets), 0)
    except (IndexError, struct.error) as error:
        raise _broken("value is cut short") from error
    except UnicodeDecodeError as error:
        raise _broken("text is not UTF-8") from error


def iterate_list(buffer: bytes | bytearray | memoryview, offset: int = 0) -> Iterator[Any]:
    """Decode the elements of the list at `offset` one at a time, so that a long one need not hold the loop.

    Raises:
        PeerError: as `decode`; not a list.
    """
    octets = buffer if isinstance(buffer, bytes) else bytes(buffer)
    if not octets[offset : offset + 1] or octets[offset] not in (0x45, 0xC0, 0xD0):
        raise _broken("not a list")
    if octets[offset] == 0x45:
        return
    try:
        count, position, end = _compound(octets, offset + 1, len(octets), octets[offset])
    except (IndexError, struct.error) as error:
        raise _broken("value is cut short") from error
    for _ in range(count):
        value, position = decode(octets, position)
        if position > end:
            raise _broken("element beyond the end of its list")
        yield value


def skip(buffer: bytes | bytearray | memoryview, offset: int, end: int) -> int:
    """Return the offset behind the value at `offset` without decoding it; -1 when `end` comes first.

    Raises:
        PeerError: not the constructor of a value.
    """
    descriptors = 0
    while offset < end and buffer[offset] == 0x00:
        descriptors += 1
        if descriptors > MAX_DEPTH:
            raise _broken("descriptors nested too deeply")
        offset += 1
        if offset < end and buffer[offset] == 0x00:
            raise _broken("described descriptor")
        offset = _skip_plain(buffer, offset, end)
        if offset < 0:
            return -1
    return _skip_plain(buffer, offset, end)


def _skip_plain(buffer: bytes | bytearray | memoryview, offset: int, end: int) -> int:
    if offset >= end:
        return -1
    code = buffer[offset]
    width = _FIXED_WIDTHS.get(code)
    if width is not None:
        offset += 1 + width
    elif code in _SIZE8_CODES:
        if offset + 2 > end:
            return -1
        offset += 2 + buffer[offset + 1]
    elif code in _SIZE32_CODES:
        if offset + 5 > end:
            return -1
        offset += 5 + int(_U32.unpack_from(buffer, offset + 1)[0])
    else:
        raise _broken(f"unknown constructor 0x{code:02x}")
    return offset if offset <= end else -1


def _broken(reason: str) -> PeerError:
    return PeerError(DECODE_ERROR, reason)


def _decode(octets: bytes, position: int, end: int, depth: int) -> tuple[Any, int]:
    code = octets[position]
    position += 1
    if code == 0xA1:
        position += 1
        last = position + octets[position - 1]
        if last > end:
            raise _broken("value is cut short")
        return octets[position:last].decode(), last
    decoder = _DECODERS.get(code)
    if decoder is None:
        raise _broken(f"unknown constructor 0x{code:02x}")
    return decoder(octets, position, end, depth)


def _decode_items(octets: bytes, position: int, end: int, count: int, depth: int) -> list[Any]:
    """Decode `count` values that fill the octets from `position` to `end`. The commonest kinds without a call."""
    items: list[Any] = []
    append = items.append
    for _ in range(count):
        code = octets[position]
        if code == 0xA1:
            last = position + 2 + octets[position + 1]
            append(octets[position + 2 : last].decode())
            position = last
        elif code == 0x55 or code == 0x54:
            number = octets[position + 1]
            append(number if number < 128 else number - 256)
            position += 2
        elif code == 0x40:
            append(None)
            position += 1
        else:
            decoder = _DECODERS.get(code)
            if decoder is None:
                raise _broken(f"unknown constructor 0x{code:02x}")
            value, position = decoder(octets, position + 1, end, depth)
            append(value)
        if position > end:
            raise _broken("element beyond the end of its list")
    if position != end:
        raise _broken("size and elements of a list differ")
    return items


def _compound(octets: bytes, position: int, end: int, code: int) -> tuple[int, int, int]:
    """Return count, offset of the first element and end of a list, map or array whose sizes stand at `position`."""
    if code < 0xD0 or code == 0xE0:
        last = position + 1 + octets[position]
        count, first = octets[position + 1], position + 2
    else:
        size, count = _TWO_U32.unpack_from(octets, position)
        last, first = position + 4 + size, position + 8
    if last > end or first > last:
        raise _broken("value is cut short")
    return count, first, last


_TWO_U32 = struct.Struct(">II")


def _decode_list(octets: bytes, position: int, end: int, depth: int) -> tuple[list[Any], int]:
    count, first, last = _compound(octets, position, end, octets[position - 1])
    if count > last - first:
        raise _broken("more elements than octets")
    if depth >= MAX_DEPTH:
        raise _broken("nested too deeply")
    return _decode_items(octets, first, last, count, depth + 1), last


def _decode_map(octets: bytes, position: int, end: int, depth: int) -> tuple[dict[Any, Any], int]:
    items, last = _decode_list(octets, position, end, depth)
    return _paired(items), last


def _paired(items: list[Any]) -> dict[Any, Any]:
    if len(items) & 1:
        raise _broken("map with a key without a value")
    elements = iter(items)
    try:
        return dict(zip(elements, elements, strict=True))
    except TypeError as error:
        raise _broken("map with a key that is a collection") from error


def decode_pairs(octets: bytes) -> list[tuple[Any, Any]]:
    """Decode the map that `octets` are, with keys that may come several times, in their order.

    Raises:
        PeerError: `amqp:decode-error`; the octets are not one whole map.
    """
    if not octets or octets[0] not in (0xC1, 0xD1):
        raise _broken("no map")
    try:
        items, after = _decode_list(octets, 1, len(octets), 0)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise _broken("value is cut short, or no text") from error
    if after != len(octets) or len(items) & 1:
        raise _broken("map with a key without a value, or something behind it")
    return list(zip(items[::2], items[1::2], strict=True))


def _decode_array(octets: bytes, position: int, end: int, depth: int) -> tuple[Array, int]:
    count, position, last = _compound(octets, position, end, octets[position - 1])
    if depth >= MAX_DEPTH:
        raise _broken("nested too deeply")
    descriptor = None
    if octets[position] == 0x00:
        descriptor, position = _decode(octets, position + 1, last, depth + 1)
    code = octets[position]
    position += 1
    decoder = _ARRAY_DECODERS.get(code) or _DECODERS.get(code)
    item_type = _ARRAY_TYPES.get(code)
    if decoder is None or item_type is None:
        raise _broken(f"unknown constructor 0x{code:02x} of an array")
    if count > (last - position if code > 0x45 else MAX_EMPTY_ELEMENTS):
        raise _broken("more elements than octets")
    array = Array(item_type, (), descriptor)
    for _ in range(count):
        value, position = decoder(octets, position, last, depth + 1)
        if position > last:
            raise _broken("element beyond the end of its array")
        array.append(value)
    if position != last:
        raise _broken("size and elements of an array differ")
    return array, last


def _element(decode_sized: Callable[[bytes, int, int, int], tuple[Any, int]], code: int, width: int) -> _Decoder:
    """Decode an element of an array of lists, maps or arrays: by `decode_sized`, with the constructor put in front."""

    def decode_element(octets: bytes, position: int, end: int, depth: int) -> tuple[Any, int]:
        size = octets[position] if width == 1 else _U32.unpack_from(octets, position)[0]
        last = position + width + size
        if last > end:
            raise _broken("value is cut short")
        value, taken = decode_sized(bytes((code,)) + octets[position:last], 1, last - position + 1, depth)
        return value, position + taken - 1

    return decode_element


def _decode_described(octets: bytes, position: int, end: int, depth: int) -> tuple[Described, int]:
    if depth >= MAX_DEPTH:
        raise _broken("nested too deeply")
    descriptor, position = _decode(octets, position, end, depth + 1)
    value, position = _decode(octets, position, end, depth + 1)
    return Described(descriptor, value), position


_Decoder = Callable[[bytes, int, int, int], tuple[Any, int]]


def _constant(value: Any) -> _Decoder:
    return lambda _octets, position, _end, _depth: (value, position)


def _number(layout: struct.Struct, kind: Callable[[Any], Any] | None = None) -> _Decoder:
    unpack_from, width = layout.unpack_from, layout.size

    def decode_number(octets: bytes, position: int, end: int, _depth: int) -> tuple[Any, int]:
        if position + width > end:
            raise _broken("value is cut short")
        value = unpack_from(octets, position)[0]
        return (value if kind is None else kind(value)), position + width

    return decode_number


def _sized(width: int, kind: Callable[[bytes], Any]) -> _Decoder:
    def decode_sized(octets: bytes, position: int, end: int, _depth: int) -> tuple[Any, int]:
        size = octets[position] if width == 1 else _U32.unpack_from(octets, position)[0]
        position += width
        if position + size > end:
            raise _broken("value is cut short")
        return kind(octets[position : position + size]), position + size

    return decode_sized


def _octets(width: int, kind: Callable[[bytes], Any]) -> _Decoder:
    def decode_octets(octets: bytes, position: int, end: int, _depth: int) -> tuple[Any, int]:
        if position + width > end:
            raise _broken("value is cut short")
        return kind(octets[position : position + width]), position + width

    return decode_octets


def _to_char(number: int) -> Char:
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:  # a surrogate could not be encoded again
        raise _broken("char beyond Unicode")
    return Char(chr(number))


def _to_bool(number: int) -> bool:
    if number > 1:
        raise _broken("boolean that is neither 0 nor 1")
    return number == 1


def _to_symbol(octets: bytes) -> Symbol:
    return Symbol(octets.decode())


_DECODERS: dict[int, _Decoder] = {
    0x00: _decode_described,
    0x40: _constant(None),
    0x41: _constant(True),
    0x42: _constant(False),
    0x43: _constant(UInt(0)),
    0x44: _constant(ULong(0)),
    0x45: lambda _octets, position, _end, _depth: ([], position),
    0x50: _number(_U8, UByte),
    0x51: _number(_I8),
    0x52: _number(_U8, UInt),
    0x53: _number(_U8, ULong),
    0x54: _number(_I8),
    0x55: _number(_I8),
    0x56: _number(_U8, _to_bool),
    0x60: _number(_U16, UShort),
    0x61: _number(_I16),
    0x70: _number(_U32, UInt),
    0x71: _number(_I32),
    0x72: _number(_F32, Float),
    0x73: _number(_U32, _to_char),
    0x74: _octets(4, Decimal32),
    0x80: _number(_U64, ULong),
    0x81: _number(_I64),
    0x82: _number(_F64),
    0x83: _number(_I64, Timestamp),
    0x84: _octets(8, Decimal64),
    0x94: _octets(16, Decimal128),
    0x98: _octets(16, lambda octets: UUID(bytes=octets)),
    0xA0: _sized(1, bytes),
    0xA1: _sized(1, bytes.decode),
    0xA3: _sized(1, _to_symbol),
    0xB0: _sized(4, bytes),
    0xB1: _sized(4, bytes.decode),
    0xB3: _sized(4, _to_symbol),
    0xC0: _decode_list,
    0xC1: _decode_map,
    0xD0: _decode_list,
    0xD1: _decode_map,
    0xE0: _decode_array,
    0xF0: _decode_array,
}

_ARRAY_DECODERS: dict[int, _Decoder] = {
    0xC0: _element(_decode_list, 0xC0, 1),
    0xC1: _element(_decode_map, 0xC1, 1),
    0xD0: _element(_decode_list, 0xD0, 4),
    0xD1: _element(_decode_map, 0xD1, 4),
    0xE0: _element(_decode_array, 0xE0, 1),
    0xF0: _element(_decode_array, 0xF0, 4),
}

_ARRAY_TYPES: dict[int, type] = {
    0x40: type(None),
    **dict.fromkeys((0x41, 0x42, 0x56), bool),
    **dict.fromkeys((0x43, 0x52, 0x70), UInt),
    **dict.fromkeys((0x44, 0x53, 0x80), ULong),
    **dict.fromkeys((0x45, 0xC0, 0xD0), list),
    **dict.fromkeys((0x55, 0x81), Long),
    **dict.fromkeys((0x54, 0x71), Int),
    **dict.fromkeys((0xA0, 0xB0), bytes),
    **dict.fromkeys((0xA1, 0xB1), str),
    **dict.fromkeys((0xA3, 0xB3), Symbol),
    **dict.fromkeys((0xC1, 0xD1), dict),
    **dict.fromkeys((0xE0, 0xF0), Array),
    0x50: UByte,
    0x51: Byte,
    0x60: UShort,
    0x61: Short,
    0x72: Float,
    0x73: Char,
    0x74: Decimal32,
    0x82: float,
    0x83: Timestamp,
    0x84: Decimal64,
    0x94: Decimal128,
    0x98: UUID,
}

_FIXED_WIDTHS: dict[int, int] = {
    **dict.fromkeys((0x40, 0x41, 0x42, 0x43, 0x44, 0x45), 0),
    **dict.fromkeys((0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56), 1),
    **dict.fromkeys((0x60, 0x61), 2),
    **dict.fromkeys((0x70, 0x71, 0x72, 0x73, 0x74), 4),
    **dict.fromkeys((0x80, 0x81, 0x82, 0x83, 0x84), 8),
    **dict.fromkeys((0x94, 0x98), 16),
}
_SIZE8_CODES = frozenset((0xA0, 0xA1, 0xA3, 0xC0, 0xC1, 0xE0))
_SIZE32_CODES = frozenset((0xB0, 0xB1, 0xB3, 0xD0, 0xD1, 0xF0))
