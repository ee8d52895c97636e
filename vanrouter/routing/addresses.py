"""Addresses: from the text in a message to the key of the address table, and the texts that this router makes.

Owns the syntax of router protocol section 3 and the dynamic addresses of section 8. Layer: 2 (errors, ids).

A key is one class character and a rest: `L` local, `T` all routers, `R` one router, `A` another area, `N` another
network, `H` an edge router, `M` mobile.
"""

from __future__ import annotations

from typing import Final

from vanrouter.ids import AREA

EDGE_KEY: Final = "L_edge"
"""Key of "send it up to the interior" on an edge router (section 3.2)."""

HELLO_TO: Final = "amqp:/_local/qdhello"
TOPOLOGY_ALL_TO: Final = "amqp:/_topo/0/all/qdrouter"
MOBILE_ALL_TO: Final = "_topo/0/all/qdrouter.ma"
"""The differential MAU's address, alone in having no scheme (section 14, trap 10)."""

ADVERTISED_CLASSES: Final = "MHN"
"""Classes of the keys that MAUs carry (section 5.6)."""

_TOPOLOGICAL: Final = "amqp:/_topo/"
_DYNAMIC: Final = "temp."
"""Begin of the names of dynamic addresses (section 8), and of the texts of almost all of them."""

KEY_CACHE_SIZE: Final = 8192
"""Texts whose keys are remembered; the cache starts again when it is full."""


def topology_to(router_id: str) -> str:
    """Return the address of LSR and LSU for one router (section 3.3)."""
    return f"amqp:/_topo/{AREA}/{router_id}/qdrouter"


def mobile_to(router_id: str) -> str:
    """Return the address of MAR and absolute MAU for one router (section 3.3)."""
    return f"amqp:/_topo/{AREA}/{router_id}/qdrouter.ma"


def annotation_id(router_id: str) -> str:
    """Return the form of a router id in the router annotations: `0/A`."""
    return f"{AREA}/{router_id}"


def bare_id(annotation: str) -> str:
    """Return the router id of an entry of the router annotations: `0/A` gives `A` (section 3.2)."""
    return annotation.removeprefix(AREA + "/")


def path_of(text: str) -> str:
    """Return the path of an address text: scheme and host removed (section 3.1)."""
    if text.startswith("//"):
        host_end = text.find("/", 2)
        return text if host_end < 0 else text[host_end + 1 :] or text
    if text.startswith("/"):
        return text[1:] or text
    at = 1
    while True:
        colon = text.find(":", at)
        if colon < 0:
            return text
        if text.startswith("/", colon + 1):
            break
        at = colon + 2  # what follows a colon is passed over with it, so "a::/k" has no separator
    start = colon + 2
    if text.startswith("/", start):
        host_end = text.find("/", start + 1)
        if host_end < 0:
            return text
        start = host_end + 1
    return text[start:] or text


def _first_element(path: str) -> tuple[str, str | None]:
    """Split off the first element; the rest is None when no slash follows it."""
    element, slash, rest = path.partition("/")
    return element, rest if slash else None


