"""Records of a whole network, read at a third router (vanflow)."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from tests.system.network import Network, eventually
from tests.system.process import held
from tests.system.services import connect, receive_exactly
from vanrouter.mgmt import vanflow_picture
from vanrouter.mgmt.vanflow import Attribute, Attributes, RecordType
from vanrouter.mgmt.vanflow_client import Collector
from vanrouter.mgmt.vanflow_picture import Picture
from vanrouter.mgmt.vanflow_summary import has_all_routers

VAN = [sys.executable, "-c", "from vanrouter.cli.van import main; main()"]
DEADLINE_S = 20.0


def start(network: Network, echo_port: int) -> Network:
    """A listener at A, the service at B, an edge with a listener below C; all in a row."""
    for name in "ABC":
        network.add(name)
    network.add("E", mode="edge")
    network.link("A", "B", cost=4)
    network.link("B", "C")
    network.link("E", "C", role="edge")
    network.section("B", ("site", {"name": "middle", "platform": "linux"}))
    network.service("echo", "B", echo_port)
    network.clients("echo", "A")
    network.clients("echo", "E")
    return network.start()


@pytest.fixture
def network(network: Network, echo_port: int) -> Iterator[Network]:
    yield start(network, echo_port)
    network.check_logs()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, echo_port: int) -> Iterator[Network]:
    """The same for tests that only look."""
    with held(Network(tmp_path_factory.mktemp("standing"))) as made:
        yield start(made, echo_port)
        made.check_logs()


def url(network: Network, name: str) -> str:
    return f"127.0.0.1:{network[name].port('amqp')}"


def flow_of(picture: Picture, port: int) -> Attributes | None:
    """The record of the connection of a client."""
    found = picture.of_type(RecordType.BIFLOW_TPORT).values()
    return next((record for record in found if record.get(Attribute.SOURCE_PORT) == str(port)), None)


def talk(client: socket.socket, octets: int) -> None:
    client.sendall(bytes(octets))
    receive_exactly(client, octets)


def test_the_records_of_a_network(network: Network) -> None:
    with Collector(url(network, "C")) as collector:
        assert collector.wait_for(has_all_routers, DEADLINE_S)
        assert collector.wait_for(lambda picture: len(picture.live(RecordType.ROUTER)) == 4, DEADLINE_S)
        with collector.picture() as picture:
            links = [
                (record[Attribute.NAME], record[Attribute.OPER_STATUS], record[Attribute.LINK_COST])
                for record in picture.live(RecordType.LINK).values()
            ]
            assert sorted(links) == [("to-B", "up", 4), ("to-C", "up", 1), ("to-C", "up", 1)]
            (site,) = picture.live(RecordType.SITE).values()
            assert site[Attribute.NAME] == "middle"
            listeners = {
                record[Attribute.PARENT]: identity for identity, record in picture.live(RecordType.LISTENER).items()
            }
            (connector,) = picture.live(RecordType.CONNECTOR)
            names = {
                str(record[Attribute.NAME]): identity for identity, record in picture.live(RecordType.ROUTER).items()
            }
        for name in ("A", "E"):
            with connect(network[name].port("to-echo")) as client:
                port = client.getsockname()[1]
                talk(client, 500)

                def is_complete(picture: Picture, port: int = port) -> Attributes | None:
                    record = flow_of(picture, port)
                    return record if record and Attribute.PROCESS_LATENCY in record else None

                record = collector.wait_for(is_complete, DEADLINE_S)
                assert record, f"no complete record of the flow at {name}"
                assert record[Attribute.PARENT] == listeners[names[f"0/{name}"]]
                assert (record[Attribute.CONNECTOR], record[Attribute.SOURCE_HOST]) == (connector, "127.0.0.1")
                assert (record[Attribute.OCTETS], record[Attribute.OCTETS_REVERSE]) == (500, 500)
                assert record[Attribute.LATENCY] >= record[Attribute.PROCESS_LATENCY] > 0
                assert Attribute.END_TIME not in record
                talk(client, 250)
                grown = lambda picture, port=port: flow_of(picture, port)[Attribute.OCTETS] == 750  # noqa: E731
                assert collector.wait_for(grown, DEADLINE_S)
            ended = lambda picture, port=port: Attribute.END_TIME in flow_of(picture, port)  # noqa: E731
            assert collector.wait_for(ended, DEADLINE_S)
        with collector.picture() as picture:
            assert (picture.refused, picture.left_out, picture.gaps) == (0, 0, 0)
            totals = [picture.totals[identity] for identity in listeners.values()]
            assert [(one.opened, one.closed, one.failed, one.octets) for one in totals] == [(1, 1, 0, 750)] * 2
        line = re.compile(r"FLOW_LOG \(info\) BIFLOW_TPORT \[\w+:\d+\] BEGIN END .*octets=750 .*octetsReverse=750")
        eventually(lambda: any(line.search(text) for text in network["A"].log))


def test_a_router_that_goes_is_forgotten_and_comes_back(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not say that it ends: its records go by silence, of four heartbeats here instead of fifteen."""
    monkeypatch.setattr(vanflow_picture, "SILENCE_S", 8.0)
    with Collector(url(network, "C")) as collector:
        assert collector.wait_for(lambda picture: len(picture.live(RecordType.ROUTER)) == 4, DEADLINE_S)
        with collector.picture() as picture:
            before = records_of_a(picture)
        network["A"].kill()
        network.start("A")
        assert collector.wait_for(lambda picture: bool(records_of_a(picture) - before), DEADLINE_S)
        assert collector.wait_for(lambda picture: not records_of_a(picture) & before, DEADLINE_S)
        assert collector.wait_for(lambda picture: len(picture.live(RecordType.ROUTER)) == 4, DEADLINE_S)


