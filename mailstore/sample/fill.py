"""Put the sample into a store, and around the messages what else an account has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from cyrus_sync.common.model import Seen
from cyrus_sync.common.names import SERVER, Owner, inbox_of
from cyrus_sync.common.stores.mailstore import MailStore, MailWriter
from cyrus_sync.common.utf7 import encode
from cyrus_sync.mailstore.sample.message import SampleMessage
from cyrus_sync.mailstore.sample.workshop import START, USERS, messages

SHARED = "board"
_MANY = 60.0

_FILTER = b"""require ["fileinto", "envelope"];\r
# Newsletters have a folder of their own.\r
if header :contains "list-id" ["speichenpost", "frames"] {\r
    fileinto "INBOX/Newsletters";\r
    stop;\r
}\r
if header :is "x-shop-order" "4100" { keep; }\r
"""
_AWAY = """require ["vacation"];\r
vacation :days 7 :subject "Im Urlaub / en vacances" text:\r
Die Werkstatt ist bis zum 6. Januar geschlossen. Grüße!\r
.\r
;\r
""".encode()


@dataclass
class Filled:
    """What was put into the store."""

    users: list[str]
    mailboxes: int = 0
    messages: int = 0


class _Extra(NamedTuple):
    """What a user has besides mail: limits of the quota root, scripts (the first is active)."""

    quota: dict[str, int]
    scripts: tuple[tuple[str, bytes], ...] = ()


_EXTRAS = {
    "alice": _Extra({"STORAGE": 500_000, "MESSAGE": 10_000}, (("filter", _FILTER), ("Urlaub", _AWAY))),
    "bruno": _Extra({"STORAGE": 100_000}, (("ürlaub & mehr", _AWAY),)),
    "chiara": _Extra({"STORAGE": 200_000, "X-NUM-FOLDERS": 50, "X-ANNOTATION-STORAGE": 100}),
    "daisuke": _Extra({}, (("filter", _FILTER),)),
    "zoe.novak": _Extra({"MESSAGE": 5_000}),
}


def internal_name(userid: str, folder: str) -> str:
    """The internal name of what a user of the sample sees as `folder`."""
    inbox = inbox_of(userid)
    if folder == "INBOX":
        return inbox
    return ".".join((inbox, *(encode(part).replace(".", "^") for part in folder.split("/"))))


def fill(store: MailStore, *, seed: int = 1, users: Iterable[str] = USERS) -> Filled:
    """Make `users` (of `USERS`) with their mail; none of them may exist. Everything is logged."""
    done = Filled(users=list(users))
    by_user: dict[str, list[SampleMessage]] = {userid: [] for userid in done.users}
    for message in messages(seed):
        if message.userid in by_user:
            by_user[message.userid].append(message)
    for userid, mail in by_user.items():
        with store.write(Owner("user", userid), timeout=_MANY) as writer:
            _fill_user(writer, userid, mail, done)
    _fill_shared(store, done)
    return done


def _fill_user(writer: MailWriter, userid: str, mail: list[SampleMessage], done: Filled) -> None:
    inbox = inbox_of(userid)
    writer.create(inbox)
    made = {inbox}
    for folder, group in groupby(
        sorted(mail, key=lambda one: (one.folder != "INBOX", one.folder)), lambda one: one.folder
    ):
        name = internal_name(userid, folder)
        for above in _path(inbox, name):
            if above not in made:
                writer.create(above)
                made.add(above)
        in_order = sorted(group, key=lambda one: one.internaldate)
        writer.append(name, [(one.raw, one.internaldate, one.flags) for one in in_order])
        done.messages += len(in_order)
    for folder in ("Trash", "empty (really)"):
        writer.create(internal_name(userid, folder))
        made.add(internal_name(userid, folder))
    done.mailboxes += len(made)
    _dress(writer, userid, sorted(made))


def _path(inbox: str, name: str) -> list[str]:
    """`name` and what is above it, from the top, below `inbox`."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(len(inbox.split(".")), len(parts) + 1)]


def _dress(writer: MailWriter, userid: str, names: list[str]) -> None:
    """Rights, quotas, subscriptions, annotations, scripts, changes of flags, expunged mail."""
    inbox = inbox_of(userid)
    extra = _EXTRAS[userid]
    for name in names:
        if "Projects" in name:
            for other in USERS:
                if other != userid:
                    writer.set_acl(name, other, "lrswipte")
        if not name.endswith("(really)"):
            writer.subscribe(name)
    writer.subscribe(f"{inbox}.Trash", False)
    if extra.quota:
        writer.set_quota(inbox, extra.quota)
    writer.annotate(inbox, "/comment", "", f"mail of {userid}".encode())
    writer.annotate(f"{inbox}.Trash", "/vendor/cmu/cyrus-imapd/expire", "", b"30")
    writer.annotate(f"{inbox}.Trash", "/specialuse", userid, b"\\Trash")
    writer.annotate(inbox, "/comment", userid, "gehört mir – à moi".encode(), uid=1)
    writer.annotate(inbox, "/altsubject", "", b'quotes " backslash \\ and \x00\xff octets', uid=2)
    for name, content in extra.scripts:
        writer.put_script(name, content)
    if extra.scripts:
        writer.activate_script(extra.scripts[0][0])
    writer.set_flags(inbox, [1, 3], add=["\\Flagged", "Follow-up"], remove=["\\Seen"])
    writer.expunge(inbox, [4])
    writer.copy(inbox, [1], f"{inbox}.Trash")
    writer.copy(inbox, [2], f"{inbox}.empty (really)", move=True)
    writer.expunge(f"{inbox}.empty (really)", [1])


def _fill_shared(store: MailStore, done: Filled) -> None:
    """A shared mailbox that everybody may read and post to, and what one user has seen in it."""
    owner = Owner("shared", SHARED)
    if store.exists(owner):
        return
    with store.write(owner, timeout=_MANY) as writer:
        writer.create(SHARED, acl="".join(f"{userid}\tlrswipted\t" for userid in done.users))
        minutes = writer.create(f"{SHARED}.Minutes 2026")
        for month in range(1, 4):
            raw = (
                f"From: Alice Ferrer <alice@workshop.example>\r\nSubject: Minutes of month {month}\r\n"
                f"Message-ID: <minutes{month}@workshop.example>\r\n\r\nWe met, we talked, we had tea.\r\n"
            ).encode()
            writer.append(minutes.name, [(raw, START + month * 2_600_000, "")])
        done.mailboxes += 2
        done.messages += 3
    for userid in done.users[:1]:
        with store.write(Owner("user", userid), timeout=_MANY) as writer:
            writer.subscribe(minutes.name)
            writer.set_seen(Seen(minutes.uniqueid, START + 8_000_000, 3, START + 7_900_000, "1,3"))
    with store.write(SERVER, timeout=_MANY) as writer:
        writer.annotate("", "/motd", "", "Werkstatt geschlossen 24.12. – 6.1.".encode())
