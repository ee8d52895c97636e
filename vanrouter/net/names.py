"""Name servers are never asked by the loop's thread.

Layer: 2. Cyrus SASL looks up the machine's own name for each connection that it authenticates. Where that name has no
dot and no entry in /etc/hosts, the resolver asks the network's name servers: with a silent one, the loop stood still
for five seconds, for each connection. There is no setting of SASL's or the engine's against it; but the state of the C
library's resolver belongs to a thread, and without name servers in it the answer comes at once, from files. Other
threads, in which the router resolves what it is told to connect to, ask as before.
"""

from __future__ import annotations

import ctypes


class _ResolverState(ctypes.Structure):
    """The beginning of `struct __res_state`, part of glibc's binary interface (resolv.h)."""

    _fields_ = (
        ("retrans", ctypes.c_int),
        ("retry", ctypes.c_int),
        ("options", ctypes.c_ulong),
        ("nscount", ctypes.c_int),
    )


def ask_no_name_server() -> bool:
    """Have this thread find names in files only, from now on; False where the C library has no such state."""
    libc = ctypes.CDLL(None)
    try:
        state_of_thread, begin = libc.__res_state, libc.__res_init
    except AttributeError:  # not glibc
        return False
    state_of_thread.restype = ctypes.POINTER(_ResolverState)
    begin()
    # What a program has changed is not read from resolv.conf again when that file changes (resolver(3)).
    state_of_thread().contents.nscount = 0
    return True
