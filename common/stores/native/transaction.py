"""`Transaction`: one exclusive unit of work over an owner's index and packs. It has no verbs.

It has what a verb works with: `reader` (what the index holds now, own changes included), `db` (the index
itself), `packs`, lines for the action log, hints for the registry. `tables` holds what is written into the
index, `verbs` what a caller may ask for; both are functions on a transaction.

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
from typing import NamedTuple, Protocol

from cyrus_sync.common.errors import MailboxNonexistent, ReplicaOnly, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import ChangesKept
from cyrus_sync.common.stores.native.bodies import BodyReader
from cyrus_sync.common.stores.native.history import History
from cyrus_sync.common.stores.native.history import Mark as HistoryMark
from cyrus_sync.common.stores.native.marks import Marks
from cyrus_sync.common.stores.native.packs import PackMark, PackWriter
from cyrus_sync.common.stores.native.reader import Reader
from cyrus_sync.common.stores.trouble import reporting, store_trouble

LogLineTuple = tuple[str, ...]

_NORMAL = 1
"""SQLite's number for a commit that is not synced."""


class Ground(NamedTuple):
    """The open files of a stored owner that a transaction works on."""

    connection: sqlite3.Connection
    packs: PackWriter
    bodies: BodyReader


class Surroundings(Protocol):
    """What a transaction asks of the store around it."""

    servername: str

    def refuses_changes(self) -> str:
        """Why only replication may change the store now; "" where everybody may."""

    def now(self) -> int:
        """Unix seconds."""

    def check_partition(self, partition: str) -> str:
        """`partition` if it is configured, the default for ""; raises `PartitionUnknown`."""

    def found(self, owner: Owner, partition: str, *, large: bool) -> Ground:
        """Begin to make a new owner, locked. `large`: much is to be written to him."""

    def other_holder(self, uniqueid: str) -> Owner | None:
        """Another owner that holds the mailbox."""


class _Savepoint(NamedTuple):
    name: str
    mark: PackMark | None
    lines: int
    hints: int
    history: HistoryMark


