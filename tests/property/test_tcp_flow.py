"""Flows: octets are exact under any order of sends, ends and resets; each stream ends once whatever happens."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit.adaptors.services import Site
from tests.unit.adaptors.streams import Loop, connected, reset, running_loop
from tests.unit.adaptors.test_tcp_flow import FarEnd, Service
from vanrouter.core.stream import ACCEPTED, MODIFIED, REJECTED, RELEASED, StreamHead


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running_loop() as loop:
        yield Site(loop)


@pytest.fixture(scope="module")
def far_loop() -> Iterator[Loop]:
    with running_loop() as loop:
        yield loop


CLIENT, SERVER = 0, 1
steps = st.lists(
    st.tuples(
        st.sampled_from((CLIENT, SERVER)),
        st.sampled_from(("send", "send", "send", "receive", "finish", "reset")),
        st.integers(1, 150_000),
    ),
    max_size=12,
)


def receive_rest(sock: socket.socket) -> tuple[bytes, bool]:
    """Return what still comes, and whether it ended well."""
    data = b""
    try:
        while piece := sock.recv(1 << 16):
            data += piece
    except ConnectionError:
        return data, False
    return data, True


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, st.booleans())
@example([(CLIENT, "send", 70_000), (CLIENT, "finish", 1), (SERVER, "send", 1), (SERVER, "finish", 1)], False)
@example([(SERVER, "send", 5), (SERVER, "reset", 1), (CLIENT, "send", 5)], True)
def test_octets_are_exact(site: Site, script: list[tuple[int, str, int]], is_c_router: bool) -> None:
    site.router.is_c_router = is_c_router
    ends = site.pair()
    # A server that resets before the connector has seen its connection has refused it: the client's stream is retried.
    site.loop.wait_for(lambda: len(site.connector.flows) == len(site.listener.flows) == 1)
    sent, got = [b"", b""], [b"", b""]
    is_finished, is_reset = [False, False], [False, False]
    for who, action, count in script:
        if is_reset[who]:
            continue
        try:
            if action == "send" and not is_finished[who]:
                data = bytes((who + len(sent[who]) + place) & 255 for place in range(min(count, 997)))
                data = (data * (count // len(data) + 1))[:count]
                sent[who] += data[: ends[who].send(data)]
            elif action == "finish" and not is_finished[who]:
                is_finished[who] = True
                ends[who].shutdown(socket.SHUT_WR)
            elif action == "reset":
                is_reset[who] = True
                reset(ends[who])
            elif action == "receive" and len(got[who]) < len(sent[1 - who]):
                got[who] += ends[who].recv(count)
        except OSError:
            assert is_reset[1 - who]
    for who in (CLIENT, SERVER):
        if not is_reset[who] and not is_finished[who]:
            try:
                ends[who].shutdown(socket.SHUT_WR)
            except OSError:
                assert is_reset[1 - who]
    for who in (CLIENT, SERVER):
        if is_reset[who]:
            continue
        rest, is_well = receive_rest(ends[who])
        got[who] += rest
        assert sent[1 - who].startswith(got[who])
        if not any(is_reset):
            assert is_well
            assert got[who] == sent[1 - who]
    for end in ends:
        end.close()
    site.wait_until_empty()


events = st.lists(
    st.one_of(
        st.sampled_from(("answer", "answer c", "push", "finish", "abort", "writable", "pushes back")),
        st.sampled_from((0, ACCEPTED, REJECTED, RELEASED, MODIFIED)),
        st.tuples(st.just("received"), st.integers(0, 1 << 21)),
        st.sampled_from(("client sends", "client finishes", "client resets", "drop")),
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events)
def test_each_stream_ends_once(far_loop: Loop, script: list[object]) -> None:
    """A far end that does anything in any order, within the contract of the seam."""
    loop = far_loop
    site = Site(loop, connector={"address": "other"}, listener={"address": "far"})
    service = Service()
    subscription = loop.call(lambda: loop.router.subscribe_stream("far", service))
    client = connected(site.port)
    flow = loop.wait_for(lambda: service.producers and service.producers[0])
    server_end = FarEnd()
    reply_to = service.heads[0].reply_to
    assert reply_to
    has_ended_output = is_answered = is_client_closed = False

    def answer(is_vanrouter: bool) -> None:
        consumers = loop.router.subscriptions.get(reply_to)
        if consumers:
            head = StreamHead(to=reply_to, content_type="application/octet-stream", is_vanrouter=is_vanrouter)
            consumers[0].consumer.on_stream(head, server_end)

    for event in script:
        if isinstance(event, int):
            loop.call(lambda state=event: flow.outcome(state, True))
        elif isinstance(event, tuple):
            loop.call(lambda total=event[1]: flow.received(total))
        elif event in ("answer", "answer c") and not is_answered:
            is_answered = True
            loop.call(lambda event=event: answer(event == "answer"))
        elif event in ("push", "finish", "abort") and is_answered and not has_ended_output:
            has_ended_output = event != "push"
            work = {"push": lambda: flow.push(b"x" * 50_000), "finish": flow.finish, "abort": flow.abort}[str(event)]
            loop.call(work)
        elif event == "pushes back":
            for end in service.ends:
                end.is_open = not end.is_open
        elif event == "writable":
            loop.call(flow.writable)
        elif event == "drop":
            loop.call(flow.drop)
        elif str(event).startswith("client") and not is_client_closed:
            try:
                if event == "client sends":
                    client.send(b"y" * 100_000)
                elif event == "client finishes":
                    client.shutdown(socket.SHUT_WR)
                else:
                    is_client_closed = True
                    reset(client)
            except OSError:
                is_client_closed = True
    loop.call(subscription.cancel)
    loop.call(flow.drop)
    client.close()
    loop.call(site.adaptor.close)
    for end in service.ends[:-1]:
        assert end.events in (["finish settled"], ["finish"]), "a stream offered again had ended"
    assert len([event for event in service.ends[-1].events if event != "writable"]) == 1
    assert len(server_end.outcomes) <= 1
    assert len(server_end.outcomes) + has_ended_output >= int(is_answered and flow.early is None)
    assert (flow.sock, flow.peer, flow.out, flow.backlog, flow.bucket) == (None,) * 5
    assert site.adaptor.shared.memory.kept == 0
    assert loop.call(lambda: list(loop.router.subscriptions)) == []
    assert loop.call(lambda: list(loop.router.connections)) == []
    site.server.close()