def records_of_a(picture: Picture) -> set[str]:
    return {identity for identity, r in picture.live(RecordType.ROUTER).items() if r[Attribute.NAME] == "0/A"}


def test_a_router_that_ends_in_order_says_so(network: Network) -> None:
    """Everything of it ends at once, open flows with their last counts; the site goes on."""
    with Collector(url(network, "C")) as collector, connect(network["A"].port("to-echo")) as client:
        talk(client, 300)
        port = client.getsockname()[1]
        seen = lambda picture: (flow_of(picture, port) or {}).get(Attribute.OCTETS_REVERSE) == 300  # noqa: E731
        assert collector.wait_for(seen, DEADLINE_S)
        assert collector.wait_for(lambda picture: len(picture.live(RecordType.ROUTER)) == 4, DEADLINE_S)
        with collector.picture() as picture:
            prefixes = {
                str(record[Attribute.NAME])[-1]: identity.partition(":")[0]
                for identity, record in picture.of_type(RecordType.ROUTER).items()
            }

        def is_over(picture: Picture, name: str) -> bool:
            kinds = (RecordType.ROUTER, RecordType.LINK, RecordType.LISTENER, RecordType.BIFLOW_TPORT)
            live = [identity for kind in kinds for identity in picture.live(kind)]
            return not any(identity.startswith(prefixes[name]) for identity in live)

        for name in "AB":
            began = time.monotonic()
            network[name].stop()
            assert time.monotonic() - began < 2
            assert collector.wait_for(lambda picture, name=name: is_over(picture, name), 3)
        with collector.picture() as picture:
            ended = flow_of(picture, port)
            assert ended is not None
            assert (ended[Attribute.OCTETS], ended[Attribute.OCTETS_REVERSE]) == (300, 300)
            assert len(picture.live(RecordType.ROUTER)) == 2
            assert len(picture.live(RecordType.SITE)) == 1


def test_top_once_and_as_json(standing: Network) -> None:
    with connect(standing["A"].port("to-echo")) as client:
        talk(client, 100)
        command = [*VAN, "top", "-b", url(standing, "C")]
        once = subprocess.run([*command, "--once"], capture_output=True, text=True, timeout=40, check=True)
        found = json.loads(
            subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=40, check=True).stdout
        )
    assert "4 sites, 4 routers, 1 services, 1 open flows" in once.stdout
    assert re.search(r"echo +tcp +2 +1 +1 ", once.stdout)
    (service,) = found["services"]
    assert (service["listeners"], service["connectors"], service["open_flows"]) == (2, 1, 1)
    (flow,) = found["flows"]
    assert (flow["via"], flow["server"], flow["octets"]) == ("A", "B", 100)
    assert [router["name"] for router in found["routers"]] == ["A", "B", "C", "E"]


@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (12, 60), (50, 160)])
def test_top_fits_the_terminal_and_ends_with_q(standing: Network, rows: int, columns: int) -> None:
    pid, fd = pty.fork()
    if pid == 0:
        environment = {**os.environ, "TERM": "xterm-256color"}
        os.execve(VAN[0], [*VAN, "top", "-b", url(standing, "C"), "-i", "0.2"], environment)
    seen = b""
    try:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        deadline = time.monotonic() + DEADLINE_S
        while b"4 routers" not in seen:
            assert time.monotonic() < deadline, seen[-2000:]
            if select.select([fd], [], [], 0.5)[0]:
                seen += os.read(fd, 65536)
        os.write(fd, b"q")
        while True:
            try:
                more = os.read(fd, 65536)
            except OSError:  # the other end is closed
                break
            if not more:
                break
            seen += more
    finally:
        os.kill(pid, signal.SIGKILL) if os.waitpid(pid, os.WNOHANG) == (0, 0) else None
    frames = seen.decode().split("\x1b[H")
    plain = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", frame).replace("\r", "") for frame in frames]
    shown = [frame for frame in plain if "4 routers" in frame]
    assert shown
    for frame in shown:
        lines = frame.rstrip("\n").split("\n")
        assert len(lines) <= rows
        assert max(len(line.rstrip()) for line in lines) <= columns


def test_top_says_why_it_cannot_begin() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [*VAN, "top", "-b", f"127.0.0.1:{port}", "--once"]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    assert failed.returncode == 3
    assert f"van: amqp://127.0.0.1:{port}: " in failed.stderr
    assert "refused" in failed.stderr.lower()
