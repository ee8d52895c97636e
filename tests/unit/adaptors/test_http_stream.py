import pytest

from tests.unit.adaptors.http_fakes import FakeTransport
from tests.unit.adaptors.http_site import GET, OK, Client, FakeProducer, HttpSite, Server
from tests.unit.adaptors.streams import Loop
from vanrouter.adaptors.http_exchange import Failure
from vanrouter.adaptors.http_shared import Shared
from vanrouter.adaptors.http_stream import (
    MAX_HELD_BYTES,
    MAX_KEPT_BYTES,
    REPORT_BYTES,
    WINDOW_BYTES,
    AnswerStream,
    RequestStream,
)
from vanrouter.core.stream import (
    ACCEPTED,
    MODIFIED,
    NOWHERE,
    REJECTED,
    RELEASED,
    Producer,
    Sink,
    StreamHead,
)
from vanrouter.engine.messages import STREAM_CONTENT_TYPE, encode_stream_head


class FakeSink:
    def __init__(self, *, takes_early: bool) -> None:
        self.takes_early = takes_early
        self.octets = bytearray()
        self.takes = True
        self.calls: list[str] = []

    def push(self, data: memoryview | bytes) -> bool:
        assert not self.calls
        self.octets += data
        return self.takes

    def finish(self, settled: bool = False) -> None:
        self.calls.append("finish")

    def abort(self) -> None:
        self.calls.append("abort")


class FakeCodec:
    def __init__(self) -> None:
        self.octets = bytearray()
        self.calls: list[str] = []

    def receive(self, data: bytes | memoryview) -> None:
        self.octets += data

    def receive_end(self) -> None:
        self.calls.append("end")

    def on_lost(self, is_refused: bool) -> None:
        self.calls.append("refused" if is_refused else "lost")

    def on_writable(self) -> None:
        self.calls.append("writable")


class End:
    """One end of an exchange; the router is the test."""

    def __init__(self, loop: Loop, *, takes_early: bool = True) -> None:
        self.loop = loop
        self.shared = Shared(loop.router)
        self.codec = FakeCodec()
        self.sink = FakeSink(takes_early=takes_early)
        self.heads: list[bytes] = []
        self.producer = FakeProducer()
        loop.router.open_stream = self.opened  # type: ignore[method-assign]

    def opened(self, to: str, head: bytes, flags: int, producer: Producer) -> Sink:
        self.heads.append(head)
        return self.sink


HEAD = StreamHead(to="r", content_type=STREAM_CONTENT_TYPE, version=1, is_vanrouter=True)


class Requesting(End):
    def __init__(self, loop: Loop, *, takes_early: bool = True) -> None:
        super().__init__(loop, takes_early=takes_early)
        self.stream = RequestStream(self.shared, self.shared.replies)
        self.stream.codec = self.codec
        self.stream.open("svc", "1", "abcde:1")

    def answered(self) -> Sink:
        return self.stream.on_stream(HEAD, self.producer)


def test_a_request_and_its_answer(loop: Loop) -> None:
    end = Requesting(loop)
    assert b"vr.http" in end.heads[0]
    assert end.stream.write(b"ask")
    assert end.sink.octets == b"ask"
    arrivals = end.answered()
    assert arrivals.push(b"answer")
    assert end.codec.octets == b"answer"
    end.stream.close()
    assert end.sink.calls == ["finish"]
    assert end.producer.outcomes == [ACCEPTED]
    arrivals.finish(False)
    end.stream.outcome(ACCEPTED, True)
    assert not end.codec.calls
    assert len(loop.router.subscriptions) == 1  # the reply address waits for the next request


def test_octets_wait_where_the_consumer_may_not_take_them_early(loop: Loop) -> None:
    end = Requesting(loop, takes_early=False)
    end.stream.write(b"as")
    end.stream.write(b"k")
    end.stream.finish()
    assert not end.sink.octets
    end.answered()
    assert end.sink.octets == b"ask"
    assert end.sink.calls == ["finish"]
    assert end.stream.write(b"late")


