"""An AMQP 1.0 client on Proton's own Python binding, as a program of its own; the same modes as rhea_client.js.

python proton_client.py receive|send|serve|answer|request PORT ADDRESS COUNT
"""

from __future__ import annotations

import json
import sys

from proton import Message
from proton.handlers import MessagingHandler
from proton.reactor import Container


class Client(MessagingHandler):
    """One mode, to its end."""

    def __init__(self, mode: str, port: str, address: str, count: int) -> None:
        super().__init__(prefetch=20)
        self.mode = mode
        self.url = f"amqp://127.0.0.1:{port}"
        self.address = address
        self.count = count
        self.sent = self.settled = self.received = 0
        self.sender = self.receiver = None

    def say(self, text: str) -> None:
        print(text, flush=True)

    def finish(self, event: object) -> None:
        self.say("done")
        event.connection.close()

    def on_start(self, event: object) -> None:
        connection = event.container.connect(self.url, reconnect=False, allowed_mechs="ANONYMOUS")
        if self.mode in ("receive", "serve", "answer"):
            self.receiver = event.container.create_receiver(connection, self.address)
            if self.mode != "receive":
                self.sender = event.container.create_sender(connection, None)
        elif self.mode == "send":
            self.sender = event.container.create_sender(connection, self.address)
        else:
            self.receiver = event.container.create_receiver(connection, dynamic=True)

    def on_link_opened(self, event: object) -> None:
        if event.receiver is None or event.receiver != self.receiver:
            return
        if self.mode == "request":
            self.sender = event.container.create_sender(event.connection, self.address)
        else:
            self.say("ready")

    def on_sendable(self, event: object) -> None:
        while event.sender.credit and self.sent < self.count and self.mode in ("send", "request"):
            self.sent += 1
            if self.mode == "send":
                event.sender.send(Message(id=self.sent, subject="from proton", body={"sequence": self.sent}))
            else:
                reply_to = self.receiver.remote_source.address
                event.sender.send(Message(correlation_id=self.sent, reply_to=reply_to, body=f"request {self.sent}"))

    def on_accepted(self, event: object) -> None:
        self.settled += 1
        if self.mode in ("send", "serve", "answer") and self.settled == self.count:
            self.finish(event)

    def on_released(self, event: object) -> None:
        self.say("released")
        sys.exit(1)

    on_rejected = on_modified = on_released

    def on_transport_error(self, event: object) -> None:
        self.say(f"error {event.transport.condition}")
        sys.exit(1)

    def on_message(self, event: object) -> None:
        message = event.message
        self.received += 1
        if self.mode == "answer":
            body = f"{message.subject} {message.properties[':path']} from proton"
            answer = Message(address=message.reply_to, correlation_id=message.id, subject="200", body=body)
            answer.properties = {"Content-Type": "text/plain", "X-Client": "proton"}
            self.sender.send(answer)
            return
        if self.mode == "serve":
            answer = Message(address=message.reply_to, correlation_id=message.correlation_id, body=message.body.upper())
            self.sender.send(answer)
            return
        row = {"body": message.body, "subject": message.subject, "correlation_id": message.correlation_id}
        self.say(json.dumps(row))
        if self.received == self.count:
            self.accept(event.delivery)
            self.finish(event)


if __name__ == "__main__":
    mode, port, address, count = sys.argv[1:]
    Container(Client(mode, port, address, int(count))).run()
