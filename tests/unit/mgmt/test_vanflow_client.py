"""A collector at a real site in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.unit.server.sites import LISTENER, ROUTER
from vanrouter.adaptors.amqp import AmqpListener
from vanrouter.mgmt.client import ClientError
from vanrouter.mgmt.config import load_text
from vanrouter.mgmt.logs import Logs
from vanrouter.mgmt.options import StartOptions
from vanrouter.mgmt.vanflow import RecordType
from vanrouter.mgmt.vanflow_client import Collector
from vanrouter.server.site import Site


class Running:
    """A site that runs."""

    def __init__(self) -> None:
        self.logs = Logs()
        self.site = Site(load_text(ROUTER + LISTENER, "test.conf"), StartOptions(logs=self.logs, on_ready=lambda: None))
        self.site.start()
        (listener,) = (live for live in self.site.objects.values() if isinstance(live, AmqpListener))
        assert listener._acceptor is not None
        self.port = listener._acceptor.port
        self._thread = threading.Thread(target=self.site.reactor.run)
        self._thread.start()

    def _end(self) -> None:
        for entity in list(self.site.objects):
            self.site.delete(entity)
        self.site.shut_down()

    def stop(self) -> None:
        if self._thread.is_alive():
            self.site.reactor.call_from_thread(self._end)
            self._thread.join(10)
            self.site.reactor.close()
            self.logs.shutdown()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.stop()


def test_a_collector_hears_of_its_router(running: Running) -> None:
    with Collector(f"127.0.0.1:{running.port}", wants_logs=True) as collector:
        record = collector.wait_for(lambda picture: picture.live(RecordType.ROUTER), 10)
        assert [found[30] for found in record.values()] == ["0/S"]
        with collector.picture() as picture:
            assert len(picture.sources) == 1
        assert collector.wait_for(lambda picture: None, 0.01) is None
        # Missing messages: everything is asked for once more.
        running.site.reactor.call_from_thread(running.site.flows.recorder.source.flush)
        assert collector.wait_for(lambda picture: picture.of_type(RecordType.ROUTER), 10)


def test_a_router_that_goes_away_is_an_error(running: Running) -> None:
    with Collector(f"127.0.0.1:{running.port}") as collector:
        collector.wait_for(lambda picture: picture.live(RecordType.ROUTER), 10)
        running.stop()
        with pytest.raises(ClientError, match=f"127.0.0.1:{running.port}"):
            collector.wait_for(lambda picture: None, 10)


def test_nobody_listens_at_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ClientError, match="refused"):
        Collector(f"127.0.0.1:{port}")


def test_a_silent_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(ClientError, match=r"no answer within 0\.2 s"):
            Collector(f"127.0.0.1:{port}", timeout_s=0.2)


def test_a_wrong_url() -> None:
    with pytest.raises(ClientError, match="scheme"):
        Collector("http://127.0.0.1")
