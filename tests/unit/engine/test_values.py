from vanrouter.engine.values import Array, Described, Symbol, UInt


def test_symbols_equal_their_characters() -> None:
    assert Symbol("opcode") == "opcode"
    assert {Symbol("opcode"): 1} == {"opcode": 1}
    assert repr(Symbol("x")) == "Symbol('x')"


def test_described_values_compare_by_content() -> None:
    assert Described(1, "a") == Described(1, "a")
    assert Described(1, "a") != Described(2, "a")
    assert Described(1, "a") != "a"
    assert len({Described(1, "a"), Described(1, "a")}) == 1
    assert repr(Described(1, "a")) == "Described(1, 'a')"


def test_arrays_compare_by_content_and_descriptor() -> None:
    assert Array(UInt, [1, 2]) == Array(UInt, [1, 2])
    assert Array(UInt, [1], "d") != Array(UInt, [1])
    assert Array(UInt, [1]) == [1]
    assert repr(Array(UInt, [1])) == "Array(UInt, [1])"
