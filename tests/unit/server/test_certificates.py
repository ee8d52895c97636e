"""Files are read beside the loop, again when it is time, and one that is broken is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.pki import Pki
from tests.unit.server.sites import LISTENER, ROUTER, Bench
from vanrouter.server.certificates import MAX_CERTIFICATES, REREAD_S, Certificates, Expiry, read_file


def test_those_that_end_first(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    expired, good = pki.issue("expired", expired=True), pki.issue("good")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(b"".join(made.cert.read_bytes() for made in (good, expired, good)))
    found = read_file("p", "authority", str(bundle))
    assert [each.subject for each in found] == ["expired", "good"]
    many = b"".join(pki.issue(f"n{number}").cert.read_bytes() for number in range(MAX_CERTIFICATES + 3))
    bundle.write_bytes(many)
    assert len(read_file("p", "authority", str(bundle))) == MAX_CERTIFICATES


@pytest.mark.parametrize(
    "content", [None, b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_what_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.pem"
    if content is not None:
        path.write_bytes(content)
    assert read_file("p", "certificate", str(path)) == [Expiry("p", "certificate", "", None)]


def settled(bench: Bench, certificates: Certificates) -> list[Expiry]:
    profiles = bench.site.registry.of("sslProfile")
    certificates.refresh(profiles)
    certificates.refresh(profiles)
    while certificates._is_reading:
        bench.reactor.run_once(1.0)
    return certificates.known


def test_read_again_when_it_is_time(tmp_path: Path, bench_of: Callable[[str], Bench]) -> None:
    pki = Pki(tmp_path)
    made = pki.issue("site")
    profile = (
        f"sslProfile {{\n name: p\n certFile: {made.cert}\n privateKeyFile: {made.key}\n caCertFile: {made.ca}\n}}\n"
    )
    bench = bench_of(ROUTER + profile + LISTENER).start()
    certificates = Certificates(bench.reactor)
    found = settled(bench, certificates)
    assert [(each.profile, each.use, each.subject) for each in found] == [
        ("p", "certificate", "site"),
        ("p", "authority", "test authority"),
    ]
    made.cert.write_bytes(b"")
    assert settled(bench, certificates)[0].ends_at is not None
    bench.time += REREAD_S + 1
    bench.reactor.run_once(0.0)
    assert settled(bench, certificates)[0].ends_at is None
