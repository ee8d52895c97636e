from vanrouter.adaptors.http_config import HttpConnectorConfig, HttpListenerConfig
from vanrouter.net.tls import TlsFiles


def test_attributes_become_configuration() -> None:
    tls = TlsFiles(cert_file="c", key_file="k")
    listener = HttpListenerConfig.from_attributes(
        {
            "name": "l", "address": "svc", "port": 80, "whenUnreachable": "503",
            "maxHeaderBytes": 2048, "maxHeaders": 5, "requestTimeoutSeconds": 7,
            "retry": "none", "forwardedHeaders": True, "siteId": "s",
        },
        tls,
    )  # fmt: skip
    assert (listener.port, listener.host, listener.when_unreachable, listener.tls) == ("80", "", "503", tls)
    assert (listener.limits.max_bytes, listener.limits.max_fields) == (2048, 5)
    assert (listener.request_timeout_s, listener.retry, listener.forwarded_headers) == (7, "none", True)
    connector = HttpConnectorConfig.from_attributes(
        {"name": "c", "address": "svc", "port": "81", "hostOverride": "h", "verifyHostname": False}
    )
    assert (connector.host, connector.host_override, connector.verify_hostname) == ("127.0.0.1", "h", False)
    assert (connector.form, connector.protocol, connector.retry) == ("stream", "HTTP1", "safe")
    assert (connector.limits.max_bytes, connector.limits.max_fields) == (65536, 128)
