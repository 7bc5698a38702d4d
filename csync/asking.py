"""`Asking`: questions to the master's csync server, in the words in which a `Master` fails."""

from __future__ import annotations

from typing import TypeVar

from cyrus_sync.common.errors import MailboxLocked, MailboxNonexistent, ReplyError, StoreError
from cyrus_sync.csync.line import Line, LineDown, Work

T = TypeVar("T")


class Asking:
    """A line to the server; and another one on which scripts are shown as files: what is agreed on a
    connection is agreed for good. Without lines every question is an error (`LineDown`)."""

    def __init__(self, line: Line | None, for_scripts: Line | None = None) -> None:
        self.line = line
        self._for_scripts = for_scripts

    @property
    def server(self) -> str:
        return self.line.server if self.line is not None else ""

    def ask(self, work: Work[T]) -> T:
        """Raises `MailboxNonexistent` and `MailboxLocked` as the server says them, else `StoreError`."""
        return self._ask(self.line, work)

    def ask_for_scripts(self, work: Work[T]) -> T:
        """The same, where Sieve scripts are files."""
        return self._ask(self._for_scripts, work)

    @property
    def lines(self) -> list[Line]:
        return [line for line in (self.line, self._for_scripts) if line is not None]

    def close(self) -> None:
        for line in self.lines:
            line.close()

    @staticmethod
    def _ask(line: Line | None, work: Work[T]) -> T:
        if line is None:
            raise LineDown("with sync_source: csync the master is not looked at by this command")
        try:
            return line.call(work)
        except (MailboxNonexistent, MailboxLocked):
            raise
        except ReplyError as error:
            text = f"cyrus_csync ({line.server}) refuses: {error.message or error.text}"
            raise StoreError(text).at(**error.address) from None
