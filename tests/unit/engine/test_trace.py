"""Frame traces of the engine."""

from __future__ import annotations

import pytest

from vanrouter.engine import proton, trace


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
def test_frames_are_written_while_traced(caplog: pytest.LogCaptureFixture, level: str) -> None:
    transport, connection = proton.transport_new(), proton.connection_new()
    trace.start(transport, 7)
    assert trace.is_traced(transport)
    proton.transport_bind(transport, connection)
    proton.connection_set_container(connection, b"x")
    proton.connection_open(connection)
    with caplog.at_level(level, "vanrouter.protocol"):
        caplog.handler.setLevel(0)
        assert trace.is_wanted() == (level == "DEBUG")  # the trace of one connection does not ask for it
        assert proton.transport_pending(transport) > 0
    assert any(text.startswith("[C7]:FRAME: 0 -> @open(16) [") for text in caplog.messages)
    trace.stop(transport)
    trace.stop(transport)
    assert not trace.is_traced(transport)
    proton.transport_unbind(transport)
    proton.decref(transport)
    proton.connection_release(connection)
