"""Build one sample message as octets, the same ones every time.

Python's `email` package makes the header fields and encodings; boundaries, dates and Message-IDs are
given, so that nothing depends on the clock or on chance.
"""

from __future__ import annotations

import email.policy
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import NamedTuple

DOMAIN = "workshop.example"
PEOPLE = {
    "alice": "Alice Ferrer",
    "bruno": "Bruno Okafor",
    "chiara": "Chiara Più",
    "daisuke": "Daisuke Hori",
    "zoe.novak": "Zoë Novák",
}
_POLICY = email.policy.SMTP.clone(max_line_length=78)


class SampleMessage(NamedTuple):
    """A message in a mailbox. `folder` is what the user sees ("INBOX", "Projects/Cargo bike")."""

    userid: str
    folder: str
    raw: bytes
    internaldate: int
    flags: str


class Attachment(NamedTuple):
    """`kind` is the media type; `data` for message/rfc822 is a whole message."""

    kind: str
    filename: str
    data: bytes


class Letter(NamedTuple):
    """What a message says, before it is built."""

    sender: str
    recipients: Sequence[str]
    subject: str
    text: str
    when: int
    charset: str = "utf-8"
    html: str = ""
    attachments: Sequence[Attachment] = ()
    references: Sequence[str] = ()
    extra: Sequence[tuple[str, str]] = ()


def address(who: str) -> Address:
    """Of a userid of the workshop, or of ``Name <a@b>``."""
    if who in PEOPLE:
        return Address(PEOPLE[who], who, DOMAIN)
    name, spec = parseaddr(who)
    user, _, domain = spec.partition("@")
    return Address(name, user, domain)


def message_id(letter: Letter) -> str:
    """Made from what the letter says."""
    told = f"{letter.sender}|{letter.subject}|{letter.when}|{letter.text}"
    return f"<{hashlib.sha1(told.encode()).hexdigest()[:20]}@{address(letter.sender).domain}>"


def build(letter: Letter) -> bytes:
    """The message as octets with CRLF line ends."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = address(letter.sender)
    message["To"] = [address(who) for who in letter.recipients]
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(datetime.fromtimestamp(letter.when, UTC))
    message["Message-ID"] = message_id(letter)
    if letter.references:
        message["In-Reply-To"] = letter.references[-1]
        message["References"] = " ".join(letter.references)
    for name, value in letter.extra:
        message[name] = value
    message.set_content(letter.text, charset=letter.charset, cte=_encoding(letter))
    if letter.html:
        message.add_alternative(letter.html, subtype="html", cte="quoted-printable")
    for attachment in letter.attachments:
        _attach(message, attachment)
    _name_boundaries(message, hashlib.sha1(message_id(letter).encode()).hexdigest())
    return re.sub(rb"(?<!\r)\n", b"\r\n", message.as_bytes())


def _encoding(letter: Letter) -> str:
    if letter.charset in ("us-ascii", "iso-2022-jp"):
        return "7bit"
    return "8bit" if letter.charset != "utf-8" or letter.when % 2 else "quoted-printable"


def _attach(message: EmailMessage, attachment: Attachment) -> None:
    main, sub = attachment.kind.split("/")
    if attachment.kind == "message/rfc822":
        inner = email.message_from_bytes(attachment.data, policy=_POLICY)
        assert isinstance(inner, EmailMessage)
        message.add_attachment(inner, filename=attachment.filename)
    elif main == "text":
        message.add_attachment(attachment.data.decode(), subtype=sub, filename=attachment.filename)
    else:
        message.add_attachment(attachment.data, maintype=main, subtype=sub, filename=attachment.filename)


def _name_boundaries(message: EmailMessage, seed: str) -> None:
    for number, part in enumerate(message.walk()):
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            part.set_boundary(f"=_{seed[:20]}_{number}")
