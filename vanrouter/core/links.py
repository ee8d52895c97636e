"""Links and deliveries as the core sees them: slotted records with the counters that management shows.

Layer: 3. A `Receiver` takes deliveries from a peer, a `Sender` gives them to one. A `Delivery` is one copy of a message
on its way from a receiver (or from inside the router) to a sender, from the moment it was routed to its settlement.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, final

from vanrouter.engine.annotations import NO_ANNOTATIONS

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.inspection import SizeLimit
    from vanrouter.core.runs import Way
    from vanrouter.core.table import Address
    from vanrouter.core.turns import LeastLoaded
    from vanrouter.engine.annotations import Annotations

DEFAULT_CAPACITY = 250
"""Credit window of a link (router protocol, section 2.3)."""

MIN_WINDOW_FRAMES = 128
"""Session window: the engine counts it in frames, and with fewer, small frames would wait for each other."""

PRIORITIES = 10
DEFAULT_PRIORITY = 4
"""Priorities of messages and of data links (router protocol, sections 2.1 and 7.1)."""


class LinkKind(Enum):
    """What a link is for; the values are management's `linkType` words."""

    ENDPOINT = "endpoint"
    CONTROL = "router-control"
    DATA = "inter-router"
    STREAM = "inter-router "
    """Carries one stream at a time; anonymous, from a pool. Shown as endpoint or inter-router."""
    INTER_EDGE = "inter-edge"
    EDGE_DOWNLINK = "edge-downlink"


CONTROL, DATA, STREAM, ENDPOINT = LinkKind.CONTROL, LinkKind.DATA, LinkKind.STREAM, LinkKind.ENDPOINT
"""Bound once for what runs for each delivery (see `table`)."""


class Streaming(Protocol):
    """A delivery that comes in pieces: what a receiver's current delivery is while it is not complete."""

    def more(self) -> None:
        """The engine has something new for it."""

    def on_link_lost(self) -> None:
        """The link or connection it comes in on is gone."""


class Outgoing(Protocol):
    """What a pointer in `Connection.outgoing` stands for, if it is no `Delivery`."""

    sender: Sender

    def on_update(self, pn: Any) -> None:
        """The peer has sent a disposition."""

    def on_sender_lost(self, sent: bool) -> None:
        """The link or connection it went out on is gone."""


class Receiver:
    """A link on which deliveries come in."""

    __slots__ = (
        "accepted",
        "address",
        "annotations",
        "capacity",
        "carries_annotations",
        "closed",
        "connection",
        "current",
        "delayed_1s",
        "delayed_10s",
        "deliveries",
        "drained",
        "dropped_presettled",
        "granted",
        "grants_at",
        "held",
        "id",
        "is_bounded",
        "is_guarded",
        "is_special",
        "kind",
        "limit",
        "modified",
        "name",
        "on_message",
        "patience",
        "pn",
        "presettled",
        "priority",
        "rejected",
        "released",
        "replenishes_at_once",
        "replenishes_streams",
        "sampled",
        "sampled_before",
        "section",
        "section_of",
        "seen",
        "session",
        "target_text",
        "to_grant",
        "unsettled",
        "way",
        "zero_credit_since",
    )

    def __init__(self, connection: Connection, pn: Any, link_id: int, name: str, kind: LinkKind, capacity: int) -> None:
        """Long because it lists what a link has, and does nothing else."""
        self.connection = connection
        self.pn = pn
        self.id = link_id
        self.name = name
        self.kind = kind
        self.capacity = capacity
        self.session: Any = None
        self.address: Address | None = None
        """Where its messages go; None: each message says (an anonymous link)."""
        self.target_text: str | None = None
        """The terminus address word for word: what the router annotations carry as to-override."""
        self.annotations = NO_ANNOTATIONS
        """What each message carries that begins here: flags by capabilities of the terminus (section 2.5)."""
        self.carries_annotations = False
        self.is_guarded = False
        """A client's: what goes to the management of other routers is judged first (`guarding`)."""
        self.is_special = False
        """It carries annotations, or all of it goes there: not for the shortest way through the forwarder."""
        self.seen: Annotations | None = None
        """Annotations of the last message: the next one mostly has the same, octet for octet."""
        self.section_of: Annotations | None = None
        self.section = b""
        """The annotations of those for which the next hop's section was made last, and that section."""
        self.way: Way | None = None
        """Where its plain messages go."""
        self.patience = 0
        """So many of its deliveries take the general way before a way is looked for again."""
        self.replenishes_at_once = False
        """Credit comes back when a message was routed, not when it is settled."""
        self.replenishes_streams = False
        """Credit comes back when a delivery in pieces begins, not when it is settled."""
        self.is_bounded = False
        """A consumer was slower than the peer once; what the peer may send ahead has been looked at."""
        self.on_message: Any = None
        """For links of the protocol itself: takes each complete message in place of forwarding."""
        self.limit: SizeLimit | None = None
        """Longest message that policy allows."""
        self.current: Streaming | None = None
        self.granted = False
        """The initial credit has been given."""
        self.drained = False
        """Credit is withheld until the address has a destination again."""
        self.to_grant = 0
        self.held = 0
        """Presettled messages of it that wait for a link to another router, and keep their credit until they go out."""
        self.grants_at = 1
        """So many credits are given back together: a frame for each would cost as much as a short delivery."""
        self.closed = False
        self.priority = DEFAULT_PRIORITY
        self.unsettled = 0
        self.deliveries = 0
        self.presettled = 0
        self.dropped_presettled = 0
        """Of these: there was nowhere to go."""
        self.accepted = 0
        self.rejected = 0
        self.released = 0
        self.modified = 0
        self.sampled = self.sampled_before = 0
        """Settlements at the last two looks (`rates`)."""
        self.delayed_1s = 0
        self.delayed_10s = 0
        self.zero_credit_since: float | None = None
        """When it was attached, or drained; what its credit is now has to be asked for."""


