"""vanrouter: application networks in Python.

Each site runs one router. Routers link over mutual TLS, find the best way by link-state routing, and carry AMQP 1.0
messages and TCP connections between services that cannot reach each other by IP.

Floors; imports run downward only, and a unit test holds the table:

    cli       the programs; arguments, exit codes, the only `print`
    server    composition root: builds everything, reload, drain, shutdown
    adaptors  one protocol each, never each other: AMQP clients, TCP and HTTP services
    core      address table, links, deliveries, streams, choice of destination
    engine    the only package of the daemon that touches Qpid Proton
    net       event loop, timers, listeners, connectors
    routing   the routing protocol, pure, told the time
    mgmt      schema, entities, management agent, configuration files
    errors    histogram    ids

A byte: `adaptors/tcp_flow` reads a client socket and pushes into its stream (`core/stream`); `core/forwarder` chose the
outgoing link when the flow began; `engine/connection` has Proton frame and encrypt it, and writes once for all that
was queued in this turn of the loop. At the other site the same rooms in reverse.

A route: a neighbour's message arrives on the control link; `routing/control` is told `(message, now)` and returns
what to send and what changed; `core/router` applies the change to `core/table`; the next delivery uses it.

A setting: a file or a management request; `mgmt/schema` validates and fills defaults; `mgmt/entities` records it;
`server` tells the room concerned; the live attributes answer the next query.
"""

__version__ = "0.1.0"
