"""`Watch`: one user's connection on which the IMAP server tells what changes, by NOTIFY (RFC 5465) or IDLE
(RFC 2177).

It is made like any other (`begin`, which blocks), and then handed to the reactor: thousands of them wait in
one thread. What is kept of one is its socket and a few hundred octets."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.utf7 import encode
from cyrus_sync.pull.changes import Change
from cyrus_sync.pull.errors import Refused, ServerTrouble
from cyrus_sync.pull.session import Session
from cyrus_sync.pull.settings import ImapSettings

NOTIFY, IDLE = "notify", "idle"

_LONGEST = 1 << 20
"""Octets without an end of line."""

_WANTED = (
    b"(MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange)",
    b"(MessageNew MessageExpunge FlagChange MailboxName)",
    b"(MessageNew MessageExpunge FlagChange)",
)
"""Events, the best first: a server refuses what it does not know."""

_LITERAL = re.compile(rb"\{(\d{1,6})\+?\}\Z")
_STATUS = re.compile(rb'\* STATUS (?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<atom>[^ ()]+)) \(')
_LISTED = re.compile(rb"\* (?:LIST|LSUB) ")
_SELECTED = re.compile(rb"\* (?:\d+ (?:EXISTS|EXPUNGE|FETCH)|VANISHED)\b")
_LOST = re.compile(rb"\* (?:OK|NO) (?:\[NOTIFICATIONOVERFLOW\]|NOTIFY error)", re.IGNORECASE)
_TAGGED = re.compile(rb"w\d+ (OK|NO|BAD)\b")


class Begun(NamedTuple):
    """A connection that waits. `way` is `NOTIFY` or `IDLE`; `rest` what had come already. `utf8`: names of
    which it tells are UTF-8, also those in which nothing but ASCII is. `refusal`: why the server refuses the
    NOTIFY that it offers."""

    sock: socket.socket
    way: str
    rest: bytes
    utf8: bool = False
    refusal: str = ""


def begin(settings: ImapSettings, login: str, password: str, directory: Path) -> Begun:
    """Connect, log in, and ask for events. Blocks. Raises what `Session` does, and `ServerTrouble` where the
    server offers neither way."""
    session = Session(settings, login, password, directory, waiting=True)
    try:
        refusal = _asked(session) if session.offers("NOTIFY") else None
        if refusal == "":
            way = NOTIFY
        elif session.offers("IDLE"):
            session.command("EXAMINE", b'"INBOX"')
            way = IDLE
        else:
            raise ServerTrouble("the IMAP server offers neither NOTIFY nor IDLE")
        sock, rest = session.connection.released()
        _keep_alive(sock)
    except BaseException:
        session.close()
        raise
    # A Dovecot's NOTIFY has names as they are, whether UTF8=ACCEPT is enabled or not.
    return Begun(sock, way, rest, session.utf8 or session.is_dovecot, refusal or "")


def _keep_alive(sock: socket.socket) -> None:
    """A line that was cut without a word is noticed within two minutes, and what forgets idle ones does not
    forget it."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4)):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _asked(session: Session) -> str:
    """Why the server refuses it; "" if it does not."""
    refusal = ""
    for events in _WANTED:
        try:
            session.command("NOTIFY", b"SET", b"(PERSONAL " + events + b")")
            return ""
        except Refused as error:
            refusal = error.message
    return refusal


