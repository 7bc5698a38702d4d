"""Arbitrating what other replicas have done to an owner whose master this replica is, for everybody.

Messages have a module of their own (`arbitrate_records`). The mailbox gets a new modseq in any case, so that
the next word of this replica tells everybody, the operation's origin included, what became of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.model import MailboxState, MailboxUpdate, Record
from cyrus_sync.common.names import Owner, is_deleted, is_inbox, owner_of
from cyrus_sync.common.numbers import decimal
from cyrus_sync.common.protocol.codec import RenameRequest
from cyrus_sync.multisite.mail import SiteReader, SiteWriter
from cyrus_sync.multisite.oplog.apply_command import ApplyCommand
from cyrus_sync.multisite.oplog.items import script_digest
from cyrus_sync.multisite.oplog.masters import Base
from cyrus_sync.multisite.oplog.operations import LogEntry
from cyrus_sync.multisite.replay.arbitrate_records import arbitrate_records
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
from cyrus_sync.multisite.replay.three_way import acl_text, by_entry, entries, rights
from cyrus_sync.multisite.replay.told import Told


def base_of(entry: LogEntry) -> Base:
    """The master's state that an operation was built on; all zeros if its origin knew of none."""
    modseq, last_uid = map(decimal, entry.attributes.get("base", "").partition(":")[::2])
    return Base() if modseq is None or last_uid is None else Base(modseq, last_uid)


def in_this_reign(context: ReplayContext, entry: LogEntry) -> bool:
    """Whether the base of an operation is a state of this reign. The modseqs of another master mean something
    else."""
    master = context.log.masters.of(entry.owner)
    return master is not None and entry.attributes.get("reign") == master.reign


def arbitrate(context: ReplayContext, entry: LogEntry, said: ApplyCommand, *, settles: bool = True) -> bool:
    """Arbitrate one operation of another replica; False if its messages were not taken into the store.
    `settles`: its outcome is part of the master's state from now on.

    Raises `MessagesMissing` if it has to wait, and what the store raises."""
    context.to_capture.add(entry.owner)
    now_of = context.log.shadows.owner_of(entry.attributes.get("uniqueid", ""))
    if now_of is not None:
        context.to_capture.add(now_of)
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
        case _ if entry.owner.kind == "user" and not mailboxes_left(context, entry.owner):
            # The user was deleted here. If new mail brings the user back, all is told as a whole.
            pass
        case "SIEVE":
            _sieve(context, entry, said)
        case _:
            apply_metadata(context, entry.owner, said)
    if settles:
        context.log.masters.note_settled(entry.owner, {entry.origin: entry.id})
    return taken


# -- mailboxes


def _mailbox(context: ReplayContext, entry: LogEntry, update: MailboxUpdate) -> bool:
    state = update.state
    context.require(entry)
    there = find_name(context, entry.owner, state.uniqueid)
    if there is None:
        return _new_mailbox(context, entry, update)
    if context.log.objects.get(state.uniqueid) is None:
        there = _made_before(context, entry, state.name, there)
    owner = there[0]
    if "name" in _changed(entry) and entry.attributes.get("base", "0:0") != "0:0":
        owner = owner_of(_call(context, entry, state.name, there[1], there[2]))
    if state.intermediate or state.tombstone:
        return True
    context.collect(entry, owner)
    writer = context.batch.writer(owner, entry.octets)
    local = writer.mailbox_by_id(state.uniqueid)
    if local is None or local.intermediate:
        return False
    before = local.highestmodseq
    base = base_of(entry)
    told = _Bases(context, entry, base)
    arbitrate_records(
        writer,
        local,
        update,
        base,
        messages=context.messages,
        before=told.before,
        discard=told.discard,
    )
    _arbitrate_header(writer, local, update, told)
    writer.raise_counters(
        state.uniqueid,
        uidvalidity=state.uidvalidity,
        highestmodseq=max(state.highestmodseq, writer_modseq(writer, state.uniqueid)) + 1,
        last_uid=state.last_uid,
        foldermodseq=state.foldermodseq,
        raclmodseq=state.raclmodseq,
        xconvmodseq=state.xconvmodseq,
    )
    _follow(context, entry, base, before, writer_modseq(writer, state.uniqueid))
    if "resync" in entry.attributes:
        _tell_again(context, state.uniqueid)
    return True


def writer_modseq(reader: SiteReader, uniqueid: str) -> int:
    """The HIGHESTMODSEQ of a mailbox as it is now."""
    state = reader.mailbox_by_id(uniqueid)
    return state.highestmodseq if state else 0


def _changed(entry: LogEntry) -> set[str]:
    return set(entry.attributes.get("changed", "").split(","))


