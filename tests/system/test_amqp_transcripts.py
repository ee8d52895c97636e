"""Exchanges of the AMQP 1.0 specification, frame by frame: a scripted peer, a router, every field of each answer.

Sections are of part 2 (transport) unless said otherwise. Where the router differs from the text, the test says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from proton import Described, symbol, ubyte, uint, ulong, ushort

from tests.system.frames import AMQP, ANY, SASL, Frame, RawPeer, compare, composite, encode, frame, message
from tests.system.harness import Router, Section

SOURCE, TARGET = {"kind": "source"}, {"kind": "target"}
CAPABILITIES = ["ANONYMOUS-RELAY", "qd.streaming-links", "qd.connection_trunking", "vanrouter"]
SESSION = {"incoming-window": ANY, "outgoing-window": uint((1 << 31) - 1), "next-incoming-id": ANY}
CREDIT = 250
ACCEPTED = composite("accepted")


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    listener = {"host": "127.0.0.1", "port": 0}
    sections: list[Section] = [
        ("listener", {"name": "amqp", **listener}),
        ("listener", {"name": "sasl", "saslMechanisms": "ANONYMOUS", **listener}),
        ("address", {"prefix": "multi", "distribution": "multicast"}),
        ("address", {"prefix": "nobody", "distribution": "unavailable"}),
    ]
    made = Router("R", sections, tmp_path_factory.mktemp("transcripts"), mode="standalone")
    try:
        yield made.ready()
        made.stop()
    finally:
        made.kill()


@pytest.fixture
def peer(router: Router) -> Iterator[RawPeer]:
    """One that has opened its connection and begun a session."""
    with RawPeer(router.port("amqp")) as made:
        made.open()
        made.begin()
        yield made


_numbers = iter(range(1, 1 << 30))


@pytest.fixture
def address() -> str:
    """An address of this test's own."""
    return f"address-{next(_numbers)}"


def hear_credit(peer: RawPeer, handle: int = 1, *, count: int = 0, credit: int = CREDIT, out: int = 0) -> None:
    """The router gives credit on one of its receiving links."""
    peer.hear(
        "flow",
        **link_state(handle, count, credit, out),
    )


def link_state(handle: int, count: int, credit: int, out: int = 0, **more: object) -> dict[str, object]:
    """The fields of a flow of the router."""
    return {
        "next_incoming_id": ANY,
        "incoming_window": ANY,
        "next_outgoing_id": uint(out),
        "outgoing_window": uint((1 << 31) - 1),
        "handle": handle,
        "delivery_count": uint(count),
        "link_credit": uint(credit),
        **more,
    }


def both_ends(peer: RawPeer, address: str, credit: int) -> None:
    """A receiver (handle 0, so many credits) and a sender (handle 1) on one address."""
    peer.attach_receiver("r", 0, address)
    if credit:
        peer.flow(0, credit)
    peer.attach_sender("s", 1, address)
    hear_credit(peer)


def hear_transfer(peer: RawPeer, number: int, payload: bytes, **more: object) -> None:
    """One whole unsettled message comes."""
    fields = {"settled": False, **more}
    peer.hear(
        "transfer",
        handle=uint(0),
        delivery_id=uint(number),
        delivery_tag=ANY,
        payload=payload,
        **{name: value for name, value in fields.items() if value is not False},
    )


# Versions, security layers (2.2, 5.3).


@pytest.mark.parametrize(
    "asked", [b"AMQP\x00\x01\x01\x00", b"AMQP\x00\x02\x00\x00", b"AMQP\x05\x01\x00\x00", b"HTTP/1.0"]
)
def test_another_version_is_told_which_one_there_is(router: Router, asked: bytes) -> None:
    """2.2: the header of the version there is, and the end of the socket (here after a CLOSE that says why)."""
    with RawPeer(router.port("amqp")) as peer:
        peer.write(asked)
        assert peer.read(8) == AMQP
        peer.hear("open", container_id="")
        closed = peer.hear("close", error=ANY)
        assert closed["error"]["condition"] == "amqp:connection:framing-error"
        peer.hear_nothing_more()


