"""What is stored at both ends: each message is read there, and its SHA-1 compared with its record's GUID.

A replica of this package reads for itself (``X-CYRUS-SYNC-VERIFY``). From any other one each message is
fetched, and its SHA-1 is made here: that one may keep a file for each mailbox.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

from cyrus_sync.common.errors import MailboxNonexistent, ProtocolError
from cyrus_sync.common.master import Master
from cyrus_sync.common.model import MailboxState, MessageBody
from cyrus_sync.common.names import Owner
from cyrus_sync.common.protocol.commands import VERIFY
from cyrus_sync.common.replica import Replica
from cyrus_sync.common.threads import Threads
from cyrus_sync.sync_client.comparing.findings import (
    DAMAGED_HERE,
    DAMAGED_THERE,
    ONLY_HERE,
    OTHER,
    WITHHELD,
    Counts,
    MailboxFindings,
    Message,
)
from cyrus_sync.sync_client.comparing.states import Pair
from cyrus_sync.sync_client.engine.concurrency import all_of, start

BLOCK_MESSAGES, BLOCK_OCTETS = 500, 32 << 20
FETCHES_IN_FLIGHT = 16

_NOT_THERE = (ONLY_HERE, OTHER, WITHHELD)
"""What the records have told already."""

Wait = Callable[[int], Awaitable[None]]
"""Told how many octets are about to be read; returns when that may be."""


class Live(NamedTuple):
    """A live record, as far as reading its message goes."""

    uid: int
    guid: bytes
    size: int


class MessageComparer:
    """Reads the messages of one owner's mailboxes."""

    def __init__(self, master: Master, replica: Replica, threads: Threads, owner: Owner, wait: Wait) -> None:
        self._master = master
        self._replica = replica
        self._threads = threads
        self._owner = owner
        self._wait = wait

    async def compare(self, pair: Pair, counts: Counts) -> None:
        """Both copies of every live message of the mailbox."""
        uniqueid, after = pair.found.uniqueid, 0
        while block := await self._threads.run(self._block, uniqueid, after):
            octets = sum(one.size for one in block)
            await self._wait(octets)
            bad = await self._threads.run(self._bad_here, uniqueid, block)
            for one in block:
                if one.guid in bad:
                    pair.found.add(DAMAGED_HERE, Message(one.uid, one.guid))
            lacking = {message.uid for kind in _NOT_THERE for message in pair.found.shown(kind)}
            await self._there(pair, [one for one in block if one.uid not in lacking])
            counts.messages += len(block)
            counts.octets += octets
            after = block[-1].uid

    def _block(self, uniqueid: str, after: int) -> list[Live]:
        """The next live records of the master's mailbox, as they are now."""
        block: list[Live] = []
        octets = 0
        with self._master.read(self._owner) as reader:
            for batch in reader.records(uniqueid, above_uid=after, batch=BLOCK_MESSAGES):
                for record in batch:
                    if record.expunged:
                        continue
                    block.append(Live(record.uid, record.guid, record.size))
                    octets += record.size
                    if len(block) >= BLOCK_MESSAGES or octets >= BLOCK_OCTETS:
                        return block
        return block

    def _bad_here(self, uniqueid: str, block: Sequence[Live]) -> set[bytes]:
        messages = [(one.uid, one.guid) for one in block]
        with self._master.read(self._owner) as reader:
            return {one.guid for one in block} - reader.readable(uniqueid, messages, verify=True)

    # -- there

    async def _there(self, pair: Pair, block: Sequence[Live]) -> None:
        if not block:
            return
        if VERIFY in self._replica.capabilities:
            await self._verified(pair.found, pair.remote, block)
        else:
            await self._fetch_all(pair, block)

    async def _verified(self, found: MailboxFindings, remote: MailboxState, block: Sequence[Live]) -> None:
        """Have the replica read it."""
        first, last = block[0].uid, block[-1].uid
        bad: set[bytes] = set()
        while first <= last:
            answer = await self._replica.verify(remote.name, remote.uniqueid, first, last)
            if answer.upto < first:
                raise ProtocolError("the replica does not get on with reading its messages")
            bad.update(answer.bad)
            first = answer.upto + 1
        for one in block:
            if one.guid in bad:
                found.add(DAMAGED_THERE, Message(one.uid, one.guid))

    async def _fetch_all(self, pair: Pair, block: Sequence[Live]) -> None:
        for begin in range(0, len(block), FETCHES_IN_FLIGHT):
            part = block[begin : begin + FETCHES_IN_FLIGHT]
            fetches = []
            for one in part:
                await self._replica.ready()
                fetches.append(start(self._is_sound(pair.remote, one)))
            for one, good in zip(part, await all_of(fetches), strict=True):
                if not good:
                    pair.found.add(DAMAGED_THERE, Message(one.uid, one.guid))

    async def _is_sound(self, remote: MailboxState, one: Live) -> bool:
        """Whether the replica gives this message, and it is what its GUID says."""
        try:
            body = await self._replica.fetch(
                remote.name, remote.partition, remote.uniqueid, one.guid, one.uid
            )
        except MailboxNonexistent:
            return False
        return body is not None and await self._digest(body) == one.guid

    async def _digest(self, body: MessageBody) -> bytes:
        if isinstance(body.data, bytes) and len(body.data) < _AT_ONCE:
            return hashlib.sha1(body.data).digest()
        return await self._threads.run(_digest, body)


_AT_ONCE = 1 << 16
"""Octets of which a SHA-1 is made without a thread."""


def _digest(body: MessageBody) -> bytes:
    digest = hashlib.sha1()
    for piece in _pieces(body):
        digest.update(piece)
    return digest.digest()


def _pieces(body: MessageBody) -> Iterator[bytes]:
    if isinstance(body.data, bytes):
        yield body.data
    else:
        yield from body.data
