"""Control messages: records, the bodies that are sent, and the validation of bodies from peers. Layer: 2.

Source: router protocol section 5. Whatever a peer sends gives a record, `NewerVersion` or `PeerError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from vanrouter.errors import PeerError
from vanrouter.ids import AREA, MAX_ADDRESS_LENGTH

OPCODES: Final = ("HELLO", "RA", "LSR", "LSU", "MAR", "MAU")

TOPOLOGY_VERSION: Final = 1
MOBILE_VERSION: Final = 2
"""Section 5.1: sent, and the highest that is accepted."""

MAX_INTEGER: Final = 2**63 - 1
MAX_COST: Final = 2**31 - 1
MAX_PEERS: Final = 1024
"""Neighbours that one router may name in `seen` or `peers`: eight times the C router's own limit."""
MAX_KEY_LENGTH: Final = MAX_ADDRESS_LENGTH + 48
"""Longer ones are left out: a C router lets its clients name them, and the rest of its update is good."""
MAX_MESH_ID_LENGTH: Final = 64
MAX_WEIGHT: Final = 1_000_000
DEFAULT_HINT: Final = -1
"""Stands for a treatment hint that is absent or unknown: the receiver's default applies."""

_ID = re.compile(r"[^\s/\x00-\x1f\x7f]{1,255}")


class Descriptor(NamedTuple):
    """One address of a MAU (section 5.6; the weight: extensions)."""

    key: str
    hint: int
    mesh_id: str | None
    weight: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The sender is alive and has heard these."""

    id: str
    instance: int
    seen: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertisement:
    """RA: the numbers of the sender's link state and address set."""

    id: str
    instance: int
    ls_seq: int
    mobile_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStateRequest:
    """LSR: the sender wants the link state."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStateUpdate:
    """LSU: the sender's neighbours and their costs; `instance` is None when the body has none."""

    id: str
    instance: int | None
    ls_seq: int
    peers: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileRequest:
    """MAR: the sender wants the addresses beyond `have_seq`."""

    id: str
    have_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileUpdate:
    """MAU: `exist` is the complete set; None in a differential one, which has `added` and `removed`."""

    id: str
    mobile_seq: int
    exist: dict[str, Descriptor] | None
    added: dict[str, Descriptor]
    removed: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewerVersion:
    """A message of a protocol version that is not understood: ignored, with one warning per router."""

    id: str
    version: int


ControlMessage: TypeAlias = (
    Hello | Advertisement | LinkStateRequest | LinkStateUpdate | MobileRequest | MobileUpdate | NewerVersion
)
_Body: TypeAlias = Mapping[Any, Any]


def parse_control(opcode: str, body: object, max_addresses: int) -> ControlMessage:
    """Return the record of a control message.

    Args:
        opcode: application property of the message.
        body: its decoded body; keys and values may be subclasses of str and int.
        max_addresses: bound of the descriptors in one MAU.

    Raises:
        PeerError: the opcode is unknown, or something is missing, of the wrong kind or out of bounds.
    """
    if opcode not in OPCODES:
        raise _malformed(f"unknown opcode {opcode!r:.40}")
    if not isinstance(body, dict):
        raise _malformed(f"{opcode} body is not a map")
    router_id = _router_id(body.get("id"))
    version = _integer(body, "pv", 0)
    if version > (MOBILE_VERSION if opcode in ("MAR", "MAU") else TOPOLOGY_VERSION):
        return NewerVersion(id=router_id, version=version)
    if opcode == "MAU":
        return _parse_mobile_update(router_id, body, max_addresses)
    return _PARSERS[opcode](router_id, body)


def advertised_numbers(body: object) -> tuple[str, int, int, int] | None:
    """Return id, instance, ls_seq and mobile_seq of an RA's body as they stand; None unless all have their kind.

    Cheaper than `parse_control` for the many copies of a flood; what is None here gives `PeerError` there, or is odd.
    """
    if not isinstance(body, dict):
        return None
    router_id, instance = body.get("id"), body.get("instance", 0)
    ls_seq, mobile_seq = body.get("ls_seq"), body.get("mobile_seq")
    if isinstance(router_id, str) and isinstance(instance, int) and isinstance(ls_seq, int):
        return (router_id, instance, ls_seq, mobile_seq) if isinstance(mobile_seq, int) else None
    return None


