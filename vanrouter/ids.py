"""Small values shared by all floors: bounds and random suffixes of names on the wire, and the number of a start.

Layer: 1 (imports the standard library only).
"""

from __future__ import annotations

import secrets

AREA = "0"
"""The only area that exists in any release (router protocol, section 0)."""

MAX_ADDRESS_LENGTH = 4000
"""Characters of an address that a link or a service may name. An address travels to every router of the network."""

SUFFIX_LENGTH = 15
"""Characters of a random suffix: link names, temp addresses, correlators, mesh ids (router protocol, section 12)."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+_"


def random_suffix(length: int = SUFFIX_LENGTH) -> str:
    """Return an unguessable name part over `a-z A-Z 0-9 + _` (64 characters, 6 bits each)."""
    return "".join([_ALPHABET[octet & 63] for octet in secrets.token_bytes(length)])


def boot_number(started_at_s: float) -> int:
    """Return the instance of a router (router protocol, section 5.8), from its start by the wall clock.

    In milliseconds, where the C router counts seconds: peers look at the difference alone, and one that is killed and
    started again within its second must not be taken for the same.
    """
    return int(started_at_s * 1000)
