"""Write a Maildir++ as Dovecot does, which Courier and `mailstore import` read as well.

``dovecot-uidlist`` has the UIDs and UIDVALIDITY that clients know, ``dovecot-keywords`` what the letters a to
z mean; where names of files cannot say it all (more than 26 keywords), our own ``cyrus-sync-keywords`` does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from cyrus_sync.common.model import MailboxState, Record
from cyrus_sync.mailstore.errors import BadInput
from cyrus_sync.mailstore.maildir import letters, names
from cyrus_sync.mailstore.maildir.subscriptions import write_subscriptions
from cyrus_sync.mailstore.maildir.uidlist import mailbox_guid, write_uidlist
from cyrus_sync.mailstore.targets.lines import line_ends


class MaildirTarget:
    """A Maildir at `path`. `notice` hears, in a line each, of what Dovecot will not see."""

    def __init__(self, path: Path, notice: Callable[[str], None]) -> None:
        self._root = path
        self._notice = notice
        self._highest = 0

    def begin(self, folder: tuple[str, ...], mailbox: MailboxState) -> None:
        name = names.directory_name(folder)
        self._directory = self._root / name if name else self._root
        self._mailbox = mailbox
        self._table = letters.LetterTable()
        self._entries: list[tuple[int, str]] = []
        self._more: list[tuple[str, list[str]]] = []
        self._highest = max(self._highest, mailbox.uidvalidity)
        self._make(name)
        whole = names.full_name(folder)
        if name:
            (self._directory / "maildirfolder").write_text("" if whole == name else f"{whole}\n", "ascii")
        if whole != name:
            self._notice(f"{mailbox.name}: its name is too long for a directory, it is written as {name}")

    def add(self, record: Record, content: Iterable[bytes]) -> None:
        counted = line_ends(content)
        base = f"{record.internaldate}.U{record.uid:010d}.export,S={counted.size},W={counted.size_as_crlf}"
        flags, left = self._table.letters(record.flags)
        path = self._directory / "cur" / f"{base}:2,{flags}"
        with path.open("wb") as file:
            file.writelines(content)
        with contextlib.suppress(OverflowError, OSError):  # the name says what a file system cannot hold
            os.utime(path, (record.internaldate, record.internaldate))
        self._entries.append((record.uid, base))
        if left:
            self._more.append((base, left))

    def end(self) -> None:
        box = self._mailbox
        guid = mailbox_guid(box.uniqueid)
        uidlist = write_uidlist(box.uidvalidity, box.last_uid + 1, guid, self._entries)
        (self._directory / "dovecot-uidlist").write_bytes(uidlist)
        if self._table.keywords:
            (self._directory / "dovecot-keywords").write_bytes(letters.write_keywords(self._table.keywords))
        if self._more:
            (self._directory / letters.MORE_KEYWORDS).write_bytes(letters.write_more_keywords(self._more))
            self._notice(
                f"{box.name}: a Maildir has letters for {letters.MAX_KEYWORDS} keywords; {len(self._more)} "
                f"messages have more, in {letters.MORE_KEYWORDS}, which only mailstore import reads"
            )

    def subscribe(self, folders: list[tuple[str, ...]]) -> None:
        if folders:
            wanted = [names.directory_name(folder)[1:] or "INBOX" for folder in folders]
            (self._root / "subscriptions").write_bytes(write_subscriptions(wanted))

        # Where Dovecot looks for the UIDVALIDITY of the next folder that is made.
        (self._root / "dovecot-uidvalidity").write_text(f"{self._highest:08x}", "ascii")
        (self._root / f"dovecot-uidvalidity.{self._highest:08x}").touch()

    def _make(self, name: str) -> None:
        """The folder's directories. Two folders never get the same, even where case is ignored."""
        if name and self._directory.exists():
            raise BadInput(f"{self._directory}: two folders have the same name on this file system")
        for part in ("cur", "new", "tmp"):
            (self._directory / part).mkdir(parents=True, exist_ok=True)
