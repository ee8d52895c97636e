import errno
import socket
import threading

import pytest

from tests.unit.adaptors.recorder import Recorder
from tests.unit.adaptors.services import Site
from tests.unit.adaptors.streams import Loop, accepted, listening, receive_all, receive_exactly
from tests.unit.adaptors.test_tcp_flow import FarEnd
from tests.unit.net.test_dial import silent_server
from vanrouter.adaptors.tcp_connector import REPLY_TRIES
from vanrouter.core.flows import UNREACHABLE
from vanrouter.core.stream import ACCEPTED, MODIFIED, REJECTED, RELEASED, StreamHead
from vanrouter.net.dial import Address

OCTETS = "application/octet-stream"


def head(**more: object) -> StreamHead:
    return StreamHead(**{"to": "svc", "reply_to": "reply", "content_type": OCTETS, "version": 1, "flags": 5, **more})  # type: ignore[arg-type]


class Client:
    """A far listener played by the test: takes the server's stream."""

    def __init__(self) -> None:
        self.heads: list[StreamHead] = []
        self.octets = b""
        self.producer: object = None
        self.events: list[str] = []

    def on_stream(self, head: StreamHead, producer: object) -> object:
        self.heads.append(head)
        self.producer = producer
        return self

    takes_early = True

    def push(self, data: memoryview | bytes) -> bool:
        self.octets += bytes(data)
        return True

    def finish(self, settled: bool = False) -> None:
        self.events.append("finish")

    def abort(self) -> None:
        self.events.append("abort")


def begin(site: Site, end: FarEnd, **more: object) -> object:
    return site.loop.call(lambda: site.connector.on_stream(head(**more), end))  # type: ignore[arg-type]


def test_the_server_stream_begins_without_a_word_of_the_server(loop: Loop) -> None:
    site = Site(loop)
    client = Client()
    loop.call(lambda: loop.router.subscribe_stream("reply", client))  # type: ignore[arg-type]
    end = FarEnd()
    sink = begin(site, end)
    loop.wait_for(lambda: client.heads)
    assert client.heads[0] == StreamHead(to="reply", content_type=OCTETS, version=1, is_vanrouter=True, flags=5)
    server = accepted(site.server)
    loop.call(lambda: (sink.push(b"request"), sink.finish()))  # type: ignore[attr-defined]
    assert receive_all(server) == b"request"
    loop.wait_for(lambda: end.outcomes == [(ACCEPTED, True)])
    server.sendall(b"answer")
    server.close()
    loop.wait_for(lambda: client.events == ["finish"])
    assert client.octets == b"answer"


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"content_type": None}, RELEASED),
        ({"content_type": "text/plain"}, RELEASED),
        ({"version": 2}, RELEASED),
        ({"reply_to": None}, REJECTED),
    ],
)
def test_other_encapsulations_are_released(loop: Loop, more: dict[str, object], state: int) -> None:
    site = Site(loop)
    end = FarEnd()
    sink = begin(site, end, **more)
    loop.call(lambda: sink.push(b"x"))  # type: ignore[attr-defined]
    assert end.outcomes == [(state, True)]


def test_lite_streams_are_taken(loop: Loop) -> None:
    site = Site(loop)
    begin(site, FarEnd(), version=None)
    accepted(site.server)


@pytest.mark.parametrize(("flags", "state"), [(5, MODIFIED), (7, RELEASED)])
def test_a_refused_connection(loop: Loop, flags: int, state: int) -> None:
    site = Site(loop)
    site.server.close()
    end = FarEnd()
    sink = begin(site, end, flags=flags)
    loop.call(lambda: (sink.push(b"x"), sink.finish()))  # type: ignore[attr-defined]
    loop.wait_for(lambda: end.outcomes == [(state, True)])
    assert site.connector.live_attributes()["operStatus"] == "down"
    assert site.connector.health.last_error == "Connection refused"
    loop.call(sink.abort)  # type: ignore[attr-defined]
    site.wait_until_empty()


