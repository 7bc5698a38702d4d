"""mailboxes.db: which mailboxes there are, whose they are, and what became of those that are gone.

Up to 3.4 an entry's key is the internal name. Since 3.6 it is ``N`` and the database name; beside it stands
``I`` and the unique id, with the names that the mailbox had. Other keys are indexes of no interest here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from threading import Lock
from typing import NamedTuple

from cyrus_sync.common.names import (
    DELETED_PREFIX,
    Owner,
    in_domain,
    is_deleted,
    owner_of,
    root_of,
    sort_key,
    split_domain,
)
from cyrus_sync.spool.databases import Databases
from cyrus_sync.spool.db import Database
from cyrus_sync.spool.entries import BadEntry, Entry, is_live, parse_entry
from cyrus_sync.spool.names import LEVEL, database_name, internal_name
from cyrus_sync.spool.trouble import SpoolDamaged

_NAME, _ID = b"N", b"I"
_INDEXES = (b"$RACL", b"$RUNQ")
"""Keys of releases before 3.6 that are no names."""


class _View(NamedTuple):
    """The database, and in which layout it is. `by_id`: that of 3.6 and later."""

    database: Database
    by_id: bool

    def entry(self, name: str) -> Entry | None:
        value = self.database.get(self.key(name))
        return None if value is None else self.parse(value, name)

    def below(self, name: str) -> Iterator[Entry]:
        """Everything whose name begins with that of `name` and a separator."""
        separator = LEVEL.encode() if self.by_id else b"."
        for key, value in self.database.items(self.key(name) + separator):
            yield self.parse(value, self.name(key))

    def names(self) -> Iterator[tuple[str, bytes]]:
        for key, value in self.database.items(_NAME if self.by_id else b""):
            if self.by_id or not key.startswith(_INDEXES):
                yield self.name(key), value

    def by_unique_id(self, uniqueid: str) -> Entry | None:
        """What the layout of 3.6 lists under a unique id."""
        value = self.database.get(_ID + uniqueid.encode())
        if value is None:
            return None
        entry = self.parse(value, "", uniqueid)
        return replace(entry, uniqueid=uniqueid) if entry.live and entry.name else None

    def is_named(self, entry: Entry) -> bool:
        """Whether the mailbox is still there. What is deleted for good stays listed under its unique id."""
        named = self.entry(entry.name)
        return named is not None and named.live and named.uniqueid == entry.uniqueid

    def key(self, name: str) -> bytes:
        return _NAME + database_name(name) if self.by_id else name.encode()

    def name(self, key: bytes) -> str:
        try:
            return internal_name(key[1:]) if self.by_id else key.decode()
        except UnicodeDecodeError:
            raise SpoolDamaged(self.database.path, 0, f"the key {key!r} is not text") from None

    def parse(self, value: bytes, name: str, uniqueid: str = "") -> Entry:
        try:
            return parse_entry(value, name)
        except BadEntry as error:
            what = f"the entry of {name or uniqueid}: {error}"
            raise SpoolDamaged(self.database.path, 0, what).at(mailbox=name, uniqueid=uniqueid) from None


class MailboxList:
    """The list. Safe between threads; what daemons change shows at the next call."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._lock = Lock()
        self._view: _View | None = None
        self._names: dict[str, str] = {}
        """Of the old layout: the name of each unique id, when we last looked for all."""

    # -- single mailboxes

    def entry(self, name: str) -> Entry | None:
        """What stands under an internal name: a mailbox, an intermediate, or a tombstone."""
        return self._look().entry(name)

    def by_id(self, uniqueid: str) -> Entry | None:
        """The live mailbox with this unique id, with its former names."""
        view = self._look()
        if not view.by_id:
            return self._by_id_of_old(view, uniqueid)
        entry = view.by_unique_id(uniqueid)
        return entry if entry is not None and view.is_named(entry) else None

    def gone(self, uniqueid: str) -> Entry | None:
        """What is known of a mailbox that was deleted for good: its unique id is still listed, its name is
        not, or is another's. Since 3.6 only."""
        view = self._look()
        entry = view.by_unique_id(uniqueid) if view.by_id else None
        return entry if entry is not None and not view.is_named(entry) else None

    # -- owners

    def of_owner(self, owner: Owner) -> list[Entry]:
        """Everything that bears his name: live mailboxes, deleted ones behind them, tombstones; each in
        the order of their names."""
        view = self._look()
        found: list[Entry] = []
        for root in _roots(owner):
            entry = view.entry(root)
            found += [entry] if entry is not None else []
            found += view.below(root)
        found = [entry for entry in found if owner_of(entry.name) == owner]
        return sorted(found, key=lambda entry: (is_deleted(entry.name), sort_key(entry.name)))

    def owners(self) -> list[Owner]:
        """Users of whom a mailbox is alive in order of userid, then shared top-level mailboxes."""
        view = self._look()
        found: set[Owner] = set()
        for name, value in view.names():
            owner = owner_of(name)
            if owner not in found and is_live(value):
                found.add(owner)
        return sorted(found, key=lambda owner: (owner.kind != "user", owner.name))

    def keeps_by_id(self) -> bool:
        """Whether the release is 3.6 or later: mailboxes and users' files may have unique ids as names, and
        Sieve scripts are messages."""
        return self._look().by_id

    # -- inside

    def _look(self) -> _View:
        """The list as it is now. An upgrade to another layout replaces the file."""
        database = self._databases.mailboxes()
        view = self._view
        if view is None or view.database is not database:
            view = _View(database, by_id=_is_by_id(database))
            self._view = view if next(database.items(), None) is not None else None
        return view

    def _by_id_of_old(self, view: _View, uniqueid: str) -> Entry | None:
        """A release without such an index looks through everything. We remember where all were."""
        with self._lock:
            for fresh in (False, True):
                if fresh:
                    self._names = _live_ids(view)
                name = self._names.get(uniqueid)
                entry = view.entry(name) if name is not None else None
                if entry is not None and entry.live and entry.uniqueid == uniqueid:
                    return entry
        return None


def _is_by_id(database: Database) -> bool:
    """An ``I`` entry names its mailbox; the value of a shared mailbox ``Info`` of an older release does not.
    An empty list counts as new."""
    for key, value in database.items(_ID):
        return bool(_View(database, by_id=True).parse(value, "", key.decode("ascii", "replace")).name)
    return next(database.items(), None) is None


def _live_ids(view: _View) -> dict[str, str]:
    entries = (view.parse(value, name) for name, value in view.names())
    return {entry.uniqueid: entry.name for entry in entries if entry.live and entry.uniqueid}


def _roots(owner: Owner) -> tuple[str, str]:
    """The names at and below which an owner's live mailboxes are, and his deleted ones."""
    root = root_of(owner)
    domain, inner = split_domain(root)
    return root, in_domain(domain, f"{DELETED_PREFIX}.{inner}")
