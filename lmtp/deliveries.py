"""`Deliveries`: messages into the store, for each owner one after the other, those that wait together.

Who is delivered to while his last delivery is being written has to wait; what has come for him until then
goes into one write, with one sync for all of it. An answer is given when that is on disk. A delivery that
fails is undone alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailStore, MailWriter
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.lmtp.answers import INTERNAL, Answer, Refused, not_made, of_error
from cyrus_sync.lmtp.autocreate import Autocreate
from cyrus_sync.lmtp.duplicates import Duplicates, Seen
from cyrus_sync.lmtp.placing import Placing, Posting

log = logging.getLogger("lmtp")

MOST_TOGETHER = 200
"""Deliveries in one write."""

LOCK_SECONDS = 10.0
"""That somebody else may hold an owner before his mail is to be sent again."""


class Arrived(Protocol):
    """A message that has come completely."""

    @property
    def body(self) -> bytes | MessageBody:
        """What is stored."""

    @property
    def message_id(self) -> str: ...

    @property
    def date(self) -> str:
        """Both as its header has them."""


class Item(Protocol):
    """One delivery. `owner` is whose files it is written to."""

    @property
    def owner(self) -> Owner: ...

    @property
    def founds(self) -> bool:
        """Whether the owner may come into being with it."""

    def carry_out(self, writer: MailWriter, now: int, seen: list[Seen]) -> Answer:
        """In a thread, with the owner held; everything is undone if the answer is not a good one. Puts into
        `seen` what is to be remembered when it is on disk."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message for one recipient."""

    message: Arrived
    posting: Posting
    placing: Placing
    duplicates: Duplicates | None
    success: Answer
    autocreate: Autocreate | None = None

    @property
    def owner(self) -> Owner:
        return self.posting.recipient.owner

    @property
    def founds(self) -> bool:
        return self.posting.founds

    def carry_out(self, writer: MailWriter, now: int, seen: list[Seen]) -> Answer:
        if self.founds and self.autocreate is not None:
            inbox = writer.mailbox(self.posting.recipient.inbox)
            if inbox is None or inbox.tombstone or inbox.intermediate:
                try:
                    self.autocreate.make(writer, self.posting.recipient.inbox)
                except CyrusSyncError as error:
                    log.error("not autocreated: %s", error.at(user=self.owner.name))
                    return not_made(error)
        placed = self.placing.place(writer, self.posting)
        if isinstance(placed, Answer):
            return placed
        if self.duplicates is not None:
            one = Seen(self.message.message_id, placed.uniqueid, self.message.date)
            if one in seen or self.duplicates.has(one):
                log.info("duplicate: %s [mailbox=%s]", self.message.message_id, placed.name)
                return self.success
            seen.append(one)
        writer.append(placed.name, [(self.message.body, now, "")])
        log.info("delivered: %s [mailbox=%s]", self.message.message_id, placed.name)
        return self.success


class Deliveries:
    """All methods belong to the reactor's thread."""

    def __init__(self, store: MailStore, threads: ThreadRunner, duplicates: Duplicates | None) -> None:
        self._store = store
        self._threads = threads
        self._duplicates = duplicates
        self._waiting: dict[Owner, list[tuple[Item, Deferred[Answer]]]] = {}
        self.writes = 0
        """Transactions, each with its syncs."""

    def __len__(self) -> int:
        """Owners that are written to or wait for it."""
        return len(self._waiting)

    def deliver(self, item: Item) -> Deferred[Answer]:
        """Fires with the answer; never fails."""
        answer: Deferred[Answer] = Deferred()
        waiting = self._waiting.get(item.owner)
        if waiting is not None:
            waiting.append((item, answer))
        else:
            self._waiting[item.owner] = []
            self._write(item.owner, [(item, answer)])
        return answer

    def _write(self, owner: Owner, taken: list[tuple[Item, Deferred[Answer]]]) -> None:
        self.writes += 1
        done = self._threads.run(self._carry_out, owner, [item for item, _ in taken])

        def answered(result: list[Answer] | Failure) -> None:
            waiting = self._waiting[owner]
            if waiting:
                self._waiting[owner] = waiting[MOST_TOGETHER:]
                self._write(owner, waiting[:MOST_TOGETHER])
            else:
                del self._waiting[owner]
            if isinstance(result, Failure):
                log.error("delivery failed [user=%s]: %s", owner, result.getTraceback())
                result = [INTERNAL] * len(taken)
            for (_, answer), one in zip(taken, result, strict=True):
                answer.callback(one)

        done.addBoth(answered)

    # -- in a thread

    def _carry_out(self, owner: Owner, items: Sequence[Item]) -> list[Answer]:
        seen: list[Seen] = []
        create = any(item.founds for item in items)
        try:
            with self._store.write(owner, create=create, timeout=LOCK_SECONDS) as writer:
                answers = [self._one(writer, item, seen) for item in items]
        except CyrusSyncError as error:
            log.error("delivery failed: %s", error.at(user=str(owner)))
            return [of_error(error)] * len(items)
        if seen and self._duplicates is not None:
            self._duplicates.remember(seen)
        return answers

    def _one(self, writer: MailWriter, item: Item, seen: list[Seen]) -> Answer:
        before = len(seen)
        try:
            with writer.savepoint():
                answer = item.carry_out(writer, int(time.time()), seen)
                if not answer.good:
                    raise Refused(answer)  # ends the savepoint
                return answer
        except Refused as refused:
            answer = refused.answer
        except CyrusSyncError as error:
            log.error("delivery failed: %s", error.at(user=str(item.owner)))
            answer = of_error(error)
        del seen[before:]
        return answer
