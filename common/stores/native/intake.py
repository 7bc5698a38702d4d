"""Taking messages into an owner's packs: each GUID once, its SHA-1 checked on the way."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from cyrus_sync.common.errors import ProtocolError
from cyrus_sync.common.model import MessageBody, Record
from cyrus_sync.common.stores.frames import LARGE, make_frame, split, whole_frame, write_frame
from cyrus_sync.common.stores.mailstore import StagedMessages
from cyrus_sync.common.stores.native.packs import Place
from cyrus_sync.common.stores.native.tables.messages import enter_messages, stored_anew, stored_sizes
from cyrus_sync.common.stores.native.transaction import Transaction


def store_bodies(transaction: Transaction, bodies: Iterable[MessageBody], *, checked: bool = False) -> None:
    """Append messages to the packs and enter them into the index.

    `checked` = they are frames known to hold what their GUIDs say. Raises `ProtocolError` for a message
    whose bytes are not what its GUID and size say.
    """
    packs = transaction.packs
    rows = []
    for body in bodies:
        if not checked:
            place = _append_checked(transaction, body)
        elif isinstance(body.data, bytes):
            place = packs.append(body.data)
        else:
            place = packs.append_pieces(body.data)
        rows.append((body.guid, place.pack, place.offset, place.length, body.size))
    enter_messages(transaction, rows)


def _append_checked(transaction: Transaction, body: MessageBody) -> Place:
    data = body.data
    if body.encoding == "zstd":
        whole = whole_frame(data if isinstance(data, bytes) else b"".join(data), body.size)
        if whole is None:
            raise ProtocolError("message frame is damaged").at(guid=body.guid.hex())
        _check(body, whole.digest, whole.size)
        return transaction.packs.append(whole.frame)
    if isinstance(data, bytes) and len(data) <= LARGE:
        frame = make_frame(data)
        _check(body, frame.digest, frame.size)
        return transaction.packs.append(frame.frame)
    start = transaction.packs.begin_frame()
    pieces = split(data) if isinstance(data, bytes) else data
    try:
        length, digest = write_frame(pieces, body.size, transaction.packs.continue_frame)
    except ValueError as error:
        raise ProtocolError(str(error)).at(guid=body.guid.hex()) from error
    _check(body, digest, body.size)
    return start._replace(length=length)


def _check(body: MessageBody, digest: bytes, size: int) -> None:
    if digest != body.guid:
        raise ProtocolError("message does not match its GUID").at(guid=body.guid.hex())
    if size != body.size:
        raise ProtocolError("message is not of the announced size").at(guid=body.guid.hex())


class Intake:
    """The messages of one APPLY MAILBOX, out of the connection's stage."""

    def __init__(self, transaction: Transaction, staged: StagedMessages) -> None:
        self._transaction = transaction
        self._staged = staged
        self._sound: set[bytes] = set()

    def take(self, records: Sequence[Record], *, as_stored: bool = False) -> Collection[bytes]:
        """Store what these new records need and is not stored yet; the GUIDs that are stored then.

        A live record needs its message: `ProtocolError` if it is nowhere, or not what its GUID says. An
        expunged one may do without. `as_stored`: these records were here before, and get another place; a
        stored copy that is damaged counts, unless a better one was sent.
        """
        transaction = self._transaction
        sizes = {record.guid: record.size for record in records}
        live = {record.guid for record in records if not record.expunged}
        before = transaction.reader.has_guids(sizes)
        bad = transaction.reader.unsound(self._doubtful(before))
        if as_stored:
            bad = {guid for guid in bad if guid in self._staged}
        before -= bad
        kept = set(before)
        wanted = [guid for guid in sizes if guid not in before]
        if wanted:
            store_bodies(transaction, self._bodies(wanted, sizes, live, kept), checked=self._staged.checked)
            stored_anew(transaction, bad & kept)
        self._sound.update(kept)
        if before:
            self._check_sizes(records, stored_sizes(transaction, before))
        return kept

    def _doubtful(self, stored: set[bytes]) -> list[bytes]:
        """Those of the stored messages whose copy is read before it is used: known to be damaged, or sent
        although we have it. What was reserved has been read. One that nobody has sent is not read: nothing
        is there that could take its place."""
        staged, damaged = self._staged, set(self._transaction.damaged)
        sent = (guid for guid in stored if guid in staged and guid not in staged.reserved)
        return [guid for guid in {*damaged.intersection(stored), *sent} if guid not in self._sound]

    def _bodies(
        self, wanted: Sequence[bytes], sizes: dict[bytes, int], live: set[bytes], kept: set[bytes]
    ) -> Iterator[MessageBody]:
        for guid in wanted:
            body = self._staged.get(guid)
            if body is None:
                problem = "a record without its message"
            elif body.size != sizes[guid]:
                problem = "a record whose SIZE is not its message's"
            elif self._staged.checked and not self._staged.is_good(guid):
                problem = "message does not match its GUID"
            else:
                kept.add(guid)
                yield body
                continue
            if guid in live:
                raise ProtocolError(problem).at(guid=guid.hex())

    def _check_sizes(self, records: Sequence[Record], stored: dict[bytes, int]) -> None:
        for record in records:
            if not record.expunged and stored.get(record.guid, record.size) != record.size:
                raise ProtocolError(f"uid {record.uid} has a wrong SIZE").at(guid=record.guid.hex())
