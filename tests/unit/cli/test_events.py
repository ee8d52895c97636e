from __future__ import annotations

import json
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vanrouter.cli.events import MOST, chosen, follow, news, show
from vanrouter.mgmt.client import ManagementClient


def event(text: str, module: str = "SERVER", level: str = "info") -> list[object]:
    return [module, level, text, None, None, 0]


@given(st.lists(st.sampled_from("ab"), max_size=8), st.lists(st.sampled_from("ab"), max_size=8))
def test_what_is_new_completes_what_was_there(before: list[str], more: list[str]) -> None:
    old, new = [event(text) for text in before], [event(text) for text in more]
    found = news(old, old + new)
    assert (old + new)[len(old) + len(new) - len(found) :] == found
    assert len(found) <= len(new)


def test_what_was_lost_in_between_is_all_new() -> None:
    assert news([event("a")], [event("b"), event("c")]) == [event("b"), event("c")]
    assert news([event("a"), event("b")], [event("b"), event("c")]) == [event("c")]
    assert news([], [event("a")]) == [event("a")]


def test_modules_and_levels() -> None:
    events = [event("1"), event("2", "AGENT", "error"), event("3", "AGENT", "debug"), event("4", level="odd")]
    assert [one[2] for one in chosen(events, (), "debug")] == ["1", "2", "3", "4"]
    assert [one[2] for one in chosen(events, ("agent",), "info")] == ["2"]


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show([event("[red]" + "x" * 300)], output=None)
    assert capsys.readouterr().out == f"1970-01-01 00:00:00 SERVER (info) [red]{'x' * 300}\n"
    show([event("\x1b]0;x\x07")], output=None)
    assert capsys.readouterr().out == "1970-01-01 00:00:00 SERVER (info) \\x1b]0;x\\x07\n"
    show([event("a"), event("b")], output="json")
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["a", "b"]


def test_following() -> None:
    class Client:
        def __init__(self) -> None:
            self.answers = [[event("a"), event("b")], [event("a"), event("b")], [event("b"), event("c")]]

        def log(self, limit: int) -> list[list[object]]:
            assert limit == MOST
            return self.answers.pop(0)

    waits: list[float] = []
    found = follow(cast("ManagementClient", Client()), [event("a")], interval_s=2, wait=waits.append)
    assert [next(found) for _ in range(3)] == [[event("b")], [], [event("c")]]
    assert waits == [2, 2, 2]
