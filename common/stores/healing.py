"""Messages that cannot be read here, fetched by GUID from the other end of a replication and stored anew.

Either end may do it, with any csync server as the peer: GET FETCH names a mailbox, a UID and a GUID, and both
ends agree on those. A message is taken only if it is what its GUID says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import field
from typing import NamedTuple

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.master import Master
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner
from cyrus_sync.common.replica import Replica
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.threads import Threads

_AT_ONCE = 500


class Place(NamedTuple):
    """Where a message is in a mailbox."""

    guid: bytes
    mailbox: str
    uniqueid: str
    uid: int


@dataclass(slots=True)
class Healed:
    """What became of damaged messages."""

    healed: list[Place] = field(default_factory=list)
    """One place of each message that is sound again."""
    lacking: list[tuple[Place, str]] = field(default_factory=list)
    """One place of each message that the peer could not give either, with the reason."""


def damaged_places(master: Master, owner: Owner, guids: Collection[bytes]) -> dict[bytes, list[Place]]:
    """GUID -> where live mailboxes of the owner have the message, not expunged. Reads all records."""
    found: dict[bytes, list[Place]] = {}
    with master.read(owner) as reader:
        for state in reader.mailboxes():
            for batch in reader.records(state.uniqueid):
                for record in batch:
                    if record.guid in guids and not record.expunged:
                        place = Place(record.guid, state.name, state.uniqueid, record.uid)
                        found.setdefault(record.guid, []).append(place)
    return found


def unreadable_messages(store: MailStore, owner: Owner) -> set[bytes]:
    """The messages (GUIDs) of the owner's live records that are not stored or cannot be read. Reads all of
    the owner's messages, and marks those that are damaged."""
    bad: set[bytes] = set()
    with store.read(owner) as reader:
        for state in reader.mailboxes():
            for batch in reader.records(state.uniqueid, batch=_AT_ONCE):
                wanted = {record.guid for record in batch if not record.expunged}
                stored = reader.has_guids(wanted)
                bad |= wanted - stored
                bad |= reader.unsound(stored)
    return bad


async def heal(
    master: Master,
    replica: Replica,
    threads: Threads,
    owner: Owner,
    *,
    theirs: Sequence[MailboxState],
    guids: Collection[bytes],
    lacks: Callable[[Place], bool] = lambda place: False,
) -> Healed:
    """Fetch these messages of `owner` from the peer, whose mailboxes are `theirs`. `lacks` says of a place
    that the peer is known not to have the message there.

    A message that the peer refuses keeps no other from being healed. Raises what ends the connection, and
    `StoreError` where a message cannot be stored."""
    done = Healed()
    places = await threads.run(damaged_places, master, owner, guids)
    there = {state.uniqueid: state for state in theirs if not state.intermediate}
    for guid in sorted(places):
        reason = "the peer has no such message"
        for place in places[guid]:
            state = there.get(place.uniqueid)
            if state is None or place.uid > state.last_uid or lacks(place):
                continue
            try:
                await replica.ready()
                body = await replica.fetch(state.name, state.partition, state.uniqueid, guid, place.uid)
                if body is None or body.guid != guid:
                    reason = "it is damaged at the peer, too"
                    continue
                await threads.run(master.heal, owner, body)
            except ReplyError as error:
                reason = f"the peer does not give it: {error.message}"
                continue
            done.healed.append(place)
            break
        else:
            done.lacking.append((places[guid][0], reason))
    return done
