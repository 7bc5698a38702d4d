"""`Log`: the tables of one replica's operations log, together, and who this replica is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

from cyrus_sync.common.names import Owner, owner_of, root_of
from cyrus_sync.multisite.oplog.database import Database
from cyrus_sync.multisite.oplog.epochs import Epochs
from cyrus_sync.multisite.oplog.masters import Master, Masters
from cyrus_sync.multisite.oplog.objects import Objects
from cyrus_sync.multisite.oplog.operations import Operations, owner_text
from cyrus_sync.multisite.oplog.shadows import Shadows


class Log:
    """Opened for one command. `clock` gives Unix seconds."""

    def __init__(self, directory: Path, self_id: str, clock: Callable[[], float] = time.time) -> None:
        self.db = Database(directory)
        self.self_id = self_id
        self.operations = Operations(self.db, self_id)
        self.epochs = Epochs(self.db)
        self.shadows = Shadows(self.db)
        self.masters = Masters(self.db)
        self.objects = Objects(self.db)
        self._clock = clock

    def now(self) -> int:
        return int(self._clock())

    def is_master(self, owner: Owner) -> bool:
        """Whether this replica's word counts for the owner. One whom nobody has changed has no master."""
        master = self.masters.of(owner)
        return master is not None and master.replica == self.self_id

    def claim(self, owner: Owner) -> None:
        """Before this replica tells of an owner: become his master if he has none."""
        if self.masters.of(owner) is None:
            self.proclaim(owner, Master(0, self.self_id))

    def proclaim(self, owner: Owner, master: Master) -> None:
        """Say in the log who is master."""
        self.masters.put(owner, master)
        attributes = {"version": str(master.version), "replica": master.replica}
        self.operations.append(owner, b"APPLY MASTER %()\r\n", time=self.now(), attributes=attributes)

    def creator(self, uniqueid: str) -> str:
        """The replica where a mailbox was made; this one for a mailbox that nobody has told of."""
        known = self.objects.get(uniqueid)
        return known.creator if known else self.self_id

    def attributes(self, owner: Owner, uniqueid: str = "") -> dict[str, str]:
        """What goes with everything that this replica tells of an owner, and of a mailbox
        (`multisite.recorder`)."""
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
        """By whose master operations on a mailbox go: the owner in whom it was made. `name`: what a new one
        is called."""
        known = self.objects.get(uniqueid)
        return known.owner if known else owner_of(name)

    def homes(self, owner: Owner) -> dict[Owner, Master]:
        """By whose masters operations on an owner go: first the one in whom his INBOX (or top-level mailbox)
        was made, which is another than he if he was renamed. Without those who have no master."""
        root = self.shadows.by_name(root_of(owner))
        found = [self.home(root.uniqueid, root.name), owner] if root else [owner]
        return {one: master for one in found if (master := self.masters.of(one))}

    def places(self, owner: Owner) -> Iterator[Owner]:
        """The owner, and others to whom mailboxes were renamed whose home he is: where messages of
        operations on him may be stored."""
        yield owner
        yield from self.shadows.elsewhere(owner)

    # -- messages that are asked for

    def want(self, owner: Owner, guids: Iterable[bytes]) -> None:
        """Ask the others for these messages in the next packets."""
        rows = [(guid, owner_text(owner)) for guid in guids]
        self.db.executemany("INSERT OR IGNORE INTO wanted (guid, owner) VALUES (?, ?)", rows)

    def wanted(self, most: int = 1000) -> tuple[bytes, ...]:
        """What this replica asks for."""
        rows = self.db.execute("SELECT guid FROM wanted ORDER BY guid LIMIT ?", (most,))
        return tuple(guid for (guid,) in rows.fetchall())

    def unwant(self, guids: Iterable[bytes]) -> None:
        self.db.executemany("DELETE FROM wanted WHERE guid = ?", [(guid,) for guid in guids])

    def request(self, target: str, guids: Iterable[bytes]) -> None:
        """`target` has asked for these messages: they go along with its next packet."""
        rows = [(target, guid) for guid in guids]
        self.db.executemany("INSERT OR IGNORE INTO requests (target, guid) VALUES (?, ?)", rows)

    def requested(self, target: str) -> list[bytes]:
        rows = self.db.execute("SELECT guid FROM requests WHERE target = ? ORDER BY guid", (target,))
        return [guid for (guid,) in rows.fetchall()]

    def fulfilled(self, target: str) -> None:
        self.db.execute("DELETE FROM requests WHERE target = ?", (target,))

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
