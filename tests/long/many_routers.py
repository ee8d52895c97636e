"""Many interior routers in one process, each a whole one: `python -m tests.long.many_routers COUNT PORT...`.

They are a tree with a dozen branches at each, made some at a time, as all share one loop. When all know each other
the root, R000, connects to the inter-router listeners at the ports given.

Prints `known LEAST to MOST, refused COUNT` each time that it is something else: how many other routers each of them
knows, and how often one was left out because there were too many.
"""

from __future__ import annotations

import socket
import sys
import time

from vanrouter.adaptors.amqp import AmqpConnections, AmqpSettings
from vanrouter.adaptors.amqp_connector import AmqpConnector
from vanrouter.core.peer import Role
from vanrouter.core.router import Mode, Router
from vanrouter.net.reactor import Reactor
from vanrouter.routing.commands import ControlSettings

BRANCHES = 12
AT_ONCE = 30
PATIENCE = ControlSettings(hello_max_age_s=60.0)
"""As many come at a time; all share one loop, and while it is busy with what they learn HELLOs are late."""


def link(connector: Router, listener: Router) -> None:
    """Connect two of them by a pair of sockets."""
    settings = AmqpSettings(name="branch", host="here", port="0", role=Role.INTER_ROUTER, idle_timeout_s=240)
    for router, sock, is_server in zip((connector, listener), socket.socketpair(), (False, True), strict=True):
        sock.setblocking(False)
        connections = AmqpConnections(router)
        connection = connections.make(sock, settings, None, is_server=is_server, host="here:0")
        connections.start(connection)


def add(reactor: Reactor, routers: list[Router]) -> None:
    added = Router(reactor, f"R{len(routers):03}", Mode.INTERIOR, instance=int(time.time()), control_settings=PATIENCE)
    if routers:
        link(added, routers[(len(routers) - 1) // BRANCHES])
    routers.append(added)


def shown(routers: list[Router]) -> str:
    known = [len(router.nodes) for router in routers]
    refused = sum(router.control.plane.routers_refused for router in routers)
    return f"known {min(known)} to {max(known)}, refused {refused}"


def main() -> None:
    count, *ports = map(int, sys.argv[1:])
    reactor = Reactor()
    routers: list[Router] = []
    last = ""
    while True:
        if all(len(router.nodes) >= len(routers) - 1 for router in routers):
            if len(routers) == count:
                for port in ports:
                    settings = AmqpSettings(name=f"to-{port}", host="127.0.0.1", port=str(port), role=Role.INTER_ROUTER)
                    AmqpConnector(AmqpConnections(routers[0]), settings).open()
                ports.clear()
            for _ in range(min(AT_ONCE, count - len(routers))):
                add(reactor, routers)
        reactor.run_once(0.1)
        now = shown(routers)
        if now != last:
            print(now, flush=True)
            last = now


if __name__ == "__main__":
    main()
