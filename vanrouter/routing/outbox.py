"""Commands in the making: control messages with their bodies and counts, routes and bindings of one turn. Layer: 2."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vanrouter.routing import messages
from vanrouter.routing.addresses import HELLO_TO, MOBILE_ALL_TO, TOPOLOGY_ALL_TO, mobile_to, topology_to
from vanrouter.routing.commands import BindAddress, Command, RemoveNode, SendControl, SetNode, UnbindAddress
from vanrouter.routing.linkstate import InstalledRoute, Node
from vanrouter.routing.messages import Descriptor, MobileUpdate
from vanrouter.routing.mobile import OwnAddresses, Publication
from vanrouter.routing.views import ControlCounters


class Outbox:
    """Collects the commands of one turn. Bodies that say the same are the same object, until what they say changes.

    Args:
        own_id: id of this router.
        instance: its boot id.
        counters: where what is sent is counted.
    """

    def __init__(self, own_id: str, instance: int, counters: ControlCounters) -> None:
        self._own_id = own_id
        self._instance = instance
        self._counters = counters
        self._commands: list[Command] = []
        self._request_body = messages.link_state_request_body(own_id)
        self._link_state_body: tuple[int, dict[str, object]] = (-1, {})
        self._first_mobile_request_body = messages.mobile_request_body(own_id, 0)

    def take(self) -> list[Command]:
        """Return what was collected and begin again."""
        commands, self._commands = self._commands, []
        return commands

    def put(self, command: Command) -> None:
        """Add a command as it is."""
        self._commands.append(command)

    def _send(self, opcode: str, to: str, body: dict[str, object], connection_id: int | None = None) -> None:
        self._counters.sent[opcode] += 1
        self._commands.append(SendControl(opcode=opcode, to=to, body=body, connection_id=connection_id))

    def hello(self, connection_ids: Iterable[int], seen: Iterable[str]) -> None:
        """Greet on the connections given, with one body for all."""
        body = messages.hello_body(self._own_id, self._instance, seen)
        for connection_id in connection_ids:
            self._send("HELLO", HELLO_TO, body, connection_id)

    def advertisement(self, ls_seq: int, mobile_seq: int) -> None:
        """Tell all routers the own numbers."""
        body = messages.advertisement_body(self._own_id, self._instance, ls_seq, mobile_seq)
        self._send("RA", TOPOLOGY_ALL_TO, body)

    def link_state_request(self, node: Node) -> None:
        """Ask a router for its link state."""
        self._send("LSR", topology_to(node.id), self._request_body)

    def link_state(self, node: Node, ls_seq: int, peers: Mapping[str, int], connection_id: int | None) -> None:
        """Send the own link state to a router."""
        if self._link_state_body[0] != ls_seq:
            body = messages.link_state_update_body(self._own_id, self._instance, ls_seq, peers)
            self._link_state_body = (ls_seq, body)
        self._send("LSU", topology_to(node.id), self._link_state_body[1], connection_id)

    def mobile_request(self, node: Node) -> None:
        """Ask a router for its addresses beyond those it is known to have."""
        have = node.addresses.mobile_seq
        body = messages.mobile_request_body(self._own_id, have) if have else self._first_mobile_request_body
        self._send("MAR", mobile_to(node.id), body)

    def addresses(self, node: Node, own: OwnAddresses) -> None:
        """Send all published addresses to a router."""
        body = messages.absolute_body(self._own_id, own.mobile_seq, own.published.values())
        self._send("MAU", mobile_to(node.id), body)

    def publication(self, publication: Publication) -> None:
        """Send changes of the own addresses to all routers."""
        body = messages.differential_body(self._own_id, *publication)
        self._send("MAU", MOBILE_ALL_TO, body)

    def install(self, node: Node, route: InstalledRoute) -> bool:
        """Install a route unless it is the present one; returns whether it differed."""
        if node.installed == route:
            return False
        node.installed = route
        self._commands.append(
            SetNode(
                router_id=node.id,
                next_hop=route.next_hop,
                connection_id=route.connection_id,
                cost=route.cost,
                is_neighbour=route.is_neighbour,
            )
        )
        return True

    def remove(self, node: Node) -> None:
        """Forget the addresses of a router, and its route."""
        node.addresses.clear()
        node.announced_mobile_seq = 0
        if node.installed is not None:
            node.installed = None
            self._commands.append(RemoveNode(router_id=node.id))

    def bind(self, node: Node, update: MobileUpdate) -> None:
        """Take over an update of a router's addresses."""
        for key, new in node.addresses.apply(update):
            if new is None:
                self._commands.append(UnbindAddress(router_id=node.id, key=key))
            else:
                self._commands.append(_bind_address(node.id, new))


def _bind_address(router_id: str, address: Descriptor) -> BindAddress:
    return BindAddress(
        router_id=router_id, key=address.key, hint=address.hint, mesh_id=address.mesh_id, weight=address.weight
    )