def test_several_addresses_are_tried(loop: Loop) -> None:
    site = Site(loop)
    dead = Address(socket.AF_INET, ("127.0.0.1", 1))
    good = Address(socket.AF_INET, site.server.getsockname())
    loop.call(lambda: setattr(site.connector.resolver, "_addresses", [dead, good]))
    begin(site, FarEnd())
    accepted(site.server)
    loop.call(lambda: setattr(site.connector.resolver, "_addresses", [dead, dead]))
    end = FarEnd()
    begin(site, end)
    loop.wait_for(lambda: end.outcomes == [(MODIFIED, True)])


def test_a_silent_server_is_given_up(loop: Loop) -> None:
    site = Site(loop, connector={"connect_timeout_s": 0.2})
    silent, fillers = silent_server()
    loop.call(lambda: setattr(site.connector.resolver, "_addresses", [Address(socket.AF_INET, silent.getsockname())]))
    end, gone, dropped = FarEnd(), FarEnd(), FarEnd()
    sink = begin(site, end, flags=7)
    assert loop.call(lambda: sink.push(b"waits")) is False  # type: ignore[attr-defined]
    loop.call(begin(site, gone).abort)  # type: ignore[attr-defined]
    loop.call(begin(site, dropped).drop)  # type: ignore[attr-defined]
    loop.wait_for(lambda: end.outcomes == [(RELEASED, True)])
    assert (gone.outcomes, dropped.outcomes) == ([], [(MODIFIED, True)])
    assert site.connector.health.last_error == "Connection timed out"
    site.wait_until_empty()
    for each in (silent, *fillers):
        each.close()


def test_a_slow_server_gets_what_has_waited(loop: Loop) -> None:
    site = Site(loop)
    silent, fillers = silent_server()
    loop.call(lambda: setattr(site.connector.resolver, "_addresses", [Address(socket.AF_INET, silent.getsockname())]))
    end = FarEnd()
    sink = begin(site, end)
    loop.call(lambda: (sink.push(b"request"), sink.finish()))  # type: ignore[attr-defined]
    for filler in fillers:
        filler.close()
    silent.settimeout(10)
    while True:
        server = accepted(silent)
        octets = receive_all(server)
        if octets:
            break
    assert octets == b"request"
    loop.wait_for(lambda: end.outcomes == [(ACCEPTED, True)])
    silent.close()


