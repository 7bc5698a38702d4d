"""What a user has seen in folders that are not his: shared ones, and those of others that he is shown.

There \\Seen is each user's own affair, in a Cyrus and here. The server tells each his own, by his own login;
our store keeps it with him, and not in the mailbox (`common.model.Seen`). Where a server has one \\Seen for
all, each is told the same. It is kept as UIDs, so a mailbox has to have the server's UIDVALIDITY. Where there
are modseqs it is asked for after a change alone: a server raises them for that, too."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable

from cyrus_sync.common.model import Seen
from cyrus_sync.common.names import Owner
from cyrus_sync.common.numbers import number_set
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.pull.answers import number_told
from cyrus_sync.pull.bodies import search
from cyrus_sync.pull.errors import Refused
from cyrus_sync.pull.folders import Folder
from cyrus_sync.pull.memory import Memory, SeenThere
from cyrus_sync.pull.pulled import LOCK_TIMEOUT, Pulled
from cyrus_sync.pull.session import Session


class SeenElsewhere:
    """Of `userid`, who is logged in. `check` raises where the pull is to stop."""

    def __init__(
        self, session: Session, store: MailStore, userid: str, done: Pulled, check: Callable[[], None]
    ) -> None:
        self._session = session
        self._store = store
        self._owner = Owner("user", userid)
        self._done = done
        self._check = check

    def bring(self, folders: Iterable[Folder], memory: Memory) -> None:
        """What he has seen in these, he has seen here then. A folder that he may not open is passed over.
        `memory` is his."""
        for folder in folders:
            self._check()
            with self._store.read(folder.owner) as reader:
                mailbox = reader.mailbox(folder.name)
            if mailbox is None or mailbox.tombstone or mailbox.intermediate:
                continue
            here = self._here(mailbox.uniqueid)
            was = memory.seen().get(folder.shown)
            same = was is not None and (was.uniqueid, was.uids, was.counters) == (
                *(mailbox.uniqueid, _digest(here)),
                folder.counters,
            )
            if was is not None and same and was.settled:
                continue
            try:
                told = self._session.command("EXAMINE", folder.wire)
            except Refused:
                continue
            if number_told(told, "UIDVALIDITY") != mailbox.uidvalidity:
                continue
            try:
                uids = search(self._session, b"SEEN") if number_told(told, "EXISTS") else []
            except Refused as error:
                self._done.troubles.append(f"{folder.shown}: what is seen in it is left out: {error.message}")
                continue
            text = number_set(uids).decode()
            if text != here:
                self._keep(mailbox.uniqueid, mailbox.last_uid, text)
            if folder.counters is not None and folder.counters.modseq:
                settled = same and text == here
                memory.put_seen(
                    folder.shown, SeenThere(mailbox.uniqueid, _digest(text), folder.counters, settled)
                )

    def _here(self, uniqueid: str) -> str:
        with self._store.read(self._owner) as reader:
            there = reader.seen(uniqueid)
        return there.seenuids if there is not None else ""

    def _keep(self, uniqueid: str, last_uid: int, uids: str) -> None:
        now = int(time.time())
        with self._store.write(self._owner, timeout=LOCK_TIMEOUT) as writer:
            writer.set_seen(Seen(uniqueid, now, last_uid, now, uids))
        self._done.besides += 1


def _digest(uids: str) -> bytes:
    return hashlib.sha1(uids.encode()).digest()
