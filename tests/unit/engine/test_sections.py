from vanrouter.engine import sections


def test_the_door_shows_what_it_names() -> None:
    assert sections.decode(sections.encode([sections.Symbol("a"), None])) == (["a", None], 7)
    assert all(hasattr(sections, name) for name in sections.__all__)


def test_ten_thousand_addresses_pass() -> None:
    rows = [[f"Maddress{number}", 3, 0] for number in range(10_000)]
    octets = sections.encode({"id": "A", "pv": 2, "exist": rows})
    assert sections.decode(octets)[0]["exist"] == rows
