"""What entities mean to the rooms that carry them out: attributes in, settings out, files and passwords looked up.

Layer: 5. Source: management.md, section 8. Nothing is brought up here, so that a whole configuration can be translated,
and so checked, before any of it is put in force.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from vanrouter.adaptors.amqp import AmqpSettings
from vanrouter.adaptors.tcp_config import ConnectorConfig, ListenerConfig
from vanrouter.core.auto_links import AutoLinkConfig
from vanrouter.core.message_log import components_of
from vanrouter.core.peer import Role
from vanrouter.core.table import AddressRule, Treatment
from vanrouter.engine.security import TlsProfile
from vanrouter.errors import ConfigError
from vanrouter.mgmt import rules
from vanrouter.mgmt.entities import Entity, Registry
from vanrouter.mgmt.logs import Logs
from vanrouter.mgmt.rules import address_pattern
from vanrouter.mgmt.secrets import Secret, resolve
from vanrouter.net.tls import TlsFiles
from vanrouter.net.tunnel import Proxy
from vanrouter.routing.commands import ControlSettings

logger = logging.getLogger("vanrouter.connections")

CREDENTIAL_FILES = ("caCertFile", "certFile", "privateKeyFile")

TREATMENTS = {
    "multicast": Treatment.MULTICAST,
    "closest": Treatment.CLOSEST,
    "balanced": Treatment.BALANCED,
    "unavailable": Treatment.UNAVAILABLE,
    "even": Treatment.EVEN,
}


class Settings:
    """Translates the entities of one registry.

    Args:
        registry: where profiles are looked up by name.
        router: the attributes of the router entity.
        logs: told every password, to hide it.
    """

    def __init__(self, registry: Registry, router: Mapping[str, object], logs: Logs) -> None:
        self._registry = registry
        self._router = router
        self._logs = logs

    def tcp_listener(self, entity: Entity) -> ListenerConfig:
        """Return the settings of a tcpListener.

        Raises:
            ConfigError: the profile or a password cannot be had.
        """
        attributes = {**entity.attributes, "name": given_name(entity)}
        return ListenerConfig.from_attributes(attributes, self.tls_files(entity))

    def tcp_connector(self, entity: Entity) -> ConnectorConfig:
        """Return the settings of a tcpConnector.

        Raises:
            ConfigError: as for `tcp_listener`.
        """
        attributes = {**entity.attributes, "name": given_name(entity)}
        return ConnectorConfig.from_attributes(attributes, self.tls_files(entity))

    @staticmethod
    def address_rule(entity: Entity) -> AddressRule:
        """Return the treatment rule of an `address` entity."""
        priority = entity.attributes.get("priority")
        return AddressRule(
            pattern=address_pattern(entity.attributes),
            treatment=TREATMENTS[entity.text("distribution")],
            priority=priority if isinstance(priority, int) and priority >= 0 else None,
        )

    @staticmethod
    def auto_link(entity: Entity) -> AutoLinkConfig:
        """Return the settings of an `autoLink` entity."""
        return AutoLinkConfig(
            is_in=entity.text("direction") == "in",
            address=text_of(entity.attributes.get("address")),
            external_address=text_of(entity.attributes.get("externalAddress")),
            container_id=text_of(entity.attributes.get("containerId")),
            connection=text_of(entity.attributes.get("connection")),
        )

    def _profile(self, entity: Entity) -> Entity | None:
        name = entity.text("sslProfile")
        if not name:
            return None
        profile = self._registry.named("sslProfile", name)
        if profile is None:
            raise ConfigError(f"{entity.type.short}.sslProfile", f"sslProfile '{name}' not found")
        return profile

    def tls_profile(self, entity: Entity) -> TlsProfile | None:
        """Return the sslProfile that an entity names, as AMQP uses it.

        Raises:
            ConfigError: there is none of that name, or a file of it cannot be read.
        """
        profile = self._profile(entity)
        if profile is None:
            return None
        return TlsProfile(
            name=profile.name or "",
            ca_file=text_of(profile.attributes.get("caCertFile")),
            cert_file=text_of(profile.attributes.get("certFile")),
            key_file=text_of(profile.attributes.get("privateKeyFile")),
            password=self._secret(profile, "password"),
            ciphers=text_of(profile.attributes.get("ciphers")),
            protocols=text_of(profile.attributes.get("protocols")),
            uid_format=self._uid_format(profile),
            names=self._display_names(profile),
            ordinal=profile.number("ordinal"),
        )

    @staticmethod
    def _uid_format(profile: Entity) -> str | None:
        text = profile.text("uidFormat")
        if not rules.UID_FORMAT.fullmatch(text):
            logger.error("Invalid format for uidFormat field in sslProfile '%s': %s", profile.name, text)
            return None
        return text or None

    @staticmethod
    def _display_names(profile: Entity) -> dict[str, str]:
        """Read the names to show for users, of `uidNameMappingFile`."""
        path = profile.text("uidNameMappingFile")
        if not path:
            return {}
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError("sslProfile.uidNameMappingFile", f"{path}: {error}") from error
        if not isinstance(content, dict):
            raise ConfigError("sslProfile.uidNameMappingFile", f"{path}: a map from user to name is needed")
        return {str(user): str(name) for user, name in content.items()}

    def _proxy(self, entity: Entity) -> Proxy | None:
        name = entity.text("proxyProfile") if entity.type.short == "connector" else ""
        if not name:
            return None
        profile = self._registry.named("proxyProfile", name)
        if profile is None:
            raise ConfigError("connector.proxyProfile", f"proxyProfile '{name}' not found")
        return Proxy(
            host=profile.text("host"),
            port=profile.text("port"),
            username=text_of(profile.attributes.get("username")),
            password=self._secret(profile, "password"),
        )

    def tls_files(self, entity: Entity) -> TlsFiles | None:
        """Return the sslProfile that an entity names, as raw TLS uses it.

        Raises:
            ConfigError: as for `tls_profile`.
        """
        profile = self.tls_profile(entity)
        if profile is None:
            return None
        return TlsFiles(
            name=profile.name,
            ca_file=profile.ca_file,
            cert_file=profile.cert_file,
            key_file=profile.key_file,
            password=profile.password,
            ciphers=profile.ciphers,
            ordinal=profile.ordinal,
        )

    def _secret(self, entity: Entity, attribute: str) -> str | None:
        value = entity.attributes.get(attribute)
        if not isinstance(value, Secret):
            return text_of(value)
        try:
            text = resolve(value, f"{entity.type.short}.{attribute}", has_literal=attribute != "saslPassword")
        except ConfigError as error:
            # Not the end of the router: only what needs the password fails, and says so again.
            logger.error("%s", error.reason)
            return "" if attribute == "saslPassword" else None
        self._logs.hide(text)
        return text

    def amqp(self, entity: Entity) -> AmqpSettings:
        """Return the settings of a listener or connector.

        Raises:
            ConfigError: a profile or a password cannot be had.
        """
        values = entity.attributes
        sasl_user = text_of(values.get("saslUsername"))
        return AmqpSettings(
            name=given_name(entity),
            host=entity.text("host"),
            port=entity.text("port"),
            role=Role(entity.text("role")),
            cost=entity.number("cost") or 1,
            family=text_of(values.get("socketAddressFamily")),
            tls=self.tls_profile(entity),
            sasl_mechanisms=text_of(values.get("saslMechanisms")),
            max_frame_bytes=entity.number("maxFrameSize") or 16384,
            max_sessions=entity.number("maxSessions") or 32768,
            max_session_frames=entity.number("maxSessionFrames") or None,
            idle_timeout_s=entity.number("idleTimeoutSeconds"),
            strip_annotations=entity.text("stripAnnotations") or "both",
            link_capacity=entity.number("linkCapacity") or 250,
            open_properties=dict(values.get("openProperties") or {}),  # type: ignore[call-overload]  # a map by its schema
            policy_vhost=entity.text("policyVhost"),
            message_components=components_of(entity.text("messageLoggingComponents")),
            sasl_config_dir=text_of(self._router.get("saslConfigDir")),
            sasl_config_name=text_of(self._router.get("saslConfigName")),
            authenticate_peer=entity.is_on("authenticatePeer"),
            require_encryption=entity.is_on("requireEncryption"),
            require_tls=entity.is_on("requireSsl"),
            handshake_timeout_s=entity.number("initialHandshakeTimeoutSeconds"),
            failover_urls=failover_entries(entity.text("failoverUrls")) if entity.type.short == "listener" else (),
            verify_hostname=values.get("verifyHostname") is not False,
            sasl_username=sasl_user,
            sasl_password=self._secret(entity, "saslPassword"),
            data_connections=self.data_connections(),
            proxy=self._proxy(entity),
        )

    def data_connections(self) -> int:
        """Return how many data connections an inter-router connector makes (router protocol, section 1.5)."""
        text = str(self._router.get("dataConnectionCount", "auto"))
        if text.isdigit():
            return int(text)
        threads = self._router.get("workerThreads")
        return (int(threads) + 1) // 2 if isinstance(threads, int) else 2


def given_name(entity: Entity) -> str:
    """Return the name that the operator gave, or nothing."""
    return "" if entity.name is None or entity.name == entity.identity else entity.name


def failover_entries(urls: str) -> tuple[dict[str, str], ...]:
    """Return `failoverUrls` as the entries of `failover-server-list` (router protocol, section 1.4)."""
    entries = []
    for url in filter(None, (part.strip() for part in urls.split(","))):
        scheme, separator, rest = url.partition("://")
        if not separator:
            scheme, rest = "amqp", url
        host, _, port = rest.rpartition(":") if ":" in rest else (rest, "", "")
        entry = {"network-host": host, "port": port or ("amqps" if scheme == "amqps" else "amqp")}
        if separator:
            entry["scheme"] = scheme
        entries.append(entry)
    return tuple(entries)


def control_settings(attributes: Mapping[str, object]) -> ControlSettings:
    """Return the routing protocol's intervals from the router entity."""

    def number(name: str, default: float) -> float:
        value = attributes.get(name)
        return float(value) if isinstance(value, int) else default

    return ControlSettings(
        hello_interval_s=number("helloIntervalSeconds", 1),
        hello_max_age_s=number("helloMaxAgeSeconds", 3),
        ra_interval_s=number("raIntervalSeconds", 30),
        ra_interval_flux_s=number("raIntervalFluxSeconds", 4),
        remote_ls_max_age_s=number("remoteLsMaxAgeSeconds", 60),
        unreachable_holdoff_s=number("unreachableHoldoffSeconds", 1),
    )


def fingerprint(attributes: Mapping[str, object]) -> str:
    """Return a digest of the files that an sslProfile names; of those that cannot be read, nothing."""
    digest = hashlib.sha256()
    for name in CREDENTIAL_FILES:
        path = attributes.get(name)
        try:
            digest.update(Path(path).read_bytes() if isinstance(path, str) and path else b"")
        except OSError:
            digest.update(b"unreadable")
        digest.update(b"\0")
    return digest.hexdigest()


def text_of(value: object) -> str | None:
    """Return a text that is not empty, else None."""
    return value if isinstance(value, str) and value else None
