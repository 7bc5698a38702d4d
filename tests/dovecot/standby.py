"""What a standby Dovecot shows of a tree, beside what our store has; and a store that changes at random."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.stores.mailstore import MailStore, MailWriter
from cyrus_sync.mailstore.maildir import names as directories
from tests.dovecot.dovecot import names, view
from tests.dovecot.running import Server
from tests.dovecot.test_dovecot import in_store, subscribed
from tests.mailstore.conftest import Result, Site

FLAGS = ("\\Seen", "\\Flagged", "\\Answered", "\\Draft", "\\Deleted", "$Forwarded", "Work", "k2")


def update(site: Site, server: Server, user: str, *options: str) -> Result:
    """One step of the follower for a user."""
    return site.ok("export", "--update", *options, user, f"{server.home}/home/%u/Maildir")


def shown(folder: tuple[str, ...]) -> str:
    """How a Dovecot with listescape and the separator / calls a folder."""
    name = directories.directory_name(folder)[1:] or "INBOX"
    unescaped = [
        re.sub(r"\\([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), part) for part in name.split(".")
    ]
    return "/".join(unescaped)


def assert_standby(server: Server, site: Site, user: str) -> None:
    """By UID, flags, date and body, folder by folder; and what he has subscribed to."""
    mine = {shown(folder): mailbox for folder, mailbox in in_store(site, user).items()}
    with server.imap(user) as imap:
        theirs = {name: view(imap, name) for name in names(imap)}
        reads = set(names(imap, "LSUB"))
    assert sorted(mine) == sorted(theirs)
    for name, mailbox in mine.items():
        assert theirs[name]._replace(messages=()) == mailbox._replace(messages=()), name
        assert theirs[name].messages == mailbox.messages, name
    assert reads == {shown(folder) for folder in subscribed(site, user)}


@contextmanager
def writing(site: Site, user: str) -> Iterator[MailWriter]:
    store = open_store(site.config())
    try:
        with store.write(Owner("user", user)) as writer:
            yield writer
    finally:
        store.close()


def uids_of(writer: MailWriter, mailbox: str) -> list[int]:
    found = writer.mailbox(mailbox)
    assert found is not None
    return writer.live_uids(found.uniqueid)


def live(writer: MailWriter) -> list[str]:
    return [
        box.name for box in writer.mailboxes() if not box.intermediate and not box.name.startswith("DELETED")
    ]


class Changes:
    """What daemons do to a user's mail, as a seed says."""

    def __init__(self, store: MailStore, user: str, seed: int) -> None:
        self.store = store
        self.owner = Owner("user", user)
        self.top = f"user.{user}"
        self.chance = random.Random(seed)
        self.fresh = iter(range(10**6))

    def some(self, steps: int) -> None:
        for _ in range(steps):
            self.one()

    def one(self) -> None:
        chance = self.chance
        kind = chance.choice(
            ["append"] * 5 + ["flags"] * 5 + ["expunge", "move", "copy", "new", "rename", "drop", "sub"]
        )
        if kind == "rename":
            self._rename()
            return
        with self.store.write(self.owner) as writer:
            boxes = live(writer)
            box = chance.choice(boxes)
            uids = uids_of(writer, box)
            some = chance.sample(uids, min(len(uids), chance.randint(1, 4)))
            if kind == "append":
                number = next(self.fresh)
                raw = b"Subject: %d\r\n\r\n%s\r\n" % (number, b"x" * chance.randint(0, 300))
                flags = " ".join(chance.sample(FLAGS, 2))
                writer.append(box, [(raw, chance.randint(10**9, 17 * 10**8), flags)])
            elif kind == "flags":
                writer.set_flags(box, some, add=chance.sample(FLAGS, 2), remove=chance.sample(FLAGS, 2))
            elif kind == "expunge":
                writer.expunge(box, some)
            elif kind in ("move", "copy") and some:
                target = chance.choice(boxes)
                if target != box:
                    writer.copy(box, some, target, move=kind == "move")
            elif kind == "new":
                writer.create(f"{chance.choice(boxes)}.n{next(self.fresh)}^x")
            elif kind == "drop" and box != self.top and not any(b.startswith(f"{box}.") for b in boxes):
                writer.delete(box)
            elif kind == "sub":
                writer.subscribe(box, chance.random() < 0.7)

    def _rename(self) -> None:
        with self.store.read(self.owner) as reader:
            boxes = [
                b.name for b in reader.mailboxes() if not b.intermediate and not b.name.startswith("DELETED")
            ]
        below = [box for box in boxes if box != self.top]
        if below:
            old = self.chance.choice(below)
            self.store.rename(old, f"{self.top}.r{next(self.fresh)}", log=True, timeout=10)


def indexes(tree: Path) -> list[Path]:
    """Dovecot's own, of all folders."""
    return sorted(tree.rglob("dovecot.index*"))
