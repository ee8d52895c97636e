"""The host of the routing protocol: decodes control messages for it, carries out what it returns, wakes it in time.

Layer: 3. Source: router protocol, sections 3.3, 5 and 6.4. The protocol itself is in `routing/`, which knows neither
connections nor the clock.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from vanrouter.core.fanout import multicast_targets
from vanrouter.core.links import Delivery, LinkKind, Receiver, Sender
from vanrouter.core.room import C_MAX_ROUTERS, Room
from vanrouter.core.stream import ACCEPTED
from vanrouter.core.table import Address, Node, Treatment
from vanrouter.engine import proton
from vanrouter.engine.annotations import NO_ANNOTATIONS, Annotations
from vanrouter.engine.messages import Message, decode_message, encode_message
from vanrouter.engine.proton import delivery_settle, delivery_settled
from vanrouter.engine.sections import Int, Symbol
from vanrouter.errors import PeerError
from vanrouter.routing.addresses import ADVERTISED_CLASSES, MOBILE_ALL_TO, bare_id
from vanrouter.routing.commands import (
    BindAddress,
    Command,
    ControlSettings,
    RemoveNode,
    RouteChanged,
    SendControl,
    SetNode,
    SetRadius,
    UnbindAddress,
)
from vanrouter.routing.control import ControlPlane

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.router import Router

logger = logging.getLogger("vanrouter.routing.control")

HELLO_KEY = "Lqdhello"
HELLO_BYTES = 4096
"""A longer HELLO is not kept; it would name a hundred neighbours."""

KNOWN_BYTES, KNOWN_MESSAGES = 512, 1024
"""Longest message that is kept with what it says, and how many are."""

GRANTS = 8
"""Credit goes back once this part of a control link's capacity has been used. With each message it would be a frame
more for each, at either end."""

LOCAL_KEYS = frozenset(("Lqdhello", "Lqdrouter", "Lqdrouter.ma"))
ALL_KEYS = frozenset(("Tqdrouter", "Tqdrouter.ma"))
CONTROL_KEYS = LOCAL_KEYS | ALL_KEYS

MOBILE_OPCODES = frozenset(("MAR", "MAU"))

INT_MAX = 2**31 - 1


class ControlHost:
    """Runs the control plane of an interior router."""

    def __init__(self, router: Router, instance: int, settings: ControlSettings | None) -> None:
        self._router = router
        self._loop = router.reactor
        self.plane = ControlPlane(router.router_id, instance, settings)
        self._timer: Any = None
        self._bound: dict[str, set[str]] = {}
        """Keys of the addresses that each router has."""
        self._hellos: dict[Connection, bytes] = {}
        """The octets of the last HELLO of each connection, that of its router annotations included."""
        self._decoded: dict[bytes, tuple[str, object]] = {}
        """Opcode and body of short messages, by their octets: copies and repetitions are most of what comes."""
        self._own_hello: tuple[dict[str, object], bytes] = ({}, b"")
        """Body and octets of the last HELLO sent."""
        self._rooms: dict[Connection, Room] = {}
        """Neighbours that are no vanrouters, and whom they know."""
        self.withheld = 0
        """Messages that such a neighbour did not get, as it had no room for their routers."""
        self.last_topology_change = 0.0
        if not router.is_interior:  # others neither speak the protocol nor show its addresses
            return
        for key, treatment in (("Tqdrouter", Treatment.FLOOD), ("Tqdrouter.ma", Treatment.MULTICAST)):
            self._keep(key, treatment)
        for key in LOCAL_KEYS:
            self._keep(key, Treatment.FLOOD)

    def _keep(self, key: str, treatment: Treatment) -> None:
        address = self._router.table.ensure(key)
        address.treatment, address.permanent, address.is_internal = treatment, True, True

    # Events for the plane.

    def on_link_up(self, connection: Connection) -> None:
        """Both control links of a connection are attached."""
        if not connection.peer.is_vanrouter:
            self._rooms[connection] = Room()
        self._execute(self.plane.on_link_up(connection.id, connection.cost, self._loop.now, connection.peer.container))

    def on_link_lost(self, connection: Connection) -> None:
        """A control link, or the whole connection, is gone."""
        self._hellos.pop(connection, None)
        self._rooms.pop(connection, None)
        self._execute(self.plane.on_link_lost(connection.id, self._loop.now))

    def on_link_replaced(self, old: Connection, new: Connection) -> None:
        """A connection takes over from an older one of its group."""
        if old in self._rooms:
            self._rooms[new] = self._rooms.pop(old)
        self._execute(self.plane.on_link_replaced(old.id, new.id, self._loop.now))

    def on_cost_changed(self, connection: Connection) -> None:
        """The cost of a connection was changed here."""
        self._execute(self.plane.on_cost_changed(connection.id, connection.cost, self._loop.now))

    def on_local_change(self, address: Address) -> None:
        """An address has got its first, or lost its last, destination here, or their weight has changed."""
        if address.key[0] not in ADVERTISED_CLASSES:
            return
        if address.has_local_destination:
            hint = min(int(address.treatment), 3)
            commands = self.plane.on_address_added(address.key, hint, self._loop.now, address.mesh_id, address.weight)
        else:
            commands = self.plane.on_address_removed(address.key, self._loop.now)
        self._execute(commands)

    def on_delivery(
        self, receiver: Receiver, pn: Any, content: bytes, annotations: Annotations, address: Address
    ) -> None:
        """A complete message on a control link, or one with a control address on another link."""
        settled = delivery_settled(pn)
        router = self._router
        if receiver.kind is not LinkKind.CONTROL:
            router.forwarder.unroutable(receiver, pn, settled, address)
            return
        self._settle(receiver, pn, settled)
        self.take(receiver, content, annotations, address)

    def on_oversized(self, receiver: Receiver) -> None:
        """A control message was too long to be read."""
        error = PeerError("amqp:link:message-size-exceeded", "longer than any control message may be")
        self.plane.on_undecodable(error, receiver.connection.id, self._loop.now)

    def take_repeated(self, receiver: Receiver, pn: Any, buffer: bytearray, size: int) -> bool:
        """Take in the message in the buffer if it is the last HELLO of its connection once more; else answer False.

        That is what a calm network consists of: nothing is decoded for it.
        """
        last = self._hellos.get(receiver.connection)
        if last is None or len(last) != size or not buffer.startswith(last):
            return False
        if not self.plane.on_repeated_hello(receiver.connection.id, self._loop.now):
            return False
        self._settle(receiver, pn, delivery_settled(pn))
        return True

    def take(self, receiver: Receiver, content: bytes, annotations: Annotations, address: Address) -> None:
        """Take in, or pass on, a whole message of a control link."""
        router = self._router
        if router.own in annotations.trace:
            return  # it has come round; the radius rule is not asked: with unequal costs a right way may be longer
        connection = receiver.connection
        if self.plane.has_strange_trace(annotations.trace, connection.id, connection.peer.container):
            return
        key = address.key
        if key[0] == "R":
            room = self._rooms.get(connection)
            if room is not None and len(annotations.trace) < 2:
                room.note_known(key[1:])
            self._send_towards(key[1:], content[annotations.length :], annotations)
            return
        if key not in CONTROL_KEYS:
            return
        decoded = self._decode(connection, key, content, annotations)
        if decoded is None:
            return
        name, body = decoded
        if self._is_forged(name, body, annotations, connection):
            return
        now = self._loop.now
        # A copy of a flooded message that tells nothing new is neither taken in nor passed on: copies would multiply.
        if key[0] == "T" and not self.plane.should_forward(name, body, len(annotations.trace), now):
            return
        commands = self.plane.on_message(name, body, connection.id, now)
        if key[0] == "T":
            self._spread(address, content[annotations.length :], annotations, connection)
        self._execute(commands)

    def _decode(
        self, connection: Connection, key: str, content: bytes, annotations: Annotations
    ) -> tuple[str, object] | None:
        """Return opcode and body; None of what is no message."""
        if key == HELLO_KEY and len(content) <= HELLO_BYTES:
            self._hellos[connection] = content
        octets = content[annotations.length :]
        known = self._decoded.get(octets)
        if known is not None:
            return known
        try:
            message = decode_message(octets)
        except PeerError as error:
            self.plane.on_undecodable(error, connection.id, self._loop.now)
            return None
        opcode = message.application_properties.get("opcode")
        decoded = (opcode if isinstance(opcode, str) else "", message.body)
        if len(octets) <= KNOWN_BYTES:
            if len(self._decoded) >= KNOWN_MESSAGES:
                self._decoded.clear()
            self._decoded[octets] = decoded
        return decoded

    def _is_forged(self, opcode: str, body: object, annotations: Annotations, connection: Connection) -> bool:
        claimed = body.get("id") if isinstance(body, dict) else None
        if not isinstance(claimed, str):
            return False  # the plane calls it malformed
        way = (annotations.ingress, annotations.trace, connection.id, connection.peer.container)
        if not self.plane.is_forged(opcode, claimed, *way):
            return False
        self._hellos.pop(connection, None)
        return True

    @staticmethod
    def _settle(receiver: Receiver, pn: Any, is_settled: bool) -> None:
        """Settle, and give credit back with the next message of our own once some is due, or when much is.

        At once it would be a frame of its own for each HELLO: as many again, and each wakes up an idle peer.
        """
        if not is_settled:
            proton.delivery_update(pn, ACCEPTED)
        delivery_settle(pn)
        receiver.to_grant += 1
        if receiver.to_grant * 4 >= receiver.capacity and receiver not in receiver.connection.grants:
            receiver.connection.grants.append(receiver)
            receiver.connection.loop.dirty.add(receiver.connection.engine)

    def _on_timer(self) -> None:
        self._timer = None
        self._execute(self.plane.on_timer(self._loop.now))

    # Commands of the plane.

    def _execute(self, commands: list[Command]) -> None:
        try:
            self._carry_out(commands)
        finally:
            self._arm()  # whatever went wrong with one of them: without HELLOs the network would lose this router

    def _carry_out(self, commands: list[Command]) -> None:
        encoded: dict[int, bytes] = {}
        for command in commands:
            if type(command) is SendControl:
                self._send(command, encoded)
            elif type(command) is SetNode:
                self._set_node(command)
            elif type(command) is RemoveNode:
                self._remove_node(command.router_id)
            elif type(command) is BindAddress:
                self._bind(command)
            elif type(command) is UnbindAddress:
                self._unbind(command.router_id, command.key)
            elif type(command) is SetRadius:
                self._router.radius = command.hops
            elif type(command) is RouteChanged:
                if command.is_new_topology:
                    self.last_topology_change = self._router.wall_clock()
                logger.info("%s", command.reason)

    def _arm(self) -> None:
        deadline = self.plane.next_deadline()
        if self._timer is not None:
            if (
                deadline is not None
                and self._timer.callback is not None
                and abs(self._timer.deadline - deadline) < 1e-6
            ):
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _send(self, command: SendControl, encoded: dict[int, bytes]) -> None:
        content = encoded.get(id(command.body)) if command.opcode == "HELLO" else None
        if content is None:
            content = encoded[id(command.body)] = self._encode(command)
        if command.connection_id is not None:
            connection = self._router.connections.get(command.connection_id)
            if connection is not None:
                self._put(getattr(connection, "control_out", None), content, NO_ANNOTATIONS)
            return
        key = self._router.space.key(command.to)
        if key[0] == "R":
            self._send_towards(key[1:], content, NO_ANNOTATIONS)
        else:
            address = self._router.table.ensure(MOBILE_KEY if command.to == MOBILE_ALL_TO else "Tqdrouter")
            self._spread(address, content, NO_ANNOTATIONS, None)

    def _encode(self, command: SendControl) -> bytes:
        """Encode a message, or find the HELLO of the last second again."""
        if command.opcode != "HELLO":
            return encode_control(command)
        body, content = self._own_hello
        if body != command.body:
            content = encode_control(command)
            self._own_hello = (command.body, content)
        return content

    def _put(self, sender: Sender | None, content: bytes, annotations: Annotations) -> None:
        if sender is None or sender.closed:
            return
        delivery = Delivery(None, None, sender, None)
        delivery.settled = True
        back = sender.connection.control_in
        if back is not None and back.to_grant * GRANTS >= back.capacity and back not in sender.connection.grants:
            sender.connection.grants.append(back)
        self._router.forwarder.put(delivery, sender.connection.section(annotations, None), content, 0, 0)

    def _send_towards(self, router_id: str, content: bytes, annotations: Annotations) -> None:
        node = self._router.nodes.get(router_id)
        if node is not None and node.connection is not None and self._has_room(node.connection, annotations):
            self._put(node.connection.control_out, content, annotations)

    def _spread(self, address: Address, content: bytes, annotations: Annotations, came_from: Connection | None) -> None:
        """Pass a message for all routers on: to every neighbour, or along the tree of its origin (section 7.4)."""
        targets = multicast_targets(self._router, address, annotations, came_from)
        for connection in targets.neighbours:
            if self._has_room(connection, annotations):
                self._put(connection.control_out, content, annotations)

    def _has_room(self, connection: Connection, annotations: Annotations) -> bool:
        """Tell whether a neighbour can know the router where a message began."""
        room = self._rooms.get(connection)
        if room is None or not annotations.trace:
            return True  # a vanrouter, or a message of our own
        origin = bare_id(annotations.trace[0])
        was_full = room.is_full
        if room.admits(origin):
            return True
        self.withheld += 1
        if not was_full:
            logger.warning(
                "router=%s is of another kind and knows %d routers at most: not told of router=%s nor of others",
                connection.peer.container,
                C_MAX_ROUTERS,
                origin,
            )
        return False

    def _set_node(self, command: SetNode) -> None:
        router = self._router
        node = router.nodes.get(command.router_id)
        is_new = node is None
        if node is None:
            node = router.nodes[command.router_id] = Node(command.router_id)
        found = router.connections.get(command.connection_id)
        node.connection = found if found is not None and hasattr(found, "control_out") else None
        node.next_hop = command.next_hop
        node.cost = command.cost
        node.is_neighbour = command.is_neighbour
        if is_new:
            address = router.table.ensure(f"R{command.router_id}")
            address.is_internal = True
            router.table.bind_remote(address, node)

    def _remove_node(self, router_id: str) -> None:
        router = self._router
        for key in self._bound.pop(router_id, ()):
            address = router.table.get(key)
            if address is not None:
                router.table.unbind_remote(address, router_id)
        router.nodes.pop(router_id, None)
        for room in self._rooms.values():
            room.forget(router_id)
        address = router.table.get(f"R{router_id}")
        if address is not None:
            router.table.unbind_remote(address, router_id)

    def _bind(self, command: BindAddress) -> None:
        router = self._router
        node = router.nodes.get(command.router_id)
        if node is None:
            node = router.nodes[command.router_id] = Node(command.router_id)
        self._bound.setdefault(command.router_id, set()).add(command.key)
        address = router.table.ensure(command.key, command.hint, is_weighted=command.weight is not None)
        router.table.set_remote_weight(address, command.router_id, command.weight)
        if address.remote_meshes is not None or command.mesh_id is not None:
            self._note_mesh(address, command.router_id, command.mesh_id)
        router.table.bind_remote(address, node)

    def _note_mesh(self, address: Address, router_id: str, mesh_id: str | None) -> None:
        """All consumers at a router are in one edge mesh, or are so no longer: edges have to know (section 9.3)."""
        meshes = address.remote_meshes = address.remote_meshes or {}
        if mesh_id is None:
            meshes.pop(router_id, None)
        else:
            meshes[router_id] = mesh_id
        if router_id in address.remotes and self._router.table.on_change is not None:
            self._router.table.on_change(address)

    def _unbind(self, router_id: str, key: str) -> None:
        self._bound.get(router_id, set()).discard(key)
        address = self._router.table.get(key)
        if address is not None:
            self._router.table.unbind_remote(address, router_id)


MOBILE_KEY = "Tqdrouter.ma"


def encode_control(command: SendControl) -> bytes:
    """Encode a control message without its router annotations (section 5.1)."""
    if command.opcode in MOBILE_OPCODES:
        return encode_message(
            Message(
                to=command.to,
                durable=False,
                application_properties={Symbol("opcode"): command.opcode},
                body={Symbol(key): _mobile_value(value) for key, value in command.body.items()},
            ),
            3,
        )
    return encode_message(
        Message(
            to=command.to,
            durable=False,
            application_properties={"opcode": command.opcode},
            body={key: _topology_value(value) for key, value in command.body.items()},
        ),
        6,
    )


def _topology_value(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, dict)):
        return value
    if isinstance(value, dict):
        return {key: _topology_value(item) for key, item in value.items()}
    return Int(value) if -INT_MAX <= value <= INT_MAX else value


def _mobile_value(value: object) -> object:
    """Numbers of the message are longs; those inside address descriptors ints."""
    if not isinstance(value, (list, tuple)):
        return value
    return [
        [Int(field) if isinstance(field, int) and not isinstance(field, bool) else field for field in row]
        for row in value
    ]
