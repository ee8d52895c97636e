"""The buffer that deliveries are read into, shared by all links, and the tags of deliveries that go out.

Layer: 3. The loop is one thread; what is in the buffer is valid until the next read, and who keeps octets copies them.
"""

from __future__ import annotations

from typing import Any

from vanrouter.engine import proton
from vanrouter.engine.proton import delivery_new, from_buffer

BUFFER_BYTES = 256 * 1024
"""A delivery is read in pieces of this size; a complete message that fits is forwarded without a further copy."""

BUFFER = bytearray(BUFFER_BYTES)
POINTER = from_buffer("char[]", BUFFER)
VIEW = memoryview(BUFFER)
OCTETS = proton.buffer(POINTER, BUFFER_BYTES)
"""A slice of it is `bytes`: a copy, and the cheapest way to one."""

_tag = bytearray(8)
TAG_NUMBER = memoryview(_tag).cast("Q")
_tag_pointer = proton.new("pn_bytes_t*", {"size": 8, "start": from_buffer("char[]", _tag)})
TAG = _tag_pointer[0]
"""What `new_delivery` does, for the loops of the data path: count on, and begin a delivery with this tag."""


def new_delivery(link: Any) -> Any:
    """Begin an outgoing delivery with the next tag: 8 octets, a counter (TCP over AMQP, section 6.4)."""
    TAG_NUMBER[0] += 1
    return delivery_new(link, TAG)
