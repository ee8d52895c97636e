"""HTTP/2: bodies are exact under any order of events and any splitting of octets; garbage ends one connection."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.adaptors.http2_peers import BLOCK, Asker, Exchange, Pair, RawClient, carry, frame
from vanrouter.adaptors import http2_frames as wire
from vanrouter.adaptors.http2_fields import parse_request, request_fields
from vanrouter.adaptors.http2_hpack import BlockReader, BlockWriter, Field, SharedBlocks
from vanrouter.adaptors.http_exchange import Failure, HeadLimits, RequestHead, ResponseHead
from vanrouter.errors import PeerError

names = st.text("abcdefghijklmnopqrstuvwxyz-0123456789", min_size=1, max_size=12).map(
    lambda text: b"x-" + text.encode()
)
values = st.text("".join(chr(code) for code in range(33, 127)), max_size=60).map(str.encode)
headers = st.lists(st.tuples(names, values), max_size=12)


@given(st.lists(headers, min_size=1, max_size=12))
def test_blocks_survive_any_history(blocks: list[list[Field]]) -> None:
    writer, reader = BlockWriter(), BlockReader(SharedBlocks(list[Field]), 1 << 20)
    for fields in blocks + blocks:
        assert reader.read(writer.write(fields)) == fields


@given(st.binary(max_size=200))
def test_any_octets_are_a_block_or_an_error(block: bytes) -> None:
    with contextlib.suppress(PeerError):
        BlockReader(SharedBlocks(lambda fields: parse_request(fields, b"http")), 65536).read(block)


@given(headers, st.sampled_from([b"GET", b"POST", b"x-METHOD"]), st.none() | st.just(b"svc:8080"))
def test_a_request_survives(extra: list[Field], method: bytes, authority: bytes | None) -> None:
    head = RequestHead(method, b"/p?q=1", extra, authority=authority, length=0)
    again = parse_request(request_fields(head), b"http")
    assert (again.method, again.target, again.authority, again.headers) == (method, b"/p?q=1", authority, extra)


CONVERSATION = (
    wire.PREFACE
    + wire.settings({wire.INITIAL_WINDOW_SIZE: 100_000})
    + frame(wire.HEADERS, wire.END_HEADERS | wire.HAS_PRIORITY, 1, b"\x80\0\0\0\x10" + BLOCK)
    + frame(wire.PING, 0, 0, b"12345678")
    + frame(wire.DATA, wire.PADDED, 1, b"\x03question\0\0\0")
    + frame(wire.HEADERS, 0, 3, BLOCK[:2])
    + frame(wire.CONTINUATION, wire.END_HEADERS, 3, BLOCK[2:])
    + wire.window_update(0, 1000)
    + frame(wire.DATA, wire.END_STREAM, 3, b"other")
    + frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 1, b"\x00\x05x-sum\x011")
)


def hears(pieces: Sequence[bytes]) -> tuple[Any, ...]:
    raw = RawClient.__new__(RawClient)
    RawClient.__init__(raw)
    server = type(raw.server)(raw.line, raw.service, HeadLimits())
    for piece in pieces:
        server.receive(piece)
    return (
        [(bytes(exchange.body), exchange.trailers, exchange.cancelled) for exchange in raw.service.exchanges],
        raw.line.ended,
        raw.line.take(),
    )


def test_split_at_every_octet() -> None:
    whole = hears([CONVERSATION])
    assert [body for body, _, _ in whole[0]] == [b"question", b"other"]
    for at in range(1, len(CONVERSATION)):
        assert hears([CONVERSATION[:at], CONVERSATION[at:]]) == whole
    assert hears([CONVERSATION[at : at + 1] for at in range(len(CONVERSATION))]) == whole


@given(st.integers(0, len(CONVERSATION) - 1), st.integers(1, 255), st.integers(1, 50))
def test_a_wrong_octet_is_survived_and_splitting_does_not_matter(at: int, change: int, size: int) -> None:
    broken = bytearray(CONVERSATION)
    broken[at] ^= change
    octets = bytes(broken)
    whole = hears([octets])
    pieces = hears([octets[begin : begin + size] for begin in range(0, len(octets), size)])
    assert whole == pieces


frames_of_any_kind = st.builds(
    frame, st.integers(0, 11), st.integers(0, 255), st.sampled_from([0, 1, 1, 3, 5, 2, 101]), st.binary(max_size=40)
)
plausible = st.sampled_from(
    [
        frame(wire.HEADERS, 4, 1, BLOCK), frame(wire.HEADERS, 5, 3, BLOCK), frame(wire.DATA, 0, 1, b"x" * 500),
        frame(wire.DATA, 1, 1), wire.rst_stream(3, 8), frame(wire.HEADERS, 0, 5, BLOCK),
        frame(wire.CONTINUATION, 4, 5), wire.window_update(0, 1), wire.window_update(1, 0x7FFFFFFF),
        frame(wire.SETTINGS, 0, 0, b"\0\4\0\0\0\0"), frame(wire.SETTINGS, 0, 0, b"\0\1\0\0\0\0"),
        wire.goaway(0, 0), frame(wire.HEADERS, 5, 1, b"\x00\x01x\x01y"),
    ]
)  # fmt: skip


@given(st.lists(frames_of_any_kind | plausible, max_size=30))
def test_any_frames_are_survived_by_the_server(octets: list[bytes]) -> None:
    raw = RawClient()
    for piece in octets:
        raw.say(piece)
        for exchange in raw.service.exchanges[-1:]:
            exchange.requester.on_response(ResponseHead(200, [], length=None))
            exchange.requester.on_data(b"answer")
            exchange.requester.on_resume()


@given(st.lists(frames_of_any_kind | plausible | st.just(frame(wire.HEADERS, 4, 1, b"\x88")), max_size=30))
def test_any_frames_are_survived_by_the_client(octets: list[bytes]) -> None:
    pair = Pair()
    asker, responder = pair.ask(RequestHead(b"POST", b"/", [], authority=b"svc", length=None))
    pair.client.receive(wire.settings({}))
    for piece in octets:
        pair.client.receive(piece)
        if asker.is_over:
            break
        responder.data(b"question")
        responder.resume()


class Conversation(RuleBasedStateMachine):
    """Many exchanges at once between our two ends, octets carried in pieces of any size, either way."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.open: list[tuple[Asker, Any, bytearray, int]] = []
        self.asked: dict[int, list[Any]] = {}
        self.count = 0

    def carried(self, line: Any, codec: Any, size: int) -> None:
        data = line.take()
        codec.receive(data[:size])
        line.out += data[size:]

    @rule(has_body=st.booleans())
    def ask(self, has_body: bool) -> None:
        if self.pair.client.room <= 0:
            return
        self.count += 1
        head = RequestHead(b"POST", b"/%d" % self.count, [], authority=b"svc", length=None if has_body else 0)
        asker, responder = self.pair.ask(head)
        self.asked[self.count] = [asker, responder, bytearray(), not has_body, bytearray(), False]

    @rule(number=st.integers(1, 20), data=st.binary(min_size=1, max_size=50), times=st.sampled_from([1, 1, 3000]))
    def question(self, number: int, data: bytes, times: int) -> None:
        entry = self.asked.get(number)
        if entry and not entry[3] and not entry[0].is_over:
            entry[2] += data * times
            entry[1].data(data * times)

    @rule(number=st.integers(1, 20))
    def end_question(self, number: int) -> None:
        entry = self.asked.get(number)
        if entry and not entry[3] and not entry[0].is_over:
            entry[3] = True
            entry[1].end()

    def exchange(self, number: int) -> Exchange | None:
        for exchange in self.pair.service.exchanges:
            if exchange.head.target == b"/%d" % number and exchange.cancelled is None:
                return exchange
        return None

    @rule(number=st.integers(1, 20), data=st.binary(min_size=1, max_size=50), times=st.sampled_from([1, 1, 3000]))
    def answer(self, number: int, data: bytes, times: int) -> None:
        exchange, entry = self.exchange(number), self.asked.get(number)
        if exchange and entry and not entry[5]:
            if not entry[4]:
                exchange.requester.on_response(ResponseHead(200, [], length=None))
            entry[4] += data * times
            exchange.requester.on_data(data * times)

    @rule(number=st.integers(1, 20))
    def end_answer(self, number: int) -> None:
        exchange, entry = self.exchange(number), self.asked.get(number)
        if exchange and entry and entry[4] and not entry[5]:
            entry[5] = True
            exchange.requester.on_end()

    @rule(number=st.integers(1, 20))
    def cancel(self, number: int) -> None:
        entry = self.asked.get(number)
        if entry and not entry[0].is_over:
            del self.asked[number]
            entry[1].cancel(Failure.CANCELLED)

    @rule(size=st.sampled_from([1, 9, 100, 20_000, 1 << 20]))
    def carry_out(self, size: int) -> None:
        self.carried(self.pair.client_line, self.pair.server, size)

    @rule(size=st.sampled_from([1, 9, 100, 20_000, 1 << 20]))
    def carry_in(self, size: int) -> None:
        self.carried(self.pair.server_line, self.pair.client, size)

    @precondition(lambda self: self.asked)
    @invariant()
    def what_arrives_is_what_was_sent(self) -> None:
        for number, entry in self.asked.items():
            asker = entry[0]
            assert entry[4].startswith(bytes(asker.body))
            assert asker.failure is None
            exchange = self.exchange(number)
            if exchange is not None:
                assert entry[2].startswith(bytes(exchange.body))

    def teardown(self) -> None:
        while carry(self.pair.client_line, self.pair.server) | carry(self.pair.server_line, self.pair.client):
            pass
        for number, entry in self.asked.items():
            exchange = self.exchange(number)
            if entry[5]:
                assert entry[0].body == entry[4]
                assert entry[0].trailers == ()
            elif exchange is not None:
                assert exchange.body == entry[2]


TestConversation = Conversation.TestCase
