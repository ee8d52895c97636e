"""The message form: what an AMQP peer sends is a request, an answer or an error, however it is cut; heads survive."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.adaptors.message_router import Awaited
from tests.unit.adaptors.test_http_message_connector import Client
from tests.unit.adaptors.test_http_message_listener import Application, Site, get, plain
from vanrouter.adaptors.http_exchange import Failure, HeadLimits, RequestHead
from vanrouter.adaptors.http_message import Fields, decode_request, encode_data, encode_footer, encode_request
from vanrouter.adaptors.http_message_body import BodyReader
from vanrouter.engine.annotations import originated
from vanrouter.engine.messages import Message, encode_message, parse_head
from vanrouter.engine.sections import NEED_MORE, ULong
from vanrouter.errors import PeerError

names = st.text("abcdefXYZ-0123456789", min_size=1, max_size=12).map(lambda text: b"X-" + text.encode())
values = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), max_size=40).map(
    lambda text: text.strip().replace("\x85", "").replace("\x7f", "").encode()
)
headers = st.lists(st.tuples(names, values), max_size=10)


@given(headers, st.booleans(), st.none() | st.integers(0, 1 << 40))
def test_heads_survive(extra: list[tuple[bytes, bytes]], is_http2: bool, length: int | None) -> None:
    more = [] if length is None else [(b"Content-Length", b"%d" % length)]
    head = RequestHead(b"POST", b"/p?q", [*extra, *more], authority=b"svc", length=length)
    octets = encode_request(
        head, is_http2=is_http2, message_id=1, to="svc", reply_to="temp", site_id="site", flow_id="a:1"
    )
    parsed = parse_head(octets, 0, len(octets), is_complete=True)
    assert parsed is not NEED_MORE
    again = decode_request(parsed, Fields(parsed.application_pairs()), is_http2=is_http2, scheme=b"http")
    expected = [*extra, *more]
    if is_http2:
        expected = [(name.lower(), value) for name, value in expected]
    assert again.headers == expected
    assert (again.method, again.target, again.authority, again.length) == (b"POST", b"/p?q", b"svc", length)


sections = st.lists(
    st.binary(max_size=300).map(encode_data) | st.just(encode_footer([(b"x", b"y")])) | st.binary(max_size=20),
    max_size=6,
)


@given(sections, st.integers(1, 50), st.booleans())
def test_bodies_are_the_same_however_they_are_cut(parts: list[bytes], size: int, is_chunked: bool) -> None:
    octets = b"".join(parts)

    def read(pieces: list[bytes]) -> tuple[bytes, object]:
        body = bytearray()
        reader = BodyReader(lambda data: body.extend(data) is None, is_chunked=is_chunked, limits=HeadLimits())
        try:
            for piece in pieces:
                reader.feed(piece)
            reader.end()
        except PeerError:
            return b"", "error"
        return bytes(body), list(reader.trailers)

    assert read([octets]) == read([octets[at : at + size] for at in range(0, len(octets), size)])


REQUEST = encode_message(
    Message(
        message_id=ULong(1), subject="POST", reply_to="reply", body=b"question", is_data=True,
        application_properties={":path": "/", "Content-Length": "8", "X": "y"},
    )
)  # fmt: skip


@given(st.integers(0, len(REQUEST) - 1), st.integers(1, 255), st.integers(1, 40), st.sampled_from(["HTTP1", "HTTP2"]))
def test_a_wrong_octet_in_a_request_is_survived(at: int, change: int, size: int, protocol: str) -> None:
    octets = bytearray(REQUEST)
    octets[at] ^= change
    client = Client(protocol=protocol)
    sink = client.requests.on_delivery(originated(1), Awaited(client))
    for begin in range(0, len(octets), size):
        sink.push(bytes(octets[begin : begin + size]))
    sink.finish()
    client.run()
    for exchange in client.connector.service.exchanges:
        if exchange.cancelled is None:
            exchange.answer(200, b"answer")
    client.run()
    assert len([word for word in client.said if word != "answered"]) <= 1


ANSWER = plain(ULong(1), application_properties={":version": "1.1", "Content-Length": "2", "X": "y"})


@given(st.integers(0, len(ANSWER) - 1), st.integers(1, 255), st.integers(1, 40), st.sampled_from(["HTTP1", "HTTP2"]))
def test_a_wrong_octet_in_an_answer_is_survived(at: int, change: int, size: int, protocol: str) -> None:
    octets = bytearray(ANSWER)
    octets[at] ^= change
    site = Site(protocol)
    application = Application(site.router)
    asker, exchange = site.ask(get())
    site.run()
    sink = site.router.open_message(application.reply_to, bytes(octets[:size]), 1, application)  # type: ignore[arg-type]
    for begin in range(size, len(octets), size):
        sink.push(bytes(octets[begin : begin + size]))
    sink.finish()
    site.run()
    if not asker.is_over:  # the answer was for nobody: the client still waits
        exchange.cancel(Failure.CANCELLED)
