"""What a peer may say before it is authenticated, checked before Qpid Proton reads it.

Layer: 2. Source: AMQP 1.0, part 5.3 (SASL), part 2.3 (frames). Proton 0.40 hands on whatever frame comes in its SASL
layer: an `open` there counts as one of an authenticated peer, and a `sasl-response` that no `sasl-init` preceded ends
in Cyrus SASL with a null pointer, which takes the process with it (both seen). So a client's octets are followed here,
frame by frame, from the SASL header to the AMQP header; nothing else is looked at, and nothing afterwards.
"""

from __future__ import annotations

from enum import Enum

HEADER_BYTES = 8
SASL_HEADER = b"AMQP\x03"
AMQP_NAME = b"AMQP"
SASL_FRAME = 1
INIT = 0x41
RESPONSE = 0x43
DESCRIPTOR_BYTES = 10
"""Octets of the longest form of a numeric descriptor: 0x00 0x80 and eight octets."""
UNEXPECTED = ("amqp:unauthorized-access", "a frame that has no place before the SASL outcome")


class Verdict(Enum):
    """What has been found out so far."""

    MORE = "more"
    """Nothing wrong yet; what comes next is to be looked at, too."""
    PASSED = "passed"
    """There is nothing to be looked at any more."""
    BROKEN = "broken"
    """These octets must not reach Proton: the connection ends."""


class Opening:
    """Follows the first octets of one client. Holds the beginning of one frame: 1,038 octets at most."""

    __slots__ = ("_expected", "_held", "_in_sasl", "_skip")

    def __init__(self) -> None:
        self._held = bytearray()
        self._skip = 0
        """Octets of the frame at hand that are still to come, and say nothing more."""
        self._in_sasl = False
        self._expected = INIT

    def look(self, octets: bytes | memoryview) -> Verdict:
        """Follow the next octets of the client; ask before Proton gets them.

        Args:
            octets: as they came, in pieces of any size.
        """
        self._held += octets
        while True:
            dropped = min(self._skip, len(self._held))
            del self._held[:dropped]
            self._skip -= dropped
            if self._skip or len(self._held) < HEADER_BYTES:
                return Verdict.MORE
            if not self._in_sasl:
                if not self._held.startswith(SASL_HEADER):
                    return Verdict.PASSED  # AMQP, TLS, or what Proton refuses by itself
                self._in_sasl = True
                self._skip = HEADER_BYTES
                continue
            if self._held.startswith(AMQP_NAME):
                return Verdict.PASSED
            verdict = self._look_at_frame()
            if verdict is not None:
                return verdict

    def _look_at_frame(self) -> Verdict | None:
        """Judge the frame that begins here; None: it is good, and skipped."""
        held = self._held
        size, begin, kind = int.from_bytes(held[:4], "big"), held[4] * 4, held[5]
        if begin < HEADER_BYTES or size < begin:
            return Verdict.PASSED  # Proton ends it with a framing error
        if size > begin:
            if kind != SASL_FRAME:
                return Verdict.BROKEN
            if len(held) < min(size, begin + DESCRIPTOR_BYTES):
                return Verdict.MORE
            if _descriptor(held[begin : begin + DESCRIPTOR_BYTES]) != self._expected:
                return Verdict.BROKEN
            self._expected = RESPONSE
        self._skip = size
        return None


def _descriptor(body: bytes | bytearray) -> int | None:
    """Return the numeric descriptor that a frame's body begins with; None where there is none."""
    if body[:2] == b"\x00\x53" and len(body) > 2:
        return body[2]
    if body[:2] == b"\x00\x80" and len(body) >= DESCRIPTOR_BYTES:
        return int.from_bytes(body[2:DESCRIPTOR_BYTES], "big")
    return None
