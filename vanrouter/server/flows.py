"""Observability on the wire: beacons, heartbeats and records go out while somebody in the network listens.

Layer: 5. Source: vanflow, sections 1 to 4, 7, 8 and 10. Who listens is read from the address table: the addresses of
this source are watched like any other. Nobody listening costs four watches and no timer; a tick of 200 ms runs while
somebody does, or while the end of a flow waits for the router at its other end.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count

from vanrouter import __version__
from vanrouter.core.links import Receiver
from vanrouter.core.router import Router
from vanrouter.core.table import AddressRule, Treatment
from vanrouter.engine.annotations import Annotations
from vanrouter.engine.messages import Message, decode_message, encode_message
from vanrouter.engine.sections import UInt, ULong
from vanrouter.errors import PeerError
from vanrouter.mgmt import vanflow
from vanrouter.mgmt.levels import LEVELS
from vanrouter.mgmt.lines import Event
from vanrouter.mgmt.vanflow import Attribute, Attributes, RecordType
from vanrouter.mgmt.vanflow_source import Channel, Record
from vanrouter.server.flow_links import LinkRecords
from vanrouter.server.flow_recorder import Line, Recorder, flow_logger

PIECE_RECORDS = 250
"""Records written in one turn of the loop: about 4 ms."""
PIECE_PAUSE_S = 0.01
END_S = 0.5
"""What the end of the router may take for telling that everything has ended."""
END_PAUSE_S = 0.002
MAX_LOG_EVENTS = 100
"""Log events sent in a second; the rest of the second is counted."""

_NULL_BODY = b"\x00\x53\x77\x40"

logger = logging.getLogger(__name__)


class FlowSource:
    """This router as a source of records."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._reactor = router.reactor
        self._epoch_s = router.wall_clock() - router.reactor.now
        """What makes the loop's time seconds since 1970; looked at again once a second while ticks run."""
        self.recorder = Recorder(lambda: self._reactor.now + self._epoch_s, self._wake)
        self.links = LinkRecords(self.recorder)
        source = self.recorder.identity
        self._address_of = {
            Channel.PLAIN: vanflow.event_address(source),
            Channel.FLOWS: vanflow.flow_address(source),
            Channel.LOGS: vanflow.log_address(source),
        }
        self._numbers = {channel: count(1) for channel in Channel}
        """`message-id` of the records at each address: who misses one asks for everything (FLUSH)."""
        self._is_observed = False
        self._observed_ticks = 0
        self._ticks = 0
        self._is_ticking = False
        self._is_sending = False
        self._is_flush_wanted = False
        self._events: deque[Event] = deque(maxlen=MAX_LOG_EVENTS)
        self.events_left_out = 0
        self.refused = 0
        """Messages to this source that could not be understood."""
        self.records_sent = 0
        self.messages_sent = 0
        self._router_record: Record | None = None
        self._ends_at = 0.0
        """When telling the end ends, once that has begun."""
        self._has_told_end = False
        self._on_ended: Callable[[], object] = lambda: None

    # Life.

    def start(self) -> None:
        """Watch for listeners, and take what is sent to this source."""
        router = self._router
        router.trimmer.watch(self.recorder.tables)
        environment = os.environ.get
        self._router_record = self.recorder.add(
            RecordType.ROUTER,
            {
                Attribute.NAME: f"0/{router.router_id}",
                Attribute.MODE: router.mode,
                Attribute.HOST_NAME: environment("HOSTNAME"),
                Attribute.NAMESPACE: environment("POD_NAMESPACE"),
                Attribute.IMAGE_NAME: environment("APPLICATION_NAME"),
                Attribute.IMAGE_VERSION: environment("VERSION"),
                Attribute.BUILD_VERSION: __version__,
                Attribute.PARENT: environment("SKUPPER_SITE_ID"),
            },
            self.recorder.next_identity(),
        )
        assert self._router_record.identity == self.recorder.identity
        flow_logger.info("%s", Line(self._router_record, is_begin=True, is_end=False))
        router.table.rules.add(AddressRule(pattern=vanflow.MULTICAST_PREFIX, treatment=Treatment.MULTICAST))
        source = self.recorder.identity
        router.subscribe_messages(vanflow.direct_address(source), self._on_direct, is_announced=True)
        counterparts = vanflow.counterpart_address(source)
        assert counterparts is not None
        router.subscribe_messages(counterparts, self._on_counterparts, is_announced=True)
        router.watch_plain(vanflow.ALL_SOURCES, self._on_observed)
        for channel, address in self._address_of.items():
            router.watch_plain(address, partial(self._on_wanted, channel))

    def begin_site(self, attributes: Mapping[str, object]) -> None:
        """The configuration says where this router runs."""
        texts = {key: value for key, value in attributes.items() if isinstance(value, str)}
        record = self.recorder.add(
            RecordType.SITE,
            {
                Attribute.NAME: texts.get("name"),
                Attribute.LOCATION: texts.get("location"),
                Attribute.PROVIDER: texts.get("provider"),
                Attribute.PLATFORM: texts.get("platform"),
                Attribute.NAMESPACE: texts.get("namespace"),
                Attribute.BUILD_VERSION: texts.get("version"),
            },
            os.environ.get("SKUPPER_SITE_ID"),
        )
        flow_logger.info("%s", Line(record, is_begin=True, is_end=False))
        if self._router_record is not None:
            self.recorder.update(self._router_record, {Attribute.PARENT: record.identity})

    # Who listens.

    def _on_observed(self, is_reachable: bool) -> None:
        if is_reachable != self._is_observed:
            flow_logger.info(
                "Event collector %s beacons.", "detected.  Begin sending" if is_reachable else "lost.  Stop sending"
            )
        self._is_observed = is_reachable
        self.recorder.observe(is_reachable)
        self._observed_ticks = 0
        self._wake()

    def _on_wanted(self, channel: Channel, is_wanted: bool) -> None:
        self.recorder.source.want(channel, is_wanted)
        if channel is Channel.FLOWS:
            self.recorder.is_wanted = is_wanted
        elif channel is Channel.LOGS and not is_wanted:
            self._events.clear()
        elif is_wanted:
            self.links.write(self._reactor.now)
        self._wake()

    @property
    def _is_needed(self) -> bool:
        recorder = self.recorder
        return (
            self._is_observed
            or bool(recorder.source.wanted)
            or recorder.source.is_busy
            or recorder.has_counterpart_news
        )

    def _wake(self) -> None:
        if not self._is_ticking:
            self._is_ticking = True
            self._reactor.call_later(vanflow.TICK_S, self._tick)

    def on_crash(self) -> None:
        """A bug (the loop's crash boundary): records go on with the next tick, and an end does not wait for them."""
        if self._ends_at:
            self._on_ended()
        else:
            self._wake()

    # The end.

    def finish(self, done: Callable[[], object]) -> None:
        """Tell who listens that everything has ended, then call `done`: END_S from now at the latest, or at once."""
        if not self.recorder.source.wanted:
            done()
            return
        self._ends_at = self._reactor.now + END_S
        self._on_ended = done
        self.recorder.end_all()
        self._reactor.call_soon(self._end_some)

    def _end_some(self) -> None:
        source = self.recorder.source
        is_late = self._reactor.now >= self._ends_at
        if source.is_due and not is_late:
            self._send_some()
        elif not self._has_told_end and not is_late:
            self._has_told_end = True
            self._beacon(is_ending=True)
        elif is_late or self._is_flushed():
            self._on_ended()
            return
        self._reactor.call_later(END_PAUSE_S, self._end_some)

    def _is_flushed(self) -> bool:
        """Whether the sockets have taken what was told."""
        router = self._router
        own = [router.table.get(router.space.key(address)) for address in self._address_of.values()]
        waiting = (sender for address in own if address is not None for sender in address.consumers)
        connections = router.amqp_connections.values()
        links = (link for connection in connections for link in connection.data_out if link is not None)
        is_queued = any(link.queue for link in (*waiting, *links))
        return not is_queued and not any(connection.engine.blocked for connection in connections)

    # What goes out.

    def _tick(self) -> None:
        self._is_ticking = False
        self._ticks += 1
        source = self.recorder.source
        if self._ticks % vanflow.SLOTS == 0:
            self._on_second(self._reactor.now)
        source.tick()
        if self._is_observed:
            if self._observed_ticks % vanflow.BEACON_TICKS == 0:
                self._beacon()
            if self._observed_ticks % vanflow.HEARTBEAT_TICKS == 0:
                self._heartbeat()
            self._observed_ticks += 1
        if source.is_due and not self._is_sending and not self._ends_at:
            self._send_due()
        if self._is_needed:
            self._wake()

    def _on_second(self, now: float) -> None:
        self._epoch_s = self._router.wall_clock() - now
        source = self.recorder.source
        if Channel.PLAIN in source.wanted:
            self.links.write(now)
            self.recorder.write_counts(now)
        if self._is_flush_wanted:
            self._is_flush_wanted = False
            source.flush()
        for address, records in self.recorder.take_counterparts().items():
            for start in range(0, len(records), vanflow.BATCH_RECORDS):
                self._send(address, None, records[start : start + vanflow.BATCH_RECORDS])
        if self._events:
            self._send_events()

    def _send_due(self) -> None:
        before = len(self.recorder.source.live)
        self._send_some()
        # What was held for its other end goes seconds after its flow, when the memory of that was given back.
        self._router.trimmer.note_ends(max(0, before - len(self.recorder.source.live)))

    def _send_some(self) -> None:
        self._is_sending = False
        source = self.recorder.source
        for channel, records in source.take(PIECE_RECORDS):
            self._send(self._address_of[channel], next(self._numbers[channel]), records)
        if source.is_due and not self._ends_at:
            self._is_sending = True
            self._reactor.call_later(PIECE_PAUSE_S, self._send_due)

    def _send(self, to: str, number: int | None, records: list[Attributes]) -> None:
        message_id = None if number is None else ULong(number)
        head = encode_message(Message(to=to, subject=vanflow.RECORD, message_id=message_id))
        self._router.send_message(to, head.removesuffix(_NULL_BODY) + vanflow.encode_records(records))
        self.records_sent += len(records)
        self.messages_sent += 1

    def _beacon(self, *, is_ending: bool = False) -> None:
        source = self.recorder.identity
        properties: dict[str, object] = {
            "v": UInt(vanflow.VERSION),
            "sourceType": "ROUTER",
            "id": source,
            "address": self._address_of[Channel.PLAIN],
            "direct": vanflow.direct_address(source),
        }
        if is_ending:
            properties["ending"] = True
        self._announce(vanflow.ALL_SOURCES, vanflow.BEACON, properties)

    def _heartbeat(self) -> None:
        if Channel.PLAIN in self.recorder.source.wanted:
            now_us = ULong(self.recorder.now_us())
            properties = {"v": UInt(vanflow.VERSION), "now": now_us, "id": self.recorder.identity}
            self._announce(self._address_of[Channel.PLAIN], vanflow.HEARTBEAT, properties)

    def _announce(self, to: str, subject: str, properties: dict[str, object]) -> None:
        message = Message(to=to, subject=subject, application_properties=properties)
        self._router.send_message(to, encode_message(message))
        self.messages_sent += 1

    # Log events.

    def on_log_event(self, event: Event) -> None:
        """The log has written a warning or worse; called in any thread."""
        if Channel.LOGS in self.recorder.source.wanted and event.module != "FLOW_LOG":
            if len(self._events) == MAX_LOG_EVENTS:
                self.events_left_out += 1
            else:
                self._events.append(event)

    def _send_events(self) -> None:
        records: list[Attributes] = []
        while self._events:
            event = self._events.popleft()
            time_us = int(event.created * 1e6)
            records.append(
                {
                    Attribute.RECORD_TYPE: int(RecordType.LOG),
                    Attribute.IDENTITY: self.recorder.next_identity(),
                    Attribute.PARENT: self.recorder.identity,
                    Attribute.START_TIME: time_us,
                    Attribute.END_TIME: time_us,
                    Attribute.LOG_SEVERITY: LEVELS.index(event.level),
                    Attribute.LOG_TEXT: f"LOG_{event.module}: {event.texts[0]}",
                    Attribute.SOURCE_FILE: event.file,
                    Attribute.SOURCE_LINE: event.line,
                }
            )
        for start in range(0, len(records), vanflow.BATCH_RECORDS):
            batch = records[start : start + vanflow.BATCH_RECORDS]
            self._send(self._address_of[Channel.LOGS], next(self._numbers[Channel.LOGS]), batch)

    # What comes in.

    def _on_direct(self, _annotations: Annotations, content: bytes, _receiver: Receiver | None) -> None:
        try:
            message = decode_message(content)
        except PeerError as error:
            self._refuse(error)
            return
        if message.subject == vanflow.FLUSH:
            self._is_flush_wanted = True
            self._wake()

    def _on_counterparts(self, _annotations: Annotations, content: bytes, _receiver: Receiver | None) -> None:
        try:
            records = vanflow.records_of(decode_message(content).body)
        except PeerError as error:
            self._refuse(error)
            return
        for record in records:
            self.recorder.merge(record)

    def _refuse(self, error: PeerError) -> None:
        self.refused += 1
        logger.debug("A message to this source is not understood: %s", error.description)
