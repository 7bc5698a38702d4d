"""Mail of every kind that replication must carry, put into a real Cyrus by the ways mail takes."""

from __future__ import annotations

from .cyrus import Cyrus
from .imap import quote

EIGHT_BIT = (
    "From: Ann <ann@example.org>\r\nTo: alice@example.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    "Grüße, čeština, 日本語\r\n"
).encode()
BINARY = b"Subject: binary\r\nContent-Type: application/octet-stream\r\n\r\n" + bytes(range(1, 256)).replace(
    b"\n", b""
).replace(b"\r", b"")
HEADER_ONLY = b"Subject: nothing below\r\n\r\n"

FOLDERS = (
    "lists",
    "lists/cyrus",
    "lists/cyrus/deep/deeper",
    "empty",
    "with space",
    "dotted.name",
    "Entw&APw-rfe",
    "(round) 'quoted'",
    "#hash $dollar +plus=at@",
)
"""Folders below INBOX: nested, empty, with an intermediate missing, with every awkward character."""

SCRIPT = b'require ["fileinto"];\r\nif header :contains "subject" "list" { fileinto "INBOX/lists"; }\r\n'


def message(subject: str, size: int = 0, sender: str = "ann@example.org") -> bytes:
    """A plain message; `size` pads its body to about so many octets."""
    head = (
        f"From: <{sender}>\r\nTo: <alice@example.org>\r\nDate: Mon, 01 Jan 2024 10:00:00 +0000\r\n"
        f"Message-ID: <{abs(hash(subject)) % 10**12}.{subject.replace(' ', '.')}@example.org>\r\n"
        f"Subject: {subject}\r\n\r\n"
    ).encode()
    line = b"All work and no play makes mail a dull matter.\r\n"
    return head + line * max(1, (size - len(head)) // len(line) + 1)


def fill_everything(cyrus: Cyrus, user: str, other: str) -> None:
    """Give `user` all kinds of folders, messages, flags, annotations, quota, ACL, subscriptions, scripts.

    `other` is a second user, who gets rights on ``lists`` and has seen something there.
    """
    cyrus.create_user(user, other)
    with cyrus.imap() as admin:
        admin.ok("SETQUOTA", f"user/{user}", "(STORAGE 100000 MESSAGE 5000)")
    with cyrus.imap(user) as imap:
        for folder in FOLDERS:
            imap.ok("CREATE", quote(f"INBOX/{folder}"))
        imap.append(
            "INBOX", message("one"), message("two"), flags="\\Seen", date="01-Jan-2024 10:00:00 +0000"
        )
        imap.append("INBOX", EIGHT_BIT, flags="\\Flagged \\Answered $Forwarded Work")
        imap.append("INBOX", BINARY, HEADER_ONLY, flags="\\Draft \\Deleted")
        imap.append("INBOX", message("large", 300_000))
        imap.append("INBOX/lists", message("list one"), message("list two", 3000), flags="NonJunk")
        imap.append("INBOX/lists/cyrus", message("one"), message("one"))
        for folder in FOLDERS[4:]:
            imap.append(f"INBOX/{folder}", message(f"in {folder}".replace('"', "")))
        imap.ok("SETACL", quote("INBOX/lists"), other, "lrswited")
        imap.ok("SETACL", quote("INBOX/lists"), "anyone", "lr")
        imap.ok("SUBSCRIBE", quote("INBOX/lists"))
        imap.ok("SUBSCRIBE", quote("INBOX/with space"))
        imap.set_metadata("INBOX/lists", "/shared/comment", b"shared words")
        imap.set_metadata("INBOX/lists", "/private/comment", b'private "words" \\ with 100 % of it')
        imap.set_metadata("INBOX/lists", "/shared/vendor/cmu/cyrus-imapd/expire", b"90")
        imap.set_metadata("INBOX/empty", "/private/specialuse", b"\\Archive")
        imap.select("INBOX")
        imap.annotate("1", "/comment", "value.priv", b"my note")
        imap.annotate("1", "/comment", "value.shared", "für alle ".encode() * 20)
        imap.annotate("3", "/altsubject", "value.shared", b'a "quoted" one')
        imap.store("1:2", "+FLAGS", "$Label1")
        imap.ok("UID", "COPY", "1:3", quote("INBOX/lists/cyrus"))
        imap.ok("UID", "MOVE", "2", quote("INBOX/lists"))
        imap.select("INBOX/lists/cyrus")
        imap.store("2", "+FLAGS", "\\Deleted")
        imap.ok("UID", "EXPUNGE", "2")
    with cyrus.imap(other) as imap:
        imap.select(f"user/{user}/lists")
        imap.store("1", "+FLAGS", "\\Seen")
        imap.ok("SUBSCRIBE", quote(f"user/{user}/lists"))
    with cyrus.sieve(user) as sieve:
        sieve.put("main", SCRIPT)
        sieve.put("spare", b"keep;\r\n")
        sieve.activate("main")
    cyrus.deliver(message("by lmtp"), user)


def change_everything(cyrus: Cyrus, user: str, other: str) -> None:
    """Change something of every kind that `fill_everything` has given `user`; mail comes to both."""
    with cyrus.imap(user) as imap, cyrus.imap() as admin, cyrus.sieve(user) as sieve:
        imap.select("INBOX")
        imap.store("1", "+FLAGS", "\\Flagged")
        imap.ok("RENAME", "INBOX/lists/cyrus", "INBOX/lists/moved")
        imap.ok("DELETE", "INBOX/dotted.name")
        imap.ok("UNSUBSCRIBE", quote("INBOX/with space"))
        imap.set_metadata("INBOX/lists", "/shared/comment", b"other words")
        admin.ok("SETQUOTA", f"user/{user}", "(STORAGE 4321)")
        sieve.put("main", b"discard;\r\n")
    with cyrus.imap(other) as imap:
        imap.select(f"user/{user}/lists")
        imap.store("1:*", "+FLAGS", "\\Seen")
    cyrus.deliver(message("delivered"), user, other)
