"""What a user has seen in folders that are not his: shared ones, and those of others that he is shown.

There \\Seen is each user's own affair, in a Cyrus and here. The server tells each his own, by his own login;
our store keeps it with him, and not in the mailbox (`common.model.Seen`). Where a server has one \\Seen for
all, each is told the same. It is kept as UIDs, so a mailbox has to have the server's UIDVALIDITY."""

from __future__ import annotations

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

    def bring(self, folders: Iterable[Folder]) -> None:
        """What he has seen in these, he has seen here then. A folder that he may not open is passed over."""
        for folder in folders:
            self._check()
            with self._store.read(folder.owner) as reader:
                mailbox = reader.mailbox(folder.name)
            if mailbox is None or mailbox.tombstone or mailbox.intermediate:
                continue
            try:
                told = self._session.command("EXAMINE", folder.wire)
            except Refused:
                continue
            if number_told(told, "UIDVALIDITY") != mailbox.uidvalidity:
                continue
            uids = search(self._session, b"SEEN") if number_told(told, "EXISTS") else []
            self._keep(mailbox.uniqueid, mailbox.last_uid, number_set(uids).decode())

    def _keep(self, uniqueid: str, last_uid: int, uids: str) -> None:
        with self._store.read(self._owner) as reader:
            there = reader.seen(uniqueid)
        if uids == (there.seenuids if there is not None else ""):
            return
        now = int(time.time())
        with self._store.write(self._owner, timeout=LOCK_TIMEOUT) as writer:
            writer.set_seen(Seen(uniqueid, now, last_uid, now, uids))
        self._done.besides += 1
