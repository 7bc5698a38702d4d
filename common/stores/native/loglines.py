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
from cyrus_sync.common.stores.native.transaction import LogLineTuple, Transaction
from cyrus_sync.common.stores.native.unlogged import Unlogged

log = logging.getLogger(__name__)

Line = tuple[bool, LogLineTuple]
"""A line, and whether a replica's change has made it."""


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

    def write(self, transaction: Transaction, lines: Iterable[Line]) -> None:
        """Behind the commit. What was changed is durable; if the log cannot be written now, the next writer
        does it."""
        try:
            for kind, writer in self._logs.items():
                wanted = [line for chained, line in lines if chained == kind]
                if wanted:
                    writer.write(wanted)
            transaction.lines_written()
        except (CyrusSyncError, OSError, sqlite3.Error) as error:
            log.warning("action log of %s not written yet: %s", transaction.owner, reason(error))
        else:
            self._unlogged.strike(transaction.owner)
