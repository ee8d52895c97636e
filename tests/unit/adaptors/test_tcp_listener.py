import errno
import logging
import socket
from collections import Counter
from itertools import pairwise

import pytest

from tests.unit.adaptors.services import Services, Site
from tests.unit.adaptors.streams import Loop, accepted, connected, listening, receive_all, receive_exactly
from vanrouter.adaptors.tcp_config import ListenerConfig
from vanrouter.adaptors.tcp_listener import any_address, listening_socket
from vanrouter.core.stream import (
    NOWHERE,
    RELEASED,
    Producer,
    Sink,
    StreamHead,
)
from vanrouter.errors import ConfigError
from vanrouter.net.dial import Address


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def test_the_port_is_open_while_the_address_is_reachable(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    site = Site(loop)
    assert site.listener.oper_status == "up"
    assert f"Listening on 127.0.0.1:{site.port} (l)" in caplog.text
    client, server = site.pair()
    loop.call(lambda: site.adaptor.delete_connector("c", drop_connections=False))
    assert site.listener.oper_status == "down"
    with pytest.raises(ConnectionRefusedError):
        connected(site.port)
    client.sendall(b"accepted connections are untouched")
    assert receive_exactly(server, 34)
    port = site.port
    site.connect_to(site.server, "c2")
    assert site.listener.oper_status == "up"
    assert site.port == port
    connected(port).close()


def test_an_unreachable_address_may_be_refused_with_the_port_open(loop: Loop) -> None:
    site = Site(loop, listener={"address": "nobody", "when_unreachable": "refuse"})
    assert site.listener.oper_status == "up"
    with pytest.raises(ConnectionResetError):
        receive_all(site.client())
    assert (site.listener.refused, site.listener.connections_opened) == (1, 0)


def test_a_port_in_use_is_told(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    taken = listening()
    port = taken.getsockname()[1]
    site = Site(loop, listener={"port": str(port)})
    assert site.listener.oper_status == "down"
    assert site.listener.connection_msg == f"Address already in use - listen on 127.0.0.1:{port}"
    taken.close()
    loop.call(lambda: site.adaptor.delete_connector("c"))
    site.connect_to(site.server, "c2")
    assert site.listener.live_attributes()["operStatus"] == "up"
    assert site.listener.connection_msg == ""


def test_a_host_name_is_resolved(loop: Loop) -> None:
    site = Site(loop, listener={"host": "localhost"})
    loop.wait_for(lambda: site.listener.oper_status == "up")
    site.pair()[0].close()


def test_a_host_that_is_none(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(host: str, port: str, *, is_passive: bool) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("vanrouter.adaptors.tcp_listener.resolve", fail)
    site = Site(loop, listener={"host": "[::1]"})
    loop.wait_for(lambda: site.listener.connection_msg == "Name or service not known")
    assert site.listener.oper_status == "down"


def test_ipv6_clients_reach_ipv4_servers(loop: Loop) -> None:
    site = Site(loop, listener={"host": "::1"})
    client = socket.create_connection(("::1", site.port), 10)
    server = accepted(site.server)
    client.sendall(b"x")
    assert receive_exactly(server, 1) == b"x"
    client.close()


def test_no_host_is_every_address() -> None:
    four, six = Address(socket.AF_INET, ("0.0.0.0", 0)), Address(socket.AF_INET6, ("::", 0, 0, 0))
    assert any_address([four, six]) == ([six] if socket.has_dualstack_ipv6() else [four])
    assert any_address([four]) == [four]


def test_the_last_port_is_taken_again_if_it_can_be() -> None:
    port = free_port()
    first = listening_socket(Address(socket.AF_INET, ("127.0.0.1", 0)), port, 5, is_dual=False)
    assert first.getsockname()[1] == port
    second = listening_socket(Address(socket.AF_INET, ("127.0.0.1", 0)), port, -1, is_dual=False)
    assert second.getsockname()[1] != port
    with pytest.raises(OSError):
        listening_socket(Address(socket.AF_INET, ("127.0.0.1", port)), None, 0, is_dual=False)
    first.close()
    second.close()


def test_a_resolution_that_comes_too_late_is_forgotten(loop: Loop) -> None:
    site = Site(loop, listener={"address": "nobody", "host": "localhost"})
    listener = site.listener
    loop.call(lambda: (listener._open(), listener._close()))
    loop.call(lambda: listener._on_resolved(listener._attempt - 1, []))
    assert listener.oper_status == "down"


def test_running_out_of_descriptors_pauses_accepting(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vanrouter.adaptors.tcp_listener.ACCEPT_PAUSE_S", 0.01)
    site = Site(loop)

    class Exhausted:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock
            self.error = errno.EMFILE

        def fileno(self) -> int:
            return self.sock.fileno()

        def accept(self) -> None:
            raise OSError(self.error, "Too many open files")

    def warnings() -> list[str]:
        return [text for text in caplog.messages if "takes no connections" in text]

    fd, listening_sock = next(iter(site.listener._sockets.items()))
    exhausted = Exhausted(listening_sock)
    loop.call(lambda: site.listener._accept(exhausted, 1))  # type: ignore[arg-type]
    loop.call(lambda: site.listener._accept(exhausted, 1))  # type: ignore[arg-type]
    (said,) = warnings()
    assert said.startswith("Listener l takes no connections for now: Too many open files; if it comes again, raise")
    exhausted.error = errno.ECONNABORTED
    assert fd not in loop.reactor._callbacks
    loop.call(lambda: loop.reactor.register(fd, lambda mask: site.listener._accept(listening_sock, mask), 1))
    loop.call(lambda: site.listener._accept(exhausted, 1))  # type: ignore[arg-type]
    site.pair()
    loop.call(lambda: site.listener._pause_accepting(listening_sock, OSError(errno.EMFILE, "Too many open files")))
    assert len(warnings()) == 2
    site.pair()


def test_priority_takes_the_highest_reachable_address(loop: Loop) -> None:
    site = Site(loop, listener={"address": None, "strategy": "priority"})
    assert site.listener.oper_status == "down"
    loop.call(lambda: site.adaptor.add_listener_address("l", "high", "other", 9))
    low = loop.call(lambda: site.adaptor.add_listener_address("l", "low", "svc", 1))
    assert site.listener.oper_status == "up"
    site.pair()
    assert low.connections_opened == 1
    other = listening()
    site.connect_to(other, "c2", address="other")
    site.client()
    accepted(other)
    assert loop.call(site.listener.choose_address).to == "other"
    with pytest.raises(ConfigError, match="still has addresses"):
        loop.call(lambda: site.adaptor.delete_listener("l"))
    loop.call(lambda: site.adaptor.remove_listener_address("l", "high"))
    assert loop.call(site.listener.choose_address).to == "svc"
    loop.call(lambda: site.adaptor.remove_listener_address("l", "low"))
    assert site.listener.oper_status == "down"
    loop.call(lambda: site.adaptor.delete_listener("l"))


def test_weights_share_clients(loop: Loop) -> None:
    site = Site(loop, listener={"address": None, "strategy": "weighted"})
    loop.call(lambda: site.adaptor.add_listener_address("l", "a", "svc", 1))
    loop.call(lambda: site.adaptor.add_listener_address("l", "b", "b", 3))
    assert set(loop.call(lambda: [site.listener.choose_address().to for _ in range(20)])) == {"svc"}
    site.connect_to(site.server, "c2", address="b")
    counts = Counter(loop.call(lambda: [site.listener.choose_address().to for _ in range(2000)]))
    assert 0.65 < counts["b"] / 2000 < 0.85
    loop.call(lambda: [site.adaptor.delete_connector(name) for name in ("c", "c2")])
    assert loop.call(site.listener.choose_address).to == "svc"


def test_a_released_stream_is_offered_to_another_connector(loop: Loop) -> None:
    """The first connector's server is dead; the client's first octets are kept until the second answers."""
    site = Site(loop)
    dead = listening()
    site.connect_to(dead, "dead")
    dead.close()
    for _ in range(4):
        client = site.client()
        client.sendall(b"hello")
        server = accepted(site.server)
        assert receive_exactly(server, 5) == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert receive_all(server) == b""
        server.close()
        client.close()
    assert site.listener.retried >= 2
    site.wait_until_empty()


def test_nobody_left_is_end_of_file_for_the_client(loop: Loop) -> None:
    site = Site(loop)
    site.server.close()
    client = site.client()
    client.sendall(b"hello")
    with pytest.raises(ConnectionResetError):  # its octets were read, and nobody took them
        if receive_all(client) == b"":
            raise ConnectionResetError
    site.wait_until_empty()


def test_a_stream_that_nobody_takes_yet_is_offered_for_a_while(loop: Loop) -> None:
    """A fresh network may release it in its middle until all routers know all links."""
    site = Site(loop)
    served = loop.router.subscriptions["svc"][0].consumer
    refusals: list[float] = []

    class RefusesAtFirst:
        def on_stream(self, head: StreamHead, producer: Producer) -> Sink:
            if len(refusals) == 6:
                return served.on_stream(head, producer)
            refusals.append(loop.reactor.now)
            loop.reactor.call_soon(lambda: producer.outcome(RELEASED, True))
            return NOWHERE

    loop.call(lambda: loop.router.subscribe_stream("svc", RefusesAtFirst()))
    first = loop.call(lambda: loop.router.subscriptions["svc"].pop(0))
    client = site.client()
    client.sendall(b"hello")
    assert receive_exactly(accepted(site.server), 5) == b"hello"
    pauses = [later - before for before, later in pairwise(refusals)]
    assert all(pause < 0.02 for pause in pauses[:3])
    assert pauses[3] >= 0.025
    assert pauses[4] >= 0.05
    client.close()
    loop.call(lambda: loop.router.subscriptions["svc"].append(first))


def test_the_end_of_a_client_is_offered_again_too(loop: Loop) -> None:
    class Refuses:
        def __init__(self) -> None:
            self.producer = None

        def on_stream(self, head: StreamHead, producer: object) -> object:
            self.producer = producer  # type: ignore[assignment]
            return NOWHERE

    site = Site(loop)
    refuses = Refuses()
    loop.call(lambda: loop.router.subscriptions["svc"].insert(0, loop.router.subscribe_stream("svc", refuses)))  # type: ignore[arg-type]
    loop.call(loop.router.subscriptions["svc"].pop)
    client = site.client()
    client.sendall(b"hello")
    client.shutdown(socket.SHUT_WR)
    flow = loop.wait_for(lambda: refuses.producer)
    loop.wait_for(lambda: flow.is_ended)
    loop.call(lambda: flow.outcome(RELEASED, True))
    server = accepted(site.server)
    assert receive_all(server) == b"hello"
    server.sendall(b"bye")
    server.close()
    assert receive_all(client) == b"bye"


def test_a_reply_in_another_encapsulation_is_rejected(loop: Loop) -> None:
    site = Site(loop, connector={"address": "other"}, listener={"address": "far"})
    outcomes: list[tuple[int, bool]] = []
    heads: list[StreamHead] = []

    class Answers:
        def on_stream(self, head: StreamHead, producer: object) -> object:
            heads.append(head)
            return NOWHERE

        def outcome(self, state: int, settled: bool) -> None:
            outcomes.append((state, settled))

    answers = Answers()
    loop.call(lambda: loop.router.subscribe_stream("far", answers))  # type: ignore[arg-type]
    client = site.client()
    loop.wait_for(lambda: heads)
    reply_to = heads[0].reply_to
    assert reply_to
    consumer = loop.router.subscriptions[reply_to][0].consumer
    sink = loop.call(lambda: consumer.on_stream(StreamHead(to=reply_to, content_type=None), answers))  # type: ignore[arg-type]
    assert outcomes == [(0x25, True)]
    assert sink is NOWHERE
    assert receive_all(client) == b""
    loop.call(lambda: consumer.on_stream(StreamHead(to=reply_to), answers))  # type: ignore[arg-type]
    assert outcomes[1:] == [(RELEASED, True)]


@pytest.mark.parametrize("drop", [True, False])
def test_deletion_with_and_without_its_connections(loop: Loop, drop: bool) -> None:
    site = Site(loop)
    client, server = site.pair()
    loop.call(lambda: site.adaptor.delete_listener("l", drop_connections=drop))
    with pytest.raises(ConnectionRefusedError):
        site.client()
    if drop:
        assert receive_all(client) == b""
    else:
        client.sendall(b"still here")
        assert receive_exactly(server, 10) == b"still here"


def test_a_tenant_stands_in_front_of_stream_addresses(loop: Loop) -> None:
    services = loop.call(lambda: Services(loop.router, tenant="van1"))
    config = ListenerConfig(name="l", host="127.0.0.1", port="0", address="svc")
    listener = loop.call(lambda: services.create_listener(config))
    assert loop.call(listener.choose_address).to == "van1/svc"
    assert loop.router.watches[-1].address == "svc"
    loop.call(services.close)


def test_shut_down_takes_no_clients_and_leaves_flows(loop: Loop) -> None:
    site = Site(loop)
    client, _ = site.pair()
    loop.wait_for(lambda: len(site.listener.flows) + len(site.connector.flows) == 2)
    loop.call(site.adaptor.stop_accepting)
    with pytest.raises(ConnectionRefusedError):
        site.client()
    assert site.listener.has_flows
    loop.call(site.adaptor.close)
    receive_all(client)
    assert not site.listener.has_flows
