"""Life cycle of a flow, row by row of the event table (TCP over AMQP, section 9.2), window and bounds."""

import socket
import threading
import time
from typing import Any

import pytest

from tests.unit.adaptors.recorder import Recorder
from tests.unit.adaptors.services import Site
from tests.unit.adaptors.streams import Loop, receive_all, receive_exactly, reset
from vanrouter.adaptors.tcp_flow import OVERSHOOT_BYTES, Flow
from vanrouter.adaptors.tcp_shared import host_and_port
from vanrouter.adaptors.tcp_window import (
    C_REPORT_BYTES,
    C_WINDOW_BYTES,
    FIRST_WINDOW_BYTES,
    LARGEST_WINDOW_BYTES,
    LEAST_REPORT_BYTES,
    REPORT_BYTES,
)
from vanrouter.core.stream import ACCEPTED, MODIFIED, RELEASED, StreamHead

MEBIBYTE = 1 << 20


class FarEnd:
    """A test's end of a stream: the sink of what a flow sends, and the producer of what it gets."""

    def __init__(self) -> None:
        self.taken = 0
        self.reports: list[int] = []
        self.outcomes: list[tuple[int, bool]] = []
        self.events: list[str] = []
        self.is_open = True

    takes_early = True

    def push(self, data: memoryview | bytes) -> bool:
        self.taken += len(data)
        return self.is_open

    def finish(self, settled: bool = False) -> None:
        self.events.append("finish settled" if settled else "finish")

    def abort(self) -> None:
        self.events.append("abort")

    def received(self, total: int) -> None:
        self.reports.append(total)

    def outcome(self, state: int, settled: bool) -> None:
        self.outcomes.append((state, settled))

    def writable(self) -> None:
        self.events.append("writable")


class Service:
    """A far connector played by the test: takes client streams and opens server streams."""

    def __init__(self) -> None:
        self.ends: list[FarEnd] = []
        self.heads: list[StreamHead] = []
        self.producers: list[Flow] = []

    def on_stream(self, head: StreamHead, producer: Flow) -> FarEnd:
        self.heads.append(head)
        self.producers.append(producer)
        self.ends.append(FarEnd())
        return self.ends[-1]


class FarSite:
    """A listener whose connector is the test."""

    def __init__(self, loop: Loop, **listener: object) -> None:
        self.loop = loop
        self.site = Site(loop, connector={"address": "other"}, listener={"address": "far", **listener})
        self.service = Service()
        loop.call(lambda: loop.router.subscribe_stream("far", self.service))
        loop.wait_for(lambda: self.site.listener.oper_status == "up")
        self.client = self.site.client()
        loop.wait_for(lambda: self.service.ends)
        self.end = self.service.ends[0]
        self.flow = self.service.producers[0]
        self.server_end = FarEnd()

    def answer(self, *, is_vanrouter: bool = True, content_type: str = "application/octet-stream") -> object:
        reply_to = self.service.heads[0].reply_to
        assert reply_to
        head = StreamHead(to=reply_to, content_type=content_type, is_vanrouter=is_vanrouter, version=1)
        consumer = self.loop.router.subscriptions[reply_to][0].consumer
        return self.loop.call(lambda: consumer.on_stream(head, self.server_end))


@pytest.fixture(params=[False, True], ids=["vanrouter", "c-router"])
def site(request: pytest.FixtureRequest, loop: Loop) -> Site:
    loop.router.is_c_router = request.param
    return Site(loop)


def test_octets_pass_both_ways_and_each_side_closes_on_its_own(site: Site) -> None:
    client, server = site.pair()
    client.sendall(b"hello")
    assert receive_exactly(server, 5) == b"hello"
    server.sendall(b"world")
    assert receive_exactly(client, 5) == b"world"
    client.shutdown(socket.SHUT_WR)
    assert receive_all(server) == b""
    server.sendall(b"after end of file")
    server.close()
    assert receive_all(client) == b"after end of file"
    client.close()
    site.wait_until_empty()
    assert site.listener.live_attributes() | {"operStatus": "", "observer": ""} == {
        "operStatus": "", "connectionMsg": "", "connectionsOpened": 1, "connectionsClosed": 1, "bytesIn": 5,
        "bytesOut": 22, "observer": "",
    }  # fmt: skip
    assert (site.connector.bytes_in, site.connector.bytes_out) == (22, 5)
    assert (site.connector.connections_opened, site.connector.connections_closed) == (2, 1)


