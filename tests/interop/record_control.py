"""Record the control protocol with a live peer: `python -m tests.interop.record_control PEER_PROGRAM OUTPUT.json`.

A router of this process links with the peer's; addresses come and go at both, the peer is killed and started again.
What the control plane is told and what it answers goes to the file, for tests/property/test_control_captures.py.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from tests.property.captures import INSTANCE, ROUTER_ID, shown
from tests.system.harness import Router as Peer
from tests.system.harness import Section
from tests.system.process import free_port
from vanrouter.adaptors.amqp import AmqpConnections, AmqpSettings
from vanrouter.adaptors.amqp_connector import AmqpConnector
from vanrouter.core.control import ControlHost
from vanrouter.core.peer import Role
from vanrouter.core.router import Mode, Router
from vanrouter.mgmt.client import ManagementClient
from vanrouter.net.reactor import Reactor

TOLD = ("on_link_up", "on_link_lost", "on_message", "on_timer", "on_address_added", "on_address_removed")


class Recorder:
    """Writes down what the plane of a router is told, and its answers."""

    def __init__(self, router: Router) -> None:
        self.events: list[dict[str, Any]] = []
        self._router = router
        self._content = b""
        decode = ControlHost._decode

        def keep(host: ControlHost, connection: Any, key: str, content: bytes, annotations: Any) -> Any:
            self._content = content
            return decode(host, connection, key, content, annotations)

        ControlHost._decode = keep  # type: ignore[method-assign]  # a tap
        ControlHost.take_repeated = lambda *_: False  # type: ignore[method-assign]  # each HELLO with its octets
        for name in TOLD:
            setattr(router.control.plane, name, self._tapped(name, getattr(router.control.plane, name)))

    def _tapped(self, name: str, call: Any) -> Any:
        def tapped(*arguments: Any) -> Any:
            answer = call(*arguments)
            if name == "on_message":
                _, _, connection_id, now = arguments
                more = [connection_id, bytes(self._content).hex()]
            else:
                now = self._router.reactor.now
                more = [each for each in arguments[:2] if each is not now and not isinstance(each, float)]
            self.events.append({"told": [name, now, *more], "answered": [shown(command) for command in answer]})
            return answer

        return tapped


def wait(reactor: Reactor, seconds: float) -> None:
    end = reactor.clock() + seconds
    while (left := end - reactor.clock()) > 0:
        reactor.run_once(left)


def beside(reactor: Reactor, work: Any) -> None:
    """Do something blocking while the router runs."""
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        reactor.run_once(0.05)


def main() -> None:
    program, output = sys.argv[1:]
    directory = Path(tempfile.mkdtemp())
    link, amqp = free_port(), free_port()
    sections: list[Section] = [
        ("listener", {"name": "amqp", "host": "127.0.0.1", "port": amqp}),
        ("listener", {"name": "link", "host": "127.0.0.1", "port": link, "role": "inter-router"}),
        ("tcpConnector", {"name": "first", "host": "127.0.0.1", "port": 9, "address": "first"}),
    ]
    reactor = Reactor()
    router = Router(reactor, ROUTER_ID, Mode.INTERIOR, instance=INSTANCE)
    recorder = Recorder(router)
    settings = AmqpSettings(name="to-p", host="127.0.0.1", port=str(link), role=Role.INTER_ROUTER)
    connector = AmqpConnector(AmqpConnections(router), settings)
    service = {"host": "127.0.0.1", "port": 9, "address": "there"}

    def manage(call: str) -> None:
        with ManagementClient(f"127.0.0.1:{amqp}") as client, contextlib.suppress(TimeoutError):
            if call == "create":
                client.create("tcpConnector", service, name="second")
            else:
                client.delete("tcpConnector", name="second")

    peer = Peer("P", sections, directory / "first", program=program)
    beside(reactor, peer.ready)
    connector.open()
    wait(reactor, 4)
    here = router.subscribe_messages("here", lambda *_: None, is_announced=True)
    beside(reactor, lambda: manage("create"))
    wait(reactor, 3)
    here.cancel()
    beside(reactor, lambda: manage("delete"))
    wait(reactor, 3)
    peer.kill()
    peer = Peer("P", sections, directory / "second", program=program)
    beside(reactor, peer.ready)
    wait(reactor, 6)
    connector.close()
    peer.kill()
    Path(output).write_text(json.dumps({"peer": sys.argv[1].rpartition("/")[2], "events": recorder.events}, indent=0))
    print(len(recorder.events), "events")


if __name__ == "__main__":
    main()
