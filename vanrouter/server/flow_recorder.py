"""The recorder: what adaptors tell becomes records of this router's source.

Layer: 5. Source: vanflow, sections 4, 7 and 8. It sends nothing: `server.flows` takes what is due out of the
source, and tells the routers at the other ends of flows what `take_counterparts` gives.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from vanrouter.core.flows import (
    COUNTERPART,
    ERROR,
    LATENCY,
    SOURCE_ID_LENGTH,
    Counted,
    CounterpartRecord,
    FlowRecord,
    RequestRecord,
    ServiceKind,
    ServiceRecord,
)
from vanrouter.ids import random_suffix
from vanrouter.mgmt.vanflow import Attribute, Attributes, RecordType, Value, counterpart_address, log_line
from vanrouter.mgmt.vanflow_source import Channel, Rate, Record, Source, Told
from vanrouter.server.flow_records import Counterpart, Request, Transport

flow_logger = logging.getLogger("vanrouter.flow")

MAX_COUNTERPARTS = 20_000
"""Of flows whose listener is on another router: kept while they live and until their end was told."""
LINES_PER_S = 100
"""Lines of flows and requests in the log; the rest of a second is counted in one line."""
MAX_REQUESTS = 5_000
"""Requests that may wait to be sent, or be in progress."""


def source_id(host_name: str | None) -> str:
    """Return the first part of this process's identities: the end of a pod's name, otherwise random (section 1)."""
    if host_name and len(host_name) > SOURCE_ID_LENGTH and host_name[-SOURCE_ID_LENGTH - 1] == "-":
        return host_name[-SOURCE_ID_LENGTH:]
    return random_suffix(SOURCE_ID_LENGTH)


class Recorder:
    """Keeps the records of one router. It is the `FlowRecorder` of its adaptors.

    Args:
        now_s: seconds of the loop's turn since 1970.
        wake: called when there may be something to do at the next tick.
    """

    def __init__(self, now_s: Callable[[], float], wake: Callable[[], object]) -> None:
        self._now_s = now_s
        self._wake = wake
        self.id = source_id(os.environ.get("HOSTNAME"))
        self.identity = f"{self.id}:0"
        """Of the source, and of the ROUTER record."""
        self._prefix = f"{self.id}:"
        self._numbers = count(0)
        self.source = Source(self._on_gone)
        self.is_wanted = False
        self.requests = 0
        """Recorded and not yet gone."""
        self._services: dict[ServiceRecord, tuple[Record, Rate]] = {}
        self._moved: dict[ServiceRecord, None] = {}
        """Services with connections since their counts were last written, or with a rate that has not gone to 0."""
        self._is_observed = False
        self._counterparts: dict[Counterpart, None] = {}
        """Open ones of flows that came from another router."""
        self._counterpart_news: dict[Counterpart, None] = {}
        """Those with something for the router at the other end."""
        self._lines = 0.0
        self._lines_at = 0.0
        self._lines_left_out = 0

    def now_us(self) -> int:
        """Return the time of the loop's turn in microseconds since 1970."""
        return int(self._now_s() * 1e6)

    def next_identity(self) -> str:
        """Return an identity that no other record of this process has."""
        return f"{self._prefix}{next(self._numbers)}"

    # Records of what lives long.

    def add(
        self, record_type: RecordType, attributes: Mapping[int, Value | None], identity: str | None = None
    ) -> Record:
        """Begin a record; attributes without a value are left out."""
        filled: Attributes = {int(key): value for key, value in attributes.items() if value is not None and value != ""}
        filled.setdefault(Attribute.START_TIME, self.now_us())
        record = Record(record_type, identity or self.next_identity(), filled, Channel.PLAIN)
        self.source.begin(record)
        return record

    def update(self, record: Record, attributes: Attributes) -> None:
        """Change a record."""
        if record.update(attributes):
            self.source.changed(record)

    def end_record(self, record: Record) -> None:
        """End a record."""
        if not record.ended_us:
            record.end(self.now_us())
            self.source.end(record)
            self._wake()

    def tables(self) -> tuple[dict[Any, Any], ...]:
        """Return what may have been large."""
        return self._counterparts, self._counterpart_news, *self.source.tables()

    def begin_service(self, record: ServiceRecord) -> None:
        """A listener or a connector exists."""
        is_listener = record.kind is ServiceKind.LISTENER
        attributes: dict[int, Value | None] = {
            Attribute.PARENT: self.identity,
            Attribute.NAME: record.name,
            Attribute.PROTOCOL: record.protocol,
            Attribute.DEST_HOST: record.host,
            Attribute.DEST_PORT: record.port,
            Attribute.VAN_ADDRESS: record.address,
            Attribute.PROCESS: record.process,
            Attribute.FLOW_COUNT_L4: 0,  # a connector's own connection is counted with its first flow, or at its end
        }
        kept = self.add(RecordType.LISTENER if is_listener else RecordType.CONNECTOR, attributes)
        record.identity = kept.identity
        self._services[record] = (kept, Rate())

    def end_service(self, record: ServiceRecord) -> None:
        """It is deleted; harmless when it was before."""
        found = self._services.pop(record, None)
        self._moved.pop(record, None)
        if found is not None:
            found[0].update({Attribute.FLOW_COUNT_L4: record.flows})
            self.end_record(found[0])

    def write_counts(self, now_s: float) -> None:
        """Bring the counts of services up to date that had connections; to be called once a second while wanted."""
        for service in list(self._moved):
            record, rate = self._services[service]
            flow_rate = rate.at(now_s, service.flows)
            attributes: Attributes = {Attribute.FLOW_COUNT_L4: service.flows, Attribute.FLOW_RATE_L4: flow_rate}
            if service.requests:
                attributes[Attribute.FLOW_COUNT_L7] = service.requests
            self.update(record, attributes)
            if not flow_rate:
                del self._moved[service]

    def _count(self, service: ServiceRecord) -> None:
        service.flows += 1
        if service in self._services:
            self._moved[service] = None

    # Flows.

    def begin_flow(
        self, identity: str, service: ServiceRecord, owner: Counted, host: str, port: str
    ) -> FlowRecord | None:
        """A client has connected."""
        self._count(service)
        if not self.source.has_room():
            return None
        record = Transport(identity, service, owner, host, port)
        record.started_us = self.now_us()
        self.source.begin(record)
        return record

    def begin_counterpart(
        self, identity: str | None, service: ServiceRecord, owner: Counted, trace: Sequence[str]
    ) -> CounterpartRecord | None:
        """A stream has come to a connector."""
        if identity is None or counterpart_address(identity) is None or len(self._counterparts) >= MAX_COUNTERPARTS:
            return None
        record = Counterpart(identity, service, owner, "|".join(trace))
        record.started_us = self.now_us()
        if not identity.startswith(self._prefix):
            self._counterparts[record] = None
        self._tell(record)
        return record

    def begin_request(
        self, flow: FlowRecord | None, protocol: str, method: str, stream_id: int | None = None
    ) -> RequestRecord | None:
        """A request has begun."""
        if flow is None:
            return None
        flow.service.requests += 1
        if not self.is_wanted or self.requests >= MAX_REQUESTS:
            return None
        record = Request(self.next_identity(), flow, protocol, method, stream_id)
        record.started_us = self.now_us()
        self.requests += 1
        self.source.begin(record)
        return record

    def on_octets(self, record: FlowRecord | CounterpartRecord, *, is_towards_server: bool) -> None:
        """Octets have passed since the record was last written: the first ones give its latency."""
        if is_towards_server:
            if not record.first_us:
                record.first_us = self.now_us()
        elif record.latency_us is None and record.first_us:
            record.latency_us = max(0, self.now_us() - record.first_us)  # the wall clock may be set back
            record.news |= LATENCY
            if isinstance(record, Counterpart):
                self._tell(record)
                return
        if isinstance(record, Transport):
            self.source.changed(record)

    def changed(self, record: FlowRecord | CounterpartRecord, part: int) -> None:
        """Fields were written."""
        record.news |= part
        if isinstance(record, Transport):
            self.source.changed(record)
        elif isinstance(record, Counterpart):
            if part == COUNTERPART:
                self._count(record.service)
            self._tell(record)

    def end(self, record: FlowRecord | CounterpartRecord | RequestRecord) -> None:
        """It is over; harmless when it was before."""
        if record.ended_us:
            return
        record.ended_us = now_us = self.now_us()
        if isinstance(record, Transport):
            owner, record.owner = record.owner, None
            if owner is not None:
                record.octets, record.octets_reverse = owner.sent, owner.written
            self.source.end(record, is_held=not record.is_complete)
        elif isinstance(record, Counterpart):
            record.owner = None
            record.news |= ERROR
            self._tell(record)
            self._counterparts.pop(record, None)
        elif isinstance(record, Request):
            if record.latency_us is None:
                record.latency_us = max(0, now_us - record.started_us)
            self.source.end(record)
        self._wake()

    def end_all(self) -> None:
        """The router ends: so does everything but the site, which other routers may serve on."""
        source = self.source
        kept: list[Record] = []
        for record in list(source.live.values()):
            if record.ended_us:
                continue
            if isinstance(record, (Transport, Request)):
                self.end(record)
            elif isinstance(record, Record) and record.record_type is not RecordType.SITE:
                kept.append(record)
        source.release()
        # Children before parents; the router was there first.
        for record in reversed(kept):
            self.end_record(record)

    # The other ends of flows.

    def _tell(self, record: Counterpart) -> None:
        if record.identity.startswith(self._prefix):
            self.merge(record.describe())
        elif self._is_observed or record.error:
            self._counterpart_news[record] = None
            self._wake()

    def observe(self, is_observed: bool) -> None:
        """A collector is somewhere in the network, or none any more.

        Without one only failures are told to the routers at the other ends: they have a line in the log for each flow.
        """
        self._is_observed = is_observed
        if is_observed:
            for record in self._counterparts:
                record.news = -1
            self._counterpart_news.update(self._counterparts)
            self._wake()

    def take_counterparts(self) -> dict[str, list[Attributes]]:
        """Return what the routers at the other ends of flows are to be told, by the address of each."""
        told: dict[str, list[Attributes]] = {}
        for record in self._counterpart_news:
            address = counterpart_address(record.identity)
            attributes = record.describe()
            if address is not None and len(attributes) > 2:
                told.setdefault(address, []).append(attributes)
        self._counterpart_news.clear()
        return told

    @property
    def has_counterpart_news(self) -> bool:
        """Whether `take_counterparts` would return something."""
        return bool(self._counterpart_news)

    def merge(self, attributes: Attributes) -> None:
        """The other end of a flow of ours has said something."""
        record = self.source.live.get(str(attributes.get(Attribute.IDENTITY)))
        if not isinstance(record, Transport):
            return
        record.merge(attributes)
        if not record.ended_us:
            self.source.changed(record)
        elif record.is_complete:
            self.source.complete(record)
            self._wake()

    # The log.

    def _on_gone(self, record: Told) -> None:
        if isinstance(record, Request):
            self.requests -= 1
        if isinstance(record, (Transport, Request)):
            now_s = self._now_s()
            self._lines = min(LINES_PER_S, self._lines + (now_s - self._lines_at) * LINES_PER_S)
            self._lines_at = now_s
            if self._lines < 1:
                self._lines_left_out += 1
                return
            self._lines -= 1
            if self._lines_left_out:
                flow_logger.info("Records without a line of their own: %d", self._lines_left_out)
                self._lines_left_out = 0
        flow_logger.info("%s", Line(record, is_begin=True, is_end=True))


class Line:
    """The line of a record, made when it is written."""

    __slots__ = ("_is_begin", "_is_end", "_record")

    def __init__(self, record: Told, *, is_begin: bool, is_end: bool) -> None:
        self._record = record
        self._is_begin = is_begin
        self._is_end = is_end

    def __str__(self) -> str:
        return log_line(self._record.describe(True), is_begin=self._is_begin, is_end=self._is_end)
