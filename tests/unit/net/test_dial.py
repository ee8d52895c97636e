import errno
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.unit.adaptors.streams import Loop, listening
from vanrouter.net.dial import (
    ASK_AGAIN_S,
    HOSTS_BYTES,
    KEEP_ALIVE,
    MAX_QUESTIONS,
    RESOLVED_FOR_S,
    Address,
    Connecting,
    Resolver,
    begin_connect,
    is_in_hosts_file,
    literal_addresses,
    resolve,
)
from vanrouter.net.reactor import Reactor


class Owner:
    def __init__(self) -> None:
        self.results: list[socket.socket | int] = []

    def on_connected(self, sock: socket.socket) -> None:
        self.results.append(sock)

    def on_connect_failed(self, error: int) -> None:
        self.results.append(error)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def target(port: int, host: str = "127.0.0.1") -> Address:
    return Address(socket.AF_INET, (host, port))


SILENT = Address(socket.AF_INET, ("127.0.0.1", 1))


def silent_server() -> tuple[socket.socket, list[socket.socket]]:
    """A port whose queue is full: it answers no further handshake."""
    server = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = []
    for _ in range(8):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(server.getsockname())
        fillers.append(sock)
    return server, fillers


@pytest.mark.parametrize(
    ("text", "is_there"),
    [
        ("127.0.0.1 localhost\n", True),
        ("::1 ip6-localhost LOCALHOST # local\n", True),
        ("127.0.0.1 other # localhost\n", False),
        ("localhost\n", False),
        ("\xff\xfe binary \x00\n127.0.0.1\tlocalhost", True),
        ("#" + "x" * HOSTS_BYTES + "\n127.0.0.1 localhost\n", False),
        (None, False),
    ],
)
def test_names_of_the_hosts_file_need_no_thread_to_listen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, is_there: bool
) -> None:
    file = tmp_path / "hosts"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr("vanrouter.net.dial.HOSTS_FILE", file)
    assert is_in_hosts_file("localhost") is is_there
    asked: list[str] = []

    def addresses(host: str, port: str, flags: int, is_passive: bool) -> list[Address]:
        if flags & socket.AI_NUMERICHOST or host != "localhost":
            raise socket.gaierror(socket.EAI_NONAME, "no")
        asked.append(host)
        return [target(80)]

    monkeypatch.setattr("vanrouter.net.dial._addresses", addresses)
    assert literal_addresses("localhost", "80", is_passive=True) == ([target(80)] if is_there else None)
    assert literal_addresses("localhost", "80") is None
    assert literal_addresses("elsewhere", "80", is_passive=True) is None
    assert len(asked) == is_there


def test_a_name_of_the_hosts_file_that_the_resolver_does_not_know(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    monkeypatch.setattr("vanrouter.net.dial.HOSTS_FILE", tmp_path / "hosts")
    assert literal_addresses("localhost", "no-such-service", is_passive=True) is None


def test_literals_need_no_resolver() -> None:
    assert literal_addresses("127.0.0.1", "80") == [target(80)]
    assert literal_addresses("::1", "80") == [Address(socket.AF_INET6, ("::1", 80, 0, 0))]
    assert literal_addresses("[::1]", "80") is None
    assert literal_addresses("localhost", "80") is None
    assert literal_addresses("127.0.0.1", "http") is None
    passive = literal_addresses("", "0", is_passive=True)
    assert passive is not None
    assert Address(socket.AF_INET, ("0.0.0.0", 0)) in passive
    assert target(80) in resolve("localhost", "80")


def keeps_alive(sock: socket.socket) -> bool:
    """Whether the kernel asks a silent peer before long."""
    values = [sock.getsockopt(socket.IPPROTO_TCP, option) for option, _ in KEEP_ALIVE]
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) and values == [60, 15, 4]


