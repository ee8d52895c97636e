"""A blocking management client, for `van` and for tests, on Proton's own Python classes. Layer: 2.

Source: management specification, sections 1 to 5. It talks to vanrouter and to C routers alike; every request says that
the client knows vanrouter's additions. The daemon never imports this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from proton import ConnectionException, Endpoint, LinkException, Message, ProtonException, SSLDomain, SSLException
from proton import Timeout as ProtonTimeout
from proton.utils import BlockingConnection, SendException, SyncRequestResponse

from vanrouter.errors import ManagementError, VanrouterError

DEFAULT_URL = "amqp://127.0.0.1:5672"
DEFAULT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
"""How long the router may take to answer the close."""

PAGE_ROWS = 500
"""Rows asked for at once; what the C router's programs use too."""

LOCAL = "$management"
"""The router the client is attached to."""

Row = dict[str, Any]
"""One entity as received. The values are whatever the peer sent."""


class ClientError(VanrouterError):
    """The router cannot be asked: unreachable, unwilling, or silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How the client proves who it is and checks who it talks to.

    Args:
        certificate: own certificate (PEM), for TLS with client authentication.
        key: its private key; by default in the same file.
        key_password: password of that key.
        trusted: certificates of the authorities to trust; None = those of the system.
        is_name_checked: the certificate must name the host.
        user: for SASL PLAIN and the like.
        password: its password.
        mechanisms: SASL mechanisms allowed, separated by blanks.
    """

    certificate: str | None = None
    key: str | None = None
    key_password: str | None = None
    trusted: str | None = None
    is_name_checked: bool = True
    user: str | None = None
    password: str | None = None
    mechanisms: str | None = None

    @property
    def wants_sasl(self) -> bool:
        """Whether there is anything to say in a SASL layer; without, it is left out as the C router's programs do."""
        return bool(self.user or self.mechanisms or self.certificate)


def router_target(router_id: str) -> str:
    """Return the management address of an interior router anywhere in the network."""
    return f"_topo/0/{router_id}/{LOCAL}"


def edge_target(router_id: str) -> str:
    """Return the management address of an edge router anywhere in the network."""
    return f"_edge/{router_id}/{LOCAL}"


class ManagementClient:
    """A connection to one router, through which any router of the network can be asked.

    Args:
        url: `amqp[s]://[user:password@]host[:port]`, or the part after `//`.
        timeout_s: for the connection and for each reply.
        credentials: TLS and SASL.

    Raises:
        ClientError: there is no connection; the text says why.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        credentials: Credentials = Credentials(),
    ) -> None:
        self.target = LOCAL
        self._is_closed = False
        self._shown, address, in_url, has_tls = parsed_url(url)
        user, password = in_url if in_url[0] is not None else (credentials.user, credentials.password)
        try:
            self._connection = BlockingConnection(
                address,
                timeout=timeout_s,
                ssl_domain=tls_domain(credentials) if has_tls else None,
                sasl_enabled=credentials.wants_sasl or user is not None,
                allowed_mechs=credentials.mechanisms,
                user=user,
                password=password,
            )
            self._exchange = SyncRequestResponse(self._connection)
        except ProtonTimeout:
            raise ClientError(f"{self._shown}: no answer within {timeout_s:g} s") from None
        except (ProtonException, OSError) as error:
            raise ClientError(f"{self._shown}: {_reason(error)}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; harmless when it is gone."""
        if self._is_closed:
            return
        self._is_closed = True
        connection = self._connection.conn
        with suppress(ProtonException, OSError):
            connection.close()
            self._connection.wait(lambda: not connection.state & Endpoint.REMOTE_ACTIVE, timeout=CLOSE_TIMEOUT_S)
        if connection.transport is not None:
            connection.transport.close_tail()  # a router that does not answer the close must not hold us
        with suppress(ProtonException, OSError):
            self._connection.close()

    def call(self, operation: str, body: object = None, **properties: object) -> Any:
        """Send one request to `target` and return the body of the reply.

        Args:
            operation: such as `READ`.
            body: the value of the body; None = an empty map.
            properties: application properties; None is left out.

        Raises:
            ManagementError: the router refuses.
            ClientError: no reply.
        """
        if self._is_closed:
            raise ClientError(f"{self._shown}: the connection was closed")
        given = {key: value for key, value in properties.items() if value is not None}
        request = Message(
            address=self.target,
            properties={"operation": operation, "extensions": True, **given},
            body={} if body is None else body,
        )
        try:
            reply = self._exchange.call(request)
        except ProtonTimeout:
            raise ClientError(f"{self._shown}: no reply from {self.target}; does that router exist?") from None
        except SendException:
            raise ClientError(f"{self._shown}: nothing answers at {self.target}; does that router exist?") from None
        except (ConnectionException, LinkException, ProtonException, OSError) as error:
            raise ClientError(f"{self._shown}: {_reason(error)}") from error
        status = (reply.properties or {}).get("statusCode")
        if not isinstance(status, int):
            raise ClientError(f"{self._shown}: {self.target} sent a reply without statusCode")
        if not 200 <= status < 300:
            raise ManagementError(
                int(status), str((reply.properties or {}).get("statusDescription") or "no reason given")
            )
        return reply.body

    def query(self, entity_type: str | None = None, columns: Sequence[str] = ()) -> Iterator[Row]:
        """Yield the entities of a type page by page, each as a map.

        Args:
            entity_type: short or full name; None = all.
            columns: attributes wanted; none = all of the type.
        """
        offset = 0
        before: object = None
        # What tells one row from another is asked for, too: two pages may begin with the same values otherwise.
        is_added = bool(columns) and "identity" not in columns
        wanted = [*columns, "identity"] if is_added else list(columns)
        while True:
            body = {"attributeNames": wanted}
            reply = self.call("QUERY", body, entityType=_full(entity_type), offset=offset, count=PAGE_ROWS)
            names, rows = reply["attributeNames"], reply["results"]
            if not rows or rows[0] == before:  # a router that ignores the offset sends the first page again
                return
            for row in rows:
                found = dict(zip(names, row, strict=False))
                if is_added:
                    found.pop("identity", None)
                yield found
            if len(rows) != PAGE_ROWS:
                return
            before = rows[0]
            offset += PAGE_ROWS

    def read(self, entity_type: str, *, name: str | None = None, identity: str | None = None) -> Row:
        """Return one entity."""
        return dict(self.call("READ", type=_full(entity_type), name=name, identity=identity))

    def create(self, entity_type: str, attributes: Mapping[str, object], *, name: str | None = None) -> Row:
        """Create an entity and return it with its defaults."""
        return dict(self.call("CREATE", dict(attributes), type=_full(entity_type), name=name))

    def update(
        self,
        entity_type: str,
        attributes: Mapping[str, object],
        *,
        name: str | None = None,
        identity: str | None = None,
    ) -> Row:
        """Change an entity and return it."""
        return dict(self.call("UPDATE", dict(attributes), type=_full(entity_type), name=name, identity=identity))

    def delete(self, entity_type: str, *, name: str | None = None, identity: str | None = None) -> None:
        """Delete an entity."""
        self.call("DELETE", type=_full(entity_type), name=name, identity=identity)

    def router_ids(self) -> list[str]:
        """Return the ids of the interior routers that the target knows, itself first."""
        return [str(address).split("/")[3] for address in self.call("GET-MGMT-NODES", name="self")]

    def reload(self) -> Row:
        """Have the target read its configuration file again; return what was created, updated and deleted."""
        return dict(self.call("RELOAD", name="self"))

    def log(self, limit: int) -> list[list[Any]]:
        """Return the newest events of the target: module, level, text, file, line, epoch seconds."""
        return list(self.call("GET-LOG", name="self", limit=limit))


