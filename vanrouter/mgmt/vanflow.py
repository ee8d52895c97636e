"""Records of observability: their types, attributes, addresses and timing, and their form in messages. Layer: 2, pure.

Source: vanflow, sections 1 to 6, and what a live C router 3.5.1 sends. A record here is a map from attribute to value:
numbers (microseconds since 1970, octets) and texts. `vanflow_source` decides what is sent when, `vanflow_picture` puts
together what was received.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final

from vanrouter.errors import PeerError

Value = int | str
Attributes = dict[int, Value]
"""From the code of an attribute to its value; `recordType` and `identity` are always there."""

ALL_SOURCES: Final = "mc/sfe.all"
"""Where beacons go, and the one address that a collector knows beforehand."""
MULTICAST_PREFIX: Final = "mc/sfe.#"
"""Pattern of all addresses of records; multicast in every router."""
VERSION: Final = 1
"""Of the protocol: application property `v`."""

BEACON: Final = "BEACON"
HEARTBEAT: Final = "HEARTBEAT"
FLUSH: Final = "FLUSH"
RECORD: Final = "RECORD"

TICK_S = 0.2
HEARTBEAT_TICKS = 10
BEACON_TICKS = 50
SLOTS = 5
"""Records are spread over so many ticks: each is sent once a second at most."""
BATCH_RECORDS = 50
"""Records in one message."""
HELD_TICKS = 25
"""How long the end of a flow waits for what its other end says."""
MAX_TEXT = 300
"""Characters of a text; what is longer is cut."""


class RecordType(IntEnum):
    """Types of records (section 5)."""

    SITE = 0
    ROUTER = 1
    LINK = 2
    CONTROLLER = 3
    LISTENER = 4
    CONNECTOR = 5
    FLOW = 6
    PROCESS = 7
    LOG = 14
    ROUTER_ACCESS = 15
    BIFLOW_TPORT = 16
    BIFLOW_APP = 17


class Attribute(IntEnum):
    """Attributes that vanrouter writes or reads (section 6); in camel case they are the names of the log lines."""

    RECORD_TYPE = 0
    IDENTITY = 1
    PARENT = 2
    START_TIME = 3
    END_TIME = 4
    COUNTERFLOW = 5
    PEER = 6
    PROCESS = 7
    LOCATION = 9
    PROVIDER = 10
    PLATFORM = 11
    NAMESPACE = 12
    MODE = 13
    SOURCE_HOST = 14
    DEST_HOST = 15
    PROTOCOL = 16
    SOURCE_PORT = 17
    DEST_PORT = 18
    VAN_ADDRESS = 19
    IMAGE_NAME = 20
    IMAGE_VERSION = 21
    HOST_NAME = 22
    OCTETS = 23
    LATENCY = 24
    METHOD = 27
    RESULT = 28
    REASON = 29
    NAME = 30
    TRACE = 31
    BUILD_VERSION = 32
    LINK_COST = 33
    OCTET_RATE = 35
    FLOW_COUNT_L4 = 40
    FLOW_COUNT_L7 = 41
    FLOW_RATE_L4 = 42
    FLOW_RATE_L7 = 43
    GROUP = 46
    STREAM_IDENTITY = 47
    LOG_SEVERITY = 48
    LOG_TEXT = 49
    SOURCE_FILE = 50
    SOURCE_LINE = 51
    LINK_COUNT = 52
    OPER_STATUS = 53
    ROLE = 54
    UP_TIMESTAMP = 55
    DOWN_TIMESTAMP = 56
    DOWN_COUNT = 57
    OCTETS_REVERSE = 58
    OCTET_RATE_REVERSE = 59
    CONNECTOR = 60
    PROCESS_LATENCY = 61
    PROXY_HOST = 62
    PROXY_PORT = 63
    ERROR_LISTENER_SIDE = 64
    ERROR_CONNECTOR_SIDE = 65
    ACTIVE_TLS_ORDINAL = 66
    HTTP_PROXY = 67


def _camel(name: str) -> str:
    first, *others = name.lower().split("_")
    return first + "".join(word.capitalize() for word in others)


_LABELS: dict[int, str] = {attribute.value: _camel(attribute.name) for attribute in Attribute}
_LOG_LABELS = _LABELS | {Attribute.UP_TIMESTAMP: "upTimeStamp", Attribute.DOWN_TIMESTAMP: "downTimeStamp"}
_TYPE_LABELS: dict[int, str] = {kind.value: kind.name for kind in RecordType}

OF_COUNTERPART = frozenset((
    Attribute.TRACE, Attribute.CONNECTOR, Attribute.PROCESS_LATENCY, Attribute.PROXY_HOST, Attribute.PROXY_PORT,
    Attribute.ERROR_CONNECTOR_SIDE,
))  # fmt: skip
"""What the router at the other end of a flow may write into its record (section 8)."""


def label(attribute: int) -> str:
    """Return the name of an attribute; one that is not known by its number."""
    return _LABELS.get(attribute) or str(attribute)


def type_label(record_type: int) -> str:
    """Return the name of a record type; one that is not known by its number."""
    return _TYPE_LABELS.get(record_type) or str(record_type)


def log_line(attributes: Mapping[int, Value], *, is_begin: bool, is_end: bool) -> str:
    """Return a record as the log module FLOW_LOG has it (section 10)."""
    skipped = (Attribute.RECORD_TYPE, Attribute.IDENTITY, Attribute.START_TIME, Attribute.END_TIME)
    words = [type_label(int(attributes[Attribute.RECORD_TYPE])), f"[{attributes[Attribute.IDENTITY]}]"]
    words += ["BEGIN"] * is_begin + ["END"] * is_end
    words += [f"{_LOG_LABELS.get(key, key)}={attributes[key]}" for key in sorted(attributes) if key not in skipped]
    return " ".join(words)


# --- addresses of a source --------------------------------------------------------------------------------------------


def event_address(source: str) -> str:
    """Where heartbeats go, and records of what lives long."""
    return f"mc/sfe.{source}"


def flow_address(source: str) -> str:
    """Where records of flows and requests go."""
    return f"mc/sfe.{source}.flows"


def log_address(source: str) -> str:
    """Where records of log events go."""
    return f"mc/sfe.{source}.logs"


def direct_address(source: str) -> str:
    """Where a source takes FLUSH."""
    return f"sfe.{source}"


def counterpart_address(identity: str) -> str | None:
    """Return where the other end's part of a flow goes; None when `identity` is not `<source>:<number>`."""
    source, separator, number = identity.partition(":")
    if not separator or not source or not number.isdigit() or len(identity) > 64:
        return None
    return f"vfcr.{source}:0"