def _new_mailbox(context: ReplayContext, entry: LogEntry, update: MailboxUpdate) -> bool:
    """Make a mailbox that is not here: it was born at the other replica, or deleted here while it got new
    mail there. False, and nothing made, if it was deleted here and got no mail."""
    state, base = update.state, base_of(entry)
    if base.modseq and not any(
        record.uid > base.last_uid and not record.expunged for batch in update.records for record in batch
    ):
        return False
    context.log.objects.note(state.uniqueid, entry.owner, context.creator(entry))
    name = place(context, state.uniqueid, state.name, context.creator(entry))
    made = replace(
        state,
        name=name,
        partition=context.partition(state.partition),
        sync_crc=0,
        sync_crc_annot=None,
    )
    context.collect(entry, owner_of(name))
    context.to_capture.add(owner_of(name))
    writer = context.batch.writer(owner_of(name), entry.octets)
    writer.apply_mailbox(replace(update, state=made, since=None), context.messages, without_inbox=True)
    # It is told as a whole now, whatever was told before: others may have deleted it.
    context.log.shadows.drop(state.uniqueid)
    if not (state.intermediate or state.tombstone):
        writer.raise_counters(state.uniqueid, highestmodseq=state.highestmodseq + 1)
        context.log.masters.put_followed(state.uniqueid, entry.origin, writer_modseq(writer, state.uniqueid))
    return True


def _made_before(
    context: ReplayContext, entry: LogEntry, wanted: str, there: tuple[Owner, str, str]
) -> tuple[Owner, str, str]:
    """A process made the mailbox here and crashed before the log knew. Note again which name the mailbox
    should have; else the others would be told a generated name as if somebody here had chosen it."""
    uniqueid, (_, name, partition) = entry.attributes.get("uniqueid", ""), there
    context.log.objects.note(uniqueid, entry.owner, context.creator(entry))
    target = place(context, uniqueid, wanted, context.creator(entry))
    if target != name:
        move(context, uniqueid, name, target, partition)
    return owner_of(target), target, partition


def _follow(context: ReplayContext, entry: LogEntry, base: Base, before: int, after: int) -> None:
    """Note whether all that has happened to a mailbox since a base came from one replica. As long as that is
    so, that replica may also delete it."""
    masters, uniqueid = context.log.masters, entry.attributes.get("uniqueid", "")
    built_on_ours = in_this_reign(context, entry) and before <= base.modseq
    if built_on_ours or before == masters.followed(uniqueid, entry.origin):
        masters.put_followed(uniqueid, entry.origin, after)
    else:
        masters.drop_followed(uniqueid)


# -- header and names


class _Bases:
    """What an operation's origin had before, as the log tells it, and what a conflict discards."""

    def __init__(self, context: ReplayContext, entry: LogEntry, base: Base) -> None:
        self._context = context
        self._entry = entry
        self._base = base if in_this_reign(context, entry) else Base()
        self._told = Told(context.log, entry.owner, entry.attributes.get("uniqueid", ""))

    def before(self, record: Record) -> Record | None:
        """What the origin had of a message."""
        return self._told.before(self._entry, record, self._base, self._context.log.self_id)

    def header(self) -> MailboxState | None:
        """What the origin had of the mailbox itself; None where nobody knows."""
        if not self._base.modseq:
            return None
        return self._told.header(self._context.log.self_id, self._base.modseq)

    @property
    def changed(self) -> set[str]:
        """The fields that the origin has changed."""
        return _changed(self._entry)

    def discard(self, record: Record, notes: Iterable[tuple[str, str]]) -> None:
        """Say whose annotations of a message were changed at both sites."""
        self.say(f"message {record.uid}: annotations {', '.join(entry for entry, _ in notes)}")

    def say(self, what: str) -> None:
        """Log what was changed here and there, and counts as one of the two made it."""
        name = self._context.family.name_of(self._entry.origin)
        self._context.notice(
            f"{self._entry.owner}, mailbox {self._entry.attributes.get('uniqueid', '')}: changed here and at"
            f" {name}, one of the two is discarded: {what}"
        )


def _arbitrate_header(writer: SiteWriter, local: MailboxState, update: MailboxUpdate, told: _Bases) -> None:
    """Take over the fields that were changed at the other replica: rights and annotations entry by entry, as
    far as it is known what it had before; where both have changed one entry, as it is heard last."""
    state, changed = update.state, told.changed
    fields: dict[str, Any] = {
        name: getattr(state, name) for name in ("options", "usergroups") if name in changed
    }
    before = told.header() if {"acl", "annotations"} & changed else None
    if "acl" in changed:
        had = rights(before.acl) if before else None
        found, discarded = entries(had, rights(local.acl), rights(state.acl), other_wins=True)
        fields["acl"] = acl_text(found) if had is not None else state.acl
        if discarded and had is not None:
            told.say(f"rights of {', '.join(discarded)}")
    if "annotations" in changed:
        noted = by_entry(before.annotations) if before else None
        notes, lost = entries(
            noted, by_entry(local.annotations), by_entry(state.annotations), other_wins=True
        )
        fields["annotations"] = list(notes.values()) if noted is not None else state.annotations
        if lost and noted is not None:
            told.say(f"annotations {', '.join(entry for entry, _ in lost)}")
    if fields:
        writer.change_header(state.uniqueid, **fields)


