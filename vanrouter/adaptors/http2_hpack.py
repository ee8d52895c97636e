"""Header compression with a memory: a block that was seen under the same table is not decoded again.

Layer: 4, no input or output of its own. Source: RFC 7541; RFC 9113, section 4.3. hpack does the work. What it costs
(10 µs and more for each request and direction) is saved for a client that says the same again: once its fields are in
the table the block is the same octets, and the meaning of these changes only with the table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
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
SHARED_BLOCKS = 1024
SHARED_BLOCK_BYTES = 2048
"""Bounds of the memories that connections share."""
STATIC_ENTRIES = 61
"""Of the table that is always there (RFC 7541, appendix A)."""

SECRETS = frozenset({b"authorization", b"proxy-authorization", b"set-cookie"})
"""Fields that no table keeps, so that nobody finds them out by their compression (RFC 7541, section 7.1)."""


class NotedTable(HeaderTable):
    """A table that notes what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[Field] = []
        self.has_referred = False
        """An entry that a block had added was asked for."""

    def add(self, name: bytes, value: bytes) -> None:
        self.added.append((name, value))
        super().add(name, value)

    def get_by_index(self, index: int) -> Field:
        if index > STATIC_ENTRIES:
            self.has_referred = True
        return super().get_by_index(index)


class SharedBlocks(Generic[Parsed]):
    """Blocks that mean the same whatever the table holds, with what they add to it: one memory for many connections.

    A client that is new says everything in full, and so does one that keeps no table (nginx, and vanrouter on a stream
    of one exchange): all their blocks are found here.
    """

    __slots__ = ("_blocks", "get", "parse")

    def __init__(self, parse: Callable[[list[Field]], Parsed]) -> None:
        self.parse = parse
        """Turns fields into what a connection works with; must not depend on anything else."""
        self._blocks: dict[bytes, tuple[Parsed, list[Field]]] = {}
        self.get = self._blocks.get

    def keep(self, block: bytes, parsed: Parsed, added: list[Field]) -> None:
        """Remember a block."""
        if len(block) <= SHARED_BLOCK_BYTES:
            if len(self._blocks) >= SHARED_BLOCKS:
                self._blocks.clear()
            self._blocks[block] = parsed, added