def _malformed(description: str) -> PeerError:
    return PeerError("amqp:invalid-field", description)


def _router_id(value: object) -> str:
    if not isinstance(value, str) or _ID.fullmatch(value) is None:
        raise _malformed("router id is missing or not usable")
    return str(value)


def _integer(body: _Body, key: str, default: int | None = None, least: int = 0) -> int:
    value = body.get(key, default)
    if type(value) is int or (isinstance(value, int) and not isinstance(value, bool)):
        if least <= value <= MAX_INTEGER:
            return int(value)
        raise _malformed(f"{key} is out of bounds")
    raise _malformed(f"{key} is missing or not an integer")


def _parse_hello(router_id: str, body: _Body) -> Hello:
    seen = body.get("seen")
    if not isinstance(seen, list | tuple) or len(seen) > MAX_PEERS:
        raise _malformed("seen is missing, not a list or too long")
    instance = _integer(body, "instance", 0, -MAX_INTEGER)
    return Hello(id=router_id, instance=instance, seen=frozenset([_router_id(entry) for entry in seen]))


def _parse_advertisement(router_id: str, body: _Body) -> Advertisement:
    return Advertisement(
        id=router_id,
        instance=_integer(body, "instance", 0, -MAX_INTEGER),
        ls_seq=_integer(body, "ls_seq"),
        mobile_seq=_integer(body, "mobile_seq"),
    )


def _parse_link_state_request(router_id: str, body: _Body) -> LinkStateRequest:
    return LinkStateRequest(id=router_id)


def _parse_link_state_update(router_id: str, body: _Body) -> LinkStateUpdate:
    link_state = body.get("ls")
    if not isinstance(link_state, dict):
        raise _malformed("ls is missing or not a map")
    if link_state.get("id") != router_id:
        raise _malformed("ls is of another router than the sender")
    peers = link_state.get("peers")
    if not isinstance(peers, dict) or len(peers) > MAX_PEERS:
        raise _malformed("peers is missing, not a map or too long")
    costs: dict[str, int] = {}
    for peer, cost in peers.items():
        if not isinstance(cost, int) or isinstance(cost, bool) or not 1 <= cost <= MAX_COST:
            raise _malformed("cost of a peer is not an integer from 1 on")
        costs[_router_id(peer)] = int(cost)
    costs.pop(router_id, None)
    instance = _integer(body, "instance", 0, -MAX_INTEGER) if "instance" in body else None
    return LinkStateUpdate(id=router_id, instance=instance, ls_seq=_integer(link_state, "ls_seq"), peers=costs)


def _parse_mobile_request(router_id: str, body: _Body) -> MobileRequest:
    return MobileRequest(id=router_id, have_seq=_integer(body, "have_seq"))


def _parse_mobile_update(router_id: str, body: _Body, max_addresses: int) -> MobileUpdate:
    mobile_seq = _integer(body, "mobile_seq")
    exist, added, removed = body.get("exist"), body.get("add"), body.get("del")
    if exist is not None and added is None and removed is None:
        descriptors = _descriptors("exist", exist, max_addresses)
        return MobileUpdate(id=router_id, mobile_seq=mobile_seq, exist=descriptors, added={}, removed=frozenset())
    if exist is not None or added is None or removed is None:
        raise _malformed("a MAU has either exist, or add and del")
    return MobileUpdate(
        id=router_id,
        mobile_seq=mobile_seq,
        exist=None,
        added=_descriptors("add", added, max_addresses),
        removed=frozenset(_descriptors("del", removed, max_addresses)),
    )


def empty_set(router_id: str) -> MobileUpdate:
    """Return the update of a router that has no address and never had."""
    return MobileUpdate(id=router_id, mobile_seq=0, exist={}, added={}, removed=frozenset())


def _descriptors(name: str, entries: object, max_addresses: int) -> dict[str, Descriptor]:
    if not isinstance(entries, list | tuple) or len(entries) > max_addresses:
        raise _malformed(f"{name} is not a list or too long")
    descriptors: dict[str, Descriptor] = {}
    for entry in entries:
        descriptor = _descriptor(entry)
        if len(descriptor.key) <= MAX_KEY_LENGTH:
            descriptors[descriptor.key] = descriptor
    return descriptors


