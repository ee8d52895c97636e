"""The choice of a destination for one delivery: closest and balanced (router protocol, sections 7.2 and 7.3), and even.

Layer: 3. Nothing is changed here but the rotation among equals and, for `even` (extensions), whose turn is next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any

from vanrouter.core.even import Turn, schedule_of
from vanrouter.core.links import Sender
from vanrouter.core.table import CLOSEST, EVEN, Address, LocalService, Node
from vanrouter.core.turns import FULL, LeastLoaded
from vanrouter.engine.annotations import Annotations

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection

Destination = Sender | LocalService | Node

MANY = 1 << 60
"""More than any load."""

MayPass = Callable[[str, str | None], bool]


class Retry:
    """What a delivery needs to be sent again on another path when it is released (router protocol, section 7.6)."""

    __slots__ = ("address", "annotations", "content", "tried")

    def __init__(self, address: Address, annotations: Annotations, content: bytes, tried: Collection[object]) -> None:
        self.address = address
        self.annotations = annotations
        self.content = bytearray(content)
        """All octets so far."""
        self.tried: set[object] = set(tried)
        """Consumers' links and neighbours that have released it."""


def is_echo(sender: Sender, came_from: Connection | None, mesh: str | None) -> bool:
    """Tell whether the echo rules forbid this consumer (router protocol, section 9.5)."""
    if sender.excluded:
        return True
    if not sender.is_guarded or came_from is None:
        return False
    connection = sender.connection
    if came_from.has_echo_rules and (connection is came_from or connection.router.is_edge):
        return True
    return mesh is not None and connection.mesh_id == mesh


def choose(
    address: Address,
    annotations: Annotations,
    came_from: Connection | None,
    may_pass: MayPass,
    tried: Collection[object] = (),
    more: int = 1,
) -> Destination | None:
    """Return where a delivery of an anycast address goes, or None when there is nowhere.

    Args:
        address: the address.
        annotations: what came with the message.
        came_from: connection it came in on; None when it began here.
        may_pass: may a message of that ingress be forwarded towards that router.
        tried: destinations and neighbour connections that have released this delivery already.
        more: 1; 0 for a pre-settled one, which is nothing to wait for.
    """
    if address.treatment == CLOSEST:
        return _closest(address, annotations, came_from, may_pass, tried)
    if address.treatment == EVEN:
        return _even(address, annotations, came_from, may_pass, tried)
    return _balanced(address, annotations, came_from, may_pass, tried, more)


def usable_nodes(
    address: Address, annotations: Annotations, may_pass: MayPass, tried: Collection[object]
) -> list[Node]:
    """Return the remote destinations that this delivery may be sent towards."""
    ingress = annotations.ingress
    return [
        node
        for node in address.remotes.values()
        if node.connection is not None
        and node.connection not in tried
        and (ingress is None or may_pass(node.router_id, ingress))
    ]


def _closest(
    address: Address,
    annotations: Annotations,
    came_from: Connection | None,
    may_pass: MayPass,
    tried: Collection[object],
) -> Destination | None:
    group: Any  # a list of either kind
    candidate: Sender | LocalService
    for group in (address.services, address.consumers):
        count = len(group)
        for place in range(address.turn, address.turn + count):
            candidate = group[place % count]
            if candidate in tried or (
                isinstance(candidate, Sender) and is_echo(candidate, came_from, annotations.mesh)
            ):
                continue
            address.turn = place % count + 1
            return candidate
    nodes = usable_nodes(address, annotations, may_pass, tried)
    if not nodes:
        return None
    lowest = min(node.cost for node in nodes)
    nearest = [node for node in nodes if node.cost == lowest]
    address.rotation += 1
    return nearest[address.rotation % len(nearest)]


