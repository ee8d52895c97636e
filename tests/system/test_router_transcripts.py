"""Exchanges of the routing protocol's specification, frame by frame: a scripted router, edge or broker, and a router.

Sections are of the router protocol; what is compared are the frames and messages that its section 13 lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from proton import Data, Described, int32, symbol, uint, ulong, ushort

from tests.system.frames import ANY, Frame, RawPeer, compare, composite, encode, message
from tests.system.harness import Router, Section

PRIORITIES, CREDIT = 10, 250
ANNOTATIONS = 0x534B50522D2D5241
FROM_A = bytes.fromhex(
    "0080534b50522d2d5241d00000001900000004"  # a list of four
    "43"  # flags 0
    "40"  # to-override null
    "a103302f41"  # ingress 0/A
    "d00000000900000001a103302f41"  # trace ["0/A"]
)
"""The raw example of section 4.1."""


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    listener = {"host": "127.0.0.1", "port": 0}
    sections: list[Section] = [
        *(
            ("listener", {"name": role, "role": role, **listener})
            for role in ("normal", "inter-router", "edge", "route-container")
        ),
        ("autoLink", {"direction": "in", "address": "from-queue", "externalAddress": "queue", "containerId": "broker"}),
        ("autoLink", {"direction": "out", "address": "to-queue", "externalAddress": "queue", "containerId": "broker"}),
    ]
    made = Router("A", sections, tmp_path_factory.mktemp("transcripts"))
    try:
        yield made.ready()
        made.stop()
    finally:
        made.kill()


@pytest.fixture
def client(router: Router) -> Iterator[RawPeer]:
    with RawPeer(router.port("normal")) as made:
        made.open()
        made.begin()
        yield made


def sections(payload: bytes) -> list[tuple[int, Any]]:
    """Return what a message consists of: descriptor and value of each section."""
    found = []
    while payload:
        data = Data()
        length = data.decode(payload)
        data.rewind()
        data.next()
        section = data.get_object()
        found.append((int(section.descriptor), section.value))
        payload = payload[length:]
    return found


def control_message(to: str, opcode: str, body: dict[Any, object], *, is_mobile: bool = False) -> bytes:
    """One that begins at router B: topology with strings for keys, mobile addresses with symbols (section 5.1)."""
    key: Any = symbol if is_mobile else str
    body = {"id": "B", "pv": int32(2 if is_mobile else 1), "area": "0", **body}
    properties = [None, None, to] if is_mobile else [None, None, to, None, None, None]
    return encode(
        Described(ulong(ANNOTATIONS), [uint(0), None, "0/B", ["0/B"]]),
        Described(ulong(0x70), [False]),
        Described(ulong(0x73), properties),
        Described(ulong(0x74), {key("opcode"): opcode}),
        Described(ulong(0x77), {key(name): value for name, value in body.items()}),
    )


class Neighbour(RawPeer):
    """Router B, the connector: all fixed links attached, in the order of section 2.1."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.opened = self.open(container_id="B")
        self.begin()
        self.numbers = self.mobile_seq = 0
        self.answers: list[Frame] = []
        self.credit: dict[int, int] = {}
        self._kept: list[tuple[str, dict[str, Any]]] = []
        for place in range(1 + PRIORITIES):
            capability = symbol("qd.router" if place == 0 else "qd.router-data")
            for is_receiver in (True, False):
                self._attach(2 * place + (not is_receiver), is_receiver, capability)
            self.flow(2 * place, CREDIT)
        while len(self.answers) < 22 or len(self.credit) < 11:
            found = self.next_frame()
            if found["kind"] == "attach":
                self.answers.append(found)
            elif found["kind"] == "flow":
                self.credit[found["handle"]] = found["link-credit"]
            else:
                self._keep(found)

    def _attach(self, handle: int, is_receiver: bool, capability: symbol) -> None:
        termini = {name: composite(name, capabilities=[capability]) for name in ("source", "target")}
        count = {} if is_receiver else {"initial_delivery_count": uint(0)}
        self.say("attach", name=f"l{handle}", handle=uint(handle), role=is_receiver, **termini, **count)

    def _keep(self, found: Frame) -> None:
        """A control message, with its sections by descriptor."""
        parts = dict(sections(found["payload"]))
        self._kept.append((parts[0x74].get("opcode") or parts[0x74][symbol("opcode")], {**found, "parts": parts}))

    def hear_control(self, *opcodes: str) -> dict[str, Any]:
        """Wait for a control message of one of these kinds; others are let pass, and hello is said again."""
        while True:
            for index, (opcode, found) in enumerate(self._kept):
                if opcode in opcodes:
                    del self._kept[: index + 1]
                    return found
            self._kept.clear()
            found = self.next_frame()
            if found["kind"] == "transfer" and self.priority_of(found) is None:
                self._keep(found)
                if self._kept[-1][0] == "HELLO":
                    self.say_hello()

    def priority_of(self, found: Frame) -> int | None:
        """The data link of a transfer; None: the control link."""
        name = next(
            answer["name"] for answer in self.answers if answer["handle"] == found["handle"] and not answer["role"]
        )
        number = int(name[1:]) // 2
        return number - 1 if number else None

    def send(self, payload: bytes, *, priority: int | None = None, settled: bool = True) -> int:
        """Send on the control link, or on the data link of a priority; return the delivery's number."""
        number, self.numbers = self.numbers, self.numbers + 1
        self.transfer(1 if priority is None else 2 * (priority + 1) + 1, number, payload, settled=settled)
        return number

    def say_hello(self, *, pv: int = 1) -> None:
        body = {"instance": int32(77), "seen": ["A"], "pv": int32(pv)}
        self.send(control_message("amqp:/_local/qdhello", "HELLO", body))

    def announce(self, **changes: list[object]) -> None:
        """A differential MAU."""
        self.mobile_seq += 1
        body = {"mobile_seq": self.mobile_seq, "add": changes.get("add", []), "del": changes.get("delete", [])}
        self.send(control_message("_topo/0/all/qdrouter.ma", "MAU", body, is_mobile=True))

    def join(self) -> None:
        """Become a neighbour: hello, link states, addresses."""
        self.say_hello()
        self.hear_control("LSR")
        body = {
            "instance": int32(77),
            "ls_seq": int32(1),
            "ls": {"id": "B", "area": "0", "ls_seq": int32(1), "peers": {"A": int32(1)}},
        }
        self.send(control_message("amqp:/_topo/0/A/qdrouter", "LSU", body))
        for _ in range(2):  # a tick later the routes are there
            self.hear_control("HELLO")

    def hear_message(self) -> Frame:
        """Wait for a message on a data link; control messages are let pass."""
        while True:
            found = self.next_frame()
            if found["kind"] == "transfer" and self.priority_of(found) is not None:
                return found
            if found["kind"] == "transfer":
                self.say_hello()

    def hear_outcome(self, number: int) -> object:
        """Wait for the settlement of a delivery of ours."""
        while True:
            found = self.next_frame()
            if found["kind"] == "disposition" and found["first"] <= number <= found.get("last", found["first"]):
                assert found["settled"] is True
                return found["state"]
            if found["kind"] == "transfer" and self.priority_of(found) is None:
                self.say_hello()


