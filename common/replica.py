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

from collections.abc import Mapping, Sequence
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
    Verified,
)
from cyrus_sync.common.waiting import Waiting


class Replica(Protocol):
    """The replica side of a replication, as seen by the engine. `local` = the LOCAL_ form of a verb."""

    capabilities: frozenset[str]
    """What was agreed for this session, e.g. ``SIEVE-MAILBOX``."""

    message_encodings: frozenset[str]
    """How messages may be handed over: always "identity", perhaps "zstd"."""

    def ready(self) -> Deferred[None]:
        """Fires when more verbs may be sent without queueing beyond the implementation's bound."""

    # -- what the replica has

    def get_user(self, userid: str) -> Deferred[UserState]:
        """GET USER: the user's mailboxes, quota roots and metadata; all empty for a user that is not
        there."""

    def get_meta(self, userid: str) -> Deferred[UserMeta]:
        """GET META: seen state, subscriptions and scripts of a user."""

    def get_mailboxes(self, names: Sequence[str]) -> Deferred[list[MailboxState]]:
        """GET MAILBOXES: the states of those of these mailboxes (internal names) that are there, in any
        order."""

    def get_uniqueids(self, uniqueids: Sequence[str]) -> Deferred[list[MailboxState]]:
        """Those that are there, in any order. A `ReplyError` from one that cannot be asked so."""

    def get_full_mailbox(self, name: str) -> Deferred[tuple[MailboxState, RecordSource]]:
        """One snapshot: the state and all its records. Raises MailboxNonexistent."""

    def get_users(self) -> Deferred[list[str]]:
        """Userids of everybody of whom anything is stored, some perhaps deleted. Only where
        ``X-CYRUS-SYNC-USERS`` was agreed."""

    def get_digests(self) -> Deferred[Mapping[str, bytes]]:
        """By userid, the digest of all that is compared of a user (`common.summary`), of those of whom it is
        known and nothing is damaged. Only where ``X-CYRUS-SYNC-DIGESTS`` was agreed."""

    def get_damaged_users(self) -> Deferred[list[str]]:
        """Whose messages are known to be damaged there. This and the next, and `heal`: only where
        ``X-CYRUS-SYNC-HEAL`` was agreed."""

    def get_damaged(self, userid: str) -> Deferred[list[bytes]]:
        """The GUIDs of the user's messages that are known to be damaged there."""

    def get_shared(self) -> Deferred[list[str]]:
        """Names of all live shared mailboxes. This and the next: only where ``X-CYRUS-SYNC-VERIFY`` was
        agreed."""

    def verify(self, mailbox: str, uniqueid: str, first: int, last: int) -> Deferred[Verified]:
        """GET XVERIFY: read the stored messages of the live records from UID `first` to `last`, or as far as
        one answer goes. Fails with `MailboxNonexistent`, or `MailboxMoved` for another uniqueid."""

    def get_quota(self, root: str) -> Deferred[Quota | None]:
        """GET QUOTA: the limits of a quota root; None where there is no such root."""

    def get_annotations(self, mailbox: str) -> Deferred[list[MailboxAnnotation]]:
        """GET ANNOTATION: the annotations of a mailbox, or of the server (mailbox "")."""

    def fetch(
        self, mailbox: str, partition: str, uniqueid: str, guid: bytes, uid: int
    ) -> Deferred[MessageBody | None]:
        """GET FETCH: a message; None where the replica's copy is not what `guid` says. Fails with
        `MailboxNonexistent` where it has none."""

    def fetch_sieve(self, userid: str, filename: str) -> Deferred[bytes]:
        """GET FETCH_SIEVE: the text of the script ``NAME.script``. Fails with `MailboxNonexistent`."""

    # -- changes

    def reserve(
        self, partition: str, mailboxes: Sequence[str], guids: Sequence[bytes]
    ) -> Deferred[list[bytes]]:
        """APPLY RESERVE: stage those of these messages that the replica has. The result is the GUIDs that it
        has not."""

    def message(self, messages: MessageSource) -> Deferred[None]:
        """Stage messages for the mailbox updates that follow, until `restart`."""

    def mailbox(self, update: MailboxUpdate, *, local: bool = False) -> Deferred[None]:
        """APPLY MAILBOX: make the mailbox what `update` says, new ones included. Messages of new records are
        staged before. Fails as `MailWriter.apply_mailbox` says; after `SyncChecksum` the changes stand."""

    def rename(
        self, old: str, new: str, partition: str, uidvalidity: int = 0, *, local: bool = False
    ) -> Deferred[None]:
        """APPLY RENAME: rename one mailbox, or move it to `partition`; `uidvalidity` 0 = keep it. Fails as
        `MailStore.rename` says."""

    def unmailbox(
        self, name: str, *, local: bool = False, uniqueid: str = "", uidvalidity: int = 0
    ) -> Deferred[None]:
        """Delete `name`; with an identity only if that is the mailbox that has the name, else
        `MailboxMoved`. An identity may be given where ``UNMAILBOX-ID`` was agreed."""

    def unuser(self, userid: str, *, local: bool = False) -> Deferred[None]:
        """APPLY UNUSER: delete the user's mailboxes and metadata; nothing happens for a user that is not
        there."""

    def expunge(self, mailbox: str, uniqueid: str, uids: Sequence[int]) -> Deferred[None]:
        """APPLY EXPUNGE: mark these UIDs as expunged. Fails with `MailboxMoved` if `uniqueid` is another
        mailbox's."""

    def quota(self, quota: Quota) -> Deferred[None]:
        """APPLY QUOTA: make these the limits of a quota root."""

    def unquota(self, root: str) -> Deferred[None]:
        """APPLY UNQUOTA: remove a quota root, if it is there."""

    def sub(self, userid: str, mailbox: str) -> Deferred[None]:
        """APPLY SUB: subscribe the user. The mailbox need not exist."""

    def unsub(self, userid: str, mailbox: str) -> Deferred[None]:
        """APPLY UNSUB: end a subscription, if there is one."""

    def seen(self, userid: str, seen: Seen) -> Deferred[None]:
        """APPLY SEEN: replace the user's seen state of one mailbox. Times are Unix seconds."""

    def annotation(self, annotation: MailboxAnnotation) -> Deferred[None]:
        """APPLY ANNOTATION: set an annotation of a mailbox, or of the server (mailbox "")."""

    def unannotation(self, mailbox: str, entry: str, userid: str) -> Deferred[None]:
        """APPLY UNANNOTATION: remove an annotation, if it is there."""

    def sieve(self, userid: str, filename: str, last_update: int, content: bytes) -> Deferred[None]:
        """APPLY SIEVE: store the script ``NAME.script``; `last_update` in Unix seconds. Fails with
        `SyncBadSieve`."""

    def unsieve(self, userid: str, filename: str) -> Deferred[None]:
        """APPLY UNSIEVE: remove a script, if it is there."""

    def activate_sieve(self, userid: str, filename: str) -> Deferred[None]:
        """APPLY ACTIVATE_SIEVE: make a script active. `filename` is the name of its bytecode, ``NAME.bc``."""

    def unactivate_sieve(self, userid: str) -> Deferred[None]:
        """APPLY UNACTIVATE_SIEVE: make no script active."""

    def waiting(self, word: Waiting) -> Deferred[None]:
        """APPLY XWAITING: keep the master's word. Only where ``X-CYRUS-SYNC-WAITING`` was agreed."""

    # -- the session

    def heal(self, userid: str) -> Deferred[None]:
        """Store those of the staged messages anew that are damaged with the user."""

    def force(self) -> Deferred[None]:
        """APPLY FORCE: relax the checks that protect a replica which is ahead."""

    def restart(self) -> Deferred[None]:
        """Forget what is staged."""

    def noop(self) -> Deferred[None]:
        """NOOP: do nothing, in its turn."""
