"""Into which mailbox of an owner a message goes, or why into none: the rules of Cyrus's lmtpd.

A folder must be there, and ``anyone`` (or who submitted the message) must have the right to post to it; else
the message goes to the INBOX, to which everybody may post. A shared mailbox has nothing to fall back on. A
quota that is used up keeps a message out; one message may exceed it, unless `lmtp_strict_quota` is set.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from cyrus_sync.common.acl import LOOKUP, POST, rights
from cyrus_sync.common.config import Config
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import owner_user
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.common.stores.quotas import excess
from cyrus_sync.lmtp.answers import FULL, FULL_FOR_GOOD, NO_MAIL_MAILBOX, NOT_PERMITTED, UNKNOWN, Answer
from cyrus_sync.lmtp.recipients import Recipient

_BLANKS = str.maketrans("-_", "  ")


@dataclass(frozen=True, slots=True)
class Posting:
    """What is asked for a recipient. `login` is who submitted the message, "" for nobody that is known;
    `founds`: the user comes into being with it."""

    recipient: Recipient
    octets: int
    login: str = ""
    ignore_quota: bool = False
    founds: bool = False


@dataclass(frozen=True, slots=True)
class Placing:
    """The rules as imapd.conf has them."""

    fuzzy: bool = False
    strict_quota: bool = False
    full_for_good: bool = False

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(
            fuzzy=config.switch("lmtp_fuzzy_mailbox_match"),
            strict_quota=config.switch("lmtp_strict_quota"),
            full_for_good=config.switch("lmtp_over_quota_perm_failure"),
        )

    def at_rcpt(self, reader: MailReader, posting: Posting) -> Answer | None:
        """Why a recipient is refused before the message is there, None if he is not. A folder is looked for
        when the message comes: there is the INBOX in its place."""
        recipient = posting.recipient
        placed = self._may_post(reader, recipient.inbox or self._shared(reader, recipient), posting)
        return placed if isinstance(placed, Answer) else None

    def place(self, reader: MailReader, posting: Posting) -> MailboxState | Answer:
        """The mailbox that takes the message, or the answer."""
        recipient = posting.recipient
        if not recipient.inbox:
            return self._may_post(reader, self._shared(reader, recipient), posting)
        if recipient.detail:
            placed = self._may_post(reader, recipient.mailbox, posting)
            if placed is UNKNOWN and self.fuzzy:
                nearest = _nearest(recipient.mailbox, recipient.inbox, reader.mailboxes())
                placed = self._may_post(reader, nearest, posting) if nearest else placed
            if isinstance(placed, MailboxState):
                return placed
        return self._may_post(reader, recipient.inbox, posting)

    def _shared(self, reader: MailReader, recipient: Recipient) -> str:
        if not self.fuzzy or reader.mailbox(recipient.mailbox) is not None:
            return recipient.mailbox
        return _nearest(recipient.mailbox, "", reader.mailboxes()) or recipient.mailbox

    def _may_post(self, reader: MailReader, name: str, posting: Posting) -> MailboxState | Answer:
        box = reader.mailbox(name)
        if box is None or box.tombstone or box.intermediate:
            return UNKNOWN
        if box.mbtype.strip("e"):
            return NO_MAIL_MAILBOX
        if name != posting.recipient.inbox:
            login = posting.login
            owner = bool(login) and owner_user(name) == login
            has = rights(box.acl, login or "anonymous", owner=owner)
            if POST not in has:
                return NOT_PERMITTED if LOOKUP in has else UNKNOWN
        if not posting.ignore_quota:
            octets, messages = (posting.octets, 1) if self.strict_quota else (0, 0)
            if excess(reader, name, octets=octets, messages=messages)[0]:
                return FULL_FOR_GOOD if self.full_for_good else FULL
        return box


def _nearest(wanted: str, inbox: str, boxes: Iterable[MailboxState]) -> str:
    """The mailbox whose levels are those of `wanted`, as far as possible; letters count as equal in either
    case, and so do blanks, ``-`` and ``_``. "" where not even the first one is there."""
    levels = _levels(wanted, inbox)
    best, depth = "", 0
    for box in boxes:
        if box.tombstone or (inbox and not box.name.startswith(f"{inbox}.")):
            continue
        have = _levels(box.name, inbox)
        if len(have) > depth and levels[: len(have)] == have:
            best, depth = box.name, len(have)
    return best


def _levels(name: str, inbox: str) -> list[str]:
    below = name[len(inbox) + 1 :] if inbox else name
    return [level.lower().translate(_BLANKS) for level in below.split(".")]
