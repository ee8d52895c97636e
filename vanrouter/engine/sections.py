"""AMQP 1.0 values to octets and back: control messages, management, everything that is not the data path.

Layer: 2. Source: AMQP 1.0 part 1 (types). Why not Proton's data object: it ends at 65,535 nodes, and a list of 10,000
addresses has more. The types stand in `values.py`, the two directions in `encoding.py` and `decoding.py`.
"""

from __future__ import annotations

from vanrouter.engine.decoding import DECODE_ERROR, decode, decode_pairs, iterate_list, skip
from vanrouter.engine.encoding import encode, encode_into, encode_pairs
from vanrouter.engine.values import (
    NEED_MORE,
    Array,
    Byte,
    Char,
    Decimal,
    Decimal32,
    Decimal64,
    Decimal128,
    Described,
    Float,
    Int,
    Long,
    NeedMore,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
)

__all__ = [
    "DECODE_ERROR",
    "NEED_MORE",
    "Array",
    "Byte",
    "Char",
    "Decimal",
    "Decimal32",
    "Decimal64",
    "Decimal128",
    "Described",
    "Float",
    "Int",
    "Long",
    "NeedMore",
    "Short",
    "Symbol",
    "Timestamp",
    "UByte",
    "UInt",
    "ULong",
    "UShort",
    "decode",
    "decode_pairs",
    "encode",
    "encode_into",
    "encode_pairs",
    "iterate_list",
    "skip",
]
