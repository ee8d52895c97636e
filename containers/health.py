"""Health of the router beside it: exit 0 when its event loop answers, 1 with a reason otherwise.

VANROUTER_HEALTH says where to ask: `amqp://HOST:PORT` (the default is 127.0.0.1:5672; an AMQP header is to come back),
or the `http://HOST:PORT/healthz` of a listener with `http: yes`.
"""

import os
import socket
import sys
import urllib.parse
import urllib.request

TIMEOUT_S = 3.0
AMQP_HEADER = b"AMQP\x00\x01\x00\x00"


def ask(url: str) -> None:
    """Ask; an OSError says what is wrong."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "http":
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            answer.read()
        return
    with socket.create_connection((parts.hostname, parts.port or 5672), TIMEOUT_S) as connection:
        connection.sendall(AMQP_HEADER)
        if not connection.recv(8).startswith(b"AMQP"):
            raise ConnectionError("no AMQP header came back")


def main() -> int:
    """Return the exit code."""
    url = os.environ.get("VANROUTER_HEALTH", "amqp://127.0.0.1:5672")
    try:
        ask(url)
    except OSError as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
