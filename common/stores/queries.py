"""Answers of a replica that take more than one question to a `MailReader`."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from cyrus_sync.common.errors import (
    MailboxMoved,
    MailboxNonexistent,
    MessageUnavailable,
    StoreCorrupt,
    StoreError,
)
from cyrus_sync.common.master import Unreadable
from cyrus_sync.common.model import (
    MailboxState,
    MessageBody,
    MessageSource,
    Record,
    RecordSource,
    UserMeta,
    UserState,
    Verified,
)
from cyrus_sync.common.names import owner_of
from cyrus_sync.common.stores.frames import content_pieces, frame_content
from cyrus_sync.common.stores.mailstore import MailReader, MailStore
from cyrus_sync.common.stores.staging import Staging

_VERIFIED_AT_ONCE, _VERIFIED_OCTETS = 200, 32 << 20
"""Messages that are read together, and octets after which an answer to GET XVERIFY is enough."""
_IN_MEMORY = 10_000
"""So many records of a full mailbox are handed over as a list; for more, the snapshot stays open."""


def is_sieve(state: MailboxState) -> bool:
    """True for a mailbox of scripts (type letter ``f``)."""
    return "f" in state.mbtype


def listed(state: MailboxState, sieve_mailbox: bool) -> bool:
    """Whether a peer is told of this mailbox.

    A peer that did not agree on SIEVE-MAILBOX is a Cyrus before 3.6. It is told neither of scripts as a
    mailbox nor of intermediates: 3.2 does not list those itself, and ends where a list has them."""
    return sieve_mailbox or not (is_sieve(state) or state.intermediate)


def user_state(reader: MailReader, sieve_mailbox: bool) -> UserState:
    """GET USER, with those mailboxes that are `listed`. Without SIEVE-MAILBOX the scripts are told as files.

    Seen state, subscriptions and scripts are told only of a user with a real mailbox, as since 3.6.
    """
    mailboxes = [state for state in reader.mailboxes() if listed(state, sieve_mailbox)]
    roots = dict.fromkeys(state.quotaroot for state in mailboxes if state.quotaroot)
    quotas = [quota for root in roots if (quota := reader.quota(root))]
    real = any(not state.intermediate for state in mailboxes)
    meta = reader.meta(with_sieve=not sieve_mailbox) if real else UserMeta()
    return UserState(tuple(mailboxes), tuple(quotas), meta)


def checked_body(reader: MailReader, guid: bytes, partition: str) -> MessageBody | None:
    """A message whose SHA-1 has been compared with its GUID; None if it is damaged or not stored."""
    try:
        body = reader.body(guid)
        if body is None or _digest(body) != guid:
            return None
    except StoreCorrupt:
        return None
    return body._replace(partition=partition)


def _digest(body: MessageBody) -> bytes:
    digest = hashlib.sha1()
    for piece in [body.data] if isinstance(body.data, bytes) else body.data:
        digest.update(piece)
    return digest.digest()


class StoredMessages(Protocol):
    """An owner's messages, by GUID. Every `MailReader` has them."""

    def has_guids(self, guids: Iterable[bytes]) -> set[bytes]: ...

    def bodies(
        self,
        guids: Sequence[bytes],
        partition: str = "",
        encoding: str = "identity",
        *,
        unreadable: Unreadable | None = None,
    ) -> MessageSource: ...

    def note_damaged(self, guid: bytes) -> None: ...


