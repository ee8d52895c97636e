"""Bodies: sections cut anywhere; messages whole or in pieces."""

import pytest

from tests.unit.adaptors.message_router import MessageRouter
from vanrouter.adaptors.http_exchange import Header, HeadLimits
from vanrouter.adaptors.http_message import encode_data, encode_footer
from vanrouter.adaptors.http_message_body import MAX_SECTION_BYTES, WHOLE_BYTES, BodyReader, OutgoingMessage
from vanrouter.core.stream import ACCEPTED, RELEASED, Producer, Sink
from vanrouter.engine.annotations import Annotations
from vanrouter.engine.messages import Message, encode_message
from vanrouter.errors import PeerError

LONG = b"\x00\x80" + (0x75).to_bytes(8, "big") + b"\xb0\x00\x00\x00\x02hi"
CHUNKS = b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"


def read(pieces: list[bytes], *, is_chunked: bool = False) -> tuple[bytes, list[Header]]:
    body = bytearray()

    def keep(data: bytes | memoryview) -> bool:
        body.extend(data)
        return True

    reader = BodyReader(keep, is_chunked=is_chunked, limits=HeadLimits())
    for piece in pieces:
        assert reader.feed(piece)
    reader.end()
    return bytes(body), list(reader.trailers)


@pytest.mark.parametrize(
    ("octets", "is_chunked", "expected"),
    [
        (b"", False, (b"", [])),
        (
            encode_data(b"one") + encode_data(b"") + encode_data(bytes(300)) + LONG,
            False,
            (b"one" + bytes(300) + b"hi", []),
        ),
        (encode_data(b"x") + encode_footer([(b"grpc-status", b"0")]), False, (b"x", [(b"grpc-status", b"0")])),
        (b"\x00\x53\x77\xa1\x05hello", False, (b"hello", [])),
        (b"\x00\x53\x77\xa0\x05hello", False, (b"hello", [])),
        (b"\x00\x53\x77\x40", False, (b"", [])),
        (encode_data(CHUNKS[:7]) + encode_data(CHUNKS[7:]), True, (b"hello", [(b"X-Sum", b"1")])),
    ],
)
def test_sections_cut_anywhere(octets: bytes, is_chunked: bool, expected: tuple[bytes, list[Header]]) -> None:
    assert read([octets], is_chunked=is_chunked) == expected
    assert read([octets[at : at + 1] for at in range(len(octets))], is_chunked=is_chunked) == expected
    for at in range(len(octets)):
        assert read([octets[:at], octets[at:]], is_chunked=is_chunked) == expected


@pytest.mark.parametrize(
    ("octets", "is_chunked"),
    [
        (b"\x00\x53\x76\x45", False),
        (b"\x00\x53\x75\xa1\x01x", False),
        (b"\x00\x53\x77\x54\x05", False),
        (b"garbage", False),
        (encode_data(b"x")[:-1], False),
        (b"\x00\x53", False),
        (encode_data(b"zz\r\n"), True),
        (encode_data(CHUNKS[:-1]), True),
        (encode_data(CHUNKS + b"x"), True),
        (encode_data(CHUNKS) + encode_data(b"x"), True),
    ],
)
def test_what_is_no_body(octets: bytes, is_chunked: bool) -> None:
    with pytest.raises(PeerError):
        read([octets], is_chunked=is_chunked)


class Consumer:
    """A taker of messages that may ask for silence."""

    takes_early = True

    def __init__(self) -> None:
        self.content = b""
        self.ended = ""
        self.is_open = True
        self.producer: Producer | None = None

    def on_delivery(self, annotations: Annotations, producer: Producer) -> Sink:
        self.producer = producer
        return self

    def push(self, data: memoryview | bytes) -> bool:
        self.content += bytes(data)
        return self.is_open

    def finish(self, settled: bool = False) -> None:
        self.ended = "finish"

    def abort(self) -> None:
        self.ended = "abort"


class Sender:
    def __init__(self) -> None:
        self.states: list[int] = []
        self.sendable = 0

    def on_sent(self, state: int) -> None:
        self.states.append(state)

    def on_sendable(self) -> None:
        self.sendable += 1


class Stage:
    def __init__(self, *, is_http2: bool = True, is_chunked: bool = False) -> None:
        self.router, self.consumer, self.sender = MessageRouter(), Consumer(), Sender()
        self.router.subscribe_deliveries("svc", self.consumer)
        self.message = OutgoingMessage(
            self.router,
            "svc",
            b"HEAD",
            self.sender,
            is_http2=is_http2,
            is_chunked=is_chunked,  # type: ignore[arg-type]
        )


