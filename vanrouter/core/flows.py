"""What adaptors tell of their services, flows and requests, for the records of observability.

Layer: 3. Source: vanflow, sections 4, 7, 8 and 9. A record here is plain data in the words of an adaptor; the recorder
behind the protocol (`server.flows`) keeps it while it lives, and writes what has changed into messages.

Nothing is paid for a read or a write: octets are counted by the flow anyway, and the recorder reads the counts when it
writes. How it learns that an idle flow has moved again: `Counted.tell_next` sets a trap that goes off once, at the next
octets of each direction. So flows that say nothing cost nothing, and busy ones a call or two each second, and that only
while somebody in the network listens to records.
"""

from __future__ import annotations

from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, Protocol

from vanrouter.ids import random_suffix

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE_ID_LENGTH = 5
"""Characters of the first part of each identity of a process (section 1)."""

UNREACHABLE = "delivery-failed (destination unreachable)"
TLS_FAILED = "TLS-connection-failed"
PARENT_DELETED = "Parent-deleted"
"""Errors as the C router words them; operators search for them (TCP over AMQP, section 10.1)."""

HEAD, LATENCY, COUNTERPART, ERROR, END = 1, 2, 4, 8, 16
"""Parts of a flow record that are news, as bits."""


class ServiceKind(Enum):
    """What a service record is of."""

    LISTENER = "listener"
    CONNECTOR = "connector"


class Counted(Protocol):
    """A connection of an adaptor whose record is written from its own counts."""

    @property
    def sent(self) -> int:
        """Octets that its socket has sent to us, so far."""

    @property
    def written(self) -> int:
        """Octets written to its socket, so far."""

    def tell_next(self) -> None:
        """Tell the recorder, once for each direction, when the next octets pass (`FlowRecorder.on_octets`)."""


class ServiceRecord:
    """A listener at one address, or a connector."""

    __slots__ = ("address", "flows", "host", "identity", "kind", "name", "port", "process", "protocol", "requests")

    def __init__(
        self, kind: ServiceKind, name: str, protocol: str, host: str, port: str, address: str, process: str = ""
    ) -> None:
        self.identity = ""
        self.kind = kind
        self.name = name
        self.protocol = protocol
        self.host = host
        self.port = port
        """Where a listener is bound; where a connector connects to."""
        self.address = address
        self.process = process
        self.flows = 1 if kind is ServiceKind.CONNECTOR else 0
        """Connections so far, recorded or not. A connector's own counts, as in `connectionsOpened` and at C routers."""
        self.requests = 0
        """Requests so far, where something observes them; recorded or not."""


class FlowRecord:
    """A client's connection as the router tells that accepted it, completed by the router at its other end."""

    __slots__ = (
        "connector",
        "connector_error",
        "ended_us",
        "error",
        "first_us",
        "host",
        "identity",
        "latency_us",
        "news",
        "octets",
        "octets_reverse",
        "owner",
        "port",
        "process_latency_us",
        "proxy_host",
        "proxy_port",
        "service",
        "started_us",
        "trace",
    )

    def __init__(self, identity: str, service: ServiceRecord, owner: Counted, host: str, port: str) -> None:
        self.identity = identity
        self.service = service
        self.owner: Counted | None = owner
        """None from the end on: the last counts are kept here."""
        self.host = host
        self.port = port
        self.started_us = 0
        self.ended_us = 0
        self.first_us = 0
        """When the first octets went towards the server."""
        self.latency_us: int | None = None
        """From then to the first octets back."""
        self.error = ""
        self.octets = 0
        """Client to server; what was last told, and at the end what there was."""
        self.octets_reverse = 0
        self.news = HEAD
        # What the other end tells.
        self.connector = ""
        self.proxy_host = ""
        self.proxy_port = ""
        self.process_latency_us: int | None = None
        self.connector_error = ""
        self.trace = ""


class CounterpartRecord:
    """The same connection as the router at the server's end tells: its part of a record that is another's."""

    __slots__ = (
        "ended_us",
        "error",
        "first_us",
        "identity",
        "latency_us",
        "news",
        "owner",
        "proxy_host",
        "proxy_port",
        "service",
        "started_us",
        "trace",
    )

    def __init__(self, identity: str, service: ServiceRecord, owner: Counted, trace: str) -> None:
        self.identity = identity
        """That of the flow record of the listener's router."""
        self.service = service
        self.owner: Counted | None = owner
        self.trace = trace
        self.started_us = 0
        self.ended_us = 0
        self.first_us = 0
        self.latency_us: int | None = None
        self.proxy_host = ""
        self.proxy_port = ""
        """This router's socket towards the server."""
        self.error = ""
        self.news = HEAD


