"""Packets into files that somebody carries (``-out``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cyrus_sync.multisite.commands.context import Context
from cyrus_sync.multisite.cutting import Exported, Place
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.member import Member


class IntoFile:
    """``path``, ``path_2``, ``path_3`` …; those of the next target go on counting."""

    def __init__(self, context: Context, headline: str) -> None:
        self._context = context
        self._headline = headline
        self._path = Path(context.options.text("out") or "").absolute()
        self._written = 0

    def check(self, name: str, host: str) -> None:
        if self._path.exists():
            raise MultisiteError(f"{self._path} is there already")
        if not self._path.parent.is_dir():
            raise MultisiteError(f"{self._path.parent} is not a directory")

    def resume(self, member: Member) -> None:
        return

    def send(self, prefix: str, target: tuple[str, str], write: Callable[[Place], Exported]) -> Exported:
        done = write(self._place)
        self._written += len(done.paths)
        for path in done.paths:
            self._context.print(f"{self._headline} {path}")
        return done

    def _place(self, number: int, _octets: int) -> Path:
        number += self._written
        return self._path if number == 1 else self._path.with_name(f"{self._path.name}_{number}")

    def deliver(self) -> bool:
        return True
