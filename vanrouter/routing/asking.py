"""Questions to other routers: LSR and MAR, repeated with growing waits until they are answered. Layer: 2.

The C router asks once and relies on the next RA; a question or answer that got lost then costs up to 30 s.
"""

from __future__ import annotations

from vanrouter.routing.commands import ControlSettings
from vanrouter.routing.deadlines import Deadlines
from vanrouter.routing.linkstate import Node
from vanrouter.routing.outbox import Outbox

MAR_DELAY_S = 0.2
"""An RA that names a newer address set may have overtaken the MAU: so long is waited before it is asked for."""

MAX_ATTEMPTS = 8
"""A question is repeated so often; after that the next RA starts it again."""


class Asker:
    """Decides when a router is asked for what is lacking of it; `Node.asked_count` counts the unanswered questions.

    Args:
        settings: waits.
        deadlines: where the repetition is due, as `("ask", router id)`.
        outbox: where the questions go.
    """

    def __init__(self, settings: ControlSettings, deadlines: Deadlines, outbox: Outbox) -> None:
        self._settings = settings
        self._deadlines = deadlines
        self._outbox = outbox

    def begin(self, node: Node, now: float) -> None:
        """Ask from the start: the router became reachable, or what is known of it is in doubt."""
        node.asked_count = 0
        self.ask(node, now)

    def ask(self, node: Node, now: float) -> None:
        """Send what is due: LSR, MAR, both or neither."""
        if not node.is_reachable or not (node.lacks_link_state or node.lacks_addresses):
            self.end(node)
            return
        if node.lacks_link_state:
            self._outbox.link_state_request(node)
        if node.lacks_addresses:
            self._outbox.mobile_request(node)
        if node.asked_count < MAX_ATTEMPTS:
            wait = min(self._settings.retry_s * 2**node.asked_count, self._settings.retry_max_s)
            self._deadlines.set(("ask", node.id), now + wait)
            node.asked_count += 1

    def on_advertisement(self, node: Node, now: float, *, is_news: bool) -> None:
        """Ask for what an RA shows to be lacking, unless the first question is out and will be answered."""
        if node.asked_count > (1 if is_news else MAX_ATTEMPTS - 1):
            node.asked_count = 0
        if not node.is_reachable or node.asked_count > 0:
            return
        if node.lacks_link_state or node.addresses.mobile_seq == 0:
            self.ask(node, now)
        elif node.lacks_addresses:
            self._deadlines.set_at_most(("ask", node.id), now + MAR_DELAY_S)

    def on_route_changed(self, node: Node, now: float) -> None:
        """Repeat an open question sooner: it may have got lost on the way that is no more."""
        if node.asked_count > 1:
            node.asked_count = 1
            self._deadlines.set_at_most(("ask", node.id), now + self._settings.retry_s)

    def on_answer(self, node: Node) -> None:
        """Ask again at once if an LSU was older than what has been announced since, or be content."""
        if node.is_reachable and node.lacks_link_state:
            self._outbox.link_state_request(node)
        elif not node.lacks_link_state and not node.lacks_addresses:
            self.end(node)

    def on_addresses(self, node: Node, *, is_progress: bool) -> None:
        """Do the same after an MAU; one that brought nothing new is not asked for again at once."""
        if is_progress and node.lacks_addresses:
            self._outbox.mobile_request(node)
        elif not node.lacks_link_state and not node.lacks_addresses:
            self.end(node)

    def end(self, node: Node) -> None:
        """Ask no more."""
        node.asked_count = 0
        self._deadlines.cancel(("ask", node.id))