def test_the_server_may_speak_and_close_first(site: Site) -> None:
    client, server = site.pair()
    server.sendall(b"220 ready\r\n")
    server.shutdown(socket.SHUT_WR)
    assert receive_all(client) == b"220 ready\r\n"
    client.sendall(b"QUIT\r\n")
    assert receive_exactly(server, 6) == b"QUIT\r\n"
    client.close()
    assert receive_all(server) == b""
    server.close()
    site.wait_until_empty()


@pytest.mark.parametrize("is_c_router", [False, True])
def test_a_client_reset(loop: Loop, is_c_router: bool) -> None:
    loop.router.is_c_router = is_c_router
    site = Site(loop)
    client, server = site.pair()
    client.sendall(b"x")
    receive_exactly(server, 1)
    reset(client)
    if is_c_router:
        assert receive_all(server) == b""
    else:
        with pytest.raises(ConnectionResetError):
            receive_all(server)
    server.close()
    site.wait_until_empty()


@pytest.mark.parametrize("is_c_router", [False, True])
def test_a_server_reset(loop: Loop, is_c_router: bool) -> None:
    loop.router.is_c_router = is_c_router
    site = Site(loop)
    client, server = site.pair()
    server.sendall(b"last words")
    assert receive_exactly(client, 10) == b"last words"
    reset(server)
    if is_c_router:
        assert receive_all(client) == b""
    else:
        with pytest.raises(ConnectionResetError):
            receive_all(client)
    client.close()
    site.wait_until_empty()


def test_what_a_server_said_before_it_stopped_listening_arrives(site: Site) -> None:
    client, server = site.pair()
    client.sendall(b"x" * 1000)
    receive_exactly(server, 1000)
    server.sendall(b"413 too large")
    server.close()
    assert receive_exactly(client, 13) == b"413 too large"
    client.settimeout(0.5)
    with pytest.raises((ConnectionError, TimeoutError)):
        while True:  # the server's kernel answers with a reset, which ends the client's stream
            client.sendall(b"y" * 65536)
    client.close()
    site.wait_until_empty()


@pytest.mark.parametrize("direction", ["up", "down"])
def test_bulk_is_exact_and_window_bound(site: Site, direction: str) -> None:
    client, server = site.pair()
    source, target = (client, server) if direction == "up" else (server, client)
    data = bytes(range(256)) * 4096 * 16

    def send() -> None:
        source.sendall(data)
        source.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    assert receive_all(target) == data
    sender.join()
    target.close()
    source.close()
    site.wait_until_empty()


def test_a_reader_that_stops_holds_up_its_own_flow_only(site: Site) -> None:
    client, server = site.pair()
    client.settimeout(0.3)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 200 * MEBIBYTE:
            sent += client.send(bytes(MEBIBYTE))
    flow = site.loop.call(lambda: next(iter(site.listener.flows)))
    assert flow.sent - flow.acked <= LARGEST_WINDOW_BYTES + FIRST_WINDOW_BYTES
    other, other_server = site.pair()
    other.sendall(b"x")
    assert receive_exactly(other_server, 1) == b"x"
    # And it goes on where it stopped.
    client.settimeout(10)
    done: list[int] = []
    reader = threading.Thread(target=lambda: done.append(len(receive_all(server))))
    reader.start()
    client.shutdown(socket.SHUT_WR)
    reader.join(10)
    assert done == [sent]
    for sock in (client, server, other, other_server):
        sock.close()
    site.wait_until_empty()


