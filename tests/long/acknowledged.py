"""An AMQP client that remembers which messages were acknowledged: `acknowledged.py send|receive PORT ADDRESS`.

The sender sends at a steady rate, each message once; SIGTERM ends it, and it prints the numbers that were accepted and
how many of the others came back. The receiver prints each number as it comes.
"""

from __future__ import annotations

import signal
import sys

from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container

INTERVAL_S = 0.005
MOST_OPEN = 200


class Client(MessagingHandler):
    def __init__(self, mode: str, port: str, address: str) -> None:
        super().__init__(prefetch=100)
        self.mode, self.url, self.address = mode, f"amqp://127.0.0.1:{port}", address
        self.number = self.returned = 0
        self.open: dict[object, int] = {}
        self.accepted: list[int] = []
        self.is_ending = False

    def on_start(self, event: object) -> None:
        connection = event.container.connect(self.url, reconnect=False, allowed_mechs="ANONYMOUS")
        if self.mode == "receive":
            event.container.create_receiver(connection, self.address)
        else:
            self.sender = event.container.create_sender(connection, self.address)
            event.container.schedule(INTERVAL_S, self)

    def on_link_opened(self, event: object) -> None:
        print("ready", flush=True)

    def on_timer_task(self, event: object) -> None:
        if self.is_ending:
            print("accepted", *self.accepted, flush=True)
            print("returned", self.returned, flush=True)
            sys.exit(0)
        if self.sender.credit and len(self.open) < MOST_OPEN:
            self.number += 1
            self.open[self.sender.send(Message(body=self.number))] = self.number
        event.container.schedule(INTERVAL_S, self)

    def on_accepted(self, event: object) -> None:
        self.accepted.append(self.open.pop(event.delivery))

    def on_released(self, event: object) -> None:
        self.open.pop(event.delivery, None)
        self.returned += 1

    on_rejected = on_modified = on_released

    def on_message(self, event: object) -> None:
        print("got", event.message.body, flush=True)


client = Client(*sys.argv[1:])
signal.signal(signal.SIGTERM, lambda *_: setattr(client, "is_ending", True))
Container(client).run()
