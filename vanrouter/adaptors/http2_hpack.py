"""Header compression with a memory: a block that was seen under the same table is not decoded again.

Layer: 4, no input or output of its own. Source: RFC 7541; RFC 9113, section 4.3. hpack does the work. What it costs
(10 µs and more for each request and direction) is saved for a client that says the same again: once its fields are in
the table the block is the same octets, and the meaning of these changes only with the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from vanrouter.adaptors.http2_frames import ErrorCode, GoAwayError

Field = tuple[bytes, bytes]
"""Name, lower case, and value. One that came marked as never to be indexed is a subclass, and stays it."""

Parsed = TypeVar("Parsed")

TABLE_BYTES = 4096
"""Size of the table in both directions: what RFC 7541 begins with."""

REMEMBERED_BLOCKS = 64
SEEN_FIELDS = 512
"""Bounds of the two memories of one connection."""

SECRETS = frozenset({b"authorization", b"proxy-authorization", b"set-cookie"})
"""Fields that no table keeps, so that nobody finds them out by their compression (RFC 7541, section 7.1)."""


class CountingTable(HeaderTable):
    """A table that tells that it was changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)


class BlockReader(Generic[Parsed]):
    """Decodes the header blocks of one connection.

    Args:
        parse: turns the fields into what the connection works with; may raise ResetError, and must not depend on
            anything but the fields. Its answer is remembered and so must not be changed.
        max_list_bytes: fields beyond it (32 octets more for each, as RFC 7541, section 4.1 counts) end the connection.
    """

    __slots__ = ("_decoder", "_memory", "_parse", "_table")

    def __init__(self, parse: Callable[[list[Field]], Parsed], max_list_bytes: int) -> None:
        self._decoder = Decoder(max_list_bytes)
        self._table = self._decoder.header_table = CountingTable()
        self._parse = parse
        self._memory: dict[bytes, Parsed] = {}

    def read(self, block: bytes) -> Parsed:
        """Decode one whole block.

        Raises:
            GoAwayError: it cannot be decoded, or the fields are too large to go on.
        """
        known = self._memory.get(block)
        if known is not None:
            return known
        changes = self._table.changes
        try:
            fields: list[Field] = list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise GoAwayError(ErrorCode.ENHANCE_YOUR_CALM, "header fields beyond any limit") from error
        except HPACKError as error:
            raise GoAwayError(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        is_resized = bool(block) and block[0] & 0xE0 == 0x20
        if is_resized or changes != self._table.changes:
            self._memory.clear()
            return self._parse(fields)
        parsed = self._parse(fields)
        if len(self._memory) >= REMEMBERED_BLOCKS:
            self._memory.clear()
        self._memory[block] = parsed
        return parsed


class BlockWriter:
    """Encodes the header blocks of one connection."""

    __slots__ = ("_encoder", "_memory", "_seen", "_table")

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._table = self._encoder.header_table = CountingTable()
        self._memory: dict[tuple[Field, ...], bytes] = {}
        self._seen: set[Field] = set()

    def limit_table(self, size: int) -> None:
        """Keep to the table size that the peer allows, and never more than TABLE_BYTES."""
        self._encoder.header_table_size = min(size, TABLE_BYTES)
        self._memory.clear()

    def write(self, fields: list[Field]) -> bytes:
        """Encode fields as one block.

        A field goes into the table when it comes for the second time: values that never come again (dates, lengths,
        identities) would throw out those that do, and with them all that is remembered here.
        """
        key = tuple(fields)
        known = self._memory.get(key)
        if known is not None:
            return known
        is_resized = bool(self._encoder.table_size_changes)
        changes, seen = self._table.changes, len(self._seen)
        block = self._encoder.encode([self._marked(field) for field in fields], huffman=False)
        if is_resized or changes != self._table.changes:
            self._memory.clear()
            return block
        if seen != len(self._seen):  # the next time some of it goes into the table
            return block
        if len(self._memory) >= REMEMBERED_BLOCKS:
            self._memory.clear()
        self._memory[key] = block
        return block

    def _marked(self, field: Field) -> HeaderTuple:
        name, value = field
        if name in SECRETS or (isinstance(field, HeaderTuple) and not field.indexable):
            return NeverIndexedHeaderTuple(name, value)
        if field in self._seen:
            return HeaderTuple(name, value)
        if len(self._seen) >= SEEN_FIELDS:
            self._seen.clear()
        self._seen.add((name, value))
        return NeverIndexedHeaderTuple(name, value)
