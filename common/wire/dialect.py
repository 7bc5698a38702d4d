"""What older replicas do not understand, and how to speak so that they do.

A server names its release in the last line of its greeting (``replica.example Cyrus sync server 3.0.8``, an
imapd ``replica.example Cyrus IMAP 3.0.8``). One
that names none, or no Cyrus at all, is spoken to as the present ones are. Keys that a peer does not know it
skips, so only what would be misunderstood is left out:

==========  ==================================================================================
before 3.6  the letter ``e`` of plain mail in MBOXTYPE, which was not written then
before 3.6  GET UNIQUEIDS: an id that it has not makes it read a name that is not there, and crash
before 3.2  SYNC_CRC_ANNOT and SINCE_CRC_ANNOT: the annotation CRC began at 0, so that it never
            agrees with ours; mailboxes are compared without it, in both directions
before 3.2  savedate and createdmodseq, which would be kept as annotations that anybody can see
before 3.2  intermediate and deleted names in APPLY MAILBOX
before 3.0  the LOCAL\\_ form of a command
from 3.13   SYNC_CRC_ANNOT and SINCE_CRC_ANNOT again: it counts conversation ids otherwise than
            all before it (`common.protocol.crc`)
==========  ==================================================================================

>>> Dialect.of_banner("replica.example Cyrus sync server v2.4.17-Debian").release
(2, 4)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.model import MailboxState, MailboxUpdate, Record, RecordSource, UserState

PRESENT = (99, 0)
"""For a server that does not say."""

_WIDE_IDS = (3, 13)
"""The development branch."""

_RELEASE = re.compile(r"\bCyrus (?:sync server|IMAP) v?([0-9]{1,3})\.([0-9]{1,3})(?![0-9])")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to speak to a replica of this release (major, minor)."""

    release: tuple[int, int] = PRESENT

    @classmethod
    def of_banner(cls, banner: str) -> Dialect:
        """From what follows ``* OK`` in the greeting."""
        found = _RELEASE.search(banner)
        return cls((int(found[1]), int(found[2]))) if found else cls()

    @property
    def local_verbs(self) -> bool:
        """Whether it knows LOCAL_MAILBOX and its like."""
        return self.release >= (3, 0)

    @property
    def annotation_crc(self) -> bool:
        """Whether its annotation CRC is counted as ours."""
        return (3, 2) <= self.release < _WIDE_IDS or self.release == PRESENT

    @property
    def asks_by_id(self) -> bool:
        """Whether it may be asked for mailboxes by uniqueid."""
        return self.release >= (3, 6)

    @property
    def virtual_dates(self) -> bool:
        """Whether it has savedate and createdmodseq."""
        return self.release >= (3, 2)

    def takes(self, update: MailboxUpdate) -> bool:
        """Whether it knows what to do with such a mailbox at all."""
        return self.release >= (3, 2) or not (update.state.intermediate or update.state.tombstone)

    def outgoing(self, update: MailboxUpdate) -> MailboxUpdate:
        """`update` as it can take it."""
        if self.release >= (3, 6) and self.annotation_crc:
            return update
        state, records, since = update.state, update.records, update.since
        if "e" in state.mbtype and self.release < (3, 6):
            state = replace(state, mbtype=state.mbtype.replace("e", ""))
        if not self.annotation_crc:
            state = replace(state, sync_crc_annot=None)
            since = since and replace(since, crc_annot=0)
        if not self.virtual_dates:
            records = _WithoutNewFields(records)
        return replace(update, state=state, records=records, since=since)

    def incoming(self, state: MailboxState) -> MailboxState:
        """A ``* MAILBOX`` answer: what cannot be compared counts as not known."""
        return state if self.annotation_crc else replace(state, sync_crc_annot=None)

    def incoming_all(self, states: Sequence[MailboxState]) -> list[MailboxState]:
        return [self.incoming(state) for state in states]

    def incoming_user(self, user: UserState) -> UserState:
        return replace(user, mailboxes=tuple(self.incoming_all(user.mailboxes)))

    def incoming_full(self, answer: tuple[MailboxState, RecordSource]) -> tuple[MailboxState, RecordSource]:
        return self.incoming(answer[0]), answer[1]


class _WithoutNewFields:
    """Records without savedate and createdmodseq (a `RecordSource`)."""

    def __init__(self, records: RecordSource) -> None:
        self._records = records

    def __iter__(self) -> Iterator[Sequence[Record]]:
        for batch in self._records:
            yield [record._replace(savedate=0, createdmodseq=0) for record in batch]
