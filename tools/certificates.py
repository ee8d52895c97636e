"""Make a throw-away authority and certificates under it, for the demo and for a first try with two sites.

    python tools/certificates.py FOLDER NAME...      gives FOLDER/ca.crt and, for each name, NAME.crt and NAME.key

Each certificate is good for its own name and for localhost, as server and as client, for a week.
"""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID = datetime.timedelta(days=7)
CLOCK_SKEW = datetime.timedelta(hours=1)


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    is_authority = name == issuer
    hosts = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName(name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
    )
    if not is_authority:
        builder = builder.add_extension(hosts, critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make_certificates(folder: Path, names: list[str]) -> None:
    """Write the authority's certificate, and certificate and key of each name; the authority's key is forgotten."""
    authority, authority_key = "vanrouter throw-away authority", ec.generate_private_key(ec.SECP256R1())
    (folder / "ca.crt").write_bytes(_certificate(authority, authority_key, authority, authority_key))
    for name in names:
        key = ec.generate_private_key(ec.SECP256R1())
        (folder / f"{name}.crt").write_bytes(_certificate(name, key, authority, authority_key))
        key_file = folder / f"{name}.key"
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


if __name__ == "__main__":
    make_certificates(Path(sys.argv[1]), sys.argv[2:])
