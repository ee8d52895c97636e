"""One-way event channels: what is posted goes out as a message, and nobody answers (`eventChannel`).

Layer: 4. Source: HTTP over AMQP, section 2.9.
"""

from __future__ import annotations

from functools import partial

from vanrouter.adaptors.http_exchange import Failure, Requester, RequestHead, ResponseHead
from vanrouter.adaptors.http_message_listener import Answers, MessageExchange, MessageForm
from vanrouter.core.stream import REJECTED

ONLY_POST = b"Invalid method for event channel httpListener, only POST is allowed."


class Event(MessageExchange):
    """One event: whatever becomes of it, the client is told that it was taken, as long as it can be sent."""

    __slots__ = ()

    def on_sent(self, state: int) -> None:
        if state == REJECTED and self.refusal() is Failure.TOO_LONG:  # it has gone to nobody
            self.fail(Failure.TOO_LONG)
            return
        self.over()
        self.requester.on_response(ResponseHead(204, [], length=0))


def refuse(head: RequestHead, requester: Requester) -> None:
    """Answer a request that is no event; its client has misunderstood what the port is for."""
    headers = [(b"Content-Type", b"text/plain"), (b"Content-Length", b"%d" % len(ONLY_POST)), (b"Allow", b"POST")]
    is_bare = head.method == b"HEAD"
    requester.on_response(ResponseHead(405, headers, length=0 if is_bare else len(ONLY_POST), is_last=True))
    if not is_bare:
        requester.on_data(ONLY_POST)
        requester.on_end()


class EventForm(MessageForm):
    """The message form of a listener that is an event channel."""

    exchange_type = Event

    def begin(self, head: RequestHead, requester: Requester) -> MessageExchange:
        if head.method == b"POST":
            return super().begin(head, requester)
        self.shared.reactor.call_soon(partial(refuse, head, requester))
        return Event(self, head, requester)

    def _answers_for(self, exchange: MessageExchange) -> Answers | None:
        return None
