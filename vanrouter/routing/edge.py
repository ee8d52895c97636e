"""The edge router's side: which uplink is active, and its proxies for local consumers and producers. Layer: 2.

Source: router protocol sections 9.1 to 9.3. Told what happens it returns what to do, as the control plane. An uplink is
an open connection of role edge to an interior router; one is active and carries links, the others are spares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from vanrouter.errors import PeerError
from vanrouter.routing.deadlines import Deadlines

Direction: TypeAlias = Literal["in", "out"]
"""A proxy `in` receives for local consumers, a proxy `out` sends for local producers."""

PROXY_RETRY_S: Final = 2.0
"""A proxy that the interior refused or detached is attached again after this, as auto-links are (section 10)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivateUplink:
    """Attach the fixed links on a connection: announcement, uplink, downlink, address tracking (section 9.2)."""

    connection_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeactivateUplink:
    """Detach the fixed links of a connection and keep it as a spare; streams on it go on."""

    connection_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BindUplink:
    """Make the anonymous uplink of a connection the destination of `L_edge`."""

    connection_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbindUplink:
    """Take the uplink of a connection from `L_edge`."""

    connection_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachProxyIn:
    """Attach a receiver with this source address."""

    connection_id: int
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachProxyOut:
    """Attach a sender with this target address; it is no destination until `BindProxyOut`."""

    connection_id: int
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachProxy:
    """Detach (closed) a proxy."""

    connection_id: int
    address: str
    direction: Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class BindProxyOut:
    """The interior has a destination: the proxy out is one more local destination of the key."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnbindProxyOut:
    """The interior has none any more."""

    key: str


EdgeCommand: TypeAlias = (
    ActivateUplink
    | DeactivateUplink
    | BindUplink
    | UnbindUplink
    | AttachProxyIn
    | AttachProxyOut
    | DetachProxy
    | BindProxyOut
    | UnbindProxyOut
)


class EdgePlane:
    """Decides for an edge router; all keys are of class `M`, others are not proxied."""

    def __init__(self) -> None:
        self.active: int | None = None
        self._uplinks: dict[int, int | None] = {}
        self._wanted: dict[Direction, dict[str, None]] = {"in": {}, "out": {}}
        self._reachable: set[str] = set()
        self._deadlines = Deadlines()

    # -- told: connections ---------------------------------------------------------------------------------------------

    def on_uplink_opened(self, connection_id: int, tls_ordinal: int | None = None) -> list[EdgeCommand]:
        """Take in an open connection: the first is made active, a newer one by TLS ordinal takes over.

        Args:
            connection_id: the connection.
            tls_ordinal: ordinal of its TLS profile, None without TLS.
        """
        self._uplinks[connection_id] = tls_ordinal
        if self.active is None:
            return self._activate(connection_id)
        if tls_ordinal is None or tls_ordinal <= (self._uplinks[self.active] or 0):
            return []
        return [*self._deactivate(self.active), *self._activate(connection_id)]

    def on_uplink_lost(self, connection_id: int) -> list[EdgeCommand]:
        """Take in the end of a connection: the next one is made active at once."""
        if connection_id not in self._uplinks:
            return []
        ordinal = self._uplinks.pop(connection_id)
        if connection_id != self.active:
            return []
        commands = self._forget_reachable()
        commands.append(UnbindUplink(connection_id=connection_id))
        self.active = None
        if self._uplinks:
            commands += self._activate(self._successor(ordinal))
        return commands

    def _successor(self, lost_ordinal: int | None) -> int:
        if lost_ordinal is None:
            return next(iter(self._uplinks))
        return max(self._uplinks, key=lambda each: self._uplinks[each] or 0)  # the oldest among equals

    def _activate(self, connection_id: int) -> list[EdgeCommand]:
        self.active = connection_id
        self._deadlines = Deadlines()
        commands: list[EdgeCommand] = [ActivateUplink(connection_id=connection_id)]
        commands.append(BindUplink(connection_id=connection_id))
        commands += [AttachProxyIn(connection_id=connection_id, address=key[1:]) for key in self._wanted["in"]]
        commands += [AttachProxyOut(connection_id=connection_id, address=key[1:]) for key in self._wanted["out"]]
        return commands

    def _deactivate(self, connection_id: int) -> list[EdgeCommand]:
        commands = self._forget_reachable()
        commands.append(UnbindUplink(connection_id=connection_id))
        for direction, keys in self._wanted.items():
            for key in keys:
                commands.append(DetachProxy(connection_id=connection_id, address=key[1:], direction=direction))
        commands.append(DeactivateUplink(connection_id=connection_id))
        return commands

    def _forget_reachable(self) -> list[EdgeCommand]:
        commands: list[EdgeCommand] = [UnbindProxyOut(key=key) for key in sorted(self._reachable)]
        self._reachable.clear()
        return commands

    # -- told: local links ---------------------------------------------------------------------------------------------

    def on_consumer_added(self, key: str) -> list[EdgeCommand]:
        """A key has got a local consumer that is neither a proxy nor another edge's link; repeating it is harmless."""
        return self._want("in", key)

    def on_consumer_removed(self, key: str) -> list[EdgeCommand]:
        """The last such consumer of a key is gone."""
        return self._unwant("in", key)

    def on_producer_added(self, key: str) -> list[EdgeCommand]:
        """A key has got a local producer, or something watches it."""
        return self._want("out", key)

    def on_producer_removed(self, key: str) -> list[EdgeCommand]:
        """The last producer and watch of a key is gone."""
        commands: list[EdgeCommand] = []
        if key in self._reachable:
            self._reachable.discard(key)
            commands.append(UnbindProxyOut(key=key))
        return commands + self._unwant("out", key)

    def _want(self, direction: Direction, key: str) -> list[EdgeCommand]:
        if not key.startswith("M") or key in self._wanted[direction]:
            return []
        self._wanted[direction][key] = None
        return self._attach(direction, key)

    def _unwant(self, direction: Direction, key: str) -> list[EdgeCommand]:
        if key not in self._wanted[direction]:
            return []
        del self._wanted[direction][key]
        is_waiting = self._deadlines.at((direction, key)) is not None
        self._deadlines.cancel((direction, key))
        if self.active is None or is_waiting:
            return []
        return [DetachProxy(connection_id=self.active, address=key[1:], direction=direction)]

    def _attach(self, direction: Direction, key: str) -> list[EdgeCommand]:
        if self.active is None:
            return []
        if direction == "in":
            return [AttachProxyIn(connection_id=self.active, address=key[1:])]
        return [AttachProxyOut(connection_id=self.active, address=key[1:])]

    # -- told: the interior --------------------------------------------------------------------------------------------

    def on_tracking(self, connection_id: int, body: object) -> list[EdgeCommand]:
        """Take in a message of the address tracking link (section 9.3).

        Args:
            connection_id: where it came in.
            body: its decoded body.

        Raises:
            PeerError: the body is not a list of a key and a boolean; the delivery is to be rejected with it.
        """
        match body:
            case [str() as text, bool() as is_reachable]:
                key = str(text)
            case _:
                raise PeerError("amqp:invalid-field", "address tracking: not a list of an address and a boolean")
        if connection_id != self.active or key not in self._wanted["out"] or is_reachable == (key in self._reachable):
            return []
        if is_reachable:
            self._reachable.add(key)
            return [BindProxyOut(key=key)]
        self._reachable.discard(key)
        return [UnbindProxyOut(key=key)]

    def on_proxy_lost(self, connection_id: int, address: str, direction: Direction, now: float) -> list[EdgeCommand]:
        """Take in that the interior refused or detached a proxy; it is attached again later."""
        key = "M" + address
        if connection_id != self.active or key not in self._wanted[direction]:
            return []
        self._deadlines.set((direction, key), now + PROXY_RETRY_S)
        if direction == "in" or key not in self._reachable:
            return []
        self._reachable.discard(key)
        return [UnbindProxyOut(key=key)]

    def next_deadline(self) -> float | None:
        """Return when `on_timer` is to be called next, None: not at all."""
        return self._deadlines.next()

    def on_timer(self, now: float) -> list[EdgeCommand]:
        """Attach again what is due."""
        commands: list[EdgeCommand] = []
        while (due := self._deadlines.pop_due(now)) is not None:
            direction, key = due
            commands += self._attach("in" if direction == "in" else "out", str(key))
        return commands