@pytest.fixture
def neighbour(router: Router) -> Iterator[Neighbour]:
    with Neighbour(router.port("inter-router")) as made:
        yield made


@pytest.fixture(scope="class")
def joined(router: Router) -> Iterator[Neighbour]:
    with Neighbour(router.port("inter-router")) as made:
        made.join()
        yield made


# Set-up (13.1).


def test_set_up(neighbour: Neighbour) -> None:
    """1.3, 1.4, 2.1, 2.3: the listener's open, attaches answered in order, 250 credit on each receiver."""
    found = neighbour.opened
    assert found["container-id"] == "A"
    assert "hostname" not in found
    assert found["channel-max"] == 32767
    assert found["idle-time-out"] == 8000
    specified = ["ANONYMOUS-RELAY", "qd.streaming-links", "qd.connection_trunking"]
    assert found["offered-capabilities"][:3] == found["desired-capabilities"][:3] == specified
    properties = found["properties"]
    assert properties["qd.annotations-version"] == 2
    assert isinstance(properties["qd.conn-id"], int32)
    assert isinstance(properties["qd.annotations-version"], int32)
    assert len(properties["qd.access-id"].split(":")[0]) == 5
    assert not properties.keys() & {"qd.group-correlator", "qd.group-ordinal", "qd.inter-router-role"}
    for place, answer in enumerate(neighbour.answers):
        termini = {"durable": 0, "timeout": 0, "dynamic": False}
        termini["capabilities"] = ["qd.router" if place < 2 else "qd.router-data"]  # type: ignore[assignment]
        assert answer == {
            "kind": "attach",
            "channel": 0,
            "name": f"l{place}",
            "handle": ANY,
            "role": bool(place % 2),
            "snd-settle-mode": 2,
            "rcv-settle-mode": 0,
            "source": {"kind": "source", **termini},
            "target": {"kind": "target", **termini},
            "initial-delivery-count": 0,
            "max-message-size": 0,
        }
    assert set(neighbour.credit.values()) == {CREDIT}


