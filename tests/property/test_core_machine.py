"""Two peers do what they like to a router, and a model knows what must arrive."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.core.engines import (
    ACCEPTED,
    MODIFIED,
    RECEIVED,
    REJECTED,
    RELEASED,
    Client,
    Drain,
    Got,
    Sent,
    Source,
    World,
    message,
)
from vanrouter.core.connection import Connection
from vanrouter.core.router import Router
from vanrouter.core.table import AddressRule, Treatment
from vanrouter.engine import proton

ADDRESSES = ["a", "m/b", "c/d", None]
"""Balanced, multicast, closest, and a link on which each message says where it goes."""
SIZES = [0, 1, 900, 20_000, 70_000, 300_000]
OUTCOMES = [ACCEPTED, REJECTED, RELEASED, MODIFIED]
CAPABILITIES = [(), ("qd.streaming-deliveries",), ("qd.resend-released",)]


class Flight:
    """One message of the model."""

    def __init__(self, sent: Sent, number: int, to: str, settled: bool) -> None:
        self.sent = sent
        self.number = number
        self.to = to
        self.settled = settled
        self.content = b""
        self.is_open = True
        self.is_aborted = False
        self.may_be_sent_again = False
        """Who releases it has had it, and others get it, too."""
        self.was_answered_early = False
        """A consumer gave its outcome before it had all of it."""


def leads_to(connection: Connection, router: Router) -> bool:
    return connection.peer.container == router.router_id


class Peers(RuleBasedStateMachine):
    """The routers are one to three; the peers attach, send, answer, and break off in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.clients: list[Client | None] = [None, None]
        self.sources: list[Source] = []
        self.resending: list[Source] = []
        self.drains: list[Drain] = []
        self.flights: list[Flight] = []
        self.number = 0
        self.routers: list[Router] = []
        self.is_apart = False
        self.by_content: dict[bytes, Flight] = {}

    @initialize(routers=st.integers(1, 3), takes_streams=st.booleans())
    def begin(self, routers: int, takes_streams: bool) -> None:
        self.routers = self.world.chain(*"ABC"[:routers]) if routers > 1 else [self.world.router()]
        for router in self.routers:
            router.table.rules.add(AddressRule(pattern="m/#", treatment=Treatment.MULTICAST))
            router.table.rules.add(AddressRule(pattern="c/#", treatment=Treatment.CLOSEST))
        for side in range(2):
            self.connect(side, takes_streams=takes_streams)

    def connect(self, side: int, *, takes_streams: bool = False) -> None:
        capabilities = ("qd.streaming-links",) if takes_streams else ()
        router = self.routers[-side]  # the first one and the last one
        self.clients[side] = self.world.client(router, capabilities=capabilities)

    def all_drains(self) -> list[Drain]:
        """Every receiving link that ever was, the router's own for streams too."""
        return [link for client in self.world.clients for link in client.links.values() if isinstance(link, Drain)]

    def client(self, side: int) -> Client:
        if self.clients[side] is None:
            self.connect(side)
        client = self.clients[side]
        assert client is not None
        return client

    @staticmethod
    def pick(found: list[Any], index: int) -> Any:
        return found[index % len(found)]

    # Links.

    @rule(
        side=st.integers(0, 1),
        address=st.sampled_from(ADDRESSES),
        capabilities=st.sampled_from(CAPABILITIES),
        alone=st.booleans(),
    )
    def attach_sender(self, side: int, address: str | None, capabilities: tuple[str, ...], alone: bool) -> None:
        client = self.client(side)
        options = {"session": client.session()} if alone else {}
        link = client.sender(address, capabilities=capabilities, **options)
        assert not link.is_closed
        self.sources.append(link)
        if "qd.resend-released" in capabilities:
            self.resending.append(link)

    @rule(
        side=st.integers(0, 1),
        address=st.sampled_from(ADDRESSES[:3]),
        credit=st.sampled_from([0, 1, 3, 50]),
        auto=st.sampled_from([None, None, *OUTCOMES]),
        window=st.sampled_from([None, 1 << 16]),
    )
    def attach_receiver(self, side: int, address: str, credit: int, auto: int | None, window: int | None) -> None:
        client = self.client(side)
        options = {} if window is None else {"session": client.session(window)}
        link = client.receiver(address, credit=credit, auto=auto, **options)
        assert not link.is_closed
        self.drains.append(link)

    @precondition(lambda self: self.sources or self.drains)
    @rule(index=st.integers(0, 1000))
    def detach(self, index: int) -> None:
        self.forget([self.pick(self.sources + self.drains, index)], lambda link: link.detach())

    @precondition(lambda self: self.sources or self.drains)
    @rule(index=st.integers(0, 1000))
    def end_session(self, index: int) -> None:
        link = self.pick(self.sources + self.drains, index)
        session = proton.link_session(link.pn)
        links = [other for other in self.sources + self.drains if proton.link_session(other.pn) == session]

        def end(_link: Any) -> None:
            link.client.sessions.remove(session)
            link.client.close_session(session)

        self.forget(links, end)

    @rule(side=st.integers(0, 1), politely=st.booleans())
    def disconnect(self, side: int, politely: bool) -> None:
        client = self.clients[side]
        if client is None:
            return
        links = [link for link in self.sources + self.drains if link.client is client]
        self.clients[side] = None
        self.forget(links, lambda _link: None)
        if politely:
            client.close()
        else:
            client.drop()
        self.world.settle()

    def forget(self, links: list[Any], end: Any) -> None:
        """These links are over, with what was in flight on them."""
        for flight in self.flights:
            if flight.sent.link in links:
                flight.is_open = False
                flight.sent.is_over = True
        for link in links:
            (self.sources if isinstance(link, Source) else self.drains).remove(link)
        self.flights = [flight for flight in self.flights if flight.sent.link not in links]
        if links:
            end(links[0])
        for link in links:
            for store in (link.client.sent, link.client.got):
                for pn in [pn for pn, found in store.items() if found.link is link]:
                    del store[pn]
        self.world.settle()

    # Messages.

    def next_content(self, to: str, size: int) -> bytes:
        self.number += 1
        return message(to, b"%d:" % self.number + bytes(size))

    @precondition(lambda self: self.ready())
    @rule(
        index=st.integers(0, 1000),
        size=st.sampled_from(SIZES),
        settled=st.booleans(),
        to=st.sampled_from(ADDRESSES[:3]),
        whole=st.booleans(),
        rest=st.booleans(),
    )
    def send(self, index: int, size: int, settled: bool, to: str, whole: bool, rest: bool) -> None:
        link = self.pick(self.ready(), index)
        to = link.address or to
        sent = link.begin(settled=settled)
        flight = Flight(sent, self.number, to, settled)
        flight.may_be_sent_again = link in self.resending
        flight.content = self.next_content(to, size)
        self.by_content[flight.content] = flight
        self.flights.append(flight)
        if whole:
            sent.write(flight.content)
            self.finish(flight)
        else:
            sent.write(flight.content[: len(flight.content) // 2])
        if rest:
            self.world.settle()

    def ready(self) -> list[Source]:
        busy = {flight.sent.link for flight in self.flights if flight.is_open}
        return [link for link in self.sources if link.credit > 0 and link not in busy]

    def finish(self, flight: Flight) -> None:
        flight.is_open = False
        flight.sent.end()

    def open_flights(self) -> list[Flight]:
        return [flight for flight in self.flights if flight.is_open]

    @precondition(lambda self: self.open_flights())
    @rule(index=st.integers(0, 1000))
    def end_message(self, index: int) -> None:
        flight = self.pick(self.open_flights(), index)
        flight.sent.write(flight.content[len(flight.content) // 2 :])
        self.finish(flight)
        self.world.settle()

    @precondition(lambda self: self.open_flights())
    @rule(index=st.integers(0, 1000))
    def abort_message(self, index: int) -> None:
        flight = self.pick(self.open_flights(), index)
        flight.is_open = False
        flight.is_aborted = True
        flight.sent.abort()
        self.flights.remove(flight)
        self.world.settle()

    @precondition(lambda self: any(not flight.is_open and not flight.sent.is_over for flight in self.flights))
    @rule(index=st.integers(0, 1000))
    def settle_early(self, index: int) -> None:
        self.pick([one for one in self.flights if not one.is_open and not one.sent.is_over], index).sent.settle()
        self.world.settle()

    # Answers.

    def open_got(self) -> list[Got]:
        """Deliveries that may be answered; those of a link that has ended are the engine's no more."""
        links = [link for link in self.all_drains() if not link.is_closed and not link.client.is_lost]
        return [got for link in links for got in link.got if not got.is_over]

    @precondition(lambda self: self.open_got())
    @rule(index=st.integers(0, 1000), state=st.sampled_from([0, *OUTCOMES]))
    def answer(self, index: int, state: int) -> None:
        got = self.pick(self.open_got(), index)
        self.note_early(got)
        if got.is_complete or state:
            got.settle(state)
        self.world.settle()

    @precondition(lambda self: self.open_got())
    @rule(index=st.integers(0, 1000), state=st.sampled_from([RECEIVED, ACCEPTED]))
    def answer_unsettled(self, index: int, state: int) -> None:
        got = self.pick(self.open_got(), index)
        self.note_early(got)
        got.update(state)
        self.world.settle()

    def note_early(self, got: Got) -> None:
        if not got.is_complete:
            for flight in self.flights:
                flight.was_answered_early |= flight.content.startswith(got.content)

    @precondition(lambda self: self.drains)
    @rule(index=st.integers(0, 1000), count=st.integers(1, 20), drain=st.booleans())
    def give_credit(self, index: int, count: int, drain: bool) -> None:
        link = self.pick(self.drains, index)
        proton.link_set_drain(link.pn, drain)
        link.credit(count)
        self.world.settle()

    @precondition(lambda self: self.drains)
    @rule(index=st.integers(0, 1000), reads=st.booleans())
    def read_or_not(self, index: int, reads: bool) -> None:
        link = self.pick(self.drains, index)
        if reads:
            link.read_on()
        else:
            link.reads = False
        self.world.settle()

    @precondition(lambda self: len(self.routers) > 1)
    @rule(where=st.integers(0, 2), again=st.booleans())
    def lose_the_way(self, where: int, again: bool) -> None:
        """The connections of one router to others are lost; perhaps there are new ones."""
        for connection in list(self.routers[where % len(self.routers)].amqp_connections.values()):
            if connection.is_router:
                connection.engine.drop(None)
        self.world.settle()
        self.is_apart = True
        if again:
            self.join()

    @precondition(lambda self: self.is_apart)
    @rule()
    def join(self) -> None:
        self.is_apart = False
        for left, right in pairwise(self.routers):
            if not any(there.is_interior_link for there in left.amqp_connections.values() if leads_to(there, right)):
                self.world.link(left, right)
        self.world.until(lambda: all(len(router.nodes) == len(self.routers) - 1 for router in self.routers))
        self.world.settle()

    # What must be so.

    @invariant()
    def counts_agree(self) -> None:
        self.world.settle()
        self.world.check()

    @invariant()
    def only_whole_messages_arrive(self) -> None:
        """Each once (anycast), whole, at its address; none that was aborted."""
        seen: set[bytes] = set()
        for link in self.all_drains():
            if link.address is not None:  # a link of a peer that takes streams has the copies of all its receivers
                assert len(set(link.contents)) == len(link.contents), "twice to one receiver"
            for content in link.contents:
                flight = self.by_content.get(content)
                assert flight is not None, f"nobody sent these {len(content)} octets"
                assert link.address in (flight.to, None)
                assert not flight.is_aborted
                if flight.to != "m/b" and not flight.may_be_sent_again:
                    assert content not in seen, "delivered twice"
                    seen.add(content)

    def teardown(self) -> None:
        if not self.routers:
            self.world.close()
            return
        # Everybody reads and accepts: then everything has an outcome, and all credit is back.
        for flight in self.open_flights():
            flight.sent.write(flight.content[len(flight.content) // 2 :])
            self.finish(flight)
        for _ in range(3):
            for link in self.all_drains():
                if link.client.is_lost or link.is_closed:
                    continue
                link.auto = ACCEPTED
                link.read_on()
                proton.link_set_drain(link.pn, False)
                link.credit(1000)
                for got in list(link.client.got.values()):
                    if got.link is link and got.is_complete:
                        got.accept()
            self.world.settle()
        self.world.check()
        arrived = {content for link in self.all_drains() for content in link.contents}
        for flight in self.flights:
            if flight.sent.state == ACCEPTED and flight.sent.is_settled and not flight.was_answered_early:
                assert flight.content in arrived, "accepted, and nobody has it"
            assert flight.settled or flight.sent.is_over or flight.sent.is_settled, "no outcome"
        self.world.close()


TestPeers = Peers.TestCase
TestPeers.settings = settings(stateful_step_count=40)
