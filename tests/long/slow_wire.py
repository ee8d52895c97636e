"""A wire between two namespaces that delays each packet and carries so many bits a second.

Usage: slow_wire.py INTERFACE NAMESPACE ADDRESS NAMESPACE ADDRESS DELAY_MS KBIT
(KBIT 0: no limit). Makes a TUN interface in each namespace and passes packets from one to the other.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
MOST_PACKETS = 1000
"""Packets on the way in one direction; further ones are lost, as in a router whose queue is full."""


def open_tun(interface: str, namespace: str, address: str, peer: str) -> int:
    with open(f"/run/netns/{namespace}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH14x", interface.encode(), IFF_TUN | IFF_NO_PI))
    for command in (
        f"ip addr add {address} peer {peer} dev {interface}",
        f"ip link set {interface} up mtu 1400",
    ):
        subprocess.run(command.split(), check=True)
    return tun


class Direction:
    """Packets on their way from one end to the other."""

    def __init__(self, source: int, target: int, delay_s: float, octets_per_s: float) -> None:
        self._source = source
        self._target = target
        self._delay_s = delay_s
        self._octets_per_s = octets_per_s
        self._free_at = 0.0
        self._on_the_way: deque[tuple[float, bytes]] = deque()

    def take(self, now: float) -> None:
        while True:
            try:
                packet = os.read(self._source, 65536)
            except BlockingIOError:
                return
            if len(self._on_the_way) < MOST_PACKETS:
                spent = len(packet) / self._octets_per_s if self._octets_per_s else 0.0
                self._free_at = max(self._free_at, now) + spent
                self._on_the_way.append((self._free_at + self._delay_s, packet))

    def give(self, now: float) -> float | None:
        """Deliver what has arrived; returns when the next packet does."""
        while self._on_the_way and self._on_the_way[0][0] <= now:
            packet = self._on_the_way.popleft()[1]
            with contextlib.suppress(OSError):  # the interface is down: lost
                os.write(self._target, packet)
        return self._on_the_way[0][0] if self._on_the_way else None


def main() -> None:
    interface, *ends, delay, kbit = sys.argv[1:]
    one = open_tun(interface, ends[0], ends[1], ends[3])
    other = open_tun(interface, ends[2], ends[3], ends[1])
    rate = int(kbit) * 125.0
    directions = {
        one: Direction(one, other, int(delay) / 1000, rate),
        other: Direction(other, one, int(delay) / 1000, rate),
    }
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        due = [at for at in (direction.give(now) for direction in directions.values()) if at is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        for source in select.select([one, other], [], [], timeout)[0]:
            directions[source].take(time.monotonic())


if __name__ == "__main__":
    main()
