"""Subjects and ends agree with a library that reads certificates for a living."""

from __future__ import annotations

import base64
import contextlib
import datetime
from pathlib import Path

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from tests.system.pki import Pki
from vanrouter.server.x509 import certificates, subject_and_end

KEY = ec.generate_private_key(ec.SECP256R1())
YEAR_S = 365 * 86400
PEM = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n"


def make(name: library.Name, end: datetime.datetime) -> library.Certificate:
    return (
        library.CertificateBuilder()
        .subject_name(name)
        .issuer_name(library.Name([library.NameAttribute(NameOID.COMMON_NAME, "issuer")]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(end - datetime.timedelta(days=1))
        .not_valid_after(end)
        .sign(KEY, hashes.SHA256())
    )


def der_of(certificate: library.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    st.integers(-18 * YEAR_S, 200 * YEAR_S),
)
def test_as_the_library_has_it(common_name: str, ends_at: int) -> None:
    end = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=ends_at)
    attributes = [
        library.NameAttribute(NameOID.ORGANIZATION_NAME, "o"),
        library.NameAttribute(NameOID.COMMON_NAME, common_name),
    ]
    assert subject_and_end(der_of(make(library.Name(attributes), end))) == (common_name, end.timestamp())


def test_without_a_common_name() -> None:
    end = datetime.datetime(2050, 1, 1, tzinfo=datetime.UTC)  # the first that is written as GeneralizedTime
    assert subject_and_end(der_of(make(library.Name([]), end))) == ("", end.timestamp())


def test_all_of_a_file(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    made = pki.issue("leaf")
    content = b"comment\n" + made.cert.read_bytes() + made.key.read_bytes() + pki.ca.read_bytes()
    assert [subject for subject, _ in certificates(content)] == ["leaf", "test authority"]
    assert list(certificates(b"")) == []


SOME = der_of(make(library.Name([]), datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)))


@given(st.integers(0, len(SOME) - 1), st.integers(0, 255), st.integers(0, len(SOME)))
def test_anything_else_is_an_error_of_this_kind(at: int, octet: int, cut: int) -> None:
    changed = bytes((*SOME[:at], octet, *SOME[at + 1 :]))
    for broken in (changed, changed[:cut]):
        with contextlib.suppress(ValueError):
            list(certificates(PEM % base64.encodebytes(broken)))


def test_no_base64() -> None:
    with pytest.raises(ValueError, match="not a certificate"):
        list(certificates(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----"))
