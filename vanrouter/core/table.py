"""The address table: who consumes what, here and elsewhere.

Layer: 3. Source: router protocol, sections 3.2, 3.4, 5.6 and 7.1. Keys are a class character and a rest (`Mfoo`). The
table changes rarely and is read for each delivery: what a delivery needs is kept ready on the `Address`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol, final

from vanrouter.routing.messages import MAX_WEIGHT

if TYPE_CHECKING:
    from vanrouter.core.connection import Connection
    from vanrouter.core.even import Schedule
    from vanrouter.core.links import Receiver, Sender
    from vanrouter.core.stream import Producer, Sink, StreamHead
    from vanrouter.core.turns import LeastLoaded
    from vanrouter.engine.annotations import Annotations


class Treatment(IntEnum):
    """How an address chooses among its destinations; the numbers travel in MAUs (section 5.6)."""

    FLOOD = 0
    MULTICAST = 1
    CLOSEST = 2
    BALANCED = 3
    UNAVAILABLE = 4
    EVEN = 5
    """An addition (extensions): fewest deliveries in proportion to weight; reads as balanced elsewhere."""


FLOOD, MULTICAST, CLOSEST, BALANCED, UNAVAILABLE, EVEN = Treatment
"""The members, bound once for what runs for each delivery: to look one up in its class takes CPython 3.11 longer than a
call of the engine."""

NO_WEIGHTS: dict[str, int] = {}
"""Of the addresses that have none, which is nearly all."""


@final
class Node:
    """Another router, as far as forwarding is concerned."""

    __slots__ = ("connection", "cost", "is_neighbour", "next_hop", "router_id")

    def __init__(self, router_id: str) -> None:
        self.router_id = router_id
        self.next_hop = ""
        self.connection: Connection | None = None
        """Connection to the next hop; None while there is no way."""
        self.cost = 1
        self.is_neighbour = False


class LocalService(Protocol):
    """An in-process destination."""

    is_stream: bool
    """Takes streams of octets; otherwise whole messages."""
    open_count: int
    """Deliveries in progress, for balancing."""
    capacity: int
    takes_sections: bool
    """Takes messages with their sections, as they come (`on_delivery`)."""
    weight: int
    """Share of new deliveries where the distribution is `even` (extensions)."""

    def on_stream(self, head: StreamHead, producer: Producer) -> Sink:
        """A stream begins."""

    def on_delivery(self, annotations: Annotations, producer: Producer) -> Sink:
        """A message begins whose sections follow."""

    def on_message(self, annotations: Annotations, content: bytes, receiver: Receiver | None) -> None:
        """A whole message; `receiver` is the link it came on, None for one from inside the router."""


class Watch:
    """Tells somebody whether an address can be reached. Cancel with `cancel()`."""

    __slots__ = ("_address", "_table", "callback", "state")

    def __init__(self, table: AddressTable, address: Address, callback: Callable[[bool], object]) -> None:
        self._table = table
        self._address = address
        self.callback = callback
        self.state = address.is_reachable

    def cancel(self) -> None:
        """Watch no longer."""
        if self in self._address.watches:
            self._address.watches.remove(self)
            if self._table.on_change is not None:
                self._table.on_change(self._address)
            self._table.drop_if_unused(self._address)


class Address:
    """One address with its producers and destinations."""

    __slots__ = (
        "consumers",
        "container_counts",
        "deliveries_egress",
        "deliveries_from_container",
        "deliveries_ingress",
        "deliveries_to_container",
        "deliveries_transit",
        "generation",
        "hint",
        "is_internal",
        "key",
        "mesh_id",
        "permanent",
        "priority",
        "producers",
        "ranking",
        "remote_meshes",
        "remote_weights",
        "remotes",
        "rotation",
        "schedules",
        "services",
        "sole",
        "sole_node",
        "special_count",
        "takes_turns",
        "tracked",
        "treatment",
        "turn",
        "watches",
        "weight",
    )

    def __init__(self, key: str, treatment: Treatment, priority: int | None) -> None:
        self.key = key
        self.treatment = treatment
        self.priority = priority
        """Configured priority, or None: the message's own."""
        self.hint = treatment
        self.permanent = False
        self.is_internal = False
        """Never announced to other routers."""
        self.consumers: list[Sender] = []
        self.services: list[LocalService] = []
        self.remotes: dict[str, Node] = {}
        self.remote_meshes: dict[str, str] | None = None
        """Routers all of whose consumers are in one edge mesh, and that mesh (section 5.6)."""
        self.mesh_id: str | None = None
        """Edge mesh that all consumers here are in."""
        self.remote_weights: dict[str, int] = NO_WEIGHTS
        """Weights of routers that have told one (extensions); all others have 1."""
        self.weight: int | None = None
        """Weight of the destinations here, as announced."""
        self.schedules: dict[str | None, Schedule] | None = None
        """Turns of the distribution `even`, by ingress router."""
        self.producers: dict[Receiver, None] = {}
        self.watches: list[Watch] = []
        self.rotation = 0
        self.turn = 0
        """Place of the next consumer or service (closest)."""
        self.generation = 0
        """Changes with each change of the destinations; what caches a choice compares it."""
        self.sole: Sender | None = None
        """The only destination, where it is a consumer's link for which no rule has to be asked."""
        self.takes_turns = False
        """One of several consumers here is chosen, and no rule has to be asked for any of them."""
        self.special_count = 0
        """Consumers for which rules have to be asked."""
        self.ranking: LeastLoaded | None = None
        """Consumers by their load, once a choice was made (balanced)."""
        self.sole_node: Node | None = None
        """The one destination, when there is exactly one and it is another router."""
        self.deliveries_ingress = 0
        self.deliveries_egress = 0
        self.deliveries_transit = 0
        self.deliveries_to_container = 0
        self.deliveries_from_container = 0
        self.container_counts: dict[str, int] = {}
        """Deliveries from and to containers, over links that are gone; those of open links are with the links."""
        self.tracked = 0

    @property
    def is_reachable(self) -> bool:
        """Something consumes it, here or at a known router."""
        return bool(self.consumers or self.services or self.remotes)

    @property
    def has_local_destination(self) -> bool:
        """Something here consumes it: what is announced to other routers."""
        return bool(self.consumers or self.services)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRule:
    """A configured prefix or pattern (management.md section 8, router.config.address)."""

    pattern: str
    treatment: Treatment
    priority: int | None = None


