import pytest

from tests.unit.adaptors.services import Site
from tests.unit.adaptors.streams import Loop, receive_all
from vanrouter.adaptors.tcp import ListenerConfig, TcpAdaptor
from vanrouter.errors import ConfigError


def test_names_are_unique(loop: Loop) -> None:
    site = Site(loop)
    with pytest.raises(ConfigError, match="exists already"):
        site.listen("l")
    with pytest.raises(ConfigError, match="exists already"):
        site.connect_to(site.server, "c")


def test_listener_addresses_are_checked(loop: Loop) -> None:
    site = Site(loop)
    site.listen("m", address=None, strategy="weighted")
    for listener, value, text in (
        ("none", 1, "there is no"),
        ("l", 1, "multiAddressStrategy none"),
        ("m", 0, "weight"),
    ):
        with pytest.raises(ConfigError, match=text):
            loop.call(lambda to=listener, value=value: site.adaptor.add_listener_address(to, "a", "svc", value))


def test_a_tenant_stands_in_front_of_stream_addresses(loop: Loop) -> None:
    adaptor = loop.call(lambda: TcpAdaptor(loop.router, tenant="van1"))
    listener = loop.call(
        lambda: adaptor.create_listener(ListenerConfig(name="l", host="127.0.0.1", port="0", address="svc"))
    )
    assert loop.call(listener.choose_address).to == "van1/svc"
    assert loop.router.watches[-1].address == "svc"
    loop.call(adaptor.close)


def test_draining_and_closing(loop: Loop) -> None:
    site = Site(loop)
    client, _ = site.pair()
    loop.wait_for(lambda: site.adaptor.open_flows == 2)
    loop.call(site.adaptor.stop_accepting)
    with pytest.raises(ConnectionRefusedError):
        site.client()
    assert site.adaptor.open_flows == 2
    loop.call(site.adaptor.close)
    receive_all(client)
    assert site.adaptor.open_flows == 0
