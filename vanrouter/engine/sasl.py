"""A guard before SASL: a client's steps out of turn fail its authentication, and not the process.

Layer: 2. Source: AMQP 1.0, part 5.3; `proton/sasl_plugin.h`, by which an implementation of SASL is put under Proton.
Proton 0.40 hands a `sasl-response` on to Cyrus SASL whether a `sasl-init` came before it or not, and a `sasl-init`
without a mechanism as a null pointer; both ended the process. It also begins anew with every further `sasl-init`, and
keeps a little memory each time. So the implementation at hand is registered again with a check before the two functions
that take a client's steps: what comes inside TLS, which Proton alone sees, is covered with the rest. They are called
once or twice for each connection; no other octets pass here.
"""

from __future__ import annotations

import ctypes
from typing import Any

from vanrouter.engine import proton

FUNCTIONS = 14
FREE = 0
PROCESS_INIT = 5
PROCESS_RESPONSE = 6
"""Functions of `pnx_sasl_implementation`, and the places among them of those with a check."""

FREE_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

INIT_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
RESPONSE_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
"""Arguments: the transport, the mechanism's name with `sasl-init`, and what the client says. Of `ctypes`, because
cffi's callbacks need memory that is writable and executable, which a hardened system refuses."""

POSTED_OUTCOME = 7
"""Of `pnx_sasl_state`: the outcome is to be sent next."""

UNEXPECTED = ("amqp:unauthorized-access", "a frame that has no place before the SASL outcome")


class Guard:
    """The functions of an implementation with the check. The engine calls it: it lives as long as the process."""

    def __init__(self, original: Any) -> None:
        """Take an implementation, `original`: a pointer to its functions."""
        addresses = [int(proton.cast("uintptr_t", original[index])) for index in range(FUNCTIONS)]
        self._begun: set[int] = set()
        """Transports between two steps of a mechanism."""
        self._free = FREE_TYPE(addresses[FREE])
        self._process_init = INIT_TYPE(addresses[PROCESS_INIT])
        self._process_response = RESPONSE_TYPE(addresses[PROCESS_RESPONSE])
        self._checked = {
            FREE: FREE_TYPE(self._on_free),
            PROCESS_INIT: INIT_TYPE(self._on_init),
            PROCESS_RESPONSE: RESPONSE_TYPE(self._on_response),
        }
        for place, function in self._checked.items():
            addresses[place] = ctypes.cast(function, ctypes.c_void_p).value or 0
        self.functions = proton.new("void *[]", [proton.cast("void *", address) for address in addresses])

    def _on_free(self, transport: int) -> None:
        self._begun.discard(transport)
        self._free(transport)

    def _on_init(self, transport: int, mechanism: int | None, octets: int) -> None:
        if mechanism is None or transport in self._begun or not _is_open(transport):
            self._refuse(transport)
            return
        self._process_init(transport, mechanism, octets)
        if _is_open(transport):
            self._begun.add(transport)

    def _on_response(self, transport: int, octets: int) -> None:
        if transport not in self._begun:
            self._refuse(transport)
            return
        self._process_response(transport, octets)
        if not _is_open(transport):
            self._begun.discard(transport)

    def _refuse(self, transport: int) -> None:
        self._begun.discard(transport)
        pointer = _pointer(transport)
        proton.set_condition(proton.transport_condition(pointer), *UNEXPECTED)
        proton.sasl_set_failed(pointer)
        proton.sasl_set_desired_state(pointer, POSTED_OUTCOME)


def _pointer(transport: int) -> Any:
    return proton.cast("pn_transport_t *", transport)


def _is_open(transport: int) -> bool:
    """Tell whether there is no outcome yet."""
    return bool(proton.sasl_outcome(proton.sasl_new(_pointer(transport))) == proton.SASL_UNKNOWN)


_guards: list[Guard] = []


def stand_guard() -> None:
    """Put the guard before SASL, for all connections made from now on; further calls change nothing."""
    if _guards:
        return
    guard = Guard(proton.sasl_cyrus[0] or proton.sasl_built_in)
    _guards.append(guard)
    proton.sasl_set_default_implementation(guard.functions)


def is_undecided(transport: Any) -> bool:
    """Tell whether a peer is inside its SASL layer: it has begun, and there is no outcome."""
    has_outcome = proton.sasl_outcome(proton.sasl_new(transport)) != proton.SASL_UNKNOWN
    return not has_outcome and bool(proton.sasl_get_context(transport))