def local_weight(address: Address) -> int | None:
    """Return the weight of the destinations here as other routers are told it.

    None where it has no meaning: then changes of the number of consumers are no news for the network.
    """
    services = address.services
    if address.treatment != Treatment.EVEN and all(service.weight == 1 for service in services):
        return None
    return min(len(address.consumers) + sum(service.weight for service in services), MAX_WEIGHT) or None


_SEPARATORS = re.compile(r"[./]")
_MAX_CACHED_MATCHES = 10_000


class AddressRules:
    """The configured patterns. `.` and `/` part tokens; `*` is one token, `#` any number; exact beats `*` beats `#`."""

    def __init__(self, default: Treatment) -> None:
        self.default = default
        self._rules: dict[str, AddressRule] = {}
        self._tree: dict[str, Any] = {}
        self._matches: dict[str, AddressRule | None] = {}

    def __contains__(self, pattern: str) -> bool:
        return self._normal(pattern) in self._rules

    @staticmethod
    def _normal(pattern: str) -> str:
        return "/".join(filter(None, _SEPARATORS.split(pattern)))

    def add(self, rule: AddressRule) -> None:
        """Add a rule; one of the same pattern is replaced."""
        pattern = self._normal(rule.pattern)
        self._rules[pattern] = rule
        node = self._tree
        for token in pattern.split("/"):
            node = node.setdefault(token, {})
        node[""] = rule
        self._matches.clear()

    def remove(self, pattern: str) -> None:
        """Remove the rule of that pattern."""
        pattern = self._normal(pattern)
        if self._rules.pop(pattern, None) is None:
            return
        nodes = [self._tree]
        tokens = pattern.split("/")
        for token in tokens:
            nodes.append(nodes[-1][token])
        del nodes.pop()[""]
        for node, token in zip(reversed(nodes), reversed(tokens), strict=True):
            if node[token]:
                break
            del node[token]
        self._matches.clear()

    def match(self, path: str) -> AddressRule | None:
        """Return the most specific rule for a path."""
        if not self._rules:
            return None
        if path not in self._matches:
            if len(self._matches) >= _MAX_CACHED_MATCHES:
                self._matches.clear()
            self._matches[path] = self._find(self._tree, _SEPARATORS.split(path), 0, set())
        return self._matches[path]

    def _find(
        self, node: dict[str, Any], tokens: list[str], at: int, failed: set[tuple[int, int]]
    ) -> AddressRule | None:
        """`failed`: where a `#` was tried in vain; without it a few of them make the search exponential."""
        if at == len(tokens):
            rule = node.get("")
            if rule is None and "#" in node:
                rule = self._find(node["#"], tokens, at, failed)
            return rule if isinstance(rule, AddressRule) else None
        token = tokens[at]
        if token and token in node:
            found = self._find(node[token], tokens, at + 1, failed)
            if found is not None:
                return found
        if "*" in node:
            found = self._find(node["*"], tokens, at + 1, failed)
            if found is not None:
                return found
        if "#" in node:
            following = node["#"]
            for skipped in range(at, len(tokens) + 1):
                if (id(following), skipped) in failed:
                    break  # and so did all after it
                found = self._find(following, tokens, skipped, failed)
                if found is not None:
                    return found
                failed.add((id(following), skipped))
        return None


