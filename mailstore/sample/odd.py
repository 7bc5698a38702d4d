"""Sample messages that are odd, but come by every mail server: broken, binary, tiny, huge, deep."""

from __future__ import annotations

import random
from collections.abc import Iterator

from cyrus_sync.mailstore.sample import attachments
from cyrus_sync.mailstore.sample.message import DOMAIN, Letter, SampleMessage, build

_DAY = 86_400


def odd_mail(rng: random.Random, start: int) -> Iterator[SampleMessage]:
    """About twenty of them."""
    for number, (folder, raw, flags) in enumerate(_all(rng, start)):
        yield SampleMessage("bruno", folder, raw, start + number * _DAY, flags)
    yield from _large(start)


def _all(rng: random.Random, start: int) -> Iterator[tuple[str, bytes, str]]:
    yield "Odd", b"Subject: headers only\r\n\r\n", ""
    yield "Odd", b"\r\nno headers, a body only\r\n", ""
    yield "Odd", b"x", "\\Seen"
    yield (
        "Odd",
        "Subject: Grüße ohne Kodierung\r\nFrom: jürgen@kunde.example\r\n\r\nhallo\r\n".encode("latin-1"),
        "",
    )
    yield "Odd", "Subject: raw UTF-8 ☃\r\n\r\nsnow 雪 снег\r\n".encode(), "\\Flagged"
    yield "Odd", b"Subject: bare line feeds and carriage returns\r\n\r\none\ntwo\rthree\r\n", ""
    yield "Odd", b"Subject: " + b"a very long subject " * 60 + b"\r\n\r\n.\r\n..\r\nFrom here on\r\n", ""
    yield "Odd", b"Subject: one line\r\n\r\n" + b"x" * 20_000, ""
    yield "Odd", _binary(), "$binary"
    yield "Odd", _unclosed(), ""
    yield "Odd", _deep(12), "\\Answered"
    yield "Odd", _unknown_charset(), ""
    yield "Odd", b"".join(b"X-Header-%d: %s\r\n" % (n, b"v" * 60) for n in range(300)) + b"\r\nmany\r\n", ""
    yield "Odd", _same_part_twice(rng, start), "\\Seen"
    yield "INBOX", b"From: <>\r\nTo: undisclosed-recipients:;\r\nSubject:\r\n\r\n", "Junk"
    yield "INBOX", b'Subject: quotes " and \\ and {5+} and %{x}\r\n\r\n{3}\r\nabc\r\nOK done\r\n', ""


def _binary() -> bytes:
    head = (
        b"Subject: every octet but NUL\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Transfer-Encoding: binary\r\n\r\n"
    )
    return head + bytes(range(1, 256)) * 4


def _unclosed() -> bytes:
    return (
        b"Subject: a part that never ends\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;"
        b' boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: text/plain\r\n\r\nfirst\r\n--b\r\nContent-Type: image/gif\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nR0lGODlhAQABAIAAAP"
    )


def _deep(levels: int) -> bytes:
    body = b"Content-Type: text/plain\r\n\r\nat the bottom\r\n"
    for level in range(levels):
        body = (
            b'Content-Type: multipart/mixed; boundary="level%d"\r\n\r\n--level%d\r\n%s\r\n--level%d--\r\n'
            % (level, level, body, level)
        )
    return b"Subject: boxes in boxes\r\nMIME-Version: 1.0\r\n" + body


def _unknown_charset() -> bytes:
    return (
        b"Subject: =?x-unknown?q?caf=E9?=\r\nMIME-Version: 1.0\r\nContent-Type: text/plain;"
        b" charset=x-unknown\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\ncaf\xe9\r\n"
    )


def _same_part_twice(rng: random.Random, start: int) -> bytes:
    picture = attachments.make("png", rng.randint(1, 9))
    letter = Letter(
        "alice", ["bruno"], "twice the same picture", "see below\n", start, attachments=[picture, picture]
    )
    return build(letter)


def _large(start: int) -> Iterator[SampleMessage]:
    for number in range(3):
        letter = Letter(
            sender="Hélène Garçon <helene@client.example>",
            recipients=["bruno", "chiara"],
            subject=f"Le bruit, enregistrement {number + 1}",
            text="Écoutez vous-même !\n",
            when=start + (20 + number) * _DAY,
            attachments=[attachments.make("noise", number)],
        )
        raw = build(letter)
        yield SampleMessage("bruno", "Clients", raw, letter.when, "\\Seen")
        yield SampleMessage("chiara", "INBOX", raw, letter.when + 3, "")
    letter = Letter(
        sender=f"Web shop <shop@{DOMAIN}>",
        recipients=["daisuke"],
        subject="Access log of the year",
        text="".join(
            f"10.0.{n % 250}.{n % 7} GET /shop/{n * 37 % 991} 200 {n % 50_000}\n" for n in range(9_000)
        ),
        when=start + 25 * _DAY,
        charset="us-ascii",
        attachments=[attachments.make("zip", 1)],
    )
    yield SampleMessage("daisuke", "Archive", build(letter), letter.when, "\\Seen")
