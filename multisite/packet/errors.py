"""What can be wrong with a packet. Texts say what and where; nothing of such a packet is to be applied."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_CONFIG, CyrusSyncError


class PacketError(CyrusSyncError):
    """A packet cannot be used."""

    text = "packet cannot be used"


class PacketDamaged(PacketError):
    """Truncated, changed on its way, or never well formed. Another copy has to be sent."""

    text = "packet damaged"


class NotAPacket(PacketDamaged):
    """The first line is not that of a packet: some other file, perhaps."""

    text = "not a packet"


class PacketTooNew(PacketError):
    """Written by a release whose format this one does not know."""

    text = "packet of a newer format"


class PacketForged(PacketError):
    """A signature was demanded, and there is none, or it is not that of the sender."""

    text = "packet not signed by its sender"


class PacketSealed(PacketError):
    """Encrypted, and not with any key that is here."""

    text = "packet sealed for others"


class BadKeys(PacketError):
    """A file or text of keys is not one, or the file is open to others."""

    exit_status = EX_CONFIG
    text = "not the keys of a replica"
