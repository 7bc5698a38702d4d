"""Either end of a pair, real or ours, with the same few things that a user can do to it.

For scenarios that must hold on every pair. A folder is named as in ``lists.cyrus``, "" is the INBOX.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from cyrus_sync.common.names import Owner, inbox_of

from .beside import BesideCyrus
from .csync import state_of
from .cyrus import Address, Cyrus
from .imap import quote
from .ours import Ours
from .running import Finished

PAIRS = (
    ["real-real"] if os.environ.get("INTEROP_SERVER") == "real" else ["real-ours", "ours-real", "ours-ours"]
)
"""Master and replica; two real ones are the judge of a scenario itself."""


BESIDE = [] if os.environ.get("INTEROP_SERVER") == "real" else ["beside-ours", "beside-real"]
"""Our client beside a real master."""


class Side(Protocol):
    """One end. UIDs are plain ints, messages raw octets."""

    kind: str
    csync: Address

    def create(self, user: str, folder: str = "") -> None: ...

    def append(self, user: str, folder: str, *messages: bytes, flags: str = "") -> None: ...

    def flag(self, user: str, folder: str, uid: int, flag: str, on: bool = True) -> None: ...

    def expunge(self, user: str, folder: str, *uids: int) -> None: ...

    def copy(self, user: str, folder: str, uid: int, target: str, move: bool = False) -> None: ...

    def rename(self, user: str, old: str, new: str) -> None: ...

    def rename_user(self, user: str, new: str) -> None: ...

    def delete(self, user: str, folder: str) -> None: ...

    def subscribe(self, user: str, folder: str, on: bool = True) -> None: ...

    def annotate(self, user: str, folder: str, uid: int, value: bytes) -> None:
        """The shared /comment of a message."""

    def sync(self, to: Address, *args: str) -> Finished:
        """One run of this end's sync_client."""

    def follow(self, to: Address) -> Finished:
        """Carry out this end's action log."""


class RealSide:
    """A real Cyrus, by IMAP. `kind`: "real" with its own client, "beside" with ours."""

    def __init__(self, cyrus: Cyrus) -> None:
        self.cyrus = cyrus
        self.kind = "beside" if isinstance(cyrus, BesideCyrus) else "real"
        self.csync = cyrus.csync

    def _name(self, folder: str) -> str:
        return "INBOX/" + folder.replace(".", "/") if folder else "INBOX"

    def create(self, user: str, folder: str = "") -> None:
        if not folder:
            self.cyrus.create_user(user)
            return
        with self.cyrus.imap(user) as imap:
            imap.ok("CREATE", quote(self._name(folder)))

    def append(self, user: str, folder: str, *messages: bytes, flags: str = "") -> None:
        with self.cyrus.imap(user) as imap:
            imap.append(self._name(folder), *messages, flags=flags)

    def flag(self, user: str, folder: str, uid: int, flag: str, on: bool = True) -> None:
        with self.cyrus.imap(user) as imap:
            imap.select(self._name(folder))
            imap.store(str(uid), "+FLAGS" if on else "-FLAGS", flag)

    def expunge(self, user: str, folder: str, *uids: int) -> None:
        wanted = ",".join(map(str, uids))
        with self.cyrus.imap(user) as imap:
            imap.select(self._name(folder))
            imap.store(wanted, "+FLAGS", "\\Deleted")
            imap.ok("UID", "EXPUNGE", wanted)

    def copy(self, user: str, folder: str, uid: int, target: str, move: bool = False) -> None:
        with self.cyrus.imap(user) as imap:
            imap.select(self._name(folder))
            imap.ok("UID", "MOVE" if move else "COPY", str(uid), quote(self._name(target)))

    def rename(self, user: str, old: str, new: str) -> None:
        with self.cyrus.imap(user) as imap:
            imap.ok("RENAME", quote(self._name(old)), quote(self._name(new)))

    def rename_user(self, user: str, new: str) -> None:
        with self.cyrus.imap() as admin:
            admin.ok("RENAME", f"user/{user}", f"user/{new}")

    def delete(self, user: str, folder: str) -> None:
        with self.cyrus.imap(user) as imap:
            imap.ok("DELETE", quote(self._name(folder)))

    def subscribe(self, user: str, folder: str, on: bool = True) -> None:
        with self.cyrus.imap(user) as imap:
            imap.ok("SUBSCRIBE" if on else "UNSUBSCRIBE", quote(self._name(folder)))

    def annotate(self, user: str, folder: str, uid: int, value: bytes) -> None:
        with self.cyrus.imap(user) as imap:
            imap.select(self._name(folder))
            imap.annotate(str(uid), "/comment", "value.shared", value)

    def sync(self, to: Address, *args: str) -> Finished:
        return self.cyrus.sync_client(*args, to=to)

    def follow(self, to: Address) -> Finished:
        return self.cyrus.follow(to)


