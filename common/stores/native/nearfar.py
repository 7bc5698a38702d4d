"""Octets of packs of which some are not here: what a directory has is read there, all else where it is."""

from __future__ import annotations

from typing import Protocol

from cyrus_sync.common.errors import MailboxLocked
from cyrus_sync.common.stores.native.packs import PackOctets


class FarSide(Protocol):
    """Where the other packs of an owner are. Each raises FileNotFoundError for a pack that is not there, and
    what it takes to say that it cannot be told. For one thread at a time."""

    def read(self, pack: int, offset: int, length: int) -> bytes: ...

    def size(self, pack: int) -> int: ...

    def identity(self, pack: int) -> str: ...

    def again(self) -> FarSide: ...

    def name(self, pack: int) -> str: ...


class NearAndFar:
    """`packs.PackOctets` of both."""

    def __init__(self, near: PackOctets, far: FarSide) -> None:
        self._near = near
        self._far = far
        self._read_near = near.read

    def read(self, pack: int, offset: int, length: int) -> bytes:
        try:
            data = self._read_near(pack, offset, length)
        except FileNotFoundError:
            return self._far.read(pack, offset, length)
        if len(data) == length:
            return data
        try:
            return self._far.read(pack, offset, length)
        except FileNotFoundError:
            return data

    def size(self, pack: int) -> int:
        try:
            near = self._near.size(pack)
        except FileNotFoundError:
            return self._far.size(pack)
        try:
            return max(near, self._far.size(pack))
        except (FileNotFoundError, MailboxLocked):
            return near

    def identity(self, pack: int) -> str:
        try:
            return self._far.identity(pack)
        except FileNotFoundError:
            return self._near.identity(pack)

    def is_near(self, pack: int) -> bool:
        return self._near.is_near(pack)

    def again(self) -> NearAndFar:
        return NearAndFar(self._near.again(), self._far.again())

    def name(self, pack: int) -> str:
        return self._far.name(pack)

    def close(self) -> None:
        self._near.close()
