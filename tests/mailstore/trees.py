"""What a tree says, read by names alone; and what our store has of the same user."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.stores.mailstore import MailWriter
from cyrus_sync.mailstore.maildir import names
from cyrus_sync.mailstore.maildir.letters import LETTERS
from tests.mailstore.conftest import Site


class Shown(NamedTuple):
    """A folder; `messages` are (UID, flags in lower case, date, SHA-1), ascending."""

    uidvalidity: int
    next_uid: int
    messages: list[tuple[int, frozenset[str], int, str]]


def tree(root: Path) -> dict[str, Shown]:
    """Folders by directory, "" for the INBOX. Files that the uidlist does not know are an error."""
    tops = [root, *(path for path in root.iterdir() if path.name.startswith("."))]
    return {"" if top == root else top.name: _folder(top) for top in tops}


def _folder(top: Path) -> Shown:
    head, *lines = (top / "dovecot-uidlist").read_text().splitlines()
    words = {word[0]: word[1:] for word in head.split()[1:]}
    keywords = {}
    if (top / "dovecot-keywords").exists():
        for line in (top / "dovecot-keywords").read_text().splitlines():
            number, word = line.split()
            keywords[chr(ord("a") + int(number))] = word
    uids = {}
    last = 0
    for line in lines:
        uid, _, name = line.partition(" :")
        number = int(uid.split()[0])
        assert number > last, lines
        last = number
        uids[name] = number
    assert not list((top / "new").iterdir())
    found = []
    for path in (top / "cur").iterdir():
        base, _, letters = path.name.partition(":2,")
        flags = frozenset((keywords.get(one) or LETTERS[one]).lower() for one in letters)
        sha = hashlib.sha1(path.read_bytes()).hexdigest()
        found.append((uids[base], flags, int(path.stat().st_mtime), sha))
    return Shown(int(words["V"]), max(int(words["N"]), last + 1), sorted(found))


def stored(site: Site, user: str) -> dict[str, Shown]:
    """The same of our store."""
    store = open_store(site.config(), readonly=True)
    top = f"user.{user}"
    found = {}
    try:
        with store.read(Owner("user", user)) as reader:
            for box in reader.mailboxes():
                if box.intermediate or box.name.startswith("DELETED"):
                    continue
                below = box.name[len(top) + 1 :]
                messages = [
                    (r.uid, frozenset(r.flags.lower().split()), r.internaldate, r.guid.hex())
                    for batch in reader.records(box.uniqueid)
                    for r in batch
                    if not r.expunged
                ]
                directory = names.directory_name(tuple(below.split(".")) if below else ())
                found[directory] = Shown(box.uidvalidity, box.last_uid + 1, messages)
    finally:
        store.close()
    return found


@contextmanager
def writing(site: Site, user: str) -> Iterator[MailWriter]:
    """The user's mail as a daemon changes it."""
    store = open_store(site.config())
    try:
        with store.write(Owner("user", user)) as writer:
            yield writer
    finally:
        store.close()
