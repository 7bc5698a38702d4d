"""`CsyncMaster`: a master that is read, and changed, through its csync server alone.

For what no spool reader understands. It costs more: of a mailbox that has changed all records come over, and
what csync does not tell is not known here:

* which users and shared mailboxes there are: the action log names them, or the command line;
* what was deleted: nothing is deleted on the replica for it;
* which expunged messages were cleaned up before they were replicated: where that matters, the mailbox is
  refused (a release from 3.13 on tells).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import DeferredList

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import (
    ReplyError,
    SettlementRefused,
    StoreCorrupt,
    StoreError,
)
from cyrus_sync.common.master import KnownUser, Settlement, Unreadable
from cyrus_sync.common.model import MessageBody, MessageSource
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.protocol.commands import USERS
from cyrus_sync.common.wire.replica import WireReplica
from cyrus_sync.csync.asking import Asking
from cyrus_sync.csync.line import Line, Work
from cyrus_sync.csync.places import Place, Places
from cyrus_sync.csync.reader import CsyncReader, Recent
from cyrus_sync.csync.settling import Settling

AT_ONCE = 32
"""Messages that are fetched at once. Beyond a MiB each they wait on the disk."""


class CsyncMaster:
    """A `Master`. Safe between threads. Without `settling` it cannot be asked for anything."""

    refuses = ""

    def __init__(self, asking: Asking, settling: Settling | None) -> None:
        self._asking = asking
        self._settling = settling
        self._places = Places(asking)
        self._recent = Recent()

    @property
    def lines(self) -> Sequence[Line]:
        """The connections by which it is asked."""
        return self._asking.lines

    @property
    def scripts_are_mail(self) -> bool:
        return "SIEVE-MAILBOX" in self._asking.ask(_capabilities)

    def owners(self) -> Iterator[Owner]:
        """Where the server is one of ours. Raises `StoreError` in words for any other."""
        if USERS not in self._asking.ask(_capabilities):
            raise StoreError(
                f"the csync server {self._asking.server} does not list its users: name them with sync_client"
                " -u, or have the action log name them (sync_source: csync)"
            )
        users = self._asking.ask(lambda server: server.get_users())
        return (Owner("user", userid) for userid in sorted(users))

    def known_users(self) -> Mapping[str, KnownUser]:
        return {}

    def exists(self, owner: Owner) -> bool:
        if owner.kind != "user":
            states = self._asking.ask(lambda server: server.get_mailboxes([owner.name]))
            return any(not state.tombstone for state in states)
        user = self._asking.ask(lambda server: server.get_user(owner.name))
        live = [state for state in user.mailboxes if owner_of(state.name) == owner and not state.tombstone]
        return bool(live or user.quotas or user.meta.seen or user.meta.subscriptions)

    def owner_of_uniqueid(self, uniqueid: str) -> Owner | None:
        self._places.forget(uniqueid)
        place = self._places.find(None, uniqueid)
        return owner_of(place.name) if place is not None else None

    @contextmanager
    def read(self, owner: Owner) -> Iterator[CsyncReader]:
        yield CsyncReader(self._asking, self._places, self._recent, owner)

    def messages(
        self,
        owner: Owner,
        uniqueid: str,
        wanted: Sequence[tuple[int, bytes]],
        partition: str = "",
        encoding: str = "identity",
        *,
        unreadable: Unreadable | None = None,
    ) -> MessageSource:
        del encoding
        return _Messages(self._asking, self._places, owner, uniqueid, wanted, partition, unreadable)

    def settle(self, owner: Owner, settlement: Settlement) -> Sequence[int]:
        if self._settling is None:
            raise SettlementRefused("the master is not asked by this command")
        doubtful = self._doubtful(owner, settlement)
        if doubtful:
            raise SettlementRefused(
                f"csync does not tell whether {doubtful} of these messages were expunged here for good, or"
                " never were here: read the spool (sync_source: cyrus), or expunge them on the replica"
            ).at(mailbox=settlement.name, uniqueid=settlement.uniqueid)
        return self._settling.settle(self, owner, settlement)

    def _doubtful(self, owner: Owner, settlement: Settlement) -> int:
        """How many of the replica's messages have UIDs that this side has given out and does not show."""
        old = {
            one.record.uid
            for one in settlement.renumber
            if one.adopted and one.record.uid <= settlement.base.last_uid
        }
        if not old or settlement.base.deletedmodseq:
            return 0
        with self.read(owner) as reader:
            for batch in reader.records(settlement.uniqueid):
                old.difference_update(record.uid for record in batch)
        return len(old)

    def damaged_owners(self) -> list[Owner]:
        return []

    def damaged(self, owner: Owner) -> set[bytes]:
        del owner
        return set()

    def heal(self, owner: Owner, body: MessageBody) -> None:
        raise SettlementRefused("a message cannot be replaced through csync").at(user=owner.name)

    def close(self) -> None:
        self._asking.close()


@dataclass(frozen=True, slots=True)
class _Messages:
    """Messages of a mailbox, fetched as they are wanted (a `MessageSource`)."""

    asking: Asking
    places: Places
    owner: Owner
    uniqueid: str
    wanted: Sequence[tuple[int, bytes]]
    partition: str
    unreadable: Unreadable | None

    def __iter__(self) -> Iterator[Sequence[MessageBody]]:
        for begin in range(0, len(self.wanted), AT_ONCE):
            part = self.wanted[begin : begin + AT_ONCE]
            found = self._fetch(part)
            bodies = []
            for (_, guid), body in zip(part, found, strict=True):
                if body is not None and body.guid == guid:
                    bodies.append(body._replace(partition=self.partition))
                    continue
                gone = StoreCorrupt("the server does not give the message")
                gone.at(uniqueid=self.uniqueid, guid=guid.hex())
                if self.unreadable is None:
                    raise gone
                self.unreadable(guid, gone)
            if bodies:
                yield bodies

    def _fetch(self, wanted: Sequence[tuple[int, bytes]]) -> list[MessageBody | None]:
        """None for those that cannot be had, wherever the mailbox is by now."""
        place = self.places.find(self.owner, self.uniqueid)
        found: list[MessageBody | None] = [None] * len(wanted)
        if place is not None:
            found = self.asking.ask(_fetch_all(place, wanted))
        if any(body is None for body in found):
            self.places.forget(self.uniqueid)
            now = self.places.find(self.owner, self.uniqueid)
            if now is not None and now != place:
                return self.asking.ask(_fetch_all(now, wanted))
        return found


def _fetch_all(place: Place, wanted: Sequence[tuple[int, bytes]]) -> Work[list[MessageBody | None]]:
    """None for those that cannot be had."""

    async def fetch(server: WireReplica) -> list[MessageBody | None]:
        asked = [server.fetch(place.name, place.partition, place.uniqueid, guid, uid) for uid, guid in wanted]
        outcomes: list[tuple[bool, Any]] = await DeferredList(asked, consumeErrors=True)
        for good, outcome in outcomes:
            if not good and not outcome.check(ReplyError):
                outcome.raiseException()
        return [outcome if good else None for good, outcome in outcomes]

    return fetch


async def _capabilities(server: WireReplica) -> frozenset[str]:
    return server.capabilities
