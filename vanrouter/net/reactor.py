"""The event loop: readiness by epoll, timers, work handed over from other threads, one flush at the end of a turn.

Layer: 2. Why not asyncio: a turn has a defined end here, at which each dirty connection is written exactly once without
a further trip through the poller; and the same plain Python runs compiled on PyPy, where uvloop does not exist.

A turn: wait; `now` is read once; ready descriptors are served; due timers run; what was handed over with `call_soon`
runs; dirty objects are flushed, of many some a turn later (`FEW`). An exception in a callback never ends the process:
it is counted and logged, and the owner of the callback, when it has a method `on_crash`, is told so that it closes what
it was working on.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Protocol

from vanrouter.histogram import Histogram

logger = logging.getLogger(__name__)

IN: int = select.EPOLLIN
OUT: int = select.EPOLLOUT
ERROR: int = select.EPOLLERR | select.EPOLLHUP
"""Always reported by the kernel, asked for or not."""

MAX_EVENTS = 16
"""Descriptors served in a turn at most. What a turn has for the next router goes out at its end: with all that is ready
in one turn, the routers of a chain would work one after the other, each while the others wait. 32 connections made 15 %
more requests a second through two routers with 16 than with 256 (bench/small_requests.py, two cores); 8 made less."""

FIRST_TURNS = 4
"""After so many full turns those descriptors come that are first. In every turn, each time with less to do, they cost
32 connections 18 % of their requests a second."""

FEW = 8
"""When a turn has made more than these dirty, those that can wait are flushed in the next one, which comes at once. A
hundred consumers would be written to for the few messages that each of them got of one producer: with the next one's,
a third of the writes is saved, and more turns save no more."""

MAX_THREADS = 64
"""Threads for blocking calls (name resolution, certificate files) at a time; further calls wait. A silent name server
holds a few for each name."""


class Flushable(Protocol):
    """What may be put into `Reactor.dirty`."""

    @property
    def can_wait(self) -> bool:
        """Where many are dirty it may be flushed a turn later."""

    def flush(self) -> None:
        """Write what this turn has queued."""


class Timer:
    """A call that is due once. Compare by identity; cancel with `cancel()`."""

    __slots__ = ("callback", "deadline")

    def __init__(self, deadline: float, callback: Callable[[], object]) -> None:
        self.deadline = deadline
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Forget the call; harmless when it has run."""
        self.callback = None