# Control messages (13.2).


def test_hello(neighbour: Neighbour) -> None:
    """5.2: pre-settled, the raw section of 4.1 in front; then with whom it has heard."""
    found = neighbour.hear_control("HELLO")
    assert found["settled"] is True
    assert found["payload"].startswith(FROM_A)
    parts = found["parts"]
    assert parts[0x70] == [False]
    assert parts[0x73] == [None, None, "amqp:/_local/qdhello", None, None, None]
    assert parts[0x74] == {"opcode": "HELLO"}
    assert parts[0x77] == {"id": "A", "pv": 1, "area": "0", "instance": ANY, "seen": []}
    neighbour.say_hello()
    while neighbour.hear_control("HELLO")["parts"][0x77]["seen"] != ["B"]:
        pass


def test_a_newer_version_is_ignored(neighbour: Neighbour) -> None:
    """5.1: HELLO with pv 2 is not heard."""
    neighbour.say_hello(pv=2)
    heard = 0
    while heard < 2:
        found = neighbour.next_frame()
        if found["kind"] == "transfer":
            heard += 1
            assert dict(sections(found["payload"]))[0x77]["seen"] == []


def test_link_states_and_addresses(neighbour: Neighbour, client: RawPeer) -> None:
    """5.3 to 5.6, 13.2: LSR and RA at once; LSU for an LSR, the absolute MAU for a MAR, a differential one for news."""
    neighbour.say_hello()
    asked = neighbour.hear_control("LSR")["parts"]
    assert asked[0x73][2] == "amqp:/_topo/0/B/qdrouter"
    assert asked[0x77] == {"id": "A", "pv": 1, "area": "0"}
    neighbour.send(control_message("amqp:/_topo/0/A/qdrouter", "LSR", {}))
    told = neighbour.hear_control("LSU")["parts"]
    assert told[0x73][2] == "amqp:/_topo/0/B/qdrouter"
    state = {"id": "A", "area": "0", "ls_seq": ANY, "peers": {"B": 1}}
    assert told[0x77] == {"id": "A", "pv": 1, "area": "0", "instance": ANY, "ls_seq": ANY, "ls": state}
    client.attach_receiver("r", 0, "news")
    added = neighbour.hear_control("MAU")["parts"]
    assert added[0x73] == [None, None, "_topo/0/all/qdrouter.ma"]
    assert added[0x77] == {
        "id": "A",
        "pv": 2,
        "area": "0",
        "mobile_seq": ANY,
        "add": [["Mnews", 3, 0]],
        "del": [],
    }
    assert all(isinstance(name, symbol) for name in (*added[0x74], *added[0x77]))
    advertised = neighbour.hear_control("RA")["parts"]
    assert advertised[0x73][2] == "amqp:/_topo/0/all/qdrouter"
    assert advertised[0x77] == {
        "id": "A",
        "pv": 1,
        "area": "0",
        "instance": ANY,
        "ls_seq": ANY,
        "mobile_seq": added[0x77]["mobile_seq"],
    }
    body = {"have_seq": 0}
    neighbour.send(control_message("amqp:/_topo/0/A/qdrouter.ma", "MAR", body, is_mobile=True))
    absolute = neighbour.hear_control("MAU")["parts"]
    assert absolute[0x73] == [None, None, "amqp:/_topo/0/B/qdrouter.ma"]
    assert absolute[0x77].keys() == {"id", "pv", "area", "mobile_seq", "exist"}
    assert ["Mnews", 3, 0] in absolute[0x77]["exist"]
    client.say("detach", handle=uint(0), closed=True)
    removed = neighbour.hear_control("MAU")["parts"][0x77]
    assert (removed["add"], removed["del"]) == ([], [["Mnews"]])


# Data (13.3).


