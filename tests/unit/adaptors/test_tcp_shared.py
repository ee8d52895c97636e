from tests.unit.adaptors.streams import Loop
from tests.unit.adaptors.test_tcp_flow import FarSite
from vanrouter.adaptors.tcp_shared import plain_row

MEBIBYTE = 1 << 20


def test_beyond_the_bound_the_flow_that_holds_most_is_ended(loop: Loop) -> None:
    far = FarSite(loop)
    sink = far.answer()
    shared = far.site.adaptor.shared
    while not shared.memory.kept:
        loop.call(lambda: sink.push(bytes(MEBIBYTE)))  # type: ignore[attr-defined]
    assert shared.backlogged == {far.flow}
    shared.memory.set_limit(shared.memory.kept + 10)
    assert loop.call(lambda: sink.push(b"x" * 10)) is False  # type: ignore[attr-defined]
    assert far.site.listener.flows
    loop.call(lambda: sink.push(b"x"))  # type: ignore[attr-defined]
    assert not far.site.listener.flows
    assert (shared.memory.ended, shared.memory.kept, shared.backlogged) == (1, 0, set())


def test_rows_have_the_attributes_of_connections() -> None:
    row = plain_row(7, "127.0.0.1:5", "in", 3)
    assert (row["identity"], row["dir"], row["uptimeSeconds"], row["properties"]) == (
        "7",
        "in",
        3,
        {"qd.adaptor": "tcp"},
    )
