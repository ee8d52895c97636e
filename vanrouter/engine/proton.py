"""Qpid Proton's engine, called directly: every function that vanrouter uses, bound once at import.

Layer: 2. This is the only module of the daemon that imports `cproton_ffi`, the extension inside python-qpid-proton. It
is not a documented interface; the package is pinned to 0.40.x, and `missing_functions` is asked at start. Attribute
look-ups on the library object are a visible cost at message rate, so other modules import the names from here.

Pointers compare and hash by address. They stay valid as long as something holds a reference: a delivery until it is
settled on both sides, a link until `pn_link_free`, everything of a connection until the connection is freed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import cproton_ffi
from cproton_ffi import ffi, lib

from vanrouter.errors import VanrouterError

Pointer = Any
"""A pointer into the engine; opaque."""

NULL: Any = ffi.NULL
new: Any = ffi.new
from_buffer: Any = ffi.from_buffer
cast: Any = ffi.cast
buffer: Any = ffi.buffer
"""`buffer(pointer, size)[:n]` is a copy of the first n octets, for half of what one costs that is made of a view."""
_string: Any = ffi.string
_unpack: Any = ffi.unpack

# Results of `link_recv` other than a count of octets (proton/error.h).
EOS = -1
ABORTED = -11

# Bits of `*_state` (proton/connection.h).
LOCAL_ACTIVE = int(lib.PN_LOCAL_ACTIVE)
LOCAL_CLOSED = int(lib.PN_LOCAL_CLOSED)
REMOTE_ACTIVE = int(lib.PN_REMOTE_ACTIVE)
REMOTE_CLOSED = int(lib.PN_REMOTE_CLOSED)

# Event types.
EVENT_DELIVERY = int(lib.PN_DELIVERY)
EVENT_LINK_FLOW = int(lib.PN_LINK_FLOW)
EVENT_CONNECTION_REMOTE_OPEN = int(lib.PN_CONNECTION_REMOTE_OPEN)
EVENT_CONNECTION_REMOTE_CLOSE = int(lib.PN_CONNECTION_REMOTE_CLOSE)
EVENT_SESSION_REMOTE_OPEN = int(lib.PN_SESSION_REMOTE_OPEN)
EVENT_SESSION_REMOTE_CLOSE = int(lib.PN_SESSION_REMOTE_CLOSE)
EVENT_LINK_REMOTE_OPEN = int(lib.PN_LINK_REMOTE_OPEN)
EVENT_LINK_REMOTE_CLOSE = int(lib.PN_LINK_REMOTE_CLOSE)
EVENT_LINK_REMOTE_DETACH = int(lib.PN_LINK_REMOTE_DETACH)
EVENT_TRANSPORT_TAIL_CLOSED = int(lib.PN_TRANSPORT_TAIL_CLOSED)

# Terminus and settle modes.
TERMINUS_UNSPECIFIED = int(lib.PN_UNSPECIFIED)
TERMINUS_SOURCE = int(lib.PN_SOURCE)
TERMINUS_TARGET = int(lib.PN_TARGET)
TERMINUS_COORDINATOR = int(lib.PN_COORDINATOR)
DISTRIBUTION_COPY = int(lib.PN_DIST_MODE_COPY)
DISTRIBUTION_MOVE = int(lib.PN_DIST_MODE_MOVE)
SND_UNSETTLED = int(lib.PN_SND_UNSETTLED)
SND_SETTLED = int(lib.PN_SND_SETTLED)
SND_MIXED = int(lib.PN_SND_MIXED)
RCV_FIRST = int(lib.PN_RCV_FIRST)
SSL_MODE_CLIENT: Any = lib.PN_SSL_MODE_CLIENT
SSL_MODE_SERVER: Any = lib.PN_SSL_MODE_SERVER
SASL_OK = int(lib.PN_SASL_OK)
SASL_UNKNOWN = int(lib.PN_SASL_NONE)
"""The outcome is not known yet."""
SSL_VERIFY_PEER: Any = lib.PN_SSL_VERIFY_PEER
SSL_VERIFY_PEER_NAME: Any = lib.PN_SSL_VERIFY_PEER_NAME
SSL_ANONYMOUS_PEER: Any = lib.PN_SSL_ANONYMOUS_PEER
TRACE_FRAMES: Any = lib.PN_TRACE_FRM
TRACE_OFF: Any = lib.PN_TRACE_OFF
SUBJECT_FIELDS: dict[str, Any] = {
    "c": lib.PN_SSL_CERT_SUBJECT_COUNTRY_NAME,
    "s": lib.PN_SSL_CERT_SUBJECT_STATE_OR_PROVINCE,
    "l": lib.PN_SSL_CERT_SUBJECT_CITY_OR_LOCALITY,
    "o": lib.PN_SSL_CERT_SUBJECT_ORGANIZATION_NAME,
    "u": lib.PN_SSL_CERT_SUBJECT_ORGANIZATION_UNIT,
    "n": lib.PN_SSL_CERT_SUBJECT_COMMON_NAME,
}
FINGERPRINTS: dict[str, tuple[Any, int]] = {
    "1": (lib.PN_SSL_SHA1, 40),
    "2": (lib.PN_SSL_SHA256, 64),
    "5": (lib.PN_SSL_SHA512, 128),
}
"""Letters of `uidFormat` (management.md section 8, sslProfile); digests with their length in hexadecimal digits."""

_absent: list[str] = []


def _bind(name: str) -> Any:
    function = getattr(lib, name, None)
    if function is None:
        _absent.append(name)
    return function


_library = ctypes.CDLL(cproton_ffi.__file__)


def _find(name: str, signature: str) -> Any:
    """Bind what the library exports and cffi leaves out: the interface for SASL plugins (proton/sasl_plugin.h)."""
    symbol = getattr(_library, name, None)
    if symbol is None:
        _absent.append(name)
        return None
    return cast(signature, ctypes.cast(symbol, ctypes.c_void_p).value)


# Transport and events.
connection_new = _bind("pn_connection")
connection_release = _bind("pn_connection_release")
connection_collect = _bind("pn_connection_collect")
collector_new = _bind("pn_collector")
collector_free = _bind("pn_collector_free")
collector_peek = _bind("pn_collector_peek")
collector_pop = _bind("pn_collector_pop")
event_type = _bind("pn_event_type")
event_delivery = _bind("pn_event_delivery")
event_link = _bind("pn_event_link")
event_session = _bind("pn_event_session")
transport_new = _bind("pn_transport")
transport_bind = _bind("pn_transport_bind")
transport_unbind = _bind("pn_transport_unbind")
transport_set_server = _bind("pn_transport_set_server")
transport_push = _bind("pn_transport_push")
transport_pending = _bind("pn_transport_pending")
transport_peek = _bind("pn_transport_peek")
transport_pop = _bind("pn_transport_pop")
transport_close_tail = _bind("pn_transport_close_tail")
transport_tick = _bind("pn_transport_tick")
transport_condition = _bind("pn_transport_condition")
transport_set_idle_timeout = _bind("pn_transport_set_idle_timeout")
transport_set_max_frame = _bind("pn_transport_set_max_frame")
transport_get_remote_max_frame = _bind("pn_transport_get_remote_max_frame")
transport_set_channel_max = _bind("pn_transport_set_channel_max")
transport_require_auth = _bind("pn_transport_require_auth")
transport_require_encryption = _bind("pn_transport_require_encryption")
transport_is_authenticated = _bind("pn_transport_is_authenticated")
transport_is_encrypted = _bind("pn_transport_is_encrypted")
transport_get_user = _bind("pn_transport_get_user")
transport_trace = _bind("pn_transport_trace")
transport_set_tracer = _bind("pn_transport_set_tracer")
decref = _bind("pn_decref")

# Connections.
connection_open = _bind("pn_connection_open")
connection_close = _bind("pn_connection_close")
connection_state = _bind("pn_connection_state")
connection_condition = _bind("pn_connection_condition")
connection_remote_condition = _bind("pn_connection_remote_condition")
connection_set_container = _bind("pn_connection_set_container")
connection_set_hostname = _bind("pn_connection_set_hostname")
connection_set_user = _bind("pn_connection_set_user")
connection_set_password = _bind("pn_connection_set_password")
connection_remote_container = _bind("pn_connection_remote_container")
connection_remote_hostname = _bind("pn_connection_remote_hostname")
connection_offered_capabilities = _bind("pn_connection_offered_capabilities")
connection_desired_capabilities = _bind("pn_connection_desired_capabilities")
connection_properties = _bind("pn_connection_properties")
connection_remote_offered_capabilities = _bind("pn_connection_remote_offered_capabilities")
connection_remote_properties = _bind("pn_connection_remote_properties")

# Sessions.
session_new = _bind("pn_session")
session_open = _bind("pn_session_open")
session_close = _bind("pn_session_close")
session_free = _bind("pn_session_free")
session_state = _bind("pn_session_state")
session_condition = _bind("pn_session_condition")
session_remote_condition = _bind("pn_session_remote_condition")
session_set_incoming_capacity = _bind("pn_session_set_incoming_capacity")
session_outgoing_bytes = _bind("pn_session_outgoing_bytes")

# Links.
sender_new = _bind("pn_sender")
receiver_new = _bind("pn_receiver")
link_open = _bind("pn_link_open")
link_close = _bind("pn_link_close")
link_free = _bind("pn_link_free")
link_state = _bind("pn_link_state")
link_name = _bind("pn_link_name")
link_session = _bind("pn_link_session")
link_is_receiver = _bind("pn_link_is_receiver")
link_condition = _bind("pn_link_condition")
link_remote_condition = _bind("pn_link_remote_condition")
link_source = _bind("pn_link_source")
link_target = _bind("pn_link_target")
link_remote_source = _bind("pn_link_remote_source")
link_remote_target = _bind("pn_link_remote_target")
link_flow = _bind("pn_link_flow")
link_credit = _bind("pn_link_credit")
link_queued = _bind("pn_link_queued")
link_drained = _bind("pn_link_drained")
link_get_drain = _bind("pn_link_get_drain")
link_set_drain = _bind("pn_link_set_drain")
link_current = _bind("pn_link_current")
link_advance = _bind("pn_link_advance")
link_recv = _bind("pn_link_recv")
link_send = _bind("pn_link_send")
link_set_snd_settle_mode = _bind("pn_link_set_snd_settle_mode")
link_set_rcv_settle_mode = _bind("pn_link_set_rcv_settle_mode")
link_remote_snd_settle_mode = _bind("pn_link_remote_snd_settle_mode")
link_set_max_message_size = _bind("pn_link_set_max_message_size")
terminus_copy = _bind("pn_terminus_copy")
terminus_get_type = _bind("pn_terminus_get_type")
terminus_set_type = _bind("pn_terminus_set_type")
terminus_get_address = _bind("pn_terminus_get_address")
terminus_set_address = _bind("pn_terminus_set_address")
terminus_is_dynamic = _bind("pn_terminus_is_dynamic")
terminus_set_dynamic = _bind("pn_terminus_set_dynamic")
terminus_capabilities = _bind("pn_terminus_capabilities")
terminus_filter = _bind("pn_terminus_filter")
terminus_get_distribution_mode = _bind("pn_terminus_get_distribution_mode")
terminus_set_distribution_mode = _bind("pn_terminus_set_distribution_mode")

# Deliveries.
delivery_new = _bind("pn_delivery")
delivery_link = _bind("pn_delivery_link")
delivery_readable = _bind("pn_delivery_readable")
delivery_partial = _bind("pn_delivery_partial")
delivery_pending = _bind("pn_delivery_pending")
delivery_settled = _bind("pn_delivery_settled")
delivery_settle = _bind("pn_delivery_settle")
delivery_abort = _bind("pn_delivery_abort")
delivery_aborted = _bind("pn_delivery_aborted")
delivery_update = _bind("pn_delivery_update")
delivery_local = _bind("pn_delivery_local")
delivery_remote = _bind("pn_delivery_remote")
delivery_local_state = _bind("pn_delivery_local_state")
delivery_remote_state = _bind("pn_delivery_remote_state")
disposition_condition = _bind("pn_disposition_condition")
disposition_annotations = _bind("pn_disposition_annotations")
disposition_data = _bind("pn_disposition_data")
disposition_is_undeliverable = _bind("pn_disposition_is_undeliverable")
disposition_set_undeliverable = _bind("pn_disposition_set_undeliverable")
disposition_is_failed = _bind("pn_disposition_is_failed")
disposition_set_failed = _bind("pn_disposition_set_failed")
disposition_get_section_number = _bind("pn_disposition_get_section_number")
disposition_get_section_offset = _bind("pn_disposition_get_section_offset")
disposition_set_section_number = _bind("pn_disposition_set_section_number")
disposition_set_section_offset = _bind("pn_disposition_set_section_offset")

# Conditions and data objects.
condition_is_set = _bind("pn_condition_is_set")
condition_clear = _bind("pn_condition_clear")
condition_get_name = _bind("pn_condition_get_name")
condition_get_description = _bind("pn_condition_get_description")
condition_info = _bind("pn_condition_info")
condition_set_name = _bind("pn_condition_set_name")
condition_set_description = _bind("pn_condition_set_description")
data_new = _bind("pn_data")
data_free = _bind("pn_data_free")
data_clear = _bind("pn_data_clear")
data_copy = _bind("pn_data_copy")
data_decode = _bind("pn_data_decode")
data_encode = _bind("pn_data_encode")
data_encoded_size = _bind("pn_data_encoded_size")
data_rewind = _bind("pn_data_rewind")

# SASL and TLS.
sasl_new = _bind("pn_sasl")
sasl_outcome = _bind("pn_sasl_outcome")
sasl_allowed_mechs = _bind("pn_sasl_allowed_mechs")
sasl_config_name = _bind("pn_sasl_config_name")
sasl_config_path = _bind("pn_sasl_config_path")
sasl_extended = _bind("pn_sasl_extended")
sasl_get_mech = _bind("pn_sasl_get_mech")
sasl_set_allow_insecure_mechs = _bind("pn_sasl_set_allow_insecure_mechs")
sasl_get_context = _find("pnx_sasl_get_context", "void *(*)(pn_transport_t *)")
sasl_set_failed = _find("pnx_sasl_set_failed", "void(*)(pn_transport_t *)")
sasl_set_desired_state = _find("pnx_sasl_set_desired_state", "void(*)(pn_transport_t *, int)")
sasl_set_default_implementation = _find("pnx_sasl_set_default_implementation", "void(*)(void *)")
sasl_cyrus = _find("cyrus_sasl_impl", "void ***")
sasl_built_in = _find("default_sasl_impl", "void **")
"""Tables of functions: a pointer to that of Cyrus SASL, NULL without it, and Proton's own."""
ssl_present = _bind("pn_ssl_present")
ssl_new = _bind("pn_ssl")
ssl_init = _bind("pn_ssl_init")
ssl_set_peer_hostname = _bind("pn_ssl_set_peer_hostname")
ssl_get_protocol_name = _bind("pn_ssl_get_protocol_name")
ssl_get_cipher_name = _bind("pn_ssl_get_cipher_name")
ssl_get_remote_subject = _bind("pn_ssl_get_remote_subject")
ssl_get_remote_subject_subfield = _bind("pn_ssl_get_remote_subject_subfield")
ssl_get_cert_fingerprint = _bind("pn_ssl_get_cert_fingerprint")
ssl_domain_new = _bind("pn_ssl_domain")
ssl_domain_free = _bind("pn_ssl_domain_free")
ssl_domain_set_credentials = _bind("pn_ssl_domain_set_credentials")
ssl_domain_set_trusted_ca_db = _bind("pn_ssl_domain_set_trusted_ca_db")
ssl_domain_set_peer_authentication = _bind("pn_ssl_domain_set_peer_authentication")
ssl_domain_set_ciphers = _bind("pn_ssl_domain_set_ciphers")
ssl_domain_set_protocols = _bind("pn_ssl_domain_set_protocols")
ssl_domain_allow_unsecured_client = _bind("pn_ssl_domain_allow_unsecured_client")


