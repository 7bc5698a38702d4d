"""Finding the messages of an operation: in the mail store, or held in the log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from cyrus_sync.common.errors import MailboxLocked, MessageUnavailable, SnapshotLost, StoreCorrupt, StoreError
from cyrus_sync.common.master import Master
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.frames import content_pieces, frame_content
from cyrus_sync.multisite.mail import SiteMail, SiteReader
from cyrus_sync.multisite.oplog.apply_command import parse
from cyrus_sync.multisite.oplog.held import Held, not_stored
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.operations import LogEntry

_log = logging.getLogger(__name__)

PARTITION = "default"
"""Stands as the partition of every message in a packet. The mailbox says where the message goes."""

_AT_ONCE = 256


class _Unfolded:
    """The message in a large frame, piece by piece; may be iterated more than once."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame

    def __iter__(self) -> Iterator[bytes]:
        return content_pieces([self._frame])


class Places(NamedTuple):
    """Messages of one mailbox: UIDs by GUID."""

    uniqueid: str
    uids: Mapping[bytes, int]


class Bodies:
    """Finds messages by GUID."""

    def __init__(self, store: SiteMail, log: Log, by_place: Master | None = None) -> None:
        """`by_place`: where messages are found faster by mailbox and UID than by GUID."""
        self._store = store
        self._log = log
        self._by_place = by_place
        self._held = Held(log.db)
        self.damaged: set[bytes] = set()
        """GUIDs of messages that the store has and cannot read."""

    def places(self, entry: LogEntry, guids: Collection[bytes]) -> Places | None:
        """Where the messages of an operation were when it was made. None where that is of no use."""
        uniqueid = entry.attributes.get("uniqueid")
        if self._by_place is None or not uniqueid or not guids:
            return None
        uids = {
            record.guid: record.uid
            for record in parse(entry.line).records
            if not record.expunged and record.guid in guids
        }
        return Places(uniqueid, uids)

    def batches(
        self, owner: Owner, guids: Sequence[bytes], places: Places | None = None
    ) -> Iterator[Sequence[MessageBody]]:
        """The messages of operations on an owner, as far as they can be had, decompressed, in batches of
        bounded size. A message that cannot be read is left out and noted in `damaged`."""
        for begin in range(0, len(guids), _AT_ONCE):
            left = dict.fromkeys(guids[begin : begin + _AT_ONCE])
            yield from self._at_their_places(owner, left, places)
            for place in self._log.places(owner) if left else ():
                try:
                    yield from self._of_place(place, left)
                except StoreError as error:
                    _log.error("messages of %s cannot be read: %s", place, error)
                    self.damaged.update(left)
                if not left:
                    break
            for guid in left:
                held = self._held.get(guid)
                if held is not None:
                    yield [unfolded(held)]

    def _at_their_places(
        self, owner: Owner, left: dict[bytes, None], places: Places | None
    ) -> Iterator[Sequence[MessageBody]]:
        """The messages of `left` that are where they were. They are taken out of `left`."""
        if self._by_place is None or places is None:
            return
        wanted = [(places.uids[guid], guid) for guid in left if guid in places.uids]
        try:
            for batch in self._by_place.messages(
                owner, places.uniqueid, wanted, PARTITION, unreadable=_looked_for_elsewhere
            ):
                _check_large(batch)
                for body in batch:
                    left.pop(body.guid, None)
                yield batch
        except StoreError as error:
            _log.info("messages of the mailbox %s: %s", places.uniqueid, error)

    def _of_place(self, place: Owner, left: dict[bytes, None]) -> Iterator[Sequence[MessageBody]]:
        """The messages of `left` that one owner has. They are taken out of `left`."""
        with self._store.read(place) as reader:
            stored = reader.has_guids(left)
            for batch in self._readable(reader, [guid for guid in left if guid in stored]):
                for body in batch:
                    left.pop(body.guid, None)
                yield batch

    def _readable(self, reader: SiteReader, guids: Sequence[bytes]) -> Iterator[Sequence[MessageBody]]:
        """The messages that the store can read. One damaged message holds up no other."""
        left = dict.fromkeys(guids)
        try:
            for batch in reader.bodies(guids, PARTITION):
                _check_large(batch)
                for body in batch:
                    left.pop(body.guid, None)
                yield batch
            return
        except (StoreCorrupt, MessageUnavailable) as error:
            _log.error("a message cannot be read: %s", error)
        for guid in left:
            try:
                for batch in reader.bodies([guid], PARTITION):
                    _check_large(batch)
                    yield batch
            except (StoreCorrupt, MessageUnavailable):
                self.damaged.add(guid)

    def lacking(self, owner: Owner, guids: Sequence[bytes], places: Places | None = None) -> set[bytes]:
        """The messages that are nowhere here. An owner that cannot be read counts as one that has none."""
        left = list(guids)
        if places is not None:
            there = self._still_there(owner, places)
            left = [guid for guid in left if guid not in there]
        for place in self._log.places(owner) if left else ():
            with contextlib.suppress(StoreError):
                left = not_stored(self._store, [place], left)
        return {guid for guid in left if guid not in self._held}

    def _still_there(self, owner: Owner, places: Places) -> set[bytes]:
        """The messages that are where they were, by the word of the mailbox."""
        try:
            with self._store.read(self._store.owner_of_uniqueid(places.uniqueid) or owner) as reader:
                return reader.readable(places.uniqueid, [(uid, guid) for guid, uid in places.uids.items()])
        except (StoreError, SnapshotLost, MailboxLocked):
            return set()

    def live(self, entry: LogEntry, guids: Collection[bytes]) -> set[bytes]:
        """The messages that are needed and should be here. That is so where the mailbox of the operation has
        a live record of the message; or where the operation is only passed on, since what becomes of it is
        not known here."""
        if entry.origin != self._log.self_id:
            settled = self._log.masters.settled(entry.owner)
            if entry.id > settled.get(entry.origin, 0):
                return set(guids)
        uniqueid = entry.attributes.get("uniqueid", "")
        try:
            with self._store.read(self._store.owner_of_uniqueid(uniqueid) or entry.owner) as reader:
                # One that has no record at all any more was expunged and cleaned up.
                return {
                    record.guid
                    for batch in reader.records(uniqueid)
                    for record in batch
                    if record.guid in guids and not record.expunged
                }
        except StoreError:
            return set(guids)


def _looked_for_elsewhere(guid: bytes, error: StoreError) -> None:
    """Of a message that is not where it was."""
    _log.info("message %s: %s", guid.hex(), error)


def _check_large(batch: Sequence[MessageBody]) -> None:
    """Read large messages to their ends. When they are written into a packet it is too late to leave out one
    that is damaged. Raises `StoreCorrupt`."""
    for body in batch:
        if not isinstance(body.data, bytes):
            for _ in body.data:
                pass


def unfolded(body: MessageBody) -> MessageBody:
    """A message that is held or staged as a zstd frame, as it is."""
    frame = body.data if isinstance(body.data, bytes) else b"".join(body.data)
    if body.size <= 4 << 20:
        return MessageBody(PARTITION, body.guid, body.size, frame_content(frame, body.size))
    return MessageBody(PARTITION, body.guid, body.size, _Unfolded(frame))
