"""Bodies as they go out, key by key in the order of the wire, and what is malformed; random ones in tests/property."""

from __future__ import annotations

import pytest

from vanrouter.errors import PeerError
from vanrouter.routing import messages
from vanrouter.routing.messages import Descriptor, NewerVersion, advertised_numbers, parse_control

HELLO = {"id": "B", "pv": 1, "area": "0", "instance": 5, "seen": ["A"]}
RA = {"id": "B", "pv": 1, "area": "0", "instance": 5, "ls_seq": 1, "mobile_seq": 2}
LSU = {"id": "B", "instance": 5, "ls_seq": 1, "ls": {"id": "B", "area": "0", "ls_seq": 1, "peers": {"A": 1, "B": 9}}}
MAU = {"id": "B", "pv": 2, "mobile_seq": 3, "exist": [["Mfoo", 3, 0], ["HE", 3, 0, None, "mesh"]]}


def test_bodies_as_on_the_wire() -> None:
    assert list(messages.hello_body("A", 7, ["B"]).items()) == [
        ("id", "A"), ("pv", 1), ("area", "0"), ("instance", 7), ("seen", ["B"]),
    ]  # fmt: skip
    assert list(messages.advertisement_body("A", 7, 1, 2).items()) == [
        ("id", "A"), ("pv", 1), ("area", "0"), ("instance", 7), ("ls_seq", 1), ("mobile_seq", 2),
    ]  # fmt: skip
    assert messages.link_state_request_body("A") == {"id": "A", "pv": 1, "area": "0"}
    assert list(messages.link_state_update_body("A", 7, 1, {"B": 1}).items()) == [
        ("id", "A"), ("pv", 1), ("area", "0"), ("instance", 7), ("ls_seq", 1),
        ("ls", {"id": "A", "area": "0", "ls_seq": 1, "peers": {"B": 1}}),
    ]  # fmt: skip
    assert messages.mobile_request_body("A", 4) == {"id": "A", "pv": 2, "area": "0", "have_seq": 4}


def test_descriptors_are_lists_as_long_as_needed() -> None:
    entries = [
        Descriptor("Mfoo", 3, None, None),
        Descriptor("HE", 3, "mesh", None),
        Descriptor("Mw", 3, None, 5),
        Descriptor("Mx", 1, "mesh", 5),
    ]
    absolute = messages.absolute_body("A", 2, entries)
    assert absolute["exist"] == [
        ["Mfoo", 3, 0],
        ["HE", 3, 0, None, "mesh"],
        ["Mw", 3, 0, None, None, 5],
        ["Mx", 1, 0, None, "mesh", 5],
    ]
    differential = messages.differential_body("A", 3, [], ["Mfoo"])
    assert (differential["add"], differential["del"]) == ([], [["Mfoo"]])


def test_addresses_that_are_too_long_are_left_out() -> None:
    keys = ["Ma", "M" + "x" * 4047, "M" + "x" * 4048, "M" + "x" * 60_000]
    body = {"id": "B", "pv": 2, "area": "0", "mobile_seq": 4, "exist": [[key] for key in keys]}
    update = parse_control("MAU", body, 9)
    assert isinstance(update, messages.MobileUpdate)
    assert update.exist is not None
    assert list(update.exist) == keys[:2]


def test_link_state_without_itself() -> None:
    update = parse_control("LSU", LSU, 9)
    assert isinstance(update, messages.LinkStateUpdate)
    assert update.peers == {"A": 1}
    without = parse_control("LSU", {key: value for key, value in LSU.items() if key != "instance"}, 9)
    assert isinstance(without, messages.LinkStateUpdate)
    assert without.instance is None


def test_odd_descriptors_are_read_as_far_as_they_can_be() -> None:
    entries = [["Ma"], ["Mb", 9], ["Mc", None, 0, None, 5], ["Md", True, 0, None, None, {}], ["Me", 2, 0, 0, "m", 7, 8]]
    update = parse_control("MAU", {**MAU, "exist": entries}, 9)
    assert isinstance(update, messages.MobileUpdate)
    assert update.exist is not None
    assert list(update.exist.values()) == [
        Descriptor("Ma", -1, None, None),
        Descriptor("Mb", -1, None, None),
        Descriptor("Mc", -1, None, None),
        Descriptor("Md", -1, None, None),
        Descriptor("Me", 2, "m", 7),
    ]