def test_sasl(router: Router) -> None:
    """Part 5, 5.3.2."""
    with RawPeer(router.port("sasl")) as peer:
        peer.write(SASL)
        assert peer.read(8) == SASL
        mechanisms = peer.hear_kind("sasl-mechanisms")
        assert mechanisms["sasl-server-mechanisms"] == [symbol("ANONYMOUS")]
        peer.say("sasl-init", frame_type=1, mechanism=symbol("ANONYMOUS"), initial_response=b"me")
        assert peer.hear_kind("sasl-outcome") == {"kind": "sasl-outcome", "code": ubyte(0)}
        peer.open()
        peer.say("close")
        peer.hear("close")
        peer.hear_nothing_more()


# Connections (2.4).


def test_open_and_close(router: Router) -> None:
    """2.4.1, 2.4.3: all fields of the router's OPEN."""
    with RawPeer(router.port("amqp")) as peer:
        found = peer.open(hostname="there")
        assert found == {
            "kind": "open",
            "channel": 0,
            "container-id": "R",
            "max-frame-size": uint(16384),
            "channel-max": ushort(32767),
            "idle-time-out": uint(8000),
            "offered-capabilities": [symbol(word) for word in CAPABILITIES],
            "desired-capabilities": [symbol(word) for word in CAPABILITIES],
            "properties": {symbol("product"): "skupper-router", symbol("version"): ANY, symbol("qd.conn-id"): ANY},
        }
        peer.say("close")
        peer.hear("close")
        peer.hear_nothing_more()


def test_pipelined_open(router: Router, address: str) -> None:
    """2.4.2: everything in one write, up to the CLOSE, before anything was heard."""
    with RawPeer(router.port("amqp")) as peer:
        peer.write(
            AMQP
            + frame("open", container_id="pipelined")
            + frame("begin", next_outgoing_id=uint(0), incoming_window=uint(9), outgoing_window=uint(9))
            + frame("attach", name="p", handle=uint(0), role=True, source=composite("source", address=address))
            + frame("detach", handle=uint(0), closed=True)
            + frame("end")
            + frame("close")
        )
        assert peer.read(8) == AMQP
        kinds = [peer.next_frame()["kind"] for _ in range(6)]
        assert kinds == ["open", "begin", "attach", "detach", "end", "close"]
        peer.hear_nothing_more()


def test_an_idle_peer_hears_empty_frames(router: Router) -> None:
    """2.4.5: the router keeps to the idle time-out of its peer."""
    with RawPeer(router.port("amqp")) as peer:
        peer.open(idle_time_out=uint(400))
        assert peer.read(8) == bytes((0, 0, 0, 8, 2, 0, 0, 0))
        peer.write(bytes((0, 0, 0, 8, 2, 0, 0, 0)))
        peer.say("close")
        peer.hear("close")


def test_frames_of_the_size_the_peer_takes(router: Router, address: str) -> None:
    """2.3: none is larger than the peer's max-frame-size, and a message is what its transfers are, put together."""
    content = message("x" * 2000)
    with RawPeer(router.port("amqp")) as peer:
        peer.open(max_frame_size=uint(512))
        peer.begin()
        both_ends(peer, address, 1)
        peer.transfer(1, 0, content)
        first = peer.hear("transfer", handle=uint(0), delivery_id=uint(0), delivery_tag=ANY, more=True, payload=ANY)
        pieces = [first["payload"]]
        while True:
            assert len(pieces[-1]) < 512
            found = peer.hear_kind("transfer")
            pieces.append(found["payload"])
            if not found.get("more"):
                break
        assert b"".join(pieces) == content


# Sessions (2.5).


def test_sessions(peer: RawPeer) -> None:
    """2.5.1, 2.5.2: each on its channel; a channel that has ended is free again."""
    for channel in (7, 3):
        peer.say("begin", channel=channel, next_outgoing_id=uint(5), incoming_window=uint(1), outgoing_window=uint(1))
        peer.hear(
            "begin",
            channel=ANY,
            remote_channel=ushort(channel),
            next_outgoing_id=uint(0),
            incoming_window=uint(512),
            outgoing_window=uint((1 << 31) - 1),
            handle_max=uint((1 << 31) - 1),
        )
    peer.say("end", channel=7)
    ended = peer.hear("end", channel=ANY)
    assert peer.begin(7)["remote-channel"] == 7
    assert ended["channel"] != 0


