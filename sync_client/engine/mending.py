"""Known damage of the master is mended from the replica, each time that a user is done."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.master import Master
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner
from cyrus_sync.common.protocol.commands import HEAL
from cyrus_sync.common.stores.healing import heal
from cyrus_sync.sync_client.engine.concurrency import forgiving
from cyrus_sync.sync_client.engine.context import EngineContext
from cyrus_sync.sync_client.engine.options import UPLOAD_BLOCK


async def heal_owner(context: EngineContext, owner: Owner, theirs: Sequence[MailboxState]) -> None:
    """Fetch from the replica what is marked as damaged here. What it has not either stays marked."""
    withheld = context.options.withheld
    if withheld is None or not theirs or context.master.refuses:
        return
    bad = await context.threads.run(context.master.damaged, owner)
    if not bad:
        return
    done = await heal(
        context.master,
        context.replica,
        context.threads,
        owner,
        theirs=theirs,
        guids=bad,
        lacks=lambda place: place.uid in withheld.of(place.uniqueid),
    )
    for place in done.healed:
        name = context.options.external(place.mailbox)
        context.report("HEAL", place.mailbox, str(place.uid))
        context.options.notice(f"{name} uid {place.uid} ({place.guid.hex()}) healed from the replica")


async def ask_for_damage(context: EngineContext) -> None:
    """Ask, once a connection, of which users the replica has damaged messages. The question is on the line
    when this first waits."""
    if HEAL in context.replica.capabilities and context.damaged_users is None:
        context.damaged_users = set()
        context.damaged_users.update(await forgiving(context.replica.get_damaged_users(), ReplyError) or ())


async def heal_replica(context: EngineContext, userid: str, theirs: Sequence[MailboxState]) -> None:
    """Send the replica what it has said is damaged there, as far as it is sound here."""
    partition = next((state.partition for state in theirs if state.partition), "")
    if not context.damaged_users or userid not in context.damaged_users:
        return
    context.damaged_users.discard(userid)
    guids = await forgiving(context.replica.get_damaged(userid), ReplyError)
    owner = Owner("user", userid)
    found = await context.threads.run(_sound_places, context.master, owner, guids or [])
    if not found or not partition:
        return
    sent: list[str] = []
    async with context.stage.hold():
        for uniqueid, messages in found.items():
            for begin in range(0, len(messages), UPLOAD_BLOCK):
                block = messages[begin : begin + UPLOAD_BLOCK]
                await context.replica.message(context.master.messages(owner, uniqueid, block, partition))
                sent += [guid.hex() for _, guid in block]
        await context.replica.heal(userid)
    context.report("HEAL", userid, *sent)
    context.options.notice(f"{len(sent)} damaged messages of {userid} at the replica were sent anew")


def _sound_places(
    master: Master, owner: Owner, guids: Collection[bytes]
) -> dict[str, list[tuple[int, bytes]]]:
    """Where these messages are, sound: (uid, guid) by uniqueid of the mailbox, each message once."""
    left = set(guids)
    found: dict[str, list[tuple[int, bytes]]] = {}
    with master.read(owner) as reader:
        for state in reader.mailboxes():
            if not left:
                break
            records = (record for batch in reader.records(state.uniqueid) for record in batch)
            here = {record.guid: record.uid for record in records if record.guid in left}
            good = reader.readable(state.uniqueid, [(uid, g) for g, uid in here.items()], verify=True)
            if good:
                found[state.uniqueid] = [(uid, guid) for guid, uid in here.items() if guid in good]
                left -= good
    return found
