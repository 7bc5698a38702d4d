"""The quarantine: owners whose replication fails again and again, set aside while all others flow.

Two files in the channel's directory belong together:

* ``quarantine.yaml`` says who is set aside, why, since when and until when. An administrator may edit
  it: remove an entry (or the file) and that owner is tried again at once; change `next_retry`; write
  ``next_retry: never`` to leave somebody out until further notice. ``only`` names the mailboxes (or other
  items) of an owner that wait while everything else of him goes on. It also lists log lines that nobody
  can work on, with the reason.
* ``quarantine.log`` keeps the owners' lines, in the form of the action log.

The rule it guards: a line is in the action log, in the run file or in ``quarantine.log`` at every moment
until its work is done. Files are replaced as a whole (written, synced, renamed); methods that touch a
disk raise `StoreError`. Times are Unix seconds of the injected clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from pathlib import Path

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.quarantine_file import (
    Listing,
    RejectedLine,
    SetAside,
    Unreadable,
    append_lines,
    read_lines,
    read_listing,
    write_lines,
    write_listing,
)
from cyrus_sync.sync_client.work import Item, Kind

_log = logging.getLogger(__name__)

PATIENCE = 3
"""Runs in a row in which an owner fails before he is set aside."""

PATIENCE_LOCKED = 10
"""The same for owners whom another process keeps locked."""

BUSY_RETRY = 10
"""Seconds until somebody is tried again whose mail only changed faster than it was replicated."""

FIRST_RETRY = 60
LONGEST_RETRY = 3600
"""Seconds until any other set-aside owner is tried again: doubling from the first to the longest."""

Line = tuple[str, ...]


@dataclass(slots=True)
class _Trouble:
    """An owner who has failed lately but is not set aside yet."""

    first: int
    count: int = 0


@dataclass(slots=True)
class Quarantine:
    """What is set aside on one channel. One process uses it at a time (the channel's lock)."""

    directory: Path
    clock: Callable[[], float]
    owner_of_line: Callable[[Line], Owner]
    _entries: dict[Owner, SetAside] = field(default_factory=dict)
    _rejected: dict[str, RejectedLine] = field(default_factory=dict)
    _kept: dict[Owner, dict[Line, None]] = field(default_factory=dict)
    _troubles: dict[Owner, _Trouble] = field(default_factory=dict)
    _stamp: tuple[int, ...] | None = None

    @property
    def path(self) -> Path:
        return self.directory / "quarantine.yaml"

    @property
    def lines_path(self) -> Path:
        return self.directory / "quarantine.log"

    # -- reading

    def load(self) -> None:
        """Read both files. An unreadable listing is moved aside: the kept lines are tried again."""
        self._kept = {}
        for line in read_lines(self.lines_path):
            self._kept.setdefault(self.owner_of_line(line), {})[line] = None
        try:
            listing = read_listing(self.path)
        except Unreadable as error:
            aside = self.path.with_suffix(".unreadable")
            self.path.rename(aside)
            _log.error("%s; it is now %s, and everybody in quarantine is tried again", error, aside)
            listing = Listing()
        self._take_over(listing)

    def refresh(self) -> bool:
        """Read the listing again if somebody has changed it; True if so. While it cannot be read (a
        half-finished edit), what was known goes on to hold."""
        if self._file_stamp() == self._stamp:
            return False
        try:
            listing = read_listing(self.path)
        except Unreadable as error:
            self._stamp = self._file_stamp()
            _log.error("%s; going by what it said before", error)
            return False
        self._take_over(listing)
        _log.info("%s was changed: %d set aside", self.path, len(self._entries))
        return True

    def _take_over(self, listing: Listing) -> None:
        self._entries = dict(listing.entries)
        self._rejected = {line.line: line for line in listing.rejected}
        self._stamp = self._file_stamp()

    def _file_stamp(self) -> tuple[int, ...] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return (found.st_ino, found.st_mtime_ns, found.st_size)

    # -- questions

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> dict[Owner, SetAside]:
        return dict(self._entries)

    @property
    def owners(self) -> set[Owner]:
        """Whose work is kept here: set aside, or released and not yet done."""
        return self._entries.keys() | self._kept.keys()

    @property
    def rejected(self) -> list[RejectedLine]:
        return list(self._rejected.values())

    def holds(self, owner: Owner) -> bool:
        """True while `owner` is set aside and his retry is not due."""
        entry = self._entries.get(owner)
        return entry is not None and (entry.next_retry is None or entry.next_retry > self.clock())

    def split(self, item: Item) -> tuple[Item | None, Item | None]:
        """What of `item` may be done, and what waits. Who is set aside for some mailboxes only goes on with
        all others."""
        entry = self._entries.get(item.owner)
        if entry is None or not self.holds(item.owner):
            return item, None
        if not entry.only:
            return None, item
        if item.kind is not Kind.MAILBOXES:
            return item, None
        waiting = tuple(name for name in item.args if name in entry.only)
        going = tuple(name for name in item.args if name not in entry.only)
        return (
            item._replace(args=going) if going else None,
            item._replace(args=waiting) if waiting else None,
        )

    def partly(self, owner: Owner) -> bool:
        """True if only some of the owner's items wait."""
        entry = self._entries.get(owner)
        return entry is not None and bool(entry.only)

    def due(self) -> list[Owner]:
        """Owners to try now: their time has come, or somebody has removed their entry."""
        released = [owner for owner in self._kept if owner not in self._entries]
        return [owner for owner in self._entries if not self.holds(owner)] + released

    def kept(self, owner: Owner) -> list[Line]:
        """The lines that wait for `owner`."""
        return list(self._kept.get(owner, ()))

    # -- what happened

    def keep(self, lines: Iterable[Line]) -> None:
        """Keep `lines` for their owners; on disk on return."""
        new: list[Line] = []
        for line in lines:
            kept = self._kept.setdefault(self.owner_of_line(line), {})
            if line not in kept:
                kept[line] = None
                new.append(line)
        append_lines(self.lines_path, new)

    def failed(
        self,
        owner: Owner,
        reason: str,
        *,
        locked: bool = False,
        busy: bool = False,
        only: Sequence[str] = (),
    ) -> bool:
        """`owner` could not be replicated in this run. True if he is (now) set aside. `only`: what failed,
        if everything else was done. `busy`: nothing was wrong, he was changed too fast."""
        now = int(self.clock())
        entry = self._entries.get(owner)
        if entry is None:
            trouble = self._troubles.setdefault(owner, _Trouble(now))
            trouble.count += 1
            if trouble.count < (PATIENCE_LOCKED if locked else PATIENCE):
                return False
            del self._troubles[owner]
            entry = SetAside(reason, trouble.first, now, trouble.count - 1, now)
            what = f"{', '.join(only)} of {owner}" if only else str(owner)
            _log.error("%s is set aside after %d failures: %s", what, trouble.count, reason)
        tries = entry.failures + 1
        doublings = 0 if locked else min(max(0, tries - PATIENCE), 16)
        wait = BUSY_RETRY if busy else min(FIRST_RETRY * 2**doublings, LONGEST_RETRY)
        self._entries[owner] = SetAside(reason, entry.first_failure, now, tries, now + wait, tuple(only))
        return True

    def succeeded(self, owners: Iterable[Owner]) -> None:
        """All work of these owners in this run was done."""
        gone = []
        for owner in owners:
            self._troubles.pop(owner, None)
            if self._entries.pop(owner, None) is not None:
                _log.info("%s is no longer set aside", owner)
            if owner in self._kept:
                gone.append(owner)
        self._forget(gone)

    def reject(self, line: str, reason: str) -> None:
        """A log line that nobody can work on."""
        now = int(self.clock())
        known = self._rejected.get(line)
        if known is None:
            _log.error("log line set aside: %s: %s", reason, line)
            known = RejectedLine(line, reason, now, now, 0)
        self._rejected[line] = RejectedLine(line, reason, known.first_seen, now, known.times + 1)

    def _forget(self, owners: Sequence[Owner]) -> None:
        if not owners:
            return
        for owner in owners:
            del self._kept[owner]
        write_lines(self.lines_path, [line for kept in self._kept.values() for line in kept])

    def save(self) -> None:
        """Write the listing, if it says something new. What somebody changed meanwhile holds for the
        owners that nothing happened to."""
        if self._file_stamp() != self._stamp:
            self._merge_edit()
        listing = Listing(dict(self._entries), list(self._rejected.values()))
        write_listing(self.path, listing)
        self._stamp = self._file_stamp()

    def _merge_edit(self) -> None:
        try:
            edited = read_listing(self.path)
        except Unreadable:
            return
        now = int(self.clock())
        for owner, entry in edited.entries.items():
            mine = self._entries.get(owner)
            if mine is None or mine.last_failure < now:
                self._entries[owner] = entry
        for owner in [o for o in self._entries if o not in edited.entries]:
            if self._entries[owner].last_failure < now:
                del self._entries[owner]
