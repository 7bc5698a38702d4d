"""What a message is given on its way in: Return-Path and Received in front, Message-ID and Date where it has
none. And what keeps it out: a header that is none. As Cyrus's lmtpd does it, but for X-Sieve.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate

from cyrus_sync.lmtp.answers import BAD_HEADER, HAS_8BIT, Refused

MOST = 1024 * 1024
"""Octets in which the header of a message has to end."""

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\n]*\n(?:[ \t][^\n]*\n)*)")
_MUNGED = bytes(range(128)) + b"X" * 128


@dataclass(frozen=True, slots=True)
class Envelope:
    """How a message came here. `client` is the peer as an address, `helo` what it calls itself."""

    sender: str
    recipients: tuple[str, ...]
    helo: str
    client: str
    session: str
    protocol: str = "LMTP"
    """LMTP, or UTF8LMTP (RFC 6531, 4.3); with an S under TLS and an A after a login (RFC 3848)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """`servername` is ours; `program` what stands behind it. What becomes of 8-bit octets in a header."""

    servername: str
    program: str
    reject_8bit: bool = False
    munge_8bit: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """The fields as they are stored. `message_id` and `date` as they stand in it."""

    octets: bytes
    message_id: str
    date: str


def end_of_header(message: bytes | bytearray, looked: int = 0) -> int:
    """Where the empty line behind a header begins, -1 if it has not come. `looked`: so far it has not."""
    if message.startswith(b"\r\n"):
        return 0
    found = message.find(b"\r\n\r\n", max(0, looked - 3))
    return found + 2 if found >= 0 else -1


def arranged(raw: bytes, envelope: Envelope, rules: Rules, now: float) -> Header:
    """`raw`: all fields, with CRLF behind each, without the empty line. `now` in Unix seconds. What comes
    back has none either. Raises `Refused`."""
    kept: list[bytes] = []
    found: dict[bytes, str] = {}
    at = 0
    while at < len(raw):
        field = _FIELD.match(raw, at)
        if field is None:
            raise Refused(BAD_HEADER)
        at = field.end()
        name = field[1].lower()
        if name == b"return-path":
            continue
        kept.append(_taken(field, rules))
        if name in (b"message-id", b"date") and name not in found:
            found[name] = b" ".join(field[2].split()).decode("latin-1")
    message_id = found.get(b"message-id")
    if message_id == "":
        raise Refused(BAD_HEADER)
    date = found.get(b"date")
    today = formatdate(now, usegmt=False, localtime=True)
    if message_id is None:
        message_id = f"<cyrus-sync-lmtp-{envelope.session}@{rules.servername}>"
        kept.append(f"Message-ID: {message_id}\r\n".encode())
    if date is None:
        date = today
        kept.append(f"Date: {date}\r\n".encode())
    front = _return_path(envelope, rules) + _received(envelope, rules, today)
    return Header(front + b"".join(kept), message_id, date)


def _taken(field: re.Match[bytes], rules: Rules) -> bytes:
    whole = field[0]
    if whole.isascii():
        return whole
    if rules.reject_8bit:
        raise Refused(HAS_8BIT)
    return whole.translate(_MUNGED) if rules.munge_8bit else whole


def _return_path(envelope: Envelope, rules: Rules) -> bytes:
    sender = envelope.sender
    if sender and "@" not in sender:
        sender = f"{sender}@{rules.servername}"
    return f"Return-Path: <{sender}>\r\n".encode()


def _received(envelope: Envelope, rules: Rules, today: str) -> bytes:
    return (
        f"Received: from {envelope.helo} ({envelope.client})\r\n"
        f"\tby {rules.servername} ({rules.program}) with {envelope.protocol} id {envelope.session};\r\n"
        f"\t{today}\r\n"
    ).encode()