def _balanced(
    address: Address,
    annotations: Annotations,
    came_from: Connection | None,
    may_pass: MayPass,
    tried: Collection[object],
    more: int,
) -> Destination | None:
    local: Sender | None = None
    least = MANY
    if address.consumers:
        ranking = ranking_of(address)
        # The rules about echoes concern edges only; nothing is asked of the consumers of a router that has none.
        if tried or annotations.mesh is not None or (came_from is not None and came_from.is_edge):
            local = ranking.first_of(
                lambda sender: sender not in tried and not is_echo(sender, came_from, annotations.mesh), more
            )
        else:
            local = ranking.first(more)
        if local is not None:
            least = ranking.load
            if least == 0:
                return local
    best: Destination | None = local
    services = address.services
    for index, service in enumerate(services):
        if service in tried:
            continue
        value = service.open_count
        if value == 0 and best is None:
            if len(services) > 1:
                services.append(services.pop(index))
            return service
        load = value if service.capacity > value else value + FULL
        if load < least:
            best, least = service, load
    if address.remotes:
        nodes = usable_nodes(address, annotations, may_pass, tried)
        if len(nodes) > 1:  # those that are equal take turns, or who asks for one thing at a time would meet one only
            address.rotation += 1
            first = address.rotation % len(nodes)
            nodes = nodes[first:] + nodes[:first]
        for node in nodes:
            assert node.connection is not None
            value = node.connection.outstanding.get(address, 0)
            load = value + node.cost if value < node.connection.capacity else value + node.cost + FULL
            if load < least:
                best, least = node, load
    if local is not None and best is not local:
        local.ease()
    return best


def ranking_of(address: Address) -> LeastLoaded:
    """Return the order of the consumers of an address by their load."""
    ranking = address.ranking
    if ranking is None:
        ranking = address.ranking = LeastLoaded(address.consumers)
    return ranking


def next_consumer(address: Address, more: int) -> Sender | None:
    """Return whose turn it is among the consumers of an address that `takes_turns`; `more`: as for `choose`.

    None: the choice has to be made with all rules, because another router may be better.
    """
    if address.treatment == CLOSEST:
        turn = address.turn if address.turn < len(address.consumers) else 0
        address.turn = turn + 1
        return address.consumers[turn]
    ranking = address.ranking or ranking_of(address)
    sender = ranking.first(more)
    if ranking.load and address.remotes and sender is not None:
        sender.ease()
        return None
    return sender


def chooser(address: Address) -> Callable[[int], Sender | None]:
    """Return `next_consumer` of this address, for as long as nobody comes or goes."""
    if address.treatment != CLOSEST and not address.remotes:
        return ranking_of(address).first
    return partial(next_consumer, address)


def _even(
    address: Address,
    annotations: Annotations,
    came_from: Connection | None,
    may_pass: MayPass,
    tried: Collection[object],
) -> Destination | None:
    """Whose turn it is. Consumers without credit let others go first; of several without, the first one gets it."""
    ingress = annotations.ingress
    turns = schedule_of(address, ingress).turns
    passed: list[Turn] = []
    found: Destination | None = None
    waiting: int | None = None
    now = 0
    while turns:
        turn = turns[0]
        when, number, step, destination = turn
        if type(destination) is Node:
            is_open = (
                destination.connection is not None
                and destination.connection not in tried
                and (ingress is None or may_pass(destination.router_id, ingress))
            )
        else:
            is_open = destination not in tried
            if is_open and isinstance(destination, Sender):
                if is_echo(destination, came_from, annotations.mesh):
                    is_open = False
                elif destination.credit <= 0:
                    waiting = len(passed) if waiting is None else waiting
                    is_open = False
        if is_open:
            heapreplace(turns, (when + step, number, step, destination))
            found, now = destination, when
            break
        passed.append(heappop(turns))
    if found is None and waiting is not None:
        when, number, step, destination = passed[waiting]
        passed[waiting] = (when + step, number, step, destination)
        found, now = destination, when
    for when, number, step, destination in passed:
        # Who could not be served for long does not get all of what comes then: one turn is made up for.
        heappush(turns, (max(when, now - step), number, step, destination))
    return found
