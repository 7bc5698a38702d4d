"""`Log`: the tables of one replica's operations log, together, and who this replica is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from cyrus_sync.common.names import Owner, owner_of, root_of
from cyrus_sync.multisite.oplog.database import Database
from cyrus_sync.multisite.oplog.epochs import Epochs
from cyrus_sync.multisite.oplog.forks import Forks
from cyrus_sync.multisite.oplog.given_up import GivenUp
from cyrus_sync.multisite.oplog.heard import Hearsay
from cyrus_sync.multisite.oplog.masters import Master, Masters
from cyrus_sync.multisite.oplog.notes import Notes
from cyrus_sync.multisite.oplog.objects import Objects
from cyrus_sync.multisite.oplog.operations import Operations, owner_text
from cyrus_sync.multisite.oplog.regained import Regained
from cyrus_sync.multisite.oplog.shadows import Shadows
from cyrus_sync.multisite.oplog.trimmed import Trimmed


class Log:
    """The log, opened for one command.

    Opening it raises `StoreError` where the file cannot be used. `self_id` is this replica's id, `clock`
    gives Unix seconds. The caller holds the `SiteLock` if it writes."""

    def __init__(self, directory: Path, self_id: str, clock: Callable[[], float] = time.time) -> None:
        self.db = Database(directory)
        self.self_id = self_id
        self.operations = Operations(self.db, self_id)
        self.epochs = Epochs(self.db)
        self.heard = Hearsay(self.db)
        self.trimmed = Trimmed(self.db)
        self.shadows = Shadows(self.db)
        self.masters = Masters(self.db)
        self.objects = Objects(self.db)
        self.notes = Notes(self.db)
        self.given_up = GivenUp(self.notes)
        self.forks = Forks(self.operations, self.notes)
        self.regained = Regained(self.operations, self.notes)
        self._clock = clock

    def now(self) -> int:
        """Unix seconds."""
        return int(self._clock())

    def is_master(self, owner: Owner) -> bool:
        """Whether this replica's word counts for the owner. An owner that nobody has changed has no
        master."""
        master = self.masters.of(owner)
        return master is not None and master.replica == self.self_id

    def claim(self, owner: Owner) -> None:
        """Become the owner's master if it has none. To be called before this replica tells of the owner."""
        if self.masters.of(owner) is None:
            self.proclaim(owner, Master(0, self.self_id))

    def proclaim(self, owner: Owner, master: Master, more: Mapping[str, str] | None = None) -> None:
        """Append an operation that says who is the owner's master, and note it. `more`: other attributes."""
        self.masters.put(owner, master)
        attributes = {"version": str(master.version), "replica": master.replica, **(more or {})}
        self.operations.append(owner, b"APPLY MASTER %()\r\n", time=self.now(), attributes=attributes)

    def creator(self, uniqueid: str) -> str:
        """The replica where a mailbox was made; this one for a mailbox that nobody has told of."""
        known = self.objects.get(uniqueid)
        return known.creator if known else self.self_id

    def attributes(self, owner: Owner, uniqueid: str = "") -> dict[str, str]:
        """The attributes of whatever this replica tells now of an owner, or of one of its mailboxes
        (`multisite.recorder` lists them)."""
        found: dict[str, str] = {}
        if uniqueid:
            found["uniqueid"] = uniqueid
            found["creator"] = self.creator(uniqueid)
        master = self.masters.of(owner)
        if master is not None:
            found["reign"] = master.reign
        if master is not None and master.replica == self.self_id:
            settled = self.masters.settled(owner)
            found["settled"] = ",".join(f"{origin}:{number}" for origin, number in sorted(settled.items()))
        elif uniqueid:
            base = self.masters.base(uniqueid)
            found["base"] = f"{base.modseq}:{base.last_uid}"
        return found

    # -- where things belong, and where they are

    def home(self, uniqueid: str, name: str) -> Owner:
        """A mailbox's home: the owner in which it was made. Operations on the mailbox go by the master of
        that owner. `name` is the name of a mailbox that the log does not know yet."""
        known = self.objects.get(uniqueid)
        return known.owner if known else owner_of(name)

    def homes(self, owner: Owner) -> dict[Owner, Master]:
        """The homes by whose masters operations on an owner go, with these masters.

        The first is the home of the owner's INBOX, or of its top-level mailbox; it is another owner if this
        one was renamed. The owner itself follows. Homes that have no master are left out."""
        root = self.shadows.by_name(root_of(owner))
        found = [self.home(root.uniqueid, root.name), owner] if root else [owner]
        return {one: master for one in found if (master := self.masters.of(one))}

    def places(self, owner: Owner) -> Iterator[Owner]:
        """The owners in whose stores the messages of an operation on `owner` may be: the owner itself, and
        those to whom its mailboxes were renamed."""
        yield owner
        yield from self.shadows.elsewhere(owner)

    # -- messages that are asked for

    def want(self, owner: Owner, guids: Iterable[bytes]) -> None:
        """Ask the others for these messages (GUIDs) in the next packets."""
        rows = [(guid, owner_text(owner)) for guid in guids]
        self.db.executemany("INSERT OR IGNORE INTO wanted (guid, owner) VALUES (?, ?)", rows)

    def wanted(self, most: int = 1000) -> tuple[bytes, ...]:
        """GUIDs of the messages that this replica asks for, at most `most`."""
        rows = self.db.execute("SELECT guid FROM wanted ORDER BY guid LIMIT ?", (most,))
        return tuple(guid for (guid,) in rows.fetchall())

    def unwant(self, guids: Iterable[bytes]) -> None:
        """Ask for these messages no more."""
        self.db.executemany("DELETE FROM wanted WHERE guid = ?", [(guid,) for guid in guids])

    def request(self, target: str, guids: Iterable[bytes]) -> None:
        """Note that the replica `target` asks for these messages: its next packet brings them."""
        rows = [(target, guid) for guid in guids]
        self.db.executemany("INSERT OR IGNORE INTO requests (target, guid) VALUES (?, ?)", rows)

    def requested(self, target: str) -> list[bytes]:
        """GUIDs of the messages for which the replica `target` has asked."""
        rows = self.db.execute("SELECT guid FROM requests WHERE target = ? ORDER BY guid", (target,))
        return [guid for (guid,) in rows.fetchall()]

    def fulfilled(self, target: str) -> None:
        """Forget what the replica `target` has asked for."""
        self.db.execute("DELETE FROM requests WHERE target = ?", (target,))

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
