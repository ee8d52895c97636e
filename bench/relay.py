"""The floor of the TCP figures: a bare relay that copies octets from one socket to another and does nothing else.

    python -m bench.relay [--accept-tls DIR | --connect-tls DIR] LISTEN_PORT:TARGET_PORT ...

Two of them, one behind the other, stand where two routers stand; with TLS, the way between the two is encrypted and
both show a certificate. A router adds addresses, frames, flow control and fairness: its figure is quoted as a ratio to
that of this pair. Written for few interpreter steps: a `recv_into`, a `send`, and a queue only when a socket is full.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import socket
import ssl
from pathlib import Path

from bench.harness.processes import raise_descriptor_limit

BUFFER = bytearray(256 * 1024)
VIEW = memoryview(BUFFER)


class End:
    """One of the two sockets of a relayed connection."""

    __slots__ = ("ended", "fd", "finishing", "mask", "other", "rest", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.other = self
        self.rest: bytes | None = None  # what the socket has not taken yet; nothing is read for it meanwhile
        self.ended = False  # the peer sends no more
        self.finishing = False  # we send no more
        self.mask = select.EPOLLIN


class Relay:
    """All connections of one relay process."""

    def __init__(self, accept_tls: ssl.SSLContext | None, connect_tls: ssl.SSLContext | None) -> None:
        self.poller = select.epoll()
        self.ends: dict[int, End] = {}
        self.listeners: dict[int, tuple[socket.socket, int]] = {}
        self.accept_tls = accept_tls
        self.connect_tls = connect_tls

    def listen(self, port: int, target: int) -> int:
        """Relay connections to `port` on to `target`; returns the port, chosen by the system if 0 was asked."""
        listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        listener.setblocking(False)
        self.listeners[listener.fileno()] = (listener, target)
        self.poller.register(listener, select.EPOLLIN)
        return int(listener.getsockname()[1])

    def run(self) -> None:
        """Relay for ever."""
        ends = self.ends
        while True:
            for fd, mask in self.poller.poll():
                end = ends.get(fd)
                if end is None:
                    if fd in self.listeners:
                        self.accept(*self.listeners[fd])
                    continue
                if mask & select.EPOLLOUT:
                    self.write_rest(end)
                if mask & ~select.EPOLLOUT and fd in ends:
                    self.read(end)

    def accept(self, listener: socket.socket, target: int) -> None:
        """Take one connection and make the one behind it."""
        with contextlib.suppress(OSError):
            client = listener.accept()[0]
            server = socket.create_connection(("127.0.0.1", target))
            if self.accept_tls:
                client = self.accept_tls.wrap_socket(client, server_side=True)
            if self.connect_tls:
                server = self.connect_tls.wrap_socket(server, server_hostname="localhost")
            a, b = End(client), End(server)
            a.other, b.other = b, a
            for end in (a, b):
                end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.sock.setblocking(False)
                self.ends[end.fd] = end
                self.poller.register(end.fd, select.EPOLLIN)

    def read(self, end: End) -> None:
        """Copy what has come."""
        other = end.other
        is_tls = type(end.sock) is ssl.SSLSocket
        while other.rest is None and not end.ended:
            try:
                count = end.sock.recv_into(BUFFER)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            except OSError:
                self.drop(end)
                return
            if count == 0:
                end.ended = True
                self.watch(end, end.mask & ~select.EPOLLIN)
                self.finish(other)
                return
            if not self.write(other, VIEW[:count]) or not is_tls:
                return
            # A TLS socket gives one record for each read, and what it has decrypted makes no socket readable: go on.

    def write(self, end: End, data: memoryview | bytes) -> bool:
        """Send, and keep what the socket refuses; True: it took everything."""
        done = 0
        is_tls = type(end.sock) is ssl.SSLSocket
        try:
            done = end.sock.send(data)
            while is_tls and done < len(data):  # one record for each call
                done += end.sock.send(data[done:])
        except (BlockingIOError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self.drop(end)
            return False
        if done == len(data):
            return True
        end.rest = bytes(data[done:])
        self.watch(end, end.mask | select.EPOLLOUT)
        self.watch(end.other, end.other.mask & ~select.EPOLLIN)
        return False

    def write_rest(self, end: End) -> None:
        """The socket takes octets again."""
        rest, end.rest = end.rest, None
        if rest is not None and not self.write(end, rest):
            return
        self.watch(end, end.mask & ~select.EPOLLOUT)
        if end.other.ended:
            self.finish(end)
        else:
            self.watch(end.other, end.other.mask | select.EPOLLIN)
            if type(end.other.sock) is ssl.SSLSocket:
                self.read(end.other)

    def finish(self, end: End) -> None:
        """Pass on that no more octets come; close both when that is so in both directions."""
        if end.rest is None and not end.finishing and end.fd in self.ends:
            end.finishing = True
            try:
                if isinstance(end.sock, ssl.SSLSocket):
                    with contextlib.suppress(ssl.SSLError):  # says that the peer's answer is still to come
                        end.sock.unwrap()
                else:
                    end.sock.shutdown(socket.SHUT_WR)
            except OSError:
                self.drop(end)
                return
        if end.ended and end.finishing and end.other.finishing:
            self.drop(end)

    def watch(self, end: End, mask: int) -> None:
        """Change what an end is watched for."""
        if mask != end.mask and end.fd in self.ends:
            end.mask = mask
            self.poller.modify(end.fd, mask)

    def drop(self, end: End) -> None:
        """Close both sockets."""
        for one in (end, end.other):
            if self.ends.pop(one.fd, None) is not None:
                self.poller.unregister(one.fd)
                one.sock.close()


def tls_context(folder: Path | None, purpose: ssl.Purpose) -> ssl.SSLContext | None:
    """Mutual TLS with the certificates of the benchmark's folder."""
    if folder is None:
        return None
    context = ssl.create_default_context(purpose, cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def main() -> None:
    """Relay until ended; the ports are said in one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--accept-tls", type=Path)
    parser.add_argument("--connect-tls", type=Path)
    parser.add_argument("way", nargs="+")
    options = parser.parse_args()
    raise_descriptor_limit()
    relay = Relay(
        tls_context(options.accept_tls, ssl.Purpose.CLIENT_AUTH),
        tls_context(options.connect_tls, ssl.Purpose.SERVER_AUTH),
    )
    ports = []
    for way in options.way:
        port, target = way.split(":")
        ports.append(relay.listen(int(port), int(target)))
    print(json.dumps({"ports": ports}), flush=True)
    relay.run()


if __name__ == "__main__":
    main()