def test_a_handle_that_is_not_attached(peer: RawPeer) -> None:
    """2.5.4 would end the session, `amqp:session:unattached-handle`; the engine ends the connection."""
    peer.transfer(7, 0, message())
    closed = peer.hear("close", error=ANY)
    assert closed["error"] == {
        "kind": "error",
        "condition": symbol("amqp:invalid-field"),
        "description": "no such handle: 7",
    }
    peer.hear_nothing_more()


# Links (2.6).


def test_attach_and_close(peer: RawPeer, address: str) -> None:
    """2.6.3, 2.6.6: the answer has the other role and the same termini; the name is free after the end."""
    for _ in range(2):
        answer = peer.attach_receiver("same name", 0, address)
        assert_attached(answer, name="same name", role=False, source={"address": address})
        answer = peer.attach_sender("same name", 1, address)
        assert_attached(answer, name="same name", role=True, target={"address": address})
        hear_credit(peer)
        for handle in (1, 0):
            peer.say("detach", handle=uint(handle), closed=True)
            peer.hear("detach", handle=uint(handle), closed=True)


def assert_attached(found: Frame, *, name: str, role: bool, source: object = None, target: object = None) -> None:
    terminus = {"durable": 0, "timeout": 0, "dynamic": False}
    expected: Frame = {
        "kind": "attach",
        "channel": 0,
        "name": name,
        "handle": ANY,
        "role": role,
        "snd-settle-mode": 2,
        "rcv-settle-mode": 0,
        "source": {**SOURCE, **terminus, **(source or {})},  # type: ignore[dict-item]
        "target": {**TARGET, **terminus, **(target or {})},  # type: ignore[dict-item]
        "initial-delivery-count": 0,
        "max-message-size": 0,
    }
    assert found == expected


@pytest.mark.parametrize(
    ("role", "termini", "condition", "description"),
    [
        (True, {"source": composite("source")}, "qd:no-route-to-dest", "No route to the destination node"),
        (False, {"target": composite("target", address="nobody.1")}, "amqp:not-found", "Node not found"),
        (False, {"target": composite("coordinator")}, "amqp:not-implemented", ANY),
    ],
)
def test_a_link_is_refused(
    peer: RawPeer, role: bool, termini: dict[str, object], condition: str, description: str
) -> None:
    """2.6.3: an ATTACH without a terminus of the router, and a DETACH that closes and says why."""
    count = {} if role else {"initial_delivery_count": uint(0)}
    fields: dict[str, object] = {"source": composite("source"), "target": composite("target"), **termini, **count}
    peer.say("attach", name="no", handle=uint(4), role=role, **fields)
    answer = peer.hear_kind("attach")
    assert answer["name"] == "no"
    assert answer["role"] is not role
    assert ("source" if role else "target") not in answer
    error = {"kind": "error", "condition": symbol(condition), "description": description}
    peer.hear("detach", handle=answer["handle"], closed=True, error=error)
    peer.say("detach", handle=uint(4), closed=True)
    peer.say("end")
    peer.hear("end")


def test_detach_without_close(peer: RawPeer, address: str) -> None:
    """2.6.4: links cannot be suspended here; router protocol, 1.7."""
    peer.attach_receiver("r", 0, address)
    peer.say("detach", handle=uint(0), closed=False)
    found = peer.hear_kind("close")
    assert found["error"]["condition"] == "amqp:not-implemented"
    assert found["error"]["description"] == "Link detach/reattach not supported"


# Flow (2.6.7 to 2.6.10).


