"""Servers of a family with the commands that their administrator types, each with an address of its own."""

from __future__ import annotations

import io
import itertools
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.mailstore import cli as mailstore
from cyrus_sync.multisite import multitool
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.member import directory_of
from cyrus_sync.shipping import cli as shipping_server
from cyrus_sync.shipping import site as shipping_site
from cyrus_sync.shipping.service import serve
from tests.forking import fork
from tests.multisite.world import Site
from tests.shipping.kit import KEY


@dataclass
class Server(Site):
    """A site whose host is `address`; `port` is the contact port that all have in common."""

    address: str = "127.0.0.1"
    port: int = 3710
    pid: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        config = self.directory / "imapd.conf"
        config.write_text(
            config.read_text()
            + f"multisite_host: {self.address} {self.name}\n"
            + f"multisite_listen: {self.address}\n"
            + f"multisite_contact_port: {self.port}\n"
            + f"multisite_key_file: {self.directory}/key\n"
            + f"multisite_shipping_conf: {self.directory}/shipping.conf\n"
            + "unixhierarchysep: yes\n"
        )
        (self.directory / "key").write_text(KEY)
        (self.directory / "key").chmod(0o600)
        self.shipping_conf()

    def shipping_conf(self, *entries: str) -> None:
        """What stands in shipping.conf."""
        notifier = self.directory / "notify"
        notifier.write_text(
            '#!/bin/sh\ns="$2"; f="$4"; shift 4\n'
            f'{{ echo "To: $*"; echo "Subject: $s"; cat "$f"; }} >> {self.directory}/mails\n'
        )
        notifier.chmod(0o755)
        lines = [f"NOTIFICATION-PROGRAM {notifier}", "ADMINISTRATOR admin@example.org", *entries]
        (self.directory / "shipping.conf").write_text("\n".join(lines) + "\n")

    @property
    def mails(self) -> str:
        path = self.directory / "mails"
        return path.read_text() if path.exists() else ""

    def family_keys(self, name: str) -> str:
        """The public keys of a replica, as they are known here."""
        return Family.load(self.directory / "conf/multisite").find(name).keys

    @property
    def bay(self) -> Path:
        return self.directory / "conf/shipping/ms_ship"

    def outgoing(self) -> list[str]:
        return names_in(self.bay / "outgoing")

    def incoming(self) -> list[str]:
        return names_in(self.bay / "incoming")

    # -- commands, in this process

    def multitool(self, command: str, *arguments: str | Path) -> int:
        return multitool.main([command, "-C", str(self.directory / "imapd.conf"), *map(str, arguments)])

    def syncreplica(self, *arguments: str | Path) -> int:
        return multitool.syncreplica(["-C", str(self.directory / "imapd.conf"), *map(str, arguments)])

    def shipping_server(self, *arguments: str | Path) -> int:
        return shipping_server.main(["-C", str(self.directory / "imapd.conf"), *map(str, arguments)])

    def mailstore(self, *arguments: str, stdin: bytes = b"") -> int:
        return mailstore.main(["-C", str(self.directory / "imapd.conf"), *arguments], stdin=io.BytesIO(stdin))

    # -- mail

    def create(self, *names: str) -> None:
        """Make mailboxes, named as an administrator names them."""
        for name in names:
            assert self.mailstore("create", name) == 0

    def deliver(self, user: str, subject: str, folder: str = "", *, body: str = "Hello.") -> None:
        """Put a message into a user's INBOX, or a folder below it."""
        message = f"From: somebody@example.org\r\nSubject: {subject}\r\n\r\n{body}\r\n"
        arguments = ["-m", folder] if folder else []
        assert self.mailstore("deliver", user, *arguments, stdin=message.encode()) == 0

    def folders(self, user: str) -> list[str]:
        """Internal names of a user's mailboxes."""
        with self.store() as store, store.read(Owner("user", user)) as reader:
            return [state.name for state in reader.mailboxes() if not state.intermediate]

    def subjects(self, mailbox: str) -> list[str]:
        """Of the messages that are to be seen in a mailbox (internal name)."""
        found: list[str] = []
        with self.store() as store, store.read(owner_of(mailbox)) as reader:
            state = reader.mailbox(mailbox)
            assert state is not None, f"{mailbox} is not at {self.name}"
            for batch in reader.records(state.uniqueid):
                for record in batch:
                    body = reader.body(record.guid)
                    if not record.expunged and body is not None:
                        data = body.data if isinstance(body.data, bytes) else b"".join(body.data)
                        found += re.findall(r"Subject: (.*)\r\n", data.decode("ascii", "replace"))
        return sorted(found)

    def pinned(self) -> tuple[str, str]:
        """What whoever imports a creation packet of this server types."""
        history = Family.load(directory_of(self.config)).myself.key_history
        assert history is not None
        return "-fingerprint", history.current.fingerprint()

    # -- the receiving side of shipping

    def start(self) -> None:
        """Receive, in a process of its own; returns when it listens."""
        site = shipping_site.Site.from_config(self.config)
        reading, writing = os.pipe()

        def child() -> int:
            os.close(reading)
            serve(site, lambda: os.write(writing, b"."))
            return 0

        self.pid = fork(child)
        os.close(writing)
        assert os.read(reading, 1) == b"."
        os.close(reading)

    def stop(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


def family(directory: Path, *names: str, port: int = 3710, called: str = "mail") -> list[Server]:
    """Servers of one family, made by its commands; the first one made it. All know all."""
    servers = [
        Server(name, directory / name, address=f"127.0.0.{number}", port=port)
        for number, name in enumerate(names, 1)
    ]
    first, *others = servers
    assert first.multitool("mkfamily", "-name", called, first.name) == 0
    for server in others:
        path = directory / f"repl_{server.name}"
        made = first.multitool("mkreplica", "-export", "-out", path, f"{server.address}:{server.name}")
        assert made == 0
        assert server.multitool("mkreplica", "-import", *first.pinned(), path) == 0
    exchange(servers, directory)
    return servers


def send(source: Server, target: Server, directory: Path) -> Path | None:
    """One exchange by hand: export, carry, import. None if there was nothing to export."""
    path = directory / f"by_hand_{next(_NUMBERS)}"
    assert source.syncreplica("-export", "-out", path, target.name) == 0
    if not path.exists():
        return None
    assert target.syncreplica("-import", path) == 0
    assert not path.exists()
    return path


def exchange(servers: list[Server], directory: Path, most: int = 8) -> None:
    """Everybody to everybody until nobody has anything to tell."""
    pairs = [(one, other) for one in servers for other in servers if one is not other]
    for _ in range(most):
        sent = [send(one, other, directory) for one, other in pairs]
        if not any(sent):
            return
    raise AssertionError(f"there is still something to tell after {most} rounds")


_NUMBERS = itertools.count(1)


def names_in(directory: Path) -> list[str]:
    """Finished files."""
    if not directory.is_dir():
        return []
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith(".ms_tmp_"))