class OurSide:
    """An installation of ours, by the store's own calls."""

    kind = "ours"

    def __init__(self, ours: Ours) -> None:
        self.ours = ours
        self.csync = ours.csync

    def _name(self, user: str, folder: str) -> str:
        return inbox_of(user) + (f".{folder}" if folder else "")

    def create(self, user: str, folder: str = "") -> None:
        with self.ours.store.write(Owner("user", user)) as box:
            box.create(self._name(user, folder))

    def append(self, user: str, folder: str, *messages: bytes, flags: str = "") -> None:
        now = int(time.time())
        with self.ours.store.write(Owner("user", user)) as box:
            box.append(self._name(user, folder), [(raw, now, flags) for raw in messages])

    def flag(self, user: str, folder: str, uid: int, flag: str, on: bool = True) -> None:
        with self.ours.store.write(Owner("user", user)) as box:
            box.set_flags(
                self._name(user, folder), [uid], add=[flag] if on else [], remove=[] if on else [flag]
            )

    def expunge(self, user: str, folder: str, *uids: int) -> None:
        with self.ours.store.write(Owner("user", user)) as box:
            box.expunge(self._name(user, folder), uids)

    def copy(self, user: str, folder: str, uid: int, target: str, move: bool = False) -> None:
        with self.ours.store.write(Owner("user", user)) as box:
            box.copy(self._name(user, folder), [uid], self._name(user, target), move=move)

    def rename(self, user: str, old: str, new: str) -> None:
        self.ours.store.rename(self._name(user, old), self._name(user, new), log=True)

    def rename_user(self, user: str, new: str) -> None:
        self.ours.mailstore("rename", f"user/{user}", f"user/{new}").check()

    def delete(self, user: str, folder: str) -> None:
        with self.ours.store.write(Owner("user", user)) as box:
            box.delete(self._name(user, folder))

    def subscribe(self, user: str, folder: str, on: bool = True) -> None:
        with self.ours.store.write(Owner("user", user)) as box:
            box.subscribe(self._name(user, folder), on)

    def annotate(self, user: str, folder: str, uid: int, value: bytes) -> None:
        with self.ours.store.write(Owner("user", user)) as box:
            box.annotate(self._name(user, folder), "/comment", "", value, uid=uid)

    def sync(self, to: Address, *args: str) -> Finished:
        return self.ours.sync_client(*args, to=to)

    def follow(self, to: Address) -> Finished:
        return self.ours.sync_client("-R", "-1", to=to)


@contextmanager
def side(kind: str, name: str, settings: dict[str, str] | None = None) -> Iterator[RealSide | OurSide]:
    """A new, serving end of that kind; gone afterwards, ours not before it was verified. `settings` are for a
    real one."""
    if kind == "real":
        with Cyrus.running(name, settings) as cyrus:
            yield RealSide(cyrus)
    elif kind == "beside":
        with BesideCyrus.running(name, settings) as cyrus:
            assert isinstance(cyrus, BesideCyrus)
            cyrus.settles = True
            yield RealSide(cyrus)
    else:
        with Ours.installed(name) as ours:
            yield OurSide(ours)
            ours.verify()


def guids(end: Side, user: str) -> dict[str, dict[int, bytes]]:
    """The live messages of every mailbox that is not deleted: GUID in hex by UID."""
    return {
        name: {
            uid: record["GUID"]
            for uid, record in mailbox["RECORD"].items()
            if b"\\Expunged" not in record["FLAGS"]
        }
        for name, mailbox in state_of(end.csync, user)["mailboxes"].items()
        if not name.startswith("DELETED.") and "RECORD" in mailbox
    }
