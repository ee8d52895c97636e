"""TLS domains and SASL on the engine's transports, and what a peer turned out to be.

Layer: 2. Source: management.md section 8 (sslProfile, listener, connector) and section 18 (texts). Proton's own TLS is
used between AMQP peers because SASL EXTERNAL takes the user from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vanrouter.engine import proton
from vanrouter.errors import ConfigError

DEFAULT_PROTOCOLS = "TLSv1.2 TLSv1.3"
"""TLS versions where a profile names none; older ones have to be asked for."""

MECHANISMS = (
    "EXTERNAL PLAIN ANONYMOUS LOGIN SCRAM-SHA-1 SCRAM-SHA-224 SCRAM-SHA-256 SCRAM-SHA-384 SCRAM-SHA-512 "
    "SCRAM-SHA-1-PLUS SCRAM-SHA-224-PLUS SCRAM-SHA-256-PLUS SCRAM-SHA-384-PLUS SCRAM-SHA-512-PLUS DIGEST-MD5 CRAM-MD5 "
    "GSSAPI GSS-SPNEGO GS2-KRB5 GS2-IAKERB NTLM OTP SRP PASSDSS-3DES-1 XOAUTH2 OAUTHBEARER"
)
"""All that Cyrus SASL has plugins for."""

CA_WANTED = "one or more certificates in PEM are needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsProfile:
    """What an sslProfile says, passwords resolved."""

    name: str
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    password: str | None = None
    ciphers: str | None = None
    protocols: str | None = None
    uid_format: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    """Names to show in place of users taken from certificates."""
    ordinal: int = 0

    def __repr__(self) -> str:
        return f"TlsProfile({self.name!r})"


def _encoded(text: str | None) -> Any:
    return proton.NULL if text is None else text.encode()


def tls_domain(profile: TlsProfile, *, is_server: bool, verify_peer: bool, verify_host: bool, allow_plain: bool) -> Any:
    """Make a TLS domain; the files are read now.

    Args:
        profile: the sslProfile.
        is_server: listener side.
        verify_peer: listener: demand a certificate; connector: check the chain.
        verify_host: connector: check the name as well.
        allow_plain: listener: take clients without TLS on the same port.

    Raises:
        ConfigError: a file cannot be used; the text names it.
    """
    domain = proton.ssl_domain_new(proton.SSL_MODE_SERVER if is_server else proton.SSL_MODE_CLIENT)
    if domain == proton.NULL:
        raise ConfigError(f"sslProfile {profile.name}", "this Qpid Proton was built without TLS")

    def check(result: int, what: str, wanted: str) -> None:
        if result != 0:
            proton.ssl_domain_free(domain)
            text = f"Failed to configure TLS {what} from sslProfile '{profile.name}'"
            raise ConfigError("", f"{text}: {_unreadable(profile) or wanted}")

    if profile.cert_file is not None:
        key = profile.key_file if profile.key_file is not None else profile.cert_file
        check(
            proton.ssl_domain_set_credentials(
                domain, _encoded(profile.cert_file), _encoded(key), _encoded(profile.password)
            ),
            f"certFile '{profile.cert_file}'",
            "certificate and privateKeyFile are to be PEM and belong together, and the password is to open the key",
        )
    if profile.ca_file is not None:
        check(
            proton.ssl_domain_set_trusted_ca_db(domain, _encoded(profile.ca_file)),
            f"caCertFile '{profile.ca_file}'",
            CA_WANTED,
        )
    check(
        proton.ssl_domain_set_protocols(domain, _encoded(profile.protocols or DEFAULT_PROTOCOLS)),
        f"protocols '{profile.protocols}'",
        "known are TLSv1, TLSv1.1, TLSv1.2 and TLSv1.3, as far as the system's OpenSSL allows them",
    )
    if profile.ciphers is not None:
        if proton.ssl_domain_set_ciphers(domain, _encoded(profile.ciphers)) != 0:
            proton.ssl_domain_free(domain)
            raise ConfigError(
                "", f"Failed to configure TLS Ciphers '{profile.ciphers}' for sslProfile '{profile.name}'"
            )
    if verify_peer or verify_host:
        mode = proton.SSL_VERIFY_PEER_NAME if verify_host else proton.SSL_VERIFY_PEER
        check(
            proton.ssl_domain_set_peer_authentication(domain, mode, _encoded(profile.ca_file)),
            f"caCertFile '{profile.ca_file}'",
            CA_WANTED,
        )
    else:
        check(
            proton.ssl_domain_set_peer_authentication(domain, proton.SSL_ANONYMOUS_PEER, proton.NULL),
            "peer authentication",
            "the engine gives no reason",
        )
    if is_server and allow_plain:
        proton.ssl_domain_allow_unsecured_client(domain)
    return domain


def _unreadable(profile: TlsProfile) -> str:
    """Say which file of a profile cannot be read, and why; empty where they all can (the engine keeps its reasons)."""
    for path in (profile.ca_file, profile.cert_file, profile.key_file):
        try:
            if path is not None:
                Path(path).open("rb").close()
        except OSError as error:
            return f"cannot read {path}: {error.strerror}"
    return ""


def free_domain(domain: Any) -> None:
    """Release a domain; connections made with it keep what they need."""
    proton.ssl_domain_free(domain)


def start_tls(transport: Any, domain: Any, peer_host: str | None) -> None:
    """Put TLS under a transport. `peer_host` is the connector's name to ask for and to check."""
    ssl = proton.ssl_new(transport)
    if peer_host is not None:
        proton.ssl_set_peer_hostname(ssl, peer_host.encode())
    proton.ssl_init(ssl, domain, proton.NULL)


