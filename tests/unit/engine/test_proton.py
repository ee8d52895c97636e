"""The engine's functions, bound once."""

from __future__ import annotations

import pytest

from vanrouter.engine import proton
from vanrouter.engine.sections import Symbol, decode, encode
from vanrouter.errors import VanrouterError


def test_every_function_is_there() -> None:
    assert not proton._absent
    proton.check_engine(needs_tls=False, needs_sasl=False)


def test_a_missing_function_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proton, "_absent", [])
    assert proton._bind("pn_no_such_function") is None
    with pytest.raises(VanrouterError, match=r"pn_no_such_function.*0\.40"):
        proton.check_engine(needs_tls=False, needs_sasl=False)


def test_tls_and_sasl_are_asked_for_where_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proton, "ssl_present", lambda: False)
    monkeypatch.setattr(proton, "sasl_extended", lambda: False)
    proton.check_engine(needs_tls=False, needs_sasl=False)
    with pytest.raises(VanrouterError, match="without TLS"):
        proton.check_engine(needs_tls=True, needs_sasl=False)
    with pytest.raises(VanrouterError, match="without Cyrus SASL"):
        proton.check_engine(needs_tls=False, needs_sasl=True)


def test_text() -> None:
    assert proton.text(proton.NULL) is None
    assert proton.text(proton.new("char[]", b"caf\xc3\xa9")) == "café"
    assert proton.text(proton.new("char[]", b"a\xff")) == "a\ufffd"


def test_conditions() -> None:
    connection = proton.connection_new()
    condition = proton.connection_condition(connection)
    assert proton.condition_text(condition) is None
    proton.set_condition(condition, "amqp:not-found", "wo? café \udcff")
    assert proton.condition_text(condition) == ("amqp:not-found", "wo? café \\udcff")
    proton.condition_clear(condition)
    assert proton.condition_text(condition) is None
    proton.connection_release(connection)


@pytest.mark.parametrize("value", [None, 5, "text", b"octets", [1, "a", None], {"k": Symbol("v")}, Symbol("s")])
def test_values_in_data_objects(value: object) -> None:
    data = proton.data_new(16)
    proton.put_encoded(data, encode(value))
    assert decode(proton.get_encoded(data))[0] == value
    proton.put_encoded(data, b"")
    assert proton.get_encoded(data) == b""
    proton.data_free(data)
    assert proton.get_encoded(proton.NULL) == b""