class TestData:
    """Messages of and for a neighbour that has joined."""

    @pytest.mark.parametrize(
        ("priority", "link"), [(None, 4), (0, 0), (9, 9), (200, 9)], ids=["none", "lowest", "highest", "beyond"]
    )
    def test_a_message_for_another_router(
        self, joined: Neighbour, client: RawPeer, priority: int | None, link: int
    ) -> None:
        """4.4, 7.1: the section in front, the message as it was, on the link of its priority; outcomes come back."""
        client.attach_sender("s", 1, "elsewhere")
        joined.announce(add=[["Melsewhere", int32(3), int32(0)]])
        client.hear_kind("flow")
        content = message("for B", priority=priority)
        client.transfer(1, 0, content)
        found = joined.hear_message()
        assert joined.priority_of(found) == link
        assert found.get("settled", False) is False
        assert len(found["delivery-tag"]) == 8
        (descriptor, annotations), *_rest = sections(found["payload"])
        assert (descriptor, annotations) == (ANNOTATIONS, [0, "elsewhere", "0/A", ["0/A"]])
        assert found["payload"].endswith(content)
        refused = composite("rejected", error=composite("error", condition=symbol("x:no"), description="here"))
        joined.say("disposition", role=True, first=uint(found["delivery-id"]), settled=True, state=refused)
        heard = {frame["kind"]: frame for frame in (client.next_frame(), client.next_frame())}
        error = {"kind": "error", "condition": "x:no", "description": "here"}
        compare(heard["disposition"]["state"], {"kind": "rejected", "error": error})

    def test_an_anonymous_message_for_another_router(self, joined: Neighbour, client: RawPeer) -> None:
        """4.4: no override; the message says where it goes."""
        joined.announce(add=[["Mfar", int32(3), int32(0)]])
        client.attach_sender("s", 1, None)
        client.hear_kind("flow")
        content = message("for B", to="amqp:/far")
        known = joined.hear_control("MAR", "RA", "HELLO")  # what was said before it has been read
        assert known["settled"] is True
        client.transfer(1, 0, content)
        found = joined.hear_message()
        assert found["payload"] == FROM_A + content

    @pytest.mark.parametrize(
        ("annotations", "outcome"),
        [
            ([uint(0), "here", "0/B", ["0/B"]], {"kind": "accepted"}),
            ([uint(0xF8), "here", "0/B", ["0/B"], "012345678901234", "more"], {"kind": "accepted"}),
            ([uint(0), "here", "0/B", ["0/B", "0/C"]], {"kind": "accepted"}),
            ([uint(0), "here", "0/B", ["0/B", "0/C", "0/D"]], {"kind": "released"}),
            ([uint(0), "nobody", "0/B", ["0/B"]], {"kind": "released"}),
            ([uint(0), "_topo/0/A/temp.gone", "0/B", ["0/B"]], {"kind": "released"}),
            ([uint(0), "here", "0/B"], "Invalid router annotations section: wrong list count"),
            ([uint(0), uint(7), "0/B", ["0/B"]], "Invalid router to-override annotation: wrong type"),
            ([uint(0), "here", uint(7), ["0/B"]], "Invalid router ingress annotation: wrong type"),
            ([uint(0), "here", "0/B", ["0/B"], None], "Invalid ingress-mesh annotation: wrong type"),
        ],
    )
    def test_a_message_from_another_router(
        self, joined: Neighbour, client: RawPeer, annotations: list[object], outcome: object
    ) -> None:
        """4.1, 4.4, 7.7: delivered without the section, or released, or rejected with the text of 4.1."""
        client.attach_receiver("r", 0, "here")
        client.flow(0, 5)
        number = joined.send(
            encode(Described(ulong(ANNOTATIONS), annotations)) + message("x"), priority=4, settled=False
        )
        if outcome == {"kind": "accepted"}:
            found = client.hear_kind("transfer")
            assert found["payload"] == message("x")
            client.say("disposition", role=True, first=uint(0), settled=True, state=composite("accepted"))
        if isinstance(outcome, str):
            error = {"kind": "error", "condition": "amqp:invalid-field", "description": outcome}
            outcome = {"kind": "rejected", "error": error}
        assert joined.hear_outcome(number) == outcome

    def test_a_control_address_on_a_data_link(self, joined: Neighbour) -> None:
        """3.3: released."""
        hello = control_message("amqp:/_local/qdhello", "HELLO", {"seen": []})
        assert joined.hear_outcome(joined.send(hello, priority=3, settled=False)) == {"kind": "released"}

    def test_nobody_is_left(self, joined: Neighbour, client: RawPeer) -> None:
        """7.8: credit stays when the last consumer goes; the next message is released, and then the link drained."""
        client.attach_sender("s", 1, "leaves")
        joined.announce(add=[["Mleaves", int32(3), int32(0)]])
        assert client.hear_kind("flow")["link-credit"] == CREDIT
        joined.announce(delete=[["Mleaves"]])
        joined.hear_control("HELLO")
        client.transfer(1, 0, message())
        heard = {frame["kind"]: frame for frame in (client.next_frame(), client.next_frame())}
        assert heard["disposition"]["state"] == {"kind": "released"}
        assert heard["flow"]["drain"] is True
        joined.announce(add=[["Mleaves", int32(3), int32(0)]])
        given = client.hear_kind("flow")
        assert (given["drain"], given["delivery-count"] + given["link-credit"]) == (False, 1 + CREDIT)


