"""Samples of stacks are sorted into the room whose code ran, the C library's system calls apart."""

from __future__ import annotations

import pytest

from bench.harness.processes import BenchError
from bench.harness.sampling import INTERPRETER, KERNEL, OPENSSL, PROTON, count, room, shares

HERE = "/src/vanrouter/vanrouter"
LOOP = f"Reactor.run ({HERE}/net/reactor.py:155);Reactor.run_once ({HERE}/net/reactor.py:173)"
SEND = f"EngineConnection._send ({HERE}/engine/connection.py:283);sock_send (Modules/socketmodule.c:42)"
TLS = "pn_ssl (/tmp/python-qpid-proton/openssl.c:3);SSL_write (/usr/lib/libssl.so.3)"


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("", "net"),
        (f"Flow.read ({HERE}/adaptors/tcp_flow.py:193)", "adaptors"),
        (SEND, "engine"),
        (f"{SEND};send (/usr/lib/x86_64-linux-gnu/libc.so.6)", KERNEL),
        (f"{SEND};__send (/usr/lib/x86_64-linux-gnu/libc.so.6)", KERNEL),
        (f"{SEND};memcpy (/usr/lib/x86_64-linux-gnu/libc.so.6)", "engine"),
        ("lost (vanrouter/core/x.py:1);cdata_new (/src/vanrouter/.venv/lib/_cffi_backend.so)", "net"),
        ("pn_transport_process (/tmp/python-qpid-proton_12/src/core/transport.c:12)", PROTON),
        ("pn_io (/src/vanrouter/.venv/lib/cproton_ffi.abi3.so);malloc (/usr/lib/libc.so.6)", PROTON),
        (f"flush ({HERE}/engine/proton.py:9)", "engine"),
        (f"{TLS};0x7f (/usr/lib/libcrypto.so.3)", OPENSSL),
    ],
)
def test_room(inner: str, expected: str) -> None:
    assert room(f"{LOOP};{inner}" if inner else LOOP) == expected


def test_threads_beside_the_loop_do_not_count() -> None:
    assert room("run (/usr/lib/python3.11/threading.py:9);Reader.read (x.py:1)") is None


def test_a_stack_without_a_known_place() -> None:
    assert room("Reactor.run;strange") == INTERPRETER


def test_samples_of_the_same_room_are_added() -> None:
    raw = f"{LOOP} 3\n{LOOP};{SEND} 4\n{LOOP};{SEND};send (/usr/lib/libc.so.6) 5\nother (x.py:1) 9\n"
    assert count(raw) == {"net": 3, "engine": 4, KERNEL: 5}


def test_the_kernel_has_what_it_says_and_the_rest_is_divided() -> None:
    found = shares(count(f"{LOOP} 3\n{LOOP};{SEND} 1\n{LOOP};{SEND};send (/usr/lib/libc.so.6) 9"), 2.0, 0.8)
    assert found == pytest.approx({KERNEL: 0.4, "net": 0.45, "engine": 0.15})
    assert sum(found.values()) == pytest.approx(1)


def test_nothing_sampled_is_said() -> None:
    with pytest.raises(BenchError, match="nothing to divide"):
        shares(count(""), 1.0, 0.5)