def tracer(write: Callable[[Any, Any], None]) -> Any:
    """Return what the engine calls with a transport and the text of each frame. Keep it: the engine does not."""
    return ffi.callback("void(pn_transport_t *, const char *)", write)


def text(pointer: Any) -> str | None:
    """Return a C string as text, or None for NULL. Octets of a peer that are not UTF-8 become U+FFFD.

    So that each text can be encoded again: what names an address goes to all routers.
    """
    return None if pointer == NULL else _string(pointer).decode("utf-8", "replace")


def is_utf8(pointer: Any) -> bool:
    """Tell whether `text` gives a C string as it is; the engine takes any octets of a peer for a string."""
    found = text(pointer)
    return found is None or "\ufffd" not in found or found.encode() == _string(pointer)


def condition_text(condition: Any) -> tuple[str, str] | None:
    """Return (name, description) of a condition that is set, or None."""
    if not condition_is_set(condition):
        return None
    return text(condition_get_name(condition)) or "", text(condition_get_description(condition)) or ""


def set_condition(condition: Any, name: str, description: str) -> None:
    """Fill a condition for the wire."""
    condition_set_name(condition, name.encode())
    condition_set_description(condition, description.encode("utf-8", "backslashreplace"))


def put_encoded(data: Any, octets: bytes) -> None:
    """Make `octets`, one encoded AMQP value, the content of an engine data object."""
    data_clear(data)
    if octets:
        data_decode(data, octets, len(octets))
        data_rewind(data)


