"""The event loop turn by turn, on a clock that the test moves."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from vanrouter.net.reactor import FEW, FIRST_TURNS, IN, MAX_EVENTS, OUT, Reactor, Timer


class Clock:
    def __init__(self) -> None:
        self.time = 50.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reactor(clock: Clock) -> Iterator[Reactor]:
    reactor = Reactor(clock)
    yield reactor
    reactor.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    yield near, far
    near.close()
    far.close()


class Output:
    """Something to be flushed."""

    def __init__(self, then: Callable[[], object] = bool, *, can_wait: bool = False) -> None:
        self.flushes = 0
        self.then = then
        self.can_wait = can_wait

    def flush(self) -> None:
        self.flushes += 1
        self.then()


class Owner:
    """Raises in each of its callbacks."""

    can_wait = False

    def __init__(self, *, raises_again: bool = False) -> None:
        self.crashes = 0
        self.raises_again = raises_again

    def on_ready(self, _mask: int) -> None:
        raise ValueError("a bug")

    def on_time(self) -> None:
        raise ValueError("a bug")

    def flush(self) -> None:
        raise ValueError("a bug")

    def on_crash(self) -> None:
        self.crashes += 1
        if self.raises_again:
            raise ValueError("another")


# Descriptors.


def test_readiness_and_what_is_watched(reactor: Reactor, pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    masks: list[int] = []
    reactor.register(near.fileno(), masks.append, IN)
    reactor.run_once(0)
    assert masks == []
    far.send(b"x")
    reactor.run_once(0)
    assert masks == [IN]
    reactor.modify(near.fileno(), OUT)
    reactor.run_once(0)
    assert masks == [IN, OUT]
    reactor.modify(near.fileno(), 0)
    reactor.run_once(0)
    reactor.unregister(near.fileno())
    reactor.unregister(near.fileno())
    reactor.run_once(0)
    assert masks == [IN, OUT]


def test_no_late_event_of_one_that_was_unregistered_in_the_same_turn(reactor: Reactor) -> None:
    pipes = [os.pipe() for _ in range(2)]
    served: list[int] = []

    def serve(fd: int, other: int) -> None:
        served.append(fd)
        reactor.unregister(other)

    (first, _), (second, _) = pipes
    reactor.register(first, lambda _mask: serve(first, second), IN)
    reactor.register(second, lambda _mask: serve(second, first), IN)
    for _, write in pipes:
        os.write(write, b"x")
    reactor.run_once(0)
    assert len(served) == 1
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


def test_a_turn_serves_so_many_descriptors_at_most(reactor: Reactor) -> None:
    read, write = os.pipe()
    copies = [os.dup(read) for _ in range(MAX_EVENTS + 10)]
    served: list[int] = []
    os.write(write, b"x")
    for fd in copies:
        reactor.register(fd, served.append, IN)
    reactor.run_once(0)
    assert len(served) == MAX_EVENTS
    for fd in (read, write, *copies):
        reactor.unregister(fd)
        os.close(fd)


# Timers.


def test_the_first_do_not_wait_for_all_others(reactor: Reactor) -> None:
    read, write = os.pipe()
    copies = [os.dup(read) for _ in range(20 * MAX_EVENTS)]
    served = dict.fromkeys([read, *copies], 0)

    def note(fd: int) -> Callable[[int], object]:
        def count(_mask: int) -> None:
            served[fd] += 1

        return count

    for fd in copies:
        reactor.register(fd, note(fd), IN)
    reactor.register(read, note(read), IN, first=True)
    os.write(write, b"x")

    def run() -> int:
        before = served[read]
        for _ in range(2 * FIRST_TURNS):
            reactor.run_once(0)
        return served[read] - before

    assert run() >= 2
    assert sum(served.values()) >= 2 * FIRST_TURNS * MAX_EVENTS
    reactor.modify(read, 0)
    assert run() == 0
    reactor.modify(read, IN)
    assert run() >= 2
    reactor.unregister(read)
    assert run() == 0
    for fd in [read, *copies]:
        reactor.unregister(fd)
        os.close(fd)
    os.close(write)


def test_timers_run_in_the_order_they_are_due(reactor: Reactor, clock: Clock) -> None:
    ran: list[str] = []
    reactor.call_later(2, lambda: ran.append("c"))
    reactor.call_later(1, lambda: ran.append("a"))
    reactor.call_later(1, lambda: ran.append("b"))
    reactor.run_once(0)
    assert ran == []
    clock.time += 1
    reactor.run_once(0)
    assert ran == ["a", "b"]
    clock.time += 5
    reactor.run_once(0)
    reactor.run_once(0)
    assert ran == ["a", "b", "c"]


def test_a_timer_counts_from_the_beginning_of_the_turn(reactor: Reactor, clock: Clock) -> None:
    made = []

    def work() -> None:
        clock.time += 3  # it takes long
        made.append(reactor.call_later(1, bool))

    reactor.call_soon(work)
    reactor.run_once(0)
    assert reactor.now == 50
    assert made[0].deadline == 51
    assert reactor.busiest_turn_s == 3
    reactor.run_once(0)
    assert reactor.now == 53


def test_cancelled_timers(reactor: Reactor, clock: Clock) -> None:
    ran: list[str] = []
    timers = [reactor.call_later(1, lambda: ran.append("x")) for _ in range(3)]
    timers[0].cancel()
    timers[0].cancel()
    clock.time += 1
    reactor.call_soon(timers[2].cancel)
    reactor.run_once(0)
    assert ran == ["x", "x"], "that one was due before"
    timers[1].cancel()
    reactor.run_once(0)
    assert (len(ran), reactor.crashes) == (2, 0)


def test_one_timer_cancels_another_that_is_due(reactor: Reactor, clock: Clock) -> None:
    ran: list[str] = []
    timers: list[Timer] = []
    reactor.call_later(1, lambda: timers.pop().cancel())
    timers.append(reactor.call_later(1, lambda: ran.append("x")))
    clock.time += 1
    reactor.run_once(0)
    assert ran == []


def test_a_timer_made_by_a_timer_with_no_delay_does_not_hold_the_others(reactor: Reactor, clock: Clock) -> None:
    ran: list[str] = []
    reactor.call_later(1, lambda: reactor.call_later(0, lambda: ran.append("later")))
    reactor.call_later(1, lambda: ran.append("x"))
    clock.time += 1
    reactor.run_once(0)
    assert ran == ["x", "later"]


def test_the_wait_ends_with_the_next_timer(reactor: Reactor) -> None:
    here = Reactor()
    ran = []
    here.call_later(30, bool).cancel()
    here.call_later(0.001, lambda: ran.append(1))
    here.run_once(10)
    while not ran:
        here.run_once(10)
    here.close()


# The end of a turn.


def test_flushed_once_a_turn_after_all_that_was_called(reactor: Reactor) -> None:
    output = Output()
    seen: list[int] = []
    for _ in range(2):
        reactor.call_soon(lambda: reactor.dirty.add(output))
        reactor.call_soon(lambda: seen.append(output.flushes))
    reactor.run_once(0)
    assert (output.flushes, seen) == (1, [0, 0])
    assert not reactor.dirty
    reactor.run_once(0)
    assert output.flushes == 1


def test_what_a_flush_makes_dirty_is_flushed_in_the_same_turn(reactor: Reactor) -> None:
    second = Output()
    first = Output(lambda: reactor.dirty.add(second))
    third = Output(lambda: reactor.call_soon(lambda: reactor.dirty.add(first)))
    reactor.dirty.add(third)
    reactor.run_once(0)
    assert (first.flushes, second.flushes, third.flushes) == (1, 1, 1)


@pytest.fixture
def make_dirty(reactor: Reactor) -> Iterator[Callable[..., None]]:
    """A turn in which a descriptor is ready, and makes all of these dirty."""
    read, write = os.pipe()
    reactor.register(read, lambda _mask: outputs_of_the_turn(), IN)
    outputs: list[Output] = []

    def outputs_of_the_turn() -> None:
        os.read(read, 1)
        for output in outputs:
            reactor.dirty.add(output)

    def turn(*made: Output) -> None:
        outputs[:] = made
        os.write(write, b"x")
        reactor.run_once(0)

    yield turn
    reactor.unregister(read)
    os.close(read)
    os.close(write)


def flushes(outputs: list[Output]) -> set[int]:
    return {output.flushes for output in outputs}


@pytest.mark.parametrize("is_busy", [True, False])
def test_many_that_can_wait_are_flushed_in_the_next_turn(
    reactor: Reactor, make_dirty: Callable[..., None], is_busy: bool
) -> None:
    patient, prompt = [Output(can_wait=True) for _ in range(FEW)], Output()
    for turn in range(2):
        make_dirty(*patient, prompt)
        assert (flushes(patient), prompt.flushes) == ({turn}, 2 * turn + 1)
        if is_busy:
            make_dirty(*patient, prompt)
        else:
            reactor.dirty.add(prompt)
            reactor.run_once()  # it does not wait for anything while somebody waits for it
        assert (flushes(patient), prompt.flushes) == ({turn + 1}, 2 * turn + 2)


def test_nobody_waits_for_a_turn_that_does_not_come(reactor: Reactor, make_dirty: Callable[..., None]) -> None:
    patient = [Output(can_wait=True) for _ in range(FEW)]
    last = Output(reactor.stop)
    make_dirty(*patient, last)
    assert (flushes(patient), last.flushes) == ({0}, 1)
    os.write(reactor.wake_descriptor, b"x")
    reactor.dirty.add(last)
    reactor.run()
    assert flushes(patient) == {1}


def test_a_few_do_not_wait(make_dirty: Callable[..., None]) -> None:
    patient = [Output(can_wait=True) for _ in range(FEW)]
    make_dirty(*patient)
    assert flushes(patient) == {1}


def test_call_soon_runs_in_order_and_once(reactor: Reactor) -> None:
    ran: list[int] = []
    reactor.call_soon(lambda: ran.append(1))
    reactor.call_soon(lambda: reactor.call_soon(lambda: ran.append(3)))
    reactor.call_soon(lambda: ran.append(2))
    reactor.run_once(0)
    reactor.run_once(0)
    assert ran == [1, 2, 3]


@pytest.mark.parametrize("what", ["dirty", "soon"])
def test_what_is_queued_before_the_first_turn_does_not_wait_for_an_event(reactor: Reactor, what: str) -> None:
    output = Output()
    if what == "dirty":
        reactor.dirty.add(output)
    else:
        reactor.call_soon(output.flush)
    reactor.run_once()  # would wait for ever
    assert output.flushes == 1


# Other threads.


def test_work_handed_over_by_threads(reactor: Reactor) -> None:
    here = threading.get_ident()
    ran: list[int] = []
    threads = [
        threading.Thread(target=lambda: reactor.call_from_thread(lambda: ran.append(threading.get_ident())))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reactor.run_once()
    assert ran == [here] * 5


def test_the_wake_pipe_may_be_full(reactor: Reactor) -> None:
    ran: list[int] = []
    while True:
        try:
            os.write(reactor.wake_descriptor, bytes(4096))
        except BlockingIOError:
            break
    reactor.call_from_thread(lambda: ran.append(1))
    reactor.run_once()
    assert ran == [1]


def test_a_signal_ends_the_wait(reactor: Reactor) -> None:
    os.write(reactor.wake_descriptor, b"\0")
    reactor.run_once()
    assert reactor.turns == 1
    assert reactor.crashes == 0


def test_blocking_work_beside_the_loop(reactor: Reactor) -> None:
    answers: list[object] = []
    gate = threading.Event()

    def work() -> int:
        assert gate.wait(10)
        return threading.get_ident()

    def fail() -> None:
        raise OSError("no")

    reactor.run_in_thread(work, answers.append)
    reactor.run_in_thread(fail, answers.append)
    while not answers:
        reactor.run_once(10)
    assert isinstance(answers[0], OSError)
    gate.set()
    while len(answers) < 2:
        reactor.run_once(10)
    assert answers[1] != threading.get_ident()


def test_calls_beyond_the_threads_wait_for_their_turn(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vanrouter.net.reactor.MAX_THREADS", 2)
    gate, running, answers = threading.Event(), [], []

    def work() -> bool:
        running.append(1)
        return gate.wait(10)

    for _ in range(5):
        reactor.run_in_thread(work, answers.append)
    reactor.run_once(0.05)
    assert len(running) == 2
    gate.set()
    while len(answers) < 5:
        reactor.run_once(10)
    assert answers == [True] * 5


def test_a_thread_that_outlives_the_loop_is_harmless() -> None:
    reactor, gate = Reactor(), threading.Event()
    reactor.run_in_thread(lambda: gate.wait(10), lambda _result: pytest.fail("the loop is closed"))
    thread = next(each for each in threading.enumerate() if each.name == "blocking")
    assert thread.daemon
    reactor.close()
    gate.set()
    thread.join(10)


def test_run_until_stop(reactor: Reactor) -> None:
    ran: list[int] = []
    reactor.call_soon(reactor.stop)
    reactor.call_soon(lambda: ran.append(1))
    reactor.run()
    assert (ran, reactor.turns) == ([1], 1)
    reactor.call_soon(reactor.stop)
    reactor.run()
    assert reactor.turns == 2


# The crash boundary.


@pytest.mark.parametrize("way", ["readiness", "timer", "soon", "thread", "flush"])
@pytest.mark.parametrize("raises_again", [False, True])
def test_a_callback_that_raises_ends_its_owner_only(
    reactor: Reactor, clock: Clock, pair: tuple[socket.socket, socket.socket], way: str, raises_again: bool
) -> None:
    owner, other = Owner(raises_again=raises_again), Output()
    if way == "readiness":
        reactor.register(pair[0].fileno(), owner.on_ready, IN)
        pair[1].send(b"x")
    elif way == "timer":
        reactor.call_later(0, owner.on_time)
    elif way == "soon":
        reactor.call_soon(owner.on_time)
    elif way == "thread":
        reactor.call_from_thread(owner.on_time)
    else:
        reactor.dirty.add(owner)
    reactor.call_later(0, other.flush)
    reactor.call_soon(other.flush)
    reactor.call_from_thread(other.flush)
    reactor.dirty.add(other)
    reactor.run_once(0)
    assert (reactor.crashes, owner.crashes) == (1, 1)
    assert other.flushes == 4


def test_one_of_many_that_raises_ends_itself_only(reactor: Reactor) -> None:
    owner, other = Owner(), Output()
    for callback in (partial(owner.on_time), other.flush):
        reactor.call_apart(callback)
    assert (reactor.crashes, owner.crashes, other.flushes) == (1, 1, 1)


def test_work_for_which_there_is_no_thread_has_failed(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("vanrouter.net.reactor.MAX_THREADS", 1)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    answers: list[object] = []
    for _ in range(3):
        reactor.run_in_thread(lambda: "done", answers.append)
    reactor.run_once(0)
    assert [str(answer) for answer in answers] == ["can't start new thread"] * 3
    monkeypatch.undo()
    reactor.run_in_thread(lambda: "done", answers.append)
    while len(answers) < 4:
        reactor.run_once(10)
    assert answers[3] == "done"


def test_a_crash_is_logged_with_its_traceback(reactor: Reactor, caplog: pytest.LogCaptureFixture) -> None:
    reactor.call_soon(Owner().on_time)
    reactor.call_soon(lambda: 1 // 0)
    reactor.run_once(0)
    assert reactor.crashes == 2
    (first, second) = caplog.records
    assert first.getMessage() == "Internal error in Owner.on_time"
    assert first.exc_info
    assert "<lambda>" in second.getMessage()


def test_what_is_no_error_is_not_held_back(reactor: Reactor) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    reactor.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        reactor.run_once(0)
    assert reactor.crashes == 0


def test_what_has_time_is_done_at_full_seconds(reactor: Reactor, clock: Clock) -> None:
    clock.time = 50.3
    reactor.run_once(0)
    done: list[float] = []
    for delay in (1.0, 1.3, 2.0):
        reactor.call_on_beat(delay, lambda: done.append(clock.time))
    clock.time = 50.999
    reactor.run_once(0)
    assert done == []
    clock.time = 51.0
    reactor.run_once(0)
    assert done == [51.0]
    clock.time = 52.0
    reactor.run_once(0)
    assert done == [51.0, 52.0, 52.0]