def test_a_small_message_goes_out_whole() -> None:
    stage = Stage()
    stage.message.begin()
    assert stage.message.data(b"body")
    stage.message.end([(b"x", b"y")])
    stage.router.reactor.run()
    assert stage.router.opened == 0
    assert stage.consumer.content == b"HEAD" + encode_data(b"body") + encode_footer([(b"x", b"y")])
    assert stage.consumer.producer is not None
    stage.consumer.producer.outcome(ACCEPTED, True)
    assert stage.sender.states == [ACCEPTED]


def test_no_body_over_http2_is_an_empty_section_and_over_http1_nothing() -> None:
    for is_http2, expected in ((True, b"HEAD" + encode_data(b"")), (False, b"HEAD")):
        stage = Stage(is_http2=is_http2)
        stage.message.end()
        stage.router.reactor.run()
        assert stage.consumer.content == expected


def test_a_head_does_not_wait_for_its_body() -> None:
    stage = Stage()
    stage.message.begin()
    stage.router.reactor.run()
    assert (stage.consumer.content, stage.consumer.ended) == (b"HEAD", "")
    stage.message.data(bytes(MAX_SECTION_BYTES + 1))
    assert stage.consumer.content[4:] == encode_data(bytes(MAX_SECTION_BYTES)) + encode_data(b"\0")
    stage.consumer.is_open = False
    assert not stage.message.data(b"x")
    assert stage.consumer.producer is not None
    stage.consumer.producer.writable()
    assert stage.sender.sendable == 1
    stage.message.end()
    assert stage.consumer.ended == "finish"


def test_a_large_body_does_not_wait_for_the_end_of_the_turn() -> None:
    stage = Stage(is_http2=False)
    stage.message.begin()
    for _ in range(8):
        stage.message.data(bytes(MAX_SECTION_BYTES))
    assert len(stage.consumer.content) > WHOLE_BYTES
    stage.message.end()
    stage.router.reactor.run()
    assert stage.consumer.ended == "finish"
    assert stage.consumer.content == b"HEAD" + encode_data(bytes(MAX_SECTION_BYTES)) * 8


def test_chunks_keep_their_framing() -> None:
    stage = Stage(is_http2=False, is_chunked=True)
    stage.message.begin()
    stage.message.data(b"hello")
    stage.message.end([(b"X-Sum", b"1")])
    stage.router.reactor.run()
    assert read([stage.consumer.content[4:]], is_chunked=True) == (b"hello", [(b"X-Sum", b"1")])


def test_a_message_broken_off() -> None:
    stage = Stage()
    stage.message.begin()
    stage.router.reactor.run()
    stage.message.abort()
    stage.message.data(b"late")
    stage.message.end()
    assert (stage.consumer.content, stage.consumer.ended) == (b"HEAD", "abort")
    stage = Stage()
    stage.message.begin()
    stage.message.abort()
    stage.router.reactor.run()
    assert stage.consumer.content == b""


def test_an_outcome_in_the_middle_breaks_off() -> None:
    stage = Stage()
    stage.message.begin()
    stage.router.reactor.run()
    assert stage.consumer.producer is not None
    stage.consumer.producer.outcome(ACCEPTED, True)
    assert (stage.consumer.ended, stage.sender.states) == ("abort", [ACCEPTED])


def test_nobody_there() -> None:
    stage = Stage()
    stage.router.consumers.clear()
    stage.message.end()
    stage.router.reactor.run()
    assert stage.sender.states == [RELEASED]
    assert encode_message(Message(body=b"", is_data=True)) == encode_data(b"")


@pytest.mark.parametrize(("length", "error"), [(5, None), (4, "more octets"), (6, "fewer octets"), (0, "more octets")])
def test_a_body_of_known_length(length: int, error: str | None) -> None:
    body = bytearray()
    reader = BodyReader(lambda data: body.extend(data) is None, is_chunked=False, limits=HeadLimits(), length=length)

    def read_all() -> None:
        for section in (encode_data(b"hel"), encode_data(b"lo")):
            reader.feed(section)
        reader.end()

    if error is None:
        read_all()
        assert body == b"hello"
    else:
        with pytest.raises(PeerError, match=error):
            read_all()
        assert len(body) <= max(length, 5)