class RequestRecord:
    """A request and its answer within a connection. Its adaptor writes the fields, and ends it."""

    __slots__ = (
        "ended_us",
        "flow",
        "host",
        "identity",
        "latency_us",
        "method",
        "news",
        "octets",
        "octets_reverse",
        "protocol",
        "reason",
        "result",
        "started_us",
        "stream_id",
    )

    def __init__(self, identity: str, flow: FlowRecord, protocol: str, method: str, stream_id: int | None) -> None:
        self.identity = identity
        self.flow = flow
        self.protocol = protocol
        """`HTTP/1.0`, `HTTP/1.1` or `HTTP/2`."""
        self.method = method
        self.stream_id = stream_id
        self.host = ""
        """The first of X-Forwarded-For, where there is one."""
        self.result = ""
        """Status code, as text."""
        self.reason = ""
        self.octets = 0
        """Of the body of the request."""
        self.octets_reverse = 0
        """Of the body of the answer."""
        self.latency_us: int | None = None
        """None: from the begin to the end, filled in at the end."""
        self.started_us = 0
        self.ended_us = 0
        self.news = HEAD


class FlowRecorder(Protocol):
    """What adaptors tell. No method raises, and none sends anything before it returns."""

    is_wanted: bool
    """Somebody in the network listens to the records of flows."""

    def next_identity(self) -> str:
        """Return the identity of a new flow: the correlation-id of its stream, recorded or not."""

    def begin_service(self, record: ServiceRecord) -> None:
        """A listener (one record for each of its addresses) or a connector exists."""

    def end_service(self, record: ServiceRecord) -> None:
        """It is deleted."""

    def begin_flow(
        self, identity: str, service: ServiceRecord, owner: Counted, host: str, port: str
    ) -> FlowRecord | None:
        """A client at `host`:`port` has connected; None when it is not recorded (bound reached, no recorder)."""

    def begin_counterpart(
        self, identity: str | None, service: ServiceRecord, owner: Counted, trace: Sequence[str]
    ) -> CounterpartRecord | None:
        """A stream has come to a connector.

        Args:
            identity: the correlation-id of the stream; another than `<source>:<number>` is not recorded.
            service: of the connector.
            owner: reads and writes the server's socket.
            trace: routers passed, as the stream's annotations list them.
        """

    def begin_request(
        self, flow: FlowRecord | None, protocol: str, method: str, stream_id: int | None = None
    ) -> RequestRecord | None:
        """A request has begun; None when nobody listens or the bound is reached. Counted either way."""

    def on_octets(self, record: FlowRecord | CounterpartRecord, *, is_towards_server: bool) -> None:
        """The octets that `Counted.tell_next` was asked for."""

    def changed(self, record: FlowRecord | CounterpartRecord, part: int) -> None:
        """Fields of a record were written; `part` is LATENCY, COUNTERPART or ERROR.

        COUNTERPART of a counterpart record: its connection is there, and is counted.
        """

    def end(self, record: FlowRecord | CounterpartRecord | RequestRecord) -> None:
        """It is over: counts are read for the last time. A counterpart without a connection has said why (`error`)."""


class NoRecorder:
    """Records nothing, but numbers flows."""

    is_wanted = False

    def __init__(self) -> None:
        self._source = random_suffix(SOURCE_ID_LENGTH)
        self._numbers = count(1)

    def next_identity(self) -> str:
        """Return the identity of a new flow."""
        return f"{self._source}:{next(self._numbers)}"

    def begin_service(self, record: ServiceRecord) -> None:
        """Not recorded."""

    def end_service(self, record: ServiceRecord) -> None:
        """Not recorded."""

    def begin_flow(
        self, identity: str, service: ServiceRecord, owner: Counted, host: str, port: str
    ) -> FlowRecord | None:
        """Not recorded."""
        service.flows += 1
        return None

    def begin_counterpart(
        self, identity: str | None, service: ServiceRecord, owner: Counted, trace: Sequence[str]
    ) -> CounterpartRecord | None:
        """Not recorded."""
        service.flows += 1
        return None

    def begin_request(
        self, flow: FlowRecord | None, protocol: str, method: str, stream_id: int | None = None
    ) -> RequestRecord | None:
        """Not recorded."""
        return None

    def on_octets(self, record: FlowRecord | CounterpartRecord, *, is_towards_server: bool) -> None:
        """Never called: there is no record."""

    def changed(self, record: FlowRecord | CounterpartRecord, part: int) -> None:
        """Never called: there is no record."""

    def end(self, record: FlowRecord | CounterpartRecord | RequestRecord) -> None:
        """Never called: there is no record."""
