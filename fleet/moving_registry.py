"""Who holds which mailbox, where some owners are on this machine and others in the fleet.

The registry of this machine knows of its owners, as ever. The fleet's knows of everybody, from when it was
told who is here (`moving.register`): so no node of it makes a mailbox of a uniqueid that somebody has here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.registry import Registry
from cyrus_sync.fleet.errors import Away
from cyrus_sync.fleet.holders import HoldersInPostgres
from cyrus_sync.fleet.machine import Machine


class MovingRegistry:
    """Both (`native.homes.Holders`)."""

    def __init__(
        self, local: Registry, fleet: HoldersInPostgres, machine: Machine, is_here: Callable[[Owner], bool]
    ) -> None:
        self._local = local
        self._fleet = fleet
        self._machine = machine
        self._is_here = is_here

    def holders(self, uniqueid: str) -> list[Owner]:
        return sorted({*self._local.holders(uniqueid), *self._fleet.holders(uniqueid)})

    def held_by(self, owner: Owner) -> list[str]:
        return (self._local if self._is_here(owner) else self._fleet).held_by(owner)

    def damage(self) -> str:
        return self._local.damage()

    def note(self, hints: Sequence[tuple[str, Owner | None]], by: Owner) -> None:
        """Of one who is here the fleet need not hear what goes: it may know too much."""
        here = self._is_here(by)
        if here:
            self._local.note(hints, by)
        if here and not self._machine.word:
            return
        try:
            self._fleet.note(hints, by)
        except Away:
            if not here or any(owner is not None for _, owner in hints):
                raise

    def forget(self, owner: Owner) -> None:
        if self._is_here(owner):
            self._local.forget(owner)
        self._fleet.forget(owner)

    def replace(self, owner: Owner, uniqueids: Collection[str]) -> None:
        if self._is_here(owner):
            self._local.replace(owner, uniqueids)
        self._fleet.replace(owner, uniqueids)

    def renew(self) -> Path | None:
        return self._local.renew()
