"""Subscriptions of this process."""

from __future__ import annotations

import pytest

from tests.unit.core.ends import Answers, Service
from tests.unit.core.engines import ACCEPTED, World, message
from vanrouter.core.router import Mode, Router
from vanrouter.core.services import MessageService, StreamService
from vanrouter.core.table import Treatment
from vanrouter.engine.annotations import NO_ANNOTATIONS


@pytest.fixture
def router(world: World) -> Router:
    return world.router()


def test_a_subscription_of_streams(world: World, router: Router) -> None:
    subscription = router.subscribe_stream("svc", Service(), weight=3)
    address = router.table.get("Msvc")
    assert address is not None
    assert [service.weight for service in address.services] == [3]  # type: ignore[attr-defined]
    assert world.client(router).sender("svc").credit == 250
    subscription.cancel()
    subscription.cancel()
    assert not address.services


def test_the_last_service_of_an_address(world: World) -> None:
    near, far = world.chain("A", "B")
    only = near.subscribe_stream("svc", Service())
    assert only.is_last
    for other in (lambda: near.subscribe_stream("svc", Service()), lambda: far.subscribe_stream("svc", Service())):
        second = other()
        world.advance(5)
        assert not only.is_last
        second.cancel()
        world.advance(5)
        assert only.is_last
    world.client(near).receiver("svc")
    assert not only.is_last
    edge = world.router("E", Mode.EDGE)
    assert not edge.subscribe_stream("svc", Service()).is_last  # it sees no others, and there may be some


def test_messages_that_are_not_announced(world: World) -> None:
    near, far = world.chain("A", "B")
    subscription = far.subscribe_messages("quiet", lambda *_: None, is_announced=False)
    other = far.subscribe_messages("loud", lambda *_: None, is_announced=True)
    world.advance(5)
    assert near.table.get("Mquiet") is None
    loud = near.table.get("Mloud")
    assert loud is not None
    assert list(loud.remotes) == ["B"]
    quiet = far.table.get("Mquiet")
    assert quiet is not None
    assert quiet.treatment == Treatment.CLOSEST
    subscription.cancel()
    other.cancel()
    world.advance(5)
    assert near.table.get("Mloud") is None


def test_a_stream_for_a_taker_of_messages(world: World, router: Router) -> None:
    subscription = router.subscribe_messages("svc", lambda *_: None, is_announced=True)
    answers = Answers()
    router.open_stream("svc", message("svc"), 5, answers)
    world.settle()
    assert [state for state, _ in answers.outcomes] == [0x26]
    with pytest.raises(NotImplementedError):
        MessageService(lambda *_: None).on_stream(None, answers)  # type: ignore[arg-type]
    subscription.cancel()


def test_a_message_for_a_taker_of_streams() -> None:
    StreamService(Service()).on_message(NO_ANNOTATIONS, b"x", None)


def test_who_sent_it_is_known(world: World, router: Router) -> None:
    links: list[object] = []
    subscription = router.subscribe_messages("svc", lambda _a, _c, link: links.append(link), is_announced=True)
    tx = world.client(router).sender("svc")
    sent = tx.send(message("svc"))
    world.settle()
    assert sent.state == ACCEPTED
    assert links == [tx.here]
    assert router.send_message("svc", message("svc"))
    assert links[1:] == [None]
    subscription.cancel()


def test_a_taker_that_ends_its_caller(world: World, router: Router) -> None:
    """As the management agent does when it is told to cut a connection."""
    client = world.client(router)
    subscription = router.subscribe_messages("svc", lambda *_: client.there.engine.drop(None), is_announced=True)
    client.sender("svc").send(message("svc"))
    world.settle()
    assert client.is_lost
    subscription.cancel()
