"""Update packets: a file that carries changes of mail to where no line goes. Knows no store and no database.

`PacketWriter` writes one, `PacketReader` verifies and reads it. docs/packet-format.md says what is in the
file and how to get a message out with a shell."""

from cyrus_sync.multisite.packet.errors import (
    BadKeys,
    NotAPacket,
    PacketDamaged,
    PacketError,
    PacketForged,
    PacketSealed,
    PacketTooNew,
)
from cyrus_sync.multisite.packet.header import CREATION, UPDATE, Header, Range, Target, heard_in
from cyrus_sync.multisite.packet.items import Messages, Operation, State
from cyrus_sync.multisite.packet.keys import PublicKeys, SecretKeys
from cyrus_sync.multisite.packet.reader import PacketReader
from cyrus_sync.multisite.packet.writer import PacketWriter

__all__ = [
    "CREATION",
    "UPDATE",
    "BadKeys",
    "Header",
    "Messages",
    "NotAPacket",
    "Operation",
    "PacketDamaged",
    "PacketError",
    "PacketForged",
    "PacketReader",
    "PacketSealed",
    "PacketTooNew",
    "PacketWriter",
    "PublicKeys",
    "Range",
    "SecretKeys",
    "State",
    "Target",
    "heard_in",
]
