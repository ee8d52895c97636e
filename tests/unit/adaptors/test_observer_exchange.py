"""Requests as observers tell of them."""

from __future__ import annotations

import pytest

from vanrouter.adaptors.observer_exchange import UnobservableError, first_of
from vanrouter.errors import PeerError


@pytest.mark.parametrize(
    ("field", "first"),
    [(b" 192.168.0.1, 203.168.2.2", "192.168.0.1"), (b"2001:db8::1", "2001:db8::1"), (b"", ""), (b" ,x", "")],
)
def test_the_first_forwarded_address(field: bytes, first: str) -> None:
    assert first_of(field) == first


def test_what_cannot_be_followed_is_a_fault_of_the_peer() -> None:
    error = UnobservableError("why")
    assert isinstance(error, PeerError)
    assert error.description == "why"
