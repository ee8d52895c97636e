"""Sends or receives one large message with Proton's blocking client.

python large_client.py receive PORT ADDRESS SIZE     prints "ready", then the digest of the body
python large_client.py send PORT ADDRESS SIZE        prints the digest when the message was accepted
"""

from __future__ import annotations

import hashlib
import random
import sys

from proton import Message
from proton.utils import BlockingConnection

TIMEOUT_S = 90


def main() -> None:
    mode, port, address, size = sys.argv[1:]
    connection = BlockingConnection(f"127.0.0.1:{port}", timeout=TIMEOUT_S)
    if mode == "send":
        body = random.Random(size).randbytes(int(size))
        connection.create_sender(address).send(Message(body=body), timeout=TIMEOUT_S)
    else:
        receiver = connection.create_receiver(address, credit=1)
        print("ready", flush=True)
        message = receiver.receive(timeout=TIMEOUT_S)
        body = bytes(message.body)
        receiver.accept()
    connection.close()
    print(hashlib.sha256(body).hexdigest(), len(body), flush=True)


main()
