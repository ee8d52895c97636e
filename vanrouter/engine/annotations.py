"""The router-annotations section: the first octets of every message between routers.

Layer: 2. Source: router protocol, section 4. This is the data path: a flow's messages carry the same section again and
again, so sections are parsed once and found by their octets afterwards, and what goes to the next hop is remembered on
what came from the last one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from vanrouter.engine.decoding import DECODE_ERROR, decode
from vanrouter.engine.encoding import encode_into
from vanrouter.engine.values import NEED_MORE, NeedMore, Symbol, UInt
from vanrouter.errors import PeerError

STREAMING = 0x1
"""Route as soon as the headers are there (section 4.2)."""
RESEND_RELEASED = 0x2
"""Try another path when released (section 7.6)."""
UNLIMITED = 0x4
"""Do not apply the limit on octets held of a message (`Q2 disabled`)."""

DESCRIPTOR = b"\x00\x80SKPR--RA"
"""ulong 0x534B50522D2D5241; the eight-octet form is the only one that routers recognise."""

INVALID_FIELD = "amqp:invalid-field"

MAX_SECTION_BYTES = 1 << 18
"""A to-override of 64 kB and a trace of thousands of routers fit; a claim beyond it is not waited for."""

CACHED_SECTIONS = 4096
"""Sections remembered; one for each (flags, override, ingress, path) in use. Full: all are forgotten."""
CACHED_SECTION_BYTES = 512
"""Longer sections are parsed each time, so that a peer cannot fill the memory with them."""
CACHED_NEXT_HOPS = 64
"""Rewritten sections remembered on each parsed one."""

_START = struct.Struct(">2xQBI")
_DESCRIPTOR_CODE = 0x534B50522D2D5241
_LIST32 = struct.Struct(">BII")


class Annotations:
    """What one section says. Shared by all messages that carry the same octets: do not change it.

    `length` is the number of octets of the section, 0 when a message came without one.
    """

    __slots__ = ("flags", "ingress", "length", "mesh", "next_hops", "section", "to_override", "trace")

    def __init__(
        self,
        flags: int = 0,
        to_override: str | None = None,
        ingress: str | None = None,
        trace: tuple[str, ...] = (),
        mesh: str | None = None,
        length: int = 0,
    ) -> None:
        self.flags = flags
        self.to_override = to_override
        self.ingress = ingress
        self.trace = trace
        self.mesh = mesh
        self.length = length
        self.section = b""
        """The octets themselves, of one that is remembered."""
        self.next_hops: dict[tuple[str | None, str | None, str | None], bytes] = {}

    def __repr__(self) -> str:
        return (
            f"Annotations(flags={self.flags}, to_override={self.to_override!r}, ingress={self.ingress!r}, "
            f"trace={self.trace!r}, mesh={self.mesh!r}, length={self.length})"
        )


NO_ANNOTATIONS = Annotations()
"""A message without the section: flags 0, nothing else (section 4.1)."""

_parsed: dict[bytes, Annotations] = {}
_originated: dict[int, Annotations] = {0: NO_ANNOTATIONS}


def parse(buffer: bytes | bytearray | memoryview, start: int, end: int) -> Annotations | NeedMore:
    """Parse the section at `start`; the message goes on at `start + length` of the answer.

    Args:
        buffer: holds the octets received.
        start: where the message begins.
        end: where the octets that have come so far end.

    Returns:
        The section; NO_ANNOTATIONS when the message begins with something else; NEED_MORE when too little has come.

    Raises:
        PeerError: `amqp:invalid-field` with the texts of section 4.1.
    """
    if end - start < 15:
        return _parse_short(buffer, start, end)
    descriptor, code, size = _START.unpack_from(buffer, start)
    if descriptor != _DESCRIPTOR_CODE or buffer[start] != 0 or buffer[start + 1] != 0x80:
        return NO_ANNOTATIONS
    if code == 0xD0:
        size += 15
    elif code == 0xC0:
        size = 12 + (size >> 24)
    else:
        raise _no_list(code)
    if start + size > end:
        if size > MAX_SECTION_BYTES:
            raise PeerError(INVALID_FIELD, "Invalid router annotations section: too long")
        return NEED_MORE
    section = bytes(buffer[start : start + size])
    found = _parsed.get(section)
    if found is None:
        found = _parse_section(section)
        if size <= CACHED_SECTION_BYTES:
            if len(_parsed) >= CACHED_SECTIONS:
                _parsed.clear()
            _parsed[section] = found
            found.section = section
    return found


def _parse_short(buffer: bytes | bytearray | memoryview, start: int, end: int) -> Annotations | NeedMore:
    """Fewer octets than a list32 takes: a list8, the beginning of a section, or something else."""
    section = bytes(buffer[start:end])
    if section[:10] != DESCRIPTOR[: len(section)]:
        return NO_ANNOTATIONS
    if len(section) <= 10:
        return NEED_MORE
    if section[10] not in (0xC0, 0xD0):
        raise _no_list(section[10])
    if section[10] == 0xD0 or len(section) < 12 or 12 + section[11] > len(section):
        return NEED_MORE
    return _parse_section(section[: 12 + section[11]])


def _no_list(code: int) -> PeerError:
    """A map breaks the message as a whole for the C router, what else is no list the section."""
    if code in (0xC1, 0xD1):
        return PeerError(DECODE_ERROR, "invalid message format")
    return PeerError(INVALID_FIELD, "Invalid router annotations section: non-list type")


def _parse_section(section: bytes) -> Annotations:
    try:
        fields, length = decode(section, 10)
    except PeerError as error:
        raise PeerError(INVALID_FIELD, f"Invalid router annotations section: {error.description}") from error
    if len(fields) < 4:
        raise PeerError(INVALID_FIELD, "Invalid router annotations section: wrong list count")
    flags, to_override, ingress, trace = fields[:4]
    if not isinstance(flags, int) or isinstance(flags, bool) or not 0 <= flags <= 0xFFFFFFFF:
        raise PeerError(INVALID_FIELD, "Invalid router flags annotation: wrong type")
    if to_override is not None and not _is_string(to_override):
        raise PeerError(INVALID_FIELD, "Invalid router to-override annotation: wrong type")
    if ingress is not None and not _is_string(ingress):
        raise PeerError(INVALID_FIELD, "Invalid router ingress annotation: wrong type")
    if type(trace) is not list:
        raise PeerError(INVALID_FIELD, "Invalid router trace annotation: wrong type")
    if not all(_is_string(router) for router in trace):
        raise PeerError(INVALID_FIELD, "Invalid router trace annotation: entry is not a string")
    mesh = None
    if len(fields) > 4:
        mesh = fields[4]
        if not _is_string(mesh):
            raise PeerError(INVALID_FIELD, "Invalid ingress-mesh annotation: wrong type")
    return Annotations(int(flags), to_override or None, ingress or None, tuple(trace), mesh, length)


def _is_string(value: object) -> bool:
    return isinstance(value, str) and not isinstance(value, Symbol)


def originated(flags: int) -> Annotations:
    """Return what stands for the section of a message that begins here, with `flags`."""
    found = _originated.get(flags)
    if found is None:
        found = _originated[flags] = Annotations(flags)
    return found


def encode(
    flags: int,
    to_override: str | None,
    ingress: str | None,
    trace: Sequence[str],
    mesh: str | None = None,
) -> bytes:
    """Encode a section as routers write it: list32, and no fifth element without a mesh."""
    values = bytearray()
    for value in (UInt(flags), to_override, ingress):
        encode_into(value, values)
    if trace:
        entries = bytearray()
        for router in trace:
            encode_into(router, entries)
        values += _LIST32.pack(0xD0, len(entries) + 4, len(trace)) + entries
    else:
        values.append(0x45)
    if mesh is not None:
        encode_into(mesh, values)
    return DESCRIPTOR + _LIST32.pack(0xD0, len(values) + 4, 4 if mesh is None else 5) + values


def next_hop_section(annotations: Annotations, to_override: str | None, own: str) -> bytes:
    """Return the section for the next hop, sent by the interior router `own` (section 4.4).

    Args:
        annotations: what came with the message, or `originated()`.
        to_override: the override that is set here; None keeps the one that came.
        own: `area/id` of this router.
    """
    key = (to_override, own, None)
    section = annotations.next_hops.get(key)
    if section is None:
        section = encode(
            annotations.flags,
            annotations.to_override if to_override is None else to_override,
            annotations.ingress or own,
            (*annotations.trace, own),
            annotations.mesh,
        )
        _remember(annotations, key, section)
    return section


def edge_section(annotations: Annotations, to_override: str | None, mesh: str | None = None) -> bytes:
    """Return the section that an edge router sends, or any router on an inter-network connection (section 4.3).

    Ingress null and an empty trace. `mesh`: own mesh id, on edge connections of an edge that is in a mesh.
    """
    key = (to_override, None, mesh)
    section = annotations.next_hops.get(key)
    if section is None:
        override = annotations.to_override if to_override is None else to_override
        section = encode(annotations.flags, override, None, (), annotations.mesh if mesh is None else mesh)
        _remember(annotations, key, section)
    return section


def _remember(annotations: Annotations, key: tuple[str | None, str | None, str | None], section: bytes) -> None:
    if len(section) <= CACHED_SECTION_BYTES:
        if len(annotations.next_hops) >= CACHED_NEXT_HOPS:
            annotations.next_hops.clear()
        annotations.next_hops[key] = section
