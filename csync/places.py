"""Where mailboxes are on a master that is asked by name: FETCH names a mailbox and its partition."""

from __future__ import annotations

import threading
from collections import OrderedDict

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import MailboxNonexistent
from cyrus_sync.common.model import MailboxState, MessageBody
from cyrus_sync.common.names import Owner
from cyrus_sync.common.wire.replica import WireReplica
from cyrus_sync.csync.asking import Asking
from cyrus_sync.csync.line import Work

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """A mailbox: its internal name, uniqueid and partition."""

    name: str
    uniqueid: str
    partition: str

    def fetch(self, uid: int, guid: bytes) -> Work[MessageBody | None]:
        """GET FETCH of one of its messages."""
        return lambda server: server.fetch(self.name, self.partition, self.uniqueid, guid, uid)


class Places:
    """What was told of the last mailboxes; who is not among them is asked for. Safe between threads."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._guard = threading.Lock()
        self._known: OrderedDict[str, Place] = OrderedDict()

    def learn(self, state: MailboxState) -> Place:
        place = Place(state.name, state.uniqueid, state.partition)
        with self._guard:
            self._known[state.uniqueid] = place
            self._known.move_to_end(state.uniqueid)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        return place

    def forget(self, uniqueid: str) -> None:
        with self._guard:
            self._known.pop(uniqueid, None)

    def find(self, owner: Owner | None, uniqueid: str) -> Place | None:
        """Where it is, or was when it was told last (`forget`, and find it anew); None for one that is
        nowhere. Releases before 3.6 cannot be asked by uniqueid: then `owner`, a user, is listed."""
        with self._guard:
            known = self._known.get(uniqueid)
        if known is not None:
            return known
        for state in self._look(owner, uniqueid):
            if state.uniqueid == uniqueid and not (state.intermediate or state.tombstone):
                return self.learn(state)
        return None

    def _look(self, owner: Owner | None, uniqueid: str) -> list[MailboxState]:
        if self._asking.ask(_asks_by_id):
            try:
                return self._asking.ask(lambda server: server.get_uniqueids([uniqueid]))
            except MailboxNonexistent:
                return []
        if owner is None or owner.kind != "user":
            return []
        return list(self._asking.ask(lambda server: server.get_user(owner.name)).mailboxes)


async def _asks_by_id(server: WireReplica) -> bool:
    return server.dialect.asks_by_id
