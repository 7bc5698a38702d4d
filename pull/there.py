"""`There`: a folder that is open at the server, and what has changed in it since the last pull."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.numbers import number_set
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.pull.answers import fetched, number_told, uids_of
from cyrus_sync.pull.bodies import search
from cyrus_sync.pull.connection import Line
from cyrus_sync.pull.errors import ServerTrouble
from cyrus_sync.pull.folders import Counters, Folder
from cyrus_sync.pull.memory import Remembered
from cyrus_sync.pull.session import Session

_WALK = 20000
"""UIDs whose flags are asked for at once."""

Said = dict[str, list[Line]]
"""Untagged answers by their names."""


class Delta(NamedTuple):
    """What the server says of messages up to our LAST_UID."""

    flags: Mapping[int, bytes]
    gone: frozenset[int]
    unknown: frozenset[int]
    """UIDs that it has and that we lack."""


class There:
    """Of `folder`. `check` raises where the pull is to stop."""

    def __init__(self, session: Session, store: MailStore, folder: Folder, check: Callable[[], None]) -> None:
        self._session = session
        self._store = store
        self._folder = folder
        self._check = check

    def open(self, known: Remembered | None) -> tuple[Counters, Said]:
        """Its counters as they are now, and what is said besides. Raises `ServerTrouble` where it is not the
        folder that was listed."""
        words = [self._folder.wire]
        if self._session.qresync and known is not None and known.counters.modseq:
            words.append(b"(QRESYNC (%d %d))" % (known.counters.uidvalidity, known.counters.modseq))
        elif self._session.condstore:
            words.append(b"(CONDSTORE)")
        answers = self._session.command("EXAMINE", *words)
        names = ("UIDVALIDITY", "UIDNEXT", "EXISTS", "HIGHESTMODSEQ")
        now = Counters(*(number_told(answers, name) for name in names))
        expected = self._folder.counters
        if expected is None or now.uidvalidity != expected.uidvalidity:
            raise ServerTrouble("UIDVALIDITY has changed meanwhile")
        if not now.uidnext:
            now = now._replace(uidnext=expected.uidnext)
        return now, answers

    def reopen(self) -> None:
        """After the line was cut."""
        self.open(None)

    def delta(
        self, mailbox: MailboxState, known: Remembered | None, now: Counters, said: Said, new: int
    ) -> Delta:
        """What is said since the last pull, if with the `new` messages above our LAST_UID it accounts for as
        many as there are; else what a walk through all of them shows."""
        last = mailbox.last_uid
        if not last:
            return Delta({}, frozenset(), frozenset())
        with self._store.read(self._folder.owner) as reader:
            live = set(reader.live_uids(mailbox.uniqueid))
        if known is not None and known.counters.modseq and now.modseq and not known.distrusted:
            found = self._since(known, live, last, said)
            below = len(live) - len(found.gone) + len(found.unknown) + len(known.missing)
            if below + new == now.messages:
                return found
        return self._walk(live, last)

    def _since(self, known: Remembered, live: set[int], last: int, said: Said) -> Delta:
        """What has changed since the modseq of the last pull."""
        gone: set[int] = set()
        if self._session.qresync:
            for line in said.get("VANISHED", []):
                if isinstance(line, bytes):
                    for run in uids_of(line.removeprefix(b"(EARLIER) ")):
                        short = len(run) < len(live)
                        gone |= live.intersection(run) if short else {uid for uid in live if uid in run}
        else:
            since = b"(CHANGEDSINCE %d)" % known.counters.modseq
            said = self._session.command("UID", b"FETCH", b"1:%d" % last, b"(UID FLAGS)", since)
            gone = live.difference(search(self._session, b"UID 1:%d" % last))
        flags = {
            one.uid: one.flags
            for one in fetched(said.get("FETCH", []))
            if one.uid <= last and one.flags is not None and one.uid not in gone
        }
        return Delta(
            {uid: text for uid, text in flags.items() if uid in live},
            frozenset(gone),
            frozenset(flags.keys() - live - known.missing),
        )

    def _walk(self, live: set[int], last: int) -> Delta:
        """The flags of all messages."""
        flags: dict[int, bytes] = {}
        uids = search(self._session, b"UID 1:%d" % last)
        uids = [uid for uid in uids if uid <= last]
        for at in range(0, len(uids), _WALK):
            self._check()
            part = b"%d:%d" % (uids[at], uids[min(at + _WALK, len(uids)) - 1])
            for one in fetched(self._session.command("UID", b"FETCH", part, b"(UID FLAGS)").get("FETCH", [])):
                if one.flags is not None:
                    flags[one.uid] = one.flags
        there = set(uids)
        return Delta(
            {uid: text for uid, text in flags.items() if uid in live},
            frozenset(live - there),
            frozenset(there - live),
        )

    def above(self, last: int, now: Counters) -> list[int]:
        """UIDs above `last`, ascending."""
        if not now.messages:
            return []
        found = search(self._session, b"UID %d:*" % (last + 1) if last else b"ALL")
        return [uid for uid in found if uid > last]  # the last message always answers to n:*

    def still(self, uids: Iterable[int]) -> list[int]:
        """Those of them that are there, ascending."""
        wanted = sorted(uids)
        return search(self._session, b"UID " + number_set(wanted)) if wanted else []
