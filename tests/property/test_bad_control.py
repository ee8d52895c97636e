"""Bad input on a control link of a network: whatever a peer says, nothing crashes and nobody else's routes change."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.core.engines import ACCEPTED, Source, World, message
from tests.unit.core.engines import world as make_world
from vanrouter.core.control import encode_control
from vanrouter.core.peer import Role
from vanrouter.core.router import Router
from vanrouter.engine.annotations import encode
from vanrouter.engine.messages import Message, encode_message
from vanrouter.routing import messages
from vanrouter.routing.commands import SendControl
from vanrouter.routing.messages import Descriptor

LOCAL = {"HELLO": "amqp:/_local/qdhello", "RA": "amqp:/_topo/0/all/qdrouter"}


class Attacked:
    """A - B - C, and a peer of B that says what it likes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.routers: list[Router] = world.chain("A", "B", "C")
        self.peer = world.client(self.routers[1], role=Role.INTER_ROUTER, container="X")
        self.out: Source = self.peer.sender(None, capabilities=("qd.router",))
        self.peer.receiver(None, capabilities=("qd.router",))
        self.say("HELLO", messages.hello_body("X", 1, ["B"]))
        self.taker = world.client(self.routers[2]).receiver("a", auto=ACCEPTED)
        self.giver = world.client(self.routers[0]).sender("a")
        world.until(lambda: self.giver.credit == 250 and "X" in self.routers[0].nodes)

    @property
    def plane(self) -> object:
        return self.routers[1].control.plane

    def say(
        self, opcode: str, body: dict[str, object], to: str | None = None, trace: tuple[str, ...] = ("0/X",)
    ) -> None:
        to = to or LOCAL.get(opcode) or f"amqp:/_topo/0/B/qdrouter{'.ma' if opcode.startswith('MA') else ''}"
        section = encode(0, None, trace[0], trace)
        self.out.send(section + encode_control(SendControl(opcode=opcode, to=to, body=body)), settled=True)
        self.world.settle()

    def still_works(self) -> None:
        """Routes and costs are the true ones, and a message arrives."""
        first, second, third = self.routers
        assert [(each.nodes["B"].cost, each.nodes["B"].next_hop) for each in (first, third)] == [(1, "B"), (1, "B")]
        assert (first.nodes["C"].cost, first.nodes["C"].next_hop) == (2, "B")
        assert (second.nodes["A"].cost, second.nodes["C"].cost) == (1, 1)
        sent = self.giver.send(message())
        self.world.settle()
        assert sent.state == ACCEPTED
        assert not self.world.reactor.crashes


def hello(**changes: object) -> dict[str, object]:
    return {**messages.hello_body("X", 1, ["B"]), **changes}


MANY = [f"F{number}" for number in range(1000)]

CASES: dict[str, Callable[[Attacked], None]] = {
    "keys are missing": lambda it: [it.say(opcode, {"id": "X"}) for opcode in ("HELLO", "RA", "LSU", "MAR", "MAU")],
    "no body": lambda it: it.say("HELLO", {}),
    "wrong kinds": lambda it: [it.say("HELLO", hello(seen="B")), it.say("HELLO", hello(instance="now"))],
    "ids that are none": lambda it: [it.say("HELLO", hello(id=each)) for each in ("", "a/b", "x" * 300, 7, None)],
    "numbers below zero": lambda it: it.say("RA", messages.advertisement_body("X", 1, -5, -1)),
    "numbers beyond all bounds": lambda it: it.say("RA", messages.advertisement_body("X", 1, 2**63 - 1, 2**63 - 1)),
    "costs of nothing": lambda it: it.say("LSU", messages.link_state_update_body("X", 1, 9, {"A": 0, "C": -1})),
    "another router's HELLO": lambda it: it.say("HELLO", messages.hello_body("A", 99, ["B"])),
    "its own id": lambda it: it.say("HELLO", messages.hello_body("B", 99, ["B"])),
    "a thousand neighbours": lambda it: it.say(
        "LSU", messages.link_state_update_body("X", 1, 9, dict.fromkeys(MANY, 1))
    ),
    "ten thousand heard": lambda it: it.say("HELLO", messages.hello_body("X", 1, [f"S{n}" for n in range(10_000)])),
    "a link to a router that knows nothing of it": lambda it: it.say(
        "LSU", messages.link_state_update_body("X", 1, 9, {"B": 1, "C": 1})
    ),
    "addresses that are none": lambda it: it.say(
        "MAU", {"id": "X", "pv": 2, "area": "0", "mobile_seq": 1, "exist": ["Ma", [], [7], ["Rx"], [None, 1, 0]]}
    ),
    "a gap without end": lambda it: it.say(
        "MAU", messages.differential_body("X", 2**60, [Descriptor("Ma", 3, None, None)], [])
    ),
    "an opcode that is none": lambda it: it.say("PLEASE", {"id": "X"}, "amqp:/_topo/0/B/qdrouter"),
}


