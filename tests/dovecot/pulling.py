"""What tests of pulling share: a site that pulls from a server, and what either end says of a user."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cyrus_sync.common.names import Owner, is_deleted
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.stores.mailstore import MailReader, MailStore
from cyrus_sync.pull.pulled import Pulled
from cyrus_sync.pull.puller import Puller
from cyrus_sync.pull.settings import ImapSettings
from tests.dovecot.dovecot import Mailbox, Message, names, view
from tests.dovecot.running import MASTER, MASTER_PASSWORD, Server
from tests.mailstore.conftest import Site

Folders = dict[tuple[str, ...], Mailbox]


class Sidecar:
    """Our store beside a server."""

    def __init__(self, path: Path, settings: ImapSettings, *, delayed: bool = True) -> None:
        self.site = Site(path)
        self.path = path
        self.said: list[str] = []
        self.store: MailStore = open_store(self.site.config())
        self.delayed = delayed
        self.settings = settings
        self.puller = self.fresh()

    def fresh(self, **changes: Any) -> Puller:
        """A puller as the next process has it."""
        self.puller = Puller(
            self.settings,
            self.store,
            directory=self.path / "conf" / "pull",
            delayed=self.delayed,
            say=self.said.append,
            **changes,
        )
        return self.puller

    def pull(self, user: str, **how: Any) -> Pulled:
        """A pull that has to leave nothing out."""
        pulled = self.puller.pull(user, **how)
        assert not pulled.troubles, pulled.troubles
        return pulled

    @contextmanager
    def reader(self, owner: Owner | str) -> Iterator[MailReader]:
        with self.store.read(owner if isinstance(owner, Owner) else Owner("user", owner)) as reader:
            yield reader

    def folders(self, owner: Owner | str) -> Folders:
        """Our mailboxes as a client would see them, by their levels below the INBOX (or the top)."""
        return folders_in(self.store, owner)

    def close(self) -> None:
        self.store.close()


def folders_in(store: MailStore, owner: Owner | str) -> Folders:
    """Mailboxes of a store as a client would see them."""
    found = {}
    top = "" if isinstance(owner, Owner) else f"user.{owner.replace('.', '^')}"
    with store.read(owner if isinstance(owner, Owner) else Owner("user", owner)) as reader:
        for mailbox in reader.mailboxes():
            if mailbox.intermediate or is_deleted(mailbox.name) or "#sieve" in mailbox.name:
                continue
            levels = mailbox.name.removeprefix(top).lstrip(".").split(".")
            messages = tuple(
                Message(
                    one.uid,
                    tuple(sorted(one.flags.lower().split())),
                    one.internaldate,
                    _sha1(reader, one.guid),
                )
                for batch in reader.records(mailbox.uniqueid)
                for one in batch
                if not one.expunged
            )
            found[tuple(level for level in levels if level)] = Mailbox(
                mailbox.uidvalidity, mailbox.last_uid + 1, messages
            )
    return found


def _sha1(reader: MailReader, guid: bytes) -> str:
    """Of the message as it is stored."""
    body = reader.body(guid)
    assert body is not None
    return hashlib.sha1(body.data if isinstance(body.data, bytes) else b"".join(body.data)).hexdigest()


def settings_of(server: Server, **changes: Any) -> ImapSettings:
    """Where a Dovecot of the tests is, and who may read everybody there."""
    wanted: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": server.imap_port,
        "master": MASTER,
        "password": MASTER_PASSWORD,
        "sieve_port": server.sieve_port,
    }
    return ImapSettings(**wanted | changes)


def master_view(server: Server, user: str) -> Folders:
    """What a client (Python's imaplib, as it is) sees at the server."""
    with server.imap(user) as imap:
        found = {}
        for name in names(imap):
            if imap.select(f'"{name}"', readonly=True)[0] != "OK":
                continue  # Dovecot lists a few that are not there, above others
            levels = () if name.upper() == "INBOX" else tuple(name.split(server.setup.separator))
            found[tuple(level.replace(".", "^") for level in levels)] = view(imap, name)
        return found


def same(sidecar: Sidecar, server: Server, user: str) -> None:
    """Both ends show the same."""
    ours, theirs = sidecar.folders(user), master_view(server, user)
    assert ours.keys() == theirs.keys()
    for name, mailbox in theirs.items():
        assert ours[name] == mailbox, name


def message(number: int, size: int = 40, sender: str = "a") -> bytes:
    """One that is like no other."""
    name = f"{sender}{number}@example.org"
    head = f"From: {sender}@example.org\r\nSubject: message {number}\r\nMessage-ID: <{name}>\r\n\r\n"
    return head.encode() + b"x" * size + b"\r\n"


Act = Callable[[], object]
