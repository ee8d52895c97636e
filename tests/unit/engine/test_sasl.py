"""What a client says before it is authenticated, to an engine with the guard before its SASL."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vanrouter.engine import proton
from vanrouter.engine.sasl import UNEXPECTED, is_undecided, stand_guard
from vanrouter.engine.sections import Described, Symbol, ULong, encode
from vanrouter.engine.security import start_sasl

SASL = b"AMQP\x03\x01\x00\x00"
AMQP = b"AMQP\x00\x01\x00\x00"


def sasl(code: int, *fields: object) -> bytes:
    body = encode(Described(ULong(code), list(fields)))
    return struct.pack(">IBBH", 8 + len(body), 2, 1, 0) + body


ANONYMOUS = sasl(0x41, Symbol("ANONYMOUS"), b"")
RESPONSE = sasl(0x43, b"x")


class Server:
    """The server's end of a connection without a socket."""

    def __init__(self, mechanisms: str | None) -> None:
        self.transport = proton.transport_new()
        self.connection = proton.connection_new()
        self.said = b""
        proton.transport_set_server(self.transport)
        start_sasl(self.transport, mechanisms, config_dir=None, config_name=None, allow_insecure=True)
        proton.transport_bind(self.transport, self.connection)

    def take(self, octets: bytes) -> None:
        """Push what the client says, and note what it is answered."""
        while octets:
            taken = proton.transport_push(self.transport, octets, len(octets))
            if taken <= 0:
                break
            octets = octets[taken:]
        room = bytearray(4096)
        while (count := proton.transport_pending(self.transport)) > 0:
            count = proton.transport_peek(self.transport, proton.from_buffer("char[]", room), min(count, len(room)))
            self.said += room[:count]
            proton.transport_pop(self.transport, count)

    @property
    def outcome(self) -> int:
        return int(proton.sasl_outcome(proton.sasl_new(self.transport)))

    @property
    def condition(self) -> str:
        return (proton.condition_text(proton.transport_condition(self.transport)) or ("", ""))[0]

    def free(self) -> None:
        proton.transport_unbind(self.transport)
        proton.decref(self.transport)
        proton.connection_release(self.connection)
        proton.decref(self.connection)


@pytest.fixture(autouse=True, scope="module")
def guard() -> None:
    stand_guard()
    stand_guard()


@contextmanager
def server(mechanisms: str | None = None) -> Iterator[Server]:
    made = Server(mechanisms)
    yield made
    made.free()


OUT_OF_TURN = {
    "a response first": RESPONSE,
    "an empty response first": sasl(0x43),
    "no mechanism": sasl(0x41),
    "a mechanism without a name": sasl(0x41, Symbol("")),
    "no mechanism, then a response": sasl(0x41, None) + RESPONSE,
}


@pytest.mark.parametrize("mechanisms", [None, "PLAIN", "PLAIN "])
@pytest.mark.parametrize("words", OUT_OF_TURN)
def test_a_step_out_of_turn_fails(words: str, mechanisms: str | None) -> None:
    with server(mechanisms) as far:
        far.take(SASL + OUT_OF_TURN[words])
        assert far.outcome not in (proton.SASL_UNKNOWN, proton.SASL_OK)
        assert far.condition == UNEXPECTED[0]
        assert not proton.transport_is_authenticated(far.transport)


@pytest.mark.parametrize("steps", [RESPONSE, ANONYMOUS, sasl(0x41, Symbol("PLAIN"), b"\0a\0b")])
def test_no_step_counts_after_the_outcome(steps: bytes) -> None:
    with server() as far:
        far.take(SASL + ANONYMOUS)
        assert far.outcome == proton.SASL_OK
        assert proton.transport_is_authenticated(far.transport)
        far.take(AMQP + steps)
        assert far.condition == UNEXPECTED[0]


def test_who_keeps_to_the_order_gets_in() -> None:
    with server() as far:
        far.take(SASL + sasl(0x41, Symbol("LOGIN")))
        assert is_undecided(far.transport)
        assert sasl(0x42, b"Username:") in far.said
        far.take(RESPONSE + sasl(0x43, b"a wrong password"))
        assert far.outcome not in (proton.SASL_UNKNOWN, proton.SASL_OK)
        assert far.condition == UNEXPECTED[0]


@pytest.mark.parametrize(
    ("octets", "is_within"), [(b"", False), (AMQP, False), (SASL, True), (SASL + ANONYMOUS, False)]
)
def test_where_a_peer_is(octets: bytes, is_within: bool) -> None:
    with server() as far:
        far.take(octets)
        assert is_undecided(far.transport) == is_within


STEPS = st.lists(
    st.sampled_from(
        [
            RESPONSE,
            sasl(0x43),
            ANONYMOUS,
            sasl(0x41),
            sasl(0x41, Symbol("SCRAM-SHA-256"), b"n,,n=user,r=abc"),
            sasl(0x41, Symbol("DIGEST-MD5")),
            sasl(0x41, Symbol("LOGIN")),
            sasl(0x40, Symbol("PLAIN")),
            sasl(0x44),
            AMQP,
            SASL,
        ]
    ),
    max_size=6,
)


@given(steps=STEPS, size=st.integers(1, 60))
def test_no_order_ends_the_process(steps: list[bytes], size: int) -> None:
    octets = SASL + b"".join(steps)
    with server() as far:
        for begin in range(0, len(octets), size):
            far.take(octets[begin : begin + size])
        entered = bool(proton.transport_is_authenticated(far.transport))
        assert not entered or steps[0] == ANONYMOUS
