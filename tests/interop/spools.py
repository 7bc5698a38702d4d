"""A mailbox of a real Cyrus with everything in it that an index can hold, and where its files are.

`python -m tests.interop.spools` makes the spools of tests/data/spool/mailboxes anew, one for each version of
cyrus.index that Debian's releases can write, with what the server itself says of it (GET FULLMAILBOX)
beside.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from cyrus_sync.common.utf7 import decode
from cyrus_sync.spool.mailbox import MailboxFiles

from .csync import Csync
from .cyrus import Cyrus
from .fill import BINARY, EIGHT_BIT, HEADER_ONLY, message
from .releases import RELEASES, chosen

DATA = Path(__file__).parents[1] / "data" / "spool" / "mailboxes"

SETTINGS = {
    "archive_enabled": "yes",
    "archivepartition-default": "{root}/archive",
    "expunge_mode": "delayed",
    "conversations": "yes",
}
"""Of the Cyrus whose mailbox `fill_mailbox` fills."""

KEYWORDS = [f"Keyword{number}" for number in range(40)]
"""More than one word of a record's user flags holds."""

SPOOLS = {
    **{f"v{version}": (version, "3.2", False) for version in (12, 13, 14, 15, 16)},
    "v16-moved-keywords": (16, "3.2", True),
    "v17": (17, "3.6", True),
    "v18": (18, "3.12", True),
    "v19": (19, "3.10", True),
}
"""Name to version of the index, the release that makes it, and `removing_keywords`. The newest version of a
release is made as it comes, others by ``reconstruct -V``; 18 was never a release's own."""


def fill_mailbox(cyrus: Cyrus, user: str, *, removing_keywords: bool = True) -> None:
    """Give `user` an INBOX with flags, keywords of which one is no longer used, annotations, messages in
    the archive, expunged, cleaned up and brought back."""
    cyrus.create_user(user)
    with cyrus.imap() as admin:
        admin.ok("SETQUOTA", f"user/{user}", "(STORAGE 100000)")
    with cyrus.imap(user) as imap:
        imap.append("INBOX", message("first"), flags="Forgotten", date="01-Jan-2024 10:00:00 +0000")
        imap.append("INBOX", EIGHT_BIT, flags=" ".join(KEYWORDS), date="29-Feb-2004 23:59:59 -0730")
        imap.append("INBOX", BINARY, HEADER_ONLY, flags="\\Draft \\Flagged $Forwarded Keyword39")
        imap.append("INBOX", message("gone for good"), message("gone"), message("back again"))
        imap.append("INBOX", message("second"), message("third"), flags="\\Seen \\Answered \\Deleted")
        imap.select("INBOX")
        imap.annotate("1", "/comment", "value.priv", b"my own note")
        imap.annotate("1", "/comment", "value.shared", b"a note for all")
        imap.annotate("2", "/altsubject", "value.shared", "größer".encode() * 30)
        imap.annotate("6", "/comment", "value.shared", b"of one that goes")
        imap.annotate("8", "/comment", "value.shared", b"soon removed")
        imap.ok("UID", "STORE", "8", "ANNOTATION", "(/comment (value.shared NIL))")
        imap.store("1", "-FLAGS", "Forgotten")
        imap.store("5", "+FLAGS", "\\Deleted")
        imap.ok("UID", "EXPUNGE", "5")
    cyrus.tool("cyr_expire", "-E", "1", "-X", "0").check()
    if removing_keywords:
        cyrus.tool("cyr_expire", "-t", "-E", "1").check()
    with cyrus.imap(user) as imap:
        imap.select("INBOX")
        imap.store("6:7", "+FLAGS", "\\Deleted")
        imap.ok("UID", "EXPUNGE", "6:7")
    cyrus.tool("unexpunge", "-u", f"user/{user}", "7").check()
    cyrus.tool("cyr_expire", "-E", "1", "-A", "0").check()


def change_mailbox(cyrus: Cyrus, user: str) -> None:
    """A few changes that leave their marks in the index in place, whatever version it has."""
    with cyrus.imap(user) as imap:
        imap.append("INBOX", message("late"), flags="Late \\Seen")
        imap.select("INBOX")
        imap.store("1", "+FLAGS", "\\Seen Keyword3")
        imap.annotate("9", "/comment", "value.shared", b"late, too")
        imap.store("4", "+FLAGS", "\\Deleted")
        imap.ok("UID", "EXPUNGE", "4")


def files_of(cyrus: Cyrus, mailbox: str) -> MailboxFiles:
    """Where Cyrus itself says that the files of a mailbox are, named as in ``user/alice/lists``."""
    if cyrus.release.number >= (3, 10):
        mailbox = decode(mailbox)
    paths = [cyrus.tool("mbpath", flag, mailbox).check().out.strip() for flag in ("-D", "-M", "-A")]
    spool, meta, archive = (Path(text.splitlines()[-1].split(": ")[-1]) for text in paths)
    return MailboxFiles(
        index=meta / "cyrus.index",
        header=meta / "cyrus.header",
        annotations=meta / "cyrus.annotations",
        messages=spool,
        archive=archive,
    )


def told(cyrus: Cyrus, mailbox: str) -> dict[str, Any]:
    """What the server says of a mailbox, named as in ``user.alice``: FULLMAILBOX, as JSON can hold it."""
    with Csync(cyrus.csync) as csync:
        ((_, full),) = csync.get(f"FULLMAILBOX {mailbox}")
    found: dict[str, Any] = plain(full)
    return found


def plain(value: Any) -> Any:
    """Octets as text, of which each character is one octet."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def make(name: str) -> None:
    """One of `SPOOLS`."""
    version, release, removing_keywords = SPOOLS[name]
    target = DATA / name
    with chosen(RELEASES[release]), Cyrus.running("golden", SETTINGS) as cyrus:
        fill_mailbox(cyrus, "alice", removing_keywords=removing_keywords)
        cyrus.tool("reconstruct", "-V", str(version), "user/alice").check()
        change_mailbox(cyrus, "alice")
        files = files_of(cyrus, "user/alice")
        shutil.rmtree(target, ignore_errors=True)
        (target / "archive").mkdir(parents=True)
        for path in (files.index, files.header, files.annotations, *files.messages.glob("[0-9]*.")):
            shutil.copyfile(path, target / path.name)
        for path in (files.archive or Path()).glob("[0-9]*."):
            shutil.copyfile(path, target / "archive" / path.name)
        document = {"release": cyrus.release.version, "mailbox": told(cyrus, "user.alice")}
        (target / "told.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    print(f"{target}: index {int.from_bytes((target / 'cyrus.index').read_bytes()[8:12], 'big')}")


if __name__ == "__main__":
    for made in sys.argv[1:] or SPOOLS:
        make(made)
