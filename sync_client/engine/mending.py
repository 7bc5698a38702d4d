"""Damage of the master that is known is mended from the replica, on the way, whenever a user is done."""

from __future__ import annotations

from collections.abc import Sequence

from common.model import MailboxState
from common.names import Owner
from common.stores.healing import heal
from common.stores.mailstore import MailStore
from sync_client.engine.session import Session


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


def _damaged(store: MailStore, owner: Owner) -> set[bytes]:
    """What is marked, and still cannot be read."""
    with store.read(owner) as reader:
        marked = reader.damaged_guids()
        return reader.unsound(marked) if marked else set()