def test_synchronous_get(peer: RawPeer, address: str) -> None:
    """2.6.8: one credit and drain; a message that is there comes, otherwise the credit is used up."""
    both_ends(peer, address, 0)
    peer.transfer(1, 0, message("there"))
    peer.flow(0, 1, drain=True)
    hear_transfer(peer, 0, message("there"))
    peer.say("disposition", role=True, first=uint(0), settled=True, state=ACCEPTED)
    hear_settlement(peer, 0, {"kind": "accepted"})
    peer.flow(0, 1, count=1, incoming=1, drain=True)
    peer.hear("flow", **link_state(0, 2, 0, 1, drain=True))


def hear_settlement(peer: RawPeer, number: int, state: object, *, out: int = 1) -> None:
    """The producer's delivery is settled, and its credit is back: in one write, in either order."""
    heard = {found["kind"]: found for found in (peer.next_frame(), peer.next_frame())}
    expected = {"kind": "disposition", "channel": 0, "role": True, "first": number, "settled": True}
    compare(heard["disposition"], expected if state is None else {**expected, "state": state})
    fields = {"next-incoming-id": ANY, "incoming-window": ANY, "next-outgoing-id": out}
    fields |= {"outgoing-window": ANY, "handle": ANY, "delivery-count": number + 1, "link-credit": CREDIT}
    compare(heard["flow"], {"kind": "flow", "channel": 0, **fields})


def test_asynchronous_notification(peer: RawPeer, address: str) -> None:
    """2.6.9: as many as there is credit for; the rest when there is more."""
    both_ends(peer, address, 3)
    for number in range(5):
        peer.transfer(1, number, message(number), settled=True)
    for number in range(3):
        assert next_message(peer) == (number, message(number))
    peer.flow(0, 0, count=3, incoming=3, echo=False)  # nothing more comes, and nothing was in between
    peer.flow(0, 10, count=3, incoming=3)
    for number in (3, 4):
        assert next_message(peer) == (number, message(number))


def next_message(peer: RawPeer) -> tuple[int, bytes]:
    """Number and content of the next pre-settled message; credit that comes back in between is let pass."""
    while True:
        found = peer.next_frame()
        if found["kind"] != "flow":
            assert found["settled"] is True
            return found["delivery-id"], found["payload"]


def test_stopping_a_link(peer: RawPeer, address: str) -> None:
    """2.6.10: with the credit taken back nothing comes; what was sent meanwhile comes later."""
    both_ends(peer, address, 5)
    peer.flow(0, 0)
    peer.transfer(1, 0, message("later"))
    peer.flow(0, 0, drain=True)
    peer.flow(0, 1)
    hear_transfer(peer, 0, message("later"))


# Deliveries (2.6.11 to 2.6.14, 3.4).


def test_at_most_once(peer: RawPeer, address: str) -> None:
    """2.6.12: settled when it is sent; nothing comes back but credit."""
    both_ends(peer, address, 5)
    peer.transfer(1, 0, message(), settled=True)
    heard = [peer.next_frame(), peer.next_frame()]
    assert {found["kind"] for found in heard} == {"transfer", "flow"}
    assert next(found for found in heard if found["kind"] == "transfer")["settled"] is True


@pytest.mark.parametrize(
    ("state", "passed_on"),
    [
        (ACCEPTED, {"kind": "accepted"}),
        (composite("released"), {"kind": "released"}),
        (composite("rejected"), {"kind": "rejected"}),
        (
            composite(
                "rejected",
                error=composite(
                    "error", condition=symbol("x:no"), description="not so", info={symbol("why"): "because"}
                ),
            ),
            {
                "kind": "rejected",
                "error": {
                    "kind": "error",
                    "condition": "x:no",
                    "description": "not so",
                    "info": {"why": "because"},
                },
            },
        ),
        (composite("modified"), {"kind": "modified", "delivery-failed": True}),
        (
            composite("modified", undeliverable_here=True, message_annotations={symbol("x-opt-n"): 1}),
            {
                "kind": "modified",
                "delivery-failed": True,
                "undeliverable-here": True,
                "message-annotations": {"x-opt-n": 1},
            },
        ),
        (None, None),
    ],
)
def test_at_least_once(peer: RawPeer, address: str, state: Described | None, passed_on: object) -> None:
    """2.6.12, 3.4: unsettled, answered by the consumer; the outcome reaches the producer with its details."""
    both_ends(peer, address, 5)
    peer.transfer(1, 0, message())
    hear_transfer(peer, 0, message())
    peer.say("disposition", role=True, first=uint(0), settled=True, state=state)
    hear_settlement(peer, 0, passed_on)


