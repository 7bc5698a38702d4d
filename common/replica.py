"""`Replica`: the verbs of the replication protocol, whoever answers them.

Three things implement it: the wire (`common.wire.replica.WireReplica`, a client's connection), a mail
store (`common.stores.replica.StoreReplica`, what sync_server calls), and a packet being written. The
engine cannot tell them apart.

Rules that hold for every implementation:

* A verb returns at once with a `Deferred`; calls take effect, and their Deferreds fire, **in the order
  of the calls**. A caller may therefore send the next verb before the last one is answered whenever it
  does not depend on that answer (pipelining), and need only collect the Deferreds. An implementation
  bounds what it queues: where the caller must slow down, `ready()` gives a Deferred to wait for.
* A verb fails with a `common.errors.ReplyError` (the replica said NO, nothing changed unless the
  protocol says otherwise, later verbs go on), or with another `PeerError` (the connection is gone, and
  so are all verbs behind it).
* When a changing verb's Deferred fires without error, the change is durable.
* Sources of records and messages are iterated by the implementation, in a thread, once or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

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
)


class Replica(Protocol):
    """The replica side of a replication, as seen by the engine. `local` = the LOCAL_ form of a verb."""

    capabilities: frozenset[str]
    """What was agreed for this session, e.g. ``SIEVE-MAILBOX``."""

    message_encodings: frozenset[str]
    """How messages may be handed over: always "identity", perhaps "zstd"."""

    def ready(self) -> Deferred[None]:
        """Fires when more verbs may be sent without queueing beyond the implementation's bound."""

    # -- what the replica has

    def get_user(self, userid: str) -> Deferred[UserState]: ...

    def get_meta(self, userid: str) -> Deferred[UserMeta]: ...

    def get_mailboxes(self, names: Sequence[str]) -> Deferred[list[MailboxState]]: ...

    def get_uniqueids(self, uniqueids: Sequence[str]) -> Deferred[list[MailboxState]]:
        """Those that are there, in any order. A `ReplyError` from one that cannot be asked so."""

    def get_full_mailbox(self, name: str) -> Deferred[tuple[MailboxState, RecordSource]]:
        """One snapshot: the state and all its records. Raises MailboxNonexistent."""

    def get_users(self) -> Deferred[list[str]]:
        """Userids of everybody of whom anything is stored, some perhaps deleted. Only where
        ``X-CYRUS-SYNC-USERS`` was agreed."""

    def get_damaged_users(self) -> Deferred[list[str]]:
        """Whose messages are known to be damaged there. This and the next, and `heal`: only where
        ``X-CYRUS-SYNC-HEAL`` was agreed."""

    def get_damaged(self, userid: str) -> Deferred[list[bytes]]:
        """The GUIDs of the user's messages that are known to be damaged there."""

    def get_quota(self, root: str) -> Deferred[Quota | None]: ...

    def get_annotations(self, mailbox: str) -> Deferred[list[MailboxAnnotation]]:
        """Mailbox annotations, or the server's for ""."""

    def fetch(
        self, mailbox: str, partition: str, uniqueid: str, guid: bytes, uid: int
    ) -> Deferred[MessageBody | None]:
        """A message's bytes; None where the replica's file is not what `guid` says."""

    def fetch_sieve(self, userid: str, filename: str) -> Deferred[bytes]: ...

    # -- changes

    def reserve(
        self, partition: str, mailboxes: Sequence[str], guids: Sequence[bytes]
    ) -> Deferred[list[bytes]]:
        """Stage what the replica has already; the GUIDs that it has not come back."""

    def message(self, messages: MessageSource) -> Deferred[None]:
        """Stage messages for the mailbox updates that follow, until `restart`."""

    def mailbox(self, update: MailboxUpdate, *, local: bool = False) -> Deferred[None]: ...

    def rename(
        self, old: str, new: str, partition: str, uidvalidity: int = 0, *, local: bool = False
    ) -> Deferred[None]: ...

    def unmailbox(
        self, name: str, *, local: bool = False, uniqueid: str = "", uidvalidity: int = 0
    ) -> Deferred[None]:
        """Delete `name`; with an identity only if that is the mailbox that has the name, else
        `MailboxMoved`. An identity may be given where ``UNMAILBOX-ID`` was agreed."""

    def unuser(self, userid: str, *, local: bool = False) -> Deferred[None]: ...

    def expunge(self, mailbox: str, uniqueid: str, uids: Sequence[int]) -> Deferred[None]: ...

    def quota(self, quota: Quota) -> Deferred[None]: ...

    def unquota(self, root: str) -> Deferred[None]: ...

    def sub(self, userid: str, mailbox: str) -> Deferred[None]: ...

    def unsub(self, userid: str, mailbox: str) -> Deferred[None]: ...

    def seen(self, userid: str, seen: Seen) -> Deferred[None]: ...

    def annotation(self, annotation: MailboxAnnotation) -> Deferred[None]: ...

    def unannotation(self, mailbox: str, entry: str, userid: str) -> Deferred[None]: ...

    def sieve(self, userid: str, filename: str, last_update: int, content: bytes) -> Deferred[None]: ...

    def unsieve(self, userid: str, filename: str) -> Deferred[None]: ...

    def activate_sieve(self, userid: str, filename: str) -> Deferred[None]:
        """`filename` is the bytecode name, ``NAME.bc``."""

    def unactivate_sieve(self, userid: str) -> Deferred[None]: ...

    # -- the session

    def heal(self, userid: str) -> Deferred[None]:
        """Store those of the staged messages anew that are damaged with the user."""

    def force(self) -> Deferred[None]:
        """APPLY FORCE: relax the checks that protect a replica which is ahead."""

    def restart(self) -> Deferred[None]:
        """Forget what is staged."""

    def noop(self) -> Deferred[None]: ...