class Watch:
    """Of `login`, in the reactor's thread, from `start` to `end`. `changed` hears what the server tells;
    `lost`, once, why it tells no more. (A Twisted reader.)"""

    __slots__ = (
        "_changed",
        "_command",
        "_ended",
        "_lost",
        "_pending",
        "_reactor",
        "_sock",
        "_tag",
        "_utf8",
        "asked",
        "login",
        "since",
        "way",
    )

    def __init__(
        self,
        reactor: Reactor,
        login: str,
        begun: Begun,
        changed: Callable[[Change], object],
        lost: Callable[[Watch, str], object],
    ) -> None:
        self._reactor = reactor
        self._sock = begun.sock
        self._pending = begun.rest
        self._utf8 = begun.utf8
        self._changed = changed
        self._lost = lost
        self._tag = 0
        self._command = ""
        self._ended = False
        self.login = login
        self.way = begun.way
        self.since = self.asked = reactor.seconds()
        """When it began, and when a command was last sent; its answer is awaited while `is_asking`."""

    def start(self) -> None:
        self._reactor.addReader(self)
        if self.way == IDLE:
            self._send(b"IDLE", "idle")
        if not self._ended:
            self._take(b"")
            self.doRead()  # TLS may have taken in more than was read

    @property
    def is_asking(self) -> bool:
        """Whether the server owes an answer. IDLE is answered when it ends."""
        return self._command in ("noop", "done")

    def ask(self) -> None:
        """Something that has to be answered, so that neither end takes the other for gone: the server logs
        out who says nothing for half an hour."""
        if self.way == NOTIFY:
            self._send(b"NOOP", "noop")
        else:
            self._command = "done"
            self._write(b"DONE\r\n")

    def end(self) -> None:
        """Hang up. `lost` is not called."""
        if not self._ended:
            self._ended = True
            self._reactor.removeReader(self)
            self._sock.close()

    # -- what a Twisted reader is

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return f"watch of {self.login}"

    def connectionLost(self, reason: object) -> None:
        self.give_up(str(reason))

    def doRead(self) -> None:
        while not self._ended:
            try:
                data = self._sock.recv(1 << 14)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                self.give_up(error.strerror or str(error))
                return
            if not data:
                self.give_up("the server has hung up")
                return
            self._take(data)

    # -- what it says

    def _take(self, data: bytes) -> None:
        pending = self._pending + data
        changes: dict[Change, None] = {}
        while not self._ended:
            line, size = _first_line(pending)
            if not size:
                break
            pending = pending[size:]
            change = self._line(line)
            if change is not None:
                changes[change] = None
        self._pending = pending
        for change in changes:
            self._changed(change)
        if len(pending) > _LONGEST:
            self.give_up("a line without an end")

    def _line(self, line: bytes) -> Change | None:
        if line.startswith(b"* BYE"):
            self.give_up(f"the server says {line[2:].decode('utf-8', 'replace')[:200]}")
        elif _LOST.match(line):
            self.give_up("the server has told of less than there was")  # a new one begins with everything
        elif status := _STATUS.match(line):
            quoted = status["quoted"]
            name = status["atom"] if quoted is None else re.sub(rb"\\(.)", rb"\1", quoted)
            shown = name.decode("utf-8", "surrogateescape")
            return Change(self.login, (encode(shown) if self._utf8 or not shown.isascii() else shown,))
        elif _LISTED.match(line):
            return Change(self.login)
        elif self.way == IDLE and _SELECTED.match(line):
            return Change(self.login, ("INBOX",))
        elif tagged := _TAGGED.match(line):
            self._answered(tagged[1] == b"OK", line)
        return None

    def _answered(self, good: bool, line: bytes) -> None:
        done, self._command = self._command, ""
        if not good:
            self.give_up(f"the server says {line.decode('utf-8', 'replace')[:200]}")
        elif done in ("done", "idle"):
            self._send(b"IDLE", "idle")

    # -- what we say

    def _send(self, command: bytes, name: str) -> None:
        self._tag += 1
        self._command = name
        self._write(b"w%d %s\r\n" % (self._tag, command))

    def _write(self, data: bytes) -> None:
        """A few octets: where the line takes not even these, nobody reads at its other end."""
        self.asked = self._reactor.seconds()
        try:
            sent = self._sock.send(data)
        except OSError as error:
            self.give_up(error.strerror or str(error))
            return
        if sent != len(data):
            self.give_up("the line takes no more")

    def give_up(self, reason: str) -> None:
        """It tells no more."""
        if not self._ended:
            self.end()
            self._lost(self, reason)


def _first_line(data: bytes) -> tuple[bytes, int]:
    """The first line, literals within it as quoted strings, and how many octets it is; 0 where it is not
    whole."""
    line, at = b"", 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return b"", 0
        piece = data[at:end]
        at = end + 2
        literal = _LITERAL.search(piece)
        if literal is None:
            return line + piece, at
        size = int(literal[1])
        if len(data) < at + size:
            return b"", 0
        text = re.sub(rb'(["\\])', rb"\\\1", data[at : at + size])
        line += piece[: literal.start()] + b'"' + text + b'"'
        at += size
