"""HTTP services for the system tests: HTTP/2 by h2 (an independent implementation), HTTP/1.1, and a gRPC server."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions

WINDOW_BYTES = 1 << 20
"""What a server takes ahead of itself, besides the 64 KiB that HTTP/2 begins with."""


class Zeros:
    """So many octets of zero, taken off at the beginning; there may be more of them than memory."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice) -> bytes:
        return bytes(min(part.stop, self._count))

    def __delitem__(self, part: slice) -> None:
        self._count -= min(part.stop, self._count)


class Http2Connection(threading.Thread):
    """One connection to a server of HTTP/2 that answers what its paths say."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        super().__init__(daemon=True)
        self._sock = sock
        self._name = name
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self._requests: dict[int, tuple[dict[str, Any], Any, list[int]]] = {}
        self._to_send: dict[int, tuple[bytearray | Zeros, list[tuple[str, str]]]] = {}

    def run(self) -> None:
        """Serve until the other end goes."""
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError), self._sock:
            self._h2.initiate_connection()
            self._h2.increment_flow_control_window(WINDOW_BYTES)
            self._flush()
            while data := self._sock.recv(65536):
                for event in self._h2.receive_data(data):
                    self._on_event(event)
                self._flush()

    def _flush(self) -> None:
        self._sock.sendall(self._h2.data_to_send())

    def _on_event(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            headers = [(str(name), str(value)) for name, value in event.headers]
            self._requests[event.stream_id] = ({"headers": headers}, hashlib.sha256(), [0])
            self._h2.increment_flow_control_window(WINDOW_BYTES, event.stream_id)
            if dict(headers)[":path"] == "/refuse":
                self._h2.reset_stream(event.stream_id, 7)
            elif dict(headers)[":path"] == "/goaway":
                self._h2.close_connection(0, last_stream_id=event.stream_id - 2)
        elif isinstance(event, h2.events.DataReceived):
            _, digest, size = self._requests[event.stream_id]
            digest.update(event.data)
            size[0] += len(event.data)
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            self._requests[event.stream_id][0]["trailers"] = [(str(name), str(value)) for name, value in event.headers]
        elif isinstance(event, h2.events.StreamEnded):
            self._answer(event.stream_id)
        elif isinstance(event, h2.events.WindowUpdated):
            for stream_id in list(self._to_send):
                self._send(stream_id)

    def _answer(self, stream_id: int) -> None:
        said, digest, size = self._requests.pop(stream_id)
        path = dict(said["headers"])[":path"]
        if path in ("/refuse", "/goaway"):
            return
        if path == "/reset":
            self._h2.reset_stream(stream_id, 2)
            return
        if path.startswith("/bytes/"):
            self._to_send[stream_id] = Zeros(int(path[7:])), []
            self._h2.send_headers(stream_id, [(":status", "200")])
            self._send(stream_id)
            return
        if path == "/hints":
            self._h2.send_headers(stream_id, [(":status", "103"), ("link", "</style.css>")])
        body = json.dumps({**said, "sha256": digest.hexdigest(), "size": size[0], "server": self._name}).encode()
        status = path[8:] if path.startswith("/status/") else "200"
        if status in ("204", "304") or dict(said["headers"])[":method"] == "HEAD":
            self._h2.send_headers(stream_id, [(":status", status)], end_stream=True)
            return
        self._h2.send_headers(
            stream_id,
            [(":status", status), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("content-type", "application/json")],
        )
        self._to_send[stream_id] = bytearray(body), [("x-trailer", "behind")]
        self._send(stream_id)

    def _send(self, stream_id: int) -> None:
        left, trailers = self._to_send[stream_id]
        while left:
            size = min(len(left), self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)
            if size <= 0:
                return
            self._h2.send_data(stream_id, bytes(left[:size]))
            del left[:size]
        del self._to_send[stream_id]
        if trailers:
            self._h2.send_headers(stream_id, trailers, end_stream=True)
        else:
            self._h2.end_stream(stream_id)


@contextlib.contextmanager
def http2_server(name: str = "server", tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve HTTP/2 by prior knowledge, or under TLS; yields the port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(120)
            with contextlib.suppress(OSError):
                sock = self.request if tls is None else tls.wrap_socket(self.request, server_side=True)
                Http2Connection(sock, name).run()

    with _serving(Handler) as port:
        yield port


class _WebSocket(socketserver.BaseRequestHandler):
    """Agrees to change the protocol, and then sends back whatever comes."""

    def handle(self) -> None:
        """Serve one connection."""
        self.request.settimeout(60)
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(65536)
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        key = fields[b"sec-websocket-key"] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key).digest())
        self.request.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        while data := self.request.recv(65536):
            self.request.sendall(data)


@contextlib.contextmanager
def websocket_server() -> Iterator[int]:
    """Serve a WebSocket that echoes octets; yields the port."""
    with _serving(_WebSocket) as port:
        yield port


class _Http1Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            self.trailers.append(line.decode().strip())

    def do_GET(self) -> None:
        """Tell what was asked."""
        self.trailers: list[str] = []
        digest = hashlib.sha256()
        size = 0
        if self.headers.get("Transfer-Encoding") == "chunked":
            for chunk in self._chunks():
                digest.update(chunk)
                size += len(chunk)
        else:
            left = int(self.headers.get("Content-Length", "0"))
            while left:
                data = self.rfile.read(min(left, 65536))
                digest.update(data)
                size += len(data)
                left -= len(data)
        if self.path.startswith("/bytes/"):
            body = bytes(int(self.path[7:]))
        else:
            headers = [*self.headers.items(), (":method", self.command), (":path", self.path)]
            said = {"headers": headers, "trailers": self.trailers, "sha256": digest.hexdigest(), "size": size}
            body = json.dumps(said).encode()
        self.send_response(200, "Fine")
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command != "HEAD":
            for offset in range(0, len(body), 65536):
                piece = body[offset : offset + 65536]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\nX-Trailer: behind\r\n\r\n")

    do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815  # the base class calls them so


@contextlib.contextmanager
def http1_server() -> Iterator[int]:
    """Serve HTTP/1.1; yields the port."""
    with _serving(_Http1Handler) as port:
        yield port


@contextlib.contextmanager
def _serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def octets(value: bytes) -> bytes:
    """Leave messages as they are: no protocol buffers are needed for this."""
    return value


@contextlib.contextmanager
def grpc_server(name: str = "server") -> Iterator[int]:
    """Serve gRPC, all four kinds of calls; yields the port."""
    import grpc

    def both(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.send_initial_metadata((("x-server", name),))
        for message in messages:
            yield message + b"?"

    def fail(message: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("x-detail-bin", b"\x00\xff"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing of this name")

    def wait(message: bytes, context: Any) -> bytes:
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait(30)
        cancelled.append(name)
        return b""

    cancelled: list[str] = []
    kinds = {
        "/test/unary": grpc.unary_unary_rpc_method_handler(lambda message, _: message + b"!", octets, octets),
        "/test/name": grpc.unary_unary_rpc_method_handler(lambda _m, _c: name.encode(), octets, octets),
        "/test/down": grpc.unary_stream_rpc_method_handler(
            lambda message, _: (message + b"%d" % number for number in range(10)), octets, octets
        ),
        "/test/up": grpc.stream_unary_rpc_method_handler(lambda messages, _: b"".join(messages), octets, octets),
        "/test/both": grpc.stream_stream_rpc_method_handler(both, octets, octets),
        "/test/fail": grpc.unary_unary_rpc_method_handler(fail, octets, octets),
        "/test/wait": grpc.unary_unary_rpc_method_handler(wait, octets, octets),
        "/test/cancelled": grpc.unary_unary_rpc_method_handler(lambda _m, _c: b"%d" % len(cancelled), octets, octets),
    }

    class Calls(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
        def service(self, details: Any) -> Any:
            return kinds.get(details.method)

    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((Calls(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()
