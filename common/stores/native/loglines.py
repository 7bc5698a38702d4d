"""Lines for the action log, written behind the commit that they belong to.

They are part of the commit (table `outbox`) until the log has them, so a crash between the two loses none.
Who may have such lines is noted in `unlogged`, for `sweep`.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Protocol

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.transaction import Transaction
from cyrus_sync.common.stores.native.unlogged import Line, Unlogged

log = logging.getLogger(__name__)


class LineWriter(Protocol):
    """The action log, as far as a store needs it. False if nothing is ever written."""

    def write(self, lines: Iterable[Sequence[str]]) -> None: ...

    def __bool__(self) -> bool: ...


class LogLines:
    """The action log of a store, and the one of a replica whose changes are passed on."""

    def __init__(
        self, unlogged: Unlogged, action_log: LineWriter | None, chain_log: LineWriter | None
    ) -> None:
        self._unlogged = unlogged
        self._logs = {
            chained: writer for chained, writer in ((False, action_log), (True, chain_log)) if writer
        }
        self.kinds = frozenset(self._logs)
        """The kinds of lines (chained or not) that are written anywhere."""

    def announce(self, transaction: Transaction) -> bool:
        """Before the commit: whether it leaves lines to write. Then the owner is noted."""
        if not self.kinds or not transaction.keeps_lines(self.kinds):
            return False
        self._unlogged.note(transaction.owner)
        return True

    def write(self, transaction: Transaction, lines: Sequence[Line]) -> None:
        """Behind the commit. What was changed is durable; if the log cannot be written now, the next writer
        does it."""
        try:
            self.put(lines)
            transaction.lines_written()
        except (CyrusSyncError, OSError, sqlite3.Error) as error:
            log.warning("action log of %s not written yet: %s", transaction.owner, reason(error))
        else:
            self._unlogged.strike(transaction.owner)

    def announce_new(self, changes: Sequence[tuple[Owner, Sequence[Line]]]) -> None:
        """Before new owners are shown: keep their lines until the log has them. Raises OSError."""
        kept = [(owner, self._kept(lines)) for owner, lines in changes]
        for owner, lines in kept:
            if lines:
                self._unlogged.note_new(owner, lines)
        if any(lines for _, lines in kept):
            self._unlogged.sync()

    def write_new(self, changes: Sequence[tuple[Owner, Sequence[Line]]]) -> bool:
        """When they are shown; whether all is written."""
        try:
            self.put([line for _, lines in changes for line in lines])
        except (CyrusSyncError, OSError) as error:
            log.warning("action log of %d new owners not written yet: %s", len(changes), reason(error))
            return False
        for owner, lines in changes:
            if self._kept(lines):
                self._unlogged.strike(owner)
        return True

    def put(self, lines: Sequence[Line]) -> None:
        """Write lines to the logs that take such. Raises `StoreError`, OSError."""
        for kind, writer in self._logs.items():
            wanted = [line for chained, line in lines if chained == kind]
            if wanted:
                writer.write(wanted)

    def _kept(self, lines: Sequence[Line]) -> list[Line]:
        return [line for line in lines if line[0] in self.kinds]
