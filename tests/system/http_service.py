"""A service for the tests of HTTP: says who it is and what came; run as a process of its own, so that it can be killed.

    python http_service.py NAME

Answers of GET /bytes/N, /chunks/N, /slow/S and /status/N are what they say; everything else is answered with JSON:
name, method, path, fields, length and digest of the body. `Upgrade: echo` becomes a tunnel that sends back what comes,
`websocket` one of messages.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Message, Request


def pattern(count: int) -> Iterator[bytes]:
    """Octets that are no matter of chance, in pieces."""
    piece = bytes(range(256)) * 256
    while count > 0:
        yield piece[:count]
        count -= len(piece)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def log_message(self, *_: object) -> None: ...

    def handle_expect_100(self) -> bool:
        done = super().handle_expect_100()
        self.wfile.flush()
        return done

    def _body(self) -> tuple[int, str]:
        digest = hashlib.sha256()
        total = 0
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                digest.update(self.rfile.read(size))
                total += size
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            left = int(self.headers.get("Content-Length") or 0)
            while left:
                piece = self.rfile.read(min(left, 65536))
                digest.update(piece)
                total += len(piece)
                left -= len(piece)
        return total, digest.hexdigest()

    def _answer(self) -> None:
        if self.headers.get("Upgrade") == "echo":
            self._tunnel()
            return
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self._websocket()
            return
        length, digest = self._body()
        kind, _, value = self.path.removeprefix("/").partition("/")
        if kind == "bytes":
            self.send_response(200)
            self.send_header("Content-Length", value)
            self.end_headers()
            for piece in pattern(int(value)):
                self.wfile.write(piece)
            return
        if kind == "chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Trailer", "X-Digest")
            self.end_headers()
            for piece in pattern(int(value)):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\nX-Digest: end\r\n\r\n")
            return
        if kind == "slow":
            threading.Event().wait(float(value))
        status = int(value) if kind == "status" else 200
        if status in (204, 304):
            self.send_response(status)
            self.end_headers()
            return
        fields = [[name, text] for name, text in self.headers.items()]
        told = {
            "service": NAME, "method": self.command, "path": self.path, "fields": fields, "length": length,
            "sha256": digest,
        }  # fmt: skip
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _tunnel(self) -> None:
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "echo")
        self.end_headers()
        self.wfile.flush()
        while piece := self.connection.recv(65536):
            self.connection.sendall(piece)
        self.close_connection = True

    def _websocket(self) -> None:
        """Send back each message, and close when the client does."""
        ws = WSConnection(ConnectionType.SERVER)
        fields = [(name.lower().encode(), text.encode()) for name, text in self.headers.items()]
        ws.initiate_upgrade_connection(fields, self.path)
        self.close_connection = True
        while True:
            for event in ws.events():
                if isinstance(event, Request):
                    self.connection.sendall(ws.send(AcceptConnection()))
                elif isinstance(event, Message):
                    self.connection.sendall(
                        ws.send(type(event)(data=event.data, message_finished=event.message_finished))
                    )
                elif isinstance(event, CloseConnection):
                    self.connection.sendall(ws.send(event.response()))
                    return
            piece = self.connection.recv(65536)
            if not piece:
                return
            ws.receive_data(piece)


for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
    setattr(Handler, f"do_{method}", Handler._answer)


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


if __name__ == "__main__":
    NAME = sys.argv[1]
    with Server(("127.0.0.1", 0), Handler) as server:
        print(f"Serving {NAME} on port {server.server_address[1]}", flush=True)
        server.serve_forever()
