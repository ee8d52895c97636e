"""One answer made of many."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.adaptors.http2_peers import Asker
from tests.unit.adaptors.message_router import FakeShared, listener_config
from tests.unit.adaptors.test_http_message_listener import Application, get, post
from vanrouter.adaptors import http_aggregation
from vanrouter.adaptors.http_aggregation import AggregatedForm
from vanrouter.adaptors.http_exchange import Failure
from vanrouter.core.stream import ACCEPTED, MODIFIED, REJECTED, RELEASED
from vanrouter.engine.messages import Message, encode_message
from vanrouter.engine.sections import ULong


class Late(Application):
    """Settles when it is told to."""

    def finish(self, settled: bool = False) -> None: ...

    def settle(self, state: int = ACCEPTED) -> None:
        self.producer.outcome(state, True)


def answer(text: bytes, **properties: Any) -> bytes:
    values = {":version": "1.1", ":reason": "OK", ":path": "/", "Content-Type": "text/plain", **properties}
    return encode_message(
        Message(subject="200", correlation_id=ULong(1), application_properties=values, body=text, is_data=True)
    )


def ask(mode: str) -> tuple[Asker, Late]:
    shared = FakeShared()
    form = AggregatedForm(shared, listener_config(aggregation=mode), "svc")  # type: ignore[arg-type]
    late, asker = Late(shared.router), Asker()
    form.begin(get(), asker)
    shared.router.reactor.run()
    return asker, late


def test_json() -> None:
    asker, late = ask("json")
    assert late.answer(answer(b"one")) == [ACCEPTED]
    assert late.answer(answer(b"3\r\ntwo\r\n0\r\n\r\n", **{"Transfer-Encoding": "chunked"})) == [ACCEPTED]
    assert asker.head is None
    late.settle()
    assert asker.head is not None
    assert (asker.head.status, asker.head.reason) == (200, b"")
    assert asker.head.headers == [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(asker.body))]
    first, second = json.loads(asker.body)
    assert (first["body"], first["content_type"], first[":version"]) == ("one", "text/plain", "1.1")
    assert second["body"] == "two"
    assert asker.body.startswith(b'[\n    {\n        ":version"')
    assert late.answer(answer(b"late")) == [ACCEPTED]


def test_multipart() -> None:
    asker, late = ask("multipart")
    late.answer(answer(b"one", **{"Content-Length": "3"}))
    late.answer(answer(b"two"))
    late.settle(MODIFIED)  # one of three was lost; those that answered are told
    assert asker.head is not None
    kind = dict(asker.head.headers)[b"Content-Type"]
    boundary = kind.removeprefix(b"multipart/mixed; boundary=")
    assert len(boundary) == 15
    parts = bytes(asker.body).split(b"--" + boundary)
    assert parts[1] == b"\r\nContent-Type: text/plain\r\n\r\none\r\n"
    assert parts[3] == b"--\r\n"


def test_no_answer_at_all() -> None:
    asker, late = ask("json")
    late.settle()
    assert asker.head is not None
    assert (asker.head.status, asker.head.length) == (204, 0)
    asker, late = ask("json")
    late.settle(RELEASED)
    assert asker.failure is Failure.NO_SERVICE


def test_answers_that_are_none_or_too_large(monkeypatch: Any) -> None:
    monkeypatch.setattr(http_aggregation, "MAX_COLLECTED_BYTES", 1000)
    asker, late = ask("json")
    assert late.answer(answer(b"3\r\n", **{"Transfer-Encoding": "chunked"})) == [REJECTED]
    assert late.answer(answer(bytes(700))) == [ACCEPTED]
    late.settle()
    assert len(json.loads(asker.body)) == 1, "what is no HTTP is not told"
    for too_long in ([700, 700], [2000]):
        asker, late = ask("json")
        outcomes = [outcome for size in too_long for outcome in late.answer(answer(bytes(size)))]
        assert outcomes[-1] == REJECTED
        assert asker.failure is Failure.ANSWERS_TOO_LONG
        assert late.answer(answer(b"one more")) == [ACCEPTED]
        late.settle()
        assert asker.head is None


def test_a_request_too_long_for_many() -> None:
    asker, late = ask("json")
    late.router.limit = 1000
    late.settle(REJECTED)  # what the services say of a short one
    assert asker.head is not None
    shared = FakeShared()
    shared.router.limit = 1000
    form = AggregatedForm(shared, listener_config(aggregation="json"), "svc")  # type: ignore[arg-type]
    late, asker = Late(shared.router), Asker()
    exchange = form.begin(post(), asker)
    shared.router.reactor.run()
    exchange.data(bytes(1000))
    late.settle(REJECTED)
    assert asker.failure is Failure.TOO_LONG
    assert asker.failure.status == 413
