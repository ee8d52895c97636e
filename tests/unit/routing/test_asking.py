"""Questions: when they are asked, repeated and ended."""

from __future__ import annotations

from vanrouter.routing.asking import MAR_DELAY_S, MAX_ATTEMPTS, Asker
from vanrouter.routing.commands import ControlSettings, SendControl
from vanrouter.routing.deadlines import Deadlines
from vanrouter.routing.linkstate import Node
from vanrouter.routing.outbox import Outbox
from vanrouter.routing.views import ControlCounters


class Bench:
    """An asker with all it needs, and one router to ask."""

    def __init__(self) -> None:
        self.deadlines = Deadlines()
        self.outbox = Outbox("A", 1, ControlCounters())
        self.asker = Asker(ControlSettings(), self.deadlines, self.outbox)
        self.node = Node("B")
        self.node.is_reachable = True

    def sent(self) -> list[str]:
        return [command.opcode for command in self.outbox.take() if isinstance(command, SendControl)]

    def due(self) -> float | None:
        return self.deadlines.at(("ask", "B"))

    def have(self, ls_seq: int, mobile_seq: int) -> None:
        self.node.is_confirmed = True
        self.node.ls_seq = self.node.announced_ls_seq = ls_seq
        self.node.addresses.mobile_seq = self.node.announced_mobile_seq = mobile_seq
        self.node.wants_addresses = False


def test_waits_double_up_to_a_bound_and_end() -> None:
    bench = Bench()
    bench.node.wants_addresses = True
    bench.asker.begin(bench.node, 0.0)
    assert bench.sent() == ["LSR", "MAR"]
    now, waits = 0.0, []
    for _ in range(MAX_ATTEMPTS):
        due = bench.due()
        assert due is not None
        waits.append(due - now)
        now = due
        bench.deadlines.cancel(("ask", "B"))
        bench.asker.ask(bench.node, now)
    assert waits == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    assert bench.due() is None


def test_nothing_lacking_or_out_of_reach() -> None:
    bench = Bench()
    bench.have(1, 1)
    bench.node.asked_count = 3
    bench.asker.ask(bench.node, 0.0)
    assert (bench.sent(), bench.node.asked_count) == ([], 0)
    bench.node.is_confirmed = bench.node.is_reachable = False
    bench.asker.ask(bench.node, 0.0)
    bench.asker.on_advertisement(bench.node, 0.0, is_news=True)
    assert bench.sent() == []


def test_advertisements() -> None:
    bench = Bench()
    bench.have(1, 1)
    bench.asker.on_advertisement(bench.node, 0.0, is_news=False)
    assert bench.due() is None
    bench.node.announced_mobile_seq = 2
    bench.asker.on_advertisement(bench.node, 0.0, is_news=True)
    assert (bench.sent(), bench.due()) == ([], MAR_DELAY_S)
    bench.node.announced_ls_seq = 2
    bench.asker.on_advertisement(bench.node, 0.0, is_news=True)
    assert bench.sent() == ["LSR", "MAR"]
    bench.asker.on_advertisement(bench.node, 0.1, is_news=True)  # the first question is out
    assert bench.sent() == []
    bench.node.asked_count = 3
    bench.asker.on_advertisement(bench.node, 0.2, is_news=False)
    assert bench.sent() == []
    bench.asker.on_advertisement(bench.node, 0.2, is_news=True)
    assert bench.sent() == ["LSR", "MAR"]
    bench.node.asked_count = MAX_ATTEMPTS
    bench.asker.on_advertisement(bench.node, 0.3, is_news=False)
    assert bench.sent() == ["LSR", "MAR"]


def test_new_way_shortens_the_wait() -> None:
    bench = Bench()
    bench.asker.begin(bench.node, 0.0)
    bench.asker.on_route_changed(bench.node, 0.0)
    assert bench.node.asked_count == 1
    bench.node.asked_count = 5
    bench.deadlines.set(("ask", "B"), 9.0)
    bench.asker.on_route_changed(bench.node, 1.0)
    assert (bench.due(), bench.node.asked_count) == (1.5, 1)


def test_answers() -> None:
    bench = Bench()
    bench.node.wants_addresses = True
    bench.asker.begin(bench.node, 0.0)
    bench.sent()
    bench.node.is_confirmed = True
    bench.asker.on_answer(bench.node)
    assert bench.due() is not None  # the addresses are still lacking
    bench.have(1, 1)
    bench.asker.on_answer(bench.node)
    assert (bench.due(), bench.node.asked_count) == (None, 0)
    bench.node.announced_ls_seq = 5
    bench.asker.on_answer(bench.node)
    assert bench.sent() == ["LSR"]


def test_addresses_alone_are_asked_for() -> None:
    bench = Bench()
    bench.have(1, 1)
    bench.node.wants_addresses = True
    bench.asker.begin(bench.node, 0.0)
    assert bench.sent() == ["MAR"]


def test_addresses() -> None:
    bench = Bench()
    bench.have(1, 1)
    bench.node.announced_mobile_seq = 3
    bench.asker.on_addresses(bench.node, is_progress=True)
    assert bench.sent() == ["MAR"]
    bench.asker.on_addresses(bench.node, is_progress=False)
    assert bench.sent() == []
    bench.have(1, 3)
    bench.deadlines.set(("ask", "B"), 9.0)
    bench.asker.on_addresses(bench.node, is_progress=True)
    assert bench.due() is None
