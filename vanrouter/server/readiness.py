"""Whether traffic would get through: what `/readyz` and `vanrouter_ready` say.

Layer: 5. Derived from what was observed: a socket that is bound, a link that is up, a server that answered. One service
of many that is down is that service's affair, not the router's; with none left there is no traffic to be ready for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vanrouter.adaptors.amqp import AmqpListener
from vanrouter.adaptors.amqp_connector import AmqpConnector
from vanrouter.core.peer import Role

if TYPE_CHECKING:
    from vanrouter.server.site import Site

LINKING = frozenset((Role.INTER_ROUTER, Role.EDGE))
"""Roles of connectors without which a router is alone."""

SERVICES = frozenset(("tcpListener", "tcpConnector", "httpListener", "httpConnector"))


def problems(site: Site) -> list[str]:
    """Return why traffic would fail, one line for each reason; none when it would not."""
    if site.is_shutting_down:
        return ["the router is shutting down"]
    if site.drain.is_on:
        return ["the router is draining"]
    return [*_closed_ports(site), *_missing_links(site), *_missing_services(site)]


def _closed_ports(site: Site) -> Iterator[str]:
    for live in site.objects.values():
        if isinstance(live, AmqpListener) and not live.is_listening:
            yield f"listener {live.settings.name or live.settings.endpoint} is not listening"


def _missing_links(site: Site) -> Iterator[str]:
    """Yield a reason when none of the connectors to other routers has led to one."""
    connectors = [
        live for live in site.objects.values() if isinstance(live, AmqpConnector) and live.settings.role in LINKING
    ]
    if not connectors:
        return
    router = site.router
    if router.is_interior and router.control.plane.neighbour_connections():
        return
    if router.edge is not None and router.edge.plane.active is not None:
        return
    for connector in connectors:
        settings = connector.settings
        reason = connector.message or f"no router has answered at {settings.endpoint} yet"
        yield f"no link: connector {settings.name or settings.endpoint}: {reason}"


def _missing_services(site: Site) -> Iterator[str]:
    """Yield a reason when there are services and all of them are known to be down."""
    services = [(entity, live) for entity, live in site.objects.items() if entity.type.short in SERVICES]
    if any(live.oper_status != "down" for _, live in services):
        return
    for entity, live in services:
        reason = live.live_attributes().get("connectionMsg")
        name = entity.name or entity.identity
        yield f"no service: {entity.type.short} {name} is down{f': {reason}' if reason else ''}"
