import pytest

from vanrouter.adaptors.tcp_config import ConnectorConfig, ListenerConfig
from vanrouter.errors import ConfigError
from vanrouter.net.tls import TlsFiles


def test_a_listener_from_its_attributes() -> None:
    tls = TlsFiles(cert_file="c", key_file="k")
    config = ListenerConfig.from_attributes(
        {
            "name": "l", "host": "::1", "port": 5000, "address": "svc", "backlog": 5, "observer": "none",
            "authenticatePeer": True,
            "idleTimeoutSeconds": 3, "halfCloseTimeoutSeconds": 4, "whenUnreachable": "refuse",
            "multiAddressStrategy": "none", "siteId": "ignored",
        },
        tls,
    )  # fmt: skip
    assert config == ListenerConfig(
        name="l", host="::1", port="5000", address="svc", backlog=5, observer="none", authenticate_peer=True, tls=tls,
        idle_timeout_s=3, half_close_timeout_s=4, when_unreachable="refuse",
    )  # fmt: skip
    defaults = ListenerConfig.from_attributes({"port": "0", "address": "svc"})
    assert (defaults.host, defaults.strategy, defaults.when_unreachable) == ("", "none", "close")


@pytest.mark.parametrize("attributes", [{}, {"address": "a", "multiAddressStrategy": "priority"}])
def test_an_address_or_a_strategy(attributes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="Exactly one of"):
        ListenerConfig.from_attributes({"port": "0", **attributes})


def test_a_connector_from_its_attributes() -> None:
    config = ConnectorConfig.from_attributes(
        {
            "name": "c", "host": "db", "port": "5432", "address": "svc", "verifyHostname": False, "weight": 9,
            "connectTimeoutSeconds": 2, "healthCheck": "http:/ok", "healthCheckIntervalSeconds": 1,
            "healthyThreshold": 2, "unhealthyThreshold": 4, "idleTimeoutSeconds": 3, "halfCloseTimeoutSeconds": 4,
        }
    )  # fmt: skip
    assert config == ConnectorConfig(
        name="c", host="db", port="5432", address="svc", verify_hostname=False, weight=9, connect_timeout_s=2,
        health_check="http:/ok", health_check_interval_s=1, healthy_threshold=2, unhealthy_threshold=4,
        idle_timeout_s=3, half_close_timeout_s=4,
    )  # fmt: skip
    defaults = ConnectorConfig.from_attributes({"port": "1", "address": "svc"})
    assert (defaults.host, defaults.verify_hostname, defaults.weight) == ("127.0.0.1", True, 1)
    with pytest.raises(ConfigError, match="address"):
        ConnectorConfig.from_attributes({"port": "1"})
