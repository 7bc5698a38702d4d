"""Damage of the master that is known is mended from the replica, on the way, whenever a user is done."""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner
from cyrus_sync.common.protocol.commands import HEAL
from cyrus_sync.common.stores.healing import heal
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.sync_client.engine.concurrency import forgiving
from cyrus_sync.sync_client.engine.options import UPLOAD_BLOCK
from cyrus_sync.sync_client.engine.reading import Bodies
from cyrus_sync.sync_client.engine.session import Session


async def heal_owner(session: Session, owner: Owner, theirs: Sequence[MailboxState]) -> None:
    """Fetch from the replica what is marked as damaged here. What it has not either stays marked."""
    withheld = session.options.withheld
    if withheld is None or not theirs:
        return
    bad = await session.threads.run(_damaged, session.store, owner)
    if not bad:
        return
    done = await heal(
        session.store,
        session.replica,
        session.threads,
        owner,
        theirs=theirs,
        guids=bad,
        lacks=lambda place: place.uid in withheld.of(place.uniqueid),
    )
    for place in done.healed:
        name = session.options.external(place.mailbox)
        session.report("HEAL", place.mailbox, str(place.uid))
        session.options.notice(f"{name} uid {place.uid} ({place.guid.hex()}) healed from the replica")


async def heal_replica(session: Session, userid: str, theirs: Sequence[MailboxState]) -> None:
    """Send the replica what it says is damaged there, as far as it is sound here."""
    partition = next((state.partition for state in theirs if state.partition), "")
    if HEAL not in session.replica.capabilities:
        return
    if session.damaged_users is None:
        session.damaged_users = set()
        session.damaged_users.update(await forgiving(session.replica.get_damaged_users(), ReplyError) or ())
    if userid not in session.damaged_users:
        return
    session.damaged_users.discard(userid)
    guids = await forgiving(session.replica.get_damaged(userid), ReplyError)
    owner = Owner("user", userid)
    sound = await session.threads.run(_sound, session.store, owner, guids or [])
    if not sound or not partition:
        return
    async with session.stage.hold():
        for begin in range(0, len(sound), UPLOAD_BLOCK):
            block = sound[begin : begin + UPLOAD_BLOCK]
            await session.replica.message(Bodies(session.store, owner, block, partition, "identity"))
        await session.replica.heal(userid)
    session.report("HEAL", userid, *(guid.hex() for guid in sound))
    session.options.notice(f"{len(sound)} damaged messages of {userid} at the replica were sent anew")


def _sound(store: MailStore, owner: Owner, guids: Sequence[bytes]) -> list[bytes]:
    with store.read(owner) as reader:
        stored = reader.has_guids(guids)
        bad = reader.unsound(stored)
        return [guid for guid in guids if guid in stored and guid not in bad]


def _damaged(store: MailStore, owner: Owner) -> set[bytes]:
    """What is marked, and still cannot be read."""
    with store.read(owner) as reader:
        marked = reader.damaged_guids()
        return reader.unsound(marked) if marked else set()