# --- against a far end played by the test -----------------------------------------------------------------------------


def test_early_data_goes_with_the_header_and_is_bounded(loop: Loop) -> None:
    far = FarSite(loop)
    far.client.sendall(b"x" * 200_000)
    loop.wait_for(lambda: far.end.taken >= 65536)
    assert far.end.taken == 65536
    assert far.service.heads[0].flags == 7
    assert far.service.heads[0].is_vanrouter
    sink = far.answer()
    assert sink is far.flow
    loop.wait_for(lambda: far.end.taken >= FIRST_WINDOW_BYTES)
    assert loop.call(lambda: far.flow.mask) == 0
    loop.call(lambda: far.flow.received(FIRST_WINDOW_BYTES))
    loop.wait_for(lambda: far.end.taken == 200_000)
    far.client.close()


def test_towards_a_c_router_the_window_is_its_own(loop: Loop) -> None:
    far = FarSite(loop)
    far.answer(is_vanrouter=False)
    sender = threading.Thread(target=lambda: far.client.sendall(bytes(4 * MEBIBYTE)))
    sender.start()
    loop.wait_for(lambda: far.end.taken >= C_WINDOW_BYTES)
    assert far.end.taken < C_WINDOW_BYTES + FIRST_WINDOW_BYTES
    assert loop.call(lambda: far.flow.mask) == 0
    seen = far.end.taken
    loop.call(lambda: far.flow.received(0))
    loop.call(lambda: far.flow.received(529_698))
    loop.wait_for(lambda: far.end.taken >= 529_698 + C_WINDOW_BYTES)
    loop.call(lambda: far.flow.received(100))
    assert far.end.taken < seen + 529_698 + FIRST_WINDOW_BYTES
    loop.call(lambda: far.flow.received(1 << 40))
    loop.wait_for(lambda: far.end.taken >= 2 * C_WINDOW_BYTES)
    loop.call(lambda: far.flow.outcome(MODIFIED, True))
    reset(far.client)
    sender.join()


def test_a_sink_that_says_no_stops_the_socket(loop: Loop) -> None:
    far = FarSite(loop)
    far.answer()
    far.end.is_open = False
    far.client.sendall(b"x")
    loop.wait_for(lambda: far.end.taken == 1)
    far.client.sendall(b"y")
    loop.wait_for(lambda: far.flow.blocked)
    assert loop.call(lambda: far.flow.mask) == 0
    far.end.is_open = True
    loop.call(far.flow.writable)
    loop.wait_for(lambda: far.end.taken == 2)
    far.client.close()


