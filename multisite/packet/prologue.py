"""The beginning of the file: a first line with the number of the format, the header, and a line ``---``.

    cyrus-sync packet 1
    kind: update
    …
    #........................
    ---

What the header is to say is known only when all has been written behind it. Therefore room is kept for it,
and what is left over of that is a comment of dots."""

from __future__ import annotations

import os
import re

from cyrus_sync.multisite.packet.errors import NotAPacket, PacketDamaged, PacketTooNew
from cyrus_sync.multisite.packet.header import Header

FORMAT = 2
"""The highest that is read: 1 has messages and operations, 2 may hold state, too."""
LARGEST = 16 << 20
"""Octets up to and including the line ``---``."""

_FIRST_LINE = re.compile(rb"cyrus-sync packet ([1-9][0-9]{0,8})\n")
_MARGIN = 128
_END = b"---\n"
_BLOCK = 64 << 10


def room_for(header: Header) -> int:
    """Octets to be kept for a header with these keys and texts, whatever its numbers. ValueError if too
    many."""
    room = len(_text(header.widest())) + _MARGIN
    if room > LARGEST:
        raise ValueError(f"the header of a packet would be larger than {LARGEST} octets")
    return room


def fill(header: Header, room: int) -> bytes:
    """Exactly `room` octets. ValueError if the header needs more."""
    text = _text(header)
    left = room - len(text) - len(_END)
    if left < 0:
        raise ValueError(f"the header of the packet needs {-left} octets more than were kept for it")
    padding = b"#" + b"." * (left - 2) + b"\n" if left > 1 else b"\n" * left
    return text + padding + _END


def _text(header: Header) -> bytes:
    number = 2 if header.snapshot else 1
    return b"cyrus-sync packet %d\n" % number + header.text().encode()


def read(descriptor: int) -> tuple[Header, bytes]:
    """The header of an open packet, and all octets of the prologue.

    Raises `NotAPacket`, `PacketTooNew`, `PacketDamaged`."""
    data = os.pread(descriptor, _BLOCK, 0)
    first = _FIRST_LINE.match(data)
    if first is None:
        raise NotAPacket("not a packet: the file does not begin with 'cyrus-sync packet'")
    if int(first[1]) > FORMAT:
        raise PacketTooNew(
            f"the packet has format {int(first[1])}, this release reads {FORMAT}: upgrade it, then import"
        )
    while (end := data.find(b"\n" + _END)) < 0:
        more = os.pread(descriptor, max(_BLOCK, len(data)), len(data))
        if not more or len(data) > LARGEST:
            raise PacketDamaged("the header of the packet has no end")
        data += more
    try:
        text = data[first.end() : end + 1].decode()
    except UnicodeDecodeError:
        raise PacketDamaged("the header of the packet is not text") from None
    return Header.parse(text), data[: end + 1 + len(_END)]
