"""TLS and SASL between two engines, and what is known of the peer then."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.system.pki import Credentials, Pki
from tests.unit.engine.pumps import Pumps
from vanrouter.engine import proton
from vanrouter.engine.security import PeerSecurity, TlsProfile, peer_security, start_sasl, start_tls, tls_domain
from vanrouter.errors import ConfigError

pytestmark = pytest.mark.skipif(not proton.ssl_present(), reason="Proton was built without TLS")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def server(pki: Pki) -> Credentials:
    return pki.issue("server")


@pytest.fixture(scope="module")
def client(pki: Pki) -> Credentials:
    return pki.issue("client")


def profile(files: Credentials, **options: object) -> TlsProfile:
    return TlsProfile(
        name="p", ca_file=str(files.ca), cert_file=str(files.cert), key_file=str(files.key), **options  # type: ignore[arg-type]
    )  # fmt: skip


def secure(
    pumps: Pumps,
    near: TlsProfile | None,
    far: TlsProfile,
    *,
    host: str = "localhost",
    verify_host: bool = True,
    verify_peer: bool = True,
    mechanisms: str = "EXTERNAL",
    allow_plain: bool = False,
) -> None:
    for engine, mine, is_server in ((pumps.near, near, False), (pumps.far, far, True)):
        start_sasl(
            engine.transport, mechanisms, config_dir=None, config_name="vanrouter" if is_server else None,
            allow_insecure=True,
        )  # fmt: skip
        if mine is not None:
            domain = tls_domain(
                mine,
                is_server=is_server,
                verify_peer=verify_peer,
                verify_host=verify_host and not is_server,
                allow_plain=allow_plain,
            )
            start_tls(engine.transport, domain, None if is_server else host)
    pumps.start()


def seen(pumps: Pumps, uid_format: str | None = None) -> PeerSecurity:
    return peer_security(pumps.far.transport, has_tls=True, has_sasl=True, uid_format=uid_format)


def test_mutual_tls(pumps: Pumps, server: Credentials, client: Credentials) -> None:
    secure(pumps, profile(client), profile(server))
    assert pumps.client.events == pumps.server.events == ["open"]
    found = seen(pumps)
    assert found.is_authenticated
    assert found.is_encrypted
    assert found.mechanism == "EXTERNAL"
    assert found.tls_protocol == "TLSv1.3"
    assert found.tls_cipher
    assert found.user is not None
    assert "CN=client" in found.user


def fingerprint(files: Credentials) -> str:
    certificate = x509.load_pem_x509_certificate(Path(files.cert).read_bytes())
    return sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


@pytest.mark.parametrize(
    ("uid_format", "expected"),
    [
        ("n", lambda _files: "client"),
        ("on", lambda _files: "vanrouter tests;client"),
        ("2", fingerprint),
        ("n2", lambda files: "client;" + fingerprint(files)),
    ],
)
def test_user_of_the_certificate(
    pumps: Pumps, server: Credentials, client: Credentials, uid_format: str, expected: Callable[[Credentials], str]
) -> None:
    secure(pumps, profile(client), profile(server))
    assert seen(pumps, uid_format).user == expected(client)


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_protocols(pumps: Pumps, server: Credentials, client: Credentials, protocol: str) -> None:
    secure(pumps, profile(client), profile(server, protocols=protocol))
    assert seen(pumps).tls_protocol == protocol


def test_the_name_is_checked(pumps: Pumps, server: Credentials, client: Credentials) -> None:
    secure(pumps, profile(client), profile(server), host="elsewhere")
    assert pumps.client.events == []
    assert pumps.client.lost[0] is not None
    assert pumps.client.lost[0][0] == "amqp:connection:framing-error"


def test_the_name_is_not_checked_where_that_is_configured(
    pumps: Pumps, server: Credentials, client: Credentials
) -> None:
    secure(pumps, profile(client), profile(server), host="elsewhere", verify_host=False)
    assert pumps.client.events == ["open"]


@pytest.mark.parametrize("kind", ["none", "expired", "stranger"])
def test_clients_that_are_refused(pumps: Pumps, pki: Pki, server: Credentials, tmp_path: Path, kind: str) -> None:
    files = {
        "none": TlsProfile(name="p", ca_file=str(pki.ca)),
        "expired": profile(pki.issue("late", expired=True)),
        "stranger": profile(Pki(tmp_path, "another").issue("stranger", trusts=pki.ca)),
    }[kind]
    secure(pumps, files, profile(server))
    assert pumps.server.events == []
    assert pumps.server.lost
    assert pumps.server.lost[0] is not None


def test_a_server_that_is_not_trusted(pumps: Pumps, pki: Pki, client: Credentials, tmp_path: Path) -> None:
    other = Pki(tmp_path, "another").issue("server", trusts=pki.ca)
    secure(pumps, profile(client), profile(other))
    assert pumps.client.events == []


def test_plain_clients_on_a_tls_port(pumps: Pumps, server: Credentials) -> None:
    secure(pumps, None, profile(server), mechanisms="ANONYMOUS", allow_plain=True, verify_peer=False)
    assert pumps.server.events == ["open"]
    found = seen(pumps)
    assert not found.is_encrypted
    assert found.mechanism == "ANONYMOUS"
    assert found.tls_protocol is None


def test_files_that_cannot_be_used(server: Credentials, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    missing = tmp_path / "missing.pem"
    unreadable = f"cannot read {missing}: No such file or directory"
    for broken, reason in (
        (TlsProfile(name="p", cert_file=str(missing)), unreadable),
        (TlsProfile(name="p", cert_file=str(server.cert), key_file=str(missing)), unreadable),
        (TlsProfile(name="p", cert_file=str(empty), key_file=str(empty)), "are to be PEM and belong together"),
        (TlsProfile(name="p", cert_file=str(server.cert), key_file=str(empty)), "are to be PEM and belong together"),
        (TlsProfile(name="p", ca_file=str(missing)), unreadable),
        (TlsProfile(name="p", ca_file=str(empty)), "one or more certificates in PEM"),
        (profile(server, ciphers="NO-SUCH-CIPHER"), "NO-SUCH-CIPHER"),
        (profile(server, protocols="TLSv0.9"), "known are TLSv1, "),
    ):
        with pytest.raises(ConfigError, match="sslProfile 'p'") as caught:
            tls_domain(broken, is_server=True, verify_peer=False, verify_host=False, allow_plain=False)
        assert reason in str(caught.value)


def test_no_secret_is_shown() -> None:
    assert "secret" not in repr(TlsProfile(name="p", password="secret"))


def test_without_tls_and_sasl(pumps: Pumps) -> None:
    pumps.start()
    found = peer_security(pumps.far.transport, has_tls=False, has_sasl=False, uid_format=None)
    assert (found.is_encrypted, found.mechanism, found.user, found.tls_protocol) == (False, None, "anonymous", None)
