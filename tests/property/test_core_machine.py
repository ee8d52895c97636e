"""Two peers do what they like to a router, and a model knows what must arrive."""

from __future__ import annotations

from collections import Counter
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
    SND_MIXED,
    SND_SETTLED,
    Client,
    Drain,
    Got,
    Sent,
    Source,
    World,
    message,
)
from vanrouter.core.connection import Connection
from vanrouter.core.peer import Role
from vanrouter.core.router import Mode, Router
from vanrouter.core.table import AddressRule, Treatment
from vanrouter.engine import proton

ADDRESSES = ["a", "m/b", "c/d", None]
"""Balanced, multicast, closest, and a link on which each message says where it goes."""
SIZES = [0, 1, 900, 20_000, 70_000, 300_000]
OUTCOMES = [ACCEPTED, REJECTED, RELEASED, MODIFIED]
CAPABILITIES = [(), ("qd.streaming-deliveries",), ("qd.resend-released",)]


SHAPES = ["A", "AB", "ABC", "EA", "EAF"]
"""Interior routers in a row; E and F are edges of A."""
BY_STRENGTH = [RELEASED, MODIFIED, ACCEPTED, REJECTED]
"""Which outcome of several copies the producer gets: the last of these (router protocol, section 7.4)."""
ERRORS = {REJECTED: ("test:condition", "because")}


