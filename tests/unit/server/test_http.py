import socket

import pytest

from tests.unit.server.sites import LISTENER, ROUTER, Bench
from vanrouter.errors import ConfigError
from vanrouter.server.http import check

SERVICES = """
httpListener {
    name: web
    host: 127.0.0.1
    port: 0
    address: web
    whenUnreachable: 503
}
"""


def test_services_come_and_go() -> None:
    bench = Bench(ROUTER + LISTENER + SERVICES).start()
    listener = bench.live("web")
    manager = bench.manager
    (row,) = manager.query("httpListener", extensions=True)
    assert row["operStatus"] == "up"
    with socket.create_connection(("127.0.0.1", listener.bound_port)) as client:
        client.setblocking(False)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        bench.settle()
        assert client.recv(1000).startswith(b"HTTP/1.1 503")
        (info,) = manager.query("httpRequestInfo", extensions=True)
        assert info["name"] == "i_127.0.0.1_web"
        assert info["details"] == {"GET:503": 1}
        manager.call("CREATE", {"address": "web", "port": "1"}, type="httpConnector", name="back")
        assert listener.is_reachable
        manager.call("DELETE", type="httpConnector", name="back")
        assert not listener.is_reachable
        manager.call("DELETE", type="httpListener", name="web")
        assert not bench.site.http.services
        bench.settle()
    bench.close()


@pytest.mark.parametrize(
    ("attributes", "key"),
    [
        ({"aggregation": "json", "form": "stream"}, "aggregation"),
        ({"eventChannel": True, "form": "stream"}, "eventChannel"),
        ({"aggregation": "json", "form": "message", "protocolVersion": "HTTP2"}, "aggregation"),
    ],
)
def test_what_contradicts_itself(attributes: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        check("httpListener", attributes)