def _descriptor(entry: object) -> Descriptor:
    if not isinstance(entry, list | tuple) or not entry:
        raise _malformed("an address descriptor is not a list of at least one")
    key = entry[0]
    if not isinstance(key, str) or key[:1] not in ("M", "H", "N"):
        raise _malformed("an address key is not of class M, H or N")
    count = len(entry)
    hint = entry[1] if count > 1 else DEFAULT_HINT
    if not isinstance(hint, int) or isinstance(hint, bool) or not 0 <= hint <= 4:
        hint = DEFAULT_HINT
    mesh_id = entry[4] if count > 4 else None
    if not isinstance(mesh_id, str) or len(mesh_id) > MAX_MESH_ID_LENGTH:
        mesh_id = None
    weight = entry[5] if count > 5 else None
    if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= MAX_WEIGHT:
        weight = None
    return Descriptor(str(key), int(hint), mesh_id and str(mesh_id), weight and int(weight))


_PARSERS: Final[dict[str, Callable[[str, _Body], ControlMessage]]] = {
    "HELLO": _parse_hello,
    "RA": _parse_advertisement,
    "LSR": _parse_link_state_request,
    "LSU": _parse_link_state_update,
    "MAR": _parse_mobile_request,
}


def hello_body(own_id: str, instance: int, seen: Iterable[str]) -> dict[str, object]:
    """Return the body of a HELLO (section 5.2)."""
    return {"id": own_id, "pv": TOPOLOGY_VERSION, "area": AREA, "instance": instance, "seen": list(seen)}


def advertisement_body(own_id: str, instance: int, ls_seq: int, mobile_seq: int) -> dict[str, object]:
    """Return the body of an RA (section 5.3)."""
    return {
        "id": own_id,
        "pv": TOPOLOGY_VERSION,
        "area": AREA,
        "instance": instance,
        "ls_seq": ls_seq,
        "mobile_seq": mobile_seq,
    }


def link_state_request_body(own_id: str) -> dict[str, object]:
    """Return the body of an LSR (section 5.4)."""
    return {"id": own_id, "pv": TOPOLOGY_VERSION, "area": AREA}


def link_state_update_body(own_id: str, instance: int, ls_seq: int, peers: Mapping[str, int]) -> dict[str, object]:
    """Return the body of an LSU (section 5.5)."""
    link_state = {"id": own_id, "area": AREA, "ls_seq": ls_seq, "peers": dict(peers)}
    return {
        "id": own_id,
        "pv": TOPOLOGY_VERSION,
        "area": AREA,
        "instance": instance,
        "ls_seq": ls_seq,
        "ls": link_state,
    }


def mobile_request_body(own_id: str, have_seq: int) -> dict[str, object]:
    """Return the body of a MAR (section 5.6)."""
    return {"id": own_id, "pv": MOBILE_VERSION, "area": AREA, "have_seq": have_seq}


def absolute_body(own_id: str, mobile_seq: int, exist: Iterable[Descriptor]) -> dict[str, object]:
    """Return the body of an absolute MAU (section 5.6)."""
    entries = [descriptor_entry(descriptor) for descriptor in exist]
    return {"id": own_id, "pv": MOBILE_VERSION, "area": AREA, "mobile_seq": mobile_seq, "exist": entries}


def differential_body(
    own_id: str, mobile_seq: int, added: Iterable[Descriptor], removed: Iterable[str]
) -> dict[str, object]:
    """Return the body of a differential MAU (section 5.6)."""
    return {
        "id": own_id,
        "pv": MOBILE_VERSION,
        "area": AREA,
        "mobile_seq": mobile_seq,
        "add": [descriptor_entry(descriptor) for descriptor in added],
        "del": [[key] for key in removed],
    }


def descriptor_entry(descriptor: Descriptor) -> list[object]:
    """Return the list that stands for an address; positions 3 to 5 only as far as they are needed."""
    if descriptor.weight is not None:
        return [descriptor.key, descriptor.hint, 0, None, descriptor.mesh_id, descriptor.weight]
    if descriptor.mesh_id is not None:
        return [descriptor.key, descriptor.hint, 0, None, descriptor.mesh_id]
    return [descriptor.key, descriptor.hint, 0]
