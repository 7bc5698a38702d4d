"""What was seen of one owner at the last pull, in a file of its own beside the store.

It says which of a folder's states at the server our mailbox equals, so that only what has changed since is
asked for. It is believed of a folder only as long as our mailbox is as it was left: its HIGHESTMODSEQ and CRC
are noted, too. So a file that was lost, is older than the store, or belongs to a store that was restored,
costs time and nothing else. For the same reason nothing is synced here."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.pull.folders import Counters, Folder

_SCHEMA = """ CREATE TABLE IF NOT EXISTS folders (shown TEXT PRIMARY KEY, name TEXT, identity TEXT, uniqueid
TEXT, note TEXT,
  uidvalidity INT, uidnext INT, messages INT, modseq INT, distrusted INT, missing TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (shown TEXT PRIMARY KEY, uniqueid TEXT, uids BLOB, uidvalidity INT, uidnext
INT, messages INT, modseq INT, settled INT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS contents (identity BLOB PRIMARY KEY, guid BLOB NOT NULL) WITHOUT ROWID;
"""

_VERSION = 1
"""Of what a look at a message brings; kept in each file. 1: annotations, and of shared folders no \\Seen."""


class Remembered(NamedTuple):
    """A folder as it was left. `missing` are UIDs of messages that the server did not give. `distrusted`: its
    UIDNEXT was wrong once."""

    shown: str
    name: str
    identity: str
    uniqueid: str
    note: str
    counters: Counters
    distrusted: bool = False
    missing: frozenset[int] = frozenset()

    def agrees(self, mailbox: MailboxState, folder: Folder) -> bool:
        """Whether nothing has changed at either end since. Where the server keeps no modseqs, flags may
        have."""
        told = folder.counters
        return (
            told == self.counters
            and told.modseq > 0
            and not self.missing
            and self.identity == folder.identity
            and self.is_of(mailbox)
        )

    def is_another(self, folder: Folder) -> bool:
        """Whether the server says that the folder of this name is another one now."""
        mine, now = self.identity.partition(" "), folder.identity.partition(" ")
        return mine[0] == now[0] and mine[2] != now[2]

    def is_of(self, mailbox: MailboxState) -> bool:
        """Whether our mailbox is as it was left."""
        return self.uniqueid == mailbox.uniqueid and self.note == note_of(mailbox)


class SeenThere(NamedTuple):
    """What its owner had seen in a folder of others; `uids` is a digest of that. Not `settled`: a server may
    count a change before it tells of it."""

    uniqueid: str
    uids: bytes
    counters: Counters
    settled: bool


def note_of(mailbox: MailboxState) -> str:
    """What changes with any change to our mailbox."""
    return f"{mailbox.highestmodseq}.{mailbox.last_uid}.{mailbox.sync_crc}.{mailbox.uidvalidity}"


def _uids(text: str) -> frozenset[int]:
    return frozenset(map(int, text.split()))


class Memory:
    """Of one owner. Contents may be asked for and put by two threads at once: the next batch of messages is
    looked up while one is stored."""

    def __init__(self, directory: Path, server: str, owner: Owner) -> None:
        """The file is below `directory`, made at the first thing that is put into it."""
        name = quote(str(owner), safe="@") or "."
        spread = hashlib.sha1(name.encode()).hexdigest()[:2]
        name = name if len(name) < 200 else hashlib.sha1(name.encode()).hexdigest()
        self._path = directory / quote(server, safe="") / spread / f"{name}.db"
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._known: dict[str, Remembered] | None = None
        self._seen: dict[str, SeenThere] | None = None

    def folders(self) -> Mapping[str, Remembered]:
        """By name at the server."""
        known = self._known
        if known is None:
            rows = self._ask(
                "SELECT shown, name, identity, uniqueid, note, uidvalidity, uidnext, messages, modseq,"
                " distrusted, missing FROM folders"
            )
            known = self._known = {
                shown: Remembered(
                    shown, name, identity, uniqueid, note, Counters(*rest[:4]), bool(rest[4]), _uids(rest[5])
                )
                for shown, name, identity, uniqueid, note, *rest in rows
            }
        return known

    def put(self, folder: Remembered) -> None:
        """A folder as it is now."""
        known = dict(self.folders())
        if known.get(folder.shown) == folder:
            return
        missing = " ".join(map(str, sorted(folder.missing)))
        self._do(
            "INSERT OR REPLACE INTO folders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*folder[:5], *folder.counters, int(folder.distrusted), missing)],
        )
        self._known = known | {folder.shown: folder}

    def note_again(self, store: MailStore, folder: Folder) -> None:
        """Our mailbox has been given its rights and annotations, and is as it shall be."""
        was = self.folders().get(folder.shown)
        if was is not None:
            with store.read(folder.owner) as reader:
                mailbox = reader.mailbox(folder.name)
            if mailbox is not None and mailbox.uniqueid == was.uniqueid:
                self.put(was._replace(note=note_of(mailbox)))

    def forget(self, shown: Iterable[str]) -> None:
        """Folders that are no more, or are called otherwise."""
        gone = [(name,) for name in shown]
        if not gone:
            return
        self._do("DELETE FROM folders WHERE shown = ?", gone)
        self._known = None

    def seen(self) -> Mapping[str, SeenThere]:
        """By the names at the server of folders that are not the owner's."""
        seen = self._seen
        if seen is None:
            rows = self._ask("SELECT * FROM seen")
            seen = self._seen = {
                shown: SeenThere(uniqueid, uids, Counters(*counters), bool(settled))
                for shown, uniqueid, uids, *counters, settled in rows
            }
        return seen

    def put_seen(self, shown: str, seen: SeenThere) -> None:
        """What is seen in a folder now."""
        row = (shown, seen.uniqueid, seen.uids, *seen.counters, int(seen.settled))
        self._do("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [row])
        self._seen = None

    def guids(self, identities: Iterable[bytes]) -> dict[bytes, bytes]:
        """GUIDs of messages by what the server calls their contents, as far as known."""
        found = {}
        for identity in identities:
            for (guid,) in self._ask("SELECT guid FROM contents WHERE identity = ?", (identity,)):
                found[identity] = guid
        return found

    def knows_contents(self) -> bool:
        return bool(self._ask("SELECT 1 FROM contents LIMIT 1"))

    def put_guids(self, pairs: Mapping[bytes, bytes]) -> None:
        """These contents have these GUIDs."""
        if pairs:
            self._do("INSERT OR REPLACE INTO contents VALUES (?, ?)", pairs.items())

    def forget_contents(self, most: int, stored: Callable[[set[bytes]], set[bytes]]) -> None:
        """Where more than `most` contents are known, forget those that are not `stored` any more."""
        if not any(count > most for (count,) in self._ask("SELECT count(*) FROM contents")):
            return
        known = {guid for (guid,) in self._ask("SELECT DISTINCT guid FROM contents")}
        self._do("DELETE FROM contents WHERE guid = ?", [(guid,) for guid in known - stored(known)])

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    # -- the file

    def _ask(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        if self._db is None and not self._path.exists():
            return []
        with self._lock, self._forgiving():
            return self._opened().execute(statement, values).fetchall()
        return []

    def _do(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Kept at once: others may look at the same owner meanwhile."""
        with self._lock, self._forgiving():
            db = self._opened()
            db.executemany(statement, rows)
            db.commit()

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        """A damaged file is begun anew. What cannot be kept is forgotten: that costs time."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if self._db is not None:
                self._db.close()
            self._db = None
            self._known = self._seen = None
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return  # it is another's just now
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self._path, timeout=30, check_same_thread=False)
            db.executescript("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;" + _SCHEMA)
            _bring_up(db)
            self._db = db
        return self._db


def _bring_up(db: sqlite3.Connection) -> None:
    """An earlier version did not look for all that this one does: so the next look at each folder is at all
    of its messages, as where the server keeps no modseqs."""
    if _version_of(db) >= _VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    if _version_of(db) < _VERSION:  # nobody else was quicker
        db.execute("UPDATE folders SET modseq = 0")
        db.execute(f"PRAGMA user_version = {_VERSION}")
    db.commit()


def _version_of(db: sqlite3.Connection) -> int:
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    return found