class Flight:
    """One message of the model."""

    def __init__(self, sent: Sent, number: int, to: str, settled: bool, losses: int) -> None:
        self.sent = sent
        self.number = number
        self.to = to
        self.settled = settled
        self.losses = losses
        """How often a consumer or a way had been lost when it began."""
        self.takers: set[Drain] = set()
        """Consumers that the router of its producer knew from its beginning to its end."""
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
        self.losses = 0
        self.settled_early: Counter[Source] = Counter()
        self.harm = 0
        self.all_sources: list[Source] = []
        self.clients: list[Client | None] = [None, None]
        self.sources: list[Source] = []
        self.resending: list[Source] = []
        self.drains: list[Drain] = []
        self.flights: list[Flight] = []
        self.number = 0
        self.routers: list[Router] = []
        self.is_apart = False
        self.by_content: dict[bytes, Flight] = {}

    @initialize(
        shape=st.sampled_from(SHAPES),
        takes_streams=st.booleans(),
        receivers=st.lists(
            st.tuples(
                st.integers(0, 1),
                st.sampled_from(ADDRESSES[:3]),
                st.sampled_from([0, 3, 50]),
                st.sampled_from([None, *OUTCOMES]),
            ),
            min_size=1,
            max_size=5,
        ),
    )
    def begin(self, shape: str, takes_streams: bool, receivers: list[tuple[int, str, int, int | None]]) -> None:
        world = self.world
        if shape == "A":
            self.routers = [world.router()]
        elif "E" in shape:
            self.routers = [world.router(name, Mode.EDGE) if name in "EF" else world.interior(name) for name in shape]
            self.link_all()
        else:
            self.routers = world.chain(*shape)
        for router in self.routers:
            router.table.rules.add(AddressRule(pattern="m/#", treatment=Treatment.MULTICAST))
            router.table.rules.add(AddressRule(pattern="c/#", treatment=Treatment.CLOSEST))
        for side in range(2):
            self.connect(side, takes_streams=takes_streams)
            self.attach_sender(side, None, (), False, True)
        for side, address, credit, auto in receivers:
            self.attach_receiver(side, address, credit, auto, None, SND_MIXED)
            self.attach_sender(1 - side, address, (), False, True)
        world.advance(3.0)

    def link_all(self) -> None:
        """Connect neighbours that are not; an edge is the connector."""
        for pair in pairwise(self.routers):
            left, right = reversed(pair) if pair[1].is_edge else pair
            if not any(leads_to(there, right) for there in left.amqp_connections.values()):
                self.world.link(left, right, role=Role.EDGE if left.is_edge else Role.INTER_ROUTER)
        inside = [router for router in self.routers if router.is_interior]
        self.world.until(lambda: all(len(router.nodes) == len(inside) - 1 for router in inside))
        self.world.settle()

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
        answers_drain=st.sampled_from([True, True, False]),
    )
    def attach_sender(
        self, side: int, address: str | None, capabilities: tuple[str, ...], alone: bool, answers_drain: bool
    ) -> None:
        client = self.client(side)
        options = {"session": client.session()} if alone else {}
        link = client.sender(address, capabilities=capabilities, **options)
        assert not link.is_closed
        link.answers_drain = answers_drain
        self.sources.append(link)
        self.all_sources.append(link)
        if "qd.resend-released" in capabilities:
            self.resending.append(link)

    @rule(
        side=st.integers(0, 1),
        address=st.sampled_from(ADDRESSES[:3]),
        credit=st.sampled_from([0, 1, 3, 50]),
        auto=st.sampled_from([None, None, *OUTCOMES]),
        window=st.sampled_from([None, 1 << 16]),
        settle=st.sampled_from([SND_MIXED, SND_MIXED, SND_SETTLED]),
    )
    def attach_receiver(
        self, side: int, address: str, credit: int, auto: int | None, window: int | None, settle: int
    ) -> None:
        client = self.client(side)
        options = {} if window is None else {"session": client.session(window)}
        link = client.receiver(address, credit=credit, auto=auto, settle=settle, **options)
        assert not link.is_closed
        self.drains.append(link)

    @property
    def may_harm(self) -> bool:
        """Links and ways end now and then, not all the time: or there would be no messages to lose."""
        return self.number >= 3 * self.harm

    @precondition(lambda self: self.may_harm and (self.sources or self.drains))
    @rule(index=st.integers(0, 1000))
    def detach(self, index: int) -> None:
        self.forget([self.pick(self.sources + self.drains, index)], lambda link: link.detach())

    @precondition(lambda self: self.may_harm and (self.sources or self.drains))
    @rule(index=st.integers(0, 1000))
    def end_session(self, index: int) -> None:
        link = self.pick(self.sources + self.drains, index)
        session = proton.link_session(link.pn)
        links = [other for other in self.sources + self.drains if proton.link_session(other.pn) == session]

        def end(_link: Any) -> None:
            link.client.sessions.remove(session)
            link.client.close_session(session)

        self.forget(links, end)

    @precondition(lambda self: self.may_harm)
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
        self.harm += 1
        self.losses += any(isinstance(link, Drain) for link in links)
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
        flight = Flight(sent, self.number, to, settled, self.losses)
        flight.may_be_sent_again = link in self.resending
        flight.takers = self.takers(link, to)
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

    @precondition(lambda self: self.ready())
    @rule(
        index=st.integers(0, 1000),
        count=st.integers(1, 6),
        settled=st.booleans(),
        to=st.sampled_from(ADDRESSES[:3]),
        rest=st.booleans(),
    )
    def send_small(self, index: int, count: int, settled: bool, to: str, rest: bool) -> None:
        """Several whole messages."""
        for number in range(count):
            if self.ready():
                self.send(index + number, 1, settled, to, True, rest)

    @precondition(lambda self: self.ready())
    @rule(index=st.integers(0, 1000), size=st.sampled_from(SIZES), to=st.sampled_from(ADDRESSES[:3]))
    def send_part(self, index: int, size: int, to: str) -> None:
        """The beginning of a message."""
        self.send(index, size, False, to, False, True)

    @property
    def is_whole(self) -> bool:
        """Every router has a way to every other.

        One whose neighbours were lost too often waits with it, and has the lost way until then: what is sent meanwhile
        is released.
        """
        inside = [router for router in self.routers if router.is_interior]
        return not self.is_apart and all(
            sum(node.connection is not None and not node.connection.is_closed for node in router.nodes.values())
            == len(inside) - 1
            for router in inside
        )

    def is_stale(self, to: str) -> bool:
        """Some router believes in consumers of another one that are gone, or does not know some: it will be told."""
        inside = [router for router in self.routers if router.is_interior]
        there = {drain.client.there.router for drain in self.drains if drain.address == to}
        for router in inside if len(inside) > 1 else ():
            address = router.address_for(to)
            known = set() if address is None else set(address.remotes)
            if known != {other.router_id for other in there - {router}}:
                return True
        return False

    def takers(self, link: Source, to: str) -> set[Drain]:
        """Consumers that get a message, or its choice, as far as the producer's router knows."""
        router = link.client.there.router
        address = router.address_for(to)
        if address is None or not self.is_whole or self.is_stale(to):
            return set()
        return {
            drain
            for drain in self.drains
            if drain.address == to
            and (drain.client.there.router is router or drain.client.there.router.router_id in address.remotes)
        }

    def ready(self) -> list[Source]:
        busy = {flight.sent.link for flight in self.flights if flight.is_open}
        return [link for link in self.sources if link.credit > 0 and link not in busy]

    def finish(self, flight: Flight) -> None:
        flight.is_open = False
        flight.takers &= self.takers(flight.sent.link, flight.to)
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
        flight = self.pick([one for one in self.flights if not one.is_open and not one.sent.is_over], index)
        self.settled_early[flight.sent.link] += 1
        flight.sent.settle()
        self.world.settle()

    # Answers.

    def open_got(self) -> list[Got]:
        """Deliveries that may be answered; those of a link that has ended are the engine's no more."""
        links = [link for link in self.all_drains() if not link.is_closed and not link.client.is_lost]
        return [got for link in links for got in link.got if not got.is_over]

    @precondition(lambda self: any(got.is_complete for got in self.open_got()))
    @rule(states=st.lists(st.sampled_from([0, *OUTCOMES]), min_size=1, max_size=5))
    def answer_whole(self, states: list[int]) -> None:
        """Outcomes of messages that have come whole, the oldest first."""
        for state in states:
            whole = [index for index, got in enumerate(self.open_got()) if got.is_complete]
            if whole:
                self.answer(whole[0], state)

    @precondition(lambda self: self.open_got())
    @rule(index=st.integers(0, 1000), state=st.sampled_from([0, *OUTCOMES]))
    def answer(self, index: int, state: int) -> None:
        got = self.pick(self.open_got(), index)
        self.note_early(got)
        if got.answer in OUTCOMES:  # the last word has been said
            got.settle()
        elif got.is_complete or state:
            got.update(state, error=ERRORS.get(state), settle=True) if state else got.settle()
        self.world.settle()

    @precondition(lambda self: self.open_got())
    @rule(index=st.integers(0, 1000), state=st.sampled_from([RECEIVED, *OUTCOMES]))
    def answer_unsettled(self, index: int, state: int) -> None:
        got = self.pick(self.open_got(), index)
        self.note_early(got)
        if got.answer not in OUTCOMES:
            got.update(state, error=ERRORS.get(state))
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
        is_free = all(other.reads for other in self.all_drains() if other.client is link.client)
        is_free &= all(got.is_complete for got in link.got)  # settled unread, a delivery keeps its credit in the engine
        if drain and is_free and not any(flight.to == link.address for flight in self.open_flights()):
            assert link.credit_left == 0, "drained, and credit is left"

    @precondition(lambda self: self.drains)
    @rule(index=st.integers(0, 1000), reads=st.booleans())
    def read_or_not(self, index: int, reads: bool) -> None:
        link = self.pick(self.drains, index)
        if reads:
            link.read_on()
        else:
            link.reads = False
        self.world.settle()

    @precondition(lambda self: self.may_harm and len(self.routers) > 1)
    @rule(where=st.integers(0, 2), again=st.booleans())
    def lose_the_way(self, where: int, again: bool) -> None:
        """The connections of one router to others are lost; perhaps there are new ones."""
        for connection in list(self.routers[where % len(self.routers)].amqp_connections.values()):
            if connection.is_router:
                connection.engine.drop(None)
        self.world.settle()
        self.harm += 1
        self.losses += 1
        self.is_apart = True
        if again:
            self.join()

    @precondition(lambda self: self.is_apart)
    @rule()
    def join(self) -> None:
        self.is_apart = False
        self.link_all()

    @rule(seconds=st.sampled_from([0.1, 2.0]))
    def wait(self, seconds: float) -> None:
        """Addresses become known elsewhere."""
        self.world.advance(seconds)

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

    @invariant()
    def outcomes_are_those_of_the_consumers(self) -> None:
        """With its details (anycast), or the strongest of them (multicast); nothing was lost on the way."""
        if not all(link.reads for link in self.all_drains()):
            return  # one that asked for settled deliveries may have some that it has not read
        copies: dict[bytes, list[Got]] = {}
        for link in self.all_drains():
            for got in link.got:
                if got.is_complete and not got.is_aborted:
                    copies.setdefault(bytes(got.content), []).append(got)
        for flight in self.flights:
            sent = flight.sent
            if not sent.is_settled or flight.settled or flight.losses != self.losses:
                continue
            if flight.may_be_sent_again or flight.was_answered_early:
                continue
            gots = copies.get(flight.content, [])
            words = [ACCEPTED if got.was_settled else got.answer for got in gots]
            if flight.to == "m/b":
                assert len(gots) >= len(flight.takers), "settled before all had it"
                if len(words) != 1 or words[0] in OUTCOMES:  # the word of a single copy is passed on as it is
                    words = [word if word in OUTCOMES else ACCEPTED for word in words]
                    words = [max(words, key=BY_STRENGTH.index, default=RELEASED)]
            elif not gots:
                assert not flight.takers, "released, and there were consumers"
                words = [RELEASED]
            assert [sent.state] in (words, [ACCEPTED if word not in OUTCOMES else word for word in words])
            if flight.to != "m/b":
                assert sent.error == (gots[0].error if gots else None)

    def check_arrivals(self) -> None:
        """What nobody has lost is where it belongs."""
        for flight in self.flights:
            if flight.is_aborted or flight.losses != self.losses or not flight.takers or flight.was_answered_early:
                continue
            clients = [taker.client for taker in flight.takers]
            if flight.to == "m/b":
                for client in clients:
                    links = [link for link in self.all_drains() if link.client is client]
                    count = sum(link.contents.count(flight.content) for link in links)
                    assert count >= clients.count(client), "a consumer has no copy"
            elif flight.settled:
                assert any(flight.content in link.contents for link in self.all_drains()), "lost"

    def check_accepted(self, flight: Flight) -> None:
        """Somebody has it and has taken it, whatever was lost meanwhile."""
        if not all(link.reads for link in self.all_drains()):
            return  # it may lie unread where deliveries were asked for settled
        words = {
            ACCEPTED if got.was_settled else got.answer
            for link in self.all_drains()
            for got in link.got
            if got.is_complete and bytes(got.content) == flight.content
        }
        assert words & ({ACCEPTED, 0, RECEIVED} if flight.to == "m/b" else {ACCEPTED}), "accepted, and nobody took it"

    def check_counts(self) -> None:
        """The counters of the links are what the producers have seen."""
        for link in self.sources:
            here = link.here
            for state, count in (
                (ACCEPTED, here.accepted),
                (REJECTED, here.rejected),
                (RELEASED, here.released),
                (MODIFIED, here.modified),
            ):
                seen = sum(sent.state == state and sent.is_over and not sent.was_settled for sent in link.sent)
                assert count == seen, (state, count, seen)
            whole = sum(sent.was_settled and sent.is_ended for sent in link.sent)
            # Settled before there was a consumer for it, a message is one that came settled.
            early = self.settled_early[link]
            assert whole <= here.presettled <= whole + early, (here.presettled, whole, early)

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
        self.check_arrivals()
        self.check_counts()
        for flight in self.flights:
            if flight.sent.state == ACCEPTED and flight.sent.is_settled and not flight.was_answered_early:
                self.check_accepted(flight)
            assert flight.settled or flight.sent.is_over or flight.sent.is_settled, "no outcome"
        self.world.close()


TestPeers = Peers.TestCase
TestPeers.settings = settings(stateful_step_count=40)
