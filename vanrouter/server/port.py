"""Listeners with `http: yes`: what their port answers, and AMQP over WebSocket given to the core.

Layer: 5. Source: management.md section 13. `/readyz` and the series `vanrouter_*` are additions.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import ssl
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from vanrouter.adaptors import port_files
from vanrouter.adaptors.amqp import AmqpListener, AmqpSettings, OuterTls, tune
from vanrouter.adaptors.port import Port
from vanrouter.adaptors.port_messages import Reply, Request, Response, error_page, plain
from vanrouter.adaptors.port_websocket import WebSocketChannel
from vanrouter.engine.security import DEFAULT_PROTOCOLS, TlsProfile
from vanrouter.mgmt.entities import Entity
from vanrouter.mgmt.metrics import CONTENT_TYPE, Families, exposition, plain_exposition
from vanrouter.net.listener import text_address
from vanrouter.net.reactor import IN
from vanrouter.net.tls import Tls, TlsFiles, listener_context
from vanrouter.server.certificates import Certificates
from vanrouter.server.measures import c_router, measures
from vanrouter.server.readiness import problems
from vanrouter.server.scraping import Scrape

if TYPE_CHECKING:
    from vanrouter.server.site import Site

logger = logging.getLogger("vanrouter.adaptors.port")

METHODS = ("GET", "HEAD", "POST")
"""Answered alike (management.md section 13); others are refused."""

TLS_VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


def is_http(entity: Entity) -> bool:
    """Tell whether a listener is an HTTP port."""
    return entity.is_on("http") or bool(entity.text("httpRootDir"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PortOptions:
    """What one port answers."""

    healthz: bool = True
    metrics: bool = True
    websockets: bool = True
    root: str | None = None


class Ports:
    """All HTTP ports of a router, and what they have in common."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.scrape = Scrape(site.reactor, lambda: exposition(measures(site)))
        self.plain_scrape = Scrape(site.reactor, lambda: plain_exposition(without_labels(site)))
        self.certificates = Certificates(site.reactor)
        self.began_at = time.time()
        """Start of the router, seconds since 1970."""

    def listener(self, entity: Entity, settings: AmqpSettings) -> PortListener:
        """Return the live object of a listener entity."""
        options = PortOptions(
            healthz=entity.is_on("healthz"),
            metrics=entity.is_on("metrics"),
            websockets=entity.is_on("websockets"),
            root=entity.text("httpRootDir") or None,
        )
        return PortListener(self._site, settings, options)

    def open_ports(self) -> list[tuple[str, Port]]:
        """Return the ports by name."""
        found = (live for live in self._site.objects.values() if isinstance(live, PortListener))
        return [(live.settings.name or live.settings.endpoint, live.port) for live in found]


def without_labels(site: Site) -> Families:
    """Yield the series of the C router alone."""
    return (piece for piece in c_router(site) if piece is None or not piece.name.startswith("vanrouter_"))


class Answers:
    """Knows the answers of one port."""

    def __init__(self, site: Site, options: PortOptions) -> None:
        self._site = site
        self._options = options

    def answer(self, request: Request, reply: Reply) -> None:
        """Answer a request."""
        path, options = request.path, self._options
        if request.method not in METHODS:
            reply(plain(405, "GET, HEAD and POST are answered here", headers=(("allow", ", ".join(METHODS)),)))
        elif path == "/healthz" and options.healthz:
            reply(plain(200, "OK"))  # the loop turns: this was said in one of its turns
        elif path == "/readyz" and options.healthz:
            reasons = problems(self._site)
            reply(plain(503, *reasons) if reasons else plain(200, "OK"))
        elif (path == "/metrics" or path.startswith("/metrics/")) and options.metrics:
            self._metrics(request, reply)
        elif options.root is None:
            reply(error_page(404))
        else:
            self._file(options.root, request, reply)

    def _metrics(self, request: Request, reply: Reply) -> None:
        """Answer with all series; to a reader that does not say what it understands, with the C router's alone.

        Everything that knows labels sends an Accept header; programs made for the C router take a name up to the next
        space, and send none.
        """
        ports = self._site.ports
        scrape = ports.plain_scrape if request.header(b"accept") is None else ports.scrape

        def done(text: list[bytes]) -> None:
            if text:
                reply(Response(content_type=CONTENT_TYPE, pieces=tuple(text)))
            else:
                reply(plain(500, "the metrics could not be read; the log says why"))

        scrape.ask(done)

    def _file(self, root: str, request: Request, reply: Reply) -> None:
        def done(result: Any) -> None:
            if isinstance(result, Exception):
                logger.error("%r below %s: %s", request.path, root, result)
                result = error_page(500)
            reply(result)

        tag = request.header(b"if-none-match")
        self._site.reactor.run_in_thread(lambda: port_files.serve(root, request.path, tag), done)