def test_a_server_on_this_host_is_reached_at_once() -> None:
    server = listening()
    sock, error = begin_connect(target(server.getsockname()[1]))
    assert error == 0
    assert sock is not None
    assert sock.getpeername() == server.getsockname()
    assert keeps_alive(sock)
    sock.close()
    server.close()
    assert begin_connect(target(free_port())) == (None, errno.ECONNREFUSED)


def test_an_address_that_cannot_be_is_an_error() -> None:
    sock, error = begin_connect(Address(socket.AF_INET, ("255.255.255.255", 1)))
    assert sock is None
    assert error not in (0, errno.EALREADY)


def test_a_process_without_descriptors_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("vanrouter.net.dial.socket.socket", fail)
    assert begin_connect(target(1)) == (None, errno.EMFILE)


def test_a_port_that_is_no_service_is_named() -> None:
    with pytest.raises(socket.gaierror, match="port 'abc-def' is neither a number nor a service") as caught:
        resolve("127.0.0.1", "abc-def")
    assert caught.value.strerror == "port 'abc-def' is neither a number nor a service that this machine knows"


def test_ports_of_amqp_need_no_list_of_services(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def without_list(host: str, port: str, **more: Any) -> Any:
        if not port.isdecimal():
            raise socket.gaierror(socket.EAI_SERVICE, "Servname not supported for ai_socktype")
        return real(host, port, **more)

    monkeypatch.setattr(socket, "getaddrinfo", without_list)
    assert [found.address for found in resolve("127.0.0.1", "amqp")] == [("127.0.0.1", 5672)]
    assert [found.address for found in resolve("127.0.0.1", "amqps")] == [("127.0.0.1", 5671)]


def test_the_next_address_is_tried_when_one_refuses(loop: Loop) -> None:
    server = listening()
    owner = Owner()
    targets = [target(free_port()), target(server.getsockname()[1]), SILENT]
    loop.call(lambda: Connecting(loop.reactor, targets, owner).start())
    (sock,) = loop.wait_for(lambda: owner.results)
    assert isinstance(sock, socket.socket)
    assert sock.getpeername() == server.getsockname()
    sock.close()


def test_the_last_error_is_told_when_all_refuse(loop: Loop) -> None:
    owner = Owner()
    loop.call(lambda: Connecting(loop.reactor, [target(free_port()), target(free_port())], owner).start())
    assert loop.wait_for(lambda: owner.results) == [errno.ECONNREFUSED]


def test_the_next_address_is_tried_while_one_is_silent(loop: Loop) -> None:
    silent, fillers = silent_server()
    server = listening()
    owner = Owner()
    targets = [target(silent.getsockname()[1]), target(server.getsockname()[1])]
    loop.call(lambda: Connecting(loop.reactor, targets, owner).start())
    (sock,) = loop.wait_for(lambda: owner.results)
    assert isinstance(sock, socket.socket)
    assert sock.getpeername() == server.getsockname()
    for each in (sock, silent, *fillers):
        each.close()


def test_a_slow_answer_and_a_late_refusal_are_noticed(loop: Loop) -> None:
    server = listening()
    owner = Owner()
    connecting = Connecting(loop.reactor, [], owner)

    def adopt() -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(server.getsockname())
        connecting.adopt(sock)

    loop.call(adopt)
    (sock,) = loop.wait_for(lambda: owner.results)
    assert isinstance(sock, socket.socket)
    sock.close()
    late = Owner()
    refused = Connecting(loop.reactor, [], late)

    def adopt_refused() -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", free_port()))
        refused.adopt(sock)

    loop.call(adopt_refused)
    assert loop.wait_for(lambda: late.results) == [errno.ECONNREFUSED]


def test_giving_up_releases_everything(loop: Loop) -> None:
    silent, fillers = silent_server()
    owner = Owner()
    connecting = Connecting(loop.reactor, [target(silent.getsockname()[1]), SILENT], owner)
    loop.call(connecting.start)
    loop.call(connecting.cancel)
    loop.call(connecting.start)
    assert loop.call(lambda: len(loop.reactor._callbacks)) == 1
    assert owner.results == []
    for each in (silent, *fillers):
        each.close()


def test_names_are_asked_once_for_all_that_wait(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(host: str, port: str) -> list[Address]:
        asked.append(host)
        return [target(int(port))]

    monkeypatch.setattr("vanrouter.net.dial.resolve", answer)
    resolver = loop.call(lambda: Resolver(loop.reactor, "a name", "5"))
    answers: list[object] = []
    assert resolver.known() is None
    loop.call(lambda: [resolver.ask(answers.append), resolver.ask(answers.append)])
    loop.wait_for(lambda: len(answers) == 2)
    assert answers == [[target(5)], [target(5)]]
    assert asked == ["a name"]
    assert loop.call(resolver.known) == [target(5)]
    assert Resolver(loop.reactor, "127.0.0.1", "5").known() == [target(5)]


def test_an_error_of_the_resolver_is_an_answer(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(host: str, port: str) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("vanrouter.net.dial.resolve", fail)
    resolver = loop.call(lambda: Resolver(loop.reactor, "no name", "5"))
    answers: list[object] = []
    loop.call(lambda: resolver.ask(answers.append))
    assert isinstance(loop.wait_for(lambda: answers)[0], socket.gaierror)
    assert resolver.known() is None


class Clock:
    """A loop whose time a test moves."""

    def __init__(self) -> None:
        self.time = 100.0
        self.reactor = Reactor(lambda: self.time)

    def advance(self, seconds: float) -> None:
        self.time += seconds
        self.reactor.run_once(0)

    def until(self, answers: list[object]) -> object:
        for _ in range(1000):
            self.reactor.run_once(0.01)
            if answers:
                return answers.pop()
        raise AssertionError("no answer")


def test_a_silent_name_server_is_asked_again_and_the_old_addresses_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, gate, asked = Clock(), threading.Event(), []

    def answer(host: str, port: str) -> list[Address]:
        asked.append(host)
        if len(asked) > 1:
            assert gate.wait(10)
        return [target(len(asked))]

    monkeypatch.setattr("vanrouter.net.dial.resolve", answer)
    resolver = Resolver(clock.reactor, "a name", "5")
    answers: list[object] = []
    resolver.ask(answers.append)
    assert clock.until(answers) == [target(1)]
    clock.advance(RESOLVED_FOR_S + 1)
    assert resolver.known() is None
    resolver.ask(answers.append)
    clock.advance(0.1)
    assert not answers
    clock.advance(0.5)
    assert answers.pop() == [target(1)]
    fresh = Resolver(clock.reactor, "another name", "5")
    fresh.ask(answers.append)
    for _ in range(2 * MAX_QUESTIONS):
        clock.advance(ASK_AGAIN_S + 0.01)
    assert not answers
    assert asked.count("another name") == MAX_QUESTIONS
    gate.set()
    assert clock.until(answers)
    while fresh._questions or resolver._questions:
        clock.reactor.run_once(0.01)
    clock.reactor.close()


def test_a_failing_name_server_does_not_take_away_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = Clock(), []

    def answer(host: str, port: str) -> list[Address]:
        asked.append(host)
        if len(asked) > 1:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [target(5)]

    monkeypatch.setattr("vanrouter.net.dial.resolve", answer)
    resolver = Resolver(clock.reactor, "a name", "5")
    answers: list[object] = []
    for _ in range(2):
        resolver.ask(answers.append)
        assert clock.until(answers) == [target(5)]
        clock.advance(RESOLVED_FOR_S + 1)
    clock.reactor.close()


def test_the_families_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    sixes = [(f"fd00::{number}", 5, 0, 0) for number in range(1, 5)]
    found = [(socket.AF_INET6, 0, 0, "", address) for address in sixes]
    found += [(socket.AF_INET, 0, 0, "", ("192.0.2.1", 5))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_args, **_options: found)
    order = [each.address[0] for each in resolve("a name", "5")]
    assert order == ["fd00::1", "192.0.2.1", "fd00::2", "fd00::3", "fd00::4"]