def _rename(context: ReplayContext, entry: LogEntry, asked: RenameRequest) -> None:
    uniqueid = entry.attributes.get("uniqueid", "")
    there = find_name(context, entry.owner, uniqueid)
    if there is not None:
        context.log.objects.note(uniqueid, entry.owner, context.creator(entry))
        if is_deleted(asked.new) and not is_deleted(there[1]):
            with context.batch.reader(there[0]) as reader:
                local = reader.mailbox_by_id(uniqueid)
            if local is not None and not _is_all_known(context, entry, local):
                warn_of_set_aside(context, there[1], asked.new)
        _call(context, entry, asked.new, there[1], there[2])


def _call(context: ReplayContext, entry: LogEntry, wanted: str, name: str, partition: str) -> str:
    """Give a mailbox the name that the other replica gave it, and have everybody told. Returns the name that
    it has here then."""
    uniqueid = entry.attributes.get("uniqueid", "")
    shadow = context.log.shadows.get(uniqueid)
    if context.log.objects.wanted_name(uniqueid, name) == wanted:
        return name
    target = place(context, uniqueid, wanted, context.creator(entry))
    if target == name:
        _tell_again(context, uniqueid)
        return name
    try:
        move(context, uniqueid, name, target, partition)
    except ReplyError as error:
        names = context.external(name), context.external(target)
        replica = context.family.name_of(entry.origin)
        context.notice(f"{names[0]} cannot be renamed to {names[1]} as {replica} did: {error}")
        _tell_again(context, uniqueid)
        return name
    context.to_capture.add(owner_of(target))
    if shadow is not None:
        # The shadow keeps the old name, so that the rename is captured and told.
        context.log.shadows.put(owner_of(shadow.name), shadow)
    return target


def _tell_again(context: ReplayContext, uniqueid: str) -> None:
    """Have the whole mailbox captured anew, since the others believe something else of it."""
    context.log.shadows.drop(uniqueid)


def _unmailbox(context: ReplayContext, entry: LogEntry) -> None:
    """Delete a mailbox that only the other replica has changed since its base. Any other one stays, and
    everybody is told."""
    uniqueid = entry.attributes.get("uniqueid", "")
    there = find_name(context, entry.owner, uniqueid)
    if there is None:
        return
    writer = context.batch.writer(there[0])
    local = writer.mailbox_by_id(uniqueid)
    if local is None:
        return
    if _is_all_known(context, entry, local) or local.intermediate:
        others = [s for s in writer.mailboxes() if not s.intermediate and not is_deleted(s.name)]
        if not (is_inbox(local.name) and len(others) > 1):
            if context.log.shadows.get(uniqueid) is None:
                # We never told of it; but somebody may have it from a replica that was taken for the
                # master. So all are told that it is gone.
                context.log.shadows.put(there[0], local)
            writer.apply_unmailbox(local.name)
            context.log.objects.set_names(uniqueid, "", "")
            return
    context.notice(
        f"{context.external(local.name)} was deleted at {context.family.name_of(entry.origin)}"
        " but changed here since: it stays"
    )
    _tell_again(context, uniqueid)


def _is_all_known(context: ReplayContext, entry: LogEntry, local: MailboxState) -> bool:
    """Whether the origin of a deletion knew all that had been done to the mailbox."""
    masters = context.log.masters
    if local.highestmodseq == masters.followed(local.uniqueid, entry.origin):
        return True
    return in_this_reign(context, entry) and local.highestmodseq == base_of(entry).modseq


def _unuser(context: ReplayContext, entry: LogEntry, said: ApplyCommand) -> None:
    """Remove what is left of a user without mailboxes. Of a user who has mailboxes here all is told again."""
    if mailboxes_left(context, entry.owner):
        context.log.shadows.drop_items(entry.owner)
    else:
        context.batch.writer(entry.owner).apply_unuser()


# -- scripts


def _sieve(context: ReplayContext, entry: LogEntry, said: ApplyCommand) -> None:
    """Store a script. One that was born at the other replica gets a generated name where another script has
    its name here."""
    upload = said.argument
    with context.batch.reader(entry.owner) as reader:
        content = reader.sieve_content(upload.filename)
        script = next((s for s in reader.sieve_scripts() if s.filename == upload.filename), None)
    born_there = not entry.attributes.get("replaces")
    differs = content is not None and script_digest(content) != script_digest(upload.content)
    if differs and born_there:
        name = f"{context.family.name_of(entry.origin)}_{upload.filename}"
        context.warn(WARNING.format(name=name.removesuffix(".script")))
        upload = upload._replace(filename=name)
    elif differs and script is not None and script.last_update > upload.last_update:
        context.log.shadows.drop_item(entry.owner, "sieve", upload.filename)
        return
    context.batch.writer(entry.owner).apply_sieve(upload.filename, upload.last_update, upload.content)
