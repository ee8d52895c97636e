"""HTTP/2, recognised without being touched. Both ends are h2's."""

from __future__ import annotations

import contextlib

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.adaptors.observed import Seen, cut, feed
from vanrouter.adaptors.http2_frames import CONTINUATION, HEADERS, PREFACE, PUSH_PROMISE, frame_header
from vanrouter.adaptors.observer_exchange import MAX_OPEN, UnobservableError
from vanrouter.adaptors.observer_http2 import BURST_UNITS, UNITS_PER_S, Budget, Http2Observer
from vanrouter.errors import PeerError

ASKED = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "x"),
    (":path", "/p"),
    ("x-forwarded-for", "1.2.3.4, 5"),
]


class Conversation:
    """A client and a server that speak to each other; what passes is kept."""

    def __init__(self) -> None:
        self.client = H2Connection(H2Configuration(client_side=True))
        self.server = H2Connection(H2Configuration(client_side=False))
        self.pieces: list[tuple[str, bytes]] = []
        self.client.initiate_connection()
        self.server.initiate_connection()
        self.exchange()

    def exchange(self) -> None:
        """Carry what waits to the other end, until nothing does."""
        while True:
            asked, answered = self.client.data_to_send(), self.server.data_to_send()
            if not asked and not answered:
                return
            if asked:
                self.pieces.append(("c", asked))
                self.server.receive_data(asked)
            if answered:
                self.pieces.append(("s", answered))
                self.client.receive_data(answered)

    def request(
        self, body: bytes, answer: bytes, status: str = "200", path: str = "/p", padding: int | None = None
    ) -> None:
        """Ask and be answered."""
        stream = self.client.get_next_available_stream_id()
        fields = [field if field[0] != ":path" else (":path", path) for field in ASKED]
        self.client.send_headers(stream, fields, end_stream=not body)
        if body:
            self.client.send_data(stream, body, end_stream=True, pad_length=padding)
        self.exchange()
        self.server.send_headers(stream, [(":status", status)], end_stream=not answer)
        if answer:
            self.server.send_data(stream, answer, pad_length=padding)
            self.server.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        self.exchange()


def observed(conversation: Conversation, sizes: list[int]) -> Seen:
    seen = Seen()
    feed(Http2Observer(seen, Budget()), cut(conversation.pieces, sizes))
    return seen


@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4))
def test_conversations_however_they_are_cut(sizes: list[int]) -> None:
    conversation = Conversation()
    conversation.request(b"question", b"answer", padding=7)
    for _ in range(3):
        conversation.request(b"", b"x" * 1000)
    conversation.request(b"", b"", "404", "/nothing")
    for cuts in ([1 << 20], sizes):
        seen = observed(conversation, cuts)
        assert seen.rows() == [
            ("POST", "/p", "200", 8, 6), *[("POST", "/p", "200", 0, 1000)] * 3, ("POST", "/nothing", "404", 0, 0),
        ]  # fmt: skip
        assert not seen.open
    assert [exchange.stream_id for exchange in seen.exchanges] == [1, 3, 5, 7, 9]
    assert {exchange.forwarded_for for exchange in seen.exchanges} == {"1.2.3.4"}
    assert {exchange.protocol for exchange in seen.exchanges} == {"HTTP/2"}


def test_streams_side_by_side_and_a_reset() -> None:
    conversation = Conversation()
    for stream in (1, 3):
        conversation.client.send_headers(stream, ASKED)
    conversation.exchange()
    conversation.server.send_headers(3, [(":status", "103")])
    conversation.server.send_headers(3, [(":status", "200")], end_stream=True)
    conversation.client.reset_stream(1)
    conversation.exchange()
    seen = observed(conversation, [1 << 20])
    assert sorted((exchange.stream_id or 0, exchange.result) for exchange in seen.exchanges) == [(1, ""), (3, "200")]