class Reactor:
    """One thread's event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.now: float = clock()
        """Seconds of the monotonic clock at the beginning of this turn."""
        self.dirty: set[Flushable] = set()
        self.crashes = 0
        """Callbacks that raised; each is a bug."""
        self.turns = 0
        self.busiest_turn_s = 0.0
        """Longest turn so far, from readiness to the end of the flush: the lag that another event may have seen."""
        self.turn_time = Histogram()
        """The same of all turns, in seconds."""
        self._held: dict[Flushable, None] = {}
        """Dirty ones that wait for the next turn."""
        self._poller = select.epoll()
        self._first = select.epoll()
        self._is_first: set[int] = set()
        self._full_turns = 0
        """Since those that are first were asked for."""
        self._callbacks: dict[int, Callable[[int], object]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._soon: deque[Callable[[], object]] = deque()
        self._handed_over: deque[Callable[[], object]] = deque()
        self._running = False
        self._thread_count = 0
        self._work_waiting: deque[tuple[Callable[[], Any], Callable[[Any], object]]] = deque()
        self._is_closed = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.register(self._wake_read, self._on_wake, IN)

    @property
    def is_running(self) -> bool:
        """Whether `run()` serves events: whoever waits from now on keeps everybody waiting."""
        return self._running

    @property
    def wake_descriptor(self) -> int:
        """A write end that ends the wait when an octet is written (for `signal.set_wakeup_fd`)."""
        return self._wake_write

    def tables(self) -> tuple[dict[Any, Any] | set[Any], ...]:
        """Return what may have been large."""
        return self._callbacks, self.dirty

    def register(self, fd: int, callback: Callable[[int], object], mask: int, *, first: bool = False) -> None:
        """Call `callback(ready_mask)` whenever `fd` is ready in one of the ways of `mask`.

        Args:
            first: at least every FIRST_TURNS turns, however many descriptors are ready. For a few of them that have to
                do with many others: in turn with all, such a one is served once while each of those is.
        """
        self._poller.register(fd, mask)
        self._callbacks[fd] = callback
        if first:
            self._first.register(fd, mask)
            self._is_first.add(fd)

    def modify(self, fd: int, mask: int) -> None:
        """Change what `fd` is watched for."""
        self._poller.modify(fd, mask)
        if fd in self._is_first:
            self._first.modify(fd, mask)

    def unregister(self, fd: int) -> None:
        """Watch `fd` no longer. Call before closing it."""
        if self._callbacks.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._poller.unregister(fd)
            if fd in self._is_first:
                self._is_first.discard(fd)
                with contextlib.suppress(OSError):
                    self._first.unregister(fd)

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        """Call `callback()` once, `delay_s` seconds after the beginning of this turn."""
        return self.call_at(self.now + delay_s, callback)

    def call_at(self, deadline: float, callback: Callable[[], object]) -> Timer:
        """Call `callback()` once, when the clock shows `deadline` or, if that is over, soon."""
        timer = Timer(deadline, callback)
        heapq.heappush(self._timers, (timer.deadline, next(self._order), timer))
        return timer

    def call_on_beat(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        """Call `callback()` once in `delay_s` seconds, 1 or more, at the nearest full second: for what has time.

        So it is done in the turn of the router's own HELLO: an idle router wakes up for nothing else.
        """
        return self.call_at(round(self.now + delay_s), callback)

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call `callback()` at the end of this turn, before the flush. Not from other threads."""
        self._soon.append(callback)

    def call_apart(self, callback: Callable[[], object]) -> None:
        """Call `callback()` now, with a crash boundary of its own: for one of many that have their turn together."""
        self._run(callback)

    def call_from_thread(self, callback: Callable[[], object]) -> None:
        """Call `callback()` in the loop's thread soon. The one method that other threads may use."""
        self._handed_over.append(callback)
        if self._is_closed:
            return  # the number of the pipe may be somebody else's by now
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"\0")

    def run_in_thread(self, work: Callable[[], Any], done: Callable[[Any], object]) -> None:
        """Run blocking `work()` beside the loop; `done(result or the exception)` follows in the loop.

        In a daemon thread of its own: a pool's threads would hold up the end of the process until the last of them had
        its answer, and those of one silent name server would keep all others waiting.
        """
        if self._thread_count >= MAX_THREADS:
            self._work_waiting.append((work, done))
            return
        self._thread_count += 1
        try:
            threading.Thread(target=self._work, args=(work, done), name="blocking", daemon=True).start()
        except RuntimeError as error:  # the system allows the process no thread more
            self.call_soon(partial(self._worked, done, error))

    def _work(self, work: Callable[[], Any], done: Callable[[Any], object]) -> None:
        result: Any
        try:
            result = work()
        except Exception as error:  # handed to `done`, which knows what to do with it
            result = error
        self.call_from_thread(lambda: self._worked(done, result))

    def _worked(self, done: Callable[[Any], object], result: Any) -> None:
        self._thread_count -= 1
        if self._work_waiting:
            self.run_in_thread(*self._work_waiting.popleft())
        done(result)

    def run(self) -> None:
        """Serve events until `stop()`."""
        self._running = True
        while self._running:
            self.run_once()
        self._flush(is_busy=False)

    def stop(self) -> None:
        """Leave `run()` after this turn."""
        self._running = False

    def close(self) -> None:
        """Release the loop's own descriptors. Nothing may be registered afterwards; threads end by themselves."""
        self._is_closed = True
        self._work_waiting.clear()
        self._poller.close()
        self._first.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def run_once(self, timeout_s: float | None = None) -> None:
        """Serve one turn; wait at most `timeout_s` for something to happen."""
        wait = self._time_to_wait()
        if timeout_s is not None:
            wait = timeout_s if wait < 0 else min(wait, timeout_s)
        ready = self._poller.poll(wait, MAX_EVENTS)
        self.now = begun = self.clock()
        self.turns += 1
        callbacks = self._callbacks
        if len(ready) == MAX_EVENTS:
            self._full_turns += 1
            if self._full_turns >= FIRST_TURNS:
                self._full_turns = 0
                ready = list({**dict(self._first.poll(0, MAX_EVENTS)), **dict(ready)}.items())
        for fd, mask in ready:
            callback = callbacks.get(fd)
            if callback is not None:
                try:
                    callback(mask)
                except Exception:
                    self._crashed(callback)
        if self._timers and self._timers[0][0] <= begun:
            self._run_timers()
        self._flush(is_busy=bool(ready))
        lasted = self.clock() - begun
        if lasted > self.busiest_turn_s:
            self.busiest_turn_s = lasted
        self.turn_time.observe(lasted)

    def _flush(self, *, is_busy: bool) -> None:
        """Run what was handed over, and flush what is dirty, until nothing is left but what can wait."""
        dirty, held = self.dirty, self._held
        holds = is_busy and not held and len(dirty) > FEW
        for flushable in held:
            dirty.add(flushable)
        held.clear()
        while self._soon or dirty:
            if self._soon:
                self._run(self._soon.popleft())
                continue
            flushable = dirty.pop()
            if holds and flushable.can_wait:
                held[flushable] = None
                continue
            try:
                flushable.flush()
            except Exception:
                self._crashed(flushable.flush)

    def _time_to_wait(self) -> float:
        if self.dirty or self._soon or self._held:  # queued before the loop ran, or between two turns; or it waited
            return 0.0
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        if not timers:
            return -1.0
        return max(0.0, timers[0][0] - self.clock())

    def _run_timers(self) -> None:
        timers = self._timers
        while timers and timers[0][0] <= self.now:
            timer = heapq.heappop(timers)[2]
            if timer.callback is not None:
                callback, timer.callback = timer.callback, None
                self._run(callback)

    def _on_wake(self, _mask: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        while self._handed_over:
            self._run(self._handed_over.popleft())

    def _run(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except Exception:
            self._crashed(callback)

    def _crashed(self, callback: Callable[..., object]) -> None:
        """The crash boundary: one connection's handler failed; it goes, everything else stays."""
        self.crashes += 1
        if isinstance(callback, partial):
            callback = callback.func
        logger.exception("Internal error in %s", getattr(callback, "__qualname__", callback))
        owner = getattr(callback, "__self__", None)
        on_crash = getattr(owner, "on_crash", None)
        if on_crash is not None:
            try:
                on_crash()
            except Exception:
                logger.exception("Internal error while closing %r", owner)