def test_refusals(loop: Loop) -> None:
    for state, takes_early, writes, told in (
        (RELEASED, True, True, "refused"),
        (MODIFIED, True, True, "lost"),
        (MODIFIED, True, False, "refused"),
        (MODIFIED, False, True, "refused"),
    ):
        end = Requesting(loop, takes_early=takes_early)
        if writes:
            end.stream.write(b"ask")
        end.stream.outcome(state, True)
        assert end.codec.calls == [told]
        assert end.sink.calls == ["finish"]
        assert not loop.router.subscriptions


def test_an_answer_that_breaks_off(loop: Loop) -> None:
    end = Requesting(loop)
    arrivals = end.answered()
    arrivals.push(b"ans")
    end.stream.outcome(MODIFIED, False)
    assert not end.codec.calls  # the answer tells how it ended
    arrivals.abort()
    assert end.codec.calls == ["lost"]
    assert not loop.router.subscriptions


def test_streams_that_are_no_answer(loop: Loop) -> None:
    end = Requesting(loop)
    wrong = StreamHead(to="r", content_type="text/plain")
    assert end.stream.on_stream(wrong, end.producer) is NOWHERE
    assert end.producer.outcomes == [REJECTED]
    assert end.codec.calls == ["lost"]
    end = Requesting(loop)
    end.answered()
    second = FakeProducer()
    assert end.stream.on_stream(HEAD, second) is NOWHERE
    assert second.outcomes == [RELEASED]


def test_the_answer_to_another_request_is_not_taken(loop: Loop) -> None:
    end = Requesting(loop)
    other = StreamHead(to="r", content_type=STREAM_CONTENT_TYPE, version=1, correlation_id="abcde:0")
    assert end.stream.on_stream(other, end.producer) is NOWHERE
    assert end.producer.outcomes == [RELEASED]
    assert not end.codec.calls
    own = StreamHead(to="r", content_type=STREAM_CONTENT_TYPE, version=1, correlation_id="abcde:1")
    assert end.stream.on_stream(own, FakeProducer()) is not NOWHERE


def test_the_client_goes(loop: Loop) -> None:
    end = Requesting(loop)
    end.stream.write(b"ask")
    end.answered()
    end.stream.abort()
    assert end.sink.calls == ["abort"]
    assert end.producer.outcomes == [MODIFIED]
    end.stream.outcome(RELEASED, True)
    assert not end.codec.calls