@pytest.mark.parametrize(("is_vanrouter", "step"), [(True, REPORT_BYTES), (False, C_REPORT_BYTES)])
def test_reports_follow_what_was_written(loop: Loop, is_vanrouter: bool, step: int) -> None:
    far = FarSite(loop)
    sink = far.answer(is_vanrouter=is_vanrouter)
    for _ in range(2 * step // 4096):
        loop.call(lambda: sink.push(bytes(4096)))  # type: ignore[attr-defined]
    assert receive_exactly(far.client, 2 * step)
    doubled = [LEAST_REPORT_BYTES << place for place in range(8) if LEAST_REPORT_BYTES << place < step]
    assert far.server_end.reports == [*doubled, step, 2 * step]
    loop.call(sink.finish)  # type: ignore[attr-defined]
    assert receive_all(far.client) == b""
    assert far.server_end.outcomes == [(ACCEPTED, True)]
    far.client.close()
    loop.wait_for(lambda: far.end.events == ["finish"])


def test_all_is_written_before_it_is_accepted(loop: Loop) -> None:
    far = FarSite(loop)
    sink = far.answer()
    while not loop.call(lambda: far.site.adaptor.shared.memory.kept):
        loop.call(lambda: sink.push(bytes(MEBIBYTE)))  # type: ignore[attr-defined]
    loop.call(lambda: sink.push(b"end"))  # type: ignore[attr-defined]
    loop.call(sink.finish)  # type: ignore[attr-defined]
    assert far.server_end.outcomes == []
    assert loop.call(lambda: far.site.adaptor.shared.memory.kept) > 0
    assert receive_all(far.client)[-3:] == b"end"
    loop.wait_for(lambda: far.server_end.outcomes == [(ACCEPTED, True)])
    assert far.site.adaptor.shared.memory.kept == 0


def test_who_ignores_the_window_loses_the_flow(loop: Loop) -> None:
    far = FarSite(loop)
    sink = far.answer()
    piece = bytes(MEBIBYTE)
    for _ in range(4 + (LARGEST_WINDOW_BYTES + OVERSHOOT_BYTES) // MEBIBYTE):
        loop.call(lambda: sink.push(piece))  # type: ignore[attr-defined]
        loop.call(lambda: sink.push(piece))  # type: ignore[attr-defined]
    assert far.server_end.outcomes == [(MODIFIED, True)]
    assert far.end.events == ["abort"]
    assert far.site.listener.overrun == 1
    loop.call(lambda: sink.push(piece))  # type: ignore[attr-defined]
    loop.call(sink.finish)  # type: ignore[attr-defined]
    assert far.site.adaptor.shared.memory.kept == 0


@pytest.mark.parametrize("state", [RELEASED, MODIFIED, 0x25, 0])
@pytest.mark.parametrize("has_answered", [False, True])
def test_a_refused_stream_ends_the_client(loop: Loop, state: int, has_answered: bool) -> None:
    far = FarSite(loop)
    far.client.sendall(b"x")
    loop.wait_for(lambda: far.end.taken == 1)
    if has_answered:
        far.answer()
    loop.call(lambda: setattr(far.flow, "retries", 0))
    loop.call(lambda: far.flow.outcome(state, False))
    loop.call(lambda: far.flow.outcome(state, True))
    assert far.end.events == ["finish settled"]
    if has_answered:  # what the server says may still arrive, for a moment
        loop.call(lambda: far.flow.push(b"bye"))
    assert receive_all(far.client) == (b"bye" if has_answered else b"")
    loop.wait_for(lambda: not far.site.listener.flows)
    assert far.server_end.outcomes == ([(MODIFIED, True)] if has_answered else [])


def test_an_early_accept_ends_one_direction(loop: Loop) -> None:
    far = FarSite(loop)
    sink = far.answer()
    loop.call(lambda: far.flow.outcome(ACCEPTED, True))
    assert far.end.events == ["finish settled"]
    loop.call(lambda: sink.push(b"still"))  # type: ignore[attr-defined]
    loop.call(sink.finish)  # type: ignore[attr-defined]
    assert receive_all(far.client) == b"still"
    loop.wait_for(lambda: not far.site.listener.flows)


def test_an_abort_is_a_reset(loop: Loop) -> None:
    far = FarSite(loop)
    sink = far.answer()
    loop.call(sink.abort)  # type: ignore[attr-defined]
    with pytest.raises(ConnectionResetError):
        receive_all(far.client)
    assert far.end.events == ["finish settled"]
    assert far.server_end.outcomes == []
    loop.call(sink.abort)  # type: ignore[attr-defined]


def test_a_reset_is_seen_while_nothing_is_read(loop: Loop) -> None:
    far = FarSite(loop)
    far.answer()
    far.end.is_open = False
    far.client.sendall(b"x")
    loop.wait_for(lambda: far.flow.blocked)
    reset(far.client)
    loop.wait_for(lambda: not far.flow.is_watched)
    far.end.is_open = True
    loop.call(far.flow.writable)
    loop.wait_for(lambda: not far.site.listener.flows)
    assert far.end.events == ["abort"]
    assert far.server_end.outcomes == [(MODIFIED, True)]


def test_a_reset_is_seen_after_the_end_of_input(loop: Loop) -> None:
    far = FarSite(loop)
    far.answer()
    far.client.shutdown(socket.SHUT_WR)
    loop.wait_for(lambda: far.end.events == ["finish"])
    reset(far.client)
    loop.wait_for(lambda: not far.site.listener.flows)
    assert far.server_end.outcomes == [(MODIFIED, True)]


def test_a_reset_is_seen_while_much_waits(loop: Loop) -> None:
    far = FarSite(loop)
    sink = far.answer()
    for _ in range(4):
        loop.call(lambda: sink.push(bytes(MEBIBYTE)))  # type: ignore[attr-defined]
    reset(far.client)
    loop.wait_for(lambda: not far.site.listener.flows)
    assert far.server_end.outcomes == [(MODIFIED, True)]
    assert far.site.adaptor.shared.memory.kept == 0


def test_a_bug_ends_its_flow_only(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    far = FarSite(loop)
    far.answer()

    def broken(data: object) -> bool:
        raise ZeroDivisionError

    far.end.push = broken  # type: ignore[method-assign]
    far.client.sendall(b"x")
    assert receive_all(far.client) == b""
    loop.wait_for(lambda: not far.site.listener.flows)
    assert loop.reactor.crashes == 1
    loop.reactor.crashes = 0
    assert "ZeroDivisionError" in caplog.text


def test_an_idle_flow_is_ended(loop: Loop) -> None:
    far = FarSite(loop, idle_timeout_s=0.4)
    far.answer()
    far.client.sendall(b"x")
    loop.wait_for(lambda: far.end.taken == 1)
    with pytest.raises(ConnectionResetError):
        receive_all(far.client)
    assert far.site.listener.timed_out == 1
    assert far.end.events == ["abort"]


def test_a_half_closed_flow_is_ended(loop: Loop) -> None:
    far = FarSite(loop, half_close_timeout_s=0.3, idle_timeout_s=30)
    far.answer()
    far.client.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):  # or the client would not hear of it
        receive_all(far.client)
    assert far.site.listener.timed_out == 1
    assert far.server_end.outcomes == [(MODIFIED, True)]
    assert len(far.site.adaptor.shared.wheel) == 0


@pytest.mark.parametrize("is_vanrouter", [True, False])
def test_a_far_reset_after_the_far_end_of_file_arrives(loop: Loop, is_vanrouter: bool) -> None:
    far = FarSite(loop)
    sink: Any = far.answer(is_vanrouter=is_vanrouter)
    loop.call(sink.finish)
    assert receive_all(far.client) == b""
    loop.call(lambda: far.flow.outcome(MODIFIED, True))
    loop.wait_for(lambda: not far.site.listener.flows)
    if is_vanrouter:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # a mere end would be noticed with the second
            far.client.send(b"x")
    else:
        assert far.client.send(b"x") == 1


def test_what_a_slow_reader_has_not_got_is_kept_while_it_reads(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanrouter.adaptors.tcp_flow.LINGER_S", 0.2)
    far = FarSite(loop)
    sink: Any = far.answer()
    octets = 16 * MEBIBYTE
    piece = bytes(MEBIBYTE // 2)
    flow = far.flow
    loop.call(lambda: setattr(flow, "largest", octets))
    for _ in range(octets // len(piece)):
        loop.call(lambda: sink.push(piece))
    loop.call(sink.finish)
    loop.call(lambda: flow.outcome(MODIFIED, True))
    got = 0
    far.client.settimeout(10)
    deadline = time.monotonic() + 0.6
    while time.monotonic() < deadline:  # longer than a flow lingers, and never so long without a read
        got += len(far.client.recv(65536))
        threading.Event().wait(0.02)
    got += len(receive_all(far.client))
    assert got == octets
    assert far.site.listener.timed_out == 0


def test_who_reads_nothing_is_not_waited_for(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanrouter.adaptors.tcp_flow.LINGER_S", 0.2)
    far = FarSite(loop)
    sink: Any = far.answer()
    flow = far.flow
    loop.call(lambda: setattr(flow, "largest", 64 * MEBIBYTE))
    for _ in range(32):
        loop.call(lambda: sink.push(bytes(MEBIBYTE)))
    loop.call(sink.finish)
    loop.call(lambda: flow.outcome(MODIFIED, True))
    loop.wait_for(lambda: not far.site.listener.flows)


def test_rows_show_both_ends(site: Site) -> None:
    client, server = site.pair()
    rows = site.loop.wait_for(
        lambda: len(site.router.connections) == 3 and [row.management_row() for row in site.router.connections.values()]
    )
    assert [(row["host"], row["dir"]) for row in rows] == [
        ("egress-dispatch", "out"),
        (host_and_port(client.getsockname()), "in"),
        (host_and_port(server.getsockname()), "out"),
    ]
    assert {row["container"] for row in rows} == {"TcpAdaptor"}
    assert rows[1]["localSocket"] == host_and_port(client.getpeername())
    site.loop.call(lambda: [row.force_close() for row in list(site.router.connections.values())])
    receive_all(client)
    client.close()
    server.close()
    site.wait_until_empty()


def test_socket_addresses_as_text() -> None:
    assert host_and_port(("127.0.0.1", 5)) == "127.0.0.1:5"
    assert host_and_port(("::1", 5, 0, 0)) == "[::1]:5"
    assert host_and_port(("::ffff:10.0.0.1", 5, 0, 0)) == "10.0.0.1:5"
    assert host_and_port("") == ""


def test_many_short_connections_leave_nothing(site: Site) -> None:
    for number in range(200):
        client, server = site.pair()
        client.sendall(b"%d" % number)
        assert server.recv(100)
        if number % 3 == 0:
            reset(client)
        else:
            client.close()
        server.close()
    site.wait_until_empty()
    assert site.listener.connections_opened == site.listener.connections_closed == 200


def test_octets_are_told_once_for_each_direction_and_request(loop: Loop) -> None:
    recorder = Recorder()
    site = Site(loop, recorder=recorder)
    client, server = site.pair()
    peer = server.getpeername()
    for _ in range(3):
        client.sendall(b"question")
        assert receive_exactly(server, 8) == b"question"
        server.sendall(b"answer")
        assert receive_exactly(client, 6) == b"answer"
    both = {("flow", True), ("flow", False), ("counterpart", True), ("counterpart", False)}
    assert sorted(recorder.octets) == sorted(both)
    recorder.octets.clear()
    flow = recorder.flows[0]
    assert flow.owner is not None
    loop.call(flow.owner.tell_next)
    client.sendall(b"x" * 8)
    receive_exactly(server, 8)
    client.sendall(b"x" * 8)
    receive_exactly(server, 8)
    assert recorder.octets == [("flow", True)]
    client.close()
    server.close()
    site.wait_until_empty()
    assert {type(record) for record in recorder.ended} == {type(flow), type(recorder.counterparts[0])}
    assert (flow.host, flow.error, len(recorder.services)) == ("127.0.0.1", "", 2)
    assert recorder.counterparts[0].identity == flow.identity
    assert (recorder.counterparts[0].proxy_host, recorder.counterparts[0].proxy_port) == (peer[0], str(peer[1]))


TCP_REPAIR = 19
"""A socket that is closed in this mode says nothing (tcp.h); for the superuser."""


@pytest.mark.parametrize("who", ["client", "server"])
def test_who_vanishes_without_a_word_is_noticed(loop: Loop, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    monkeypatch.setattr("vanrouter.net.dial.KEEP_ALIVE", ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1)))
    site = Site(loop)
    client, server = site.pair()
    client.sendall(b"hello")
    assert receive_exactly(server, 5) == b"hello"
    gone, left = (client, server) if who == "client" else (server, client)
    try:
        gone.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    except PermissionError:
        pytest.skip("only the superuser can have a socket vanish")
    gone.close()
    with pytest.raises(ConnectionResetError):
        receive_all(left)
    site.wait_until_empty()
