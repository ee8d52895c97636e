"""One-way event channels."""

import pytest

from tests.unit.adaptors.http2_peers import Asker
from tests.unit.adaptors.message_router import FakeShared, listener_config
from tests.unit.adaptors.test_http_message_listener import Application
from vanrouter.adaptors.http_events import ONLY_POST, EventForm
from vanrouter.adaptors.http_exchange import Failure, RequestHead
from vanrouter.core.stream import ACCEPTED, MODIFIED, REJECTED, RELEASED
from vanrouter.engine.messages import parse_head
from vanrouter.engine.sections import NEED_MORE


def post(method: bytes = b"POST", state: int = ACCEPTED) -> tuple[Asker, Application]:
    shared = FakeShared()
    form = EventForm(shared, listener_config(event_channel=True), "svc")  # type: ignore[arg-type]
    application, asker = Application(shared.router, state), Asker()
    exchange = form.begin(RequestHead(method, b"/", [], authority=b"a", length=5 if method == b"POST" else 0), asker)
    if method == b"POST":
        exchange.data(b"event")
        exchange.end()
    assert asker.head is None
    shared.router.reactor.run()
    return asker, application


@pytest.mark.parametrize("state", [ACCEPTED, REJECTED, RELEASED, MODIFIED])
def test_whatever_becomes_of_it_the_client_is_told_that_it_was_taken(state: int) -> None:
    asker, application = post(state=state)
    assert asker.head is not None
    assert (asker.head.status, asker.head.length) == (204, 0)
    head = parse_head(application.content, 0, len(application.content))
    assert head is not NEED_MORE
    assert head.reply_to is None
    assert application.content.endswith(b"event")


def test_one_that_is_too_long_goes_to_nobody_and_its_client_is_told() -> None:
    shared = FakeShared()
    shared.router.limit = 1000
    form = EventForm(shared, listener_config(event_channel=True), "svc")  # type: ignore[arg-type]
    application, asker = Application(shared.router), Asker()
    exchange = form.begin(RequestHead(b"POST", b"/", [], authority=b"a", length=2000), asker)
    shared.router.reactor.run()
    exchange.data(bytes(2000))
    application.producer.outcome(REJECTED, True)
    assert asker.failure is Failure.TOO_LONG


def test_only_posts_are_events() -> None:
    asker, application = post(b"GET")
    assert asker.head is not None
    assert (asker.head.status, asker.body) == (405, ONLY_POST)
    assert asker.head.is_last
    assert application.content == b""
    asker, _ = post(b"HEAD")
    assert asker.head is not None
    assert (asker.head.status, asker.body, asker.trailers) == (405, b"", ())
