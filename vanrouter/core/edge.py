"""Edges: an edge router's links to the interior and to other edges, and what an interior router does for its edges.

Layer: 3. Source: router protocol, sections 2.6 and 9. What is to be done is decided in `routing/edge.py` and
`routing/mesh.py`; here it is carried out. `EdgeHost` belongs to an edge router, `EdgeServer` to an interior one.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vanrouter.core.attach import DOWNLINK, INTER_EDGE
from vanrouter.core.links import Delivery, LinkKind, Receiver, Sender
from vanrouter.core.peer import Role
from vanrouter.core.table import Address, Treatment
from vanrouter.engine.annotations import NO_ANNOTATIONS, Annotations
from vanrouter.engine.messages import Message, decode_message, encode_message, parse_head
from vanrouter.engine.sections import Long, Symbol, encode
from vanrouter.errors import PeerError
from vanrouter.ids import random_suffix
from vanrouter.routing.addresses import ADVERTISED_CLASSES, EDGE_KEY
from vanrouter.routing.edge import (
    ActivateUplink,
    AttachProxyIn,
    AttachProxyOut,
    BindProxyOut,
    BindUplink,
    DeactivateUplink,
    DetachProxy,
    Direction,
    EdgeCommand,
    EdgePlane,
    UnbindProxyOut,
    UnbindUplink,
)
from vanrouter.routing.mesh import (
    MAX_MESH_ID_LENGTH,
    AttachPeerReceiver,
    BindPeer,
    DetachPeerReceiver,
    MeshCommand,
    MeshPair,
    MeshPlane,
    SendMeshPair,
    SetMeshId,
    UnbindPeer,
    parse_pair,
)

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.router import Router

logger = logging.getLogger("vanrouter.routing.edge")

TRACKING = "_$qd.edge_addr_tracking"
MESH_DISCOVERY = "_$qd.mesh_discovery"
MESH_NEGOTIATION = "_$qd.mesh_id_negotiation"
"""Termini of the protocol itself (section 2.6)."""

NO_SENDERS = ("amqp:not-implemented", "Nothing can be sent to the tracking address")

TRACKING_CREDIT = 32
MESH_CREDIT = 3
"""Credit on them (sections 9.2, 9.4 and 9.6)."""

TOLD_WITHIN_S = 2.0
"""An interior that has destinations for a new proxy out says so within this; of having none it says nothing."""


class InternalTarget:
    """Takes the messages that peers send to an address of the protocol itself."""

    def __init__(
        self,
        role: Role,
        take: Callable[[Connection, bytes], object],
        credit: int,
        refusal: tuple[str, str] | None = None,
    ) -> None:
        self.refusal = refusal
        """The answer to those who may attach, where nobody can send (section 1.7)."""
        self._role = role
        self._take = take
        self.credit = credit

    def allows(self, connection: Connection) -> bool:
        """Tell whether such links belong on a connection."""
        return connection.role is self._role

    def handler(self, connection: Connection) -> Callable[[Annotations, bytes], object]:
        """Return what is called for each message."""
        return lambda _annotations, content: self._take(connection, content)


class InternalSource:
    """Answers peers that receive from an address of the protocol itself."""

    def __init__(self, role: Role, handler: Callable[[Connection, Sender], object]) -> None:
        self._role = role
        self.handler = handler

    def allows(self, connection: Connection) -> bool:
        """Tell whether such links belong on a connection."""
        return connection.role is self._role


def properties_of(content: bytes) -> dict[str, Any]:
    """Return the application properties of a whole message; keys of either kind.

    Raises:
        PeerError: they cannot be decoded.
    """
    head = parse_head(content, 0, len(content), is_complete=True)
    found: dict[Any, Any] = head.application_properties()  # type: ignore[union-attr]  # complete: never NEED_MORE
    return {str(key): value for key, value in found.items()}


def only_properties(properties: dict[str, Any]) -> bytes:
    """Encode a message that has application properties and nothing else (section 9.6)."""
    return b"\x00\x53\x74" + encode({Symbol(key): value for key, value in properties.items()})


def send(router: Router, sender: Sender | None, content: bytes, *, settled: bool = False) -> None:
    """Send a message of the protocol itself; it waits for credit on its link."""
    if sender is not None and not sender.closed:
        delivery = Delivery(None, None, sender, None)
        delivery.settled = settled
        router.forwarder.put(delivery, sender.connection.section(NO_ANNOTATIONS, None), content, 0, 0)


class EdgeHost:
    """What makes a router an edge router: carries out the decisions of `EdgePlane` and `MeshPlane`."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.plane = EdgePlane()
        self.mesh = MeshPlane(self._fresh_pair())
        router.mesh_id = self.mesh.mesh_id
        self.uplinks = router.table.ensure(EDGE_KEY)
        """The address of everything that goes up to the interior."""
        self.uplinks.treatment = Treatment.CLOSEST
        self.uplinks.permanent = self.uplinks.is_internal = True
        self._sessions: dict[int, tuple[Any, Any]] = {}
        """Of each active uplink: for links of the protocol itself, and for all others."""
        self._fixed: dict[int, list[Receiver | Sender]] = {}
        self._uplink: dict[int, Sender] = {}
        self._announcer: Sender | None = None
        self._proxies: dict[tuple[int, Direction, str], Receiver | Sender] = {}
        """By connection, direction and address; proxies in and the receivers from peer edges."""
        self._of_link: dict[Receiver | Sender, tuple[int, Direction, str]] = {}
        self._untold: dict[str, float] = {}
        """Keys whose proxy out is new: until when the interior may yet say that it has destinations."""
        self._negotiators: dict[int, Sender] = {}
        self._timer: Any = None
        router.internal_targets[MESH_NEGOTIATION] = InternalTarget(Role.INTER_EDGE, self._on_negotiation, MESH_CREDIT)
        router.table.on_change = self.refresh
        router.table.is_edge = True
        self._handlers: dict[type, Callable[[Any], None]] = {
            ActivateUplink: self._activate,
            DeactivateUplink: self._deactivate,
            BindUplink: self._bind_uplink,
            UnbindUplink: self._unbind_uplink,
            AttachProxyIn: self._attach_proxy_in,
            AttachProxyOut: self._attach_proxy_out,
            DetachProxy: lambda command: self._detach_proxy(command.connection_id, command.direction, command.address),
            BindProxyOut: lambda command: self._bind_proxy_out(command.key),
            UnbindProxyOut: lambda command: self._unbind_proxy_out(command.key),
            SendMeshPair: self._send_pair,
            SetMeshId: self._set_mesh_id,
            BindPeer: self._bind_peer,
            UnbindPeer: self._unbind_peer,
            AttachPeerReceiver: lambda command: self._attach_receiver(
                command.connection_id, self._sessions[command.connection_id][1], command.address
            ),
            DetachPeerReceiver: lambda command: self._detach_proxy(command.connection_id, "in", command.address),
        }

    def _fresh_pair(self) -> MeshPair:
        started = int(self._router.wall_clock() * 1_000_000)
        return MeshPair(started + secrets.randbelow(1_000_000), random_suffix())

    # What the router asks.

    def address_for(self, text: str) -> Address | None:
        """Return the address that a text leads to: what is not known here goes up (section 9.2)."""
        router = self._router
        key = router.space.key(text)
        address = router.table.get(key)
        if address is not None and address.is_reachable:
            return address
        if key[0] == "L" or (address is None and router.is_unavailable(None, text)):
            return address
        if address is not None and address.treatment == Treatment.UNAVAILABLE:
            return address
        return self.uplinks

    def add_uplink(self, consumers: list[Sender], came_from: Connection | None) -> None:
        """Send a copy of an anonymous multicast up, unless it goes there on a proxy or has come from there."""
        if came_from is not None and came_from.has_echo_rules:
            return
        if not any(sender.connection.role is Role.EDGE for sender in consumers):
            consumers.extend(self.uplinks.consumers)

    def is_untold(self, key: str) -> bool:
        """Tell whether the interior has not had time to say that it has destinations of a key.

        A producer that has its credit from consumers here may have sent all it has by then, so its multicasts go up as
        anonymous ones do. The C router's edges keep those from the interior.
        """
        until = self._untold.get(key)
        if until is None:
            return False
        if until > self._router.reactor.now:
            return True
        del self._untold[key]
        return False

    def is_active(self, connection: Connection) -> bool:
        """Tell whether a connection carries links of edge mode: the others to the interior are spares."""
        return connection.role is not Role.EDGE or self.plane.active == connection.id

    # Events.

    def on_opened(self, connection: Connection) -> None:
        """A connection to an interior router or to another edge has opened."""
        if connection.role is Role.EDGE:
            tls = getattr(connection.settings, "tls", None)
            self._execute(self.plane.on_uplink_opened(connection.id, None if tls is None else tls.ordinal))
        elif connection.role is Role.INTER_EDGE:
            self._execute(self.mesh.on_peer_up(connection.id, connection.peer.container))

    def on_lost(self, connection: Connection) -> None:
        """A connection is over; its links are gone already."""
        if not connection.has_echo_rules:
            return
        number = connection.id
        commands: Sequence[EdgeCommand | MeshCommand]
        if connection.role is Role.EDGE:
            if number == self.plane.active:
                self._untold.clear()
            commands = self.plane.on_uplink_lost(number)
        else:
            commands = self.mesh.on_peer_lost(number, self._fresh_pair())
        self._fixed.pop(number, None)
        self._uplink.pop(number, None)
        self._sessions.pop(number, None)
        self._negotiators.pop(number, None)
        self._execute(commands)

    def on_link_gone(self, link: Receiver | Sender) -> None:
        """A link has ended: one of a client may have been the last of its address; a proxy is wanted again."""
        place = self._of_link.pop(link, None)
        if place is not None:
            self._proxies.pop(place, None)
            if not link.connection.is_closed and link.connection.role is Role.EDGE:
                number, direction, address = place
                self._execute(self.plane.on_proxy_lost(number, address, direction, self._router.reactor.now))
        elif link.address is not None and isinstance(link, Receiver):
            self.refresh(link.address)

    def refresh(self, address: Address) -> None:
        """Producers, consumers or watches of an address have changed: proxies follow."""
        key = address.key
        if key[0] != "M":
            return
        commands: list[EdgeCommand | MeshCommand] = []
        if any(not sender.is_guarded for sender in address.consumers) or (address.services and not address.is_internal):
            commands += self.plane.on_consumer_added(key)
            commands += self.mesh.on_consumer_added(key)
        else:
            commands += self.plane.on_consumer_removed(key)
            commands += self.mesh.on_consumer_removed(key)
        if address.watches or any(not receiver.connection.has_echo_rules for receiver in address.producers):
            commands += self.plane.on_producer_added(key)
        else:
            commands += self.plane.on_producer_removed(key)
        if commands:
            self._execute(commands)

    def _on_tracking(self, connection: Connection, content: bytes) -> None:
        self._execute(self.plane.on_tracking(connection.id, decode_message(content).body))

    def _on_negotiation(self, connection: Connection, content: bytes) -> None:
        pair = parse_pair(properties_of(content))
        self._execute(self.mesh.on_pair(connection.id, pair, self._fresh_pair()))

    def _on_timer(self) -> None:
        self._timer = None
        self._execute(self.plane.on_timer(self._router.reactor.now))

    # Commands.

    def _execute(self, commands: Sequence[EdgeCommand | MeshCommand]) -> None:
        try:
            for command in commands:
                self._handlers[type(command)](command)
        finally:
            self._arm()  # whatever went wrong with one of them, the proxies that are due are attached

    def _arm(self) -> None:
        deadline = self.plane.next_deadline()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self._router.reactor.call_at(deadline, self._on_timer)

    def _connection(self, number: int) -> Connection | None:
        found = self._router.amqp_connections.get(number)
        return None if found is None or found.is_closed else found

    def _activate(self, command: ActivateUplink) -> None:
        number = command.connection_id
        connection = self._connection(number)
        if connection is None:
            return
        first, second = connection.new_session(), connection.new_session()
        self._sessions[number] = first, second
        attacher, own_id = connection.attacher, self._router.router_id
        self._announcer = attacher.attach_sender(first, LinkKind.ENDPOINT, MESH_DISCOVERY)
        uplink = attacher.attach_sender(second, LinkKind.ENDPOINT, None)
        downlink = attacher.attach_receiver(second, LinkKind.ENDPOINT, own_id, DOWNLINK)
        tracking = attacher.attach_receiver(first, LinkKind.ENDPOINT, TRACKING)
        tracking.capacity = TRACKING_CREDIT
        tracking.on_message = lambda _annotations, content: self._on_tracking(connection, content)
        connection.give_initial_credit(downlink)
        connection.give_initial_credit(tracking)
        self._uplink[number] = uplink
        self._fixed[number] = [self._announcer, uplink, downlink, tracking]
        self._announce()
        logger.info("Edge connection (id=%d) to interior established", number)

    def _deactivate(self, command: DeactivateUplink) -> None:
        number = command.connection_id
        connection = self._connection(number)
        self._uplink.pop(number, None)
        self._sessions.pop(number, None)
        for link in self._fixed.pop(number, ()):
            if connection is not None and not link.closed:
                connection.detach(link)

    def _bind_uplink(self, command: BindUplink) -> None:
        uplink = self._uplink.get(command.connection_id)
        if uplink is not None:
            uplink.address = self.uplinks
            self._router.table.add_consumer(self.uplinks, uplink)

    def _unbind_uplink(self, command: UnbindUplink) -> None:
        for uplink in tuple(self.uplinks.consumers):
            if uplink.connection.id == command.connection_id:
                self._router.table.remove_consumer(self.uplinks, uplink)
        logger.info("Edge connection (id=%d) to interior lost", command.connection_id)

    def _attach_receiver(self, number: int, session: Any, address: str) -> None:
        connection = self._connection(number)
        if connection is None:
            return
        receiver = connection.attacher.attach_receiver(session, LinkKind.ENDPOINT, address)
        receiver.address = self._router.table.ensure("M" + address)
        connection.give_initial_credit(receiver)
        self._note(receiver, (number, "in", address))

    def _note(self, link: Receiver | Sender, place: tuple[int, Direction, str]) -> None:
        self._proxies[place] = link
        self._of_link[link] = place

    def _attach_proxy_in(self, command: AttachProxyIn) -> None:
        session = self._sessions.get(command.connection_id)
        if session is not None:
            self._attach_receiver(command.connection_id, session[1], command.address)

    def _attach_proxy_out(self, command: AttachProxyOut) -> None:
        number = command.connection_id
        session = self._sessions.get(number)
        connection = self._connection(number)
        if session is not None and connection is not None:
            sender = connection.attacher.attach_sender(session[1], LinkKind.ENDPOINT, command.address)
            self._note(sender, (number, "out", command.address))
            self._untold["M" + command.address] = self._router.reactor.now + TOLD_WITHIN_S

    def _detach_proxy(self, number: int, direction: Direction, address: str) -> None:
        link = self._proxies.pop((number, direction, address), None)
        if link is not None:
            del self._of_link[link]
            if direction == "out":
                self._untold.pop("M" + address, None)
            if not link.closed and not link.connection.is_closed:
                link.connection.detach(link)

    def _bind_proxy_out(self, key: str) -> None:
        self._untold.pop(key, None)
        active = self.plane.active
        sender = None if active is None else self._proxies.get((active, "out", key[1:]))
        if isinstance(sender, Sender) and sender.address is None and not sender.closed:
            address = sender.address = self._router.table.ensure(key)
            self._router.table.add_consumer(address, sender)

    def _unbind_proxy_out(self, key: str) -> None:
        address = self._router.table.get(key)
        if address is None:
            return
        for sender in tuple(address.consumers):
            if sender.connection.role is Role.EDGE:
                sender.address = None
                self._router.table.remove_consumer(address, sender)

    # Edge meshes.

    def _announce(self) -> None:
        assert self._router.mesh_id is not None
        send(self._router, self._announcer, only_properties({"meshid": self._router.mesh_id}))

    def _set_mesh_id(self, command: SetMeshId) -> None:
        self._router.mesh_id = command.mesh_id
        self._announce()

    def _bind_peer(self, command: BindPeer) -> None:
        number = command.connection_id
        connection = self._connection(number)
        if connection is None:
            return
        router = self._router
        first, second = connection.new_session(), connection.new_session()
        self._sessions[number] = first, second
        uplink = connection.attacher.attach_sender(second, LinkKind.INTER_EDGE, None, INTER_EDGE)
        self._negotiators[number] = connection.attacher.attach_sender(first, LinkKind.ENDPOINT, MESH_NEGOTIATION)
        router.space.add_edge_peer(command.peer_id)
        uplink.address = router.table.ensure(f"H{command.peer_id}")
        uplink.address.is_internal = True
        uplink.address.treatment = Treatment.CLOSEST
        router.table.add_consumer(uplink.address, uplink)
        logger.info("Edge peer %s connected (id=%d)", command.peer_id, number)

    def _unbind_peer(self, command: UnbindPeer) -> None:
        self._router.space.remove_edge_peer(command.peer_id)
        logger.info("Edge peer %s lost (id=%d)", command.peer_id, command.connection_id)

    def _send_pair(self, command: SendMeshPair) -> None:
        content = only_properties({"ordinal": Long(command.pair.ordinal), "id": command.pair.mesh_id})
        send(self._router, self._negotiators.get(command.connection_id), content)


