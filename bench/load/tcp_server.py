"""The services behind the networks.

    python -m bench.load.tcp_server sink|source|echo|http

`sink` counts what comes and answers the count, 8 octets, when the sender has half-closed; `source` sends without end;
`echo` sends back what comes; `http` answers each request of `http_octets`.
"""

from __future__ import annotations

import json
import select
import socket
import sys

from bench.harness.processes import raise_descriptor_limit
from bench.load.http_octets import RESPONSE, SIZE

BUFFER = bytearray(512 * 1024)
VIEW = memoryview(BUFFER)


class Service:
    """One listening port."""

    def __init__(self, kind: str) -> None:
        self.poller = select.epoll()
        self.sockets: dict[int, socket.socket] = {}
        self.counts: dict[int, int] = {}
        self.serve = {"sink": self.sink, "source": self.source, "echo": self.echo, "http": self.http}[kind]
        self.mask = select.EPOLLOUT if kind == "source" else select.EPOLLIN
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listener.setblocking(False)
        self.poller.register(self.listener, select.EPOLLIN)

    def run(self) -> None:
        """Serve for ever."""
        listener = self.listener.fileno()
        while True:
            for fd, _ in self.poller.poll():
                if fd == listener:
                    self.accept()
                    continue
                sock = self.sockets[fd]
                try:
                    goes_on = self.serve(sock, fd)
                except BlockingIOError:
                    continue
                except OSError:
                    goes_on = False
                if not goes_on:
                    self.poller.unregister(fd)
                    del self.sockets[fd], self.counts[fd]
                    sock.close()

    def accept(self) -> None:
        """Take one connection."""
        try:
            sock = self.listener.accept()[0]
        except OSError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sockets[sock.fileno()] = sock
        self.counts[sock.fileno()] = 0
        self.poller.register(sock, self.mask)

    def sink(self, sock: socket.socket, fd: int) -> bool:
        """Count."""
        count = sock.recv_into(BUFFER)
        self.counts[fd] += count
        if count == 0:
            sock.send(self.counts[fd].to_bytes(8, "big"))
        return count > 0

    def source(self, sock: socket.socket, _fd: int) -> bool:
        """Send."""
        return sock.send(VIEW) > 0

    def echo(self, sock: socket.socket, _fd: int) -> bool:
        """Send back; requests are small, and the asker waits for the answer, so the socket has room."""
        count = sock.recv_into(BUFFER)
        return count > 0 and sock.send(VIEW[:count]) == count

    def http(self, sock: socket.socket, fd: int) -> bool:
        """Answer; told apart by their length."""
        count = sock.recv_into(BUFFER)
        whole, self.counts[fd] = divmod(self.counts[fd] + count, SIZE)
        return count > 0 and (not whole or sock.send(RESPONSE * whole) == whole * SIZE)


def main() -> None:
    """Serve until ended."""
    raise_descriptor_limit()
    service = Service(sys.argv[1])
    print(json.dumps({"port": service.listener.getsockname()[1]}), flush=True)
    service.run()


if __name__ == "__main__":
    main()
