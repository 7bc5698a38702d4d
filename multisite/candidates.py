"""Which files are packets, and in which order they are applied."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from cyrus_sync.common.files import TEMPORARY
from cyrus_sync.multisite.packet import CREATION, Header, PacketError, PacketReader

_BEGINNING = b"cyrus-sync packet "


def packets_in(paths: Iterable[Path]) -> list[Path]:
    """The packets among files and directly in directories, each once."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [one for one in path.iterdir() if not one.name.startswith(TEMPORARY)]
            found += sorted(one for one in inside if looks_like_packet(one))
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def looks_like_packet(path: Path) -> bool:
    """Whether a file begins as a packet does. Links and pipes are refused: whoever may write into a bay could
    have them lead anywhere."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and os.pread(descriptor, 18, 0) == _BEGINNING
    except OSError:
        return False
    finally:
        os.close(descriptor)


def head_of(path: Path) -> Header | None:
    """What a packet says of itself; None for one that cannot be read."""
    try:
        with PacketReader(path) as packet:
            return packet.header
    except (PacketError, OSError):
        return None


def in_order(path: Path, header: Header | None) -> tuple[int, int, str]:
    """The key by which packets are sorted: a packet may build on those that were made before."""
    return (header.created, header.number, str(path)) if header else (0, 0, str(path))


def follows(one: Header | None, following: Header | None) -> bool:
    """Whether the packet with the header `following` is the next part of the logical packet of `one`."""
    if one is None or following is None or one.kind == CREATION:
        return False
    return one.logical == following.logical and following.number == one.number + 1
