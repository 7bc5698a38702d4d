"""`Recorder`: the replica that the engine talks to when changes are to be written into the log.

It answers from the shadow, so that the engine finds just what the log lacks. It takes every change as an
operation of this replica, in the octets that the wire would carry. It never asks for messages: an export
finds them in the mail store.

Attributes of an operation, for those who apply it:

=============  ===================================================================================
uniqueid       the mailbox that it is about
creator        the replica where the mailbox was made
base           ``modseq:last_uid`` of the master's state on which a change of another replica is built
changed        names of header fields that differ from what the log said before
settled        ``origin:id,…``: the last operation of each origin that the master's state contains
reign          ``version:replica``: the master whose word this is, or on whose state it is built
resync         the records there are not what the master told: it is asked to tell all of them
=============  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from cyrus_sync.common.errors import MailboxNonexistent
from cyrus_sync.common.identity import annotation_values
from cyrus_sync.common.model import (
    MailboxAnnotation,
    MailboxState,
    MailboxUpdate,
    MessageBody,
    MessageSource,
    Quota,
    Record,
    RecordSource,
    Seen,
    UserMeta,
    UserState,
    Verified,
)
from cyrus_sync.common.names import SERVER, Owner, is_deleted, owner_of, sort_key
from cyrus_sync.common.protocol.commands import COMMANDS, UNMAILBOX_ID
from cyrus_sync.common.waiting import Waiting
from cyrus_sync.common.wire.outgoing import mailbox_pieces
from cyrus_sync.multisite.oplog.apply_command import parse
from cyrus_sync.multisite.oplog.items import remember
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.operations import LogEntry
from cyrus_sync.multisite.oplog.shadows import RESYNC

HEADER_FIELDS = ("name", "acl", "options", "usergroups", "annotations", "partition", "uidvalidity")
"""The fields of a mailbox of which `changed` tells."""


class Recorder:
    """A `common.replica.Replica` that is a log being written. Everything happens at once, in the call."""

    capabilities = frozenset({UNMAILBOX_ID})
    message_encodings = frozenset({"identity"})

    def __init__(self, log: Log) -> None:
        self._log = log
        self._shadows = log.shadows
        self.recorded = 0
        """Operations written so far."""

    def ready(self) -> Deferred[None]:
        return succeed(None)

    # -- what the log says

    def get_user(self, userid: str) -> Deferred[UserState]:
        owner = Owner("user", userid)
        mailboxes = tuple(self._shadows.mailboxes(owner))
        return succeed(UserState(mailboxes, self._shadows.quotas(owner), self._meta(owner)))

    def get_meta(self, userid: str) -> Deferred[UserMeta]:
        return succeed(self._meta(Owner("user", userid)))

    def _meta(self, owner: Owner) -> UserMeta:
        shadows = self._shadows
        return UserMeta(shadows.seen(owner), shadows.subscriptions(owner), shadows.scripts(owner))

    def get_mailboxes(self, names: Sequence[str]) -> Deferred[list[MailboxState]]:
        return succeed([state for name in names if (state := self._shadows.by_name(name))])

    def get_users(self) -> Deferred[list[str]]:
        """Nobody asks a log."""
        return succeed([])

    def get_digests(self) -> Deferred[Mapping[str, bytes]]:
        """Nor this."""
        return succeed({})

    def get_damaged_users(self) -> Deferred[list[str]]:
        """A log has no messages."""
        return succeed([])

    def get_damaged(self, userid: str) -> Deferred[list[bytes]]:
        return succeed([])

    def get_shared(self) -> Deferred[list[str]]:
        """Nobody asks a log."""
        return succeed([])

    def verify(self, mailbox: str, uniqueid: str, first: int, last: int) -> Deferred[Verified]:
        return fail(MailboxNonexistent().at(mailbox=mailbox))

    def waiting(self, word: Waiting) -> Deferred[None]:
        """Nobody asks a log."""
        del word
        return succeed(None)

    def heal(self, userid: str) -> Deferred[None]:
        return succeed(None)

    def get_uniqueids(self, uniqueids: Sequence[str]) -> Deferred[list[MailboxState]]:
        return succeed([state for one in uniqueids if (state := self._shadows.get(one))])

    def get_full_mailbox(self, name: str) -> Deferred[tuple[MailboxState, RecordSource]]:
        """A log has no records to give: there is no conflict with it that could be settled."""
        return fail(MailboxNonexistent().at(mailbox=name))

    def get_quota(self, root: str) -> Deferred[Quota | None]:
        limits = self._shadows.item(owner_of(root), "quota", root)
        return succeed(None if limits is None else Quota(root, limits))

    def get_annotations(self, mailbox: str) -> Deferred[list[MailboxAnnotation]]:
        owner = owner_of(mailbox) if mailbox else SERVER
        return succeed(self._shadows.annotations(owner, mailbox))

    def fetch(
        self, mailbox: str, partition: str, uniqueid: str, guid: bytes, uid: int
    ) -> Deferred[MessageBody | None]:
        return fail(MailboxNonexistent().at(mailbox=mailbox))

    def fetch_sieve(self, userid: str, filename: str) -> Deferred[bytes]:
        return fail(MailboxNonexistent().at(user=userid))

    # -- messages stay where they are

    def reserve(
        self, partition: str, mailboxes: Sequence[str], guids: Sequence[bytes]
    ) -> Deferred[list[bytes]]:
        return succeed([])

    def message(self, messages: MessageSource) -> Deferred[None]:
        return succeed(None)

    # -- mailboxes

    def mailbox(self, update: MailboxUpdate, *, local: bool = False) -> Deferred[None]:
        """Record the state and the records of a mailbox, and note them in the shadow."""
        log, state = self._log, update.state
        shadow = self._shadows.get(state.uniqueid)
        home = log.home(state.uniqueid, state.name)
        log.claim(home)
        log.objects.note(state.uniqueid, home, log.creator(state.uniqueid))
        wanted = log.objects.wanted_name(state.uniqueid, state.name)
        new = _New(shadow.last_uid if shadow else 0)
        told = replace(update, state=replace(state, name=wanted), records=new.watch(update.records))
        line = b"".join(piece.data for piece in mailbox_pieces(told, local=False))
        attributes = log.attributes(home, state.uniqueid)
        attributes["changed"] = ",".join(_changed(shadow, state))
        if self._shadows.item(home, RESYNC, state.uniqueid):
            attributes["resync"] = "1"
            self._shadows.drop_item(home, RESYNC, state.uniqueid)
        guids = new.guids | self._unknown(home, new.older)
        entry = self._record(home, line, attributes, list(guids), sum(guids.values()))
        shadow = replace(state, sync_crc=0, sync_crc_annot=0) if update.partial else state
        self._shadows.put(owner_of(state.name), shadow)
        base = log.masters.base(state.uniqueid)
        told_base = base._replace(told_id=entry.id, told_modseq=state.highestmodseq)
        log.masters.put_base(state.uniqueid, told_base)
        return succeed(None)

    def _unknown(self, owner: Owner, guids: dict[bytes, int]) -> dict[bytes, int]:
        """Those of these messages that no operation has brought into the log yet."""
        return {g: size for g, size in guids.items() if not self._log.operations.introduced(owner, g)}

    def rename(
        self, old: str, new: str, partition: str, uidvalidity: int = 0, *, local: bool = False
    ) -> Deferred[None]:
        """Record a rename or a move; both names are told as they should be."""
        state = self._shadows.by_name(old)
        if state is None:
            return fail(MailboxNonexistent().at(mailbox=old))
        home = self._log.home(state.uniqueid, old)
        self._log.claim(home)
        self._log.objects.note(state.uniqueid, home, self._log.creator(state.uniqueid))
        before = self._log.objects.wanted_name(state.uniqueid, old)
        after = self._log.objects.wanted_name(state.uniqueid, new)
        self._shadows.rename(state.uniqueid, owner_of(new), new, partition)
        line = COMMANDS["APPLY", "RENAME"].line(before, after, partition, uidvalidity)
        self._record(home, line, self._log.attributes(home, state.uniqueid))
        return succeed(None)

    def unmailbox(
        self, name: str, *, local: bool = False, uniqueid: str = "", uidvalidity: int = 0
    ) -> Deferred[None]:
        """Record that a mailbox was deleted."""
        state = self._shadows.by_name(name)
        if state is None:
            return fail(MailboxNonexistent().at(mailbox=name))
        home = self._log.home(state.uniqueid, name)
        self._log.claim(home)
        wanted = self._log.objects.wanted_name(state.uniqueid, name)
        line = COMMANDS["APPLY", "UNMAILBOX"].line(wanted, state.uniqueid, state.uidvalidity)
        self._record(home, line, self._log.attributes(home, state.uniqueid))
        self._forget(state.uniqueid)
        return succeed(None)

    def _forget(self, uniqueid: str) -> None:
        self._shadows.drop(uniqueid)
        self._log.masters.drop_base(uniqueid)
        self._log.objects.set_names(uniqueid, "", "")

    def unuser(self, userid: str, *, local: bool = False) -> Deferred[None]:
        """Record the deletion of each mailbox by its uniqueid, then of what else there was of the user."""
        owner = Owner("user", userid)
        gone = [state for state in self._shadows.mailboxes(owner) if not is_deleted(state.name)]
        for state in sorted(gone, key=lambda one: sort_key(one.name), reverse=True):
            self.unmailbox(state.name, uniqueid=state.uniqueid, uidvalidity=state.uidvalidity)
        self._log.claim(owner)
        self._record(owner, COMMANDS["APPLY", "UNUSER"].line(userid), self._log.attributes(owner))
        self._shadows.drop_items(owner)
        return succeed(None)

    def expunge(self, mailbox: str, uniqueid: str, uids: Sequence[int]) -> Deferred[None]:
        """Record that messages were expunged."""
        home = self._log.home(uniqueid, mailbox)
        wanted = self._log.objects.wanted_name(uniqueid, mailbox)
        line = COMMANDS["APPLY", "EXPUNGE"].line(wanted, uniqueid, uids)
        self._record(home, line, self._log.attributes(home, uniqueid))
        return succeed(None)

    # -- what else belongs to an owner

    def quota(self, quota: Quota) -> Deferred[None]:
        return self._small(owner_of(quota.root), "QUOTA", quota)

    def unquota(self, root: str) -> Deferred[None]:
        return self._small(owner_of(root), "UNQUOTA", root)

    def sub(self, userid: str, mailbox: str) -> Deferred[None]:
        return self._small(Owner("user", userid), "SUB", userid, mailbox)

    def unsub(self, userid: str, mailbox: str) -> Deferred[None]:
        return self._small(Owner("user", userid), "UNSUB", userid, mailbox)

    def seen(self, userid: str, seen: Seen) -> Deferred[None]:
        return self._small(Owner("user", userid), "SEEN", userid, seen)

    def annotation(self, annotation: MailboxAnnotation) -> Deferred[None]:
        owner = owner_of(annotation.mailbox) if annotation.mailbox else SERVER
        return self._small(owner, "ANNOTATION", annotation)

    def unannotation(self, mailbox: str, entry: str, userid: str) -> Deferred[None]:
        owner = owner_of(mailbox) if mailbox else SERVER
        return self._small(owner, "UNANNOTATION", mailbox, entry, userid)

    def sieve(self, userid: str, filename: str, last_update: int, content: bytes) -> Deferred[None]:
        """The operation tells which script it replaces, so that two scripts of one name that were born at two
        sites are noticed."""
        owner = Owner("user", userid)
        before = self._shadows.item(owner, "sieve", filename)
        replaces = before[1] if before else ""
        arguments = (userid, filename, last_update, content)
        entry = self._small_entry(owner, "SIEVE", arguments, {"replaces": replaces})
        self._shadows.put_item(owner, "told", filename, [entry.id, not replaces])
        return succeed(None)

    def unsieve(self, userid: str, filename: str) -> Deferred[None]:
        return self._small(Owner("user", userid), "UNSIEVE", userid, filename)

    def activate_sieve(self, userid: str, filename: str) -> Deferred[None]:
        return self._small(Owner("user", userid), "ACTIVATE_SIEVE", userid, filename)

    def unactivate_sieve(self, userid: str) -> Deferred[None]:
        return self._small(Owner("user", userid), "UNACTIVATE_SIEVE", userid)

    # -- the session

    def force(self) -> Deferred[None]:
        return succeed(None)

    def restart(self) -> Deferred[None]:
        return succeed(None)

    def noop(self) -> Deferred[None]:
        return succeed(None)

    # -- writing

    def _small(self, owner: Owner, name: str, *arguments: Any) -> Deferred[None]:
        self._small_entry(owner, name, arguments)
        return succeed(None)

    def _small_entry(
        self, owner: Owner, name: str, arguments: tuple[Any, ...], more: dict[str, str] | None = None
    ) -> LogEntry:
        """Record one of the commands that fit into a line, and note it in the shadow."""
        self._log.claim(owner)
        line = COMMANDS["APPLY", name].line(*arguments)
        remember(self._shadows, owner, name, parse(line).argument)
        return self._record(owner, line, self._log.attributes(owner) | (more or {}))

    def _record(
        self,
        owner: Owner,
        line: bytes,
        attributes: dict[str, str],
        guids: Iterable[bytes] = (),
        octets: int = 0,
    ) -> LogEntry:
        self.recorded += 1
        return self._log.operations.append(
            owner, line, time=self._log.now(), attributes=attributes, guids=guids, octets=octets
        )


class _New:
    """Notes the messages of live records while the records pass by: those above a UID, and older ones."""

    def __init__(self, above: int) -> None:
        self._above = above
        self.guids: dict[bytes, int] = {}
        self.older: dict[bytes, int] = {}

    def watch(self, records: RecordSource) -> Iterable[Sequence[Record]]:
        for batch in records:
            for record in batch:
                if not record.expunged:
                    known = self.guids if record.uid > self._above else self.older
                    known[record.guid] = record.size
            yield batch


def _changed(before: MailboxState | None, after: MailboxState) -> list[str]:
    """The fields of `HEADER_FIELDS` in which two states differ."""
    if before is None:
        return list(HEADER_FIELDS)
    return [name for name in HEADER_FIELDS if _plain(before, name) != _plain(after, name)]


def _plain(state: MailboxState, name: str) -> Any:
    if name == "annotations":
        return annotation_values(state.annotations)
    return getattr(state, name)
