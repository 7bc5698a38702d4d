"""One client: greeting, TLS and login, then its commands one after the other (RFC 3501, 3 and 6).

A change is answered ``NO [READ-ONLY]`` whatever its arguments are, and no literal of it is let in. A command
that fails here is answered ``NO``; only what leaves an answer half said ends the connection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.names import BadName
from cyrus_sync.common.reactor import Timer
from cyrus_sync.common.wire.guessing import origin
from cyrus_sync.common.wire.policy import Layer
from cyrus_sync.common.wire.sasl.server import Challenge, Outcome, Success
from cyrus_sync.lifeboat.connection import Gone, ImapConnection
from cyrus_sync.lifeboat.grammar import BadCommand, Cursor, Event, Line, Literal
from cyrus_sync.lifeboat.search import BadCharset
from cyrus_sync.lifeboat.service import Lifeboat
from cyrus_sync.lifeboat.verbs import CHANGES, READ_ONLY, VERBS, HalfSaid, User

log = logging.getLogger("lifeboat")

LOGIN_SECONDS = 60.0
IDLE_SECONDS = 30 * 60.0
"""A client that says nothing for so long is logged out (RFC 3501, 5.4)."""

_FAILED_LOGINS = 5
"""On one connection; then it ends."""

CAPABILITIES = "IMAP4rev1 LITERAL- SASL-IR ID ENABLE NAMESPACE UNSELECT CHILDREN SPECIAL-USE CONDSTORE IDLE"


class Session:
    """The conversation of one connection."""

    def __init__(self, connection: ImapConnection, boat: Lifeboat) -> None:
        self.connection = connection
        self.boat = boat
        self.user: User | None = None
        self._failed = 0
        self._timer: Timer | None = None
        self._closing = False

    async def run(self) -> None:
        """Until the client is gone."""
        self.say(b"* OK [CAPABILITY %b] %b" % (self._capabilities(), self.boat.banner))
        while not self._closing:
            self._expect_within(IDLE_SECONDS if self.user else LOGIN_SECONDS)
            await self._handle(await self.connection.next())
            await self.connection.drained()

    def over(self) -> None:
        """The connection is lost."""
        self._stop_timer()
        if self.user is not None:
            log.info("end of session %s", self._address())

    def say(self, line: bytes) -> None:
        self.connection.write(line + b"\r\n")

    def stop(self, why: bytes = b"the server is shutting down") -> None:
        """Say BYE and end."""
        if not self._closing:
            self._closing = True
            self.say(b"* BYE " + why)
            self.connection.close()

    # -- a command

    async def _handle(self, event: Event) -> None:
        if isinstance(event, Literal):
            self.connection.let_in(self._lets_in(event.head))
            return
        if not isinstance(event, Line):
            self.stop(b"[ALERT] a command is too long")
            return
        cursor = Cursor(event.data)
        tag, name = b"*", ""
        try:
            tag = cursor.astring()
            cursor.space()
            name = cursor.atom().decode()
            await self._command(tag, name, cursor)
        except BadCommand as error:
            self.say(tag + b" BAD " + str(error).encode("ascii", "replace"))
        except BadCharset:
            self.say(tag + b" NO [BADCHARSET (US-ASCII UTF-8)] this charset is not known")
        except BadName:
            self.say(tag + b" NO Invalid mailbox name")
        except HalfSaid as error:
            log.error("%s %s", error, self._address())
            self.connection.abort()
        except CyrusSyncError as error:
            log.error("%s: %s %s", name, error, self._address())
            self.say(tag + b" NO [UNAVAILABLE] this cannot be read now")
        except Gone:
            raise
        except Exception:
            log.exception("%s: internal error %s", name, self._address())
            self.say(tag + b" NO [SERVERBUG] internal error")

    def _lets_in(self, head: bytes) -> bool:
        """Whether a command may go on with a literal; if not it is answered now."""
        words = head.split(None, 2)
        tag, name = (words[0], words[1].upper().decode("latin-1")) if len(words) > 1 else (b"*", "")
        if name in CHANGES and self.user is not None:
            self.say(tag + b" " + READ_ONLY)
            return False
        if len(head) > 8000 or (self.user is None and name not in ("LOGIN", "AUTHENTICATE")):
            self.say(tag + b" BAD no literal is taken here")
            return False
        return True

    async def _command(self, tag: bytes, name: str, cursor: Cursor) -> None:
        if name in _ANYWHERE:
            await _ANYWHERE[name](self, tag, cursor)
        elif self.user is None:
            if name not in _BEFORE_LOGIN:
                raise BadCommand(
                    "Please login first" if name in VERBS or name in CHANGES else "Unrecognized command"
                )
            await _BEFORE_LOGIN[name](self, tag, cursor)
        elif name in CHANGES:
            self.say(tag + b" " + READ_ONLY)
        elif name in VERBS:
            done = await VERBS[name](self.user, cursor)
            if done.bye:
                self.stop(done.text)
            else:
                self.say(tag + b" " + done.text)
        elif name in _BEFORE_LOGIN:
            raise BadCommand("Already logged in")
        else:
            raise BadCommand("Unrecognized command")

    # -- in any state

    async def _capability(self, tag: bytes, cursor: Cursor) -> None:
        cursor.end()
        self.say(b"* CAPABILITY " + self._capabilities())
        self.say(tag + b" OK Completed")

    async def _noop(self, tag: bytes, cursor: Cursor) -> None:
        cursor.end()
        if self.user is not None and not await self.user.refresh():
            self.stop(b"the mailbox is gone")
        else:
            self.say(tag + b" OK Completed")

    async def _id(self, tag: bytes, cursor: Cursor) -> None:
        self.say(b'* ID ("name" "cyrus-sync lifeboat")')
        self.say(tag + b" OK Completed")

    async def _logout(self, tag: bytes, cursor: Cursor) -> None:
        cursor.end()
        self.say(b"* BYE LOGOUT received")
        self.say(tag + b" OK Completed")
        self._closing = True
        self.connection.close()

    def _capabilities(self) -> bytes:
        words = [CAPABILITIES]
        if self.user is None:
            layer = self._layer()
            offered = self.boat.sasl.mechanisms(layer)
            if self.boat.tls is not None and not self.connection.tls:
                words.append("STARTTLS")
            words += [f"AUTH={mechanism}" for mechanism in offered]
            if "PLAIN" not in offered:
                words.append("LOGINDISABLED")
        return " ".join(words).encode()

    # -- logging in

    async def _starttls(self, tag: bytes, cursor: Cursor) -> None:
        cursor.end()
        if self.boat.tls is None or self.connection.tls:
            raise BadCommand("STARTTLS is not available")
        self.say(tag + b" OK Begin TLS negotiation now")
        try:
            await self.connection.start_tls(self.boat.tls)
        except CyrusSyncError as error:
            log.info("STARTTLS failed: %s %s", error, self._address())
            self.connection.abort()

    async def _login(self, tag: bytes, cursor: Cursor) -> None:
        cursor.space()
        name = cursor.astring().decode("utf-8", "replace")
        cursor.space()
        password = cursor.astring().decode("utf-8", "replace")
        cursor.end()
        if "PLAIN" not in self.boat.sasl.mechanisms(self._layer()):
            self.say(tag + b" NO [PRIVACYREQUIRED] LOGIN is disabled on this line")
            return
        if not await self._may_try(tag):
            return
        sasl = self.boat.sasl
        authid = sasl.canonical(name)
        if await sasl.check_password(authid, password):
            await self._become(tag, authid, authid, "LOGIN")
        else:
            await self._failed_login(tag, f"LOGIN: wrong password or unknown user {authid!r}")

    async def _authenticate(self, tag: bytes, cursor: Cursor) -> None:
        cursor.space()
        mechanism = cursor.atom()
        initial = cursor.rest() if cursor.skip(b" ") else None
        if not await self._may_try(tag):
            return
        attempt = self.boat.sasl.attempt(self._layer())
        outcome: Outcome = await attempt.start(mechanism, initial)
        while isinstance(outcome, Challenge):
            self.say(outcome.line)
            event = await self.connection.next()
            if not isinstance(event, Line):
                self.stop(b"no literal belongs here")
                return
            outcome = await attempt.step(event.data)
        if isinstance(outcome, Success):
            await self._become(tag, outcome.userid, outcome.authid, attempt.mechanism)
        elif outcome.pause:
            await self._failed_login(tag, f"{attempt.mechanism}: {outcome.reason}")
        else:
            self.boat.guessing.withdrawn(self._origin())
            self.say(tag + b" " + outcome.reply)

    async def _may_try(self, tag: bytes) -> bool:
        """Whether a password is looked at now; who guesses has to wait, or is turned away."""
        wait = self.boat.guessing.begin(self._origin())
        if wait is None:
            await self.boat.sleep(self.boat.failed_login_pause)
            self.say(tag + b" NO [UNAVAILABLE] too many failed logins, try again later")
            return False
        if wait:
            await self.boat.sleep(wait)
        return True

    async def _failed_login(self, tag: bytes, reason: str) -> None:
        log.warning("badlogin: %s [%s]", self.connection.peer, reason)
        await self.boat.sleep(self.boat.failed_login_pause)
        self.say(tag + b" NO [AUTHENTICATIONFAILED] authentication failure")
        self._failed += 1
        if self._failed == _FAILED_LOGINS:
            self.stop(b"too many failed logins")

    async def _become(self, tag: bytes, userid: str, authid: str, how: str) -> None:
        try:
            account = await self.boat.account(userid)
        except BadName:
            await self._failed_login(tag, f"{how}: {userid!r} is no userid")
            return
        self.boat.guessing.forgive(self._origin())
        self.user = User(account, self.connection, self.boat)
        for_whom = f" for {userid}" if userid != authid else ""
        log.info(
            "login: %s %s%s %s%s",
            *(self.connection.peer, authid, for_whom, how, " with TLS" if self.connection.tls else ""),
        )
        self.say(tag + b" OK [CAPABILITY %b] User logged in" % self._capabilities())

    # -- small things

    def _layer(self) -> Layer:
        return Layer.of(self.connection)

    def _origin(self) -> str:
        return origin(self.connection.peer)

    def _address(self) -> str:
        login = f" login={self.user.account.names.userid}" if self.user else ""
        return f"[client={self.connection.peer}{login}]"

    def _expect_within(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.boat.reactor.callLater(seconds, self.stop, b"idle for too long")

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


_Handler = Callable[[Session, bytes, Cursor], Coroutine[Any, Any, None]]

_ANYWHERE: dict[str, _Handler] = {
    "CAPABILITY": Session._capability,
    "NOOP": Session._noop,
    "CHECK": Session._noop,
    "ID": Session._id,
    "LOGOUT": Session._logout,
}
_BEFORE_LOGIN: dict[str, _Handler] = {
    "STARTTLS": Session._starttls,
    "LOGIN": Session._login,
    "AUTHENTICATE": Session._authenticate,
}