@final
class Sender:
    """A link on which deliveries go out."""

    __slots__ = (
        "accepted",
        "address",
        "busy",
        "capacity",
        "carries_annotations",
        "closed",
        "connection",
        "credit",
        "delayed_1s",
        "delayed_10s",
        "deliveries",
        "dropped_presettled",
        "excluded",
        "held",
        "id",
        "is_draining",
        "is_guarded",
        "is_prompt",
        "is_shut",
        "is_special",
        "kind",
        "modified",
        "moved_streams",
        "name",
        "pn",
        "presettled",
        "priority",
        "queue",
        "rank",
        "ranking",
        "ready",
        "rejected",
        "released",
        "sampled",
        "sampled_before",
        "session",
        "settles",
        "source_text",
        "unsettled",
        "zero_credit_since",
    )

    def __init__(self, connection: Connection, pn: Any, link_id: int, name: str, kind: LinkKind, capacity: int) -> None:
        self.connection = connection
        self.pn = pn
        self.id = link_id
        self.name = name
        self.kind = kind
        self.capacity = capacity
        self.session: Any = None
        self.address: Address | None = None
        self.source_text: str | None = None
        self.carries_annotations = False
        self.is_guarded = False
        """On a connection with echo rules (section 9.5): not for every delivery."""
        self.is_special = False
        """It is guarded, or what goes out on it is logged: not for the shortest way through the forwarder."""
        self.is_prompt = False
        """The peer gives credit back as soon as it has routed a message: what waits here will not wait for long."""
        self.is_shut = False
        """Too much waits in its session, whose window the peer keeps shut (section 2.4)."""
        self.settles = False
        """The peer asked for settled deliveries: we settle on its behalf (router protocol, section 7.5)."""
        self.credit = 0
        self.ready = False
        """Credit is there, nothing waits and no stream occupies the link: a delivery can go out at once."""
        self.queue: deque[Delivery] = deque()
        self.held = 0
        """How many in the queue are presettled and keep their producer's credit."""
        self.busy: Any = None
        """The stream that occupies the link until it ends."""
        self.is_draining = False
        """A stream that waited in the queue is being started."""
        self.excluded = False
        """Out of use (being closed) although deliveries may still be open on it."""
        self.moved_streams = 0
        """Streams of this consumer that were put on links of their own and are still open."""
        self.ranking: LeastLoaded | None = None
        """Where its load is compared with that of other consumers, once there is a choice."""
        self.rank = 0
        """Number of its entry there; 0: none, or it has been told that the load is less now."""
        self.closed = False
        self.priority = DEFAULT_PRIORITY
        self.unsettled = 0
        self.deliveries = 0
        self.presettled = 0
        self.dropped_presettled = 0
        self.accepted = 0
        self.rejected = 0
        self.released = 0
        self.modified = 0
        self.sampled = self.sampled_before = 0
        """Settlements at the last two looks (`rates`)."""
        self.delayed_1s = 0
        self.delayed_10s = 0
        self.zero_credit_since: float | None = None

    def ease(self) -> None:
        """Its load has become less."""
        if self.rank:
            self.rank = 0
            assert self.ranking is not None
            self.ranking.eased.append(self)

    def update_ready(self) -> None:
        """Recompute `ready`; to be called after any of what it stands for has changed."""
        self.ready = self.credit > 0 and not self.queue and self.busy is None and not self.closed and not self.is_shut


class Origin(Protocol):
    """What a delivery that does not come from a link, or has several copies, answers to."""

    def waits_for_settlement(self, delivery: Delivery, state: int) -> bool:
        """A copy has a terminal state and is not settled yet; True: it stays open until it is."""

    def on_copy_outcome(self, delivery: Delivery, state: int, settled: bool, pn: Any) -> None:
        """One copy's disposition; `pn`: the engine's delivery with its details, None when it was lost or never sent."""


@final
class Delivery:
    """One copy of a complete message on its way.

    From a link straight to one sender (`origin` None) an outcome is passed from `pn_out` to `pn_in`; otherwise `origin`
    is told.
    """

    __slots__ = (
        "address",
        "annotations",
        "began",
        "content",
        "holds",
        "hop",
        "origin",
        "pn_in",
        "pn_out",
        "receiver",
        "section",
        "sender",
        "settled",
        "tried",
    )

    def __init__(self, receiver: Receiver | None, pn_in: Any, sender: Sender, origin: Origin | None) -> None:
        self.receiver = receiver
        self.pn_in = pn_in
        self.sender = sender
        self.origin = origin
        self.pn_out: Any = None
        self.content: bytes | None = None
        """Kept while it waits for credit, or as long as it may have to be sent again."""
        self.section: bytes | None = None
        self.settled = False
        """Pre-settled: nobody waits for an outcome."""
        self.holds: Receiver | None = None
        """Where a presettled one came in that waits with its producer's credit (`hold_credit`)."""
        self.address: Address | None = None
        """Set with `hop` where a neighbour's outstanding deliveries are counted (balanced)."""
        self.hop: Connection | None = None
        self.annotations: Annotations | None = None
        self.tried: set[object] | None = None
        """Paths that released it already (resend-released, router protocol, section 7.6)."""
        self.began = 0.0
