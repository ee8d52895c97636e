"""Which codec speaks which version of HTTP.

Layer: 4.
"""

from __future__ import annotations

from typing import Any

from vanrouter.adaptors.http1_client import Http1Client
from vanrouter.adaptors.http1_server import Http1Server
from vanrouter.adaptors.http2_client import Http2Client
from vanrouter.adaptors.http2_server import Http2Server
from vanrouter.adaptors.http_config import HTTP1, HTTP2

SERVER_CODECS: dict[str, Any] = {"h2": Http2Server, "http/1.1": Http1Server}
"""Towards clients, by the name of the protocol in ALPN; in the listener's order of preference."""

CLIENT_CODECS: dict[str, Any] = {HTTP1: Http1Client, HTTP2: Http2Client}
"""Towards servers, by `protocolVersion`."""

STREAM_CODECS: dict[str, Any] = {"1": Http1Server, "2": Http2Server}
"""For streams of one exchange at a connector, by the version that the stream's head tells."""

STREAM_VERSIONS: dict[str, str] = {HTTP1: "1", HTTP2: "2"}
"""What a stream's head tells, by `protocolVersion`."""
