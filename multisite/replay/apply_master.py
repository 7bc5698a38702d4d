"""Applying what the master of an owner says.

Where nothing was changed here meanwhile, an operation is applied as a live replica would apply it, and many
of them share one transaction. Otherwise the master's word is imposed, and our own changes that the master
does not know yet are kept on top of it (`rebase`).
"""

from __future__ import annotations

from dataclasses import replace

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.model import MailboxState, MailboxUpdate, Record
from cyrus_sync.common.names import Owner, is_deleted, owner_of
from cyrus_sync.common.numbers import decimal
from cyrus_sync.common.protocol.codec import RenameRequest
from cyrus_sync.common.stores.mailstore import ChangesKept
from cyrus_sync.multisite.mail import SiteReader, SiteWriter
from cyrus_sync.multisite.oplog.apply_command import ApplyCommand
from cyrus_sync.multisite.oplog.items import remember, script_digest
from cyrus_sync.multisite.oplog.masters import Base
from cyrus_sync.multisite.oplog.operations import LogEntry
from cyrus_sync.multisite.oplog.shadows import RESYNC
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.metadata import apply_metadata
from cyrus_sync.multisite.replay.names import (
    WARNING,
    find_name,
    mailboxes_left,
    move,
    place,
    warn_of_set_aside,
)
from cyrus_sync.multisite.replay.rebase import RebasePlan, changed_here, plan_rebase
from cyrus_sync.multisite.replay.told import Told
from cyrus_sync.sync_client.engine.compare import crcs_agree


def settled_vector(entry: LogEntry) -> dict[str, int]:
    """Origin -> its last operation that the master had taken in when it said this."""
    text = entry.attributes.get("settled", "")
    pairs = [pair.partition(":") for pair in text.split(",") if pair]
    said = {origin: decimal(number) for origin, _, number in pairs}
    return {origin: number for origin, number in said.items() if number is not None}


def apply_master(context: ReplayContext, entry: LogEntry, said: ApplyCommand) -> bool:
    """Carry out one operation of the owner's master; False if its messages were not taken into the store.

    Raises `MessagesMissing` if it has to wait, and what the store raises."""
    taken = True
    match said.name:
        case "MAILBOX":
            taken = _mailbox(context, entry, said.update)
        case "RENAME":
            _rename(context, entry, said.argument)
        case "UNMAILBOX":
            _unmailbox(context, entry)
        case "UNUSER":
            _unuser(context, entry, said)
        case _:
            if said.name == "SIEVE":
                _step_aside(context, entry, said)
            apply_metadata(context, entry.owner, said)
            remember(context.log.shadows, entry.owner, said.name, said.argument)
    vector = settled_vector(entry)
    context.log.masters.note_settled(entry.owner, vector | {entry.origin: entry.id})
    return taken


# -- mailboxes


def _mailbox(context: ReplayContext, entry: LogEntry, update: MailboxUpdate) -> bool:
    state = update.state
    uniqueid = state.uniqueid
    context.require(entry)
    told = context.log.objects.get(uniqueid) is not None
    context.log.objects.note(uniqueid, entry.owner, context.creator(entry))
    name = place(context, uniqueid, state.name, context.creator(entry))
    owner = owner_of(name)
    there = find_name(context, owner, uniqueid, told=told)
    partition = there[2] if there else context.partition(state.partition)
    if there and there[1] != name:
        move(context, uniqueid, there[1], name, partition)
    state = replace(state, name=name, partition=partition)
    update = replace(update, state=state)
    context.collect(entry, owner)
    writer = context.batch.writer(owner, entry.octets)
    local = writer.mailbox_by_id(uniqueid)
    if state.intermediate or state.tombstone:
        _entry_only(writer, update, context)
        context.log.shadows.put(owner, state)
        return True
    in_part = update.partial
    if entry.seq > context.reached.get(uniqueid, 0):
        if local is None and update.since is not None:
            # We have deleted it, and the master does not know yet: it will tell all of it, or that it is
            # gone. New mail is kept at once, since we may become master before the master has heard of it.
            if not entry.guids:
                return False
            in_part = True
        if local is None:
            _apply_new(context, writer, update)
        elif not _apply(context, writer, local, update):
            _impose(context, entry, writer, local, update)
            return True
    masters = context.log.masters
    base = masters.base(uniqueid)
    masters.put_base(uniqueid, Base(state.highestmodseq, state.last_uid, base.told_id, state.highestmodseq))
    context.log.shadows.put(owner, replace(state, sync_crc=0, sync_crc_annot=0) if in_part else state)
    return True


