"""What a collector knows of the network, put together from the messages of its sources. Layer: 2, pure, told the time.

Source: vanflow, sections 1 to 5, 11 and 15. A message goes in, commands come out: subscribe to the addresses of a new
source, ask a source for everything. Records are patched: given attributes overwrite, absent ones stay. A source that is
silent is forgotten with its records; one that has started again under its old identity begins anew.

Octets of flows are metered as they progress, at the listener that the flow is a child of, so that totals stay exact
when the flows themselves are forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from vanrouter.errors import PeerError
from vanrouter.mgmt.vanflow import (
    ALL_SOURCES,
    BEACON,
    HEARTBEAT,
    RECORD,
    Attribute,
    Attributes,
    RecordType,
    direct_address,
    records_of,
)

SILENCE_S = 30.0
"""A source of which nothing was heard for so long is gone."""
ENDING_S = 5.0
"""A source that has said that it ends is forgotten so long afterwards: its last records may come after that."""
FLUSH_AFTER_S = 5.0
"""A source that has not sent anything so long after its beacon is asked for everything all the same."""
MAX_ENDED = 20_000
"""Records that have ended and are still shown; the oldest go first."""
ENDED_KEPT_S = 60.0
MAX_RECORDS = 200_000
"""Live records of all sources; further ones are counted only."""
MAX_SOURCES = 2_000

_TYPE, _ID, _PARENT = int(Attribute.RECORD_TYPE), int(Attribute.IDENTITY), int(Attribute.PARENT)
_START, _END = int(Attribute.START_TIME), int(Attribute.END_TIME)
_OCTETS, _OCTETS_REVERSE = int(Attribute.OCTETS), int(Attribute.OCTETS_REVERSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """Command: receive from an address."""

    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AskAll:
    """Command: send FLUSH to an address."""

    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe:
    """Command: receive no longer from an address."""

    address: str


Command = Subscribe | AskAll | Unsubscribe


@dataclass(slots=True, eq=False)
class SourceSeen:
    """A source as its messages show it."""

    identity: str
    kind: str
    address: str
    direct: str
    heard_s: float
    is_asked: bool = False
    since_us: int = 0
    """When its first beacon came, by its own clock once that is known: flows that began later are metered from their
    first octet."""
    is_clock_known: bool = False
    started_us: int = 0
    """Start of its ROUTER record."""
    numbers: dict[str, int] = field(default_factory=dict)
    """Last `message-id` of each address."""
    addresses: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Totals:
    """Traffic of one listener since the picture began."""

    octets: int = 0
    octets_reverse: int = 0
    opened: int = 0
    closed: int = 0
    failed: int = 0
    requests: int = 0
    latencies_us: deque[int] = field(default_factory=lambda: deque(maxlen=100))
    """Of the newest flows that have one."""


@dataclass(slots=True, eq=False)
class _Kept:
    attributes: Attributes
    source: SourceSeen


class Picture:
    """All that is known of the network now.

    Args:
        wants_flows: subscribe to flows and requests, too.
        wants_logs: subscribe to log events, too.
    """

    def __init__(self, *, wants_flows: bool = True, wants_logs: bool = False) -> None:
        self._wants_flows = wants_flows
        self._wants_logs = wants_logs
        self.sources: dict[str, SourceSeen] = {}
        self._records: dict[str, _Kept] = {}
        self._by_type: dict[int, dict[str, Attributes]] = {}
        self._ended: deque[tuple[float, str]] = deque()
        self.totals: dict[str, Totals] = {}
        """By the identity of a listener."""
        self.logs: deque[Attributes] = deque(maxlen=1000)
        """Newest log events of all sources."""
        self.refused = 0
        """Messages that could not be understood."""
        self.left_out = 0
        """Records beyond the bound."""
        self.gaps = 0
        """Times that messages were missing, and everything was asked for."""

    # What is known.

    def of_type(self, record_type: RecordType) -> Mapping[str, Attributes]:
        """Return the records of a type by identity, those included that ended lately."""
        return self._by_type.get(int(record_type), {})

    def get(self, identity: str) -> Attributes | None:
        """Return a record."""
        kept = self._records.get(identity)
        return None if kept is None else kept.attributes

    def live(self, record_type: RecordType) -> dict[str, Attributes]:
        """Return the records of a type that have not ended."""
        return {identity: record for identity, record in self.of_type(record_type).items() if _END not in record}

    def source_of(self, identity: str) -> SourceSeen | None:
        """Return the source of a record."""
        kept = self._records.get(identity)
        return None if kept is None else kept.source

    # What comes in.

    def on_message(
        self,
        address: str,
        subject: str | None,
        properties: Mapping[object, object] | None,
        body: object,
        message_id: object,
        now_s: float,
    ) -> list[Command]:
        """Take a message.

        Args:
            address: that it was received from.
            subject: its kind; others than those of the specification are ignored.
            properties: application properties, keys as strings or symbols.
            body: decoded.
            message_id: counts at each address, where the source numbers its messages.
            now_s: seconds since 1970.
        """
        texts = {str(key): value for key, value in (properties or {}).items()}
        if subject == BEACON:
            return self._on_beacon(texts, now_s)
        identity = _source_of(address)
        source = self.sources.get(identity)
        if source is None or subject not in (HEARTBEAT, RECORD):
            return []
        source.heard_s = now_s
        if subject == HEARTBEAT:
            now = texts.get("now")
            if isinstance(now, int) and not source.is_clock_known:
                source.is_clock_known = True
                source.since_us += int(now) - int(now_s * 1e6)
            return self._first_ask(source)
        try:
            records = records_of(body)
        except PeerError:
            self.refused += 1
            return []
        for record in records:
            self._take(source, record, now_s)
        commands = self._first_ask(source)
        if isinstance(message_id, int):
            last = source.numbers.get(address)
            source.numbers[address] = int(message_id)
            if last is not None and message_id > last + 1 and not commands:
                self.gaps += 1
                commands = [AskAll(address=source.direct)]
        return commands

    def _on_beacon(self, properties: Mapping[str, object], now_s: float) -> list[Command]:
        identity, address = properties.get("id"), properties.get("address")
        if not isinstance(identity, str) or not isinstance(address, str) or not identity or not address:
            self.refused += 1
            return []
        identity = str(identity)
        known = self.sources.get(identity)
        if properties.get("ending") is True:
            if known is not None:
                known.heard_s = now_s - SILENCE_S + ENDING_S
            return []
        if known is not None:
            known.heard_s = now_s
            return []
        if len(self.sources) >= MAX_SOURCES:
            self.left_out += 1
            return []
        kind = str(properties.get("sourceType", "ROUTER"))
        suffixes = [""]
        if kind == "CONTROLLER":
            suffixes.append(".heartbeats")
        else:
            suffixes += [".flows"] * self._wants_flows + [".logs"] * self._wants_logs
        addresses = tuple(f"{address}{suffix}" for suffix in suffixes)
        direct = str(properties.get("direct") or direct_address(identity))
        self.sources[identity] = SourceSeen(
            identity, kind, str(address), direct, now_s, since_us=int(now_s * 1e6), addresses=addresses
        )
        return [Subscribe(address=entry) for entry in addresses]

    def _first_ask(self, source: SourceSeen) -> list[Command]:
        if source.is_asked:
            return []
        source.is_asked = True
        return [AskAll(address=source.direct)]

    def on_timer(self, now_s: float) -> list[Command]:
        """Let time pass, in seconds since 1970: once a second is often enough."""
        commands: list[Command] = []
        for source in list(self.sources.values()):
            if now_s - source.heard_s > SILENCE_S:
                self._forget_source(source)
                commands += [Unsubscribe(address=address) for address in source.addresses]
            elif not source.is_asked and now_s - source.heard_s > FLUSH_AFTER_S:
                commands += self._first_ask(source)
        while self._ended and (self._ended[0][0] <= now_s - ENDED_KEPT_S or len(self._ended) > MAX_ENDED):
            self._drop(self._ended.popleft()[1])
        return commands

    def _forget_source(self, source: SourceSeen) -> None:
        del self.sources[source.identity]
        for identity in [identity for identity, kept in self._records.items() if kept.source is source]:
            self._drop(identity)

    def _drop(self, identity: str) -> None:
        kept = self._records.pop(identity, None)
        if kept is not None:
            self._by_type[int(kept.attributes[_TYPE])].pop(identity, None)

    # Records.

    def _take(self, source: SourceSeen, record: Attributes, now_s: float) -> None:
        identity = str(record[_ID])
        kept = self._records.get(identity)
        record_type = record.get(_TYPE, None if kept is None else kept.attributes[_TYPE])
        if not isinstance(record_type, int):
            return
        if record_type == RecordType.LOG:
            self.logs.append(record)
            return
        if record_type == RecordType.ROUTER and identity == source.identity and self._has_restarted(source, record):
            kept = None
        if kept is None:
            if len(self._records) >= MAX_RECORDS:
                self.left_out += 1
                return
            kept = self._records[identity] = _Kept({_TYPE: record_type, _ID: identity}, source)
            self._by_type.setdefault(record_type, {})[identity] = kept.attributes
        before = kept.attributes
        if _END in before:
            return
        if record_type == RecordType.BIFLOW_TPORT:
            self._meter(source, before, record)
        elif record_type == RecordType.BIFLOW_APP and _START in record and _START not in before:
            self._meter_request(source, record)
        before.update(record)
        if _END in record:
            self._ended.append((now_s, identity))

    def _has_restarted(self, source: SourceSeen, record: Attributes) -> bool:
        started = record.get(_START)
        if not isinstance(started, int) or started <= source.started_us:
            return False
        had_started, source.started_us = source.started_us, started
        if not had_started:
            return False
        for identity in [identity for identity, kept in self._records.items() if kept.source is source]:
            self._drop(identity)
        return True

    def _meter(self, source: SourceSeen, before: Attributes, record: Attributes) -> None:
        parent = record.get(_PARENT, before.get(_PARENT))
        if not isinstance(parent, str):
            return  # an update of a flow whose begin was missed: metered from the next whole record on
        totals = self.totals.get(parent)
        if totals is None:
            totals = self.totals[parent] = Totals()
        if _PARENT not in before and self._is_new(source, record):
            totals.opened += 1
            totals.octets += _number(record, _OCTETS)
            totals.octets_reverse += _number(record, _OCTETS_REVERSE)
        elif _PARENT in before:
            totals.octets += max(0, _number(record, _OCTETS, before) - _number(before, _OCTETS))
            totals.octets_reverse += max(0, _number(record, _OCTETS_REVERSE, before) - _number(before, _OCTETS_REVERSE))
        latency = record.get(Attribute.LATENCY)
        if isinstance(latency, int) and Attribute.LATENCY not in before:
            totals.latencies_us.append(latency)
        if _END in record:
            totals.closed += 1
            if Attribute.ERROR_LISTENER_SIDE in record or Attribute.ERROR_CONNECTOR_SIDE in {**before, **record}:
                totals.failed += 1

    def _meter_request(self, source: SourceSeen, record: Attributes) -> None:
        flow = self.get(str(record.get(_PARENT)))
        parent = None if flow is None else flow.get(_PARENT)
        if isinstance(parent, str) and self._is_new(source, record):
            self.totals.setdefault(parent, Totals()).requests += 1

    @staticmethod
    def _is_new(source: SourceSeen, record: Attributes) -> bool:
        """Whether a flow began while we were listening: what passed before is not ours to count."""
        return source.since_us <= _number(record, _START)


def _number(record: Attributes, key: int, otherwise: Attributes | None = None) -> int:
    value = record.get(key)
    if value is None and otherwise is not None:
        value = otherwise.get(key)
    return value if isinstance(value, int) else 0


def _source_of(address: str) -> str:
    """Return the source that an address belongs to: `mc/sfe.<source>`, with or without a suffix."""
    rest = address.rpartition("sfe.")[2]
    for suffix in (".flows", ".logs", ".heartbeats"):
        rest = rest.removesuffix(suffix)
    return rest


FIRST_SUBSCRIPTION = Subscribe(address=ALL_SOURCES)
"""What a collector begins with."""
