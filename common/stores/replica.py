"""`StoreReplica`: the verbs of replication answered by a mail store; what sync_server calls.

Verbs of one connection run in order in a thread, and those that have queued up run in one hop. Consecutive
changes to one owner share one `write` of the store, each under its own savepoint. They are committed and
synced together, and only then do their Deferreds fire. A verb that fails is undone alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from cyrus_sync.common.errors import (
    MailboxMoved,
    MailboxNonexistent,
    PartitionUnknown,
)
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
from cyrus_sync.common.names import SERVER, Owner, check_userid, owner_of
from cyrus_sync.common.stores.grouping import GroupExecutor, QueuedVerb, Scope
from cyrus_sync.common.stores.mailstore import MailReader, MailStore, MailWriter
from cyrus_sync.common.stores.queries import (
    checked_body,
    full_mailbox,
    listed,
    shared_after,
    stage_stored,
    user_state,
    verify_stored,
)
from cyrus_sync.common.stores.staging import DEFAULT_MEMORY, Staging, is_small, make_all
from cyrus_sync.common.stores.threads import OrderedQueue, ThreadRunner
from cyrus_sync.common.waiting import Waiting, WaitingFile

SIEVE_MAILBOX = "SIEVE-MAILBOX"
LOCK_TIMEOUT = 5.0
"""Seconds to wait for an owner's lock before IMAP_MAILBOX_LOCKED is the answer."""

PUT_OFF = 1000
"""So many intermediates may a session tell of too early. More are forgotten: nothing is lost with them."""