def note_reached(context: ReplayContext, entry: LogEntry, told: MailboxState) -> None:
    """Note a pending operation whose outcome is in the store to the last record. It and the ones before it
    are not done again: on top of later operations their effects would look like changes of ours."""
    there = find_name(context, entry.owner, told.uniqueid)
    if there is None:
        return
    with context.batch.reader(there[0]) as reader:
        local = reader.mailbox_by_id(told.uniqueid)
    if local is None or local.intermediate or told.intermediate or told.tombstone:
        return
    counters = [(one.uidvalidity, one.last_uid, one.highestmodseq) for one in (local, told)]
    if counters[0] == counters[1] and crcs_agree(told, local):
        context.reached[told.uniqueid] = entry.seq


def _entry_only(writer: SiteWriter, update: MailboxUpdate, context: ReplayContext) -> None:
    """An intermediate name. Where a mailbox has the name it stays."""
    try:
        writer.apply_mailbox(replace(update, since=None), context.messages)
    except ReplyError as error:
        context.notice(f"{context.external(update.state.name)}: {error}")


def _apply_new(context: ReplayContext, writer: SiteWriter, update: MailboxUpdate) -> None:
    try:
        writer.apply_mailbox(replace(update, since=None), context.messages, without_inbox=True)
    except ChangesKept as error:
        context.notice(f"{context.external(update.state.name)}: {error}")


def _apply(context: ReplayContext, writer: SiteWriter, local: MailboxState, update: MailboxUpdate) -> bool:
    """Apply a change that builds on just what is here; False, and nothing done, if it does not."""
    base = context.log.masters.base(local.uniqueid)
    since = update.since
    if since is None or not local.highestmodseq == base.modseq == since.modseq:
        return False
    if local.last_uid != base.last_uid or local.highestmodseq > update.state.highestmodseq:
        return False
    try:
        with writer.savepoint():
            writer.apply_mailbox(replace(update, since=None), context.messages)
    except ReplyError:
        return False
    return True


def _impose(
    context: ReplayContext, entry: LogEntry, writer: SiteWriter, local: MailboxState, update: MailboxUpdate
) -> None:
    """Impose the master's word on a mailbox that was changed here."""
    log, state = context.log, update.state
    uniqueid = state.uniqueid
    base = log.masters.base(uniqueid)
    theirs = {record.uid: record for batch in update.records for record in batch}
    ours = _ours(writer, uniqueid, base)
    answered = settled_vector(entry).get(log.self_id, 0) >= base.told_id
    told = Told(log, entry.owner, uniqueid)

    def before(uid: int) -> Record | None:
        return told.word(entry.origin, uid, base.modseq)

    highest = max(state.highestmodseq, local.highestmodseq)
    plan = plan_rebase(
        theirs,
        ours,
        base,
        answered_modseq=base.told_modseq if answered and not update.partial else 0,
        their_last_uid=state.last_uid,
        highestmodseq=highest,
        last_uid=max(state.last_uid, local.last_uid),
        before=before,
    )
    if update.since is None:
        plan.drop.update(_not_his(writer, uniqueid, theirs, ours, state.last_uid))
    if plan.reused:
        state = replace(state, uidvalidity=max(state.uidvalidity, local.uidvalidity) + 1)
        context.notice(
            f"{context.external(state.name)}: UIDs were given away twice,"
            f" UIDVALIDITY rises to {state.uidvalidity}"
        )
    writer.impose_mailbox(replace(update, state=state), context.messages, drop=plan.drop, keep=plan.keep)
    log.masters.put_base(
        uniqueid, Base(update.state.highestmodseq, update.state.last_uid, base.told_id, plan.told_modseq)
    )
    owner = owner_of(state.name)
    _shadow(context, owner, update, plan, None if answered else base)
    if not (plan.keep or update.partial):
        _check_crcs(context, entry, writer, update.state)
    context.to_capture.add(owner)


def _check_crcs(context: ReplayContext, entry: LogEntry, reader: SiteReader, told: MailboxState) -> None:
    """Where nothing of ours was kept, the records are the master's. If they are not, something went wrong
    before, and the master is asked to tell all of the mailbox."""
    state = reader.mailbox_by_id(told.uniqueid)
    if state is not None and not crcs_agree(told, state):
        context.log.shadows.put_item(entry.owner, RESYNC, told.uniqueid, True)
        name = context.external(state.name)
        context.notice(f"{name} is not what its master has: the master is asked for all of it")


def _ours(reader: SiteReader, uniqueid: str, base: Base) -> list[Record]:
    """The records that differ here from the base, each once."""
    changed = changed_here(reader.records(uniqueid, since_modseq=base.modseq), base)
    new = changed_here(reader.records(uniqueid, above_uid=base.last_uid), base)
    return list({record.uid: record for record in [*changed, *new]}.values())


def _not_his(
    reader: SiteReader, uniqueid: str, theirs: dict[int, Record], ours: list[Record], last_uid: int
) -> set[int]:
    """UIDs of records that the master does not have, although it tells all that it has: they are of a state
    before its reign."""
    kept = {record.uid for record in ours} | theirs.keys()
    return {
        record.uid
        for batch in reader.records(uniqueid)
        for record in batch
        if record.uid <= last_uid and record.uid not in kept
    }