_FULL_NAMES = {
    "address": "io.skupper.router.router.config.address",
    "autoLink": "io.skupper.router.router.config.autoLink",
    "link": "io.skupper.router.router.link",
    "node": "io.skupper.router.router.node",
}
"""Short words for types whose full names say more; as the C router's `skmanage` has them."""


def _full(entity_type: str | None) -> str | None:
    """Return the full name: C routers know some types by it alone."""
    if entity_type is None or entity_type.startswith("io.skupper.router."):
        return entity_type
    return _FULL_NAMES.get(entity_type, f"io.skupper.router.{entity_type}")


def parsed_url(url: str) -> tuple[str, str, tuple[str | None, str | None], bool]:
    """Return the URL for messages, the URL for Proton, user and password in it, and whether it asks for TLS."""
    parts = urlsplit(url if "//" in url else f"amqp://{url}")
    if parts.scheme not in ("amqp", "amqps"):
        raise ClientError(f"{url}: the scheme must be amqp or amqps")
    try:
        port = parts.port
    except ValueError:
        raise ClientError(f"{url}: the port must be a number from 0 to 65535") from None
    has_tls = parts.scheme == "amqps"
    host = parts.hostname or "127.0.0.1"
    place = f"[{host}]" if ":" in host else quote(host)
    shown = f"{parts.scheme}://{place}:{port or (5671 if has_tls else 5672)}"
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return shown, shown, (user, password), has_tls


def tls_domain(credentials: Credentials) -> SSLDomain:
    """Return the TLS set-up of a client.

    Raises:
        ClientError: a file cannot be used.
    """
    domain = SSLDomain(SSLDomain.MODE_CLIENT)
    try:
        if credentials.certificate is not None:
            key = credentials.key or credentials.certificate
            domain.set_credentials(credentials.certificate, key, credentials.key_password)
        if credentials.trusted is not None:
            domain.set_trusted_ca_db(credentials.trusted)
            verify = SSLDomain.VERIFY_PEER_NAME if credentials.is_name_checked else SSLDomain.VERIFY_PEER
            domain.set_peer_authentication(verify, credentials.trusted)
    except SSLException as error:
        raise ClientError(f"TLS set-up failed: {_reason(error)}; check certificate, key and password") from None
    return domain


_CONDITION = re.compile(r"Condition\('([^']*)'(?:, (?:'(.*)'|\"(.*)\"))?")


def _reason(error: Exception) -> str:
    """Return what an exception of Proton's says, without its way to write conditions."""
    text = str(error).strip() or type(error).__name__
    found = _CONDITION.search(text)
    if found is None:
        return text
    name, description = found[1], found[2] or found[3]
    if name == "proton.pythonio":
        return f"cannot connect: {description}"
    return f"{description} ({name})" if description else name
