"""The journal (`lmtp_journal`): every message that is delivered, once, with its envelope.

The entry is the message as it is stored for its recipients, behind fields that say what its own header does
not: from whom and to whom it was sent, blind copies included, and which client brought it::

    X-Envelope-From: <joe@example.org>
    X-Envelope-To: <alice@example.net>,
    \t<archive+2026@example.net>
    X-Envelope-Client: mx.example.net ([192.0.2.1])

They stand above the Return-Path; what a sender puts below means nothing. An entry is on disk *before* anybody
is delivered to, so nothing is in a mailbox that is not in the journal. Where it cannot be written, nobody is
delivered to. Who is refused afterwards (a quota that was used up in between) is named in the entry
all the same.

The name may have ``%Y``, ``%m`` and ``%d`` in it (the day in UTC), so that a journal can be dropped month by
month; a mailbox that is not there is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.names import BadName, Owner, inbox_of, is_inbox, owner_of, parent_of
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.stores.frames import body_of
from cyrus_sync.common.stores.mailstore import MailWriter
from cyrus_sync.lmtp.answers import Answer
from cyrus_sync.lmtp.duplicates import Seen
from cyrus_sync.lmtp.header import Envelope

NOBODY = ""
"""The ACL of a journal's mailboxes: administrators alone read it."""


@dataclass(frozen=True, slots=True)
class Journal:
    """Where entries go. `pattern` is a mailbox as people type it."""

    pattern: str
    namespace: Namespace

    @classmethod
    def from_config(cls, config: Config) -> Self | None:
        """None where imapd.conf wants none. Raises `ConfigError`."""
        pattern = config.string("lmtp_journal")
        if not pattern:
            return None
        made = cls(pattern, Namespace.from_config(config))
        try:
            made.mailbox(0)
        except BadName as error:
            raise ConfigError(f"{config.where('lmtp_journal')}{error.message}") from None
        return made

    def mailbox(self, now: float) -> str:
        """The internal name for this day. Raises `BadName`."""
        today = datetime.fromtimestamp(now, UTC)
        name = self.pattern
        for sign in ("%Y", "%m", "%d"):
            name = name.replace(sign, today.strftime(sign))
        if "%" in name:
            raise BadName(f"{self.pattern}: only %Y, %m and %d are known behind a %")
        return self.namespace.internal(name)

    def entry(self, message: Iterable[bytes], envelope: Envelope, now: float, success: Answer) -> Entry:
        """The entry of a message whose octets are `message`, which may be iterated again. Reads all of it."""
        return Entry(self.mailbox(now), _entry_body(message, envelope), success)


def envelope_fields(envelope: Envelope) -> bytes:
    """What stands in front of an entry, with CRLF behind each field."""
    recipients = ",\r\n\t".join(f"<{address}>" for address in envelope.recipients)
    return (
        f"X-Envelope-From: <{envelope.sender}>\r\n"
        f"X-Envelope-To: {recipients}\r\n"
        f"X-Envelope-Client: {envelope.helo} ({envelope.client})\r\n"
    ).encode("utf-8", "replace")


class _Behind:
    """Pieces behind `front`; may be iterated as often as they."""

    def __init__(self, front: bytes, pieces: Iterable[bytes]) -> None:
        self._front = front
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield self._front
        yield from self._pieces


def _entry_body(message: Iterable[bytes], envelope: Envelope) -> bytes | MessageBody:
    return body_of(_Behind(envelope_fields(envelope), message))


@dataclass(frozen=True, slots=True)
class Entry:
    """A message for the journal (`deliveries.Item`)."""

    mailbox: str
    body: bytes | MessageBody
    success: Answer
    founds: bool = True

    @property
    def owner(self) -> Owner:
        return owner_of(self.mailbox)

    def carry_out(self, writer: MailWriter, now: int, seen: list[Seen]) -> Answer:
        found = writer.mailbox(self.mailbox)
        if found is None or found.tombstone or found.intermediate:
            self._make(writer)
        writer.append(self.mailbox, [(self.body, now, "")])
        return self.success

    def _make(self, writer: MailWriter) -> None:
        """The mailbox; for a user his INBOX before it, for a shared one those above it."""
        if self.owner.kind == "user":
            inbox = inbox_of(self.owner.name)
            if not is_inbox(self.mailbox) and writer.mailbox(inbox) is None:
                writer.create(inbox)
            writer.create(self.mailbox)
            return
        above: list[str] = []
        name: str | None = self.mailbox
        while name:
            found = writer.mailbox(name)
            if found is not None and not found.tombstone and not found.intermediate:
                break
            above.append(name)
            name = parent_of(name)
        for missing in reversed(above):
            writer.create(missing, acl=NOBODY)
