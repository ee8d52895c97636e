"""Subject and end of certificates in PEM files: two fields of the DER within.

Layer: 5. Source: RFC 5280, section 4.1; X.690 for DER. A library for certificates would cost each router seven
megabytes to read two fields of its own files; nothing here decides about trust, which is OpenSSL's.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime

_PEM = re.compile(rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----(.*?)-----END (?:TRUSTED )?CERTIFICATE-----", re.DOTALL)

UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
VERSION = 0xA0

COMMON_NAME = bytes((0x55, 0x04, 0x03))
"""Object id 2.5.4.3."""

UTF16_STRING = 0x1E
TIME_FORMATS = {UTC_TIME: "%y%m%d%H%M%SZ", GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}


def certificates(content: bytes) -> Iterator[tuple[str, float]]:
    """Yield common name (empty when there is none) and end, in seconds since 1970, of each certificate of a PEM file.

    Raises:
        ValueError: something between the markers is no certificate.
    """
    for found in _PEM.finditer(content):
        try:
            yield subject_and_end(b64decode(b"".join(found[1].split()), validate=True))
        except (binascii.Error, IndexError, StopIteration) as error:
            raise ValueError("not a certificate") from error


def subject_and_end(der: bytes) -> tuple[str, float]:
    """Return common name and end of one certificate.

    Raises:
        ValueError, IndexError, StopIteration: it is none.
    """
    (_, certificate), *_ = _elements(der)
    (_, signed), *_ = _elements(certificate)
    fields = [entry for entry in _elements(signed) if entry[0] != VERSION]
    _serial, _algorithm, _issuer, (_, validity), (_, subject), *_ = fields
    _begin, (tag, end), *_ = _elements(validity)
    if tag not in TIME_FORMATS:
        raise ValueError("no time where the validity ends")
    ends_at = datetime.strptime(end.decode("ascii"), TIME_FORMATS[tag]).replace(tzinfo=UTC)
    if tag == UTC_TIME and ends_at.year >= 2050:  # two digits of the years from 1950 to 2049
        ends_at = ends_at.replace(year=ends_at.year - 100)
    return _common_name(subject), ends_at.timestamp()


def _common_name(subject: bytes) -> str:
    for _, entry in _elements(subject):
        for _, attribute in _elements(entry):
            (_, kind), (tag, value), *_ = _elements(attribute)
            if kind == COMMON_NAME:
                return value.decode("utf-16-be" if tag == UTF16_STRING else "utf-8", "replace")
    return ""


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element of DER.

    Raises:
        ValueError: one is longer than what is there.
        IndexError: one has no length.
    """
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            octets = length & 0x7F
            length = int.from_bytes(data[at : at + octets], "big")
            at += octets
        if at + length > len(data):
            raise ValueError("cut off")
        yield tag, data[at : at + length]
        at += length