def _shadow(
    context: ReplayContext, owner: Owner, update: MailboxUpdate, plan: RebasePlan, unanswered: Base | None
) -> None:
    """Note in the shadow what the log tells of the mailbox now: the master's word, and such changes of ours
    as are in the log already."""
    state = update.state
    before = context.log.shadows.get(state.uniqueid)
    if update.partial or plan.told_uid or unanswered is not None:
        modseq, last_uid = state.highestmodseq, max(state.last_uid, plan.told_uid)
        if plan.told_uid:
            modseq = plan.told_modseq
        if unanswered is not None:
            modseq = max(modseq, unanswered.told_modseq)
            last_uid = max(last_uid, before.last_uid if before else 0)
        state = replace(state, highestmodseq=modseq, last_uid=last_uid, sync_crc=0, sync_crc_annot=0)
    context.log.shadows.put(owner, state)


# -- names


def _rename(context: ReplayContext, entry: LogEntry, asked: RenameRequest) -> None:
    uniqueid = entry.attributes.get("uniqueid", "")
    there = find_name(context, entry.owner, uniqueid)
    if there is None:
        return
    context.log.objects.note(uniqueid, entry.owner, context.creator(entry))
    target = place(context, uniqueid, asked.new, context.creator(entry))
    partition = context.partition(asked.partition)
    if is_deleted(target) and not is_deleted(there[1]) and _has_news(context, entry, there[0]):
        warn_of_set_aside(context, there[1], target)
    if (there[1], there[2]) != (target, partition):
        move(context, uniqueid, there[1], target, partition)
    else:
        context.log.shadows.rename(uniqueid, owner_of(target), target, partition)


def _unmailbox(context: ReplayContext, entry: LogEntry) -> None:
    """Delete a mailbox, unless it has mail that the master did not know when it deleted the mailbox."""
    log, uniqueid = context.log, entry.attributes.get("uniqueid", "")
    there = find_name(context, entry.owner, uniqueid)
    if there is not None:
        if _has_news(context, entry, there[0]):
            log.masters.drop_base(uniqueid)
            log.shadows.drop(uniqueid)
            context.to_capture.add(there[0])
            name = context.external(there[1])
            context.notice(f"{name} was deleted by its master but has new mail here: it is kept")
            return
        context.batch.writer(there[0]).apply_unmailbox(there[1])
    log.shadows.drop(uniqueid)
    log.masters.drop_base(uniqueid)
    log.objects.set_names(uniqueid, "", "")


def _has_news(context: ReplayContext, entry: LogEntry, owner: Owner) -> bool:
    """Whether the mailbox of an operation holds mail that the master cannot know. `owner` has it here."""
    log, uniqueid = context.log, entry.attributes.get("uniqueid", "")
    base = log.masters.base(uniqueid)
    answered = settled_vector(entry).get(log.self_id, 0) >= base.told_id
    with context.batch.reader(owner) as reader:
        return any(_is_news(record, base, answered) for record in _ours(reader, uniqueid, base))


def _is_news(record: Record, base: Base, answered: bool) -> bool:
    """Whether a record of ours is a live message that the master cannot have known."""
    if record.expunged or record.uid <= base.last_uid:
        return False
    return not (answered and record.modseq <= base.told_modseq)


def _unuser(context: ReplayContext, entry: LogEntry, said: ApplyCommand) -> None:
    """Remove what is left of a user without mailboxes. A user who has mailboxes here keeps everything."""
    left = mailboxes_left(context, entry.owner)
    if left:
        name = context.external(left[0])
        context.notice(f"{entry.owner} was deleted at its master but has {name} here: all of it is kept")
        context.to_capture.add(entry.owner)
    else:
        context.batch.writer(entry.owner).apply_unuser()
    remember(context.log.shadows, entry.owner, said.name, said.argument)


# -- scripts


def _step_aside(context: ReplayContext, entry: LogEntry, said: ApplyCommand) -> None:
    """Rename a script that was born here and has the name of a script of the master's. The master will call
    it by our replica's name when it hears of it, so it gets that name at once."""
    log, filename = context.log, said.argument.filename
    told = log.shadows.item(entry.owner, "told", filename)
    if not told or not told[1] or settled_vector(entry).get(log.self_id, 0) >= told[0]:
        return
    with context.batch.reader(entry.owner) as reader:
        content = reader.sieve_content(filename)
        script = next((s for s in reader.sieve_scripts() if s.filename == filename), None)
    if content is None or script is None or script_digest(content) == script_digest(said.argument.content):
        return
    name = f"{context.family.myself.name}_{filename}"
    context.batch.writer(entry.owner).apply_sieve(name, script.last_update, content)
    log.shadows.drop_item(entry.owner, "told", filename)
    context.warn(WARNING.format(name=name.removesuffix(".script")))
    context.to_capture.add(entry.owner)
