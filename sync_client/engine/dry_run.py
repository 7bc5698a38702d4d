"""A run that changes nothing: wrappers around a replica and a master that only tell what would be done.

The engine does not know. `DryRunReplica` answers reads from the real replica and writes down changes
instead of sending them; later reads show renames and deletions as if they had been carried out, so that
the engine goes on as it would. `DryRunMaster` settles nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred, succeed

from cyrus_sync.common.master import Master, Settlement
from cyrus_sync.common.model import (
    MailboxAnnotation,
    MailboxState,
    MailboxUpdate,
    MessageBody,
    MessageSource,
    Quota,
    RecordSource,
    Seen,
    UserMeta,
    UserState,
    Verified,
)
from cyrus_sync.common.names import Owner
from cyrus_sync.common.replica import Replica
from cyrus_sync.common.waiting import Waiting


class DryRunReplica:
    """A `Replica` that is only looked at. `changes` lists what would have been sent, in order."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.capabilities = replica.capabilities
        self.message_encodings = replica.message_encodings
        self.changes: list[str] = []
        self._renamed: dict[str, tuple[str, str, str]] = {}
        """By uniqueid: the name that it really has, and name and partition that it would have."""
        self._known: dict[str, MailboxState] = {}
        """What reads have shown, by the name it would have now."""
        self._deleted: set[str] = set()
        """Uniqueids."""

    def _change(self, *words: str) -> Deferred[None]:
        self.changes.append(" ".join(words))
        return succeed(None)

    def _show(self, states: Sequence[MailboxState]) -> list[MailboxState]:
        """`states` as they would be after the changes."""
        shown: list[MailboxState] = []
        for state in states:
            if state.uniqueid in self._deleted:
                continue
            if state.uniqueid in self._renamed:
                _, name, partition = self._renamed[state.uniqueid]
                state = replace(state, name=name, partition=partition)
            self._known[state.name] = state
            shown.append(state)
        return shown

    def _real_names(self, names: Sequence[str]) -> list[str]:
        moved = {name: old for old, name, _ in self._renamed.values()}
        return list(dict.fromkeys([*names, *(moved[name] for name in names if name in moved)]))

    def ready(self) -> Deferred[None]:
        return self._replica.ready()

    # -- reads

    def get_user(self, userid: str) -> Deferred[UserState]:
        return self._replica.get_user(userid).addCallback(
            lambda state: replace(state, mailboxes=tuple(self._show(state.mailboxes)))
        )

    def get_meta(self, userid: str) -> Deferred[UserMeta]:
        return self._replica.get_meta(userid)

    def get_mailboxes(self, names: Sequence[str]) -> Deferred[list[MailboxState]]:
        return self._replica.get_mailboxes(self._real_names(names)).addCallback(self._show)

    def get_uniqueids(self, uniqueids: Sequence[str]) -> Deferred[list[MailboxState]]:
        return self._replica.get_uniqueids(uniqueids).addCallback(self._show)

    def get_full_mailbox(self, name: str) -> Deferred[tuple[MailboxState, RecordSource]]:
        real = self._known[name].uniqueid if name in self._known else ""
        old = self._renamed[real][0] if real in self._renamed else name
        return self._replica.get_full_mailbox(old).addCallback(
            lambda answer: (self._show([answer[0]])[0], answer[1])
        )

    def get_users(self) -> Deferred[list[str]]:
        return self._replica.get_users()

    def get_digests(self) -> Deferred[Mapping[str, bytes]]:
        return self._replica.get_digests()

    def get_damaged_users(self) -> Deferred[list[str]]:
        return succeed([])

    def get_damaged(self, userid: str) -> Deferred[list[bytes]]:
        return succeed([])

    def get_shared(self) -> Deferred[list[str]]:
        return self._replica.get_shared()

    def verify(self, mailbox: str, uniqueid: str, first: int, last: int) -> Deferred[Verified]:
        return self._replica.verify(mailbox, uniqueid, first, last)

    def waiting(self, word: Waiting) -> Deferred[None]:
        del word
        return succeed(None)

    def heal(self, userid: str) -> Deferred[None]:
        return self._change("HEAL", userid)

    def get_quota(self, root: str) -> Deferred[Quota | None]:
        return self._replica.get_quota(root)

    def get_annotations(self, mailbox: str) -> Deferred[list[MailboxAnnotation]]:
        return self._replica.get_annotations(mailbox)

    def fetch(
        self, mailbox: str, partition: str, uniqueid: str, guid: bytes, uid: int
    ) -> Deferred[MessageBody | None]:
        return self._replica.fetch(mailbox, partition, uniqueid, guid, uid)

    def fetch_sieve(self, userid: str, filename: str) -> Deferred[bytes]:
        return self._replica.fetch_sieve(userid, filename)

    # -- changes

    def reserve(
        self, partition: str, mailboxes: Sequence[str], guids: Sequence[bytes]
    ) -> Deferred[list[bytes]]:
        """Nothing is staged; what the replica has already is therefore counted as missing."""
        return succeed(list(guids))

    def message(self, messages: MessageSource) -> Deferred[None]:
        return succeed(None)

    def mailbox(self, update: MailboxUpdate, *, local: bool = False) -> Deferred[None]:
        count = sum(len(batch) for batch in update.records)
        return self._change("MAILBOX", update.state.name, f"({count} records)")

    def rename(
        self, old: str, new: str, partition: str, uidvalidity: int = 0, *, local: bool = False
    ) -> Deferred[None]:
        state = self._known.pop(old, None)
        if state is not None:
            real = self._renamed.get(state.uniqueid, (old, "", ""))[0]
            self._renamed[state.uniqueid] = (real, new, partition)
            self._known[new] = replace(state, name=new, partition=partition)
        return self._change("RENAME", old, "->", new, f"({partition})")

    def unmailbox(
        self, name: str, *, local: bool = False, uniqueid: str = "", uidvalidity: int = 0
    ) -> Deferred[None]:
        state = self._known.pop(name, None)
        if state is not None:
            self._deleted.add(state.uniqueid)
        return self._change("UNMAILBOX", name)

    def unuser(self, userid: str, *, local: bool = False) -> Deferred[None]:
        return self._change("UNUSER", userid)

    def expunge(self, mailbox: str, uniqueid: str, uids: Sequence[int]) -> Deferred[None]:
        return self._change("EXPUNGE", mailbox, ",".join(map(str, uids)))

    def quota(self, quota: Quota) -> Deferred[None]:
        return self._change("QUOTA", quota.root)

    def unquota(self, root: str) -> Deferred[None]:
        return self._change("UNQUOTA", root)

    def sub(self, userid: str, mailbox: str) -> Deferred[None]:
        return self._change("SUB", userid, mailbox)

    def unsub(self, userid: str, mailbox: str) -> Deferred[None]:
        return self._change("UNSUB", userid, mailbox)

    def seen(self, userid: str, seen: Seen) -> Deferred[None]:
        return self._change("SEEN", userid, seen.uniqueid)

    def annotation(self, annotation: MailboxAnnotation) -> Deferred[None]:
        return self._change("ANNOTATION", annotation.mailbox, annotation.entry, annotation.userid)

    def unannotation(self, mailbox: str, entry: str, userid: str) -> Deferred[None]:
        return self._change("UNANNOTATION", mailbox, entry, userid)

    def sieve(self, userid: str, filename: str, last_update: int, content: bytes) -> Deferred[None]:
        return self._change("SIEVE", userid, filename)

    def unsieve(self, userid: str, filename: str) -> Deferred[None]:
        return self._change("UNSIEVE", userid, filename)

    def activate_sieve(self, userid: str, filename: str) -> Deferred[None]:
        return self._change("ACTIVATE_SIEVE", userid, filename)

    def unactivate_sieve(self, userid: str) -> Deferred[None]:
        return self._change("UNACTIVATE_SIEVE", userid)

    # -- the session

    def force(self) -> Deferred[None]:
        return succeed(None)

    def restart(self) -> Deferred[None]:
        return succeed(None)

    def noop(self) -> Deferred[None]:
        return self._replica.noop()


class DryRunMaster:
    """A `Master` that is only read: what would be settled on it counts as done."""

    def __init__(self, master: Master) -> None:
        self.refuses = master.refuses
        self.scripts_are_mail = master.scripts_are_mail
        self.owners = master.owners
        self.exists = master.exists
        self.owner_of_uniqueid = master.owner_of_uniqueid
        self.read = master.read
        self.messages = master.messages
        self.damaged_owners = master.damaged_owners
        self.close = master.close

    def settle(self, owner: Owner, settlement: Settlement) -> Sequence[int]:
        return settlement.expunge

    def damaged(self, owner: Owner) -> set[bytes]:
        """Nothing is healed."""
        return set()

    def heal(self, owner: Owner, body: MessageBody) -> None:
        """Nothing is healed."""