FORGED: dict[str, tuple[str, dict[str, object]]] = {
    "HELLO": ("HELLO", messages.hello_body("A", 99, ["B"])),
    "RA": ("RA", messages.advertisement_body("A", 99, 2**40, 2**40)),
    "LSR": ("LSR", messages.link_state_request_body("A")),
    "LSU": ("LSU", messages.link_state_update_body("A", 1, 2**40, {"X": 1})),
    "LSU of C": ("LSU", messages.link_state_update_body("C", 1, 2**40, {"X": 1})),
    "MAU": ("MAU", messages.absolute_body("C", 2**40, [])),
    "MAU that adds": ("MAU", messages.differential_body("A", 2, [Descriptor("Ma", 3, None, None)], [])),
}


@pytest.mark.parametrize("trace", [("0/X",), ("0/A",)], ids=["as itself", "leaving itself out"])
@pytest.mark.parametrize("case", FORGED)
def test_a_forged_id(case: str, trace: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    """What a peer makes up in the name of another router is refused, counted and logged once; nobody else hears it."""
    caplog.set_level(logging.WARNING)
    opcode, body = FORGED[case]
    with make_world() as world:
        it = Attacked(world)
        refused = it.routers[1].control.plane.counters.forged
        heard = [router.control.plane.counters.received[opcode] for router in it.routers]
        for _ in range(20):
            it.say(opcode, body, trace=trace)
        assert it.routers[1].control.plane.counters.forged == refused + 20
        assert heard == [router.control.plane.counters.received[opcode] for router in it.routers]
        for to in ("A", "C"):
            it.say(opcode, body, f"amqp:/_topo/0/{to}/qdrouter", trace=trace)
        world.advance(2.0)
        it.still_works()
        lines = [record for record in caplog.records if "claims to be" in record.getMessage()]
        assert 1 <= len(lines) <= 3, "one at each router that was told"


def test_a_thousand_fake_neighbours() -> None:
    """A thousand peers in one link state, and a thousand connections that each say another name."""
    with make_world() as world:
        it = Attacked(world)
        it.say("RA", messages.advertisement_body("X", 1, 9, 0))
        it.say("LSU", messages.link_state_update_body("X", 1, 9, {"B": 1, **dict.fromkeys(MANY, 1)}))
        world.advance(1.0)
        plane = it.routers[1].control.plane
        assert len(it.routers[1].nodes) == 1003, "within the bounds of a link state and of a network"
        it.still_works()
        more = {f"G{number}": 1 for number in range(2000)}
        it.say("RA", messages.advertisement_body("X", 1, 10, 0))
        it.say("LSU", messages.link_state_update_body("X", 1, 10, more))
        assert plane.counters.malformed["LSU"] == 1, "more than a router may have"
        for number in range(1000):
            it.say("HELLO", messages.hello_body(f"H{number}", 1, ["B"]), trace=(f"0/H{number}",))
        assert plane.counters.forged == 1000
        it.still_works()
        world.advance(200.0)
        assert set(it.routers[0].nodes) == {"B", "C"}
        assert len(list(plane.nodes())) == 3, "forgotten"


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with make_world() as world:
        it = Attacked(world)
        for _ in range(20):
            CASES[case](it)
            world.advance(0.1)
        it.still_works()
        lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(lines) <= 8, "the log is flooded"
        world.advance(70.0)  # HELLO has stopped long ago: it is out, and what it told is forgotten
        it.still_works()
        assert "X" not in it.routers[0].nodes


def test_thirty_megabytes_of_addresses() -> None:
    """On the control link: refused, counted, and nothing of it decoded."""
    with make_world() as world:
        it = Attacked(world)
        entries = [Descriptor(f"M{number:0300}", 3, None, None) for number in range(100_000)]
        it.say("MAU", messages.absolute_body("X", 1, entries))
        assert it.routers[1].control.plane.counters.malformed["other"] == 1
        assert not it.routers[1].control._bound.get("X")
        it.still_works()


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["HELLO", "RA", "LSR", "LSU", "MAR", "MAU", "x"]),
            st.dictionaries(
                st.sampled_from(["id", "pv", "instance", "seen", "ls_seq", "mobile_seq", "ls", "have_seq", "exist"]),
                st.one_of(
                    st.none(),
                    st.booleans(),
                    st.integers(-(2**63), 2**63 - 1),
                    st.text(max_size=5),
                    st.just("X"),
                    st.lists(st.text(max_size=3), max_size=3),
                    st.dictionaries(st.text(max_size=3), st.integers(-5, 5), max_size=3),
                ),
            ),
        ),
        max_size=20,
    )
)
def test_any_body(said: list[tuple[str, dict[str, object]]]) -> None:
    with make_world() as world:
        it = Attacked(world)
        for opcode, body in said:
            content = encode_message(
                Message(
                    to=LOCAL.get(opcode, "amqp:/_topo/0/B/qdrouter"),
                    application_properties={"opcode": opcode},
                    body=body,
                )
            )
            it.out.send(encode(0, None, "0/X", ("0/X",)) + content, settled=True)
            world.settle()
        it.still_works()
