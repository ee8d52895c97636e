"""A thread without name servers, and threads beside it."""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from vanrouter.net.names import _ResolverState, ask_no_name_server


def ask_beside(question: Callable[[], Any]) -> Any:
    """Call it in a thread of its own, as what belongs to a thread has to be."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(question).result()


def name_servers() -> int:
    """How many the calling thread would ask."""
    libc = ctypes.CDLL(None)
    libc.__res_state.restype = ctypes.POINTER(_ResolverState)
    libc.__res_init()
    return int(libc.__res_state().contents.nscount)


def test_names_come_from_files_alone() -> None:
    def work() -> None:
        assert ask_no_name_server()
        with pytest.raises(socket.gaierror) as caught:
            socket.getaddrinfo("vanrouter-nowhere.invalid", None)
        assert caught.value.errno == socket.EAI_AGAIN  # no server was there to say that there is no such name
        assert socket.getaddrinfo("localhost", None)

    ask_beside(work)


def test_other_threads_ask_as_before() -> None:
    before = ask_beside(name_servers)

    def work() -> None:
        assert ask_no_name_server()
        assert ask_beside(name_servers) == before > 0

    ask_beside(work)


def test_a_c_library_without_that_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert not ask_no_name_server()
