"""Going on without messages that nobody has any more (`multisite.oplog.given_up`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.bodies import Bodies
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.operations import owner_from
from cyrus_sync.multisite.replay.context import ReplayContext


class Lost(NamedTuple):
    """A message of `owner` that is nowhere here. `silent`: the siblings (ids) that have not said that they
    lack it, too."""

    guid: bytes
    owner: Owner
    silent: tuple[str, ...]


def lost(member: Member) -> list[Lost]:
    """All messages for which this replica asks, by owner."""
    log = member.log
    siblings = [one.id for one in member.family.living() if one.id != log.self_id]
    lacked = {one: log.given_up.lacked_by(one) for one in siblings}
    rows = log.db.execute("SELECT guid, owner FROM wanted ORDER BY owner, guid").fetchall()
    return [
        Lost(guid, owner_from(text), tuple(one for one in siblings if guid not in lacked[one]))
        for guid, text in rows
    ]


def expunge_lost(context: ReplayContext, member: Member, guids: Iterable[bytes]) -> None:
    """Expunge records of messages that were given up and that cannot be read here, so that everybody hears of
    it."""
    bodies = Bodies(member.store, member.log, member.by_place)
    for guid in guids:
        for home in member.log.operations.introducers(guid):
            if any(True for _ in bodies.batches(home, [guid])):
                continue  # it has turned up here
            for owner in member.log.places(home):
                try:
                    _expunge(context, owner, guid)
                except StoreError as error:
                    context.notice(f"{owner}: {error}")


def _expunge(context: ReplayContext, owner: Owner, guid: bytes) -> None:
    writer = context.batch.writer(owner)
    for state in writer.mailboxes():
        found = [
            record._replace(expunged=True)
            for batch in writer.records(state.uniqueid)
            for record in batch
            if record.guid == guid and not record.expunged
        ]
        if found:
            writer.rewrite_records(state.uniqueid, found)
            context.to_capture.add(owner)
