import pytest

from vanrouter.adaptors.http1_chunks import ChunkedBody
from vanrouter.adaptors.http1_head import MessageError
from vanrouter.adaptors.http_exchange import HeadLimits

WHOLE = b"5\r\nhello\r\n6;a=b\r\n wor\r\n\r\n0\r\nX-T: 1\r\nHost: 7\r\n\r\n"
"""With what looks like an end in a chunk, an extension, a trailer and one that may be none."""


def fed(*pieces: bytes, limits: HeadLimits | None = None) -> tuple[bytes, ChunkedBody, bytes]:
    body = bytearray()
    chunks = ChunkedBody(body.extend, limits or HeadLimits())
    for index, piece in enumerate(pieces):
        taken = chunks.feed(piece)
        if chunks.is_complete:
            return bytes(body), chunks, b"".join((piece[taken:], *pieces[index + 1 :]))
        assert taken == len(piece)
    return bytes(body), chunks, b""


@pytest.mark.parametrize("at", range(1, len(WHOLE) + 3))
def test_split_anywhere(at: int) -> None:
    octets = WHOLE + b"GET"
    body, chunks, rest = fed(octets[:at], octets[at:])
    assert chunks.is_complete
    assert body == b"hello wor\r\n"
    assert chunks.trailers == [(b"X-T", b"1")]
    assert rest == b"GET"


def test_octet_by_octet() -> None:
    body, chunks, rest = fed(*[WHOLE[at : at + 1] for at in range(len(WHOLE))])
    assert (body, chunks.is_complete, rest) == (b"hello wor\r\n", True, b"")


def test_octets_of_one_read_are_delivered_together() -> None:
    deliveries: list[bytes] = []
    ChunkedBody(deliveries.append, HeadLimits()).feed(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n")
    assert deliveries == [b"abc"]


@pytest.mark.parametrize(
    "octets",
    [
        b"x\r\n", b"+5\r\nhello\r\n", b"-1\r\n", b"0x5\r\nhello\r\n", b"5 \r\nhello\r\n", b" 5\r\nhello\r\n",
        b"5\nhello\r\n", b"5\r\nhello\n", b"5\r\nhello0\r\n\r\n", b"ffffffffffffffffff\r\n", b"\r\n", b"5\r\r\nhello",
        b"0\r\nA: b\nC: d\r\n\r\n", b"0\r\nA : b\r\n\r\n", b"0\r\n\nGET", b"5;a\nb\r\nhello\r\n",
        b"0\r\nA: b\r\n c\r\n\r\n",
    ],
)  # fmt: skip
def test_refused(octets: bytes) -> None:
    with pytest.raises(MessageError) as refused:
        fed(octets, b"\r\n\r\n")
    assert refused.value.status == 400


def test_trailers_are_limited() -> None:
    with pytest.raises(MessageError) as refused:
        fed(b"0\r\n", b"A: b\r\n" * 11 + b"\r\n", limits=HeadLimits(65536, 10))
    assert refused.value.status == 431
    with pytest.raises(MessageError) as refused:
        fed(b"0\r\nA: ", *[b"b" * 600] * 2, limits=HeadLimits(1024, 10))
    assert refused.value.status == 431
