"""The certificates of a run: one authority and one identity, shown by both ends of every link."""

from __future__ import annotations

import datetime
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = datetime.timedelta(days=1)


def make(folder: Path) -> Path:
    """Write ca.crt, tls.crt, tls.key and both.pem (certificate and key, as HAProxy wants them); returns the folder."""
    folder.mkdir()
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _name("bench authority")
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    ca = _builder(authority, authority, authority_key).add_extension(constraints, critical=True)
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    leaf = _builder(_name("localhost"), authority, key).add_extension(names, critical=False)
    leaf = leaf.add_extension(usage, critical=False)
    encoded_leaf = _pem(leaf.sign(authority_key, hashes.SHA256()))
    encoded_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "ca.crt").write_bytes(_pem(ca.sign(authority_key, hashes.SHA256())))
    (folder / "tls.crt").write_bytes(encoded_leaf)
    for name, content in (("tls.key", encoded_key), ("both.pem", encoded_leaf + encoded_key)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)
    return folder


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - VALIDITY).not_valid_after(now + VALIDITY)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
