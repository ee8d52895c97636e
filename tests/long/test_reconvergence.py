"""How long new flows fail when the router or the link in use is lost, beside the C router in the same test."""

from __future__ import annotations

import concurrent.futures
import contextlib
import math
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.long.lab import Lab, Machine, enter, laboratory, time_passes
from tests.system.harness import Router, Section, tcp_connector, tcp_listener
from tests.system.process import Program

SERVICE_PORT, LINK_PORT, AMQP_PORT = 7000, 5671, 5672
EVERY_S = 0.02
FLOW_TIMEOUT_S = 3.0


class Probe:
    """Begins a flow every so often, whatever became of the others."""

    def __init__(self, machine: Machine) -> None:
        self.begun: list[tuple[float, bool]] = []
        self._pool = concurrent.futures.ThreadPoolExecutor(100, initializer=enter, initargs=(machine.namespace,))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            self._pool.submit(self._flow)

    def _flow(self) -> None:
        began, works = time.monotonic(), False
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", SERVICE_PORT), FLOW_TIMEOUT_S) as it:
            it.settimeout(FLOW_TIMEOUT_S)
            it.sendall(b"ping")
            works = it.recv(4) == b"ping"
        self.begun.append((began, works))

    def works_again(self, limit_s: float) -> None:
        """Wait until all flows of a second work."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            time_passes(0.5)
            now = time.monotonic()
            if all(works for began, works in list(self.begun) if now - 1.0 - FLOW_TIMEOUT_S < began):
                return

    def failing_s(self, since: float) -> float:
        """End; return for how long after `since` flows were begun that failed, infinity when none works any more."""
        self._over.set()
        self._thread.join()
        self._pool.shutdown()
        failed = [began for began, works in self.begun if began >= since and not works]
        if not any(works for began, works in self.begun if began > since):
            return math.inf  # seen of C routers after a cut, 46 s later
        return max(failed) - since + EVERY_S if failed else 0.0


class Ring:
    """Four routers in a ring: clients at the first, the service at the third, the way by the second is the cheaper."""

    def __init__(self, lab: Lab, program: str | None) -> None:
        self.lab = lab
        self.machines = [lab.machine(f"r{number}") for number in range(4)]
        self.routers: list[Router] = []
        for number, machine in enumerate(self.machines):
            sections: list[Section] = [
                ("listener", {"name": "amqp", "host": "127.0.0.1", "port": AMQP_PORT}),
                ("listener", {"name": "link", "host": "0.0.0.0", "port": LINK_PORT, "role": "inter-router"}),
            ]
            for other in (number - 1, number + 1) if number in (1, 3) else ():
                host = self.machines[other % 4].address
                link = {"host": host, "port": LINK_PORT, "role": "inter-router", "cost": number}
                sections.append(("connector", {"name": f"to-{other % 4}", **link}))
            if number == 0:
                sections.append(tcp_listener("svc", port=SERVICE_PORT))
            if number == 2:
                sections.append(tcp_connector("svc", machine.echo_server()))
            self.routers.append(machine.router(f"R{number}", sections, program=program))
        self.machines[0].back_after(SERVICE_PORT, 30)
        time_passes(6.0)  # both ways are known, and the link states have come to rest

    def client(self, mode: str, at: int) -> Program:
        command = ["ip", "netns", "exec", self.machines[at].namespace, sys.executable]
        command += [str(Path(__file__).with_name("acknowledged.py")), mode, str(AMQP_PORT), "queue"]
        program = Program(mode, command, self.lab.directory / f"{mode}.log")
        self.lab.programs.append(program)
        program.wait_for("^ready")
        return program

    def kill_the_transit(self) -> None:
        self.routers[1].kill()

    def cut_the_link(self) -> None:
        """Packets between the first two get lost from now on."""
        other = self.machines[1].address
        self.machines[0].nft(f"add rule inet lab input ip saddr {other} drop")
        self.machines[0].nft(f"add rule inet lab output ip daddr {other} drop")


@contextlib.contextmanager
def ring(directory: Path, program: str | None) -> Iterator[Ring]:
    with laboratory(directory) as lab:
        yield Ring(lab, program)


def lose(directory: Path, program: str | None, what: str) -> float:
    """Lose the transit router or a link; return how long new flows fail. No acknowledged message may be lost."""
    directory.mkdir()
    with ring(directory, program) as made:
        taker = made.client("receive", 2)
        giver = made.client("send", 0)
        probe = Probe(made.machines[0])
        time_passes(1.0)
        began = time.monotonic()
        getattr(made, what)()
        time_passes(6.0)
        probe.works_again(40.0)
        failing_s = probe.failing_s(began)
        giver.terminate()
        accepted = {int(word) for line in giver.log if line.startswith("accepted") for word in line.split()[1:]}
        received = {int(line.split()[1]) for line in taker.log if line.startswith("got")}
        assert len(accepted) > 100
        assert not accepted - received, f"acknowledged and lost: {sorted(accepted - received)[:20]}"
    return failing_s


@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", ["kill_the_transit", "cut_the_link"])
def test_new_flows_fail_for_a_moment(tmp_path: Path, c_router: str, what: str) -> None:
    here = lose(tmp_path / "here", None, what)
    there = lose(tmp_path / "there", c_router, what)
    print(f"{what}: new flows fail for {here:.2f} s, with C routers for {there:.2f} s")
    assert math.isfinite(here)
    if what == "kill_the_transit":
        assert here <= there / 2
    else:
        assert here <= there + 0.5
