"""`CsyncReader`: one owner of a master, as its csync server tells of him.

A mailbox is shown by GET MAILBOXES at first. Its records come with GET FULLMAILBOX, all of them, when they
are asked for, and must then be those that the header spoke of; beyond a bound they wait in a file without a
name.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import MailboxNonexistent, SnapshotLost, StoreError
from cyrus_sync.common.model import (
    MailboxAnnotation,
    MailboxState,
    Quota,
    Record,
    RecordSource,
    Seen,
    Tombstone,
    UserMeta,
    UserState,
)
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.protocol.crc import mailbox_crcs
from cyrus_sync.csync.asking import Asking
from cyrus_sync.csync.places import Places

_RECENT = 4
_COUNTED = ("uniqueid", "last_uid", "highestmodseq", "uidvalidity", "sync_crc", "sync_crc_annot")


class Recent:
    """The records of the last few mailboxes, as long as nothing has changed in them: the engine looks at one
    several times. Safe between threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._kept: OrderedDict[tuple[object, ...], RecordSource] = OrderedDict()

    def get(self, state: MailboxState) -> RecordSource | None:
        with self._guard:
            return self._kept.get(_counted(state))

    def put(self, state: MailboxState, records: RecordSource) -> None:
        with self._guard:
            self._kept[_counted(state)] = records
            if len(self._kept) > _RECENT:
                self._kept.popitem(last=False)


def _counted(state: MailboxState) -> tuple[object, ...]:
    return tuple(getattr(state, name) for name in _COUNTED)


class CsyncReader:
    """A `MasterReader`. Nothing is held but what was asked for."""

    def __init__(self, asking: Asking, places: Places, recent: Recent, owner: Owner) -> None:
        self.owner = owner
        self._recent = recent
        self._asking = asking
        self._places = places
        self._userid = owner.name if owner.kind == "user" else ""
        self._user: UserState | None = None
        self._shown: dict[str, MailboxState] = {}
        """By uniqueid: what is said of the mailbox from then on agrees with it."""
        self._records: dict[str, RecordSource] = {}

    # -- mailboxes

    def mailboxes(self) -> list[MailboxState]:
        if self.owner.kind == "shared":
            raise StoreError(
                f"a csync server does not list what is below the shared mailbox {self.owner.name}: it is"
                " replicated by its log, or name the mailboxes with sync_client -m"
            )
        return list(self._as_user().mailboxes)

    def mailbox(self, name: str) -> MailboxState | None:
        if owner_of(name) != self.owner:
            return None
        for shown in self._shown.values():
            if shown.name == name:
                return shown
        states = self._asking.ask(lambda server: server.get_mailboxes([name]))
        return self._show(next((state for state in states if state.name == name), None))

    def mailbox_by_id(self, uniqueid: str) -> MailboxState | None:
        if uniqueid in self._shown:
            return self._shown[uniqueid]
        for _ in range(2):
            place = self._places.find(self.owner, uniqueid)
            if place is None or owner_of(place.name) != self.owner:
                return None
            found = self.mailbox(place.name)
            if found is not None and found.uniqueid == uniqueid:
                return found
            self._places.forget(uniqueid)  # it was renamed since
        return None

    def tombstones(self) -> list[Tombstone]:
        """A csync server tells of none."""
        return []

    def tombstone(self, uniqueid: str) -> Tombstone | None:
        del uniqueid
        return None

    def former_names(self, uniqueid: str) -> list[str]:
        del uniqueid
        return []

    def _show(self, state: MailboxState | None) -> MailboxState | None:
        if state is None or state.tombstone:
            return None
        self._places.learn(state)
        return self._shown.setdefault(state.uniqueid, state)

    def _as_user(self) -> UserState:
        if self._user is None:
            self._user = self._asking.ask(lambda server: server.get_user(self._userid))
            for state in self._user.mailboxes:
                self._places.learn(state)
        return self._user

    # -- records

    def records(
        self, uniqueid: str, *, since_modseq: int = 0, above_uid: int = 0, batch: int = 2000
    ) -> RecordSource:
        del batch
        return _Since(self._all(uniqueid), since_modseq, above_uid)

    def new_guids(self, uniqueid: str, above_uid: int) -> Iterator[list[tuple[int, bytes]]]:
        for batch in self.records(uniqueid, above_uid=above_uid):
            yield [(record.uid, record.guid) for record in batch]

    def recalculate_crcs(self, uniqueid: str) -> tuple[int, int]:
        return mailbox_crcs(record for batch in self._all(uniqueid) for record in batch)

    def has_guids(self, guids: Iterable[bytes]) -> set[bytes]:
        del guids
        return set()

    def readable(
        self, uniqueid: str, messages: Iterable[tuple[int, bytes]], *, verify: bool = False
    ) -> set[bytes]:
        wanted = list(messages)
        if not verify:
            return {guid for _, guid in wanted}
        place = self._places.find(self.owner, uniqueid)
        if place is None:
            return set()
        found = set()
        for uid, guid in wanted:
            try:
                body = self._asking.ask(place.fetch(uid, guid))
            except MailboxNonexistent:
                continue
            if body is not None and body.guid == guid:
                found.add(guid)
        return found

    def damaged_guids(self) -> set[bytes]:
        return set()

    def _all(self, uniqueid: str) -> RecordSource:
        """The records that the mailbox had when it was shown."""
        if uniqueid in self._records:
            return self._records[uniqueid]
        shown = self.mailbox_by_id(uniqueid)
        if shown is None or shown.intermediate:
            return []
        known = self._recent.get(shown)
        if known is not None:
            return self._records.setdefault(uniqueid, known)
        try:
            state, records = self._asking.ask(lambda server: server.get_full_mailbox(shown.name))
        except MailboxNonexistent:
            raise SnapshotLost().at(mailbox=shown.name, uniqueid=uniqueid) from None
        if _counted(state) != _counted(shown):
            raise SnapshotLost().at(mailbox=shown.name, uniqueid=uniqueid)
        self._records[uniqueid] = records
        self._recent.put(shown, records)
        return records

    # -- all else

    def quotas(self) -> list[Quota]:
        return list(self._as_user().quotas) if self._userid else []

    def quota(self, root: str) -> Quota | None:
        return self._asking.ask(lambda server: server.get_quota(root))

    def meta(self, *, with_sieve: bool) -> UserMeta:
        if not self._userid:
            return UserMeta()
        if with_sieve:
            return self._asking.ask_for_scripts(lambda server: server.get_meta(self._userid))
        return self._asking.ask(lambda server: server.get_meta(self._userid))

    def seen(self, uniqueid: str) -> Seen | None:
        return next((one for one in self.meta(with_sieve=False).seen if one.uniqueid == uniqueid), None)

    def sieve_content(self, filename: str) -> bytes | None:
        try:
            return self._asking.ask_for_scripts(lambda server: server.fetch_sieve(self._userid, filename))
        except MailboxNonexistent:
            return None

    def annotations(self, mailbox: str) -> list[MailboxAnnotation]:
        try:
            found = self._asking.ask(lambda server: server.get_annotations(mailbox))
        except MailboxNonexistent:
            return []
        return sorted(found, key=lambda note: (note.entry, note.userid))


@dataclass(frozen=True, slots=True)
class _Since:
    """Those of a mailbox's records that are wanted (a `RecordSource`)."""

    records: RecordSource
    modseq: int
    uid: int

    def __iter__(self) -> Iterator[Sequence[Record]]:
        for batch in self.records:
            kept = [record for record in batch if record.modseq > self.modseq and record.uid > self.uid]
            if kept:
                yield kept
