"""AMQP 1.0 types that Python has no type for, and the words that the codec's rooms share.

Layer: 2. Source: AMQP 1.0 part 1, section 1.6.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final


class NeedMore(Enum):
    """Type of NEED_MORE."""

    NEED_MORE = "need more"


NEED_MORE: Final = NeedMore.NEED_MORE
"""Answer of parsers that may be given the beginning of a message: ask again when more octets have come."""


class Symbol(str):
    """AMQP symbol; equal to the str of the same characters."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Symbol({str.__repr__(self)})"


class Encoded(bytes):
    """A value that is encoded already; it stands in lists and maps as it is."""

    __slots__ = ()


class Char(str):
    """AMQP char: one character."""

    __slots__ = ()


class UByte(int):
    """AMQP ubyte."""

    __slots__ = ()


class UShort(int):
    """AMQP ushort."""

    __slots__ = ()


class UInt(int):
    """AMQP uint."""

    __slots__ = ()


class ULong(int):
    """AMQP ulong."""

    __slots__ = ()


class Byte(int):
    """AMQP byte."""

    __slots__ = ()


class Short(int):
    """AMQP short."""

    __slots__ = ()


class Int(int):
    """AMQP int."""

    __slots__ = ()


class Long(int):
    """AMQP long; a plain int is encoded the same."""

    __slots__ = ()


class Timestamp(int):
    """AMQP timestamp: milliseconds since the epoch."""

    __slots__ = ()


class Float(float):
    """AMQP float: 32 bits. A plain float is a double."""

    __slots__ = ()


class Decimal(bytes):
    """AMQP decimal32, decimal64 or decimal128 as its 4, 8 or 16 octets; carried, never calculated with."""

    __slots__ = ()


class Decimal32(Decimal):
    """Element type of an array of decimal32."""

    __slots__ = ()


class Decimal64(Decimal):
    """Element type of an array of decimal64."""

    __slots__ = ()


class Decimal128(Decimal):
    """Element type of an array of decimal128."""

    __slots__ = ()


class Described:
    """A value with a descriptor."""

    __slots__ = ("descriptor", "value")

    def __init__(self, descriptor: Any, value: Any) -> None:
        self.descriptor = descriptor
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Described):
            return NotImplemented
        return bool(self.descriptor == other.descriptor and self.value == other.value)

    def __hash__(self) -> int:
        return hash((self.descriptor, self.value))

    def __repr__(self) -> str:
        return f"Described({self.descriptor!r}, {self.value!r})"


class Array(list[Any]):
    """AMQP array: elements of `item_type` (a type that `encode` takes), each with `descriptor`, unless that is None."""

    __slots__ = ("descriptor", "item_type")

    def __init__(self, item_type: type, items: Any = (), descriptor: Any = None) -> None:
        super().__init__(items)
        self.item_type = item_type
        self.descriptor = descriptor

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Array) and self.descriptor != other.descriptor:
            return False
        return list.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __repr__(self) -> str:
        return f"Array({self.item_type.__name__}, {list.__repr__(self)})"
