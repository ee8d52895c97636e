from __future__ import annotations

import pytest

from vanrouter.mgmt.attributes import (
    cut,
    entity_id,
    flag,
    many,
    mapping,
    measured,
    path,
    properties,
    quoted,
    suggestion,
    text,
    whole,
    word,
)
from vanrouter.mgmt.secrets import Secret


@pytest.mark.parametrize(
    ("value", "stored"), [("a", "a"), (b"a", "a"), (5672, "5672"), (True, "true"), (False, "false"), (1.5, "1.5")]
)
def test_text_takes_any_single_value(value: object, stored: str) -> None:
    assert text("port", "C", "").convert(value) == stored
    assert path("file", "C", "").convert(value) == stored


@pytest.mark.parametrize("value", [[], {}, ()])
def test_text_refuses_collections(value: object) -> None:
    with pytest.raises(ValueError, match="one text is needed"):
        text("port", "C", "").convert(value)


def test_text_refuses_halves_of_characters() -> None:
    assert text("address", "C", "").convert("\N{GRINNING FACE}") == "\N{GRINNING FACE}"
    with pytest.raises(ValueError, match="half of a character"):
        text("address", "C", "").convert("a\ud83d")


def test_text_of_something_else_is_its_description() -> None:
    assert text("x", "C", "").convert(None) == "None"


def test_secret_text_is_kept_hidden() -> None:
    stored = text("password", "C", "", secret=True).convert("pass:x")
    assert stored == Secret("pass:x")
    assert "x" not in repr(stored).removeprefix("Secret")


@pytest.mark.parametrize(("value", "stored"), [(5, 5), ("5", 5), (" -5 ", -5), ("+5", 5), (5.0, 5)])
def test_integers_and_their_text(value: object, stored: int) -> None:
    assert whole("n", "C", "").convert(value) == stored


@pytest.mark.parametrize("value", ["", "x", "1.5", 1.5, True, None, [], "٣", "9" * 30, b"1"])
def test_what_is_no_integer(value: object) -> None:
    with pytest.raises(ValueError, match=r"invalid literal for int\(\)"):
        whole("n", "C", "").convert(value)


def test_integers_have_a_range() -> None:
    bounded = whole("n", "C", "", minimum=1, maximum=9)
    assert bounded.convert(9) == 9
    with pytest.raises(ValueError, match="1 to 9 is allowed"):
        bounded.convert(10)
    with pytest.raises(ValueError, match="at least 1"):
        whole("n", "C", "", minimum=1).convert(0)
    with pytest.raises(ValueError, match="out of range"):
        whole("n", "C", "").convert(2**64)


@pytest.mark.parametrize("value", ["yes", "TRUE", " on ", True, 1, "Yes"])
def test_true(value: object) -> None:
    assert flag("b", "C", "").convert(value) is True


@pytest.mark.parametrize("value", ["no", "False", "OFF", False, 0, []])
def test_false(value: object) -> None:
    assert flag("b", "C", "").convert(value) is False


def test_other_words_are_no_boolean() -> None:
    with pytest.raises(ValueError, match="Invalid Boolean value 'maybe'"):
        flag("b", "C", "").convert("maybe")


def test_words_and_their_index() -> None:
    mode = word("mode", ("standalone", "interior"), "C", "", extension_words=("extra",))
    for value in ("interior", 1, "1"):
        assert mode.convert(value) == "interior"
    assert mode.convert("extra") == "extra"
    for value in ("Interior", 3, -1, True, "999999999999999999999", None, []):
        with pytest.raises(ValueError, match="Invalid value for enum"):
            mode.convert(value)
    with pytest.raises(ValueError, match="did you mean 'interior'"):
        mode.convert("inferior")


def test_collections() -> None:
    assert many("l", "C", "").convert((1, 2)) == [1, 2]
    assert mapping("m", "C", "").convert({"é": 1}) == {"é": 1}
    with pytest.raises(ValueError, match="a list is needed"):
        many("l", "C", "").convert("x")
    with pytest.raises(ValueError, match="a map is needed"):
        mapping("m", "C", "").convert("x")
    with pytest.raises(ValueError, match="every key must be text"):
        mapping("m", "C", "").convert({1: 1})
    with pytest.raises(ValueError, match="Property keys must be ASCII encoded"):
        properties("p", "C", "").convert({"é": 1})


def test_access_letters() -> None:
    assert (text("a", "CU", "").creatable, text("a", "CU", "").updatable, text("a", "CU", "").settable) == (True,) * 3
    assert (text("a", "F", "").creatable, text("a", "F", "").settable) == (False, True)
    assert not text("a", "", "").settable


def test_quoted_values_are_short() -> None:
    assert len(quoted("x" * 1000)) < 100
    assert quoted(10**500) == "a huge integer"
    assert quoted({}) == "a dict"
    assert quoted(True) == "True"
    assert quoted(None) == "a NoneType"


def test_cut_texts() -> None:
    assert cut("short") == "short"
    assert len(cut("x" * 1000)) == 83


def test_suggestions() -> None:
    assert suggestion("prot", ("port", "host")) == "; did you mean 'port'?"
    assert suggestion("zzz", ("port",)) == ""
    assert suggestion("p" * 1000, ("port",)) == ""


def test_what_is_measured_can_be_drawn_and_not_set() -> None:
    assert measured("n", "").graph
    assert not measured("n", "").settable
    assert entity_id("link", "", "").convert(7) == "7"
