"""`PullLog`: what the IMAP server tells of becomes lines of the log from which a rolling pull works."""

from __future__ import annotations

import itertools
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
from cyrus_sync.sync_client.pull_engine import Told
from cyrus_sync.sync_client.pulling import everybody, with_shared_user
from cyrus_sync.sync_client.report import log
from cyrus_sync.sync_client.sources import owner_of_line

if TYPE_CHECKING:
    from cyrus_sync.pull.changes import Change
    from cyrus_sync.pull.places import Place
    from cyrus_sync.pull.puller import Puller

_ASK_AGAIN_SECONDS = 30.0
"""Least time between two looks at who is pulled, for events of who was not."""


class PullLog:
    """Writes into the log what is to be pulled. Blocks; safe between threads."""

    def __init__(
        self, cfg: Config, log_file: SyncLog, kept: KeptStore, puller: Puller, told: Told | None = None
    ) -> None:
        """`told` counts what is written."""
        self._cfg = cfg
        self._log = log_file
        self._kept = kept
        self._puller = puller
        self._told = told or Told()
        self._space = Namespace.from_config(cfg)
        self._lock = threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._asked = float("-inf")

    def poll(self) -> list[str]:
        """Who there is, at the beginning of a poll."""
        self._puller.begin_round()
        return self._everybody()

    def to_poll(self, userids: Sequence[str]) -> list[str]:
        """Whom a poll looks at where it finds these."""
        return with_shared_user(self._puller, userids)

    def whole(self, userids: Iterable[str]) -> None:
        """A line for all of each of them, as a poll has it."""
        self._write((("USER", userid) for userid in userids), urgent=False)

    def changed(self, changes: Sequence[Change]) -> list[Change]:
        """Lines for what has changed of those who are pulled at all. Events of who is not come back: he may
        be new (`of_strangers`)."""
        lines: dict[bool, list[tuple[str, ...]]] = {True: [], False: []}
        strangers = []
        for change in changes:
            try:
                userid = self._space.userid(change.login)
            except CyrusSyncError as error:
                log.warning("an event of a user who is none: %s", error)
                continue
            if self._is_pulled(userid):
                lines[change.told] += self._lines(userid, change)
            else:
                lines[change.told] += self._lines_of_others(userid, change)
                strangers.append(change)
        for told, those in lines.items():
            self._write(those, urgent=told)
        return strangers

    def of_strangers(self, changes: Sequence[Change]) -> None:
        """Lines for what has changed of those who are pulled since lately. Who there is is asked for, which
        may take its time."""
        wanted = [(self._space.userid(change.login), change) for change in changes]
        self._look_for_strangers(userid for userid, _ in wanted)
        new = [(userid, change) for userid, change in wanted if self._is_pulled(userid)]
        for told in (True, False):
            lines = (self._lines(userid, change) for userid, change in new if change.told == told)
            self._write(itertools.chain.from_iterable(lines), urgent=told)

    def _write(self, lines: Iterable[tuple[str, ...]], *, urgent: bool = True) -> None:
        wanted = list(dict.fromkeys(lines))
        if wanted:
            alone = [owner_of_line(line) for line in wanted if line[0] == "MAILBOX"]
            self._told.note(alone, urgent=False)  # no line of a poll takes these in
            rest = [owner_of_line(line) for line in wanted if line[0] != "MAILBOX"]
            self._told.note(rest, urgent=urgent)
            self._log.append(wanted)

    def _lines(self, userid: str, change: Change) -> Iterator[tuple[str, ...]]:
        if change.about:
            yield "USER", userid
            return
        places = [self._puller.place_of(userid, shown) for shown in change.folders]
        if not places or None in places:
            yield _all_of(userid)
            return
        yield from self._lines_at(places)

    def _lines_of_others(self, userid: str, change: Change) -> Iterator[tuple[str, ...]]:
        """Where one who is not pulled has changed shared folders, or those of one who is."""
        yield from self._lines_at([self._puller.places.find(userid, shown) for shown in change.folders])

    def _lines_at(self, places: Iterable[Place | None]) -> Iterator[tuple[str, ...]]:
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