# Edges (13.4), containers (13.5).


def test_an_edge(router: Router, client: RawPeer) -> None:
    """9.2, 9.3: a proxy without credit, tracking messages, messages up and down."""
    with RawPeer(router.port("edge")) as edge:
        edge.open(container_id="E")
        edge.begin()
        edge.attach_receiver("tracking", 0, "_$qd.edge_addr_tracking")
        edge.flow(0, 32)
        edge.attach_sender("proxy", 1, "up")
        client.attach_receiver("r", 0, "up")
        client.flow(0, 5)
        heard = {frame["kind"]: frame for frame in (edge.next_frame(), edge.next_frame())}
        assert heard["flow"]["link-credit"] == CREDIT
        told = heard["transfer"]
        assert told.get("settled", False) is False
        (descriptor, _annotations), header, body = sections(told["payload"])
        assert (descriptor, header, body) == (ANNOTATIONS, (0x70, [False]), (0x77, ["Mup", True]))
        edge.say("disposition", role=True, first=uint(0), settled=True, state=composite("accepted"))
        section = encode(Described(ulong(ANNOTATIONS), [uint(0), "up", None, [], "012345678901234"]))
        edge.transfer(1, 0, section + message("from below"))
        assert client.hear_kind("transfer")["payload"] == message("from below")
        client.say("detach", handle=uint(0), closed=True)
        while (found := edge.next_frame())["kind"] != "transfer":
            pass
        assert sections(found["payload"])[-1] == (0x77, ["Mup", False])


def test_auto_links(router: Router, client: RawPeer) -> None:
    """Section 10: plain links with the queue's name, no credit without a consumer, no annotations to a broker."""
    with RawPeer(router.port("route-container")) as broker:
        broker.open(container_id="broker")
        attached: dict[bool, Frame] = {}
        while len(attached) < 2:
            found = broker.next_frame()
            if found["kind"] == "begin":
                broker.say(
                    "begin",
                    channel=found["channel"],
                    remote_channel=ushort(found["channel"]),
                    next_outgoing_id=uint(0),
                    incoming_window=uint(100),
                    outgoing_window=uint(100),
                )
            elif found["kind"] == "attach":
                attached[found["role"]] = found
        incoming, outgoing = attached[True], attached[False]
        terminus = {"durable": 0, "timeout": 0, "dynamic": False}
        assert incoming["source"] == {"kind": "source", "address": "queue", **terminus}
        assert incoming["target"] == {"kind": "target", **terminus}
        assert outgoing["target"] == {"kind": "target", "address": "queue", **terminus}
        assert outgoing["source"] == {"kind": "source", **terminus}
        for found in (incoming, outgoing):
            name = "source" if found["role"] else "target"
            termini = {
                "source": composite("source"),
                "target": composite("target"),
                name: composite(name, address="queue"),
            }
            count = {"initial_delivery_count": uint(0)} if found["role"] else {}
            broker.say(
                "attach",
                channel=found["channel"],
                name=found["name"],
                handle=found["handle"],
                role=not found["role"],
                **termini,
                **count,
            )
        broker.say(
            "flow",
            channel=outgoing["channel"],
            next_incoming_id=uint(0),
            incoming_window=uint(100),
            next_outgoing_id=uint(0),
            outgoing_window=uint(100),
            handle=outgoing["handle"],
            delivery_count=uint(0),
            link_credit=uint(5),
        )
        client.attach_sender("s", 1, "to-queue")
        client.hear_kind("flow")
        client.transfer(1, 0, message("for the queue"))
        while (found := broker.next_frame())["kind"] != "transfer":
            pass
        assert found["payload"] == message("for the queue")
        client.attach_receiver("r", 0, "from-queue")
        client.flow(0, 5)
        while (found := broker.next_frame())["kind"] != "flow" or not found["link-credit"]:
            pass
        assert (found["channel"], found["link-credit"]) == (incoming["channel"], CREDIT)
        broker.transfer(int(incoming["handle"]), 0, message("of the queue"), channel=incoming["channel"])
        while (found := client.next_frame())["kind"] != "transfer":
            pass
        assert found["payload"] == message("of the queue")
