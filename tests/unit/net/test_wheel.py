from vanrouter.net.reactor import Reactor
from vanrouter.net.wheel import TICK_S, Timed, Wheel


class Entry:
    def __init__(self) -> None:
        self.bucket: set[Timed] | None = None
        self.times: list[float] = []

    def on_deadline(self, now: float) -> None:
        self.times.append(now)


class Broken(Entry):
    """One whose deadline finds a bug."""

    is_ended = False

    def on_deadline(self, now: float) -> None:
        raise AttributeError("a bug")

    def on_crash(self) -> None:
        self.is_ended = True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(reactor: Reactor, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    reactor.run_once(0)
    reactor.run_once(0)


def test_deadlines_are_kept_and_never_early() -> None:
    clock = Clock()
    reactor = Reactor(clock)
    wheel = Wheel(reactor)
    entries = [Entry() for _ in range(100)]
    for number, entry in enumerate(entries):
        wheel.schedule(entry, number / 50)
    assert len(wheel) == 100
    begun = clock.now
    for _ in range(100):
        run(reactor, clock, 0.03)
    for number, entry in enumerate(entries):
        assert len(entry.times) == 1
        assert number / 50 <= entry.times[0] - begun <= number / 50 + TICK_S + 0.04
    assert len(wheel) == 0
    reactor.close()


def test_a_later_deadline_takes_the_place_of_the_first_and_can_be_cancelled() -> None:
    clock = Clock()
    reactor = Reactor(clock)
    wheel = Wheel(reactor)
    moved, cancelled = Entry(), Entry()
    wheel.schedule(moved, 1)
    wheel.schedule(moved, 5)
    wheel.schedule(cancelled, 1)
    wheel.cancel(cancelled)
    wheel.cancel(cancelled)
    run(reactor, clock, 3)
    assert moved.times == cancelled.times == []
    run(reactor, clock, 3)
    assert len(moved.times) == 1
    assert cancelled.bucket is None
    reactor.close()


def test_many_entries_of_one_moment_are_one_timer() -> None:
    reactor = Reactor(Clock())
    wheel = Wheel(reactor)
    for _ in range(1000):
        wheel.schedule(Entry(), 60)
    assert len(reactor._timers) == 1
    reactor.close()


def test_a_bug_of_one_keeps_nobody_waiting() -> None:
    clock = Clock()
    reactor = Reactor(clock)
    wheel = Wheel(reactor)
    entries = [Entry() for _ in range(20)]
    broken = Broken()
    for entry in (*entries, broken):
        wheel.schedule(entry, 0.01)
    run(reactor, clock, TICK_S * 2)
    assert all(len(entry.times) == 1 for entry in entries)
    assert broken.is_ended
    assert reactor.crashes == 1
    reactor.close()
