"""What we have written into a user's tree: one small SQLite file in it, ``cyrus-sync-standby.sqlite``.

For each folder: which mailbox it is, up to which modseq it is in step, and how its directories and its
uidlist looked afterwards. For each message: the name of its file, its date and its message. `meant` holds the
names that a change under way will have made; after a crash a file of either name is ours.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.files import make_private

NAME = "cyrus-sync-standby.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS folders (
    id INTEGER PRIMARY KEY, uniqueid TEXT NOT NULL UNIQUE, directory TEXT NOT NULL,
    uidvalidity INTEGER NOT NULL, next_uid INTEGER NOT NULL, modseq INTEGER NOT NULL, lines INTEGER NOT NULL,
    keywords TEXT NOT NULL, stamp TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
    folder INTEGER NOT NULL, uid INTEGER NOT NULL, base TEXT NOT NULL, letters TEXT NOT NULL,
    date INTEGER NOT NULL, guid BLOB NOT NULL, fields TEXT NOT NULL, more TEXT NOT NULL,
    PRIMARY KEY (folder, uid)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meant (
    folder INTEGER NOT NULL, uid INTEGER NOT NULL, base TEXT NOT NULL, letters TEXT, date INTEGER NOT NULL,
    guid BLOB NOT NULL, fields TEXT NOT NULL, more TEXT NOT NULL, PRIMARY KEY (folder, uid)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lacking (
    folder INTEGER NOT NULL, uid INTEGER NOT NULL, PRIMARY KEY (folder, uid)) WITHOUT ROWID;
PRAGMA user_version = 1; """
_VERSION = 1


def in_step_of(root: Path) -> dict[str, int] | None:
    """Up to which modseq each mailbox is in step in the tree `root`, by uniqueid; None where no ledger is.
    Changes nothing. Raises `StoreError`."""
    path = root / NAME
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as db:
            return dict(db.execute("SELECT uniqueid, modseq FROM folders").fetchall())
    except sqlite3.Error as error:
        raise _trouble(path, error) from error


class Entry(NamedTuple):
    """One message of a folder. `letters` None (of what is meant): it shall be gone. `fields`: what the
    uidlist says of it besides; `more`: keywords for which there was no letter."""

    uid: int
    base: str
    letters: str | None
    date: int
    guid: bytes
    fields: str
    more: str = ""

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.base}:2,{self.letters}"


@dataclass(slots=True)
class Folder:
    """One folder. `next_uid` is above every UID that its uidlist ever had; `lines` are those of that file;
    `keywords` are in the order of their letters; `stamp` is how it looked when we left it, "" if it has to be
    looked at; `modseq` 0: nothing is in step."""

    id: int
    uniqueid: str
    directory: str
    uidvalidity: int
    next_uid: int = 1
    modseq: int = 0
    lines: int = 1
    keywords: str = ""
    stamp: str = ""


