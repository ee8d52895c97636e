"""Links on which nothing happens: so many on one connection, each to an address of its own.

    python -m bench.load.idle_links PORT COUNT

Half of them send and half receive. Says when all are attached; they stay until the input ends.
"""

from __future__ import annotations

import argparse
import json
import sys

from bench.load import amqp_frames as frames
from bench.load.amqp_client import Connection
from vanrouter.engine.sections import UInt


class IdleLinks(Connection):
    """One connection with all of them."""

    handle_max = 0xFFFFFFFF

    def __init__(self, port: int, count: int) -> None:
        self.attached = 0
        self.wanted = count
        super().__init__(port, "bench-idle", self.link(0))
        for first in range(1, count, frames.BATCH):
            numbers = range(first, min(count, first + frames.BATCH))
            self.sock.sendall(b"".join(frames.frame(frames.ATTACH, self.link(number)) for number in numbers))
            while self.attached <= numbers[-1]:
                self.read()

    @staticmethod
    def link(number: int) -> list[object]:
        """The fields of an ATTACH."""
        address = f"idle/{number // 2}"
        name = f"idle-{number}"
        fields = frames.receiver_link(name, address)
        if number % 2:
            fields = frames.sender_link(name, address, presettled=False)
        fields[1] = UInt(number)
        return fields

    def on_frame(self, code: int, body: bytes) -> None:
        """Count the answers."""
        super().on_frame(code, body)
        self.attached += code == frames.ATTACH


def main() -> None:
    """Attach and wait."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    links = IdleLinks(options.port, options.count)
    print(json.dumps({"attached": links.attached}), flush=True)
    sys.stdin.read()
    links.close()


if __name__ == "__main__":
    main()