def test_one_disposition_for_many(peer: RawPeer, address: str) -> None:
    """2.7.6: `first` to `last`, in whatever order the router says it."""
    both_ends(peer, address, 5)
    for number in range(3):
        peer.transfer(1, number, message(number))
    for number in range(3):
        hear_transfer(peer, number, message(number))
    peer.say("disposition", role=True, first=uint(0), last=uint(2), settled=True, state=ACCEPTED)
    settled: set[int] = set()
    while len(settled) < 3:
        found = peer.next_frame()
        if found["kind"] == "disposition":
            assert found["state"] == {"kind": "accepted"}
            assert found["settled"] is True
            settled |= set(range(found["first"], found.get("last", found["first"]) + 1))
    assert settled == {0, 1, 2}


def test_not_settled_before_the_consumer_has(peer: RawPeer, address: str) -> None:
    """2.6.12: the outcome first, unsettled, then the settlement: both pass as they are said."""
    both_ends(peer, address, 5)
    peer.transfer(1, 0, message())
    hear_transfer(peer, 0, message())
    peer.say(
        "disposition",
        role=True,
        first=uint(0),
        state=composite("received", section_number=uint(0), section_offset=ulong(5)),
    )
    received = {"kind": "received", "section-number": 0, "section-offset": 5}
    assert next_state(peer) == (received, False)
    peer.say("disposition", role=True, first=uint(0), state=ACCEPTED)
    assert next_state(peer) == ({"kind": "accepted"}, False)
    peer.say("disposition", role=True, first=uint(0), settled=True, state=ACCEPTED)
    hear_settlement(peer, 0, {"kind": "accepted"})


def next_state(peer: RawPeer) -> tuple[object, bool]:
    found = peer.hear_kind("disposition")
    return found["state"], bool(found.get("settled"))


def test_the_producer_settles_first(peer: RawPeer, address: str) -> None:
    """2.6.12: a sender that forgets; the consumer is told that it is settled."""
    both_ends(peer, address, 5)
    peer.transfer(1, 0, message())
    hear_transfer(peer, 0, message())
    peer.say("disposition", role=False, first=uint(0), settled=True)
    heard = {found["kind"]: found for found in (peer.next_frame(), peer.next_frame())}
    assert heard["disposition"]["role"] is False
    assert heard["disposition"]["settled"] is True
    assert heard["flow"]["link-credit"] == CREDIT


def test_a_message_of_several_transfers(peer: RawPeer, address: str) -> None:
    """2.6.14: number, tag and format stand in the first transfer; empty ones count, too."""
    content = message("y" * 100)
    both_ends(peer, address, 5)
    peer.transfer(1, 0, content[:10], more=True)
    for piece, more in ((content[10:50], True), (b"", True), (content[50:], False)):
        peer.say("transfer", handle=uint(1), more=more, payload=piece)
    hear_transfer(peer, 0, content)


def test_an_abort(peer: RawPeer, address: str) -> None:
    """2.6.14: of an aborted delivery nothing comes out, and its credit comes back."""
    both_ends(peer, address, 5)
    peer.transfer(1, 0, message("z" * 100)[:10], more=True)
    peer.say("transfer", handle=uint(1), aborted=True)
    hear_credit(peer, count=1)
    peer.transfer(1, 1, message("whole"))
    hear_transfer(peer, 0, message("whole"))


def test_an_abort_in_the_middle_of_a_stream(peer: RawPeer, address: str) -> None:
    """Router protocol, 7.5: what was passed on already is aborted, too."""
    peer.attach_receiver("r", 0, address)
    peer.flow(0, 5)
    peer.attach_sender("s", 1, address, capabilities=[symbol("qd.streaming-deliveries")])
    hear_credit(peer)
    peer.transfer(1, 0, message("z" * 100)[:50], more=True)
    peer.hear(
        "transfer",
        handle=uint(0),
        delivery_id=uint(0),
        delivery_tag=ANY,
        more=True,
        payload=message("z" * 100)[:50],
    )
    peer.say("transfer", handle=uint(1), aborted=True)
    heard = {found["kind"]: found for found in (peer.next_frame(), peer.next_frame())}
    assert heard["transfer"]["aborted"] is True
    assert heard["flow"]["link-credit"] == CREDIT


