"""The ground that every writer stands on: one exclusive transaction over index and packs.

An owner that is not stored yet is written to in memory until something is really changed; only then its
directory comes into being (`change`). Order of a commit: pack bytes, fsync; registry hint; SQLite
commit (which syncs its log); action log. The action-log lines are part of the SQLite transaction too
(table `outbox`) until they are written, so that a crash between the two loses none.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple, Protocol

from cyrus_sync.common.errors import MailboxNonexistent, StoreError
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import ChangesKept
from cyrus_sync.common.stores.native.bodies import BodyReader, lookup
from cyrus_sync.common.stores.native.marks import Marks
from cyrus_sync.common.stores.native.packs import PackMark, PackWriter
from cyrus_sync.common.stores.native.reader import Reader
from cyrus_sync.common.stores.native.rows import STATE_COLUMNS, annotations_of, state_of, storable
from cyrus_sync.common.stores.trouble import reporting, store_trouble

LogLineTuple = tuple[str, ...]


class Ground(NamedTuple):
    """What a stored owner offers a writer."""

    connection: sqlite3.Connection
    packs: PackWriter
    bodies: BodyReader


class Surroundings(Protocol):
    """What a writer asks of the store around it."""

    servername: str

    def now(self) -> int:
        """Unix seconds."""

    def check_partition(self, partition: str) -> str: ...

    def found(self, owner: Owner, partition: str) -> Ground:
        """Bring a new owner into being, locked."""

    def other_holder(self, uniqueid: str) -> Owner | None:
        """Another owner that holds the mailbox."""


class Box(NamedTuple):
    """A mailbox with its row number and its usage: live messages, their bytes, bytes of annotations."""

    id: int
    state: MailboxState
    messages: int
    bytes: int
    annotation_bytes: int


class _Savepoint(NamedTuple):
    name: str
    mark: PackMark | None
    lines: int
    hints: int


class Transaction(Reader):
    """A writer without verbs. Made, committed and rolled back by the store."""

    def __init__(
        self, owner: Owner, around: Surroundings, ground: Ground | None, memory: sqlite3.Connection | None
    ) -> None:
        """`ground` of an owner that is stored, else `memory`: an empty index that stands in for it."""
        connection = ground.connection if ground else memory
        assert connection is not None
        super().__init__(owner, connection, None)
        self._around = around
        self._ground = ground
        self._savepoints: list[_Savepoint] = []
        self._lines: list[tuple[bool, LogLineTuple]] = []
        self._logged: set[tuple[bool, LogLineTuple]] = set()
        self._hints: list[tuple[str, Owner | None]] = []
        self._left_over: list[tuple[bool, LogLineTuple]] = []
        self._broken = False
        self._may_found = True
        self._start: PackMark | None = None
        if ground:
            self._begin()

    def _begin(self) -> None:
        assert self._ground is not None
        self._start = self._ground.packs.mark()
        self._db.execute("BEGIN IMMEDIATE")
        self._left_over = [
            (bool(chained), tuple(json.loads(line)))
            for chained, line in self._db.execute("SELECT chained, line FROM outbox ORDER BY seq")
        ]
        if self._db.execute("SELECT 1 FROM owner").fetchone() is None:
            self._db.execute("INSERT INTO owner (one, kind, name) VALUES (1, ?, ?)", self.owner)

    # -- what verbs build on

    @property
    def bodies_reader(self) -> BodyReader | None:
        if self._ground is None:
            return None
        self._ground.packs.flush()
        return self._ground.bodies

    @property
    def packs(self) -> PackWriter:
        self.change()
        assert self._ground is not None
        return self._ground.packs

    def forbid_founding(self) -> None:
        """From now on a change to an owner that is not stored raises `MailboxNonexistent`."""
        self._may_found = False

    def change(self, partition: str = "") -> None:
        """Called before anything is changed: makes sure that the owner is stored (on `partition`)."""
        if self._broken:
            raise StoreError("the transaction has been rolled back").at(user=str(self.owner))
        if self._ground is not None:
            return
        if not self._may_found:
            raise MailboxNonexistent().at(user=str(self.owner))
        self._ground = self._around.found(self.owner, partition)
        self._db.close()
        self._db = self._ground.connection
        self._begin()
        mark = self._ground.packs.mark()
        for number, savepoint in enumerate(self._savepoints):
            self._db.execute(f"SAVEPOINT {savepoint.name}")
            self._savepoints[number] = savepoint._replace(mark=mark)

    def log(self, *line: str, chained: bool = False) -> None:
        """A line for the action log, once per transaction; `chained`: a replica's change, which is only
        logged where replication is chained."""
        if (chained, line) not in self._logged:
            self._logged.add((chained, line))
            self._lines.append((chained, line))

    def hint(self, uniqueid: str, owner: Owner | None) -> None:
        """Tell the registry who holds a mailbox."""
        self._hints.append((uniqueid, owner))

    def box(self, name: str) -> Box:
        """The mailbox `name`; raises `MailboxNonexistent`."""
        found = self.find_box("name", name)
        if found is None:
            raise MailboxNonexistent().at(mailbox=name)
        return found

    def box_by_id(self, uniqueid: str) -> Box:
        """The mailbox with this uniqueid; raises `MailboxNonexistent`."""
        found = self.find_box("uniqueid", uniqueid)
        if found is None:
            raise MailboxNonexistent().at(uniqueid=uniqueid)
        return found

    def find_box(self, column: str, value: str) -> Box | None:
        """The mailbox whose `column` (name or uniqueid) is `value`."""
        if not storable(value):
            return None
        row = self._db.execute(
            f"SELECT id, messages, bytes, annotation_bytes, {STATE_COLUMNS} FROM mailboxes"
            f" WHERE {column} = ? AND deleted_at = 0",
            (value,),
        ).fetchone()
        if row is None:
            return None
        notes = annotations_of(self._db, row[0], [0]).get(0, ())
        return Box(row[0], state_of(row[4:], notes), *row[1:4])

    @property
    def damaged(self) -> Marks | set[bytes]:
        """GUIDs whose stored copy is known to be damaged; to be replaced when the message is at hand."""
        return self._ground.bodies.damaged if self._ground else set()

    def enter_messages(self, rows: Iterable[tuple[bytes, int, int, int, int]]) -> None:
        """Index messages that were appended to the packs: (guid, pack, offset, length, size)."""
        self._db.executemany(
            "INSERT OR REPLACE INTO messages (guid, pack, offset, length, size) VALUES (?, ?, ?, ?, ?)",
            sorted(rows),
        )

    def stored_anew(self, guids: Collection[bytes]) -> None:
        """These messages were damaged, or missing, and are sound now. Mailboxes that hold them are logged:
        what a replica could not be given can be given now."""
        if not guids:
            return
        self.damaged.difference_update(guids)
        remaining = iter(guids)
        while chunk := list(islice(remaining, 500)):
            marks = ",".join("?" * len(chunk))
            for (name,) in self._db.execute(
                "SELECT DISTINCT name FROM mailboxes JOIN records ON records.mailbox = mailboxes.id"
                f" WHERE deleted_at = 0 AND expunged = 0 AND guid IN ({marks})",
                chunk,
            ).fetchall():
                self.log("MAILBOX", name)

    def stored_sizes(self, guids: Iterable[bytes]) -> dict[bytes, int]:
        """Raw sizes of messages that are stored."""
        sizes: dict[bytes, int] = {}
        remaining = iter(guids)
        while chunk := list(islice(remaining, 1000)):
            sizes.update((guid, stored.size) for guid, stored in lookup(self._db, chunk).items())
        return sizes

    def set_columns(self, mailbox: int, **columns: Any) -> None:
        """Write columns of a mailbox."""
        assignments = ", ".join(f"{name} = ?" for name in columns)
        self._db.execute(f"UPDATE mailboxes SET {assignments} WHERE id = ?", (*columns.values(), mailbox))

    def next_modseq(self) -> int:
        """A modseq above every one that the owner has used."""
        self.change()
        row = self._db.execute(
            "UPDATE owner SET highestmodseq = highestmodseq + 1 RETURNING highestmodseq"
        ).fetchone()
        return int(row[0])

    def next_uidvalidity(self) -> int:
        """The present second, or one above the last that was given out."""
        self.change()
        row = self._db.execute(
            "UPDATE owner SET uidvalidity = max(uidvalidity + 1, ?) RETURNING uidvalidity",
            (self._around.now(),),
        ).fetchone()
        return int(row[0])

    def raise_owner(self, *, modseq: int = 0, uidvalidity: int = 0) -> None:
        """Let later local changes lie above what came from elsewhere."""
        self._db.execute(
            "UPDATE owner SET highestmodseq = max(highestmodseq, ?), uidvalidity = max(uidvalidity, ?)"
            " WHERE highestmodseq < ? OR uidvalidity < ?",
            (modseq, uidvalidity, modseq, uidvalidity),
        )

    # -- savepoints and the end

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        name = f"s{len(self._savepoints)}"
        if self._ground:
            self._db.execute(f"SAVEPOINT {name}")
        mark = self._ground.packs.mark() if self._ground else None
        self._savepoints.append(_Savepoint(name, mark, len(self._lines), len(self._hints)))
        try:
            with reporting(self.owner):
                yield
        except ChangesKept:
            self._release()
            raise
        except BaseException:
            self._undo()
            raise
        self._release()

    def _release(self) -> None:
        name = self._savepoints.pop().name
        if self._ground:
            self._db.execute(f"RELEASE {name}")

    def _undo(self) -> None:
        """Roll back to the innermost savepoint; where SQLite has lost the transaction, all is lost."""
        name, mark, lines, hints = self._savepoints.pop()
        del self._lines[lines:]
        self._logged = set(self._lines)
        del self._hints[hints:]
        if self._ground is None:
            return
        try:
            self._db.execute(f"ROLLBACK TO {name}")
            self._db.execute(f"RELEASE {name}")
            if mark is not None:
                self._ground.packs.rewind(mark)
        except (sqlite3.Error, OSError):
            self._broken = True

    @property
    def stored(self) -> bool:
        """False while nothing has been changed of an owner that is not stored."""
        return self._ground is not None

    @property
    def hints(self) -> list[tuple[str, Owner | None]]:
        """What the registry must learn before the commit."""
        return self._hints

    @property
    def left_over(self) -> int:
        """Action-log lines that an earlier transaction could not write."""
        return len(self._left_over)

    def keeps_lines(self, kinds: Collection[bool]) -> bool:
        """Whether there are action-log lines to write: own ones of these kinds, or left over ones."""
        return bool(self._left_over) or any(chained in kinds for chained, _ in self._lines)

    def commit(self, *, keep_lines: Collection[bool]) -> list[tuple[bool, LogLineTuple]]:
        """Make everything durable. Returns the action-log lines to write now, those included that an
        earlier transaction left over; `keep_lines` = the kinds (chained or not) that are put into the
        outbox until `lines_written`."""
        if self._ground is None:
            return []
        if self._broken:
            raise StoreError("the transaction has been rolled back").at(user=str(self.owner))
        try:
            lengths = self._ground.packs.sync()
            if lengths:
                self._db.executemany(
                    "INSERT OR REPLACE INTO packs (pack, length) VALUES (?, ?)", lengths.items()
                )
            kept = [(chained, json.dumps(line)) for chained, line in self._lines if chained in keep_lines]
            if kept:
                self._db.executemany("INSERT INTO outbox (chained, line) VALUES (?, ?)", kept)
            self._start = None
            self._db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise store_trouble(error, self.owner) from error
        return self._left_over + self._lines

    def lines_written(self) -> None:
        """The action log has the lines: empty the outbox. Not synced; repeating lines does no harm."""
        self._db.execute("PRAGMA synchronous = NORMAL")
        try:
            self._db.execute("DELETE FROM outbox")
        finally:
            self._db.execute("PRAGMA synchronous = FULL")

    def rollback(self) -> None:
        """Leave no trace. After a COMMIT that failed the bytes stay in the pack, where they do no harm:
        should the commit have reached the disk after all, it must find them."""
        if self._ground is None:
            return
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        if self._start is not None:
            self._ground.packs.rewind(self._start)
