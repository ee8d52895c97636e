"""A ring of five: three vanrouters and two C routers, each kind beside its own and the other."""

from __future__ import annotations

from tests.system.network import Network
from tests.system.pki import Pki

NAMES = ("V0", "V1", "C2", "C3", "V4")
"""V0 to V1 and C2 to C3 link one kind, the three others both; each router connects to the next."""

SERVICES = ("V0", "C3")
"""Where there is a TCP service, `at-V0` and `at-C3`; its clients are everywhere else, at `to-at-V0` and `to-at-C3`."""


def mixed_ring(network: Network, c_router: str, echo_port: int, pki: Pki | None) -> None:
    """Describe the ring; with an authority all links are mutual TLS with checked names."""
    connecting: dict[str, object] = {}
    listening: dict[str, object] = {}
    if pki is not None:
        connecting = {"sslProfile": "mutual", "saslMechanisms": "EXTERNAL"}
        listening = {**connecting, "authenticatePeer": True}
    for name in NAMES:
        network.add(name, c_router if name[0] == "C" else None)
        if pki is not None:
            network.section(name, pki.issue(name).ssl_profile("mutual"))
    for place, name in enumerate(NAMES):
        network.link(name, NAMES[(place + 1) % len(NAMES)], listener_more=listening, **connecting)
    for at in SERVICES:
        network.service(f"at-{at}", at, echo_port)
        for name in NAMES:
            if name != at:
                network.clients(f"at-{at}", name)