def test_a_host_without_an_address(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gone_has_gone = threading.Event()

    def fail(host: str, port: str) -> list[Address]:
        gone_has_gone.wait(10)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("vanrouter.net.dial.resolve", fail)
    site = Site(loop, connector={"host": "[::1]"})
    end, again, gone = FarEnd(), FarEnd(), FarEnd()
    begin(site, end, flags=7)
    loop.call(begin(site, gone).abort)  # type: ignore[attr-defined]
    gone_has_gone.set()
    loop.wait_for(lambda: end.outcomes == [(MODIFIED, True)])
    begin(site, again)
    loop.wait_for(lambda: again.outcomes == [(MODIFIED, True)])
    assert gone.outcomes == []
    assert caplog.text.count("Name or service not known") == 1


def test_a_host_name(loop: Loop) -> None:
    site = Site(loop, connector={"host": "localhost"})
    client, server = site.pair()
    client.sendall(b"x")
    assert receive_exactly(server, 1) == b"x"
    client.close()
    server.close()
    site.wait_until_empty()


def test_an_abort_while_flowing(loop: Loop) -> None:
    site = Site(loop)
    client = Client()
    loop.call(lambda: loop.router.subscribe_stream("reply", client))  # type: ignore[arg-type]
    sink = begin(site, FarEnd())
    server = accepted(site.server)
    loop.call(sink.abort)  # type: ignore[attr-defined]
    with pytest.raises(ConnectionResetError):
        receive_all(server)
    loop.wait_for(lambda: client.events == ["finish"])


def test_routers_on_the_way_learn_at_once_that_they_need_not_keep_the_stream(loop: Loop) -> None:
    site = Site(loop)
    loop.call(lambda: loop.router.subscribe_stream("reply", Client()))  # type: ignore[arg-type]
    end = FarEnd()
    sink = begin(site, end, flags=7)
    loop.call(lambda: sink.push(b"request"))  # type: ignore[attr-defined]
    assert end.reports == [7]


@pytest.mark.parametrize("drop", [True, False])
def test_deletion_with_and_without_its_connections(loop: Loop, drop: bool) -> None:
    site = Site(loop)
    client, server = site.pair()
    waiting = FarEnd()
    silent, fillers = silent_server()
    loop.call(lambda: setattr(site.connector.resolver, "_addresses", [Address(socket.AF_INET, silent.getsockname())]))
    begin(site, waiting)
    assert len(site.connector.waiting) == 1
    loop.call(lambda: site.adaptor.delete_connector("c", drop_connections=drop))
    assert site.listener.oper_status == "down"
    if drop:
        with pytest.raises(ConnectionResetError):
            receive_all(client)
        assert waiting.outcomes == [(MODIFIED, True)]
    else:
        client.sendall(b"still here")
        assert receive_exactly(server, 10) == b"still here"
    for each in (silent, *fillers):
        each.close()


def test_the_permanent_row(loop: Loop) -> None:
    site = Site(loop)
    (row,) = loop.router.connections.values()
    assert row.is_protected
    row.force_close()
    assert row.management_row()["host"] == "egress-dispatch"
    assert site.connector.connections_opened == 1


def test_three_refusals_withdraw_the_address_until_the_server_is_back(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vanrouter.net.health.FIRST_PROBE_S", 0.05)
    server = listening()
    address = server.getsockname()
    server.close()
    site = Site(loop, connector={"port": str(address[1])})
    for _ in range(3):
        end = FarEnd()
        begin(site, end)
        loop.wait_for(lambda end=end: end.outcomes)
    assert site.connector.is_announced
    loop.wait_for(lambda: not site.connector.is_announced)  # refused once more
    assert site.listener.oper_status == "down"
    loop.wait_for(lambda: site.connector.health.probes >= 2)
    back = socket.create_server(address)
    loop.wait_for(lambda: site.connector.is_announced)
    assert site.listener.oper_status == "up"
    assert site.connector.health.status == "up"
    back.close()


def test_a_server_that_resets_at_once_has_had_its_try(loop: Loop) -> None:
    site = Site(loop)
    silent, fillers = silent_server()
    loop.call(lambda: setattr(site.connector.resolver, "_addresses", [Address(socket.AF_INET, silent.getsockname())]))
    end = FarEnd()
    sink = begin(site, end, flags=7)
    loop.call(lambda: sink.on_connect_failed(errno.ECONNRESET))  # type: ignore[attr-defined]
    assert end.outcomes == [(MODIFIED, True)]
    assert site.connector.health.status == "unknown"
    site.wait_until_empty()
    for each in (silent, *fillers):
        each.close()


def test_a_server_that_refuses_is_told(loop: Loop) -> None:
    recorder = Recorder()
    site = Site(loop, recorder=recorder)
    port = site.server.getsockname()[1]
    site.server.close()
    assert receive_all(site.client()) == b""
    loop.wait_for(lambda: not site.listener.flows)
    assert {record.error for record in recorder.counterparts} == {f"Connection refused - on connect 127.0.0.1:{port}"}
    assert len(recorder.ended) == len(recorder.counterparts) + 1
    assert [record.error for record in recorder.flows] == [UNREACHABLE]


@pytest.mark.parametrize("with_records", [False, True])
def test_octets_of_a_server_wait_for_the_listener_of_a_c_router(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, with_records: bool
) -> None:
    """Until its client's first octets come: it was seen to lose what comes right behind the header."""
    monkeypatch.setattr("vanrouter.adaptors.tcp_connector.LISTENER_READY_S", 100.0)
    site = Site(loop, recorder=Recorder() if with_records else None)
    client, other = Client(), Client()
    loop.call(lambda: loop.router.subscribe_stream("reply", client))  # type: ignore[arg-type]
    loop.call(lambda: loop.router.subscribe_stream("other", other))  # type: ignore[arg-type]
    sink = begin(site, FarEnd())
    server = accepted(site.server)
    server.sendall(b"220 hello")
    begin(site, FarEnd(), reply_to="other", is_vanrouter=True)
    accepted(site.server).sendall(b"220 hello")
    loop.wait_for(lambda: other.octets == b"220 hello")
    assert (len(client.heads), client.octets) == (1, b"")
    loop.call(lambda: sink.push(b"HELO"))  # type: ignore[attr-defined]
    loop.wait_for(lambda: client.octets == b"220 hello")
    loop.call(lambda: sink.push(b" you"))  # type: ignore[attr-defined]
    assert receive_exactly(server, 8) == b"HELO you"
    server.sendall(b"!")
    loop.wait_for(lambda: client.octets == b"220 hello!")


@pytest.mark.parametrize("ends", [False, True])
def test_a_client_that_waits_for_the_server_does_not_wait_long(loop: Loop, ends: bool) -> None:
    site = Site(loop)
    client = Client()
    loop.call(lambda: loop.router.subscribe_stream("reply", client))  # type: ignore[arg-type]
    sink = begin(site, FarEnd())
    if ends:
        loop.call(sink.finish)  # type: ignore[attr-defined]
    server = accepted(site.server)
    server.sendall(b"220 hello")
    loop.wait_for(lambda: client.octets == b"220 hello")
    server.close()
    loop.wait_for(lambda: client.events == ["finish"])


def test_a_flow_that_ends_while_it_waits_for_the_listener(loop: Loop) -> None:
    site = Site(loop)
    client = Client()
    loop.call(lambda: loop.router.subscribe_stream("reply", client))  # type: ignore[arg-type]
    sink = begin(site, FarEnd())
    server = accepted(site.server)
    server.sendall(b"220 hello")
    loop.call(sink.abort)  # type: ignore[attr-defined]
    with pytest.raises(ConnectionResetError):
        receive_all(server)
    assert client.octets == b""
    site.wait_until_empty()


@pytest.mark.parametrize("server_says", ["nothing", "a word", "that is all", "a word, and that is all"])
def test_a_server_stream_that_nobody_takes_is_offered_again(loop: Loop, server_says: str) -> None:
    site = Site(loop)
    end, client = FarEnd(), Client()
    begin(site, end)  # nobody is at the reply address yet: the network is not of one mind
    server = accepted(site.server)
    loop.wait_for(lambda: site.connector.retried)
    if "word" in server_says:
        server.sendall(b"220 hello")
    if "all" in server_says:
        server.shutdown(socket.SHUT_WR)
    loop.wait_for(lambda: site.connector.retried == 2)
    loop.call(lambda: loop.router.subscribe_stream("reply", client))  # type: ignore[arg-type]
    loop.wait_for(lambda: client.heads)
    if "all" in server_says:
        loop.wait_for(lambda: client.events == ["finish"])
    else:
        server.sendall(b", and more")
        loop.wait_for(lambda: client.octets.endswith(b"more"))
    assert client.octets.startswith(b"220 hello" if "word" in server_says else b"")
    assert client.octets.count(b"220") == ("word" in server_says)
    assert end.outcomes == []


def test_a_server_stream_that_nobody_ever_takes_ends_the_flow(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanrouter.adaptors.tcp_connector.FIRST_RETRY_S", 0.001)
    monkeypatch.setattr("vanrouter.adaptors.tcp_flow.LINGER_S", 0.05)
    site = Site(loop)
    end = FarEnd()
    begin(site, end)
    server = accepted(site.server)
    assert receive_all(server) == b""
    loop.wait_for(lambda: end.outcomes == [(MODIFIED, True)])
    assert site.connector.retried == REPLY_TRIES
    site.wait_until_empty()


def test_a_server_stream_that_has_begun_is_not_offered_again(loop: Loop) -> None:
    """What the server has said went out with the stream, and may have been read."""
    site = Site(loop)
    client = Client()
    loop.call(lambda: loop.router.subscribe_stream("reply", client))  # type: ignore[arg-type]
    begin(site, FarEnd())
    server = accepted(site.server)
    server.sendall(b"220 hello")
    loop.wait_for(lambda: client.octets)
    loop.call(lambda: client.producer.outcome(RELEASED, True))  # type: ignore[attr-defined]
    assert receive_all(server) == b""
    assert len(client.heads) == 1
    assert site.connector.retried == 0