def get_encoded(data: Any) -> bytes:
    """Return the content of an engine data object encoded, b"" when there is none."""
    size = data_encoded_size(data) if data != NULL else 0
    if size <= 0:
        return b""
    buffer = new("char[]", size)
    written = data_encode(data, buffer, size)
    return bytes(_unpack(buffer, written)) if written > 0 else b""


def check_engine(*, needs_tls: bool, needs_sasl: bool) -> None:
    """Refuse to start on an engine that lacks what the configuration needs.

    Raises:
        VanrouterError: a function is missing, or Proton was built without TLS or SASL; the text says what to do.
    """
    if _absent:
        raise VanrouterError(
            f"this python-qpid-proton lacks {', '.join(_absent)}: install version 0.40 (`make setup` does it)"
        )
    if needs_tls and not ssl_present():
        raise VanrouterError(
            "Qpid Proton was built without TLS, but the configuration uses an sslProfile: install libssl-dev and build "
            "python-qpid-proton again from source (`make clean setup` does it)"
        )
    if needs_sasl and not sasl_extended():
        raise VanrouterError(
            "Qpid Proton was built without Cyrus SASL, but the configuration names SASL mechanisms: install "
            "libsasl2-dev and libsasl2-modules and build python-qpid-proton again from source (`make clean setup` does "
            "it)"
        )
