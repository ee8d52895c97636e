"""Adjacencies: what HELLOs say about each inter-router connection, and the damping of links that flap. Layer: 2.

Source: router protocol section 5.2. Differences on purpose, none a fault on the wire: a lost connection takes
its peer out of `seen` at once; of several connections to one router the cheapest is used (the oldest of those) instead
of the one that spoke last; and a neighbour that was lost again and again waits before it is taken back.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import Final

from vanrouter.routing.commands import ControlSettings
from vanrouter.routing.messages import Hello


class Adjacency(Enum):
    """State of one connection."""

    ONE_WAY = auto()
    """Nothing heard, or the peer does not list us."""
    HELD = auto()
    """The peer lists us, but it was lost too often of late."""
    FULL = auto()
    """The peer is a neighbour."""


class HelloInput(Enum):
    """What moves an adjacency."""

    HELLO_WITHOUT_US = auto()
    HELLO_WITH_US = auto()
    HELLO_WITH_US_DAMPED = auto()
    HOLD_OVER = auto()
    EXPIRED = auto()


TRANSITIONS: Final[dict[tuple[Adjacency, HelloInput], Adjacency]] = {
    (Adjacency.ONE_WAY, HelloInput.HELLO_WITHOUT_US): Adjacency.ONE_WAY,
    (Adjacency.ONE_WAY, HelloInput.HELLO_WITH_US): Adjacency.FULL,
    (Adjacency.ONE_WAY, HelloInput.HELLO_WITH_US_DAMPED): Adjacency.HELD,
    (Adjacency.ONE_WAY, HelloInput.HOLD_OVER): Adjacency.ONE_WAY,
    (Adjacency.ONE_WAY, HelloInput.EXPIRED): Adjacency.ONE_WAY,
    (Adjacency.HELD, HelloInput.HELLO_WITHOUT_US): Adjacency.HELD,
    (Adjacency.HELD, HelloInput.HELLO_WITH_US): Adjacency.HELD,
    (Adjacency.HELD, HelloInput.HELLO_WITH_US_DAMPED): Adjacency.HELD,
    (Adjacency.HELD, HelloInput.HOLD_OVER): Adjacency.FULL,
    (Adjacency.HELD, HelloInput.EXPIRED): Adjacency.ONE_WAY,
    (Adjacency.FULL, HelloInput.HELLO_WITHOUT_US): Adjacency.FULL,
    (Adjacency.FULL, HelloInput.HELLO_WITH_US): Adjacency.FULL,
    (Adjacency.FULL, HelloInput.HELLO_WITH_US_DAMPED): Adjacency.FULL,
    (Adjacency.FULL, HelloInput.HOLD_OVER): Adjacency.FULL,
    (Adjacency.FULL, HelloInput.EXPIRED): Adjacency.ONE_WAY,
}


class Link:
    """One inter-router connection whose control links are up."""

    __slots__ = ("connection_id", "container", "cost", "heard_at", "hello", "listed_at", "peer_id", "state")

    def __init__(self, connection_id: int, cost: int, container: str | None = None) -> None:
        self.connection_id = connection_id
        self.container = container
        """The id that the peer's OPEN gave, None when that is not known."""
        self.cost = cost
        self.hello: Hello | None = None
        """What was heard last."""
        self.peer_id = ""
        self.heard_at = 0.0
        self.listed_at = 0.0
        self.state = Adjacency.ONE_WAY

    def inherit(self, old: Link) -> None:
        """Take over the neighbour of the connection that this one replaces."""
        self.peer_id, self.state, self.hello = old.peer_id, old.state, old.hello
        self.heard_at, self.listed_at = old.heard_at, old.listed_at


