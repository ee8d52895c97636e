"""One source of records: which live, which have changed, what is due to be sent. Layer: 2, pure.

Source: vanflow, sections 3 and 4. Ticks come from outside. The source never looks at a record that nobody told it
about: what has changed stands in the slot of its record until the tick of that slot, five ticks a second apart, and
goes from there to the outbox. `take` empties the outbox in pieces, so that a FLUSH of 10,000 records does not hold the
loop.

    begin, changed, end -> slot (one of 5) --tick--> outbox --take--> batches of up to 50 records of one channel
    end of a flow       -> held 5 s, or until its other end has said everything -> outbox
    flush               -> outbox, every live record whole
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Protocol

from vanrouter.mgmt.vanflow import BATCH_RECORDS, HELD_TICKS, SLOTS, Attribute, Attributes, RecordType

MAX_TRANSIENT = 20_000
"""Records of flows and requests that are kept, those that have ended and wait included: about 10 MB. The C router keeps
5,000."""
RESUME_TRANSIENT = MAX_TRANSIENT * 99 // 100
"""Below this, after the bound was reached, new ones are kept again."""

RATE_STEP_S = 2.0
RATE_SPAN_S = 10.0


class Channel(Enum):
    """Where records go: the plain address of the source, that of flows, that of log events."""

    PLAIN = ""
    FLOWS = "flows"
    LOGS = "logs"


class Told(Protocol):
    """A record as the source knows it."""

    identity: str
    channel: Channel
    ended_us: int
    """0 while it lives."""

    def describe(self, is_whole: bool) -> Attributes:
        """Return all attributes, or those that have changed since the last call; both count as sent."""


class Source:
    """The records of one router.

    Args:
        on_gone: told of each record when its end is written, or would be if anybody listened.
    """

    def __init__(self, on_gone: Callable[[Told], object] = lambda record: None) -> None:
        self.live: dict[str, Told] = {}
        """Every record that has begun and whose end has not been written."""
        self.transient = 0
        """Flows and requests among them."""
        self.not_kept = 0
        """Flows and requests that were not recorded because of the bound."""
        self.wanted: set[Channel] = set()
        """Channels that somebody listens to."""
        self._on_gone = on_gone
        self._slots: tuple[dict[str, None], ...] = tuple({} for _ in range(SLOTS))
        self._now = 0
        self._due: deque[str] = deque()
        self._outbox: dict[str, bool] = {}
        """Identities of what is due, and whether it goes whole; `_due` has their order."""
        self._held: dict[str, bool] = {}
        """Flows that have ended and wait for their other end, and whether they go whole."""
        self._releases: deque[tuple[int, str]] = deque()
        self._is_full = False

    def tables(self) -> tuple[dict[Any, Any], ...]:
        """Return what may have been large."""
        return self.live, self._outbox, self._held, *self._slots

    def has_room(self) -> bool:
        """Tell whether another flow or request may be recorded, and count it if not."""
        if self._is_full:
            self._is_full = self.transient >= RESUME_TRANSIENT
        elif self.transient >= MAX_TRANSIENT:
            self._is_full = True
        if self._is_full:
            self.not_kept += 1
        return not self._is_full

    def begin(self, record: Told) -> None:
        """A record exists from now on."""
        self.live[record.identity] = record
        if record.channel is Channel.FLOWS:
            self.transient += 1
        self.changed(record)

    def changed(self, record: Told) -> None:
        """Something of a record is news. That of a held one is sent with its end."""
        if record.channel in self.wanted and not record.ended_us:
            identity = record.identity
            self._slots[hash(identity) % SLOTS][identity] = None

    def end(self, record: Told, *, is_held: bool = False) -> None:
        """A record has ended (`ended_us` is set).

        Args:
            is_held: its other end may still have something to say.
        """
        identity = record.identity
        if is_held:
            self._held[identity] = self._outbox.pop(identity, False)
            self._releases.append((self._now + HELD_TICKS, identity))
        else:
            self._put(identity, False)

    def complete(self, record: Told) -> None:
        """The other end has said everything: a held record need not wait."""
        if record.identity in self._held:
            self._put(record.identity, self._held.pop(record.identity))

    def release(self) -> None:
        """What is held for its other end waits no longer: the router ends."""
        for identity, is_whole in self._held.items():
            self._put(identity, is_whole)
        self._held.clear()

    def _put(self, identity: str, is_whole: bool) -> None:
        if identity not in self._outbox:
            self._due.append(identity)
            self._outbox[identity] = is_whole
        elif is_whole:
            self._outbox[identity] = True

    def want(self, channel: Channel, is_wanted: bool) -> None:
        """Somebody listens to a channel, or nobody does any more. Who begins to listen gets everything."""
        if not is_wanted:
            self.wanted.discard(channel)
        elif channel not in self.wanted:
            self.wanted.add(channel)
            self._queue_whole(channel)

    def flush(self) -> None:
        """A collector wants everything."""
        for channel in Channel:
            if channel in self.wanted:
                self._queue_whole(channel)

    def _queue_whole(self, channel: Channel) -> None:
        for identity, record in self.live.items():
            if record.channel is channel:
                if identity in self._held:
                    self._held[identity] = True
                else:
                    self._put(identity, True)

    def tick(self) -> None:
        """A fifth of a second has passed: what stands in the slot of this tick is due, and what was held long."""
        self._now += 1
        slot = self._slots[self._now % SLOTS]
        for identity in slot:
            if identity in self.live and identity not in self._held:
                self._put(identity, False)
        slot.clear()
        while self._releases and self._releases[0][0] <= self._now:
            identity = self._releases.popleft()[1]
            if identity in self._held:
                self._put(identity, self._held.pop(identity))

    @property
    def is_due(self) -> bool:
        """Whether `take` would find something."""
        return bool(self._outbox)

    @property
    def is_busy(self) -> bool:
        """Whether ends are held or not yet written: ticks are needed although nobody listens."""
        return bool(self._releases or self._outbox)

    def take(self, limit: int) -> Iterator[tuple[Channel, list[Attributes]]]:
        """Take up to `limit` records out of the outbox: batches of one channel, in the order they became due."""
        batches: dict[Channel, list[Attributes]] = {}
        while self._due and limit > 0:
            identity = self._due.popleft()
            is_whole = self._outbox.pop(identity, None)
            record = self.live.get(identity)
            if is_whole is None or record is None:
                continue
            limit -= 1
            channel = record.channel
            if channel in self.wanted:
                attributes = record.describe(is_whole)
                if len(attributes) > 2:
                    batch = batches.setdefault(channel, [])
                    batch.append(attributes)
                    if len(batch) == BATCH_RECORDS:
                        yield channel, batches.pop(channel)
            if record.ended_us:
                del self.live[identity]
                if channel is Channel.FLOWS:
                    self.transient -= 1
                self._on_gone(record)
        yield from batches.items()


class Record:
    """A record of something that lives long and of which there are few, as a map."""

    __slots__ = ("_attributes", "_news", "channel", "ended_us", "identity", "record_type")

    def __init__(self, record_type: RecordType, identity: str, attributes: Attributes, channel: Channel) -> None:
        """`attributes`: those without a value (None is none, "" neither) are left out by the caller."""
        self.identity = identity
        self.record_type = record_type
        self.channel = channel
        self.ended_us = 0
        self._attributes: Attributes = {Attribute.RECORD_TYPE: int(record_type), Attribute.IDENTITY: identity}
        self._attributes.update(attributes)
        self._news = set(self._attributes)

    def update(self, attributes: Attributes) -> bool:
        """Take new values; False when nothing has changed."""
        current = self._attributes
        changed = [key for key, value in attributes.items() if current.get(key) != value]
        for key in changed:
            current[key] = attributes[key]
        self._news.update(changed)
        return bool(changed)

    def end(self, now_us: int) -> None:
        """The record is over."""
        self.ended_us = now_us
        self.update({Attribute.END_TIME: now_us})

    def describe(self, is_whole: bool) -> Attributes:
        """Return what is to be sent."""
        news, self._news = self._news, set()
        if is_whole:
            return dict(self._attributes)
        own = (Attribute.RECORD_TYPE, Attribute.IDENTITY)
        return {key: value for key, value in self._attributes.items() if key in own or key in news}


class Rate:
    """How fast a counter grows: over the last ten seconds, in steps of two (section 3)."""

    __slots__ = ("_totals",)

    def __init__(self) -> None:
        self._totals: deque[tuple[float, int]] = deque()

    def at(self, now_s: float, total: int) -> int:
        """Note the counter; return its growth in each second of the last ten."""
        totals = self._totals
        if totals and total < totals[-1][1]:
            totals.clear()  # what counts has begun again
        if not totals or now_s - totals[-1][0] >= RATE_STEP_S:
            totals.append((now_s, total))
        while len(totals) > 1 and totals[1][0] <= now_s - RATE_SPAN_S:
            totals.popleft()
        return int((total - totals[0][1]) / RATE_SPAN_S)