# --- octets -----------------------------------------------------------------------------------------------------------

_LONG = struct.Struct(">Q").pack
_INT = struct.Struct(">I").pack
_KEYS = {code: b"\x43" if code == 0 else bytes((0x52, code)) for code in range(256)}
_TYPES = {code: b"\x43\x43" if code == 0 else bytes((0x43, 0x52, code)) for code in range(256)}
_LARGEST = (1 << 64) - 1


def encode_records(records: Iterable[Mapping[int, Value]]) -> bytes:
    """Encode the body of a RECORD message: a value section with a list of maps.

    Keys are uint, numbers ulong, everything else a string. The codec of the engine does the same for any value, but
    this room may not know the engine, and flows come by the thousand.

    Args:
        records: keys from 0 to 255; numbers not negative (such a one, of a clock that was set back, is written as 0).
    """
    maps = [_encode_map(record) for record in records]
    body = b"".join(maps)
    return b"\x00\x53\x77\xd0" + _INT(len(body) + 4) + _INT(len(maps)) + body


def _encode_map(record: Mapping[int, Value]) -> bytes:
    parts = []
    for key, value in record.items():
        if key == 0:
            parts.append(_TYPES[int(value)])
            continue
        parts.append(_KEYS[key])
        if isinstance(value, str):
            octets = (value if len(value) <= MAX_TEXT else value[:MAX_TEXT]).encode("utf-8", "replace")
            size = len(octets)
            parts.append((bytes((0xA1, size)) if size < 256 else b"\xb1" + _INT(size)) + octets)
        elif value < 256:
            parts.append(bytes((0x53, value)) if value > 0 else b"\x44")
        else:
            parts.append(b"\x80" + _LONG(min(value, _LARGEST)))
    body = b"".join(parts)
    return b"\xd1" + _INT(len(body) + 4) + _INT(2 * len(record)) + body


def records_of(body: object) -> list[Attributes]:
    """Return the records of a decoded body.

    Attributes and types that are not known stay; values that are neither number nor text are left out.

    Raises:
        PeerError: it is no list of maps, or a map has no identity.
    """
    if not isinstance(body, list):
        raise PeerError("amqp:decode-error", "records: a list of maps is needed")
    found: list[Attributes] = []
    for entry in body:
        if not isinstance(entry, dict):
            raise PeerError("amqp:decode-error", "records: an entry is not a map")
        record: Attributes = {}
        for key, value in entry.items():
            if isinstance(key, int) and isinstance(value, (int, str)) and not isinstance(value, bool):
                record[int(key)] = str(value) if isinstance(value, str) else int(value)
        if not isinstance(record.get(Attribute.IDENTITY), str):
            raise PeerError("amqp:decode-error", "records: an entry without identity")
        found.append(record)
    return found