def test_requests_and_differentials() -> None:
    assert parse_control("LSR", {"id": "B", "pv": 1}, 9) == messages.LinkStateRequest(id="B")
    assert parse_control("MAR", {"id": "B", "pv": 2, "have_seq": 4}, 9) == messages.MobileRequest(id="B", have_seq=4)
    update = parse_control("MAU", {"id": "B", "mobile_seq": 4, "add": [["Mfoo"]], "del": [["Mbar"]]}, 9)
    assert isinstance(update, messages.MobileUpdate)
    assert (update.exist, list(update.added), update.removed) == (None, ["Mfoo"], {"Mbar"})


def test_absent_version_and_instance_count_as_zero() -> None:
    record = parse_control("HELLO", {"id": "B", "seen": []}, 9)
    assert record == messages.Hello(id="B", instance=0, seen=frozenset())


@pytest.mark.parametrize(("opcode", "body", "version"), [("HELLO", HELLO, 2), ("RA", RA, 2), ("MAU", MAU, 3)])
def test_newer_version(opcode: str, body: dict[str, object], version: int) -> None:
    assert parse_control(opcode, {**body, "pv": version}, 9) == NewerVersion(id="B", version=version)


@pytest.mark.parametrize(
    ("opcode", "body"),
    [
        ("FOO", HELLO),
        ("HELLO", None),
        ("HELLO", [HELLO]),
        ("HELLO", {**HELLO, "id": None}),
        ("HELLO", {**HELLO, "id": ""}),
        ("HELLO", {**HELLO, "id": "a/b"}),
        ("HELLO", {**HELLO, "id": "a b"}),
        ("HELLO", {**HELLO, "id": "a\x00"}),
        ("HELLO", {**HELLO, "id": "x" * 256}),
        ("HELLO", {**HELLO, "pv": "1"}),
        ("HELLO", {**HELLO, "pv": -1}),
        ("HELLO", {**HELLO, "instance": "x"}),
        ("HELLO", {**HELLO, "instance": 2**63}),
        ("HELLO", {**HELLO, "seen": "A"}),
        ("HELLO", {**HELLO, "seen": [1]}),
        ("HELLO", {**HELLO, "seen": ["A"] * 2000}),
        ("RA", {**RA, "ls_seq": True}),
        ("RA", {**RA, "ls_seq": -1}),
        ("RA", {**RA, "mobile_seq": None}),
        ("LSU", {**LSU, "ls": None}),
        ("LSU", {**LSU, "ls": {"id": "C"}}),
        ("LSU", {**LSU, "ls": {"id": "B", "ls_seq": 1}}),
        ("LSU", {**LSU, "ls": {"id": "B", "ls_seq": 1, "peers": {str(number): 1 for number in range(2000)}}}),
        ("LSU", {**LSU, "ls": {"id": "B", "ls_seq": 1, "peers": {"A": 0}}}),
        ("LSU", {**LSU, "ls": {"id": "B", "ls_seq": 1, "peers": {"A": True}}}),
        ("LSU", {**LSU, "ls": {"id": "B", "ls_seq": 1, "peers": {"A": 2**31}}}),
        ("LSU", {**LSU, "ls": {"id": "B", "ls_seq": 1, "peers": {7: 1}}}),
        ("MAR", {"id": "B"}),
        ("MAU", {**MAU, "mobile_seq": None}),
        ("MAU", {**MAU, "exist": None}),
        ("MAU", {**MAU, "add": [], "del": []}),
        ("MAU", {"id": "B", "mobile_seq": 1, "add": []}),
        ("MAU", {"id": "B", "mobile_seq": 1, "del": []}),
        ("MAU", {**MAU, "exist": {}}),
        ("MAU", {**MAU, "exist": [["M"]] * 10}),
        ("MAU", {**MAU, "exist": ["Mfoo"]}),
        ("MAU", {**MAU, "exist": [[]]}),
        ("MAU", {**MAU, "exist": [[7]]}),
        ("MAU", {**MAU, "exist": [["Lfoo"]]}),
    ],
)
def test_malformed(opcode: str, body: object) -> None:
    with pytest.raises(PeerError):
        parse_control(opcode, body, 9)


def test_advertised_numbers() -> None:
    assert advertised_numbers(RA) == ("B", 5, 1, 2)
    assert advertised_numbers({**RA, "instance": None}) is None
    assert advertised_numbers({**RA, "mobile_seq": "2"}) is None
    assert advertised_numbers(None) is None
    assert advertised_numbers({"id": []}) is None


def test_empty_set() -> None:
    update = messages.empty_set("B")
    assert (update.mobile_seq, update.exist) == (0, {})
