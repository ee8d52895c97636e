"""Host names in policies are looked up beside the loop while it serves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vanrouter.net.reactor import Reactor
from vanrouter.server import host_names
from vanrouter.server.host_names import HostNames, lookup


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


def test_names_of_hosts() -> None:
    assert "127.0.0.1" in lookup("localhost")
    assert lookup("256.256.256.256") == []


def test_at_once_while_nothing_is_served(reactor: Reactor) -> None:
    assert "127.0.0.1" in (HostNames(reactor, lambda: None)("localhost") or [])


@pytest.mark.parametrize("answer", [["10.0.0.1"], []])
def test_later_while_the_loop_runs(reactor: Reactor, monkeypatch: pytest.MonkeyPatch, answer: list[str]) -> None:
    asked: list[str] = []
    found: list[list[str] | None] = []

    def look(name: str) -> list[str]:
        asked.append(name)
        return answer

    monkeypatch.setattr(host_names, "lookup", look)
    names = HostNames(reactor, lambda: found.append(names("a.test")))
    names.is_serving = True
    assert names("a.test") is None
    assert names("a.test") is None
    while not found:
        reactor.run_once(1)
    assert found == [answer]
    assert asked == ["a.test"]
    assert names("a.test") == (answer or None)  # one that was not found is asked for again
