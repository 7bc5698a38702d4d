"""One folder of a tree, brought in step with its mailbox.

What changed in the mailbox since the modseq of the ledger costs a rename, a new file or an unlink each, and
new messages a line at the end of ``dovecot-uidlist``, as Dovecot itself appends them. The list is written
anew where a quarter of it is of messages that are gone, and where a message comes late, with a UID that is
not above all others: then Dovecot's indexes go, too, for they know that no such message can come.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cyrus_sync.common.errors import MailboxLocked
from cyrus_sync.common.files import sync_directory, sync_disk, sync_file
from cyrus_sync.common.model import MailboxState, Record
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.mailstore.maildir import letters
from cyrus_sync.mailstore.maildir.letters import LetterTable
from cyrus_sync.mailstore.maildir.uidlist import mailbox_guid, write_lines, write_uidlist
from cyrus_sync.mailstore.selection import records_of
from cyrus_sync.mailstore.standby.disk import (
    INDEXES,
    KEYWORDS,
    UIDLIST,
    File,
    OnDisk,
    Ways,
    append,
    let_time_pass,
    look,
    stamp_of,
)
from cyrus_sync.mailstore.standby.dotlock import dot_locked
from cyrus_sync.mailstore.standby.foreign import Compared, compare
from cyrus_sync.mailstore.standby.ledger import Entry, Folder, Ledger
from cyrus_sync.mailstore.targets.lines import line_ends
from cyrus_sync.mailstore.targets.walk import readable

BATCH_MESSAGES, BATCH_OCTETS, BATCH_CHANGES = 200, 32 << 20, 2000
"""The most that is done under one hold of the lock."""

_FEW = 8
"""So many files are synced one by one."""

_LEAST_LINES = 100
"""A uidlist of fewer lines is not written anew for being full of what is gone."""


class Disturbed(MailboxLocked):
    """Somebody changed the folder while we were about to; it is looked at again."""

    text = "the folder is being changed by somebody else"


@dataclass
class Step:
    """A folder at `path` and the mailbox that it follows. `tell` hears of what Dovecot will not show."""

    path: Path
    ways: Ways
    ledger: Ledger
    folder: Folder
    mailbox: MailboxState
    reader: MailReader
    tell: Callable[[str], None]
    _table: LetterTable = field(init=False)
    _adds: list[Record] = field(default_factory=list)
    _octets: int = 0
    _moves: list[tuple[Entry, Entry]] = field(default_factory=list)
    _gone: list[Entry] = field(default_factory=list)
    _lacking: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._table = LetterTable(self.folder.keywords.split("\n") if self.folder.keywords else ())

    # -- what others did

    def check(self, aside: Path | None = None) -> str:
        """What somebody else wrote, "" if nothing; then the ledger says what is there.

        With `aside` nothing is foreign afterwards: files that the store has not are moved into that
        directory, and the rest becomes as the store says."""
        if self.folder.stamp and self.folder.stamp == stamp_of(self.path):
            return ""
        with dot_locked(self.path / UIDLIST):
            disk = look(self.path)
            mine, meant = self.ledger.entries(self.folder), self.ledger.meant(self.folder)
            compared = self._compare(disk, mine, meant)
            told = compared.told()
            if told and aside is None:
                return told
            if told or meant or compared.there != mine or compared.renumber or not disk.listed:
                self._take_over(disk, compared, aside)
            else:
                self._note_keywords(disk)
                self._left()
                with self.ledger.change():
                    self.ledger.save_folder(self.folder)
        return ""

    def _compare(self, disk: OnDisk, mine: dict[int, Entry], meant: dict[int, Entry]) -> Compared:
        wanted: dict[int, Record] = {}
        asked = False

        def live() -> dict[int, Record]:
            nonlocal asked
            if not asked:
                for batch in records_of(self.reader, self.mailbox):
                    wanted.update((record.uid, record) for record in batch)
                asked = True
            return wanted

        uidvalidity = disk.uidlist.uidvalidity
        numbers = uidvalidity if uidvalidity == self.mailbox.uidvalidity else self.folder.uidvalidity
        found = compare(self.path, disk, mine, meant, live, uidvalidity=numbers)
        found.renumber |= bool(disk.uidlist.damaged) or uidvalidity != self.folder.uidvalidity
        return found

    def _take_over(self, disk: OnDisk, compared: Compared, aside: Path | None) -> None:
        """Make the ledger say what is there, and the uidlist what the ledger says."""
        if aside is not None:
            for file in compared.foreign:
                self._move_aside(aside, file)
        for file, entry in compared.delivered:
            (self.path / "new" / file.name).rename(self.path / "cur" / entry.name)
        compared.there.update(compared.flagged)
        sync_directory(self.path / "cur")
        folder = self.folder
        self._note_keywords(disk)
        if disk.uidlist.uidvalidity == folder.uidvalidity:
            folder.next_uid = max(folder.next_uid, disk.uidlist.next_uid)
        folder.next_uid = max(folder.next_uid, max(compared.there, default=0) + 1)
        folder.modseq = 0
        if compared.renumber or compared.foreign or not disk.listed:
            self._write_uidlist(compared.there, keep_indexes=not disk.listed)
        else:
            folder.lines = len(disk.uidlist.uids) + 1
        self._left()
        with self.ledger.change():
            self.ledger.clear(folder)
            self.ledger.settle(folder, compared.there.values())
            self.ledger.save_folder(folder)

    def _move_aside(self, aside: Path, file: File) -> None:
        """Into a Maildir++ of its own, which `mailstore import` reads."""
        top = aside / self.folder.directory
        for directory in dict.fromkeys((aside, top, *(top / part for part in ("cur", "new", "tmp")))):
            self.ways.make(directory)
        (self.path / file.place / file.name).rename(top / file.place / file.name)

    def _note_keywords(self, disk: OnDisk) -> None:
        """Letters that Dovecot has given are so."""
        ours = self._table.keywords
        both = [
            (ours[place] if place < len(ours) else "")
            or (disk.keywords[place] if place < len(disk.keywords) else "")
            for place in range(max(len(ours), len(disk.keywords)))
        ]
        self._table = LetterTable(both)
        self._write_keywords(disk.keywords)

    # -- what the store did

    def bring(self) -> list[str]:
        """Bring the folder in step; which messages could not be read, and why. Raises `Disturbed` where
        somebody else has been here since `check`."""
        folder, mailbox, ledger = self.folder, self.mailbox, self.ledger
        if folder.uidvalidity != mailbox.uidvalidity:
            self._start_anew()
        full = not folder.modseq or not mailbox.deletedmodseq <= folder.modseq <= mailbox.highestmodseq
        lacking = ledger.lacking(folder)
        if folder.modseq == mailbox.highestmodseq and not lacking and folder.next_uid > mailbox.last_uid:
            return []
        if len(self._table.keywords) == letters.MAX_KEYWORDS and "" not in self._table.keywords:
            self._table.free(ledger.used_letters(folder))
            full |= "" in self._table.keywords
        mine = ledger.entries(folder) if full else None
        since = 0 if full else folder.modseq
        for batch in self.reader.records(mailbox.uniqueid, since_modseq=since):
            for record in batch:
                lacking.discard(record.uid)
                old = ledger.entry(folder, record.uid) if mine is None else mine.pop(record.uid, None)
                self._look_at(record, old)
        for uid in sorted(lacking):
            self._look_at_again(uid)
        self._gone += (mine or {}).values()
        folder.modseq = mailbox.highestmodseq
        self._flush(last=True)
        return [f"{mailbox.name} uid {uid}: {why}" for uid, why in self._lacking.items()]

    def _look_at(self, record: Record, old: Entry | None) -> None:
        if old is not None and (record.expunged or old.guid != record.guid):
            self._gone.append(old)
            old = None
        if old is not None:
            signs, left = self._table.letters(record.flags)
            new = old._replace(letters=signs, more=" ".join(left), date=record.internaldate)
            if new != old:
                self._moves.append((old, new))
        elif not record.expunged:
            self._adds.append(record)
            self._octets += record.size
        if (
            len(self._adds) >= BATCH_MESSAGES
            or self._octets >= BATCH_OCTETS
            or len(self._moves) + len(self._gone) >= BATCH_CHANGES
        ):
            self._flush()

    def _look_at_again(self, uid: int) -> None:
        """A message that could not be read before."""
        for batch in self.reader.records(self.mailbox.uniqueid, above_uid=uid - 1, batch=1):
            for record in batch:
                if record.uid == uid:
                    self._look_at(record, None)
            return

    def _flush(self, *, last: bool = False) -> None:
        """Do what has been gathered."""
        adds = self._stage()
        before, self.folder.modseq = self.folder.modseq, self.folder.modseq if last else 0
        with dot_locked(self.path / UIDLIST):
            if stamp_of(self.path) != self.folder.stamp:
                raise Disturbed
            self._change(adds, last=last)
        self.folder.modseq = before
        self._adds, self._moves, self._gone, self._octets = [], [], [], 0

    def _stage(self) -> list[Entry]:
        """Write what is new into ``tmp``, on disk."""
        staged = []

        def left_out(record: Record, why: str) -> None:
            self._lacking[record.uid] = why

        for record, content in readable(self.reader, sorted(self._adds), left_out):
            counted = line_ends(content)
            base = (
                f"{self.folder.uidvalidity}.M{record.uid:010d}P{record.guid.hex()[:12]}.cyrus-sync,"
                f"S={counted.size},W={counted.size_as_crlf}"
            )
            signs, left = self._table.letters(record.flags)
            path = self.path / "tmp" / base
            with open(self.ways.open(path), "wb") as file:  # noqa: PTH123 (a descriptor, for the mode)
                file.writelines(content)
            self._set_date(path, record.internaldate)
            fields = f"G{record.guid.hex()}"
            staged.append(
                Entry(record.uid, base, signs, record.internaldate, record.guid, fields, " ".join(left))
            )
        if len(staged) > _FEW:
            sync_disk(self.path)
        else:
            for entry in staged:
                sync_file(self.path / "tmp" / entry.base)
        return staged

    def _change(self, adds: list[Entry], *, last: bool) -> None:
        """Under the lock: what is meant, the files, the list, what is so."""
        path, folder, ledger = self.path, self.folder, self.ledger
        again = {entry.uid for entry in adds}
        gone = [entry._replace(letters=None) for entry in self._gone if entry.uid not in again]
        moved = [new for _, new in self._moves]
        with ledger.change():
            ledger.mean(folder, (*adds, *moved, *gone))
        self._write_keywords(folder.keywords.split("\n"))
        for entry in adds:
            (path / "tmp" / entry.base).rename(path / "cur" / entry.name)
        for old, new in self._moves:
            self._rename(old, new)
        for entry in self._gone:
            (path / "cur" / entry.name).unlink(missing_ok=True)
        sync_directory(path / "cur")
        self._number(adds, gone, upto=self.mailbox.last_uid if last else 0)
        with ledger.change():
            ledger.settle(folder, (*adds, *moved, *gone))
            if any(entry.more for entry in (*adds, *moved)) or any(old.more for old, _ in self._moves):
                self._write_more()
            if last:
                ledger.lack(folder, self._lacking)
            self._left()
            ledger.save_folder(folder)

    def _rename(self, old: Entry, new: Entry) -> None:
        target = self.path / "cur" / new.name
        if old.name != new.name:
            (self.path / "cur" / old.name).rename(target)
        if old.date != new.date:
            self._set_date(target, new.date)

    def _number(self, adds: list[Entry], gone: list[Entry], *, upto: int) -> None:
        """Have the uidlist know `adds`, and that UIDs up to `upto` were given."""
        folder = self.folder
        late = [entry for entry in adds if entry.uid < folder.next_uid]
        highest = max(upto, max((entry.uid for entry in adds), default=0))
        live = self.ledger.count(folder) + len(adds) - len(gone) if gone else folder.lines
        lines = [(entry.uid, entry.fields, entry.base) for entry in adds]
        if highest >= folder.next_uid and (not adds or adds[-1].uid < highest):
            # The header cannot be changed in its place. A line whose file is gone tells the same.
            lines.append((highest, "", f"{folder.uidvalidity}.M{highest:010d}.gone"))
        if late or (folder.lines > _LEAST_LINES and 4 * live < 3 * folder.lines):
            there = self.ledger.entries(folder)
            for entry in gone:
                there.pop(entry.uid, None)
            there.update((entry.uid, entry) for entry in adds)
            folder.next_uid = max(folder.next_uid, highest + 1)
            self._write_uidlist(there, keep_indexes=not late)
        elif lines:
            append(self.path / UIDLIST, write_lines(lines))
            self._be_noticed()
            folder.lines += len(lines)
            folder.next_uid = max(folder.next_uid, lines[-1][0] + 1)

    def _start_anew(self) -> None:
        """The mailbox has another UIDVALIDITY: nothing that is here holds any more."""
        folder = self.folder
        with dot_locked(self.path / UIDLIST):
            if stamp_of(self.path) != folder.stamp:
                raise Disturbed
            entries = self.ledger.entries(folder)
            with self.ledger.change():
                self.ledger.mean(folder, (entry._replace(letters=None) for entry in entries.values()))
            for entry in entries.values():
                (self.path / "cur" / entry.name).unlink(missing_ok=True)
            folder.uidvalidity, folder.next_uid, folder.modseq = self.mailbox.uidvalidity, 1, 0
            self._write_uidlist({}, keep_indexes=True)
            self._left()
            with self.ledger.change():
                self.ledger.clear(folder)
                self.ledger.save_folder(folder)

    # -- files

    def _write_uidlist(self, entries: dict[int, Entry], *, keep_indexes: bool) -> None:
        folder = self.folder
        head = write_uidlist(folder.uidvalidity, folder.next_uid, mailbox_guid(folder.uniqueid), ())
        lines = write_lines((uid, entry.fields, entry.base) for uid, entry in sorted(entries.items()))
        if not keep_indexes:
            for name in INDEXES:
                (self.path / name).unlink(missing_ok=True)
        self.ways.replace(self.path / UIDLIST, head + lines)
        self._be_noticed()
        folder.lines = len(entries) + 1

    def _be_noticed(self) -> None:
        """Dovecot looks at the list when a directory has another time."""
        os.utime(self.path / "cur")

    def _write_keywords(self, there: list[str]) -> None:
        """``dovecot-keywords``, if it says something else."""
        self.folder.keywords = "\n".join(self._table.keywords)
        data = letters.write_keywords(self._table.keywords)
        if data != letters.write_keywords(there):
            self.ways.replace(self.path / KEYWORDS, data)

    def _write_more(self) -> None:
        """Our own file of keywords for which there is no letter."""
        more = self.ledger.with_more(self.folder)
        path = self.path / letters.MORE_KEYWORDS
        if not more:
            path.unlink(missing_ok=True)
            return
        self.ways.replace(path, letters.write_more_keywords(more))
        self.tell(
            f"{self.mailbox.name}: a Maildir has letters for {letters.MAX_KEYWORDS} keywords; {len(more)} "
            f"messages have more, which Dovecot does not show ({letters.MORE_KEYWORDS} has them)"
        )

    def _left(self) -> None:
        """Note how the folder looks now that we leave it."""
        let_time_pass(self.path)
        self.folder.stamp = stamp_of(self.path)

    @staticmethod
    def _set_date(path: Path, when: int) -> None:
        with contextlib.suppress(OverflowError, OSError):  # what a file system cannot hold
            os.utime(path, (when, when))
