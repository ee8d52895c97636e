"""Header blocks: the same as hpack alone would say, remembered only while the table stands."""

import pytest
from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple

from vanrouter.adaptors.http2_frames import ErrorCode, GoAwayError
from vanrouter.adaptors.http2_hpack import (
    REMEMBERED_BLOCKS,
    SEEN_FIELDS,
    BlockReader,
    BlockWriter,
    Field,
    SharedBlocks,
    StatelessWriter,
)

FIELDS: list[Field] = [(b":method", b"GET"), (b":path", b"/a"), (b"x-one", b"1"), (b"authorization", b"secret")]


class Parses:
    """Counts how often a block was looked into."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, fields: list[Field]) -> tuple[int, list[Field]]:
        self.count += 1
        return self.count, [(name, value) for name, value in fields]


def test_round_trip_in_any_state_of_the_table() -> None:
    writer, reader, other = BlockWriter(), BlockReader(SharedBlocks(list[Field]), 65536), Decoder()
    for number in range(200):
        fields = [*FIELDS, (b"x-number", b"%d" % (number // 5))]
        block = writer.write(fields)
        assert reader.read(block) == fields
        assert other.decode(block, raw=True) == fields


def test_a_repeated_block_is_small_and_not_decoded_again() -> None:
    writer, parses = BlockWriter(), Parses()
    reader = BlockReader(SharedBlocks(parses), 65536)
    sizes = []
    for _ in range(10):
        block = writer.write(FIELDS)
        sizes.append(len(block))
        assert reader.read(block)[1] == FIELDS
    assert sizes[-1] < sizes[0]
    assert parses.count < 6


def test_a_block_means_something_else_when_the_table_has_changed() -> None:
    encoder, reader = Encoder(), BlockReader(SharedBlocks(list[Field]), 65536)
    encoder.encode([])
    reader.read(b"\x40\x01a\x01b")  # a: b, into the table as number 62
    assert reader.read(b"\xbe") == [(b"a", b"b")]
    assert reader.read(b"\xbe") == [(b"a", b"b")]
    reader.read(b"\x40\x01c\x01d")  # now that is 62
    assert reader.read(b"\xbe") == [(b"c", b"d")]


def test_a_table_made_smaller_forgets() -> None:
    reader = BlockReader(SharedBlocks(list[Field]), 65536)
    reader.read(b"\x40\x01a\x01b")
    assert reader.read(b"\xbe") == [(b"a", b"b")]
    assert reader.read(b"\x20\x82") == [(b":method", b"GET")]  # size 0
    with pytest.raises(GoAwayError) as caught:
        reader.read(b"\xbe")
    assert caught.value.code == ErrorCode.COMPRESSION_ERROR


def test_the_peers_table_size_is_kept_to() -> None:
    writer = BlockWriter()
    decoder = Decoder()
    for size in (4096, 0, 0, 100, 1 << 30):
        writer.limit_table(size)
        decoder.max_allowed_table_size = min(size, 4096)
        for _ in range(4):
            assert decoder.decode(writer.write(FIELDS), raw=True) == FIELDS
            assert decoder.header_table_size <= min(size, 4096)


def test_secrets_are_never_indexed() -> None:
    writer, decoder = BlockWriter(), Decoder()
    secret = NeverIndexedHeaderTuple(b"x-key", b"hidden")
    for _ in range(4):
        fields = decoder.decode(writer.write([(b"authorization", b"secret"), secret, (b"x-plain", b"1")]), raw=True)
        kinds = [type(field) for field in fields]
        assert kinds[:2] == [NeverIndexedHeaderTuple] * 2
    names = {entry[0] for entry in decoder.header_table.dynamic_entries}
    assert names == {b"x-plain"}


def test_values_that_never_come_again_leave_the_table_alone() -> None:
    writer = BlockWriter()
    for number in range(SEEN_FIELDS * 2):
        writer.write([(b"x-id", b"%d" % number)])
    assert not writer._table.dynamic_entries
    assert len(writer._seen) <= SEEN_FIELDS
    assert len(writer._memory) <= REMEMBERED_BLOCKS


@pytest.mark.parametrize(
    "block", [b"\xff\xff\xff\xff\xff\xff\xff", b"\x40", b"\x00\x7f\x01", b"\xfe", b"\x80", b"\x3f\xff\xff\x7f"]
)
def test_broken_blocks(block: bytes) -> None:
    with pytest.raises(GoAwayError) as caught:
        BlockReader(SharedBlocks(list[Field]), 65536).read(block)
    assert caught.value.code == ErrorCode.COMPRESSION_ERROR


def test_a_bomb_ends_the_connection() -> None:
    reader = BlockReader(SharedBlocks(list[Field]), 65536)
    reader.read(b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000)
    with pytest.raises(GoAwayError) as caught:
        reader.read(b"\xbe" * 1000)  # 4 MB of fields
    assert caught.value.code == ErrorCode.ENHANCE_YOUR_CALM


def test_what_needs_no_table_is_shared_and_its_entries_are_not_lost() -> None:
    """As nginx says it: everything in full, into a table that it never refers to."""
    parses = Parses()
    shared = SharedBlocks(parses)
    said = Encoder().encode(FIELDS, huffman=False)
    readers = [BlockReader(shared, 65536) for _ in range(3)]
    for reader in readers:
        for _ in range(300):
            assert reader.read(said)[1] == FIELDS
    assert parses.count == 1
    assert readers[1].read(b"\xbe")[1] == [FIELDS[-1]]  # the newest entry is there all the same
    plain = Decoder()
    for _ in range(300):
        plain.decode(said)
    readers[2].read(b"\xbe")
    assert readers[2]._table is not None
    assert readers[2]._table.dynamic_entries == plain.header_table.dynamic_entries


def test_a_block_that_refers_to_the_table_is_not_shared() -> None:
    shared = SharedBlocks(list[Field])
    first, second = BlockReader(shared, 65536), BlockReader(shared, 65536)
    first.read(b"\x40\x01a\x01b")
    assert first.read(b"\xbe") == [(b"a", b"b")]
    second.read(b"\x40\x01c\x01d")
    assert second.read(b"\xbe") == [(b"c", b"d")]


def test_stateless_blocks_mean_the_same_behind_any_other() -> None:
    writer, decoder = StatelessWriter(), Decoder()
    blocks: list[list[Field]] = [FIELDS, [(b"x", b"1"), (b"x", b"2"), (b"x", b"1")], FIELDS, [(b"y", b"z" * 3000)] * 3]
    for fields in blocks * 3:
        assert decoder.decode(writer.write(fields), raw=True) == fields


def test_a_mark_is_not_forgotten() -> None:
    plain: list[Field] = [(b"x", b"1"), (b"y", b"2")]
    marked: list[Field] = [plain[0], NeverIndexedHeaderTuple(*plain[1])]
    writer = StatelessWriter()
    for fields, kind in ((plain, HeaderTuple), (marked, NeverIndexedHeaderTuple), (plain, HeaderTuple)):
        decoded = Decoder().decode(writer.write(fields), raw=True)
        assert [type(field) for field in decoded] == [HeaderTuple, kind]