class StoreReplica:
    """A session with a store (`common.replica.Replica`). `capabilities` are those on which the caller has
    agreed with the peer; they may be set later."""

    message_encodings = frozenset({"identity", "zstd"})

    def __init__(
        self,
        store: MailStore,
        threads: ThreadRunner,
        *,
        partitions: Collection[str],
        staging_dir: Path,
        staging_memory: int = DEFAULT_MEMORY,
        capabilities: frozenset[str] = frozenset(),
        lock_timeout: float = LOCK_TIMEOUT,
        make_staging_dir: bool = True,
        words: WaitingFile | None = None,
    ) -> None:
        """`partitions`: the names that a peer may use. `staging_dir`: where staged messages go that do not
        fit into `staging_memory` bytes; it is made when needed if `make_staging_dir`. `lock_timeout`:
        seconds. `words`: where masters' words are kept."""
        self._words = words
        self.capabilities = capabilities
        self.store = store
        self.staging = Staging(staging_dir, staging_memory, make=make_staging_dir)
        self._threads = threads
        self._partitions = frozenset(partitions)
        self._forced = False
        self._put_off: dict[str, MailboxUpdate] = {}
        self._queue: OrderedQueue[QueuedVerb] = OrderedQueue(
            threads, GroupExecutor(store, lock_timeout).execute
        )

    def ready(self) -> Deferred[None]:
        return self._queue.ready()

    def close(self) -> Deferred[None]:
        """End the session: forget what is staged once the earlier verbs are done."""
        return self._session(self._end)

    # -- reading

    def get_user(self, userid: str) -> Deferred[UserState]:
        sieve = SIEVE_MAILBOX in self.capabilities
        return self._read(lambda: _user(userid), lambda reader: user_state(reader, sieve))

    def get_meta(self, userid: str) -> Deferred[UserMeta]:
        sieve = SIEVE_MAILBOX in self.capabilities
        return self._read(lambda: _user(userid), lambda reader: reader.meta(with_sieve=not sieve))

    def get_mailboxes(self, names: Sequence[str]) -> Deferred[list[MailboxState]]:
        sieve = SIEVE_MAILBOX in self.capabilities

        def find(scope: Scope) -> list[MailboxState]:
            found = []
            for owner, wanted in _by_owner(names):
                with scope.reader(owner) as reader:
                    found += [state for name in wanted if (state := reader.mailbox(name))]
            return [state for state in found if listed(state, sieve)]

        return self._session(find)

    def get_uniqueids(self, uniqueids: Sequence[str]) -> Deferred[list[MailboxState]]:
        sieve = SIEVE_MAILBOX in self.capabilities

        def find(scope: Scope) -> list[MailboxState]:
            found = []
            for uniqueid in uniqueids:
                owner = self.store.owner_of_uniqueid(uniqueid)
                if owner is not None:
                    with scope.reader(owner) as reader:
                        state = reader.mailbox_by_id(uniqueid)
                    if state and listed(state, sieve):
                        found.append(state)
            return found

        return self._session(find)

    def get_full_mailbox(self, name: str) -> Deferred[tuple[MailboxState, RecordSource]]:
        def find(scope: Scope) -> tuple[MailboxState, RecordSource]:
            scope.commit()
            return full_mailbox(self.store, name)

        return self._session(find)

    def get_users(self, after: str = "", most: int = 2**62) -> Deferred[list[str]]:
        """At most `most` userids that come after `after`, in order."""

        def find(scope: Scope) -> list[str]:
            scope.commit()
            return list(islice((name for name in self.store.userids() if name > after), most))

        return self._session(find)

    def get_shared(self, after: str = "", most: int = 2**62) -> Deferred[list[str]]:
        """At most `most` names of live shared mailboxes that come after `after`, in order of the names."""

        def find(scope: Scope) -> list[str]:
            scope.commit()
            return shared_after(self.store, after, most)

        return self._session(find)

    def verify(self, mailbox: str, uniqueid: str, first: int, last: int) -> Deferred[Verified]:
        return self._read(
            lambda: owner_of(mailbox), lambda reader: verify_stored(reader, mailbox, uniqueid, first, last)
        )

    def get_digests(self, after: str = "", most: int = 2**62) -> Deferred[Mapping[str, bytes]]:
        """Of at most `most` users who come after `after`, in order; b"" of those who have to be asked
        singly."""

        def find(scope: Scope) -> dict[str, bytes]:
            scope.commit()
            damaged = {owner.name for owner in self.store.damaged_owners() if owner.kind == "user"}
            found = self.store.digests(after, most)
            return {userid: b"" if userid in damaged else digest for userid, digest in found}

        return self._session(find)

    def get_damaged_users(self) -> Deferred[list[str]]:
        return self._session(
            lambda _: [owner.name for owner in self.store.damaged_owners() if owner.kind == "user"]
        )

    def get_damaged(self, userid: str) -> Deferred[list[bytes]]:
        """GUIDs of marked messages that are needed and still cannot be read."""
        return self._read(
            lambda: _user(userid), lambda reader: sorted(reader.unsound(reader.damaged_guids()))
        )

    def get_quota(self, root: str) -> Deferred[Quota | None]:
        return self._read(lambda: owner_of(root), lambda reader: reader.quota(root))

    def get_annotations(self, mailbox: str) -> Deferred[list[MailboxAnnotation]]:
        return self._read(
            lambda: owner_of(mailbox) if mailbox else SERVER, lambda reader: reader.annotations(mailbox)
        )

    def fetch(
        self, mailbox: str, partition: str, uniqueid: str, guid: bytes, uid: int
    ) -> Deferred[MessageBody | None]:
        def find(reader: MailReader) -> MessageBody | None:
            if not reader.has_guids([guid]):
                raise MailboxNonexistent().at(mailbox=mailbox, uniqueid=uniqueid)
            return checked_body(reader, guid, partition)

        return self._read(lambda: owner_of(mailbox), find)

    def fetch_sieve(self, userid: str, filename: str) -> Deferred[bytes]:
        def find(reader: MailReader) -> bytes:
            content = reader.sieve_content(filename)
            if content is None:
                raise MailboxNonexistent().at(user=userid)
            return content

        return self._read(lambda: _user(userid), find)

    # -- staging

    def reserve(
        self, partition: str, mailboxes: Sequence[str], guids: Sequence[bytes]
    ) -> Deferred[list[bytes]]:
        def stage(scope: Scope) -> list[bytes]:
            self._check_partition(partition)
            missing = [guid for guid in dict.fromkeys(guids) if not self.staging.is_good(guid)]
            for owner, _ in _by_owner(mailboxes):
                if missing:
                    with scope.reader(owner) as reader:
                        missing = stage_stored(reader, self.staging, partition, missing)
            return missing

        return self._session(stage)

    def message(self, messages: MessageSource) -> Deferred[None]:
        """Small messages that are in memory, in a list of batches, are compressed or checked while verbs
        before are still carried out."""
        at_hand = isinstance(messages, list) and all(is_small(body) for batch in messages for body in batch)
        makings = [self._threads.ahead(make_all, batch) for batch in messages] if at_hand else []

        def stage(_: Scope) -> None:
            for number, batch in enumerate(messages):
                for partition in {body.partition for body in batch}:
                    self._check_partition(partition)
                if at_hand:
                    self.staging.add_made(makings[number]())
                else:
                    self.staging.add(batch)

        return self._session(stage)

    # -- changing

    def mailbox(self, update: MailboxUpdate, *, local: bool = False) -> Deferred[None]:
        sieve, name = SIEVE_MAILBOX in self.capabilities, update.state.name

        def apply(writer: MailWriter) -> None:
            try:
                writer.apply_mailbox(update, self.staging, force=self._forced, sieve_mailbox=sieve)
            except MailboxMoved:
                # 3.2 tells of it before it renames the mailbox that has the name, and ends at a NO.
                if sieve or not update.state.intermediate:
                    raise
                if len(self._put_off) < PUT_OFF:
                    self._put_off[name] = update

        return self._write(lambda: owner_of(name), apply)

    def rename(
        self, old: str, new: str, partition: str, uidvalidity: int = 0, *, local: bool = False
    ) -> Deferred[None]:
        sieve = SIEVE_MAILBOX in self.capabilities

        def act(scope: Scope) -> None:
            scope.commit()
            self._check_partition(partition)
            self.store.rename(
                old, new, partition=partition, uidvalidity=uidvalidity, log=False, timeout=scope.timeout
            )
            if not sieve and old != new:
                scope.change(owner_of(old), lambda writer: self._tidy(writer, old))

        return self._session(act)

    def _tidy(self, writer: MailWriter, name: str) -> None:
        """`name` is free now. A peer that is told of no intermediates leaves them to us: `listed`."""
        update = self._put_off.pop(name, None)
        if update is not None and writer.mailbox(name) is None:
            writer.apply_mailbox(update, self.staging)
        writer.drop_childless(name)

    def unmailbox(
        self, name: str, *, local: bool = False, uniqueid: str = "", uidvalidity: int = 0
    ) -> Deferred[None]:
        sieve = SIEVE_MAILBOX in self.capabilities

        def delete(writer: MailWriter) -> None:
            found = writer.mailbox(name)
            if found is not None and (
                uniqueid not in ("", found.uniqueid) or uidvalidity not in (0, found.uidvalidity)
            ):
                raise MailboxMoved()
            writer.apply_unmailbox(name)
            if not sieve:
                self._tidy(writer, name)

        return self._write(lambda: owner_of(name), delete)

    def unuser(self, userid: str, *, local: bool = False) -> Deferred[None]:
        if not userid:
            return self._session(lambda _: None)
        return self._write(lambda: _user(userid), lambda writer: writer.apply_unuser())

    def expunge(self, mailbox: str, uniqueid: str, uids: Sequence[int]) -> Deferred[None]:
        return self._write(
            lambda: owner_of(mailbox), lambda writer: writer.apply_expunge(mailbox, uniqueid, uids)
        )

    def quota(self, quota: Quota) -> Deferred[None]:
        return self._write(lambda: owner_of(quota.root), lambda writer: writer.apply_quota(quota))

    def unquota(self, root: str) -> Deferred[None]:
        return self._write(lambda: owner_of(root), lambda writer: writer.apply_unquota(root))

    def sub(self, userid: str, mailbox: str) -> Deferred[None]:
        return self._write(lambda: _user(userid), lambda writer: writer.apply_sub(mailbox, True))

    def unsub(self, userid: str, mailbox: str) -> Deferred[None]:
        return self._write(lambda: _user(userid), lambda writer: writer.apply_sub(mailbox, False))

    def seen(self, userid: str, seen: Seen) -> Deferred[None]:
        return self._write(lambda: _user(userid), lambda writer: writer.apply_seen(seen))

    def annotation(self, annotation: MailboxAnnotation) -> Deferred[None]:
        return self._write(
            lambda: _annotated(annotation.mailbox), lambda writer: writer.apply_annotation(annotation)
        )

    def unannotation(self, mailbox: str, entry: str, userid: str) -> Deferred[None]:
        return self._write(
            lambda: _annotated(mailbox), lambda writer: writer.apply_unannotation(mailbox, entry, userid)
        )

    def sieve(self, userid: str, filename: str, last_update: int, content: bytes) -> Deferred[None]:
        return self._write(
            lambda: _user(userid), lambda writer: writer.apply_sieve(filename, last_update, content)
        )

    def unsieve(self, userid: str, filename: str) -> Deferred[None]:
        return self._write(lambda: _user(userid), lambda writer: writer.apply_unsieve(filename))

    def activate_sieve(self, userid: str, filename: str) -> Deferred[None]:
        return self._write(lambda: _user(userid), lambda writer: writer.apply_active_sieve(filename))

    def unactivate_sieve(self, userid: str) -> Deferred[None]:
        return self._write(lambda: _user(userid), lambda writer: writer.apply_active_sieve(None))

    def change(self, owner: Owner, change: Callable[[MailWriter], None]) -> Deferred[None]:
        """Make a change that is no verb of the protocol (a restore), in order with the verbs and as
        durable."""
        return self._write(lambda: owner, change)

    def heal(self, userid: str) -> Deferred[None]:
        def replace_damaged(writer: MailWriter) -> None:
            for guid in writer.unsound(writer.damaged_guids()):
                body = self.staging.get(guid) if self.staging.is_good(guid) else None
                if body is not None:
                    writer.heal(body)

        return self._write(lambda: _user(userid), replace_damaged)

    # -- the session

    def waiting(self, word: Waiting) -> Deferred[None]:
        def keep(scope: Scope) -> None:
            scope.commit()  # what was said to wait has been taken before it is said to wait no more
            if self._words is not None:
                self._words.put(replace(word, at=int(time.time())))

        return self._session(keep)

    def force(self) -> Deferred[None]:
        def set_force(_: Scope) -> None:
            self._forced = True

        return self._session(set_force)

    def restart(self) -> Deferred[None]:
        return self._session(self._end)

    def noop(self) -> Deferred[None]:
        return self._session(lambda _: None)

    # -- how verbs become jobs

    def _read(self, owner: Callable[[], Owner], find: Callable[[Any], Any]) -> Deferred[Any]:
        def run(scope: Scope) -> Any:
            with scope.reader(owner()) as reader:
                return find(reader)

        return self._session(run)

    def _write(self, owner: Callable[[], Owner], change: Callable[[Any], None]) -> Deferred[None]:
        return self._queue.submit(QueuedVerb(lambda scope: scope.change(owner(), change)))

    def _session(self, act: Callable[[Scope], Any]) -> Deferred[Any]:
        return self._queue.submit(QueuedVerb(act))

    def _end(self, _: Scope) -> None:
        self.staging.clear()
        self._put_off.clear()

    def _check_partition(self, partition: str) -> None:
        if partition and partition not in self._partitions:
            raise PartitionUnknown(f"Unknown/invalid partition {partition[:80]!r}")


def _user(userid: str) -> Owner:
    return Owner("user", check_userid(userid))


def _annotated(mailbox: str) -> Owner:
    return owner_of(mailbox) if mailbox else SERVER


def _by_owner(names: Iterable[str]) -> list[tuple[Owner, list[str]]]:
    """Names grouped by owner, as far as those of one owner follow one another."""
    groups: list[tuple[Owner, list[str]]] = []
    for name in names:
        owner = owner_of(name)
        if groups and groups[-1][0] == owner:
            groups[-1][1].append(name)
        else:
            groups.append((owner, [name]))
    return groups
