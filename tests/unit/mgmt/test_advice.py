from __future__ import annotations

import pytest

from vanrouter.core.message_log import APPLICATION, PROPERTIES
from vanrouter.engine import security
from vanrouter.mgmt import advice
from vanrouter.mgmt.advice import MESSAGE_COMPONENTS, Machine, advise
from vanrouter.mgmt.config import load_text

INTERIOR = "router {\n mode: interior\n id: A\n}\n"


def warnings(text: str, *, readable: frozenset[str] = frozenset()) -> list[str]:
    machine = Machine(can_read=readable.__contains__, knows_service="postgresql".__eq__)
    return load_text(text, "x.conf", machine=machine).warnings


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("router {\n helloIntervalSeconds: 5\n}\n", "x.conf:1: router.helloMaxAgeSeconds: 3 s is not longer than"),
        (
            "router {\n helloIntervalSeconds: 5\n helloMaxAgeSeconds: 5\n}\n",
            "(5 s): links end between two hellos; at least 11 is needed",
        ),
        (
            "router {\n dataConnectionCount: lots\n}\n",
            "x.conf:2: router.dataConnectionCount: 'lots' is taken as auto; auto or a number is needed",
        ),
        (
            "listener {\n saslMechanisms: EXTERNL PLAIN\n}\n",
            "x.conf:2: listener.saslMechanisms: 'EXTERNL' is unknown; did you mean 'EXTERNAL'?",
        ),
        ("connector {\n messageLoggingComponents: to, too\n}\n", "x.conf:2: connector.messageLoggingComponents: 'too'"),
        (
            "sslProfile {\n name: s\n protocols: TLSv9.9 TLSv1.3\n}\n",
            "x.conf:3: sslProfile.protocols: 'TLSv9.9' is unknown, and",
        ),
        (
            "tcpListener {\n address: a\n port: 80a\n}\n",
            "x.conf:3: tcpListener.port: '80a' is neither a number nor",
        ),
        (
            "sslProfile {\n name: s\n certFile: /there\n privateKeyFile: /gone\n}\n",
            "x.conf:4: sslProfile.privateKeyFile: cannot read '/gone'; what uses the profile will not start",
        ),
        (
            INTERIOR + "listener {\n role: inter-router\n port: 1\n}\n",
            "x.conf:5: listener: :1 links routers without TLS",
        ),
        (
            INTERIOR + "listener {\n requireSsl: yes\n port: 1\n}\n",
            "x.conf:6: listener.requireSsl: :1 has no sslProfile: nobody can connect",
        ),
        (
            INTERIOR + "listener {\n requireSsl: yes\n http: yes\n port: 1\n}\n",
            "x.conf:6: listener.requireSsl: :1 has no sslProfile: it is HTTP without TLS all the same",
        ),
        (
            INTERIOR + "connector {\n role: edge\n name: c\n}\n",
            "x.conf:5: connector: c links routers without TLS; set sslProfile",
        ),
        (
            INTERIOR + "sslProfile {\n name: s\n}\nlistener {\n role: inter-router\n sslProfile: s\n}\n",
            "accepts routers without TLS; set requireSsl: yes",
        ),
        (
            "sslProfile {\n name: s\n}\nconnector {\n sslProfile: s\n verifyHostname: no\n}\n",
            "x.conf:6: connector.verifyHostname: 127.0.0.1:amqp does not check whose certificate it is shown",
        ),
        (
            "sslProfile {\n name: s\n uidFormat: xyz\n}\n",
            "x.conf:3: sslProfile.uidFormat: Invalid format for uidFormat",
        ),
    ],
)
def test_what_is_only_worth_a_warning(text: str, said: str) -> None:
    (warning,) = warnings(text, readable=frozenset({"/there"}))
    assert said in warning


@pytest.mark.parametrize(
    "text",
    [
        "router {\n helloIntervalSeconds: 5\n helloMaxAgeSeconds: 11\n dataConnectionCount: 4\n}\n",
        "listener {\n saslMechanisms: EXTERNAL SCRAM-SHA-256\n messageLoggingComponents: to, app-properties\n}\n",
        "sslProfile {\n name: s\n caCertFile: /there\n certFile: /there\n protocols: TLSv1.3\n uidFormat: nou\n}\n",
        "tcpListener {\n address: a\n port: 1\n}\ntcpConnector {\n address: a\n port: postgresql\n}\nlistener {\n}\n",
    ],
)
def test_what_is_fine(text: str) -> None:
    assert warnings(text, readable=frozenset({"/there"})) == []


def test_components_are_those_that_are_logged() -> None:
    assert {*MESSAGE_COMPONENTS} == {"none", "all", *PROPERTIES, APPLICATION}


def test_mechanisms_are_those_that_the_engine_allows() -> None:
    assert list(advice.MECHANISMS) == security.MECHANISMS.split()


def test_a_type_without_advice() -> None:
    (address,) = load_text("address {\n prefix: a\n}\n", "x.conf").of("address")
    assert list(advise(address, Machine(can_read=lambda _: False, knows_service=lambda _: False))) == []