class _Edge:
    """An edge router below this one."""

    __slots__ = ("connection", "states", "tracking")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.tracking: Sender | None = None
        self.states: dict[str, bool] = {}
        """What it was last told of each of its proxies out."""


class EdgeServer:
    """What an interior router does for the edges below it (section 9.4)."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._edges: dict[Connection, _Edge] = {}
        router.internal_targets[MESH_DISCOVERY] = InternalTarget(Role.EDGE, self._on_announced, MESH_CREDIT)
        router.internal_targets[TRACKING] = InternalTarget(Role.EDGE, lambda *_: None, 0, NO_SENDERS)
        router.internal_sources[TRACKING] = InternalSource(Role.EDGE, self._on_tracking_link)
        router.table.on_change = self.refresh

    def on_opened(self, connection: Connection) -> None:
        """An edge has connected."""
        if connection.is_edge:
            self._edges[connection] = _Edge(connection)
            logger.info("Edge %s connected (id=%d)", connection.peer.container, connection.id)

    def on_lost(self, connection: Connection) -> None:
        """It is gone, and its links before it."""
        self._edges.pop(connection, None)

    def on_link_gone(self, link: Receiver | Sender) -> None:
        """A link has ended: what the edge was told of a proxy out is told anew with the next one."""
        edge = self._edges.get(link.connection)
        if edge is None:
            return
        if link is edge.tracking:
            edge.tracking = None
        elif link.address is not None and isinstance(link, Receiver):
            edge.states.pop(link.address.key, None)

    def _on_tracking_link(self, connection: Connection, sender: Sender) -> None:
        edge = self._edges.get(connection)
        if edge is None:
            return
        edge.tracking = sender
        edge.states.clear()
        self._refresh_edge(edge)

    def _on_announced(self, connection: Connection, content: bytes) -> None:
        mesh_id = properties_of(content).get("meshid")
        if not isinstance(mesh_id, str) or not 0 < len(mesh_id) <= MAX_MESH_ID_LENGTH:
            raise PeerError("amqp:invalid-field", "mesh discovery: meshid is missing or not a text")
        if connection.mesh_id == mesh_id or connection not in self._edges:
            return
        connection.mesh_id = str(mesh_id)
        for sender in tuple(connection.senders.values()):
            if sender.address is not None:
                self.refresh(sender.address)
        self._refresh_edge(self._edges[connection])

    def _refresh_edge(self, edge: _Edge) -> None:
        for receiver in tuple(edge.connection.receivers.values()):
            if receiver.address is not None:
                self._track(edge, receiver.address)

    def refresh(self, address: Address) -> None:
        """Destinations or producers of an address have changed: edges that send to it are told."""
        if not self._edges or address.key[0] not in ADVERTISED_CLASSES:
            return
        mesh_id = self._sole_mesh(address)
        if mesh_id != address.mesh_id:
            address.mesh_id = mesh_id
            if address.has_local_destination and not address.is_internal:
                self._router.control.on_local_change(address)
        for receiver in tuple(address.producers):
            edge = self._edges.get(receiver.connection)
            if edge is not None:
                self._track(edge, address)

    def _sole_mesh(self, address: Address) -> str | None:
        """Return the mesh that all consumers here are in (section 5.6, position 4 of a descriptor)."""
        if address.services or not address.consumers:
            return None
        found = address.consumers[0].connection.mesh_id
        return found if all(sender.connection.mesh_id == found for sender in address.consumers) else None

    def _is_reachable(self, address: Address, connection: Connection) -> bool:
        """Tell whether messages of that edge have a destination that is not in its own mesh (section 9.3)."""
        if address.services:
            return True
        mesh_id = connection.mesh_id
        for sender in address.consumers:
            if sender.connection is not connection and (mesh_id is None or sender.connection.mesh_id != mesh_id):
                return True
        meshes = address.remote_meshes
        return any(mesh_id is None or meshes is None or meshes.get(remote) != mesh_id for remote in address.remotes)

    def _track(self, edge: _Edge, address: Address) -> None:
        key = address.key
        is_reachable = self._is_reachable(address, edge.connection)
        if key[0] != "M" or edge.tracking is None or edge.states.get(key, False) == is_reachable:
            return
        edge.states[key] = is_reachable
        send(self._router, edge.tracking, encode_message(Message(durable=False, body=[key, is_reachable])))
