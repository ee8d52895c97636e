"""Say whether the installed Qpid Proton has TLS and offers SASL mechanisms; exit 1 when it lacks either.

Without OpenSSL's or Cyrus SASL's development files python-qpid-proton builds all the same, with stubs; without Cyrus's
plugin package it offers no mechanism. Set-up asks here before it believes a build.
"""

import sys

from cproton_ffi import ffi, lib

FRAME_BUFFER = 4096
SASL_HEADER = b"AMQP\x03\x01\x00\x00"


def offered_mechanisms() -> bytes:
    """Return the first octets of a server that is asked for SASL: its header and its list of mechanisms."""
    transport = lib.pn_transport()
    lib.pn_transport_set_server(transport)
    sasl = lib.pn_sasl(transport)
    lib.pn_sasl_allowed_mechs(sasl, b"ANONYMOUS PLAIN")
    lib.pn_sasl_set_allow_insecure_mechs(sasl, True)  # PLAIN without TLS: nothing leaves this process
    lib.pn_transport_push(transport, SASL_HEADER, len(SASL_HEADER))
    lib.pn_transport_pending(transport)
    buffer = ffi.new("char[]", FRAME_BUFFER)
    count = lib.pn_transport_peek(transport, buffer, FRAME_BUFFER)
    return bytes(ffi.buffer(buffer, max(count, 0)))


def main() -> int:
    """Print what is missing."""
    missing = []
    domain = lib.pn_ssl_domain(lib.PN_SSL_MODE_CLIENT)
    if domain == ffi.NULL:
        missing.append("TLS (libssl-dev was not there when python-qpid-proton was compiled)")
    if not lib.pn_sasl_extended():
        missing.append("Cyrus SASL (libsasl2-dev was not there when python-qpid-proton was compiled)")
    elif b"PLAIN" not in offered_mechanisms():
        missing.append("SASL mechanisms (install libsasl2-modules)")
    for what in missing:
        print(f"Qpid Proton lacks {what}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