class PortListener(AmqpListener):
    """A listener entity whose port speaks HTTP; AMQP comes to it over WebSocket."""

    def __init__(self, site: Site, settings: AmqpSettings, options: PortOptions) -> None:
        super().__init__(site.amqp, settings)
        self._reactor = site.reactor
        self.port = Port(
            site.reactor,
            Answers(site, options),
            self._on_websocket,
            has_websockets=options.websockets,
            requires_tls=settings.require_tls,
        )

    def _new_domain(self, settings: AmqpSettings) -> Any:
        return None if settings.tls is None else tls_context(settings.tls, settings.authenticate_peer)

    def _use_domain(self, domain: Any) -> None:
        self.port.context = domain

    def _announce(self, endpoint: str, name: str) -> None:
        logger.info("Listening for HTTP on %s%s", endpoint, name)

    def _taken(self, sock: socket.socket, address: Any) -> None:
        tune(sock, self.settings)
        self.port.take(sock, text_address(address).rpartition(":")[0])

    def _on_websocket(self, channel: WebSocketChannel, tls: Tls | None, host: str) -> None:
        settings = self.settings
        if tls is not None:
            outer = outer_tls(tls, None if settings.tls is None else settings.tls.uid_format)
            settings = replace(
                settings,
                outer_tls=outer,
                require_encryption=False,
                require_tls=False,
                authenticate_peer=settings.authenticate_peer and outer.user is None,
            )
        connection = self._serve(channel, settings, None, host)
        if connection is not None and channel.has_early:
            self._reactor.call_soon(partial(connection.engine.on_ready, IN))

    def close(self) -> None:
        """Stop listening; WebSockets that are open stay, as AMQP connections do."""
        super().close()
        self.port.close()


def tls_context(profile: TlsProfile, authenticate_peer: bool) -> ssl.SSLContext:
    """Return the context of an HTTP port.

    Raises:
        ConfigError: a file of the sslProfile cannot be used.
    """
    files = TlsFiles(
        ca_file=profile.ca_file,
        cert_file=profile.cert_file,
        key_file=profile.key_file if profile.key_file is not None else profile.cert_file,
        password=profile.password,
        ciphers=profile.ciphers,
    )
    context = listener_context(files, authenticate_peer and profile.ca_file is not None, ("http/1.1",))
    versions = [TLS_VERSIONS[word] for word in (profile.protocols or DEFAULT_PROTOCOLS).split() if word in TLS_VERSIONS]
    if versions:
        context.minimum_version, context.maximum_version = min(versions), max(versions)
    return context


def outer_tls(tls: Tls, uid_format: str | None) -> OuterTls:
    """Return what the TLS session under a WebSocket has shown."""
    session = tls.session
    cipher = session.cipher()
    certificate = session.getpeercert(True)
    facts: Any = session.getpeercert() or {}
    subject = [(key, value) for entry in facts.get("subject", ()) for key, value in entry]
    return OuterTls(
        protocol=session.version(),
        cipher=None if cipher is None else cipher[0],
        user=None if not certificate else certificate_user(certificate, subject, uid_format),
    )


SUBJECT_FIELDS = {
    "c": "countryName",
    "s": "stateOrProvinceName",
    "l": "localityName",
    "o": "organizationName",
    "u": "organizationalUnitName",
    "n": "commonName",
}
FINGERPRINTS = {"1": hashlib.sha1, "2": hashlib.sha256, "5": hashlib.sha512}
"""Letters of `uidFormat` (management.md section 8, sslProfile)."""


def certificate_user(der: bytes, subject: list[tuple[str, str]], uid_format: str | None) -> str:
    """Return the user that a client's certificate stands for: what `uidFormat` makes of it, or its whole subject.

    Args:
        der: the certificate.
        subject: names and values of its subject.
        uid_format: letters, None for the whole subject.
    """
    parts: list[str] = []
    for letter in uid_format or "":
        if letter in FINGERPRINTS:
            parts.append(FINGERPRINTS[letter](der).hexdigest())
        else:
            parts += [value for key, value in subject if key == SUBJECT_FIELDS[letter]][:1]
    return ";".join(parts) or ",".join(f"{key}={value}" for key, value in subject)
