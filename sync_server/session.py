"""One connection: greeting, login, TLS and compression, then GET, APPLY and RESTORE. The conversation::

    S: * SASL PLAIN SCRAM-SHA-256        mechanisms that may be used now; nothing on a UNIX socket
    S: * STARTTLS                        with a certificate, before TLS
    S: * COMPRESS DEFLATE                before TLS and before compression
    S: * SIEVE-MAILBOX
    S: * OK replica.example Cyrus sync server …
    C: AUTHENTICATE mech [initial]       + challenges; OK Success (…) | NO … after the pause | BAD …
    C: STARTTLS                          OK, handshake, the greeting once more
    C: COMPRESS DEFLATE                  OK, raw DEFLATE both ways
    C: NOOP | RESTART | EXIT             at any time
    C: GET … | APPLY … | RESTORE …       an administrator's, see `sync_server.handlers`

A connection is in one of five states; what each of them makes of an event is decided in `event`.

* What changes the connection itself (AUTHENTICATE, STARTTLS, COMPRESS, EXIT) waits until everything before
  it has been answered; other commands overlap. Their verbs are called and their answers leave in the order
  of the commands (`sync_server.outbox`), and no more are read while too many are under way.
* Exactly one answer per command, whatever happens (`sync_server.commands`).
* A logged-in user who is no administrator hears ``NO Permission denied`` to everything.
* At SIGTERM what was read completely is finished and answered, then ``BYE shutting down``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, ClassVar, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.protocol.connection_server import ServerConnection
from cyrus_sync.common.protocol.events import (
    ConnectionClosed,
    DlistCommand,
    Fatal,
    MessageChunk,
    MessageData,
    MessageEnd,
    MessageStart,
    RecordBatch,
    Refused,
    SaslLine,
    SessionCommand,
)
from cyrus_sync.common.reactor import Timer
from cyrus_sync.common.wire.guessing import origin
from cyrus_sync.common.wire.policy import Layer
from cyrus_sync.common.wire.sasl.server import Attempt, Challenge, Outcome, Success
from cyrus_sync.common.wire.transport import CsyncProtocol
from cyrus_sync.sync_server import replies
from cyrus_sync.sync_server.commands import Commands
from cyrus_sync.sync_server.doubt import Doubt
from cyrus_sync.sync_server.handlers import GRANTED
from cyrus_sync.sync_server.outbox import Outbox
from cyrus_sync.sync_server.replies import line
from cyrus_sync.sync_server.service import Service

log = logging.getLogger("sync_server")

_IMAP_TAG = re.compile(r"[A-Z]\d\d\Z")
_GIVE_WAY_SECONDS = 1.0
"""What a peer has to take the last words when its place is wanted."""
_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+\Z")
"""What may name a mechanism."""


class SessionState(Enum):
    """Where a connection stands."""

    STRANGER = "not logged in"
    LOGGING_IN = "in the middle of AUTHENTICATE"
    ADMIN = "an administrator"
    DENIED = "logged in, but no administrator"
    CLOSING = "said its last word"


class Session:
    """The handler of a `CsyncProtocol`'s events."""

    def __init__(self, proto: CsyncProtocol, service: Service, *, trusted: bool = False) -> None:
        self.proto = proto
        self._grammar = cast(ServerConnection, proto.connection)
        self.service = service
        self.settings = service.settings
        self.client = proto.peer
        self.origin = "" if trusted else origin(proto.peer)
        """The address that is counted, "" of a UNIX socket."""
        self.userid = ""
        self.state = SessionState.STRANGER
        self.outbox = Outbox(proto, service.soon)
        self._trusted = trusted
        self._attempt: Attempt | None = None
        self._commands: Commands | None = None
        self._doubt = Doubt()
        self._count = 0
        self._refused = 0
        self._started = service.now()
        self._login_timer: Timer | None = None
        self._stopping = False

    # -- the life of a connection

    def begin(self) -> None:
        """Greet. A UNIX socket needs no login: who may open it is the administrator."""
        self.service.places.enter(self)
        self.proto.set_timeout(self.settings.timeout)
        if self._trusted:
            self._become("cyrus", "unix socket")
            self.proto.write(self._greeting(bare=True))
        else:
            self._login_timer = self.service.later(self.settings.login_seconds, self._login_too_late)
            self.proto.write(self._greeting())
        self.proto.set_event_handler(self)

    def _greeting(self, bare: bool = False) -> bytes:
        lines: list[bytes] = []
        if not bare:
            mechanisms = self.service.sasl.mechanisms(self._layer())
            if mechanisms:
                lines.append(line(b"* SASL " + " ".join(mechanisms).encode()))
            if not self.proto.tls:
                if self.service.tls_context is not None:
                    lines.append(line(b"* STARTTLS"))
                if not self.proto.compressed:
                    lines.append(line(b"* COMPRESS DEFLATE"))
            lines.extend(line(b"* " + name.encode()) for name in GRANTED)
        lines.append(line(b"* OK " + self.settings.banner.encode()))
        return b"".join(lines)

    def connection_lost(self, reason: Failure) -> None:
        """Forget what is staged, at once; a verb that is being carried out ends by itself."""
        was, self.state = self.state, SessionState.CLOSING
        self._stop_login_timer()
        self.outbox.close()
        if self._commands is not None:
            self._commands.close()
        self.service.forget(self)
        if self.userid or was is not SessionState.STRANGER:
            log.info(
                "end of session: %d commands, %d refused, %.1f s, %d bytes in, %d bytes out: %s %s",
                self._count,
                self._refused + (self._commands.refused if self._commands else 0),
                self.service.now() - self._started,
                self.proto.bytes_read,
                self.proto.bytes_written,
                getattr(reason.value, "message", None) or reason.getErrorMessage(),
                self._address(),
            )

    @property
    def staged(self) -> tuple[int, int, int]:
        """Messages that have come and are in no mailbox yet; their octets in memory and on disk."""
        return (0, 0, 0) if self._commands is None else self._commands.work.staged

    def stop(self) -> None:
        """Finish what has been read, say BYE, close (SIGTERM)."""
        if self._stopping or self.state is SessionState.CLOSING:
            return
        self._stopping = True
        self.proto.pause()
        self.outbox.idle().addCallback(lambda _: self._farewell(line(replies.SHUTTING_DOWN)))

    def give_way(self, why: str) -> None:
        """Say BYE and end: somebody else gets the place. The peer's leave is not waited for."""
        log.info("closing: %s %s", why, self._address())
        self._farewell(line(replies.bye(why)))
        self.service.later(_GIVE_WAY_SECONDS, self.proto.abort)

    def _farewell(self, last_words: bytes) -> None:
        if self.state is not SessionState.CLOSING:
            self.state = SessionState.CLOSING
            self.proto.write(last_words)
            self.proto.lose()

    # -- events

    def event(self, event: Any) -> Deferred[Any] | None:
        """What `CsyncProtocol` calls for each event; what it waits for before the next."""
        if self.state is SessionState.CLOSING or self._stopping:
            return Deferred()
        if self.state is SessionState.ADMIN and self._doubt.forbids(event):
            return self._fatal(Fatal(replies.IN_DOUBT))
        found = self._EVENTS[type(event)](self, event)
        return found if found is not None else self._room()

    def _room(self) -> Deferred[Any] | None:
        full = self.outbox.room()
        if full is not None:
            return full
        return None if self._commands is None else self._commands.ready()

    def _closed(self, event: ConnectionClosed) -> Deferred[Any]:
        """The peer will say no more. It may still read the answers to what it has said."""
        return self.outbox.idle()

    def _refuse(self, event: Refused) -> None:
        """The grammar has swallowed a command that cannot be carried out."""
        if self._commands is not None:
            self._commands.work.forget_bulk()
        self._refused += 1
        self._say(event.reply)
        log.info("refused: %s %s", event.reply.decode("ascii", "replace"), self._address())

    def _fatal(self, event: Fatal) -> Deferred[Any]:
        """Beyond the limits: nothing that follows can be trusted to be a command."""
        log.warning("closing: %s %s", event.reply.decode("ascii", "replace"), self._address())
        done = self.outbox.idle()
        done.addCallback(lambda _: self._farewell(line(event.reply) if event.reply else b""))
        return done

    def _bulk(self, event: Any) -> Deferred[Any] | None:
        """Messages and records ahead of their command's end."""
        if self.state is SessionState.ADMIN and self._commands is not None:
            return self._commands.work.take(event)
        return None

    def _command(self, event: DlistCommand) -> None:
        self._count += 1
        if self.state is not SessionState.ADMIN or self._commands is None:
            self._refused += 1
            self._say(replies.PERMISSION_DENIED if self.state is SessionState.DENIED else replies.LOGIN_FIRST)
            return
        self._commands.run(event)

    # -- commands of the session layer

    def _session_command(self, event: SessionCommand) -> Deferred[Any] | None:
        self._count += 1
        verb, arguments = event.verb, event.arguments
        if not verb:
            self._say(replies.NULL_COMMAND)
        elif self.state is SessionState.DENIED:
            self._refused += 1
            self._say(replies.PERMISSION_DENIED)
        elif verb in ("NOOP", "RESTART", "EXIT") and arguments.strip():
            self._say(replies.extra_arguments(verb))
        elif verb == "NOOP":
            self._say(replies.NOOP)
        elif verb == "RESTART":
            self._restart()
        elif verb in _ALONE and (verb != "STARTTLS" or self.service.tls_context is not None):
            return Deferred.fromCoroutine(self._alone(verb, arguments))
        elif _IMAP_TAG.match(verb):
            return self._not_imap(verb, arguments)
        else:
            self._refused += 1
            self._say(replies.UNRECOGNIZED)
        return None

    async def _alone(self, verb: str, arguments: bytes) -> None:
        """What changes the connection itself waits until everything before it has been answered."""
        await self.outbox.idle()
        if self.state is not SessionState.CLOSING:
            await _ALONE[verb](self, arguments)

    def _restart(self) -> None:
        if self._commands is None:
            self._say(replies.RESTARTING)
        else:
            self._commands.restart()

    async def _exit(self, arguments: bytes) -> None:
        self._farewell(line(replies.FINISHED))

    def _not_imap(self, tag: str, arguments: bytes) -> Deferred[Any] | None:
        """sync_try_imap: the client asks for IMAP's capabilities first, and waits long for a tagged line."""
        if arguments.strip().upper() != b"LOGOUT":
            self._say(replies.not_imap(tag.encode()))
            return None
        done = self.outbox.idle()
        done.addCallback(lambda _: self._farewell(line(tag.encode() + b" OK bye")))
        return done

    async def _compress(self, arguments: bytes) -> None:
        words = arguments.split()
        if not words:
            self._say(replies.missing_argument("COMPRESS"))
        elif len(words) > 1:
            self._say(replies.extra_arguments("COMPRESS"))
        elif self.proto.compressed:
            self._say(replies.COMPRESSED_ALREADY)
        elif words[0].upper() != b"DEFLATE":
            self._say(replies.unknown_compression(words[0][:100]))
        else:
            self.proto.write(line(replies.DEFLATE_ACTIVE))
            self.proto.start_deflate()

    async def _starttls(self, arguments: bytes) -> None:
        if arguments.strip():
            self._say(replies.extra_arguments("STARTTLS"))
        elif self.userid:
            self._say(replies.TLS_AFTER_LOGIN)
        elif self.proto.tls:
            self._say(replies.TLS_TWICE)
        elif self.proto.compressed:
            self._say(replies.TLS_AFTER_COMPRESS)
        else:
            context = self.service.tls_context
            assert context is not None, "where there is none the command is unknown"
            self.proto.write(line(replies.BEGIN_TLS))
            try:
                await self.proto.start_tls(context)
            except CyrusSyncError as error:
                log.info("STARTTLS failed: %s %s", error, self._address())
                self.state = SessionState.CLOSING
                self.proto.abort()
                return
            self.proto.write(self._greeting())

    # -- logging in

    async def _authenticate(self, arguments: bytes) -> None:
        words = arguments.split(b" ")
        if not words[0]:
            self._say(replies.missing_argument("AUTHENTICATE"))
        elif not _ATOM.match(words[0]):
            self._say(replies.INVALID_MECHANISM)
        elif len(words) > 2:
            self._say(replies.extra_arguments("AUTHENTICATE"))
        elif self.userid:
            self._say(replies.ALREADY_AUTHENTICATED)
        else:
            self._attempt = self.service.sasl.attempt(self._layer())
            self.state = SessionState.LOGGING_IN
            wait = self.service.guessing.begin(self.origin)
            if wait is None:
                await self._too_many_attempts()
                return
            if wait:
                log.warning("an attempt to log in waits for %.1f s %s", wait, self._address())
                await self.service.sleep(wait)
            await self._login_step(self._attempt.start(words[0], words[1] if len(words) > 1 else None))

    async def _too_many_attempts(self) -> None:
        """The password is not looked at; whether it is right stays unknown."""
        self._attempt, self.state = None, SessionState.STRANGER
        self.service.measures.logins["not_checked"] += 1
        log.warning("badlogin: %s [too many failed logins from %s: not checked]", self.client, self.origin)
        await self.service.sleep(self.settings.failed_login_pause)
        self.proto.write(line(replies.TOO_MANY_ATTEMPTS))

    def _layer(self) -> Layer:
        return Layer.of(self.proto, self.settings.external_ssf)

    def _sasl_line(self, event: SaslLine) -> Deferred[Any] | None:
        if self._attempt is None:
            return None
        return Deferred.fromCoroutine(self._login_step(self._attempt.step(event.line)))

    async def _login_step(self, step: Coroutine[Any, Any, Outcome]) -> None:
        outcome = await step
        if self.state is not SessionState.LOGGING_IN or self._attempt is None:
            return
        if isinstance(outcome, Challenge):
            self._grammar.expect_sasl_line()
            self.proto.write(line(outcome.line))
            return
        mechanism, self._attempt = self._attempt.mechanism, None
        if isinstance(outcome, Success):
            self._become(outcome.userid, mechanism)
            self.proto.write(line(outcome.reply))
            return
        self.state = SessionState.STRANGER
        self.service.measures.logins["failed"] += 1
        if not outcome.pause:
            self.service.guessing.withdrawn(self.origin)
        log.warning("badlogin: %s %s [%s]", self.client, mechanism, outcome.reason)
        if outcome.pause:
            await self.service.sleep(self.settings.failed_login_pause)
        self.proto.write(line(outcome.reply))

    def _become(self, userid: str, how: str) -> None:
        self.userid = userid
        self._stop_login_timer()
        tls = " with TLS" if self.proto.tls else ""
        if self._trusted or userid in self.service.sasl.proxies:
            self.state = SessionState.ADMIN
            self.service.measures.logins["ok"] += 1
            self.service.places.logged_in(self)
            self.service.guessing.forgive(self.origin)
            self._grammar.authenticated = True
            self._commands = Commands(
                self.service, self.outbox, client=self.client, login=userid, broken=self._farewell
            )
            log.info("login: %s %s %s%s", self.client, userid, how, tls)
        else:
            self.state = SessionState.DENIED
            self.service.measures.logins["denied"] += 1
            self.service.guessing.withdrawn(self.origin)
            self._grammar.denial = replies.PERMISSION_DENIED
            log.warning(
                "login: %s %s %s%s: not in admins, nothing is permitted", self.client, userid, how, tls
            )

    def _login_too_late(self) -> None:
        self._login_timer = None
        log.info("closing: no login within %g s %s", self.settings.login_seconds, self._address())
        self.state = SessionState.CLOSING
        self.proto.lose()

    def _stop_login_timer(self) -> None:
        timer, self._login_timer = self._login_timer, None
        if timer is not None and timer.active():
            timer.cancel()

    # -- small things

    def _say(self, reply: bytes) -> None:
        self.outbox.say(line(reply))

    def _address(self) -> str:
        """Who: the end of every line of the log."""
        return f"[client={self.client} login={self.userid}]" if self.userid else f"[client={self.client}]"

    _EVENTS: ClassVar[dict[type, Callable[[Session, Any], Deferred[Any] | None]]] = {
        SessionCommand: _session_command,
        SaslLine: _sasl_line,
        DlistCommand: _command,
        MessageData: _bulk,
        MessageStart: _bulk,
        MessageChunk: _bulk,
        MessageEnd: _bulk,
        RecordBatch: _bulk,
        Refused: _refuse,
        Fatal: _fatal,
        ConnectionClosed: _closed,
    }


_ALONE: dict[str, Callable[[Session, bytes], Coroutine[Any, Any, None]]] = {
    "AUTHENTICATE": Session._authenticate,
    "STARTTLS": Session._starttls,
    "COMPRESS": Session._compress,
    "EXIT": Session._exit,
}