class AddressSpace:
    """The addresses as one router sees them.

    Args:
        router_id: own id.
        is_edge: whether the router runs in edge mode.
        network_id: own network; None, empty or `0` mean none.
        tenant_id: element put before the name of dynamic addresses and of tenant-scoped service addresses.
    """

    def __init__(
        self, router_id: str, *, is_edge: bool = False, network_id: str | None = None, tenant_id: str | None = None
    ) -> None:
        self.router_id = router_id
        self.is_edge = is_edge
        self.tenant_id = tenant_id or None
        self._network_id = _network(network_id)
        self._edge_peers: set[str] = set()
        self._keys: dict[str, str] = {}
        self._places: dict[str, str] = {}
        """Keys of the dynamic address named `x` at each place."""

    @property
    def network_id(self) -> str | None:
        """Own network id, None when there is none."""
        return self._network_id

    def set_network_id(self, network_id: str | None) -> None:
        """Change the own network; addresses made before keep their form."""
        self._network_id = _network(network_id)
        self._forget_keys()

    def add_edge_peer(self, router_id: str) -> None:
        """Note a directly connected edge (inter-edge): its `_edge` addresses no longer go up."""
        self._edge_peers.add(router_id)
        self._forget_keys()

    def remove_edge_peer(self, router_id: str) -> None:
        """Forget a directly connected edge."""
        self._edge_peers.discard(router_id)
        self._forget_keys()

    def _forget_keys(self) -> None:
        self._keys.clear()
        self._places.clear()

    def key(self, text: str) -> str:
        """Return the key of an address text, remembered for the next time."""
        key = self._keys.get(text)
        if key is None:
            # Dynamic addresses come and go with their flows: remembered, they would keep a page of memory each.
            place, is_dynamic, name = text.partition(_DYNAMIC)
            if is_dynamic:
                return self._dynamic_key(text, place, name)
            key = self.key_of_path(path_of(text))
            if len(self._keys) >= KEY_CACHE_SIZE:
                self._keys.clear()
            self._keys[text] = key
        return key

    def _dynamic_key(self, text: str, place: str, name: str) -> str:
        """Return the key of `place` + `temp.` + `name`; what a place of the usual form comes to is remembered."""
        if not (place.startswith(_TOPOLOGICAL) and name) or "/" in name or name.endswith("."):
            return self.key_of_path(path_of(text))
        key = self._places.get(place)
        if key is None:
            key = self.key_of_path(path_of(place + _DYNAMIC + "x"))
            if len(self._places) >= KEY_CACHE_SIZE:
                self._places.clear()
            self._places[place] = key
        return key[:-1] + name if key.endswith(_DYNAMIC + "x") else key

    def key_of_path(self, path: str) -> str:
        """Return the key of a path (section 3.2)."""
        if path.endswith(("/", ".")):
            path = path[:-1]
        if not path.startswith("_"):
            return "M" + path
        head, rest = _first_element(path)
        if rest is None:
            return "M" + path
        if head == "_local":
            return "L" + rest
        if head == "_topo":
            return self._topological(rest)
        if head == "_edge":
            return self._edge(rest)
        if head in ("_xtopo", "_xedge"):
            return self._external(head, rest)
        return "M" + path

    def _topological(self, rest: str) -> str:
        area, after = _first_element(rest)
        if area not in ("all", AREA) or after is None:
            return EDGE_KEY if self.is_edge else "A" + area
        router, name = _first_element(after)
        if name is not None:
            if router == "all":
                return "T" + name
            if router == self.router_id:
                return "L" + name
        return EDGE_KEY if self.is_edge else "R" + router

    def _edge(self, rest: str) -> str:
        router, name = _first_element(rest)
        if router == self.router_id and name is not None:
            return "L" + name
        if self.is_edge and router not in self._edge_peers:
            return EDGE_KEY
        return "H" + router

    def _external(self, head: str, rest: str) -> str:
        network, after = _first_element(rest)
        is_own = self._network_id is None or network in ("0", self._network_id)
        if not is_own or after is None:
            return EDGE_KEY if self.is_edge else "N" + network
        return self._topological(after) if head == "_xtopo" else self._edge(after)

    def dynamic_source(self, suffix: str) -> str:
        """Return the address given to a receiver that asked for one (section 8).

        Args:
            suffix: 15 random characters (`ids.random_suffix`).
        """
        name = _DYNAMIC + suffix if self.tenant_id is None else f"{self.tenant_id}/{_DYNAMIC}{suffix}"
        place = self.router_id if self.is_edge else f"{AREA}/{self.router_id}"
        scope = "edge" if self.is_edge else "topo"
        if self._network_id is None:
            return f"amqp:/_{scope}/{place}/{name}"
        return f"amqp:/_x{scope}/{self._network_id}/{place}/{name}"

    def dynamic_target(self, suffix: str) -> str:
        """Return the mobile address given to a sender that asked for one (section 8)."""
        return f"amqp:/_$temp.{suffix}"

    def service_address(self, address: str) -> str:
        """Return the address of a tenant-scoped service."""
        return address if self.tenant_id is None else f"{self.tenant_id}/{address}"


def _network(network_id: str | None) -> str | None:
    return None if network_id in (None, "", "0") else network_id