class Transaction:
    """Everything that is done to one owner between two commits. The store makes it, commits it and rolls it
    back; verbs in between never do."""

    owner: Owner
    around: Surroundings
    """Clock, partitions, and who else holds a mailbox."""
    db: sqlite3.Connection
    """The index. `change` comes before anything is written to it, and may put another in its place."""
    reader: Reader
    """What the index holds now. Ask for it anew after `change`."""
    history: History
    """Told of what is about to be overwritten."""

    def __init__(
        self, owner: Owner, around: Surroundings, ground: Ground | None, memory: sqlite3.Connection | None
    ) -> None:
        """`ground` of an owner that is stored, else `memory`: an empty index that stands in for it."""
        self.owner = owner
        self.around = around
        self._ground = ground
        self._savepoints: list[_Savepoint] = []
        self._lines: list[tuple[bool, LogLineTuple]] = []
        self._logged: set[tuple[bool, LogLineTuple]] = set()
        self._hints: list[tuple[str, Owner | None]] = []
        self._left_over: list[tuple[bool, LogLineTuple]] = []
        self._broken = False
        self._may_found = True
        self._start: PackMark | None = None
        self.history = History(kept=ground is not None)
        if ground:
            self._begin(ground)
        else:
            assert memory is not None
            self.db = memory
            self.reader = Reader(owner, memory, None)

    def _begin(self, ground: Ground) -> None:
        self.db = ground.connection
        self.reader = Reader(self.owner, ground.connection, lambda: _flushed(ground))
        self._start = ground.packs.mark()
        self.db.execute("BEGIN IMMEDIATE")
        self._left_over = [
            (bool(chained), tuple(json.loads(line)))
            for chained, line in self.db.execute("SELECT chained, line FROM outbox ORDER BY seq")
        ]
        if self.db.execute("SELECT 1 FROM owner").fetchone() is None:
            self.db.execute(
                "INSERT INTO owner (one, kind, name, known_since) VALUES (1, ?, ?, ?)",
                (*self.owner, self.around.now()),
            )

    # -- what verbs build on

    @property
    def packs(self) -> PackWriter:
        """Where messages are appended; asking for it is a `change`."""
        self.change()
        assert self._ground is not None
        return self._ground.packs

    def forbid_founding(self) -> None:
        """From now on a change to an owner that is not stored raises `MailboxNonexistent`."""
        self._may_found = False

    def change(self, partition: str = "", *, large: bool = False) -> None:
        """Called before anything is changed: makes sure that the owner is stored (on `partition`). `large`:
        much will be written to one who is not. Raises `MailboxNonexistent` where no owner may be made,
        `StoreError` after a rollback, what `found` raises."""
        if self._broken:
            raise StoreError("the transaction has been rolled back").at(user=str(self.owner))
        if self._ground is not None:
            return
        if not self._may_found:
            raise MailboxNonexistent().at(user=str(self.owner))
        self._ground = self.around.found(self.owner, partition, large=large)
        self.db.close()
        self._begin(self._ground)
        mark = self._ground.packs.mark()
        for number, savepoint in enumerate(self._savepoints):
            self.db.execute(f"SAVEPOINT {savepoint.name}")
            self._savepoints[number] = savepoint._replace(mark=mark)

    def log(self, *line: str, chained: bool = False, mending: bool = False) -> None:
        """A line for the action log, once per transaction; `chained`: a replica's change, which is only
        logged where replication is chained; `mending`: what is stored is as it should be again. Anything
        else is a change that is made here: raises `ReplicaOnly` where only replication may change."""
        if (chained, line) not in self._logged:
            if not (chained or mending) and (reason := self.around.refuses_changes()):
                raise ReplicaOnly(reason).at(user=self.owner.name)
            self._logged.add((chained, line))
            self._lines.append((chained, line))

    def hint(self, uniqueid: str, owner: Owner | None) -> None:
        """Tell the registry who holds a mailbox; None = nobody any more."""
        self._hints.append((uniqueid, owner))

    @property
    def damaged(self) -> Marks | set[bytes]:
        """GUIDs whose stored copy is known to be damaged; to be replaced when the message is at hand."""
        return self._ground.bodies.damaged if self._ground else set()

    def spill_history(self) -> None:
        """Write what is noted of overwritten values, if it has become much. Called after each batch."""
        if self.history.is_full():
            self.history.write(self.db, self.around.now())

    # -- savepoints and the end

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undoes what is done in it (index, packs, log lines, hints) if it ends with an exception other than
        `ChangesKept`. May be nested. Lets only errors of ours out, as `reporting` does."""
        name = f"s{len(self._savepoints)}"
        if self._ground:
            self.db.execute(f"SAVEPOINT {name}")
        mark = self._ground.packs.mark() if self._ground else None
        self._savepoints.append(
            _Savepoint(name, mark, len(self._lines), len(self._hints), self.history.mark())
        )
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
            self.db.execute(f"RELEASE {name}")

    def _undo(self) -> None:
        """Roll back to the innermost savepoint; where SQLite has lost the transaction, all is lost."""
        name, mark, lines, hints, history = self._savepoints.pop()
        self.history.rewind(history)
        del self._lines[lines:]
        self._logged = set(self._lines)
        del self._hints[hints:]
        if self._ground is None:
            return
        try:
            self.db.execute(f"ROLLBACK TO {name}")
            self.db.execute(f"RELEASE {name}")
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
        outbox until `lines_written`. Raises `StoreError`; only `rollback` may follow then."""
        if self._ground is None:
            return []
        if self._broken:
            raise StoreError("the transaction has been rolled back").at(user=str(self.owner))
        try:
            lengths = self._ground.packs.sync()
            if lengths:
                self.db.executemany(
                    "INSERT OR REPLACE INTO packs (pack, length) VALUES (?, ?)", lengths.items()
                )
            self.history.write(self.db, self.around.now())
            leave_lines(self.db, [line for line in self._lines if line[0] in keep_lines])
            self._start = None
            self.db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise store_trouble(error, self.owner) from error
        return self._left_over + self._lines

    def lines_written(self) -> None:
        """The action log has the lines: empty the outbox. Not synced; repeating lines does no harm."""
        (synchronous,) = self.db.execute("PRAGMA synchronous").fetchone()
        self.db.execute(f"PRAGMA synchronous = {min(synchronous, _NORMAL)}")
        try:
            self.db.execute("DELETE FROM outbox")
        finally:
            self.db.execute(f"PRAGMA synchronous = {synchronous}")

    def rollback(self) -> None:
        """Leave no trace. Raises sqlite3.Error, OSError. After a COMMIT that failed the bytes stay in the
        pack, where they do no harm: should the commit have reached the disk after all, it must find them."""
        if self._ground is None:
            return
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
        if self._start is not None:
            self._ground.packs.rewind(self._start)


def leave_lines(connection: sqlite3.Connection, lines: Iterable[tuple[bool, LogLineTuple]]) -> None:
    """Put lines into the outbox."""
    kept = [(chained, json.dumps(line)) for chained, line in lines]
    if kept:
        connection.executemany("INSERT INTO outbox (chained, line) VALUES (?, ?)", kept)


def _flushed(ground: Ground) -> BodyReader:
    """Reads what this transaction has appended, too."""
    ground.packs.flush()
    return ground.bodies