class AddressTable:
    """All addresses that somebody here or elsewhere has to do with."""

    def __init__(self, default: Treatment, on_local_change: Callable[[Address], object]) -> None:
        """`on_local_change` is told when what other routers know of an address's local destinations has changed."""
        self.addresses: dict[str, Address] = {}
        self.rules = AddressRules(default)
        self.gone_ingress = 0
        self.gone_egress = 0
        self.gone_transit = 0
        """Deliveries of addresses that are forgotten."""
        self.on_reachable: Callable[[Address], object] = lambda address: None
        """Told when an address becomes reachable, and when it ceases to be."""
        self._on_local_change = on_local_change
        self.on_change: Callable[[Address], object] | None = None
        """Told of each change of destinations or watches, where edges have to do with it."""
        self.is_edge = False
        """Of an edge router: the interior may have more consumers of a multicast than are known here."""

    def get(self, key: str) -> Address | None:
        """Return the address of that key, if it exists."""
        return self.addresses.get(key)

    def ensure(self, key: str, hint: int | None = None, *, is_weighted: bool = False) -> Address:
        """Return the address of that key, made if need be.

        Args:
            key: class character and rest.
            hint: the treatment that another router announced.
            is_weighted: it announced a weight as well, which has a meaning for `even` alone: `even` reads as balanced
                in the hint, and the weight says what was meant.
        """
        address = self.addresses.get(key)
        if address is None:
            treatment, priority = self.treatment_of(key, hint)
            if is_weighted and treatment == hint == Treatment.BALANCED and self.rules.match(key[1:]) is None:
                treatment = Treatment.EVEN
            address = self.addresses[key] = Address(key, treatment, priority)
        return address

    def treatment_of(self, key: str, hint: int | None = None) -> tuple[Treatment, int | None]:
        """Return treatment and priority for a new address (sections 3.4 and 5.6)."""
        if key[0] == "M":
            rule = self.rules.match(key[1:])
            if rule is not None:
                return rule.treatment, rule.priority
            if hint is not None and Treatment.FLOOD <= hint <= Treatment.UNAVAILABLE:
                return Treatment(hint), None
            if hint is not None and self.rules.default == Treatment.UNAVAILABLE:
                return Treatment.BALANCED, None
            return self.rules.default, None
        if key[0] == "T":
            return Treatment.MULTICAST, None
        if key[0] == "R":
            return Treatment.CLOSEST, None
        return Treatment.BALANCED, None

    def changed(self, address: Address, was_reachable: bool, was_local: bool) -> None:
        """Bring what is derived up to date after a change of destinations, and tell who waits for it."""
        address.generation += 1
        only = (
            address.consumers[0]
            if len(address.consumers) == 1 and not address.services and not address.remotes
            else None
        )
        if only is not None and (
            only.is_special or address.treatment == UNAVAILABLE or (self.is_edge and address.treatment <= MULTICAST)
        ):
            only = None
        address.sole = only
        address.takes_turns = (
            len(address.consumers) > 1
            and not address.services
            and not address.special_count
            and (address.treatment == Treatment.CLOSEST or address.treatment == Treatment.BALANCED)
        )
        is_one_remote = len(address.remotes) == 1 and not address.consumers and not address.services
        address.sole_node = next(iter(address.remotes.values())) if is_one_remote else None
        is_local = address.has_local_destination
        weight = local_weight(address)
        is_changed = was_local != is_local or weight != address.weight
        address.weight = weight
        if self.on_change is not None:
            self.on_change(address)
        if is_changed and not address.is_internal:
            self._on_local_change(address)
        is_reachable = address.is_reachable
        if was_reachable != is_reachable:
            self.on_reachable(address)
            for watch in tuple(address.watches):
                watch.state = is_reachable
                watch.callback(is_reachable)
            self.drop_if_unused(address)

    def add_consumer(self, address: Address, sender: Sender) -> None:
        """A link here consumes the address."""
        before = address.is_reachable, address.has_local_destination
        address.consumers.append(sender)
        address.special_count += sender.is_special
        if address.ranking is not None:
            address.ranking.add(sender)
        self.changed(address, *before)

    def remove_consumer(self, address: Address, sender: Sender) -> None:
        """That link is gone."""
        if sender in address.consumers:
            before = address.is_reachable, address.has_local_destination
            address.consumers.remove(sender)
            address.special_count -= sender.is_special
            if address.ranking is not None:
                address.ranking.remove(sender)
            self.changed(address, *before)
        self.drop_if_unused(address)

    def add_service(self, address: Address, service: LocalService) -> None:
        """Something in this process consumes the address."""
        before = address.is_reachable, address.has_local_destination
        address.services.append(service)
        self.changed(address, *before)

    def remove_service(self, address: Address, service: LocalService) -> None:
        """That service is gone."""
        if service in address.services:
            before = address.is_reachable, address.has_local_destination
            address.services.remove(service)
            self.changed(address, *before)
        self.drop_if_unused(address)

    def bind_remote(self, address: Address, node: Node) -> None:
        """Another router has consumers of the address."""
        if node.router_id not in address.remotes:
            before = address.is_reachable, address.has_local_destination
            address.remotes[node.router_id] = node
            self.changed(address, *before)

    def set_remote_weight(self, address: Address, router_id: str, weight: int | None) -> None:
        """Another router has told the weight of its consumers; None: it has told none."""
        if address.remote_weights.get(router_id) == weight:
            return
        if address.remote_weights is NO_WEIGHTS:
            address.remote_weights = {}
        if weight is None:
            del address.remote_weights[router_id]
        else:
            address.remote_weights[router_id] = weight
        address.generation += 1

    def unbind_remote(self, address: Address, router_id: str) -> None:
        """It has none any more."""
        if address.remote_weights:
            address.remote_weights.pop(router_id, None)
        if router_id in address.remotes:
            before = address.is_reachable, address.has_local_destination
            del address.remotes[router_id]
            self.changed(address, *before)
        self.drop_if_unused(address)

    def watch(self, address: Address, callback: Callable[[bool], object]) -> Watch:
        """Call `callback` with the present state at once and whenever it changes."""
        watch = Watch(self, address, callback)
        address.watches.append(watch)
        if self.on_change is not None:
            self.on_change(address)
        callback(watch.state)
        return watch

    def drop_if_unused(self, address: Address) -> None:
        """Forget an address that nobody has to do with any more."""
        if (
            not address.permanent
            and not address.is_reachable
            and not address.producers
            and not address.watches
            and self.addresses.get(address.key) is address
        ):
            del self.addresses[address.key]
            address.generation += 1
            self.gone_ingress += address.deliveries_ingress
            self.gone_egress += address.deliveries_egress
            self.gone_transit += address.deliveries_transit

    def __iter__(self) -> Iterable[Address]:
        return iter(self.addresses.values())
