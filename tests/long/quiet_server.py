"""A service with many connections that closes none by itself unless told to, and stops reading when it is told.

    python quiet_server.py echo|sink|service

`echo` sends back what comes; `service` as well, and closes when its client has finished; so does `sink`, which answers
nothing. Prints its port. Lines of its input: `stop` (read nothing more), `go` (read again), `count` (prints how many
are open).
"""

from __future__ import annotations

import os
import select
import socket
import sys

BUFFER = bytearray(65536)


class Server:
    """One port; each connection stays open until its other end has gone altogether."""

    def __init__(self, kind: str) -> None:
        self.is_echo = kind != "sink"
        self.is_closing = kind != "echo"
        self.poller = select.epoll()
        self.sockets: dict[int, socket.socket] = {}
        self.finished: set[int] = set()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # accepted sockets inherit it
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(4096)
        self.listener.setblocking(False)
        self.poller.register(self.listener, select.EPOLLIN)
        os.set_blocking(0, False)
        self.poller.register(0, select.EPOLLIN)

    def run(self) -> None:
        """Serve until the input ends."""
        while True:
            for fd, mask in self.poller.poll():
                if fd == self.listener.fileno():
                    self.accept()
                elif fd == 0:
                    text = os.read(0, 4096)
                    if not text:
                        return
                    for line in text.decode().split():
                        self.obey(line)
                else:
                    self.serve(fd, mask)

    def accept(self) -> None:
        """Take what waits."""
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setblocking(False)
            self.sockets[sock.fileno()] = sock
            self.poller.register(sock, select.EPOLLIN)

    def obey(self, line: str) -> None:
        """Do what the input says."""
        if line == "count":
            print(f"open {len(self.sockets)}", flush=True)
        for fd in self.sockets:
            if line in ("stop", "go") and fd not in self.finished:
                self.poller.modify(fd, select.EPOLLIN if line == "go" else 0)
        if line in ("stop", "go"):
            print(f"obeyed {line}", flush=True)

    def serve(self, fd: int, mask: int) -> None:
        """Read, answer; a finished sender is waited for until it has gone."""
        sock = self.sockets[fd]
        try:
            if mask & (select.EPOLLHUP | select.EPOLLERR):
                raise ConnectionResetError
            count = sock.recv_into(BUFFER)
            if count and self.is_echo:
                sock.send(memoryview(BUFFER)[:count])
            elif not count and self.is_closing:
                raise ConnectionResetError
            elif not count:
                self.finished.add(fd)
                self.poller.modify(fd, 0)  # errors are told all the same
        except BlockingIOError:
            return
        except OSError:
            self.poller.unregister(fd)
            self.finished.discard(fd)
            del self.sockets[fd]
            sock.close()


if __name__ == "__main__":
    server = Server(sys.argv[1])
    print(f"port {server.listener.getsockname()[1]}", flush=True)
    server.run()
