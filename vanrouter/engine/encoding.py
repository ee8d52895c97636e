"""AMQP 1.0 values to octets. `engine/sections.py` is the door to this room.

Layer: 2. Source: AMQP 1.0 part 1, sections 1.2 and 1.6.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from vanrouter.engine.values import (
    Array,
    Byte,
    Char,
    Decimal,
    Decimal32,
    Decimal64,
    Decimal128,
    Described,
    Encoded,
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
from vanrouter.errors import MisuseError

_U8, _U16, _U32, _U64 = struct.Struct(">B"), struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q")
_I8, _I16, _I32, _I64 = struct.Struct(">b"), struct.Struct(">h"), struct.Struct(">i"), struct.Struct(">q")
_F32, _F64 = struct.Struct(">f"), struct.Struct(">d")
_CODE_U32 = struct.Struct(">BI")
_CODE_U32_U32 = struct.Struct(">BII")

_SMALL_LONG = [bytes((0x55, number & 0xFF)) for number in range(-128, 128)]
_MAX_LONG = (1 << 63) - 1


def encode(value: Any) -> bytes:
    """Encode one value.

    None, bool, int (as long), float (as double), str, bytes, UUID, list, tuple, dict, or a type of `values.py`.

    Raises:
        MisuseError: the value has no AMQP form.
    """
    out = bytearray()
    try:
        _encode(value, out)
    except (struct.error, ValueError, RecursionError, TypeError) as error:
        raise MisuseError(f"no AMQP form: {error}") from error
    return bytes(out)


def encode_into(value: Any, out: bytearray) -> None:
    """Append one value to `out`; for callers that build messages. Errors come as they are."""
    _encode(value, out)


def _encode(value: Any, out: bytearray) -> None:
    encoder = _ENCODERS.get(value.__class__)
    if encoder is None:
        encoder = _inherited_encoder(value)
    encoder(value, out)


def _inherited_encoder(value: Any) -> Callable[[Any, bytearray], None]:
    for kind in value.__class__.__mro__:
        if kind in _ENCODERS:
            return _ENCODERS[kind]
    raise MisuseError(f"no AMQP form for {type(value).__name__}")


def _encode_null(_value: None, out: bytearray) -> None:
    out.append(0x40)


def _encode_bool(value: bool, out: bytearray) -> None:
    out.append(0x41 if value else 0x42)


def _encode_long(value: int, out: bytearray) -> None:
    if -128 <= value <= 127:
        out += _SMALL_LONG[value + 128]
    else:
        out.append(0x81 if value <= _MAX_LONG else 0x80)
        out += _I64.pack(value) if value <= _MAX_LONG else _U64.pack(value)


def _encode_int(value: int, out: bytearray) -> None:
    if -128 <= value <= 127:
        out.append(0x54)
        out.append(value & 0xFF)
    else:
        out.append(0x71)
        out += _I32.pack(value)


def _encode_uint(value: int, out: bytearray) -> None:
    if value == 0:
        out.append(0x43)
    elif 0 < value <= 255:
        out.append(0x52)
        out.append(value)
    else:
        out.append(0x70)
        out += _U32.pack(value)


def _encode_ulong(value: int, out: bytearray) -> None:
    if value == 0:
        out.append(0x44)
    elif 0 < value <= 255:
        out.append(0x53)
        out.append(value)
    else:
        out.append(0x80)
        out += _U64.pack(value)


def _fixed(code: int, layout: struct.Struct) -> Callable[[Any, bytearray], None]:
    def encode_fixed(value: Any, out: bytearray) -> None:
        out.append(code)
        out += layout.pack(value)

    return encode_fixed


def _encode_char(value: str, out: bytearray) -> None:
    out.append(0x73)
    out += _U32.pack(ord(value))


def _encode_uuid(value: UUID, out: bytearray) -> None:
    out.append(0x98)
    out += value.bytes


def _encode_decimal(value: bytes, out: bytearray) -> None:
    code = _DECIMAL_CODES.get(len(value))
    if code is None:
        raise MisuseError("a decimal has 4, 8 or 16 octets")
    out.append(code)
    out += value


def _variable(code: int, octets: bytes, out: bytearray) -> None:
    if len(octets) <= 255:
        out.append(code)
        out.append(len(octets))
    else:
        out += _CODE_U32.pack(code | 0x10, len(octets))
    out += octets


def _encode_str(value: str, out: bytearray) -> None:
    _variable(0xA1, value.encode(), out)


def _encode_symbol(value: str, out: bytearray) -> None:
    _variable(0xA3, value.encode(), out)


def _encode_bytes(value: bytes, out: bytearray) -> None:
    _variable(0xA0, value, out)


def _encode_list(value: list[Any] | tuple[Any, ...], out: bytearray) -> None:
    if not value:
        out.append(0x45)
        return
    begin = len(out)
    encoders = _ENCODERS
    for item in value:
        (encoders.get(item.__class__) or _inherited_encoder(item))(item, out)
    _put_size(out, begin, 0xC0, len(value))


def _encode_map(value: dict[Any, Any], out: bytearray) -> None:
    begin = len(out)
    for key, item in value.items():
        _encode(key, out)
        _encode(item, out)
    _put_size(out, begin, 0xC1, 2 * len(value))


def encode_pairs(pairs: Sequence[tuple[Any, Any]], out: bytearray) -> None:
    """Append a map whose keys may come several times, in their order: what HTTP headers are in messages."""
    begin = len(out)
    for key, item in pairs:
        _encode(key, out)
        _encode(item, out)
    _put_size(out, begin, 0xC1, 2 * len(pairs))


def _put_size(out: bytearray, begin: int, code: int, count: int) -> None:
    """Put constructor, size and count in front of the elements that stand from `begin` on."""
    size = len(out) - begin
    if size < 255 and count <= 255:
        out[begin:begin] = bytes((code, size + 1, count))
    else:
        out[begin:begin] = _CODE_U32_U32.pack(code | 0x10, size + 4, count)


def _encode_described(value: Described, out: bytearray) -> None:
    out.append(0x00)
    _encode(value.descriptor, out)
    _encode(value.value, out)


def _encode_array(value: Array, out: bytearray) -> None:
    begin = len(out)
    if value.descriptor is not None:
        out.append(0x00)
        _encode(value.descriptor, out)
    element = _ARRAY_ELEMENTS.get(value.item_type)
    if element is None:
        raise MisuseError(f"no AMQP array of {value.item_type.__name__}")
    code, append = element
    out.append(code)
    for item in value:
        append(item, out)
    size = len(out) - begin
    out[begin:begin] = _CODE_U32_U32.pack(0xF0, size + 4, len(value))


def _packed(layout: struct.Struct) -> Callable[[Any, bytearray], None]:
    def append(value: Any, out: bytearray) -> None:
        out += layout.pack(value)

    return append


def _append_sized(octets: bytes, out: bytearray) -> None:
    out += _U32.pack(len(octets))
    out += octets


def _append_compound(value: Any, out: bytearray) -> None:
    """Append a list, map or array in its 32-bit form without the constructor."""
    encoded = bytearray()
    _encode(value, encoded)
    code = encoded[0]
    if code == 0x45:
        out += _U64.pack(4 << 32)
    elif code < 0xD0:
        out += _U32.pack(encoded[1] + 3) + _U32.pack(encoded[2])
        out += encoded[3:]
    else:
        out += encoded[1:]


def _append_octets(value: bytes, out: bytearray) -> None:
    out += value


_ENCODERS: dict[type, Callable[[Any, bytearray], None]] = {
    type(None): _encode_null,
    bool: _encode_bool,
    int: _encode_long,
    Long: _encode_long,
    Int: _encode_int,
    Short: _fixed(0x61, _I16),
    Byte: _fixed(0x51, _I8),
    ULong: _encode_ulong,
    UInt: _encode_uint,
    UShort: _fixed(0x60, _U16),
    UByte: _fixed(0x50, _U8),
    Timestamp: _fixed(0x83, _I64),
    Float: _fixed(0x72, _F32),
    float: _fixed(0x82, _F64),
    Char: _encode_char,
    UUID: _encode_uuid,
    Decimal: _encode_decimal,
    str: _encode_str,
    Symbol: _encode_symbol,
    bytes: _encode_bytes,
    Encoded: _append_octets,
    bytearray: _encode_bytes,
    memoryview: _encode_bytes,
    list: _encode_list,
    tuple: _encode_list,
    dict: _encode_map,
    Described: _encode_described,
    Array: _encode_array,
}

_DECIMAL_CODES = {4: 0x74, 8: 0x84, 16: 0x94}


_ARRAY_ELEMENTS: dict[type, tuple[int, Callable[[Any, bytearray], None]]] = {
    type(None): (0x40, lambda _value, _out: None),
    bool: (0x56, lambda value, out: out.append(1 if value else 0)),
    int: (0x81, _packed(_I64)),
    Long: (0x81, _packed(_I64)),
    Int: (0x71, _packed(_I32)),
    Short: (0x61, _packed(_I16)),
    Byte: (0x51, _packed(_I8)),
    ULong: (0x80, _packed(_U64)),
    UInt: (0x70, _packed(_U32)),
    UShort: (0x60, _packed(_U16)),
    UByte: (0x50, lambda value, out: out.append(value)),
    Timestamp: (0x83, _packed(_I64)),
    Float: (0x72, _packed(_F32)),
    float: (0x82, _packed(_F64)),
    Char: (0x73, lambda value, out: _append_octets(_U32.pack(ord(value)), out)),
    UUID: (0x98, lambda value, out: _append_octets(value.bytes, out)),
    Decimal32: (0x74, _append_octets),
    Decimal64: (0x84, _append_octets),
    Decimal128: (0x94, _append_octets),
    str: (0xB1, lambda value, out: _append_sized(value.encode(), out)),
    Symbol: (0xB3, lambda value, out: _append_sized(value.encode(), out)),
    bytes: (0xB0, _append_sized),
    list: (0xD0, _append_compound),
    dict: (0xD1, _append_compound),
    Array: (0xF0, _append_compound),
}
