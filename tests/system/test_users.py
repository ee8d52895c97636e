"""SASL EXTERNAL on a running router: who a certificate makes of its bearer, and what that user may do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha1, sha256, sha512
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from proton import ConnectionException, Message, SSLDomain
from proton.utils import BlockingConnection, LinkDetached, SendException

from tests.system.harness import Router, Section
from tests.system.pki import Credentials, Pki

TIMEOUT_S = 20
FORMATS = ["n", "on", "no", "1", "2", "5", "n2"]
DIGESTS = {"1": sha1, "2": sha256, "5": sha512}


@pytest.fixture(scope="module")
def bearer(pki: Pki) -> Credentials:
    return pki.issue("bearer")


@pytest.fixture(scope="module")
def router(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    folder = tmp_path_factory.mktemp("users")
    names = folder / "names.json"
    names.write_text(json.dumps({"vanrouter tests;bearer": "mrs bearer", "somebody else": "x"}))
    vhosts = folder / "vhosts"
    vhosts.mkdir()
    group = {"users": "mrs bearer", "remoteHosts": "*", "targets": "of ${user}, all", "sources": "*"}
    rules = {"hostname": "localhost", "groups": {"named": group}}
    (vhosts / "rules.json").write_text(json.dumps([["vhost", rules]]))
    kind, files = pki.issue("users-router").ssl_profile("plain")
    external = {"host": "127.0.0.1", "port": 0, "saslMechanisms": "EXTERNAL"}
    external |= {"authenticatePeer": True, "requireSsl": True}
    sections: list[Section] = [
        *((kind, {**files, "name": f"uid-{form}", "uidFormat": form}) for form in FORMATS),
        (kind, {**files, "name": "uid-mapped", "uidFormat": "on", "uidNameMappingFile": names}),
        *(("listener", {"name": form, "sslProfile": f"uid-{form}", **external}) for form in (*FORMATS, "mapped")),
        ("policy", {"enableVhostPolicy": True, "policyDir": vhosts}),
    ]
    made = Router("R", sections, folder, mode="standalone")
    try:
        yield made.ready()
        made.stop()
    finally:
        made.kill()


def connect(router: Router, listener: str, files: Credentials) -> BlockingConnection:
    domain = SSLDomain(SSLDomain.MODE_CLIENT)
    domain.set_credentials(str(files.cert), str(files.key), None)
    domain.set_trusted_ca_db(str(files.ca))
    domain.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME)
    url = f"amqps://localhost:{router.port(listener)}"
    return BlockingConnection(url, timeout=TIMEOUT_S, ssl_domain=domain, allowed_mechs="EXTERNAL")


def user_of(files: Credentials, form: str) -> str:
    certificate = x509.load_pem_x509_certificate(Path(files.cert).read_bytes()).public_bytes(Encoding.DER)
    fields = {"n": "bearer", "o": "vanrouter tests"}
    return ";".join(fields[one] if one in fields else DIGESTS[one](certificate).hexdigest() for one in form)


@pytest.mark.parametrize("form", FORMATS)
def test_fields_of_the_certificate_in_order(router: Router, bearer: Credentials, form: str) -> None:
    """The user is known by it, and refused: the rules know somebody else."""
    mark = router.mark()
    with pytest.raises(ConnectionException, match="disallowed by local policy"):
        connect(router, form, bearer).create_receiver("all")
    router.wait_for(f"DENY AMQP Open for user '{user_of(bearer, form)}'", after=mark)


def test_a_name_from_the_file(router: Router, bearer: Credentials) -> None:
    mark = router.mark()
    connection = connect(router, "mapped", bearer)
    connection.create_receiver("of mrs bearer", credit=5)
    sender = connection.create_sender("of mrs bearer")
    router.wait_for("Connection Opened: dir=in .* auth=EXTERNAL user=mrs bearer ", after=mark)
    connection.wait(lambda: sender.link.credit > 0)
    with pytest.raises(SendException):  # a message that says it is another's
        sender.send(Message(user_id=b"joe"))
    delivery = sender.link.send(Message(user_id=b"mrs bearer"))
    connection.wait(lambda: delivery.link.connection.transport.pending() == 0)
    with pytest.raises(LinkDetached, match="amqp:unauthorized-access"):
        connection.create_sender("of joe")
    connection.close()


def test_a_foreign_certificate(router: Router, foreign_pki: Pki, pki: Pki) -> None:
    with pytest.raises(ConnectionException):
        connect(router, "mapped", foreign_pki.issue("bearer", trusts=pki.ca))
