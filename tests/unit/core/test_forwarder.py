"""Choice of the way, credit, unroutable messages, resend-released, broken input (router protocol, section 7)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.engines import ACCEPTED, MODIFIED, RECEIVED, REJECTED, RELEASED, World, message
from vanrouter.core.peer import Role
from vanrouter.core.table import AddressRule, Treatment
from vanrouter.engine import proton
from vanrouter.engine.annotations import DESCRIPTOR, Annotations, originated
from vanrouter.engine.sections import Described, ULong, encode

BIG = b"x" * 100_000
HUGE = b"y" * 600_000


# Credit (section 7.8).


def test_no_credit_before_there_is_a_consumer(world: World) -> None:
    router = world.router()
    tx = world.client(router).sender("a")
    assert tx.credit == 0
    rx = world.client(router).receiver("a")
    world.settle()
    assert tx.credit == 250
    rx.detach()
    assert tx.credit == 250  # what was given is not taken back


def test_credit_comes_with_a_consumer_elsewhere(world: World) -> None:
    near, far = world.chain("A", "B")
    tx = world.client(near).sender("a")
    world.advance(5)
    assert tx.credit == 0
    world.client(far).receiver("a")
    world.until(lambda: tx.credit == 250)


def test_the_capacity_of_the_listener_is_the_credit(world: World) -> None:
    router = world.router()
    world.client(router).receiver("a")
    client = world.client(router, link_capacity=7)
    assert client.sender("a").credit == 7
    assert client.sender(None).credit == 7


@pytest.mark.parametrize("address", ["a", None])
@pytest.mark.parametrize("content", [message("a"), message("a", "x" * 100_000)], ids=["small", "big"])
def test_credit_comes_back_at_settlement(world: World, address: str | None, content: bytes) -> None:
    router = world.router()
    rx = world.client(router).receiver("a", credit=1000)
    tx = world.client(router).sender(address)
    for _ in range(250):
        tx.send(content)
    world.settle()
    world.check()
    assert tx.credit == 0
    for got in rx.got[:100]:
        got.accept()
    world.settle()
    world.check()
    assert tx.credit == 100
    for _ in range(100):
        tx.send(content, settled=True)
    world.settle()
    world.check()
    assert tx.credit == 100
    assert len(rx.contents) == 350


def test_data_links_give_credit_back_at_once(world: World) -> None:
    near, far = world.chain("A", "B")
    rx = world.client(far).receiver("a", credit=1000)
    senders = [world.client(near).sender(None) for _ in range(3)]
    sent = [tx.send(message("a", size)) for tx in senders for size in range(250)]
    world.settle()
    world.check()
    assert len(rx.contents) == 750
    for got in rx.got:
        got.accept()
    world.settle()
    assert all(one.state == ACCEPTED for one in sent)


def test_data_links_give_credit_back_at_once_for_large_messages_too(world: World) -> None:
    """A consumer that settles nothing must not starve the link that all others use."""
    near, far = world.chain("A", "B")
    rx = world.client(far).receiver("a", credit=1000)
    for _ in range(3):
        tx = world.client(near).sender(None)
        for _ in range(250):
            tx.send(message("a", "x" * 70_000))
        world.settle()
    world.check()
    assert len(rx.contents) == 750
    other = world.client(far).receiver("b", auto=ACCEPTED)
    sent = world.client(near).sender(None).send(message("b"))
    world.advance(1)
    sent = world.client(near).sender(None).send(message("b"))
    world.settle()
    assert sent.state == ACCEPTED
    assert other.contents


def test_drain_by_the_consumer(world: World) -> None:
    router = world.router()
    rx = world.client(router).receiver("a", credit=10)
    tx = world.client(router).sender("a")
    tx.send(b"1")
    world.settle()
    rx.drain()
    world.settle()
    world.check()
    assert rx.credit_left == 0
    tx.send(b"2")
    world.settle()
    world.check()
    assert rx.contents == [b"1"]
    proton.link_set_drain(rx.pn, False)
    rx.credit(5)
    world.settle()
    world.check()
    assert rx.contents == [b"1", b"2"]


def test_drain_sends_what_waits_first(world: World) -> None:
    router = world.router()
    rx = world.client(router).receiver("a", credit=0)
    tx = world.client(router).sender("a")
    for number in range(5):
        tx.send(b"%d" % number)
    world.settle()
    rx.credit(20)
    rx.drain()
    world.settle()
    world.check()
    assert len(rx.contents) == 5
    assert rx.credit_left == 0


def test_drain_is_answered_when_the_window_has_opened(world: World) -> None:
    """The window of four frames shuts with the last of what waited, or in its middle: the engine knows of no more."""
    router = world.router()
    for number in range(3, 10):
        client = world.client(router)
        rx = client.receiver("a", credit=0, session=client.session(1 << 16))
        tx = world.client(router).sender("a")
        for _ in range(number):
            tx.send(b"x", settled=True)
        world.settle()
        rx.credit(20)
        rx.drain()
        world.settle()
        world.check()
        assert len(rx.contents) == number
        assert rx.credit_left == 0
        rx.detach()
        tx.detach()
        world.settle()


def test_drain_during_a_stream_is_answered_at_its_end(world: World) -> None:
    router = world.router()
    rx = world.client(router).receiver("a", credit=10)
    tx = world.client(router).sender("a", capabilities=("qd.streaming-deliveries",))
    half = tx.begin()
    half.write(message(body="x") * 1000)
    world.settle()
    rx.drain()
    world.settle()
    half.end()
    world.settle()
    assert rx.got[0].is_complete
    assert rx.credit_left == 0


# Nowhere to go (section 7.7).


def test_withheld_and_given_again(world: World) -> None:
    router = world.router()
    client = world.client(router)
    rx = client.receiver("a", auto=ACCEPTED)
    tx = world.client(router).sender("a")
    rx.detach()
    sent = tx.send(b"1")
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (RELEASED, True)
    assert tx.credit == 0
    assert tx.drained == 249
    rx = client.receiver("a", auto=ACCEPTED)
    world.settle()
    world.check()
    assert tx.credit == 250
    sent = tx.send(b"2")
    world.settle()
    assert sent.state == ACCEPTED
    assert rx.contents == [b"2"]


def test_given_again_before_the_drain_was_answered(world: World) -> None:
    router = world.router()
    client = world.client(router)
    rx = client.receiver("a", auto=ACCEPTED)
    producer = world.client(router)
    tx = producer.sender("a")
    rx.detach()
    tx.answers_drain = False
    tx.send(b"1")
    world.settle()
    assert tx.credit == 249
    client.receiver("a", auto=ACCEPTED)
    world.settle()
    world.check()
    assert tx.credit == 250


def test_a_late_answer_to_a_drain_loses_no_credit(world: World) -> None:
    router = world.router()
    client = world.client(router)
    rx = client.receiver("a", auto=ACCEPTED)
    producer = world.client(router)
    tx = producer.sender("a")
    rx.detach()
    tx.send(b"1")
    producer.engine.flush()
    world.reactor.unregister(producer.engine.fd)
    world.settle()  # the drain is on its way
    world.reactor.register(producer.engine.fd, producer.engine.on_ready, 1)
    world.reactor.unregister(producer.there.engine.fd)
    world.settle()  # its answer is on its way
    rx = client.receiver("a", auto=ACCEPTED)
    world.reactor.register(producer.there.engine.fd, producer.there.engine.on_ready, 1)
    world.settle()
    world.check()
    assert tx.credit == 250


@pytest.mark.parametrize("size", [1, 100_000, 600_000])
def test_a_temporary_address_that_is_gone(world: World, size: int) -> None:
    near, far = world.chain("A", "B")
    client = world.client(far)
    rx = client.receiver(dynamic=True)
    to = rx.address
    assert to is not None
    tx = world.client(near).sender(None)
    sent = tx.send(message(to, "x" * size))
    world.settle()
    rx.got[0].accept()
    world.settle()
    assert sent.state == ACCEPTED
    rx.detach()
    sent = tx.send(message(to, "x" * size))
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (RELEASED, True)


def test_no_address_at_all(world: World) -> None:
    tx = world.client(world.router()).sender(None)
    for content in (message(), b"", b"garbage that is no section", message(body="x" * 300_000)):
        sent = tx.send(content)
        world.settle()
        world.check()
        assert (sent.state, sent.is_settled) == (REJECTED, True)
        assert sent.error is not None
        assert sent.error[0] in ("amqp:precondition-failed", "amqp:decode-error")
    assert tx.credit == 250


# Broken input never ends more than the delivery.

BROKEN = [
    b"\x00\x53\x70\x45",
    b"\x00\x53\x70\xff\xff\xff\xff",
    b"\x00\x53\x70\xc0\x05",
    b"\x00\x53\x73\xc0\x03\x03\x40\x40\xa1",
    b"\x00\x53\x73\xc0\x7f\x03\x40\x40\xa1\x05a",
    b"\x00\x53\x73\xa1\x01a",
    b"\x00\x53\x73\xc0\x04\x03\x40\x40\xa1",
    b"\x00\x80SKPR--RA\x45",
    b"\x00\x80SKPR--RA\xa1\x01a",
    b"\x00\x80SKPR--RA\xc0\x03\x02\x43\x40",
    b"\x00\x80SKPR--RA\xd0\xff\xff\xff\xff\x00\x00\x00\x04",
    b"\x00\x80SKPR--R",
    b"\x00\x53",
    b"\x00",
]


@pytest.mark.parametrize("padding", [0, 20_000, 300_000])
@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_broken_messages_of_clients(world: World, content: bytes, padding: int) -> None:
    near, far = world.chain("A", "B")
    world.client(far).receiver("far", auto=RELEASED)
    world.client(near).receiver("near", auto=RELEASED)
    client = world.client(near)
    links = [client.sender(address) for address in (None, "far", "near")]
    world.until(lambda: links[1].credit == 250)
    for link in links:
        sent = link.send(content + bytes(padding))
        world.settle()
        world.check()
        assert sent.is_settled
        assert link.credit == 250
    assert not client.is_lost


@pytest.mark.parametrize("padding", [0, 20_000, 300_000])
@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_broken_messages_of_routers(world: World, content: bytes, padding: int) -> None:
    router = world.interior("A")
    peer = world.client(router, role=Role.INTER_ROUTER)
    control = peer.receiver(capabilities=("qd.router",)), peer.sender(capabilities=("qd.router",))
    data = peer.sender(capabilities=("qd.router-data",))
    stream = peer.sender()
    for link in (control[1], data, stream):
        sent = link.send(content + bytes(padding))
        world.settle()
        world.check()
        assert sent.is_settled
        assert link.credit == 250
    assert not peer.is_lost


def annotated(content: bytes, fields: Any) -> bytes:
    return encode(Described(ULong(0x534B50522D2D5241), fields)) + content


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (None, "Invalid router annotations section: non-list type"),
        ([0, None, None], "Invalid router annotations section: wrong list count"),
        ([0, 5, None, []], "Invalid router to-override annotation: wrong type"),
        ([0, None, 5, []], "Invalid router ingress annotation: wrong type"),
        ([0, None, None, [5]], "Invalid router trace annotation"),
        ([0, None, None, [], None], "Invalid ingress-mesh annotation: wrong type"),
    ],
)
@pytest.mark.parametrize("size", [1, 300_000])
def test_malformed_annotations(world: World, fields: Any, text: str, size: int) -> None:
    assert annotated(b"", fields).startswith(DESCRIPTOR)
    router = world.router()
    peer = world.client(router, role=Role.EDGE)
    tx = peer.sender()
    sent = tx.send(annotated(message("a", "x" * size), fields))
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (REJECTED, True)
    assert sent.error is not None
    assert sent.error[0] == "amqp:invalid-field"
    assert sent.error[1].startswith(text)


def test_a_trace_beyond_the_radius(world: World) -> None:
    near, _far = world.chain("A", "B")
    world.client(near).receiver("a", auto=ACCEPTED)
    peer = world.client(near, role=Role.INTER_ROUTER, container="X")
    _control = peer.receiver(capabilities=("qd.router",)), peer.sender(capabilities=("qd.router",))
    tx = peer.sender(capabilities=("qd.router-data",))
    for entries, state in ((2, ACCEPTED), (3, RELEASED)):
        fields = [0, "a", "0/B", [f"0/{number}" for number in range(entries)]]
        for size in (1, 300_000):
            sent = tx.send(annotated(message("a", "x" * size), fields))
            world.settle()
            assert (entries, sent.state, sent.is_settled) == (entries, state, True)
    world.check()


# The queue of a consumer without credit.


def test_presettled_deliveries_have_a_bound(world: World) -> None:
    """All but the first are dropped when the queue has grown to the capacity (section 2.3)."""
    router = world.router()
    rx = world.client(router, link_capacity=10).receiver("a", credit=0)
    tx = world.client(router).sender("a")
    for number in range(25):
        tx.send(b"%d" % number, settled=True)
    world.settle()
    world.check()
    link = rx.here
    assert len(link.queue) <= 10
    rx.credit(100)
    world.settle()
    assert rx.contents[0] == b"0"
    assert rx.contents[-1] == b"24"
    assert len(rx.contents) + link.dropped_presettled == 25


def test_unsettled_deliveries_are_never_dropped(world: World) -> None:
    router = world.router()
    rx = world.client(router, link_capacity=10).receiver("a", credit=0)
    clients = [world.client(router) for _ in range(3)]
    sent = [client.sender("a").send(b"u") for client in clients for _ in range(10)]
    tx = clients[0].sender("a")
    for _ in range(30):
        tx.send(b"p", settled=True)
    world.settle()
    rx.credit(100)
    world.settle()
    assert rx.contents.count(b"u") == 30
    assert rx.contents.count(b"p") < 30
    for got in list(rx.got):
        got.accept()
    world.settle()
    assert all(one.state == ACCEPTED for one in sent)


# Presettled messages on their way to another router.


def held_up(world: World) -> tuple[Any, Any, Any, Any]:
    """Two routers, the far one of which reads nothing; more messages are under way than the link takes."""
    near, far = world.chain("A", "B")
    rx = world.client(far).receiver("a", credit=100_000)
    world.advance(5)
    producers = [world.client(near).sender("a") for _ in range(3)]
    there = next(connection for connection in far.amqp_connections.values() if connection.is_router)
    world.reactor.unregister(there.engine.fd)
    for tx in producers:
        for _ in range(tx.credit):
            tx.send(b"p", settled=True)
    world.settle()
    world.check()
    here = next(connection for connection in near.amqp_connections.values() if connection.is_router)
    return rx, producers, here, there


def test_presettled_producers_go_at_the_pace_of_the_link_to_another_router(world: World) -> None:
    """Credit that came back at once would fetch more messages, only to be dropped: most of them with 20 producers."""
    near, far = world.chain("A", "B")
    rx = world.client(far).receiver("a", credit=100_000)
    world.advance(5)
    producers = [world.client(near).sender("a") for _ in range(20)]
    sent = 0
    for _ in range(4):
        for tx in producers:
            assert tx.credit == 250
            for _ in range(250):
                tx.send(b"%d" % sent, settled=True)
                sent += 1
        world.settle()
        world.check()
    assert sent == 20_000
    assert len(rx.contents) == sent


def test_credit_of_presettled_messages_comes_back_when_they_go_out(world: World) -> None:
    rx, producers, here, there = held_up(world)
    assert sum(tx.credit for tx in producers) == 250
    assert len(here.data_sender(4).queue) == 500
    world.reactor.register(there.engine.fd, there.engine.on_ready, 1)
    world.settle()
    world.check()
    assert [tx.credit for tx in producers] == [250] * 3
    assert len(rx.contents) == 750


def test_a_producer_leaves_while_its_presettled_messages_wait(world: World) -> None:
    rx, producers, _, there = held_up(world)
    for tx in producers:
        tx.detach()
    world.reactor.register(there.engine.fd, there.engine.on_ready, 1)
    world.settle()
    world.check()
    assert len(rx.contents) == 750


def test_the_other_router_is_lost_while_presettled_messages_wait(world: World) -> None:
    _, producers, here, _ = held_up(world)
    here.engine.drop(None)
    world.settle()
    world.check()
    assert [tx.credit for tx in producers] == [250] * 3


def test_credit_is_given_again_while_presettled_messages_wait(world: World) -> None:
    """The consumer goes, the producer is drained, and another one comes before the messages have gone out."""
    rx, producers, _, there = held_up(world)
    tx = producers[2]
    link = next(receiver for receiver in tx.client.there.receivers.values())
    assert link.held == 250
    tx.client.there.drain(link)
    world.settle()
    tx.client.there.give_initial_credit(link)
    world.settle()
    world.check()
    world.reactor.register(there.engine.fd, there.engine.on_ready, 1)
    world.settle()
    world.check()
    assert tx.credit == 250
    assert len(rx.contents) == 750


def test_presettled_messages_of_another_router_have_a_bound(world: World) -> None:
    """Their credit went back at once: those that wait are dropped, those of producers here are not."""
    left, near, far = world.chain("L", "A", "B")
    rx = world.client(far).receiver("a", credit=100_000)
    world.advance(5)
    tx, own = world.client(left).sender("a"), world.client(near).sender("a")
    here = next(
        connection
        for connection in near.amqp_connections.values()
        if connection.is_router and near.nodes["B"].connection is connection
    )
    there = next(connection for connection in far.amqp_connections.values() if connection.is_router)
    world.reactor.unregister(there.engine.fd)
    for _ in range(250):
        own.send(b"own", settled=True)
    world.settle()
    for _ in range(250):
        own.send(b"own", settled=True)
    world.settle()
    assert own.credit == 0
    sent = 0
    for _ in range(4):
        while tx.credit:
            tx.send(b"passes", settled=True)
            sent += 1
        world.settle()
    world.check()
    link = here.data_sender(4)
    assert sent == 1000
    assert len(link.queue) <= 500
    world.reactor.register(there.engine.fd, there.engine.on_ready, 1)
    world.settle()
    world.check()
    assert rx.contents.count(b"own") == 500
    assert rx.contents.count(b"passes") == sent - link.dropped_presettled
    assert link.dropped_presettled >= 500


# Resend-released (section 7.6).


def resending(world: World, router: Any) -> Any:
    return world.client(router).sender("a", capabilities=("qd.resend-released",))


def test_a_released_delivery_is_tried_elsewhere(world: World) -> None:
    router = world.router()
    first, second = (world.client(router).receiver("a", auto=RELEASED) for _ in range(2))
    tx = resending(world, router)
    sent = tx.send(message(body="x"))
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (RELEASED, True)
    assert len(first.contents) == len(second.contents) == 1
    second.auto = ACCEPTED
    sent = tx.send(message(body="y"))
    world.settle()
    world.check()
    assert sent.state == ACCEPTED


def test_a_released_delivery_is_tried_at_other_routers(world: World) -> None:
    near, middle, far = world.chain("A", "B", "C")
    world.client(near).receiver("a", auto=RELEASED)
    world.client(middle).receiver("a", auto=RELEASED)
    rx = world.client(far).receiver("a", auto=ACCEPTED)
    tx = resending(world, near)
    world.advance(5)
    for number in range(20):
        sent = tx.send(message(body=number))
        world.settle()
        world.check()
        assert sent.state == ACCEPTED
    assert len(rx.contents) == 20


def test_two_routers_release_and_the_search_ends(world: World) -> None:
    near, far = world.chain("A", "B")
    one, two = world.client(near).receiver("a", auto=RELEASED), world.client(far).receiver("a", auto=RELEASED)
    tx = resending(world, near)
    world.advance(5)
    sent = tx.send(message(body="x"))
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (RELEASED, True)
    assert len(one.contents) == len(two.contents) == 1
    assert tx.credit == 250


BROKEN_HEADER = b"\x00\x53\x70\xc0\x03\x01\xa1\x00\x00\x53\x77\xa1\x01x"
"""Its first field is no boolean; a consumer on the same router gets it as it is."""


def test_a_broken_message_that_is_released_goes_nowhere_else(world: World) -> None:
    near, far = world.chain("A", "B")
    taken = world.client(near).receiver("a")
    world.client(far).receiver("a", auto=ACCEPTED)
    world.until(lambda: near.table.get("Ma").remotes)
    sent = resending(world, near).send(BROKEN_HEADER)
    world.settle()
    taken.got[0].settle(RELEASED)
    world.settle()
    assert (sent.state, sent.is_settled) == (RELEASED, True)
    assert not taken.client.is_lost


def test_a_broken_multicast_with_an_outcome_is_rejected(world: World) -> None:
    near, far = world.chain("A", "B")
    for router in (near, far):
        router.table.rules.add(AddressRule(pattern="m", treatment=Treatment.MULTICAST))
        world.client(router).receiver("m", auto=ACCEPTED)
    world.until(lambda: near.table.get("Mm").remotes)
    sent = world.client(near).sender("m").begin()
    proton.delivery_update(sent.pn, ACCEPTED)
    sent.write(BROKEN_HEADER)
    sent.end()
    world.settle()
    assert (sent.state, sent.is_settled) == (REJECTED, True)


@pytest.mark.parametrize("state", [RECEIVED, MODIFIED, REJECTED])
def test_any_other_word_ends_the_search(world: World, state: int) -> None:
    router = world.router()
    links = [world.client(router).receiver("a") for _ in range(2)]
    sent = resending(world, router).send(message(body="x"))
    world.settle()
    got = next(link.got[0] for link in links if link.got)
    got.update(state)
    world.settle()
    got.settle(RELEASED)
    world.settle()
    world.check()
    assert (sent.state, sent.is_settled) == (RELEASED, True)
    assert sum(len(link.got) for link in links) == 1


def test_a_consumer_that_is_lost_may_have_had_it(world: World) -> None:
    """Sent and lost is modified, not released: it is not sent to somebody else (section 7.5)."""
    router = world.router()
    links = [world.client(router).receiver("a") for _ in range(2)]
    sent = resending(world, router).send(message(body="x"))
    world.settle()
    next(link for link in links if link.got).detach()
    world.check()
    assert (sent.state, sent.is_settled) == (MODIFIED, True)
    assert sum(len(link.got) for link in links) == 1


def test_what_waits_for_a_lost_consumer_goes_to_another(world: World) -> None:
    router = world.router()
    slow = world.client(router).receiver("a", credit=0)
    sent = resending(world, router).send(message(body="x"))
    world.settle()
    rx = world.client(router).receiver("a", auto=ACCEPTED)
    slow.detach()
    world.check()
    assert sent.state == ACCEPTED
    assert len(rx.contents) == 1


# What messages carry (section 4.4).


def test_annotations_between_routers(world: World) -> None:
    router = world.router()
    peer = world.client(router, role=Role.EDGE, container="E")
    rx = peer.receiver("a", auto=ACCEPTED)
    world.client(router).sender("a").send(message(body="x"))
    world.settle()
    section = originated(0)
    assert isinstance(section, Annotations)
    content = rx.contents[0]
    assert content.startswith(DESCRIPTOR)
    assert content.endswith(message(body="x"))
    assert b"\xa1\x03" in content
    assert b"0/R" in content


def test_annotations_of_a_client_are_replaced(world: World) -> None:
    router = world.router()
    rx = world.client(router).receiver("a", auto=ACCEPTED)
    client = world.client(router)
    for size in (1, 300_000):
        content = message("a", "x" * size)
        for tx in (client.sender("a"), client.sender(None)):
            tx.send(annotated(content, [0, "other", "0/X", ["0/X"]]))
            world.settle()
        assert rx.contents[-2:] == [content, content]


@pytest.mark.parametrize("strips", ["both", "in", "out", "no"])
@pytest.mark.parametrize("size", [1, 300_000])
def test_which_annotations_a_listener_strips(world: World, strips: str, size: int) -> None:
    """stripAnnotations: coming in they are ignored or obeyed, going out left away or shown."""
    router = world.router()
    plain = world.client(router)
    inside, elsewhere = plain.receiver("a", auto=ACCEPTED), plain.receiver("other", auto=ACCEPTED)
    client = world.client(router, strip_annotations=strips)
    shown = client.receiver("shown", auto=ACCEPTED)
    content = message("a", "x" * size)
    client.sender(None).send(annotated(content, [0, "other", "0/X", ["0/X"]]))
    plain.sender("shown").send(content)
    world.settle()
    world.check()
    assert (inside.contents, elsewhere.contents) == (([content], []) if strips in ("both", "in") else ([], [content]))
    assert shown.contents[0].startswith(DESCRIPTOR) is (strips in ("in", "no"))
    assert shown.contents[0].endswith(content)


# Balanced and closest over links.


def test_balanced_prefers_the_less_loaded(world: World) -> None:
    router = world.router()
    first, second = (world.client(router).receiver("a") for _ in range(2))
    tx = world.client(router).sender("a")
    for _ in range(10):
        tx.send(message())
    world.settle()
    assert len(first.got) == len(second.got) == 5
    for got in second.got[:]:
        got.accept()
    world.settle()
    for _ in range(5):
        tx.send(message())
    world.settle()
    assert (len(first.got), len(second.got)) == (5, 10)


def test_balanced_over_routers(world: World) -> None:
    """One local and one remote consumer, nobody settles: L L R L R L R (section 7.3)."""
    near, far = world.chain("A", "B")
    here = world.client(near).receiver("a")
    there = world.client(far).receiver("a")
    tx = world.client(near).sender("a")
    world.advance(5)
    order = ""
    for _ in range(7):
        before = len(here.got)
        tx.send(message())
        world.settle()
        order += "L" if len(here.got) > before else "R"
    assert order == "LLRLRLR"
    assert len(there.got) == 3
    world.check()


def test_balanced_fills_others_when_those_here_are_busy(world: World) -> None:
    """Slow consumers here get what their capacity and the cost of the way allow; the rest goes where it is answered."""
    near, middle, far = world.chain("A", "B", "C", cost=2)
    slow = [world.client(near, link_capacity=10).receiver("a", credit=1000) for _ in range(2)]
    quick = world.client(far).receiver("a", auto=ACCEPTED, credit=1000)
    halting = world.client(middle).receiver("a", credit=1000)
    tx = world.client(near).sender("a")
    world.advance(5)
    for _ in range(100):
        tx.send(message())
        world.settle()
    world.check()
    # B costs 2, and each of the three that its consumer keeps counts as outstanding towards B: 5. So the two here are
    # taken while their load is at most 5. At B the way to C costs 2: its own consumer is taken while it has at most 2.
    assert [len(link.got) for link in slow] == [6, 6]
    assert len(halting.got) == 3
    assert len(quick.got) == 100 - 12 - 3


def test_closest_prefers_here(world: World) -> None:
    near, far = world.chain("A", "B")
    for router in (near, far):
        router.table.rules.add(AddressRule(pattern="c/#", treatment=Treatment.CLOSEST))
    there = world.client(far).receiver("c/1", auto=ACCEPTED)
    tx = world.client(near).sender("c/1")
    world.until(lambda: tx.credit)
    tx.send(message())
    world.settle()
    assert len(there.got) == 1
    here = [world.client(near).receiver("c/1", auto=ACCEPTED) for _ in range(2)]
    for _ in range(4):
        tx.send(message())
    world.settle()
    assert [len(link.got) for link in here] == [2, 2]
    assert len(there.got) == 1


# Messages of the router's own.


def test_messages_for_a_service(world: World) -> None:
    near, far = world.chain("A", "B")
    taken: list[bytes] = []
    subscription = far.subscribe_messages("svc", lambda _a, content, _r: taken.append(content), is_announced=True)
    tx = world.client(near).sender("svc")
    world.until(lambda: tx.credit)
    for size in (1, 100_000, 600_000):
        for settled in (False, True):
            sent = tx.send(message("svc", "x" * size), settled=settled)
            world.settle()
            world.check()
            assert settled or (sent.state, sent.is_settled) == (ACCEPTED, True)
            assert taken.pop() == message("svc", "x" * size)
            assert not taken
    subscription.cancel()


def test_a_message_of_the_router(world: World) -> None:
    near, far = world.chain("A", "B")
    rx = world.client(far).receiver(dynamic=True, auto=ACCEPTED)
    assert rx.address is not None
    assert near.send_message(rx.address, message(rx.address))
    assert not near.send_message("nobody", message("nobody"))
    world.settle()
    assert rx.contents == [message(rx.address)]
    world.check()
