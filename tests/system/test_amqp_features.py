"""What the router answers to clients that ask for features of AMQP: each row of docs/amqp-features.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from proton import Delivery, Described, Link, Message, Receiver, Sender, Terminus, symbol, ubyte, uint, ulong
from proton.reactor import LinkOption, Selector
from proton.utils import BlockingConnection, ConnectionClosed, LinkDetached, SendException

from tests.system.frames import AMQP, TLS, RawPeer, composite, message
from tests.system.harness import Router

TIMEOUT_S = 20
DOCUMENT = Path(__file__).parents[2] / "docs" / "amqp-features.md"


class Asks(LinkOption):
    """Changes a link before it is opened."""

    def __init__(self, change: Callable[[Link], object]) -> None:
        self._change = change

    def apply(self, link: Link) -> None:
        self._change(link)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    listener = ("listener", {"name": "amqp", "host": "127.0.0.1", "port": 0})
    router = Router("R", [listener], tmp_path_factory.mktemp("features"), mode="standalone")
    try:
        router.wait_for("Operational")
        port = router.wait_for(r"Listening on 127\.0\.0\.1:(\d+)")[1]
        yield f"amqp://127.0.0.1:{port}"
        assert router.terminate() == 0
    finally:
        router.kill()


@pytest.fixture
def raw(url: str) -> Iterator[RawPeer]:
    """A peer of which every field is written here."""
    with RawPeer(int(url.rpartition(":")[2])) as made:
        made.open()
        made.begin()
        yield made


@pytest.fixture
def connection(url: str) -> Iterator[BlockingConnection]:
    made = BlockingConnection(url, timeout=TIMEOUT_S)
    yield made
    made.close()


def receiver(connection: BlockingConnection, change: Callable[[Receiver], object], address: str = "a") -> Receiver:
    return connection.create_receiver(address, credit=1, options=[Asks(change)]).link


def sender(connection: BlockingConnection, change: Callable[[Sender], object], address: str | None = "a") -> Sender:
    return connection.create_sender(address, options=[Asks(change)]).link


def post(connection: BlockingConnection, address: str | None, message: Message) -> Delivery:
    """Send, and do not wait for the outcome: it may come from this thread."""
    link = connection.create_sender(address).link
    connection.wait(lambda: link.credit > 0)
    return link.send(message)


def test_each_row_has_its_test() -> None:
    named = re.findall(r"`(test_\w+)` \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert len(named) > 10
    missing = [name for name in named if name not in globals()]
    assert not missing


def test_durable_terminus(connection: BlockingConnection) -> None:
    def ask(link: Link) -> None:
        link.source.durability = Terminus.DELIVERIES

    assert receiver(connection, ask).remote_source.durability == Terminus.DELIVERIES


def test_expiry(connection: BlockingConnection) -> None:
    def ask(link: Link) -> None:
        link.source.expiry_policy = Terminus.EXPIRE_NEVER
        link.source.timeout = 7

    answer = receiver(connection, ask).remote_source
    assert (answer.expiry_policy, answer.timeout) == (Terminus.EXPIRE_NEVER, 7)


def test_filter(connection: BlockingConnection) -> None:
    made = connection.create_receiver("filtered", credit=1, options=[Selector("colour = 'red'")])
    answer = made.link.remote_source.filter
    assert not answer.next()
    post(connection, "filtered", Message(properties={"colour": "blue"}))
    assert made.receive().properties == {"colour": "blue"}
    made.accept()


def test_distribution_mode(connection: BlockingConnection) -> None:
    def ask(link: Link) -> None:
        link.source.distribution_mode = Terminus.DIST_MODE_COPY

    assert receiver(connection, ask).remote_source.distribution_mode == Terminus.DIST_MODE_MOVE


def test_dynamic_source(connection: BlockingConnection) -> None:
    made = connection.create_receiver(None, dynamic=True, credit=1)
    assert made.link.remote_source.dynamic
    post(connection, made.link.remote_source.address, Message(body="here"))
    assert made.receive().body == "here"
    made.accept()


def test_dynamic_target(connection: BlockingConnection) -> None:
    def ask(link: Link) -> None:
        link.target.dynamic = True

    link = sender(connection, ask, None)
    assert link.remote_target.dynamic
    assert link.remote_target.address
    assert link.credit == 0


def test_anonymous_terminus(connection: BlockingConnection) -> None:
    made = connection.create_receiver("to-a", credit=1)
    post(connection, None, Message(address="to-a", body=1))
    assert made.receive().body == 1
    made.accept()
    with pytest.raises(SendException):
        connection.create_sender(None).send(Message(body="nowhere"))
    assert symbol("ANONYMOUS-RELAY") in list(connection.conn.remote_offered_capabilities)


def test_receiver_without_source(connection: BlockingConnection) -> None:
    with pytest.raises(LinkDetached, match="qd:no-route-to-dest"):
        connection.create_receiver(None)


def test_capabilities(connection: BlockingConnection) -> None:
    def ask(link: Link) -> None:
        link.target.capabilities.put_object(symbol("unheard-of"))

    answer = sender(connection, ask).remote_target.capabilities
    answer.rewind()
    assert answer.next()
    assert answer.get_object() == symbol("unheard-of")


def test_settled_mode(connection: BlockingConnection) -> None:
    def ask(link: Link) -> None:
        link.snd_settle_mode = Link.SND_SETTLED

    assert sender(connection, ask).remote_snd_settle_mode == Link.SND_SETTLED


def test_receiver_settle_mode(connection: BlockingConnection) -> None:
    def ask(link: Link) -> None:
        link.rcv_settle_mode = Link.RCV_SECOND

    assert sender(connection, ask).remote_rcv_settle_mode == Link.RCV_FIRST


def test_transactions(connection: BlockingConnection) -> None:
    def ask(link: Link) -> None:
        link.target.type = Terminus.COORDINATOR

    with pytest.raises(LinkDetached, match="amqp:not-implemented"):
        sender(connection, ask, None)


def test_detach_without_close(url: str) -> None:
    connection = BlockingConnection(url, timeout=TIMEOUT_S)
    made = connection.create_sender("a")
    with pytest.raises(ConnectionClosed, match="Link detach/reattach not supported"):
        made.link.detach()
        connection.wait(lambda: False)


def test_delivery_resumption(url: str) -> None:
    first, second = (BlockingConnection(url, timeout=TIMEOUT_S) for _ in range(2))
    made = first.create_receiver("resumed", credit=1)
    delivery = post(second, "resumed", Message(body="kept by nobody"))
    second.wait(lambda: not second.conn.transport.pending())
    made.receive()
    made.close()
    second.wait(lambda: delivery.settled)
    assert delivery.remote_state == Delivery.MODIFIED
    assert delivery.remote.failed
    again = first.create_receiver("resumed", credit=1, name=made.link.name)
    assert not again.link.queued
    first.close()
    second.close()


def test_sections_pass(connection: BlockingConnection) -> None:
    made = connection.create_receiver("whole", credit=1)
    sent = Message(body="b", ttl=1.5, priority=7, durable=True, annotations={symbol("x-a"): 1})
    sent.instructions = {symbol("x-i"): 2}
    post(connection, "whole", sent)
    got = made.receive()
    made.accept()
    assert (got.ttl, got.priority, got.durable, got.annotations) == (1.5, 7, True, {symbol("x-a"): 1})
    assert got.instructions == {symbol("x-i"): 2}


LIFETIME = {symbol("lifetime-policy"): Described(ulong(0x2B), [])}


def test_outcomes(raw: RawPeer) -> None:
    asked = {"outcomes": [symbol("amqp:accepted:list")], "default_outcome": composite("released")}
    source = raw.attach_receiver("r", 0, "outcomes", **asked)["source"]
    assert source["outcomes"] == ["amqp:accepted:list"]
    assert "default-outcome" not in source


def test_lifetime_policy(raw: RawPeer) -> None:
    source = raw.attach_receiver("r", 0, None, dynamic=True, dynamic_node_properties=LIFETIME)["source"]
    assert source["dynamic-node-properties"] == LIFETIME
    assert source["dynamic"] is True


def test_link_properties(raw: RawPeer) -> None:
    asked = {
        "offered_capabilities": [symbol("x")],
        "desired_capabilities": [symbol("y")],
        "properties": {symbol("z"): 1},
    }
    answer = attached(raw, **asked)
    assert not answer.keys() & {name.replace("_", "-") for name in asked}


def attached(raw: RawPeer, **more: object) -> dict[str, object]:
    """The answer to a receiver's attach."""
    termini = {"source": composite("source", address="raw"), "target": composite("target")}
    raw.say("attach", name="r", handle=uint(0), role=True, **termini, **more)
    return raw.hear_kind("attach")