def test_tables_as_large_as_was_agreed_on() -> None:
    conversation = Conversation()
    for end in (conversation.client, conversation.server):
        end.update_settings({SettingCodes.HEADER_TABLE_SIZE: 32768})
    conversation.exchange()
    for number in range(50):
        conversation.request(b"", b"x", path=f"/{number:0500d}")
    assert len(observed(conversation, [1 << 20]).exchanges) == 50


def test_a_long_header_block_and_a_push() -> None:
    conversation = Conversation()
    conversation.client.send_headers(1, [*ASKED, ("cookie", "y" * 40_000)])
    conversation.exchange()
    conversation.server.push_stream(1, 2, [*ASKED[:3], (":path", "/pushed")])
    conversation.server.send_headers(2, [(":status", "200")], end_stream=True)
    conversation.server.send_headers(1, [(":status", "200")], end_stream=True)
    conversation.exchange()
    assert observed(conversation, [1000]).rows() == [("POST", "/p", "200", 0, 0)]


def test_what_is_open_ends_with_the_connection() -> None:
    conversation = Conversation()
    conversation.client.send_headers(1, ASKED)
    conversation.exchange()
    seen = Seen()
    observer = Http2Observer(seen, Budget())
    feed(observer, conversation.pieces)
    observer.close(9.0)
    observer.close(9.0)
    assert [exchange.result for exchange in seen.exchanges] == [""]


HOSTILE = {
    "a frame too long": frame_header(70_000, HEADERS, 4, 1),
    "padding longer than the frame": frame_header(2, HEADERS, 4 | 8, 1) + b"\x09x",
    "no promised stream": frame_header(2, PUSH_PROMISE, 4, 1) + b"xx",
    "an end without a begin": frame_header(0, CONTINUATION, 4, 1),
    "a block that breaks off": frame_header(1, HEADERS, 0, 1) + b"\x82" + frame_header(1, HEADERS, 4, 3) + b"\x82",
    "a block without end": frame_header(1, HEADERS, 0, 1) + b"\x82"
    + (frame_header(16_000, CONTINUATION, 0, 1) + b"\x82" * 16_000) * 5,
    "an index that is none": frame_header(1, HEADERS, 4, 1) + b"\xff",
}  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_is_not_followed(data: bytes) -> None:
    with pytest.raises(PeerError):
        Http2Observer(Seen(), Budget()).from_client(PREFACE + data, 1.0)


def test_too_many_streams_are_not_followed() -> None:
    request = b"\x82\x86\x84"  # GET http /
    frames = b"".join(
        frame_header(len(request), HEADERS, 5, 2 * number + 1) + request for number in range(MAX_OPEN + 1)
    )
    budget = Budget()
    seen = Seen()
    with pytest.raises(UnobservableError):
        Http2Observer(seen, budget).from_client(PREFACE + frames, 1.0)
    assert len(seen.open) == MAX_OPEN


def test_a_budget_is_shared_and_comes_back() -> None:
    budget = Budget()
    assert budget.admits(100.0)
    pings = frame_header(8, 6, 0, 0) + bytes(8)
    busy, quiet = Http2Observer(Seen(), budget), Http2Observer(Seen(), budget)
    quiet.from_client(PREFACE, 100.0)
    with pytest.raises(UnobservableError):
        busy.from_client(PREFACE + pings * (BURST_UNITS + 10), 100.0)
    assert not budget.admits(100.0)
    with pytest.raises(UnobservableError):
        quiet.from_client(pings, 100.0)
    assert budget.admits(100.0 + BURST_UNITS / UNITS_PER_S)
    assert budget.left_out == 3


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40))))
def test_garbage_only_ends_the_observing(frames: list[tuple[int, int, int, bytes]]) -> None:
    data = b"".join(frame_header(len(body), kind, flags, stream) + body for kind, flags, stream, body in frames)
    seen = Seen()
    observer = Http2Observer(seen, Budget())
    with contextlib.suppress(PeerError):
        observer.from_client(PREFACE + data, 1.0)
        observer.from_server(data, 1.0)
    observer.close(1.0)
    assert not seen.open