class BlockReader(Generic[Parsed]):
    """Decodes the header blocks of one connection.

    Args:
        shared: what is made of fields, and what is remembered of it for all connections of a kind. The answers are
            used again and so must not be changed.
        max_list_bytes: fields beyond it (32 octets more for each, as RFC 7541, section 4.1 counts) end the connection.
        added: what the blocks before have added to the table.
    """

    __slots__ = ("_added", "_decoder", "_max_list_bytes", "_memory", "_shared", "_table", "_table_bytes")

    def __init__(self, shared: SharedBlocks[Parsed], max_list_bytes: int, added: Sequence[Field] = ()) -> None:
        self._shared = shared
        self._max_list_bytes = max_list_bytes
        self._table_bytes = TABLE_BYTES
        self._decoder: Decoder | None = None
        self._table: NotedTable | None = None
        self._memory: dict[bytes, Parsed] = {}
        self._added: deque[Field] = deque(added, maxlen=TABLE_BYTES // 32)
        """What the table lacks: it is brought up to date when it is looked at. More than this many it cannot hold."""

    def allow_table(self, size: int) -> None:
        """The peer may use a table of so many octets, where it says so itself: 4096 unless it was told another size."""
        self._table_bytes = size
        self._added = deque(self._added, max(size, TABLE_BYTES) // 32)
        if self._decoder is not None:
            self._decoder.max_allowed_table_size = size

    def read(self, block: bytes) -> Parsed:
        """Decode one whole block.

        Raises:
            GoAwayError: it cannot be decoded, or the fields are too large to go on.
            ResetError: the parser's.
        """
        known = self._memory.get(block)
        if known is not None:
            return known
        found = self._shared.get(block)
        if found is not None:
            parsed, added = found
            if added:
                self._added.extend(added)
                if self._memory:
                    self._memory.clear()
            return parsed
        return self._decode(block)

    def _decode(self, block: bytes) -> Parsed:
        decoder = self._decoder
        if decoder is None:
            decoder = self._decoder = Decoder(self._max_list_bytes)
            decoder.max_allowed_table_size = self._table_bytes
            self._table = decoder.header_table = NotedTable()
        table = self._table
        assert table is not None
        for field in self._added:
            table.add(*field)
        self._added.clear()
        table.added = []
        table.has_referred = False
        try:
            fields: list[Field] = list(decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise GoAwayError(ErrorCode.ENHANCE_YOUR_CALM, "header fields beyond any limit") from error
        except HPACKError as error:
            raise GoAwayError(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        is_resized = bool(block) and block[0] & 0xE0 == 0x20
        if is_resized or table.added:
            self._memory.clear()
        parsed = self._shared.parse(fields)
        if is_resized:
            return parsed
        if not table.has_referred:
            self._shared.keep(block, parsed, table.added)
        elif not table.added:
            if len(self._memory) >= REMEMBERED_BLOCKS:
                self._memory.clear()
            self._memory[block] = parsed
        return parsed


class BlockWriter:
    """Encodes the header blocks of one connection."""

    __slots__ = ("_encoder", "_memory", "_seen", "_table")

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._table = self._encoder.header_table = NotedTable()
        self._memory: dict[tuple[object, ...], bytes] = {}
        self._seen: set[Field] = set()

    def limit_table(self, size: int) -> None:
        """Keep to the table size that the peer allows, and never more than TABLE_BYTES."""
        size = min(size, TABLE_BYTES)
        if size != self._encoder.header_table_size:
            self._encoder.header_table_size = size
            self._memory.clear()

    def write(self, fields: list[Field]) -> bytes:
        """Encode fields as one block.

        A field goes into the table when it comes for the second time: values that never come again (dates, lengths,
        identities) would throw out those that do, and with them all that is remembered here.
        """
        key = key_of(fields)
        known = self._memory.get(key)
        if known is not None:
            return known
        is_resized = bool(self._encoder.table_size_changes)
        self._table.added = []
        seen = len(self._seen)
        block = self._encoder.encode([self._marked(field) for field in fields], huffman=False)
        if is_resized or self._table.added:
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
        if is_secret(field):
            return NeverIndexedHeaderTuple(name, value)
        if field in self._seen:
            return HeaderTuple(name, value)
        if len(self._seen) >= SEEN_FIELDS:
            self._seen.clear()
        self._seen.add((name, value))
        return NeverIndexedHeaderTuple(name, value)


def key_of(fields: list[Field]) -> tuple[object, ...]:
    """Return what fields are remembered by: a mark belongs to it, which makes no difference to equality."""
    key = tuple(fields)
    if NeverIndexedHeaderTuple not in map(type, key):
        return key
    return key, tuple([field for field in key if type(field) is NeverIndexedHeaderTuple])


def is_secret(field: Field) -> bool:
    """Whether a field is kept out of all tables."""
    return field[0] in SECRETS or (isinstance(field, HeaderTuple) and not field.indexable)


class StatelessWriter:
    """Encodes blocks that refer to nothing before them, for streams of one exchange: the same fields, the same octets.

    What a block refers to in the table it has added itself, and entries are counted from the newest one on: so it means
    the same behind any other block, too.
    """

    __slots__ = ("_memory",)

    def __init__(self) -> None:
        self._memory: dict[tuple[object, ...], bytes] = {}

    def limit_table(self, size: int) -> None:
        """The other end is a vanrouter, or a server that has just been connected to: not below what we begin with."""

    def write(self, fields: list[Field]) -> bytes:
        """Encode fields as one block."""
        key = key_of(fields)
        known = self._memory.get(key)
        if known is not None:
            return known
        marked = [(NeverIndexedHeaderTuple if is_secret(field) else HeaderTuple)(*field) for field in fields]
        block = Encoder().encode(marked, huffman=False)
        if len(block) <= SHARED_BLOCK_BYTES:
            if len(self._memory) >= SHARED_BLOCKS:
                self._memory.clear()
            self._memory[key] = block
        return block


STATELESS = StatelessWriter()