def test_max_message_size(raw: RawPeer) -> None:
    assert attached(raw, max_message_size=ulong(10))["max-message-size"] == 0
    raw.flow(0, 1)
    raw.attach_sender("s", 1, "raw")
    raw.hear_kind("flow")
    raw.transfer(1, 0, message("more than ten octets"))
    assert raw.hear_kind("transfer")["payload"] == message("more than ten octets")


@pytest.mark.parametrize("mode", [0, 2])
def test_other_settle_modes(raw: RawPeer, mode: int) -> None:
    assert attached(raw, snd_settle_mode=ubyte(mode))["snd-settle-mode"] == mode
    raw.flow(0, 1)
    raw.attach_sender("s", 1, "raw")
    raw.hear_kind("flow")
    raw.transfer(1, 0, message(), settled=True)
    heard = {found["kind"]: found for found in (raw.next_frame(), raw.next_frame())}
    assert heard["transfer"]["settled"] is True


def test_a_name_twice(raw: RawPeer) -> None:
    attached(raw)
    raw.say("attach", name="r", handle=uint(5), role=True, source=composite("source", address="b"))
    error = raw.hear_kind("close")["error"]
    assert (error["condition"], error["description"]) == ("amqp:invalid-field", "link name already attached: r")


def test_message_format(raw: RawPeer) -> None:
    assert pass_on(raw, message_format=uint(0x1234500))["message-format"] == 0


def pass_on(raw: RawPeer, **more: object) -> dict[str, object]:
    """What becomes of a transfer with such fields."""
    attached(raw)
    raw.flow(0, 1)
    raw.attach_sender("s", 1, "raw")
    raw.hear_kind("flow")
    raw.transfer(1, 0, message(), **more)
    found = raw.hear_kind("transfer")
    assert found["payload"] == message()
    return found


def test_state_of_a_transfer(raw: RawPeer) -> None:
    state = Described(ulong(0x34), [b"transaction", composite("accepted")])
    assert "state" not in pass_on(raw, state=state)


def test_echo(raw: RawPeer) -> None:
    attached(raw)
    raw.flow(0, 1, echo=True)
    raw.say("detach", handle=uint(0), closed=True)
    assert raw.next_frame()["kind"] == "detach"


def test_drain(raw: RawPeer) -> None:
    attached(raw)
    raw.flow(0, 7, drain=True)
    found = raw.hear_kind("flow")
    assert (found["link-credit"], found["delivery-count"], found["drain"]) == (0, 7, True)


def test_tls_inside_amqp(url: str) -> None:
    with RawPeer(int(url.rpartition(":")[2])) as peer:
        peer.write(TLS)
        assert peer.read(8) == AMQP
        peer.hear_the_end()