def start_sasl(
    transport: Any, mechanisms: str | None, *, config_dir: str | None, config_name: str | None, allow_insecure: bool
) -> None:
    """Put SASL under a transport. `mechanisms` is the space-separated list allowed; None = what the library offers.

    There is always a list: without one the engine hands on a `sasl-init` that names no mechanism, as a null pointer, to
    Cyrus SASL (Proton 0.40; it ended the process).
    """
    sasl = proton.sasl_new(transport)
    if config_dir:
        proton.sasl_config_path(sasl, config_dir.encode())
    if config_name:
        proton.sasl_config_name(sasl, config_name.encode())
    proton.sasl_allowed_mechs(sasl, (MECHANISMS if mechanisms is None else mechanisms).encode())
    if allow_insecure:
        proton.sasl_set_allow_insecure_mechs(sasl, True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSecurity:
    """What is known of a peer once its OPEN has come."""

    is_authenticated: bool
    is_encrypted: bool
    mechanism: str | None
    user: str | None
    tls_protocol: str | None
    tls_cipher: str | None


def peer_security(transport: Any, *, has_tls: bool, has_sasl: bool, uid_format: str | None) -> PeerSecurity:
    """Read what the handshakes found out."""
    protocol = cipher = None
    encrypted = bool(proton.transport_is_encrypted(transport))
    user = proton.text(proton.transport_get_user(transport))
    if has_tls and encrypted:
        ssl = proton.ssl_new(transport)
        buffer = proton.new("char[]", 128)
        if proton.ssl_get_protocol_name(ssl, buffer, 128):
            protocol = proton.text(buffer)
        if proton.ssl_get_cipher_name(ssl, buffer, 128):
            cipher = proton.text(buffer)
        if uid_format and proton.text(proton.ssl_get_remote_subject(ssl)):
            user = certificate_user(ssl, uid_format) or user
    mechanism = proton.text(proton.sasl_get_mech(proton.sasl_new(transport))) if has_sasl else None
    return PeerSecurity(
        is_authenticated=bool(proton.transport_is_authenticated(transport)),
        is_encrypted=encrypted,
        mechanism=mechanism,
        user=user,
        tls_protocol=protocol,
        tls_cipher=cipher,
    )


def certificate_user(ssl: Any, uid_format: str) -> str | None:
    """Return the user name that `uid_format` makes of the peer's certificate, parts joined by `;`."""
    parts: list[str] = []
    for letter in uid_format:
        if letter in proton.SUBJECT_FIELDS:
            part = proton.text(proton.ssl_get_remote_subject_subfield(ssl, proton.SUBJECT_FIELDS[letter]))
        else:
            number, length = proton.FINGERPRINTS[letter]
            buffer = proton.new("char[]", length + 1)
            failed = proton.ssl_get_cert_fingerprint(ssl, buffer, length + 1, number)
            part = None if failed else proton.text(buffer)
        if part is not None:
            parts.append(part)
    return ";".join(parts) or None
