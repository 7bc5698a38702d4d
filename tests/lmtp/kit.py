"""LMTP without a network: a service on a store of its own, and clients that write octets to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.testing import StringTransport

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.lmtp.connection import LmtpConnection
from cyrus_sync.lmtp.server import Clients
from cyrus_sync.lmtp.service import Service
from cyrus_sync.lmtp.settings import Settings
from tests.deadlines import until
from tests.reactors import make_reactor

HEADER = b"From: joe@example.org\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@x>\r\n\r\n"
MESSAGE = HEADER + b"body\r\n"
ALICE, BOB = Owner("user", "alice"), Owner("user", "bob")

_REPLY = re.compile(rb"(?:\d{3}-[^\n]*\n)*\d{3} [^\n]*\n")


def configured(root: Path, *lines: str) -> Path:
    """An imapd.conf, with `lines` more."""
    conf = root / "imapd.conf"
    said = (
        f"configdirectory: {root}/conf",
        f"partition-default: {root}/mail",
        "servername: here.example",
        "virtdomains: off",
        "failedloginpause: 0",
        "admins: boss",
        "allowplaintext: yes",
        *lines,
    )
    conf.write_text("".join(f"{line}\n" for line in said))
    return conf


class Lmtp:
    """A server with the users alice and bob."""

    def __init__(self, root: Path, *lines: str, users: tuple[str, ...] = ("alice", "bob")) -> None:
        config = Config.load(configured(root, *lines), program="lmtp")
        self.reactor = make_reactor()
        settings = Settings.from_config(config)
        self.service = Service.open(config, settings, self.reactor)
        self.store = self.service.store
        self.clients = Clients(self.service)
        for user in users:
            self.make(f"user.{user}")

    def make(self, name: str, acl: str | None = None) -> None:
        with self.store.write(owner_of(name)) as writer:
            writer.create(name, acl=acl)

    def client(self, host: str | None = "127.0.0.1") -> Client:
        return Client(self, host)

    def messages(self, name: str) -> list[bytes]:
        """All messages of a mailbox."""
        with self.store.read(owner_of(name)) as reader:
            box = reader.mailbox(name)
            assert box is not None, f"there is no {name}"
            records = [record for batch in reader.records(box.uniqueid) for record in batch]
            found = [reader.body(record.guid) for record in records]
            return [
                one.data if isinstance(one.data, bytes) else b"".join(one.data)
                for one in found
                if one is not None
            ]

    def close(self) -> None:
        self.service.threads.close()
        self.service.close()


class Client:
    """A connection, greeted and with its LHLO said."""

    def __init__(self, lmtp: Lmtp, host: str | None) -> None:
        self._reactor = lmtp.reactor
        peer: Any = UNIXAddress("") if host is None else IPv4Address("TCP", host, 40000)
        self.transport = StringTransport(peerAddress=peer)
        made = lmtp.clients.buildProtocol(None)
        assert isinstance(made, LmtpConnection)
        self.connection = made
        self.connection.makeConnection(self.transport)
        (self.greeting,) = self.answers(1)
        assert self.greeting.startswith("220 "), self.greeting
        self.offered = self.say(b"LHLO there.example")

    def answers(self, count: int) -> list[str]:
        """So many answers, each without the end of its line."""

        def come() -> bool:
            self._reactor.iterate(0.005)
            return len(_REPLY.findall(self.transport.value())) >= count

        until(come, f"{count} answers come")
        found = [reply.decode().removesuffix("\r\n") for reply in _REPLY.findall(self.transport.value())]
        assert len(found) == count, found
        self.transport.clear()
        return found

    def send(self, data: bytes) -> None:
        self.connection.dataReceived(data)

    def say(self, line: bytes) -> str:
        self.send(line + b"\r\n")
        return self.answers(1)[0]

    def deliver(self, message: bytes, *recipients: bytes, sender: bytes = b"<joe@example.org>") -> list[str]:
        """The answers to RCPT that refuse, and those that come after DATA; the first words alone. A recipient
        may have parameters: ``alice> IGNOREQUOTA``."""
        assert self.say(b"MAIL FROM:" + sender).startswith("250")
        asked = [self.say(b"RCPT TO:<" + (one if b"> " in one else one + b">")) for one in recipients]
        refused = [answer for answer in asked if not answer.startswith("250")]
        if len(refused) == len(recipients):
            self.say(b"RSET")
            return [code(one) for one in refused]
        assert self.say(b"DATA").startswith("354")
        self.send(re.sub(rb"(?m)^\.", b"..", message) + b".\r\n")
        return [code(one) for one in [*refused, *self.answers(len(recipients) - len(refused))]]

    @property
    def disconnected(self) -> bool:
        return bool(self.transport.disconnecting)


def code(answer: str) -> str:
    """``550 5.1.1`` of an answer."""
    return " ".join(answer.splitlines()[-1].split(" ")[:2])