def test_many_consumers_and_one_outcome(peer: RawPeer) -> None:
    """Router protocol, 7.4: the producer has its outcome when all have answered, and it is the strongest."""
    name = f"multi.{next(_numbers)}"
    for handle in (0, 2, 3):
        peer.attach_receiver(f"r{handle}", handle, name)
        peer.flow(handle, 5)
    peer.attach_sender("s", 1, name)
    hear_credit(peer, handle=ANY)
    peer.transfer(1, 0, message("all"))
    copies = [peer.hear_kind("transfer") for _ in range(3)]
    assert {copy["payload"] for copy in copies} == {message("all")}
    for number, state in enumerate((composite("released"), composite("modified"), ACCEPTED)):
        peer.say("disposition", role=True, first=uint(number), settled=True, state=state)
    hear_settlement(peer, 0, {"kind": "accepted"}, out=3)


def test_a_consumer_that_leaves(peer: RawPeer, address: str) -> None:
    """Router protocol, 7.5 and 7.7: what it had is modified; the next message is released, and the link drained."""
    both_ends(peer, address, 5)
    peer.transfer(1, 0, message())
    hear_transfer(peer, 0, message())
    peer.say("detach", handle=uint(0), closed=True)
    hear_credit(peer, count=1, out=1)
    peer.hear("disposition", role=False, first=uint(0), settled=True)
    modified = {"kind": "modified", "delivery-failed": True}
    peer.hear("disposition", role=True, first=uint(0), settled=True, state=modified)
    peer.hear("detach", handle=uint(0), closed=True)
    peer.transfer(1, 1, message())
    heard = {found["kind"]: found for found in (peer.next_frame(), peer.next_frame())}
    assert heard["disposition"]["state"] == {"kind": "released"}
    assert heard["flow"]["drain"] is True


def test_a_reply_address(peer: RawPeer) -> None:
    """3.5.3, dynamic; and an anonymous terminus, of which each message says where it goes (`to`)."""
    answer = peer.attach_receiver("replies", 0, None, dynamic=True)
    reply_to = answer["source"]["address"]
    assert answer["source"]["dynamic"] is True
    assert re.fullmatch(r"amqp:/_topo/0/R/temp\.[A-Za-z0-9+_]{15}", reply_to)
    peer.flow(0, 5)
    peer.attach_sender("s", 1, None)
    hear_credit(peer)
    peer.transfer(1, 0, message("reply", to=reply_to))
    hear_transfer(peer, 0, message("reply", to=reply_to))
    peer.transfer(1, 1, message("nowhere"))
    heard = {found["kind"]: found for found in (peer.next_frame(), peer.next_frame())}
    assert heard["disposition"]["state"] == {
        "kind": "rejected",
        "error": {
            "kind": "error",
            "condition": "amqp:precondition-failed",
            "description": "Routing failure: no address present",
        },
    }


def test_sections_pass_as_they_are(peer: RawPeer, address: str) -> None:
    """3.2: each section of the bare message, in an unusual but legal encoding, comes out octet for octet."""
    content = (
        b"\x00\x80\x00\x00\x00\x00\x00\x00\x00\x70\xd0\x00\x00\x00\x06\x00\x00\x00\x02\x41\x40"
        + encode(Described(ulong(0x72), {symbol("x-opt-a"): "1"}), Described(symbol("amqp:properties:list"), [b"id"]))
        + encode(Described(ulong(0x74), {"k": True}), Described(ulong(0x75), b"data"), Described(ulong(0x75), b"more"))
        + encode(Described(ulong(0x78), {symbol("foot"): 1}))
    )
    both_ends(peer, address, 5)
    peer.transfer(1, 0, content)
    hear_transfer(peer, 0, content)
