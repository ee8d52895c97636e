"""AMQP 1.0 frames for a load program that must cost less than what it measures.

An engine in the load program would do as much work as the one in the router. Here the frames of a whole batch of
messages are made once; of each only the delivery number changes, and that is written for all of the batch together.
Source: AMQP 1.0 part 2 (transport) and part 5, section 5.3 (SASL).
"""

from __future__ import annotations

import struct
from typing import Any

from vanrouter.engine.sections import Described, Symbol, UByte, UInt, ULong, UShort, encode

SASL_HEADER = b"AMQP\x03\x01\x00\x00"
AMQP_HEADER = b"AMQP\x00\x01\x00\x00"
OPEN, BEGIN, ATTACH, FLOW, TRANSFER, DISPOSITION, DETACH, END, CLOSE = range(0x10, 0x19)
SASL_INIT, SASL_OUTCOME = 0x41, 0x44
ACCEPTED = Described(ULong(0x24), [])
MAX_FRAME_BYTES = 16384
"""What the routers use too; a message of 10 kB is one frame."""
WINDOW = 0x7FFFFFFF
BATCH = 256
"""Messages of which the frames lie ready: as many as the lowest octet of a delivery number tells apart."""

_WIDTH = dict.fromkeys(range(0x40, 0x50), 0) | dict.fromkeys(range(0x50, 0x60), 1)
_WIDTH |= {0x60: 2, 0x61: 2, 0x70: 4, 0x71: 4, 0x80: 8, 0x81: 8}
_LENGTH = struct.Struct(">I")


def frame(code: int, fields: list[Any], kind: int = 0) -> bytes:
    """One frame on channel 0; `kind` 1 is SASL."""
    body = encode(Described(ULong(code), fields))
    return struct.pack(">IBBH", len(body) + 8, 2, kind, 0) + body


def sasl_anonymous() -> bytes:
    """What a client says first."""
    return SASL_HEADER + frame(SASL_INIT, [Symbol("ANONYMOUS"), b"bench"], 1)


def openings(container: str, link: list[Any], handle_max: int) -> bytes:
    """The header, OPEN, BEGIN and one ATTACH, all at once."""
    return (
        AMQP_HEADER
        + frame(OPEN, [container, "bench", UInt(MAX_FRAME_BYTES), UShort(0)])
        + frame(BEGIN, [None, UInt(0), UInt(WINDOW), UInt(WINDOW), UInt(handle_max)])
        + frame(ATTACH, link)
    )


def sender_link(name: str, address: str, *, presettled: bool) -> list[Any]:
    """The fields of the ATTACH of a producer."""
    source = Described(ULong(0x28), [])
    target = Described(ULong(0x29), [address])
    return [name, UInt(0), False, UByte(1 if presettled else 0), UByte(0), source, target, None, None, UInt(0)]


def receiver_link(name: str, address: str) -> list[Any]:
    """The fields of the ATTACH of a consumer."""
    source = Described(ULong(0x28), [address])
    target = Described(ULong(0x29), [])
    return [name, UInt(0), True, UByte(2), UByte(0), source, target]


def credit(received: int, amount: int) -> bytes:
    """A FLOW that gives a link `amount` credit after `received` deliveries."""
    fields = [UInt(received), UInt(WINDOW), UInt(0), UInt(WINDOW), UInt(0), UInt(received), UInt(amount)]
    return frame(FLOW, fields)


def accept(first: int, last: int) -> bytes:
    """A DISPOSITION of a consumer that settles a range of deliveries."""
    return frame(DISPOSITION, [True, UInt(first), UInt(last), True, ACCEPTED])


class Batch:
    """The frames of BATCH messages one after the other, all of one length."""

    def __init__(self, body_bytes: int, *, presettled: bool) -> None:
        """A message is one data section of `body_bytes` octets."""
        settled = b"\x41" if presettled else b"\x42"
        # handle 0, delivery-id, delivery-tag (the same number), message-format 0, settled
        fields = b"\x43" + b"\x70\0\0\0\0" + b"\xa0\x04\0\0\0\0" + b"\x43" + settled
        performative = b"\0\x53\x14\xc0" + bytes((len(fields) + 1, 5)) + fields
        length = struct.pack(">B", body_bytes) if body_bytes < 256 else _LENGTH.pack(body_bytes)
        message = b"\0\x53\x75" + (b"\xa0" if body_bytes < 256 else b"\xb0") + length + b"m" * body_bytes
        self.stride = 8 + len(performative) + len(message)
        one = struct.pack(">IBBH", self.stride, 2, 0, 0) + performative + message
        self.frames = bytearray(one * BATCH)
        self.view = memoryview(self.frames)
        self._id_at = 8 + 6 + 2
        self._tag_at = self._id_at + 4 + 2
        self._high = -1
        low = bytes(range(BATCH))
        self.frames[self._id_at + 3 :: self.stride] = low
        self.frames[self._tag_at + 3 :: self.stride] = low

    def ready(self, first: int, wanted: int) -> tuple[memoryview, int]:
        """Return the frames of the deliveries from number `first`, `wanted` at most, and how many those are.

        They are valid until the next call.
        """
        high = first // BATCH
        if high != self._high:
            self._high = high
            for index, octet in enumerate((high & 0xFFFFFF).to_bytes(3, "big")):
                same = bytes((octet,)) * BATCH
                self.frames[self._id_at + index :: self.stride] = same
                self.frames[self._tag_at + index :: self.stride] = same
        begin = first % BATCH
        end = min(BATCH, begin + wanted)
        return self.view[begin * self.stride : end * self.stride], end - begin


def transfer(octets: bytearray, position: int) -> tuple[int, bool]:
    """Return the delivery number of a TRANSFER (-1: none) and whether it is the last of its delivery.

    `position` is that of the list's type code.
    """
    if octets[position] == 0xC0:
        count = octets[position + 2]
        position += 3
    else:
        count = octets[position + 8]
        position += 9
    number = -1
    more = False
    for field in range(min(count, 6)):
        code = octets[position]
        if code == 0xA0:
            position += 2 + octets[position + 1]
            continue
        width = _WIDTH[code]
        if field == 1 and code != 0x40:
            number = int.from_bytes(octets[position + 1 : position + 1 + width], "big")
        elif field == 5:
            more = code == 0x41 or (code == 0x56 and octets[position + 1] == 1)
        position += 1 + width
    return number, not more