def test_the_window_is_kept(loop: Loop) -> None:
    end = Requesting(loop)
    end.answered()
    assert end.stream.write(bytes(WINDOW_BYTES - 1))
    assert not end.stream.write(b"x")
    end.stream.received(WINDOW_BYTES // 4)
    assert not end.codec.calls
    end.stream.received(WINDOW_BYTES // 2 + 1)
    assert end.codec.calls == ["writable"]
    end.sink.takes = False
    assert not end.stream.write(b"x")
    end.stream.writable()
    assert end.codec.calls == ["writable", "writable"]


def test_octets_are_reported_when_they_are_handed_on(loop: Loop) -> None:
    end = Requesting(loop)
    arrivals = end.answered()
    arrivals.push(bytes(REPORT_BYTES))
    assert end.producer.reports == [REPORT_BYTES]
    end.stream.pause()
    assert not arrivals.push(bytes(REPORT_BYTES))
    arrivals.push(b"end")
    arrivals.finish(False)
    assert len(end.codec.octets) == REPORT_BYTES
    assert len(end.producer.reports) == 1
    loop.call(end.stream.resume)
    loop.call(lambda: None)
    assert end.codec.octets == bytes(2 * REPORT_BYTES) + b"end"
    assert end.codec.calls == ["end"]
    assert end.producer.outcomes == [ACCEPTED]


def test_a_producer_that_ignores_the_window(loop: Loop) -> None:
    end = Requesting(loop)
    arrivals = end.answered()
    end.stream.pause()
    for _ in range(MAX_KEPT_BYTES // 65536 + 1):
        arrivals.push(bytes(65536))
    assert end.codec.calls == ["lost"]
    assert end.shared.overrun == 1
    assert end.producer.outcomes == [MODIFIED]


def test_nothing_overtakes_what_was_kept(loop: Loop) -> None:
    """A socket takes octets again and others come for it in one turn."""
    end = Requesting(loop)
    arrivals = end.answered()

    def resumed() -> None:
        end.stream.pause()
        assert not arrivals.push(b"1")
        end.stream.resume()
        assert not arrivals.push(b"2")
        end.stream.pause()
        end.stream.resume()
        assert not arrivals.push(b"3")
        arrivals.finish()
        assert not end.codec.octets

    loop.call(resumed)
    loop.wait_for(lambda: "end" in end.codec.calls)
    assert end.codec.octets == b"123"


class Answering(End):
    """A connector's end; `asked`: octets came with the header."""

    def __init__(self, loop: Loop, asked: bytes = b"") -> None:
        super().__init__(loop)
        self.stream = AnswerStream(self.shared, "reply", "abcde:1", is_single=True)
        self.stream.codec = self.codec
        self.arrivals = loop.call(lambda: self._accepted(asked))

    def _accepted(self, asked: bytes) -> Sink:
        arrivals = self.stream.accept(self.producer)
        if asked:
            arrivals.push(asked)
        return arrivals


def test_the_answer_begins_with_its_first_octet(loop: Loop) -> None:
    end = End(loop)
    stream = AnswerStream(end.shared, "reply", "abcde:1", is_single=True)
    stream.codec = end.codec

    def offered() -> Sink:
        sink = stream.accept(end.producer)
        sink.push(b"ask")
        return sink

    sink = loop.call(offered)
    loop.call(lambda: None)
    assert not end.heads
    loop.call(lambda: stream.write(b"an"))
    loop.call(lambda: stream.write(b"swer"))
    assert len(end.heads) == 1
    assert b"abcde:1" in end.heads[0]
    assert end.sink.octets == b"answer"
    stream.close()
    assert end.sink.calls == ["finish"]
    assert not end.producer.outcomes
    sink.push(b"late")
    stream.outcome(ACCEPTED, True)
    sink.finish(True)
    assert end.producer.outcomes == [ACCEPTED]


class WholeAnswers:
    """Takes streams that are whole, as long as it has room."""

    def __init__(self, end: End) -> None:
        self.has_room = True
        self.sent: list[tuple[str, bytes]] = []
        end.loop.router.send_stream = self.send  # type: ignore[method-assign]

    def send(self, to: str, octets: bytes, flags: int, producer: Producer) -> bool:
        if self.has_room:
            self.sent.append((to, octets))
        return self.has_room


@pytest.mark.parametrize("has_room", [True, False])
def test_an_answer_that_is_complete_in_its_turn_is_sent_whole(loop: Loop, *, has_room: bool) -> None:
    end = Answering(loop, b"ask")
    router = WholeAnswers(end)
    router.has_room = has_room
    head = encode_stream_head("reply", None, "abcde:1")

    def answered() -> None:
        end.stream.write(b"head")
        end.stream.write(memoryview(b"body"))
        end.stream.close()

    loop.call(answered)
    loop.call(lambda: None)
    if has_room:
        assert router.sent == [("reply", head + b"headbody")]
        assert not end.heads
    else:
        assert end.heads == [head]
        assert end.sink.octets == b"headbody"
        assert end.sink.calls == ["finish"]
    assert not end.producer.outcomes
    end.stream.outcome(ACCEPTED, True)
    end.arrivals.finish(True)
    assert end.producer.outcomes == [ACCEPTED]


@pytest.mark.parametrize("is_whole", [True, False])
def test_an_answer_that_is_lost_on_its_way_is_told(loop: Loop, *, is_whole: bool) -> None:
    """The way back may not be known yet, or no more: the listener would wait for ever."""
    end = Answering(loop, b"ask")
    WholeAnswers(end).has_room = is_whole

    def answered() -> None:
        end.stream.write(b"answer")
        end.stream.close()

    loop.call(answered)
    end.stream.outcome(RELEASED, True)
    assert end.producer.outcomes == [MODIFIED]
    end.stream.outcome(ACCEPTED, True)
    assert end.producer.outcomes == [MODIFIED]


def test_a_longer_answer_is_opened(loop: Loop) -> None:
    end = Answering(loop, b"ask")
    router = WholeAnswers(end)

    def answered() -> None:
        end.stream.write(b"head")
        end.stream.write(bytes(MAX_HELD_BYTES))
        end.stream.close()

    loop.call(answered)
    assert not router.sent
    assert end.sink.octets == b"head" + bytes(MAX_HELD_BYTES)
    assert len(end.heads) == 1


def test_an_answer_that_fails_in_its_turn_has_not_begun(loop: Loop) -> None:
    """Its listener may try elsewhere."""
    end = Answering(loop, b"ask")

    def answered() -> None:
        end.stream.write(b"he")
        end.stream.abort()

    loop.call(answered)
    loop.call(lambda: None)
    assert not end.heads
    assert end.producer.outcomes == [MODIFIED]


def test_streams_of_plain_listeners_are_never_sent_whole(loop: Loop) -> None:
    end = End(loop)
    router = WholeAnswers(end)
    stream = AnswerStream(end.shared, "reply", "abcde:1", is_single=False)
    stream.codec = end.codec

    def answered() -> None:
        stream.accept(end.producer).push(b"ask")
        stream.write(b"answer")
        stream.close()

    loop.call(answered)
    assert not router.sent
    assert end.heads == [encode_stream_head("reply", None, None)]
    assert end.sink.octets == b"answer"


def test_there_is_one_answer(loop: Loop) -> None:
    """The reply address may serve another request by the time this stream closes."""
    end = Answering(loop)
    end.stream.write(b"answer")
    end.stream.finish()
    end.stream.write(b"late")
    end.stream.close()
    assert len(end.heads) == 1
    assert end.sink.octets == b"answer"


def test_a_silent_listener_is_answered_at_once(loop: Loop) -> None:
    end = Answering(loop)
    loop.call(lambda: None)
    assert len(end.heads) == 1


@pytest.mark.parametrize(
    ("failure", "state"), [(Failure.NO_SERVICE, RELEASED), (Failure.UNANSWERED, MODIFIED), (None, MODIFIED)]
)
def test_what_a_failure_is_told_as(loop: Loop, failure: Failure | None, state: int) -> None:
    end = End(loop)
    stream = AnswerStream(end.shared, "reply", "abcde:1", is_single=True)
    stream.codec = end.codec
    arrivals = stream.accept(end.producer)
    arrivals.push(b"ask")
    stream.abort(failure)
    assert end.producer.outcomes == [state]
    assert not end.heads


def test_the_listener_gives_up(loop: Loop) -> None:
    end = Answering(loop)
    end.stream.write(b"ans")
    end.stream.outcome(MODIFIED, True)
    assert end.codec.calls == ["lost"]
    assert end.sink.calls == ["abort"]
    end = Answering(loop)
    end.arrivals.abort()
    assert end.codec.calls == ["lost"]


def test_streams_of_a_c_router_are_served(loop: Loop) -> None:
    site = HttpSite(loop)
    loop.router.is_c_router = True
    site.connect_to(Server(lambda head: OK).port)
    client = Client(site.listen().bound_port or 0)
    assert client.send(GET % 1).answer() == (200, b"ok")


def test_the_fake_transport_is_as_strict_as_the_real_ones() -> None:
    transport = FakeTransport()
    transport.close()
    with pytest.raises(AssertionError):
        transport.write(b"x")