def stage_stored(
    reader: StoredMessages, staging: Staging, partition: str, guids: Sequence[bytes]
) -> list[bytes]:
    """RESERVE: stage those of these messages that are stored and undamaged. Returns the others."""
    stored = reader.has_guids(guids)
    wanted = [guid for guid in guids if guid in stored]
    missing = [guid for guid in guids if guid not in stored]

    def unreadable(guid: bytes, error: StoreError) -> None:
        if not isinstance(error, MessageUnavailable):
            reader.note_damaged(guid)

    for batch in reader.bodies(wanted, partition, "zstd", unreadable=unreadable):
        good = [body for body in batch if body.encoding == "zstd" and _frame_digest(body) == body.guid]
        staging.add_stored(good)
        plain = [body for body in batch if body.encoding != "zstd"]
        staging.add(plain)
        sound = {body.guid for body in good}.union(body.guid for body in plain if staging.is_good(body.guid))
        for guid in {body.guid for body in batch} - sound:
            reader.note_damaged(guid)
    missing += [guid for guid in wanted if not staging.is_good(guid)]
    return missing


def _frame_digest(body: MessageBody) -> bytes:
    """The SHA-1 of what is in a frame, b"" if that cannot be read."""
    try:
        if isinstance(body.data, bytes):
            return hashlib.sha1(frame_content(body.data, body.size)).digest()
        digest = hashlib.sha1()
        for piece in content_pieces(body.data):
            digest.update(piece)
        return digest.digest()
    except StoreCorrupt:
        return b""


def shared_after(store: MailStore, after: str, most: int) -> list[str]:
    """At most `most` names of live shared mailboxes that come after `after`, in order of the names. Who
    cannot be read is named by the top."""
    found: list[str] = []
    for owner in store.owners():
        if owner.kind == "shared":
            try:
                with store.read(owner) as reader:
                    found += [state.name for state in reader.mailboxes() if not state.intermediate]
            except StoreError:
                found.append(owner.name)
    return sorted(name for name in found if name > after)[:most]


def verify_stored(reader: MailReader, mailbox: str, uniqueid: str, first: int, last: int) -> Verified:
    """GET XVERIFY: read the messages of the live records from UID `first` to `last`, or as far as one answer
    goes. What is bad is marked, so that it heals. Raises `MailboxNonexistent`, `MailboxMoved`."""
    state = reader.mailbox(mailbox)
    if state is None or state.intermediate:
        raise MailboxNonexistent().at(mailbox=mailbox)
    if state.uniqueid != uniqueid:
        raise MailboxMoved().at(mailbox=mailbox, uniqueid=uniqueid)
    count = octets = upto = 0
    bad: set[bytes] = set()
    for batch in reader.records(uniqueid, above_uid=max(first, 1) - 1, batch=_VERIFIED_AT_ONCE):
        live = [record for record in batch if not record.expunged and record.uid <= last]
        wanted = [(record.uid, record.guid) for record in live]
        bad |= {guid for _, guid in wanted} - reader.readable(uniqueid, wanted, verify=True)
        count += len(live)
        octets += sum(record.size for record in live)
        upto = batch[-1].uid
        if upto >= last or octets >= _VERIFIED_OCTETS:
            break
    else:
        upto = last
    return Verified(min(upto, last), count, octets, tuple(sorted(bad)))


class FullMailbox:
    """The records of a large mailbox, read from a snapshot that stays open until `close`."""

    def __init__(self, records: RecordSource, stack: contextlib.ExitStack) -> None:
        self._records = records
        self._stack = stack

    def __iter__(self) -> Iterator[Sequence[Record]]:
        return iter(self._records)

    def close(self) -> None:
        """End the snapshot."""
        self._stack.close()

    def __del__(self) -> None:
        self._stack.close()


def full_mailbox(store: MailStore, name: str) -> tuple[MailboxState, RecordSource]:
    """GET FULLMAILBOX: state and records of one snapshot; raises `MailboxNonexistent`."""
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(store.read(owner_of(name)))
        state = reader.mailbox(name)
        if state is None:
            raise MailboxNonexistent().at(mailbox=name)
        batches: list[Sequence[Record]] = []
        count = 0
        for batch in reader.records(state.uniqueid):
            batches.append(batch)
            count += len(batch)
            if count > _IN_MEMORY:
                return state, FullMailbox(reader.records(state.uniqueid), stack.pop_all())
        return state, batches
