"""Records of flows and requests as maps: what `core.flows` keeps, in the attributes of the specification.

Layer: 5. Source: vanflow, sections 6 to 9. The numbers of attributes are bound at import: a flow is described at
each change while somebody listens.
"""

from __future__ import annotations

from vanrouter.core.flows import COUNTERPART, ERROR, HEAD, LATENCY, CounterpartRecord, FlowRecord, RequestRecord
from vanrouter.mgmt.vanflow import MAX_TEXT, OF_COUNTERPART, Attribute, Attributes, RecordType, Value
from vanrouter.mgmt.vanflow_source import Channel

_TPORT, _APP = int(RecordType.BIFLOW_TPORT), int(RecordType.BIFLOW_APP)
_PARENT, _START, _END = int(Attribute.PARENT), int(Attribute.START_TIME), int(Attribute.END_TIME)
_SOURCE_HOST, _SOURCE_PORT = int(Attribute.SOURCE_HOST), int(Attribute.SOURCE_PORT)
_OCTETS, _OCTETS_REVERSE = int(Attribute.OCTETS), int(Attribute.OCTETS_REVERSE)
_LATENCY, _TRACE = int(Attribute.LATENCY), int(Attribute.TRACE)
_CONNECTOR, _PROCESS_LATENCY = int(Attribute.CONNECTOR), int(Attribute.PROCESS_LATENCY)
_PROXY_HOST, _PROXY_PORT = int(Attribute.PROXY_HOST), int(Attribute.PROXY_PORT)
_LISTENER_ERROR, _CONNECTOR_ERROR = int(Attribute.ERROR_LISTENER_SIDE), int(Attribute.ERROR_CONNECTOR_SIDE)
_PROTOCOL, _METHOD, _STREAM = int(Attribute.PROTOCOL), int(Attribute.METHOD), int(Attribute.STREAM_IDENTITY)
_RESULT, _REASON = int(Attribute.RESULT), int(Attribute.REASON)

LOCAL = "Local"
"""Trace of a flow whose ends are on one router."""


class Transport(FlowRecord):
    """A flow, described as BIFLOW_TPORT."""

    __slots__ = ()

    channel = Channel.FLOWS

    def describe(self, is_whole: bool) -> Attributes:
        """Return what is to be sent, and ask to be told of the next octets."""
        out: Attributes = {0: _TPORT, 1: self.identity}
        news = -1 if is_whole else self.news
        self.news = 0
        if news & HEAD:
            out[_PARENT] = self.service.identity
            out[_START] = self.started_us
            out[_SOURCE_HOST] = self.host
            out[_SOURCE_PORT] = self.port
        if news & LATENCY and self.latency_us is not None:
            out[_LATENCY] = self.latency_us
        if news & COUNTERPART:
            self._describe_counterpart(out)
        owner = self.owner
        octets, octets_reverse = self.octets, self.octets_reverse
        if owner is None:
            out[_END] = self.ended_us
            if self.error:
                out[_LISTENER_ERROR] = self.error
            out[_OCTETS] = octets
            out[_OCTETS_REVERSE] = octets_reverse
            return out
        if news & HEAD or octets != owner.sent:
            out[_OCTETS] = self.octets = owner.sent
        if news & HEAD or octets_reverse != owner.written:
            out[_OCTETS_REVERSE] = self.octets_reverse = owner.written
        owner.tell_next()
        return out

    def _describe_counterpart(self, out: Attributes) -> None:
        for key, value in (
            (_CONNECTOR, self.connector),
            (_PROXY_HOST, self.proxy_host),
            (_PROXY_PORT, self.proxy_port),
            (_TRACE, self.trace),
            (_CONNECTOR_ERROR, self.connector_error),
        ):
            if value:
                out[key] = value
        if self.process_latency_us is not None:
            out[_PROCESS_LATENCY] = self.process_latency_us

    def merge(self, attributes: Attributes) -> None:
        """Take over what the router at the other end says; anything else than its part of the record is ignored."""
        for key, value in attributes.items():
            if key not in OF_COUNTERPART:
                continue
            if key == _PROCESS_LATENCY:
                if isinstance(value, int):
                    self.process_latency_us = value
                continue
            text = str(value)[:MAX_TEXT]
            if key == _CONNECTOR:
                self.connector = text
            elif key == _PROXY_HOST:
                self.proxy_host = text
            elif key == _PROXY_PORT:
                self.proxy_port = text
            elif key == _TRACE:
                self.trace = text
            else:
                self.connector_error = text
        self.news |= COUNTERPART

    @property
    def is_complete(self) -> bool:
        """Whether the other end has said all that it can."""
        return bool(self.connector_error or (self.proxy_host and self.process_latency_us is not None))


class Counterpart(CounterpartRecord):
    """The other end of a flow, described as the part of a BIFLOW_TPORT of another router."""

    __slots__ = ()

    def describe(self) -> Attributes:
        """Return what has changed, once."""
        out: Attributes = {0: _TPORT, 1: self.identity}
        news, self.news = self.news, 0
        if news & HEAD:
            out[_TRACE] = self.trace or LOCAL
            out[_CONNECTOR] = self.service.identity
        if news & COUNTERPART and self.proxy_host:
            out[_PROXY_HOST] = self.proxy_host
            out[_PROXY_PORT] = self.proxy_port
        if news & LATENCY and self.latency_us is not None:
            out[_PROCESS_LATENCY] = self.latency_us
        if news & ERROR and self.error:
            out[_CONNECTOR_ERROR] = self.error
        return out


class Request(RequestRecord):
    """A request, described as BIFLOW_APP."""

    __slots__ = ()

    channel = Channel.FLOWS

    def describe(self, is_whole: bool) -> Attributes:
        """Return what is to be sent."""
        out: Attributes = {0: _APP, 1: self.identity}
        news = HEAD if is_whole else self.news
        self.news = 0
        if news & HEAD:
            out[_PARENT] = self.flow.identity
            out[_START] = self.started_us
            texts: tuple[tuple[int, Value], ...] = (
                (_PROTOCOL, self.protocol), (_METHOD, self.method), (_SOURCE_HOST, self.host)
            )  # fmt: skip
            out.update((key, value) for key, value in texts if value)
            if self.stream_id is not None:
                out[_STREAM] = self.stream_id
        if self.ended_us:
            out[_END] = self.ended_us
            out[_OCTETS] = self.octets
            out[_OCTETS_REVERSE] = self.octets_reverse
            if self.latency_us is not None:
                out[_LATENCY] = self.latency_us
            if self.result:
                out[_RESULT] = self.result
            if self.reason:
                out[_REASON] = self.reason
            if self.host:
                out[_SOURCE_HOST] = self.host
        return out