class FlapDamper:
    """Counts losses per neighbour, halved with time, and says how long the next return has to wait."""

    def __init__(self, settings: ControlSettings) -> None:
        self._settings = settings
        self._penalties: dict[str, tuple[float, float]] = {}

    def note_loss(self, router_id: str, now: float) -> None:
        """Count a loss."""
        if len(self._penalties) >= self._settings.max_routers:
            self._penalties.clear()
        self._penalties[router_id] = (self.penalty(router_id, now) + 1.0, now)

    def penalty(self, router_id: str, now: float) -> float:
        """Return what is left of the losses counted."""
        penalty, at = self._penalties.get(router_id, (0.0, now))
        return penalty * math.exp2((at - now) / self._settings.flap_half_life_s)

    def hold_s(self, router_id: str, now: float) -> float:
        """Return how long a neighbour that comes back now is held; 0 for a calm one."""
        excess = self.penalty(router_id, now) - self._settings.flap_threshold
        if excess < 0:
            return 0.0
        return min(self._settings.flap_hold_max_s, 0.5 * (1.0 + excess))


class Neighbours:
    """The links of this router and their adjacencies."""

    def __init__(self, own_id: str, settings: ControlSettings) -> None:
        self._own_id = own_id
        self._settings = settings
        self._damper = FlapDamper(settings)
        self.links: dict[int, Link] = {}

    def add(self, connection_id: int, cost: int, container: str | None = None) -> Link:
        """Add a connection whose control links are up."""
        link = self.links[connection_id] = Link(connection_id, cost, container)
        return link

    def seen(self, now: float) -> list[str]:
        """Return the ids heard within the hello age, sorted."""
        oldest = now - self._settings.hello_max_age_s
        return sorted({link.peer_id for link in self.links.values() if link.peer_id and link.heard_at > oldest})

    def hear_again(self, link: Link, instance: int | None, now: float) -> bool:
        """Take in a HELLO that says what the last one said: the way of a calm network.

        Args:
            instance: of the peer, as it is known by now.

        Returns:
            False: it may change something, and was not taken in.
        """
        last = link.hello
        if last is None or link.state is not Adjacency.FULL or last.id != link.peer_id or last.instance != instance:
            return False
        if self._own_id not in last.seen or self.expires_at(link) <= now:
            return False
        link.heard_at = link.listed_at = now
        return True

    def hear(self, link: Link, hello: Hello, now: float) -> float:
        """Take in a HELLO.

        Returns:
            Seconds for which the adjacency is held back from now on; 0 if it is not, or if it was already.
        """
        if link.peer_id != hello.id:
            link.state = Adjacency.ONE_WAY
            link.peer_id = hello.id
        link.hello = hello
        link.heard_at = now
        hold_s = 0.0
        given = HelloInput.HELLO_WITHOUT_US
        if self._own_id in hello.seen:
            link.listed_at = now
            given = HelloInput.HELLO_WITH_US
            if link.state is Adjacency.ONE_WAY:
                hold_s = self._damper.hold_s(hello.id, now)
                if hold_s > 0:
                    given = HelloInput.HELLO_WITH_US_DAMPED
        self._move(link, given)
        return hold_s

    def end_hold(self, link: Link) -> None:
        """Take a held adjacency in."""
        self._move(link, HelloInput.HOLD_OVER)

    def expire(self, link: Link) -> None:
        """Give an adjacency up: no HELLO has listed us for too long."""
        self._move(link, HelloInput.EXPIRED)

    def expire_others(self, link: Link) -> list[Link]:
        """Give up the other connections to a peer that has started again: they ended with its last life."""
        others = [each for each in self.links.values() if each.peer_id == link.peer_id and each is not link]
        for other in others:
            self.expire(other)
            other.peer_id = ""
        return others

    def _move(self, link: Link, given: HelloInput) -> None:
        link.state = TRANSITIONS[link.state, given]

    def note_loss(self, peer_id: str, now: float) -> None:
        """Count the loss of a neighbour for the damping of its return."""
        self._damper.note_loss(peer_id, now)

    def expires_at(self, link: Link) -> float:
        """Return when the adjacency ends unless a HELLO lists us before."""
        return link.listed_at + self._settings.hello_max_age_s

    def adjacent(self) -> dict[str, Link]:
        """Return the neighbours and the connection used for each: the cheapest, then the oldest."""
        chosen: dict[str, Link] = {}
        for link in self.links.values():
            if link.state is Adjacency.FULL:
                present = chosen.get(link.peer_id)
                if present is None or (link.cost, link.connection_id) < (present.cost, present.connection_id):
                    chosen[link.peer_id] = link
        return chosen
