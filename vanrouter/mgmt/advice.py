"""What a configuration may say but probably does not mean: the warnings of a start and of `--check`. Layer: 2, pure.

Source: management specification, section 8, which has values that nothing can be made of logged or ignored. A warning
refuses nothing: a file written for the C router keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vanrouter.mgmt import rules
from vanrouter.mgmt.attributes import quoted, suggestion
from vanrouter.mgmt.entities import EntityConfig

TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
MECHANISMS = (
    "EXTERNAL", "PLAIN", "ANONYMOUS", "LOGIN", "SCRAM-SHA-1", "SCRAM-SHA-224", "SCRAM-SHA-256", "SCRAM-SHA-384",
    "SCRAM-SHA-512", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-224-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-384-PLUS",
    "SCRAM-SHA-512-PLUS", "DIGEST-MD5", "CRAM-MD5", "GSSAPI", "GSS-SPNEGO", "GS2-KRB5", "GS2-IAKERB", "NTLM", "OTP",
    "SRP", "PASSDSS-3DES-1", "XOAUTH2", "OAUTHBEARER",
)  # fmt: skip
"""Those that Cyrus SASL has plugins for; a site may have others, hence a warning only."""

MESSAGE_COMPONENTS = (
    "none", "all", "message-id", "user-id", "to", "subject", "reply-to", "correlation-id", "content-type",
    "content-encoding", "absolute-expiry-time", "creation-time", "group-id", "group-sequence", "reply-to-group-id",
    "app-properties",
)  # fmt: skip
"""What `messageLoggingComponents` can name."""

AMQP_PORTS = ("amqp", "amqps")
"""Names that are known everywhere (`net.dial`)."""

PROFILE_FILES = ("caCertFile", "certFile", "privateKeyFile", "uidNameMappingFile")


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One warning.

    Args:
        attribute: the one that it is about; empty for the section as a whole.
        text: what is unusual, and what to write instead.
    """

    attribute: str
    text: str


def _always(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine is asked about things that a configuration names.

    Args:
        can_read: whether there is a file of that path that this process may read.
        knows_service: whether that is the name of a service (services(5)).
    """

    can_read: Callable[[str], bool] = _always
    knows_service: Callable[[str], bool] = _always


def advise(entity: EntityConfig, machine: Machine) -> Iterator[Advice]:
    """Yield what is allowed but probably not meant.

    Args:
        entity: converted, completed, and right by every rule.
        machine: what is there.
    """
    adviser = _ADVISERS.get(entity.type)
    if adviser is not None:
        yield from adviser(entity, machine)
    port = entity.attributes.get("port")
    is_number = isinstance(port, str) and port.isdecimal()
    if isinstance(port, str) and port and not is_number and port not in AMQP_PORTS and not machine.knows_service(port):
        text = f"{quoted(port)} is neither a number nor a service that this machine knows"
        yield Advice(attribute="port", text=text)


def _name(entity: EntityConfig) -> object:
    attributes = entity.attributes
    return attributes.get("name") or f"{attributes.get('host')}:{attributes.get('port')}"


def _words(
    entity: EntityConfig, attribute: str, separator: str | None, known: tuple[str, ...], effect: str
) -> Iterator[Advice]:
    for word in str(entity.attributes.get(attribute) or "").split(separator):
        if word.strip() and word.strip() not in known:
            hint = suggestion(word.strip(), known) or f"; known are {', '.join(known)}"
            yield Advice(attribute=attribute, text=f"{quoted(word.strip())} is unknown{effect}{hint}")


def _router(entity: EntityConfig, _: Machine) -> Iterator[Advice]:
    interval, age = entity.attributes.get("helloIntervalSeconds"), entity.attributes.get("helloMaxAgeSeconds")
    if isinstance(interval, int) and isinstance(age, int) and age <= interval:
        text = f"{age} s is not longer than helloIntervalSeconds ({interval} s): links end between two hellos"
        yield Advice(attribute="helloMaxAgeSeconds", text=f"{text}; at least {2 * interval + 1} is needed")
    count = str(entity.attributes.get("dataConnectionCount", "auto"))
    if count != "auto" and not count.isdecimal():
        yield Advice(
            attribute="dataConnectionCount", text=f"{quoted(count)} is taken as auto; auto or a number is needed"
        )


def _amqp_port(entity: EntityConfig, _: Machine) -> Iterator[Advice]:
    attributes, name = entity.attributes, _name(entity)
    if attributes.get("role") in rules.ROUTER_ROLES:
        if not attributes.get("sslProfile"):
            yield Advice(attribute="", text=f"{name} links routers without TLS; set sslProfile")
        elif entity.type == "listener" and attributes.get("requireSsl") is not True:
            yield Advice(attribute="", text=f"{name} accepts routers without TLS; set requireSsl: yes")
    elif attributes.get("requireSsl") is True and not attributes.get("sslProfile"):
        is_http = attributes.get("http") is True or attributes.get("httpRootDir")
        effect = "it is HTTP without TLS all the same" if is_http else "nobody can connect"
        yield Advice(attribute="requireSsl", text=f"{name} has no sslProfile: {effect}")
    if entity.type == "connector" and attributes.get("sslProfile") and attributes.get("verifyHostname") is False:
        yield Advice(attribute="verifyHostname", text=f"{name} does not check whose certificate it is shown")
    yield from _words(entity, "saslMechanisms", None, MECHANISMS, "")
    yield from _words(entity, "messageLoggingComponents", ",", MESSAGE_COMPONENTS, " and has no effect")


def _ssl_profile(entity: EntityConfig, machine: Machine) -> Iterator[Advice]:
    uid_format = str(entity.attributes.get("uidFormat", ""))
    if not rules.UID_FORMAT.fullmatch(uid_format):
        text = f"Invalid format for uidFormat field in sslProfile '{_name(entity)}': {uid_format}; it is ignored"
        yield Advice(attribute="uidFormat", text=text)
    yield from _words(entity, "protocols", None, TLS_VERSIONS, ", and what uses the profile will not start")
    for attribute in PROFILE_FILES:
        path = entity.attributes.get(attribute)
        if isinstance(path, str) and path and not machine.can_read(path):
            yield Advice(attribute=attribute, text=f"cannot read {quoted(path)}; what uses the profile will not start")


_ADVISERS: dict[str, Callable[[EntityConfig, Machine], Iterator[Advice]]] = {
    "router": _router,
    "listener": _amqp_port,
    "connector": _amqp_port,
    "sslProfile": _ssl_profile,
}
