"""What is passed on in runs and what takes the general way one by one comes to the same, in every count."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import hypothesis.strategies as st
from hypothesis import example, given

from tests.unit.core.engines import ACCEPTED, MODIFIED, REJECTED, RELEASED, Drain, Sent, Source, World, message
from vanrouter.core import router as router_module
from vanrouter.core.connection import Connection
from vanrouter.core.forwarder import Forwarder
from vanrouter.core.peer import Role
from vanrouter.core.runs import Runs
from vanrouter.core.table import AddressRule, Treatment
from vanrouter.engine.annotations import encode

ADDRESSES = ("a", "near/b", "many/c", "high/d")
"""Balanced, closest, multicast, and one with a priority of its own."""
OUTCOMES = (ACCEPTED, ACCEPTED, ACCEPTED, REJECTED, RELEASED, MODIFIED)

OF_LINKS = (
    *("deliveries", "presettled", "dropped_presettled", "accepted", "rejected", "released", "modified"),
    *("unsettled", "delayed_1s", "delayed_10s", "held", "credit", "ready", "to_grant", "drained"),
    "zero_credit_since",
)
OF_ADDRESSES = ("deliveries_ingress", "deliveries_egress", "deliveries_transit", "tracked", "rotation", "turn")


def _header(priority: int, number: int) -> bytes:
    return b"\x00\x53\x70\xc0\x04\x02\x42\x50" + bytes((priority,)) + message(body=number)


def _annotated(to: str | None, number: int, trace: tuple[str, ...] = ("0/X",), flags: int = 0) -> bytes:
    return encode(flags, to, "0/X", trace) + message(body=number)


def contents(kind: str, address: str, number: int) -> bytes:
    """A message of a kind, with its number."""
    match kind:
        case "priority 4" | "priority 9":
            return _header(int(kind[-1]), number)
        case "no header":
            return b"\x00\x53\x75\xa0\x02%02d" % (number % 100)
        case "broken header":
            return b"\x00\x53\x70\xc0\xff\x02\x42\x50\x04"
        case "short":
            return b"\x00Su"[: number % 4]
        case "pieces":
            return message(body="x" * 40_000)
        case "annotated":
            return _annotated(address, number)
        case "annotated, far":
            return _annotated(address, number, ("0/X", "0/Y", "0/Z", "0/W"))
        case "annotated, again":
            return _annotated(address, number, flags=2)
        case "annotated, broken":
            return _annotated(address, number)[:25]
    return message(body=number)


KINDS = (
    *("plain", "priority 4", "priority 9", "no header", "broken header", "short", "pieces"),
    *("annotated", "annotated, far", "annotated, again", "annotated, broken"),
)

PLAIN = ("plain", "priority 4", "priority 9", "no header", "annotated")
SEND = st.tuples(
    st.just("send"),
    st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5, 5]),
    st.sampled_from(["a", "a", *ADDRESSES]),
    st.sampled_from([*PLAIN, *PLAIN, *KINDS]),
    st.integers(1, 20),
    st.sampled_from([False, False, True]),
)
ANSWER = st.tuples(st.just("answer"), st.integers(0, 2), st.sampled_from(OUTCOMES), st.integers(1, 30))
OTHER = st.one_of(
    st.tuples(st.just("credit"), st.integers(0, 2), st.integers(1, 40)),
    st.tuples(st.just("settle early"), st.integers(0, 100)),
    st.tuples(st.just("attach"), st.sampled_from(["a", "a", *ADDRESSES])),
    st.tuples(st.just("detach"), st.integers(0, 4)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 1.5])),
)
STEPS = st.lists(st.one_of(SEND, SEND, SEND, ANSWER, ANSWER, OTHER), max_size=25)


class Story:
    """One world in which the steps happen, and what can be seen of it."""

    def __init__(self, topology: str) -> None:
        self.world = world = World()
        rules = [
            AddressRule(pattern="near/#", treatment=Treatment.CLOSEST),
            AddressRule(pattern="many/#", treatment=Treatment.MULTICAST),
            AddressRule(pattern="high/#", treatment=Treatment.BALANCED, priority=9),
        ]
        if len(topology) == 1:
            self.routers = [world.interior(topology)]
        else:
            self.routers = world.chain(*topology)
        for router in self.routers:
            for rule in rules:
                router.table.rules.add(rule)
        self.drains: list[Drain] = [world.client(self.routers[-1]).receiver(ADDRESSES[0], credit=30)]
        world.advance(1.0)
        client = world.client(self.routers[0])
        self.sources: list[Source] = [client.sender(address) for address in (*ADDRESSES, None)]
        peer = world.client(self.routers[0], role=Role.INTER_ROUTER, container="X")
        self.sources.append(peer.sender(capabilities=("qd.router-data",)))
        self.sent: list[Sent] = []
        self.number = 0

    def do(self, step: tuple[Any, ...]) -> None:
        what, *values = step
        if what == "send":
            place, address, kind, count, settled = values
            source = self.sources[place]
            for _ in range(min(count, source.credit)):
                self.number += 1
                self.sent.append(source.send(contents(kind, address, self.number), settled=settled))
        elif what == "attach":
            self.drains.append(self.world.client(self.routers[-1]).receiver(values[0], credit=20))
            self.world.advance(1.0)
        elif what == "settle early":
            open_ones = [sent for sent in self.sent if not sent.is_over]
            if open_ones:
                open_ones[values[0] % len(open_ones)].settle()
        elif what == "wait":
            self.world.settle()
            self.world.advance(values[0])
        elif values[0] < len(self.drains):
            drain = self.drains[values[0]]
            if what == "credit":
                drain.credit(values[1])
            elif what == "detach":
                self.drains.remove(drain)
                drain.detach()
            else:
                for got in [got for got in drain.got if got in drain.client.got.values()][: values[2]]:
                    got.settle(values[1])

    def seen(self) -> list[Any]:
        """Everything that is counted, and what the clients have."""
        seen: list[Any] = []
        for router in self.routers:
            for link in router.links.values():
                seen.append([getattr(link, name, None) for name in OF_LINKS])
                seen.append(
                    (getattr(link, "credit", None), getattr(link, "ready", None), len(getattr(link, "queue", ())))
                )
                seen.append((getattr(link, "to_grant", None), getattr(link, "drained", None)))
            for key, address in sorted(router.table.addresses.items()):
                seen.append([key, *(getattr(address, name) for name in OF_ADDRESSES)])
            seen.append(sum(router.time_to_settlement.counts))
        for connection in self.world.connections:
            seen.append(self._open_on(connection))
        seen.append([(sent.states, sent.is_settled, sent.error) for sent in self.sent])
        seen.append([drain.contents for drain in self.drains])
        return seen

    @staticmethod
    def _open_on(connection: Connection) -> tuple[Any, ...]:
        outstanding = sorted((address.key, count) for address, count in connection.outstanding.items())
        return len(connection.incoming), len(connection.outgoing), outstanding, len(connection.waiting)


@example(
    "AB",
    [
        *(("send", 0, "a", kind, 5, False) for kind in ("plain", "priority 9", "plain")),
        *(("wait", 1.5), ("answer", 0, ACCEPTED, 30), ("wait", 0.0)),
    ],
)
@example(
    "A",
    [
        *(("attach", "a"), ("send", 0, "a", "plain", 20, False), ("answer", 0, ACCEPTED, 7)),
        *(("send", 0, "a", "plain", 20, False), ("answer", 1, ACCEPTED, 30), ("send", 1, "a", "plain", 9, False)),
    ],
)
@example("A", [("send", 0, "a", "plain", 20, False)] * 4 + [("wait", 1.5), ("answer", 0, ACCEPTED, 30)])
@given(st.sampled_from(["A", "AB"]), STEPS)
def test_runs_and_the_general_way_do_the_same(topology: str, steps: list[tuple[Any, ...]]) -> None:
    stories = []
    for forwarder in (Runs, Forwarder):
        with patch.object(router_module, "Runs", forwarder):
            stories.append(Story(topology))
    for step in (*steps, ("wait", 0.0)):
        for story in stories:
            story.do(step)
            if step[0] != "send":  # sends and what follows them may be read together
                story.world.settle()
        if step[0] != "send":
            assert stories[0].seen() == stories[1].seen()
    for story in stories:
        story.world.check()
        story.world.close()
