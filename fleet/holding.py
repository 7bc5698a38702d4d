"""Owners held on this node, and by which thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.homes import OwnerDirectory
from cyrus_sync.common.stores.native.locks import FileLock
from cyrus_sync.fleet.finding import Head
from cyrus_sync.fleet.wal import Position


@dataclass
class Held:
    """What is known of an owner who is held."""

    head: Head | None
    """None: he is new."""
    position: Position
    partition: str = ""
    place: str = ""
    published: bool = False
    log_end: int = -1
    """How long SQLite's log is if nothing was written behind `position`; -1: look into it."""


class FleetHold:
    """An owner held on this node."""

    def __init__(
        self,
        directory: OwnerDirectory,
        lock: FileLock,
        held: Held,
        before_release: Callable[[FleetHold], None],
    ) -> None:
        self.directory = directory
        self.held = held
        self._lock = lock
        self._before_release = before_release

    @property
    def made(self) -> bool:
        return self.held.head is None

    def close(self) -> None:
        try:
            self._before_release(self)
        finally:
            self._lock.release()


class Holds:
    """Whoever is held in this process."""

    def __init__(self) -> None:
        self._held: dict[Owner, tuple[int, FleetHold]] = {}

    def add(self, hold: FleetHold) -> None:
        """This thread holds an owner."""
        self._held[hold.directory.owner] = (threading.get_ident(), hold)

    def mine(self, owner: Owner) -> FleetHold | None:
        """What this thread holds of an owner."""
        thread, hold = self._held.get(owner, (0, None))
        return hold if thread == threading.get_ident() else None

    def end(self, hold: FleetHold) -> None:
        """The owner is free again."""
        if self._held.get(hold.directory.owner, (0, None))[1] is hold:
            del self._held[hold.directory.owner]
