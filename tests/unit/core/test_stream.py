import pytest

from vanrouter.core.stream import NOWHERE, StreamHead, parse_stream_head
from vanrouter.engine.annotations import NO_ANNOTATIONS, Annotations
from vanrouter.engine.messages import APPLICATION_PROPERTIES, PROPERTIES, VALUE, encode_stream_head
from vanrouter.engine.sections import NEED_MORE, Described, Symbol, UInt, ULong, encode
from vanrouter.errors import PeerError


def section(code: int, value: object) -> bytes:
    return encode(Described(ULong(code), value))


def parsed(octets: bytes, annotations: Annotations = NO_ANNOTATIONS) -> tuple[StreamHead, int]:
    found = parse_stream_head(octets, 0, len(octets), annotations)
    assert found is not NEED_MORE
    return found


def test_what_a_vanrouter_writes() -> None:
    octets = encode_stream_head("svc", "reply", "id:1", "h2")
    head, offset = parsed(octets + b"early", Annotations(7, None, "0/A", ("0/A",)))
    assert head == StreamHead(
        to="svc", reply_to="reply", correlation_id="id:1", content_type="application/octet-stream", version=1,
        alpn="h2", is_vanrouter=True, flags=7, ingress="0/A", trace=("0/A",),
    )  # fmt: skip
    assert offset == len(octets)
    for end in range(len(octets)):
        assert parse_stream_head(octets, 0, end, NO_ANNOTATIONS) is NEED_MORE


@pytest.mark.parametrize("odd_alpn", [5, "", "x" * 256, "h\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_what_routers_tolerate(odd_alpn: object) -> None:
    """TCP over AMQP, section 5.2; RFC 7301 for what a name of a protocol can be."""
    properties = section(PROPERTIES, [None, None, "svc", None, "reply", 17, Symbol("application/octet-stream")])
    head, offset = parsed(properties + b"\x00\x53\x75\xa0\x00early")
    assert (head.version, head.correlation_id, head.is_vanrouter) == (None, None, False)
    assert offset == len(properties) + 5
    odd = section(APPLICATION_PROPERTIES, {"V": "1", "alpn": odd_alpn, "other": True})
    head, _ = parsed(properties + odd + b"\x00\x53\x77\x40")
    assert (head.version, head.alpn) == (None, None)


def test_an_override_is_the_destination() -> None:
    assert parsed(encode_stream_head("svc", None, None), Annotations(5, "other"))[0].to == "other"


def test_another_encapsulation_is_known_by_its_head() -> None:
    """TCP over AMQP, section 2: legacy has no content type and data sections."""
    properties = section(PROPERTIES, [None, None, "svc", "127.0.0.1:5"]) + section(
        APPLICATION_PROPERTIES, {Symbol(":flowid"): "x", "V": UInt(2)}
    )
    head, offset = parsed(properties + b"\x00\x53\x75\xa0\x01x")
    assert (head.content_type, head.version, offset) == (None, 2, len(properties))


@pytest.mark.parametrize("body", [section(VALUE, "text"), b"no section at all"])
def test_a_stream_without_its_marker_is_refused(body: bytes) -> None:
    octets = section(PROPERTIES, [None, None, "svc", None, None, None, "application/octet-stream"]) + body
    with pytest.raises(PeerError):
        parse_stream_head(octets, 0, len(octets), NO_ANNOTATIONS)


@pytest.mark.parametrize("alpn", [None, "h2"])
@pytest.mark.parametrize("http", [None, "1"])
@pytest.mark.parametrize(
    "texts", [("svc", "r", "x:1"), ("svc", None, None), ("", "r" * 250, None), ("s" * 300, "r", None)]
)
def test_the_quick_way_and_the_long_one_agree(
    alpn: str | None, http: str | None, texts: tuple[str, str | None, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    octets = encode_stream_head(*texts, alpn, http=http) + b"early"
    quick = [parse_stream_head(octets, 0, end, NO_ANNOTATIONS) for end in range(len(octets) + 1)]
    monkeypatch.setattr("vanrouter.core.stream.scan_stream_head", lambda *_: None)
    assert quick == [parse_stream_head(octets, 0, end, NO_ANNOTATIONS) for end in range(len(octets) + 1)]
    assert quick[-1] is not NEED_MORE


@pytest.mark.parametrize("at", range(60))
def test_the_quick_way_leaves_what_is_odd_to_the_long_one(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    octets = bytearray(encode_stream_head("svc", "r", "x:1", http="1") + b"early")

    def outcome() -> object:
        try:
            return parse_stream_head(octets, 0, len(octets), NO_ANNOTATIONS)
        except PeerError as error:
            return error.condition

    quick = []
    for value in (0, 0x40, 0x53, 0xA1, 0xA3, 0xFF):
        octets[at], kept = value, octets[at]
        quick.append(outcome())
        octets[at] = kept
    monkeypatch.setattr("vanrouter.core.stream.scan_stream_head", lambda *_: None)
    for value, found in zip((0, 0x40, 0x53, 0xA1, 0xA3, 0xFF), quick, strict=True):
        octets[at], kept = value, octets[at]
        assert outcome() == found, value
        octets[at] = kept


def test_nowhere_takes_everything() -> None:
    assert NOWHERE.takes_early
    assert NOWHERE.push(b"octets")
    NOWHERE.finish()
    NOWHERE.abort()
