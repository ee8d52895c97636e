"""When the certificates of the sslProfiles end: read from their files beside the loop, kept while the files stay.

Layer: 5. A scrape shows what is known and has the files looked at again when that is older than REREAD_S, so that it
never waits for a disk, and a certificate that was replaced shows its new end one scrape later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vanrouter.mgmt.entities import Entity
from vanrouter.net.reactor import Reactor
from vanrouter.server import x509

REREAD_S = 30.0

MAX_BYTES = 4 * 1024 * 1024
"""Of a file with certificates; a system's whole store of authorities is a quarter of it."""

MAX_CERTIFICATES = 32
"""Of one file, those that end first: a store of authorities is not an operator's to renew."""

USES = (("certificate", "certFile"), ("authority", "caCertFile"))


@dataclass(frozen=True, slots=True)
class Expiry:
    """One certificate. `ends_at` in seconds since 1970, None when its file cannot be used."""

    profile: str
    use: str
    subject: str
    ends_at: float | None


def read_file(profile: str, use: str, path: str) -> list[Expiry]:
    """Return the certificates of a file, those that end first before the others. Blocks: for threads."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES)
        certificates = list(x509.certificates(content))
    except (OSError, ValueError):
        certificates = []
    if not certificates:
        return [Expiry(profile, use, "", None)]
    ends: dict[str, float] = {}
    for subject, ends_at in certificates:
        ends[subject] = min(ends_at, ends.get(subject, ends_at))
    first = sorted(ends.items(), key=lambda entry: entry[1])[:MAX_CERTIFICATES]
    return [Expiry(profile, use, subject, ends_at) for subject, ends_at in first]


def read_all(files: Mapping[tuple[str, str], str]) -> list[Expiry]:
    """Return the certificates of all files, by profile and use. Blocks: for threads."""
    return [found for (profile, use), path in files.items() for found in read_file(profile, use, path)]


class Certificates:
    """What is known of the certificates in use."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self.known: list[Expiry] = []
        self._is_reading = False
        self._read_at: float | None = None
        self._files: dict[tuple[str, str], str] = {}

    def refresh(self, profiles: Iterable[Entity]) -> None:
        """Have the files read again if that is due; `known` follows."""
        files = {
            (profile.name or "", use): path
            for profile in profiles
            for use, attribute in USES
            if (path := profile.text(attribute))
        }
        now = self._reactor.now
        is_fresh = self._read_at is not None and now < self._read_at + REREAD_S and files == self._files
        if is_fresh or self._is_reading:
            return
        self._is_reading = True
        self._read_at, self._files = now, files
        self._reactor.run_in_thread(lambda: read_all(files), self._on_read)

    def _on_read(self, result: list[Expiry] | Exception) -> None:
        self._is_reading = False
        if isinstance(result, list):
            self.known = result
