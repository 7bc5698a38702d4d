"""`PullLog`: what the IMAP server tells of becomes lines of the log from which a rolling pull works."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.names import inbox_of
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.stores import KeptStore
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.sync_client.pulling import everybody
from cyrus_sync.sync_client.report import log

if TYPE_CHECKING:
    from cyrus_sync.pull.changes import Change
    from cyrus_sync.pull.puller import Puller

_ASK_AGAIN_SECONDS = 30.0
"""Least time between two looks at who is pulled, for events of who was not."""


class PullLog:
    """Writes into the log what is to be pulled. Blocks; safe between threads."""

    def __init__(self, cfg: Config, log_file: SyncLog, kept: KeptStore, puller: Puller) -> None:
        self._cfg = cfg
        self._log = log_file
        self._kept = kept
        self._puller = puller
        self._space = Namespace.from_config(cfg)
        self._lock = threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._asked = float("-inf")

    def poll(self) -> list[str]:
        """A line for everybody; who that is."""
        self._puller.begin_round()
        userids = self._everybody()
        if userids:
            self._log.append([("USER", userid) for userid in userids])
        return userids

    def changed(self, changes: Sequence[Change]) -> None:
        """Lines for what has changed of those who are pulled at all."""
        wanted = []
        for change in changes:
            try:
                wanted.append((self._space.userid(change.login), change))
            except CyrusSyncError as error:
                log.warning("an event of a user who is none: %s", error)
        self._look_for_strangers(userid for userid, _ in wanted)
        lines = [
            line
            for userid, change in wanted
            if self._is_pulled(userid)
            for line in self._lines(userid, change)
        ]
        if lines:
            self._log.append(list(dict.fromkeys(lines)))

    def _lines(self, userid: str, change: Change) -> Iterator[tuple[str, ...]]:
        if change.about:
            yield "USER", userid
            return
        places = [self._puller.place_of(userid, shown) for shown in change.folders]
        if not places or None in places:
            yield _all_of(userid)
            return
        for place in places:
            if place is not None and place.name:
                yield "MAILBOX", place.name
            elif place is not None and self._is_pulled(place.userid):
                yield _all_of(place.userid)

    def _is_pulled(self, userid: str) -> bool:
        with self._lock:
            return userid in self._known

    def _look_for_strangers(self, userids: Iterable[str]) -> None:
        """Whoever is not known may be new: but not at each event."""
        now = time.monotonic()
        with self._lock:
            if self._known.issuperset(userids) or now - self._asked <= _ASK_AGAIN_SECONDS:
                return
            self._asked = now
        try:
            self._everybody()
        except CyrusSyncError as error:  # those who are known are not meant
            log.error("who is to be pulled cannot be found out: %s", error)

    def _everybody(self) -> list[str]:
        found = everybody(self._cfg, self._kept.mail.userids())
        with self._lock:
            self._known, self._asked = frozenset(found), time.monotonic()
        return found


def _all_of(userid: str) -> tuple[str, ...]:
    return "SUB", userid, inbox_of(userid)