class Ledger:
    """The ledger of the tree `root`. For one thread."""

    def __init__(self, root: Path) -> None:
        self.path = root / NAME
        try:
            make_private(self.path)
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=10)
            self._db.executescript("PRAGMA journal_mode=TRUNCATE; PRAGMA synchronous=FULL;")
            if self._db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                self._db.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
        except sqlite3.Error as error:
            raise _trouble(self.path, error) from error

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """All of it, on disk, or nothing."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise _trouble(self.path, error) from error

    # -- the tree

    def get(self, key: str) -> str:
        """A value of the tree, "" if there is none."""
        return str(next(self._rows("SELECT value FROM meta WHERE key = ?", (key,)), ("",))[0])

    def put(self, key: str, value: str) -> None:
        self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # -- folders

    def folders(self) -> dict[str, Folder]:
        """By uniqueid."""
        rows = self._rows(
            "SELECT id, uniqueid, directory, uidvalidity, next_uid, modseq, lines, keywords, stamp"
            " FROM folders"
        )
        return {row[1]: Folder(*row) for row in rows}

    def add_folder(self, uniqueid: str, directory: str, uidvalidity: int) -> Folder:
        self._run(
            "INSERT INTO folders (uniqueid, directory, uidvalidity, next_uid, modseq, lines, keywords, stamp)"
            " VALUES (?, ?, ?, 1, 0, 1, '', '')",
            (uniqueid, directory, uidvalidity),
        )
        return self.folders()[uniqueid]

    def save_folder(self, folder: Folder) -> None:
        self._run(
            "UPDATE folders SET directory = ?, uidvalidity = ?, next_uid = ?, modseq = ?, lines = ?,"
            " keywords = ?, stamp = ? WHERE id = ?",
            (
                *(folder.directory, folder.uidvalidity, folder.next_uid, folder.modseq, folder.lines),
                *(folder.keywords, folder.stamp, folder.id),
            ),
        )

    def forget_folder(self, folder: Folder) -> None:
        self.clear(folder)
        self._run("DELETE FROM folders WHERE id = ?", (folder.id,))

    # -- messages

    def entries(self, folder: Folder, table: str = "messages") -> dict[int, Entry]:
        """All of a folder by UID, ascending."""
        rows = self._rows(
            f"SELECT uid, base, letters, date, guid, fields, more FROM {table} WHERE folder = ? ORDER BY uid",
            (folder.id,),
        )
        return {row[0]: Entry(*row) for row in rows}

    def meant(self, folder: Folder) -> dict[int, Entry]:
        """What a change that was interrupted would have made."""
        return self.entries(folder, "meant")

    def entry(self, folder: Folder, uid: int) -> Entry | None:
        rows = self._rows(
            "SELECT uid, base, letters, date, guid, fields, more FROM messages WHERE folder = ? AND uid = ?",
            (folder.id, uid),
        )
        return next((Entry(*row) for row in rows), None)

    def count(self, folder: Folder) -> int:
        return int(next(self._rows("SELECT count(*) FROM messages WHERE folder = ?", (folder.id,)))[0])

    def used_letters(self, folder: Folder) -> set[str]:
        rows = self._rows("SELECT DISTINCT letters FROM messages WHERE folder = ?", (folder.id,))
        return set("".join(row[0] for row in rows))

    def with_more(self, folder: Folder) -> list[tuple[str, list[str]]]:
        """(Name of the file without flags, keywords for which there was no letter), by UID."""
        rows = self._rows(
            "SELECT base, more FROM messages WHERE folder = ? AND more != '' ORDER BY uid", (folder.id,)
        )
        return [(base, more.split()) for base, more in rows]

    def mean(self, folder: Folder, entries: Iterable[Entry]) -> None:
        self._many(
            "INSERT OR REPLACE INTO meant VALUES (?, ?, ?, ?, ?, ?, ?, ?)", ((folder.id, *e) for e in entries)
        )

    def settle(self, folder: Folder, entries: Iterable[Entry]) -> None:
        """These are so now; nothing is meant any more."""
        listed = list(entries)
        self._many(
            "INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ((folder.id, *e) for e in listed if e.letters is not None),
        )
        self._many(
            "DELETE FROM messages WHERE folder = ? AND uid = ?",
            ((folder.id, e.uid) for e in listed if e.letters is None),
        )
        self._run("DELETE FROM meant WHERE folder = ?", (folder.id,))

    def clear(self, folder: Folder) -> None:
        """Nothing of the folder's messages is known."""
        for table in ("messages", "meant", "lacking"):
            self._run(f"DELETE FROM {table} WHERE folder = ?", (folder.id,))

    def lacking(self, folder: Folder) -> set[int]:
        """UIDs of messages that could not be read."""
        return {row[0] for row in self._rows("SELECT uid FROM lacking WHERE folder = ?", (folder.id,))}

    def lack(self, folder: Folder, uids: Iterable[int]) -> None:
        """These could not be read; no others."""
        self._run("DELETE FROM lacking WHERE folder = ?", (folder.id,))
        self._many("INSERT INTO lacking VALUES (?, ?)", ((folder.id, uid) for uid in uids))

    def _rows(self, sql: str, arguments: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._db.execute(sql, arguments)
        except sqlite3.Error as error:
            raise _trouble(self.path, error) from error

    def _run(self, sql: str, arguments: tuple[object, ...]) -> None:
        self._db.execute(sql, arguments)

    def _many(self, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        self._db.executemany(sql, rows)


def _trouble(path: Path, error: sqlite3.Error) -> StoreError:
    return StoreError(f"{path}: {error}")
