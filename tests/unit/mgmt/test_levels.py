from __future__ import annotations

import pytest

from vanrouter.mgmt.levels import LEVELS, parse_levels


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("info+", {"info", "warning", "error", "critical"}),
        ("debug+", set(LEVELS)),
        ("warning", {"warning"}),
        ("info, critical", {"info", "critical"}),
        ("info;error : debug", {"info", "error", "debug"}),
        ("Debug", {"debug"}),
        ("trace+", set(LEVELS)),
        ("warn+", {"warning", "error", "critical"}),
        ("cr", {"critical"}),
        ("", set()),
        ("none", set()),
        ("none,error", {"error"}),
    ],
)
def test_levels(text: str, levels: set[str]) -> None:
    assert parse_levels(text) == levels


def test_default_leaves_it_to_the_default_module() -> None:
    assert parse_levels("default") is None
    assert parse_levels("DEFAULT") is None


@pytest.mark.parametrize("text", ["foo", "info++", "+", "de", "x" * 1000])
def test_unknown_levels_are_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(ValueError, match="use a comma list of none, debug, info") as caught:
        parse_levels(text)
    assert len(str(caught.value)) < 200
