"""A session without a network: bytes in, bytes out, a clock that the test moves, a noting replica."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from cyrus_sync.common.model import (
    MailboxAnnotation,
    MailboxState,
    MailboxUpdate,
    MessageBody,
    MessageSource,
    Quota,
    RecordSource,
    Seen,
    UserMeta,
    UserState,
)
from cyrus_sync.common.names import Owner
from cyrus_sync.common.protocol.dlist import Limits
from cyrus_sync.common.wire.policy import Policy
from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from cyrus_sync.common.wire.sasl.server import SaslServer
from cyrus_sync.common.wire.transport import CsyncProtocol
from cyrus_sync.sync_server.service import Service
from cyrus_sync.sync_server.session import Session
from cyrus_sync.sync_server.settings import ServerSettings


class Threads:
    """Runs everything at once, in the test's own thread."""

    def run(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Deferred[Any]:
        return maybeDeferred(function, *arguments, **keywords)

    def ahead(self, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        return lambda: function(*arguments)

    def close(self) -> None:
        pass


class NotingReplica:
    """An event list: each verb is noted with its arguments; answers and failures are what the test says.

    `hold` makes verbs wait: `release` lets the oldest go on.
    """

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {}
        self.failures: dict[str, list[Exception]] = {}
        self.capabilities: frozenset[str] = frozenset()
        self.message_encodings = frozenset({"identity"})
        self.hold = False
        self.held: list[tuple[Deferred[Any], Any]] = []
        self.closed = False
        self.messages: list[MessageBody] = []
        self.records: list[Any] = []

    def _verb(self, name: str, *arguments: Any, default: Any = None) -> Deferred[Any]:
        self.events.append((name, *arguments))
        answer: Any = self.answers.get(name, default)
        if self.failures.get(name):
            answer = self.failures[name].pop(0)
        if self.hold:
            waiting: Deferred[Any] = Deferred()
            self.held.append((waiting, answer))
            return waiting
        return _fire(answer)

    def release(self) -> None:
        waiting, answer = self.held.pop(0)
        if isinstance(answer, Exception):
            waiting.errback(answer)
        else:
            waiting.callback(answer)

    def ready(self) -> Deferred[None]:
        return succeed(None)

    def close(self) -> None:
        self.closed = True

    def get_user(self, userid: str) -> Deferred[UserState]:
        return self._verb("get_user", userid, default=UserState())

    def get_meta(self, userid: str) -> Deferred[UserMeta]:
        return self._verb("get_meta", userid, default=UserMeta())

    def get_mailboxes(self, names: Sequence[str]) -> Deferred[list[MailboxState]]:
        return self._verb("get_mailboxes", list(names), default=[])

    def get_uniqueids(self, uniqueids: Sequence[str]) -> Deferred[list[MailboxState]]:
        return self._verb("get_uniqueids", list(uniqueids), default=[])

    def get_full_mailbox(self, name: str) -> Deferred[tuple[MailboxState, RecordSource]]:
        return self._verb("get_full_mailbox", name)

    def get_users(self, after: str, most: int) -> Deferred[list[str]]:
        return self._verb("get_users", after, default=[])

    def get_digests(self, after: str, most: int) -> Deferred[dict[str, bytes]]:
        return self._verb("get_digests", after, default={})

    def get_damaged_users(self) -> Deferred[list[str]]:
        return self._verb("get_damaged_users", default=[])

    def get_damaged(self, userid: str) -> Deferred[list[bytes]]:
        return self._verb("get_damaged", userid, default=[])

    def get_shared(self, after: str, most: int) -> Deferred[list[str]]:
        return self._verb("get_shared", after, default=[])

    def verify(self, mailbox: str, uniqueid: str, first: int, last: int) -> Deferred[Any]:
        return self._verb("verify", mailbox, uniqueid, first, last)

    def waiting(self, word: Any) -> Deferred[None]:
        return self._verb("waiting", word)

    def heal(self, userid: str) -> Deferred[None]:
        return self._verb("heal", userid)

    def get_quota(self, root: str) -> Deferred[Quota | None]:
        return self._verb("get_quota", root)

    def get_annotations(self, mailbox: str) -> Deferred[list[MailboxAnnotation]]:
        return self._verb("get_annotations", mailbox, default=[])

    def fetch(self, mailbox: str, partition: str, uniqueid: str, guid: bytes, uid: int) -> Deferred[Any]:
        return self._verb("fetch", mailbox, partition, uniqueid, guid.hex(), uid)

    def fetch_sieve(self, userid: str, filename: str) -> Deferred[bytes]:
        return self._verb("fetch_sieve", userid, filename, default=b"keep;")

    def reserve(self, partition: str, mailboxes: Sequence[str], guids: Sequence[bytes]) -> Deferred[Any]:
        return self._verb("reserve", partition, list(mailboxes), [g.hex() for g in guids], default=[])

    def message(self, messages: MessageSource) -> Deferred[None]:
        bodies = [
            body if isinstance(body.data, bytes) else body._replace(data=b"".join(body.data))
            for batch in messages
            for body in batch
        ]
        self.messages += bodies
        return self._verb("message", [body.size for body in bodies])

    def mailbox(self, update: MailboxUpdate, *, local: bool = False) -> Deferred[None]:
        self.records = [record for batch in update.records for record in batch]
        return self._verb("mailbox", update.state.name, [r.uid for r in self.records], update.since, local)

    def rename(
        self, old: str, new: str, partition: str, uidvalidity: int = 0, *, local: bool = False
    ) -> Deferred[None]:
        return self._verb("rename", old, new, partition, uidvalidity, local)

    def unmailbox(self, name: str, *, local: bool = False, **identity: Any) -> Deferred[None]:
        return self._verb("unmailbox", name, local, *identity.values())

    def unuser(self, userid: str, *, local: bool = False) -> Deferred[None]:
        return self._verb("unuser", userid, local)

    def expunge(self, mailbox: str, uniqueid: str, uids: Sequence[int]) -> Deferred[None]:
        return self._verb("expunge", mailbox, uniqueid, list(uids))

    def quota(self, quota: Quota) -> Deferred[None]:
        return self._verb("quota", quota)

    def unquota(self, root: str) -> Deferred[None]:
        return self._verb("unquota", root)

    def sub(self, userid: str, mailbox: str) -> Deferred[None]:
        return self._verb("sub", userid, mailbox)

    def unsub(self, userid: str, mailbox: str) -> Deferred[None]:
        return self._verb("unsub", userid, mailbox)

    def seen(self, userid: str, seen: Seen) -> Deferred[None]:
        return self._verb("seen", userid, seen)

    def annotation(self, annotation: MailboxAnnotation) -> Deferred[None]:
        return self._verb("annotation", annotation)

    def unannotation(self, mailbox: str, entry: str, userid: str) -> Deferred[None]:
        return self._verb("unannotation", mailbox, entry, userid)

    def sieve(self, userid: str, filename: str, last_update: int, content: bytes) -> Deferred[None]:
        return self._verb("sieve", userid, filename, last_update, content)

    def unsieve(self, userid: str, filename: str) -> Deferred[None]:
        return self._verb("unsieve", userid, filename)

    def activate_sieve(self, userid: str, filename: str) -> Deferred[None]:
        return self._verb("activate_sieve", userid, filename)

    def unactivate_sieve(self, userid: str) -> Deferred[None]:
        return self._verb("unactivate_sieve", userid)

    def force(self) -> Deferred[None]:
        return self._verb("force")

    def restart(self) -> Deferred[None]:
        return self._verb("restart")

    def noop(self) -> Deferred[None]:
        return self._verb("noop")

    @property
    def staging(self) -> None:
        return None

    def change(self, owner: Owner, change: Callable[[Any], None]) -> Deferred[None]:
        return self._verb("change", str(owner))


def _fire(answer: Any) -> Deferred[Any]:
    return fail(answer) if isinstance(answer, Exception) else succeed(answer)


class Wire(StringTransport):
    """A transport whose peer reads, or (`stuck`) does not."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def startTLS(self, context: Any, normal: bool = True) -> None:
        self.tls_context = context


class Conversation:
    """A client's view of one session."""

    def __init__(
        self,
        tmp_path: Path,
        *,
        trusted: bool = False,
        login: bool = True,
        limits: Limits | None = None,
        tls: Any = None,
        policy: Policy | None = None,
        service: Service | None = None,
        replica: Any = None,
        **settings: Any,
    ) -> None:
        self.replica = replica or NotingReplica()
        if service is None:
            self.clock = Clock()
            passwords = PasswordFile(tmp_path / "passwd")
            if not passwords.users():
                passwords.set_password("repl", "s3cret")
                passwords.set_password("alice", "secret")
            service = Service(
                ServerSettings(servername="replica.test", admins=frozenset({"repl"}), **settings),
                self.clock,
                Threads(),  # type: ignore[arg-type]
                SaslServer(
                    policy or Policy(allow_plaintext=True),
                    passwords,
                    proxies=frozenset({"repl"}),
                    realm="replica.test",
                ),
                lambda: self.replica,  # type: ignore[arg-type, return-value]
                staging=tmp_path,
                limits=limits,
                tls=tls,
            )
        else:
            self.clock = service.reactor
            service.replica = lambda: self.replica  # type: ignore[method-assign, assignment, return-value]
        self.service = service
        self.wire = Wire()
        self.proto = CsyncProtocol(service.connection(), self.clock, server=True, connected=self._connected)
        self._trusted = trusted
        self.proto.makeConnection(self.wire)
        self.greeting = self.heard()
        if login and not trusted:
            assert self.login("repl", "s3cret") == b"OK Success (no protection)\r\n"

    def _connected(self, proto: CsyncProtocol) -> None:
        self.session = Session(proto, self.service, trusted=self._trusted)
        self.service.sessions.add(self.session)
        self.session.begin()

    def heard(self) -> bytes:
        """What was said since the last time."""
        self.clock.advance(0)
        self.clock.advance(0)
        said = self.wire.value()
        self.wire.clear()
        return bytes(said)

    def send(self, data: bytes) -> bytes:
        """Bytes as they are; the answer."""
        self.proto.dataReceived(data)
        return self.heard()

    def ask(self, command: bytes) -> bytes:
        """A command without its line end; the answer without the last line end."""
        return self.send(command + b"\r\n").removesuffix(b"\r\n")

    def login(self, user: str, password: str) -> bytes:
        word = base64.b64encode(f"\0{user}\0{password}".encode())
        return self.send(b"AUTHENTICATE PLAIN " + word + b"\r\n")

    def hang_up(self) -> None:
        from twisted.internet.error import ConnectionLost
        from twisted.python.failure import Failure

        self.proto.connectionLost(Failure(ConnectionLost()))

    @property
    def closed(self) -> bool:
        return self.wire.disconnecting or self.wire.aborted
