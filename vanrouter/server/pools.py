"""What a router's memory holds: records by kind, under the names that the C router's pools of them have.

Layer: 5. Source: management.md sections 8 (allocator) and 13. There are no pools here: what is shown is how many
records exist and how large one is, without what it refers to. Counting is asking lengths, whatever there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vanrouter.adaptors.tcp_connector import ConnectorService
from vanrouter.adaptors.tcp_flow import Flow
from vanrouter.adaptors.tcp_listener import ListenerService
from vanrouter.core.connection import Connection
from vanrouter.core.links import Delivery, Sender
from vanrouter.core.table import Address, Node
from vanrouter.mgmt.series import POOLS

if TYPE_CHECKING:
    from vanrouter.server.site import Site


@dataclass(frozen=True, slots=True)
class Pool:
    """Records of one kind; `size` in bytes."""

    name: str
    size: int
    count: int

    def row(self) -> Mapping[str, object]:
        """Return the row of management."""
        return {
            "identity": f"allocator/{self.name}",
            "name": f"allocator/{self.name}",
            "typeName": self.name,
            "typeSize": self.size,
            "transferBatchSize": 0,
            "localFreeListMax": 0,
            "globalFreeListMax": 0,
            "totalAllocFromHeap": self.count,
            "totalFreeToHeap": 0,
            "heldByThreads": self.count,
            "batchesRebalancedToThreads": 0,
            "batchesRebalancedToGlobal": 0,
        }

    def gauges(self) -> Mapping[str, int]:
        """Return what `/metrics` shows of it, by the end of the name."""
        return {"allocated": self.count, "in_use": self.count, "cached": 0, "bytes": self.count * self.size}


def pools(site: Site) -> list[Pool]:
    """Return what there is now."""
    router = site.router
    connections = router.amqp_connections.values()
    services = [live for live in site.objects.values() if isinstance(live, (ListenerService, ConnectorService))]
    found = {
        "qd_connection_t": (size_of(Connection), len(connections)),
        "qd_tcp_connection_t": (size_of(Flow), sum(len(service.flows) for service in services)),
        "qdr_address_t": (size_of(Address), len(router.table.addresses)),
        "qdr_delivery_t": (size_of(Delivery), sum(len(each.incoming) + len(each.outgoing) for each in connections)),
        "qdr_link_t": (size_of(Sender), len(router.links)),
        "qdr_node_t": (size_of(Node), len(router.nodes)),
    }
    return [Pool(name, *found[name]) for name in POOLS]


def size_of(kind: type[object]) -> int:
    """Return the bytes of one record; 0 where the interpreter does not tell (PyPy)."""
    return int(getattr(kind, "__basicsize__", 0))
