"""vhost policies on a running router: who gets in, which links, which messages; changed while it runs."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from proton import Message
from proton.utils import BlockingConnection, ConnectionClosed, LinkDetached, SendException, SyncRequestResponse

from tests.system.harness import Router, Section

TIMEOUT_S = 20
GROUP = {
    "remoteHosts": "127.0.0.1, ::1",
    "sources": "work.*, $management",
    "targets": "work.*, mine-${user}, $management",
    "allowDynamicSource": True,
    "allowAnonymousSender": True,
    "maxSenders": 3,
    "maxReceivers": 2,
    "maxMessageSize": 2000,
}


def vhost(name: str, **more: object) -> list[object]:
    return ["vhost", {"hostname": name, "groups": {"$default": GROUP}, "allowUnknownUser": True, **more}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("policies")
    (made / "one.json").write_text("# a comment\n" + json.dumps([vhost("open"), vhost("few", maxConnections=1)]))
    (made / "two.json").write_text(json.dumps([vhost("other-file")]))
    return made


@pytest.fixture(scope="module")
def router(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    sections: list[Section] = [
        ("policy", {"enableVhostPolicy": True, "policyDir": folder, "maxConnections": 20}),
        ("listener", {"name": "amqp", "host": "127.0.0.1", "port": 0}),
    ]
    made = Router("R", sections, tmp_path_factory.mktemp("policy"), mode="standalone")
    try:
        made.wait_for("Operational")
        yield made
        assert made.terminate() == 0
    finally:
        made.kill()


@pytest.fixture(scope="module")
def url(router: Router) -> str:
    return f"amqp://127.0.0.1:{router.wait_for(r'Listening on 127[.]0[.]0[.]1:([0-9]+)')[1]}"


def connect(url: str, name: str) -> BlockingConnection:
    return BlockingConnection(url, timeout=TIMEOUT_S, virtual_host=name)


@pytest.fixture
def connection(url: str) -> Iterator[BlockingConnection]:
    made = connect(url, "open")
    yield made
    made.close()


@pytest.mark.parametrize("name", ["open", "other-file"])
def test_let_in(url: str, name: str) -> None:
    connect(url, name).close()


def test_refused(url: str, router: Router) -> None:
    mark = router.mark()
    with pytest.raises(ConnectionClosed, match="connection disallowed by local policy"):
        connect(url, "unknown").create_receiver("work.1")
    router.wait_for("DENY AMQP Open for user 'anonymous', rhost '127.0.0.1', vhost 'unknown': No policy", after=mark)


def test_no_more_than_allowed(url: str) -> None:
    first = connect(url, "few")
    with pytest.raises(ConnectionClosed, match="amqp:resource-limit-exceeded"):
        connect(url, "few").create_receiver("work.1")
    first.close()


def test_addresses(connection: BlockingConnection) -> None:
    connection.create_receiver("work.1")
    connection.create_sender("mine-anonymous")
    with pytest.raises(LinkDetached, match="amqp:unauthorized-access"):
        connection.create_receiver("other")
    with pytest.raises(LinkDetached, match="link disallowed by local policy"):
        connection.create_sender("mine-joe")


def test_counts_of_links(connection: BlockingConnection) -> None:
    for number in range(3):
        connection.create_sender(f"work.{number}")
    with pytest.raises(LinkDetached, match="amqp:resource-limit-exceeded"):
        connection.create_sender("work.4")


def test_messages_on_an_anonymous_link(connection: BlockingConnection) -> None:
    receiver = connection.create_receiver("work.anonymous", credit=1)
    sender = connection.create_sender(None)
    with pytest.raises(SendException):
        sender.send(Message(address="other"))
    sender.link.send(Message(address="work.anonymous", body="in"))
    assert receiver.receive().body == "in"
    receiver.accept()


def test_the_user_of_another(connection: BlockingConnection) -> None:
    connection.create_receiver("work.user", credit=2)
    sender = connection.create_sender("work.user")
    connection.wait(lambda: sender.link.credit > 0)
    with pytest.raises(SendException):
        sender.send(Message(user_id=b"joe"))


def test_size(url: str, router: Router) -> None:
    connection = connect(url, "open")
    receiver = connection.create_receiver("work.size", credit=2)
    sender = connection.create_sender("work.size")
    assert sender.link.remote_max_message_size == GROUP["maxMessageSize"]
    connection.wait(lambda: sender.link.credit > 0)
    sender.link.send(Message(body="x" * 1000))
    assert len(receiver.receive().body) == 1000
    receiver.accept()
    mark = router.mark()
    with pytest.raises((ConnectionClosed, LinkDetached)):
        sender.link.send(Message(body="x" * 3000))
        connection.wait(lambda: False)
    router.wait_for("DENY AMQP Transfer maxMessageSize exceeded", after=mark)


def test_rules_changed_by_management(url: str) -> None:
    """What is in progress goes on; who comes next meets the new rules."""
    before = connect(url, "open")
    before.create_receiver("work.before")
    ops = connect(url, "open")
    client = SyncRequestResponse(ops, "$management")

    def ask(operation: str, body: object, status: int) -> None:
        request = Message(properties={"operation": operation, "type": "vhost", "name": "made"}, body=body)
        assert client.call(request).properties["statusCode"] == status

    ask("CREATE", {"hostname": "made", "groups": {"$default": GROUP}, "allowUnknownUser": True}, 201)
    connect(url, "made").close()
    ask("UPDATE", {"groups": {"$default": {**GROUP, "sources": "other.*"}}}, 200)
    connection = connect(url, "made")
    connection.create_receiver("other.1")
    with pytest.raises(LinkDetached, match="amqp:unauthorized-access"):
        connection.create_receiver("work.1")
    connection.close()
    ask("DELETE", None, 204)
    ops.close()
    with pytest.raises(ConnectionClosed, match="connection disallowed by local policy"):
        connect(url, "made").create_receiver("other.1")
    before.create_receiver("work.still")
    before.close()


def test_rules_changed_in_their_folder(url: str, folder: Path, router: Router) -> None:
    """Read again with the configuration: changed, new and deleted files."""
    (folder / "three.json").write_text(json.dumps([vhost("late", maxConnections=1)]))
    (folder / "two.json").unlink()
    mark = router.mark()
    router.process.send_signal(signal.SIGHUP)
    router.wait_for(r"Configuration reloaded: 1 created, 0 updated, 1 deleted", after=mark)
    only = connect(url, "late")
    with pytest.raises(ConnectionClosed, match="amqp:resource-limit-exceeded"):
        connect(url, "late").create_receiver("work.1")
    (folder / "three.json").write_text(json.dumps([vhost("late", maxConnections=2)]))
    mark = router.mark()
    router.process.send_signal(signal.SIGHUP)
    router.wait_for(r"Configuration reloaded: 0 created, 1 updated, 0 deleted", after=mark)
    connect(url, "late").close()
    only.close()
    with pytest.raises(ConnectionClosed, match="connection disallowed by local policy"):
        connect(url, "other-file").create_receiver("work.1")
