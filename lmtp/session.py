"""One client: greeting, TLS and login, then its commands one after the other (RFC 2033, RFC 5321).

The answers to a message come in the order of its recipients, each when it is true: 250 says that the message
is on the disk. RCPT commands that have come together are looked up together.
"""

from __future__ import annotations

import logging
import uuid
from base64 import b64encode
from collections.abc import Callable, Coroutine
from typing import Any

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.reactor import Timer
from cyrus_sync.common.wire.guessing import origin
from cyrus_sync.common.wire.policy import Layer
from cyrus_sync.common.wire.sasl.server import Challenge, Outcome, Success
from cyrus_sync.lmtp import answers
from cyrus_sync.lmtp.answers import Answer, Refused
from cyrus_sync.lmtp.commands import Mail, Rcpt, part_of
from cyrus_sync.lmtp.connection import Gone, LmtpConnection
from cyrus_sync.lmtp.header import Envelope
from cyrus_sync.lmtp.octets import END, LineTooLong
from cyrus_sync.lmtp.placing import Posting
from cyrus_sync.lmtp.service import Service
from cyrus_sync.lmtp.transaction import Transaction

log = logging.getLogger("lmtp")

IDLE_SECONDS = 360.0
"""A client that says nothing for so long has gone away (as in lmtpd)."""

_MOST_RECIPIENTS = 1000
_MOST_ERRORS = 100
"""On one connection; then it ends."""

_FAILED_LOGINS = 5


class Session:
    """The conversation of one connection."""

    def __init__(self, connection: LmtpConnection, service: Service) -> None:
        self.connection = connection
        self.service = service
        self._helo = "unknown"
        self._id = ""
        self._transaction: Transaction | None = None
        self._trusted = False
        self._login = ""
        self._failed_logins = 0
        self._errors = 0
        self._timer: Timer | None = None
        self._closing = False
        self._in_data = False

    async def run(self) -> None:
        """Until the client is gone."""
        self._trusted = self.service.settings.trusts(self.connection.host)
        self._new_id()
        self.say(Answer(220, "", f"{self.service.banner} server ready"))
        try:
            while not self._closing:
                self._expect_within(IDLE_SECONDS)
                try:
                    line = await self.connection.line()
                except LineTooLong:
                    self._complain(answers.TOO_LONG)
                    continue
                await self._handle(line)
        finally:
            self._forget()

    def over(self) -> None:
        """The connection is lost."""
        self._closing = True
        self._stop_timer()

    def say(self, answer: Answer) -> None:
        self.connection.write(answer.octets())

    def stop(self, why: Answer = answers.STOPPING) -> None:
        """Say so and end. While a message is being delivered, its answers come first."""
        if not self._closing:
            self._closing = True
            if not self._in_data:
                self.say(why)
                self.connection.close()

    @property
    def busy(self) -> bool:
        """Whether a message is being delivered."""
        return self._in_data

    # -- a command

    async def _handle(self, line: bytes) -> None:
        word, _, arguments = line.partition(b" ")
        handler = _COMMANDS.get(word.upper().decode("latin-1"))
        if handler is None:
            self._complain(answers.SYNTAX)
            return
        try:
            await handler(self, arguments)
        except Refused as refused:
            self._complain(refused.answer)
        except Gone:
            raise
        except Exception:
            log.exception("internal error %s", self._address())
            self.say(Answer(421, "4.3.0", "internal error"))
            self._closing = True
            self.connection.close()

    def _complain(self, answer: Answer) -> None:
        self._errors += 1
        if self._errors > _MOST_ERRORS:
            self.stop(answers.CONFUSED)
        else:
            self.say(answer)

    async def _lhlo(self, arguments: bytes) -> None:
        if not arguments.strip():
            raise Refused(answers.SYNTAX)
        self._helo = answers.printable(arguments.decode("latin-1"))[:250]
        self._forget()
        most = self.service.settings.announced
        words = ["8BITMIME", "ENHANCEDSTATUSCODES", "PIPELINING", "CHUNKING"]
        words.append(f"SIZE {most}" if most else "SIZE")
        if self.service.settings.utf8:
            words.append("SMTPUTF8")
        if self.service.tls is not None and not self.connection.tls and self.connection.host is not None:
            words.append("STARTTLS")
        mechanisms = self.service.sasl.mechanisms(self._layer()) if not self._trusted else ()
        if mechanisms and not self._login:
            words.append("AUTH " + " ".join(mechanisms))
        lines = [self.service.settings.rules.servername, *words, "IGNOREQUOTA", f"Ok SESSIONID=<{self._id}>"]
        self.say(Answer(250, "", "\n".join(lines)))

    async def _noop(self, arguments: bytes) -> None:
        self.say(answers.OK)

    async def _vrfy(self, arguments: bytes) -> None:
        self.say(answers.TRY_RCPT)

    async def _rset(self, arguments: bytes) -> None:
        self._forget()
        self.say(Answer(250, "2.0.0", f"Ok SESSIONID=<{self._id}>"))

    async def _quit(self, arguments: bytes) -> None:
        self.say(answers.BYE)
        self._closing = True
        self.connection.close()

    # -- a message

    async def _mail(self, arguments: bytes) -> None:
        if not self._trusted and not self._login:
            code, status = (430, "4.7.0") if self.service.settings.soft_noauth else (530, "5.7.0")
            raise Refused(Answer(code, status, "Authentication required"))
        if self._transaction is not None:
            raise Refused(answers.NESTED)
        settings = self.service.settings
        mail = Mail.read(arguments, settings.announced, lenient=settings.lenient, utf8=settings.utf8)
        reason = self.service.refuses_changes()
        if reason:
            self.say(answers.takes_nothing(reason))
            return
        self._transaction = Transaction(self.service, mail)
        self.say(answers.SENDER_OK)

    async def _rcpt(self, arguments: bytes) -> None:
        """This RCPT and those that have come with it."""
        commands = [arguments]
        while self.connection.octets.next_begins_with(b"RCPT ") and len(commands) < _MOST_RECIPIENTS:
            try:
                commands.append((await self.connection.line()).partition(b" ")[2])
            except LineTooLong:
                commands.append(b"")
        transaction = self._transaction
        if transaction is None or transaction.begun:
            for _ in commands:
                self._complain(answers.NEED_MAIL if transaction is None else answers.NOT_NOW)
            return
        wanted: list[Rcpt | Answer] = []
        for one in commands:
            try:
                lenient = self.service.settings.lenient
                wanted.append(Rcpt.read(one, lenient=lenient, utf8=transaction.mail.utf8))
            except Refused as refused:
                wanted.append(refused.answer)
        found = await self.service.look_up([one for one in wanted if isinstance(one, Rcpt)], transaction.mail)
        looked_up = iter(found)
        for rcpt in wanted:
            answer = rcpt if isinstance(rcpt, Answer) else self._take(transaction, rcpt, next(looked_up))
            if answer.good:
                self.say(answer)
            else:
                self._complain(answer)

    def _take(self, transaction: Transaction, rcpt: Rcpt, found: Posting | Answer) -> Answer:
        if isinstance(found, Answer):
            self.service.measures.refused[found.code] += 1
            log.info("refused: <%s> %d %s %s", rcpt.address, found.code, found.status, self._address())
            return found
        if len(transaction.recipients) >= _MOST_RECIPIENTS:
            return answers.MANY_RECIPIENTS
        transaction.add(rcpt, found)
        return answers.RECIPIENT_OK

    async def _data(self, arguments: bytes) -> None:
        transaction = self._transaction
        if arguments:
            raise Refused(answers.SYNTAX)
        if transaction is None or not transaction.recipients:
            raise Refused(answers.NO_RECIPIENTS)
        if transaction.begun:
            raise Refused(answers.NOT_NOW)
        transaction.begin(self._envelope(transaction))
        self.connection.octets.begin_message()
        self.say(answers.GO_AHEAD)
        while (piece := await self.connection.piece()) != END:
            await transaction.take(piece, self.connection.octets.received)
            self._expect_within(IDLE_SECONDS)
        await self._deliver(transaction)

    async def _bdat(self, arguments: bytes) -> None:
        """A part of a message (RFC 3030). Its octets come whether it is taken or not."""
        try:
            size, last = part_of(arguments)
        except Refused as refused:
            self.stop(refused.answer)  # nobody knows where the next command begins
            return
        transaction = self._transaction
        if transaction is not None and transaction.recipients and not transaction.begun:
            transaction.begin(self._envelope(transaction), in_parts=True)
        if transaction is not None and not transaction.in_parts:
            transaction = None
        self.connection.octets.begin_part(size)
        while (piece := await self.connection.counted()) != END:
            if transaction is not None:
                await transaction.take_part(piece)
            self._expect_within(IDLE_SECONDS)
        if transaction is None:
            raise Refused(answers.NO_RECIPIENTS)
        if last:
            await self._deliver(transaction)
        elif transaction.problem is not None:
            # One answer for all; what comes of the message behind it is refused.
            self._complain(transaction.refusals(transaction.problem)[0])
            self._forget()
        else:
            self.say(answers.part_taken(size))

    async def _deliver(self, transaction: Transaction) -> None:
        """Each recipient has his answer when this ends."""
        self._stop_timer()
        self._in_data = True
        try:
            async for answer in transaction.answers(Answer(250, "2.1.5", f"Ok SESSIONID=<{self._id}>")):
                self.say(answer)
        finally:
            self._in_data = False
            self._forget()
            if self._closing:
                self.connection.close()

    def _envelope(self, transaction: Transaction) -> Envelope:
        kind = "UTF8LMTP" if transaction.mail.utf8 else "LMTP"
        protocol = kind + "S" * self.connection.tls + "A" * bool(self._login or self._trusted)
        host = self.connection.host
        return Envelope(
            sender=transaction.mail.sender,
            recipients=tuple(transaction.recipients),
            helo=self._helo,
            client="unix socket" if host is None else f"[IPv6:{host}]" if ":" in host else f"[{host}]",
            session=self._id,
            protocol=protocol,
        )

    def _forget(self) -> None:
        """The message that is announced, if there is one; what comes is another's."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.close()
        self._new_id()

    def _new_id(self) -> None:
        self._id = uuid.uuid4().hex[:16]

    # -- TLS and login

    async def _starttls(self, arguments: bytes) -> None:
        if arguments or self.service.tls is None or self.connection.host is None:
            raise Refused(answers.SYNTAX)
        if self.connection.tls or self._transaction is not None:
            raise Refused(answers.NOT_NOW)
        self.say(Answer(220, "2.0.0", "Begin TLS negotiation now"))
        try:
            await self.connection.start_tls(self.service.tls)
        except CyrusSyncError as error:
            log.info("STARTTLS failed: %s %s", error, self._address())
            self.connection.abort()
            return
        self._helo, self._login = "unknown", ""
        self._forget()

    async def _auth(self, arguments: bytes) -> None:
        if self._login or self._trusted or self._transaction is not None:
            raise Refused(answers.NOT_NOW)
        mechanism, _, initial = arguments.partition(b" ")
        guessing, address = self.service.guessing, origin(self.connection.peer)
        wait = guessing.begin(address)
        if wait is None:
            await self.service.sleep(self.service.failed_login_pause)
            raise Refused(Answer(454, "4.7.0", "too many failed logins, try again later"))
        if wait:
            await self.service.sleep(wait)
        attempt = self.service.sasl.attempt(self._layer())
        outcome: Outcome = await attempt.start(mechanism, initial or None)
        try:
            while isinstance(outcome, Challenge):
                self.connection.write(b"334 " + b64encode(outcome.data) + b"\r\n")
                outcome = await attempt.step(await self.connection.line())
        except LineTooLong:
            guessing.withdrawn(address)
            raise Refused(answers.TOO_LONG) from None
        if isinstance(outcome, Success) and outcome.authid in self.service.sasl.proxies:
            guessing.forgive(address)
            self._login = outcome.authid
            log.info("login: %s %s %s", self.connection.peer, outcome.authid, attempt.mechanism)
            self.say(Answer(235, "2.7.0", "Authenticated!"))
            return
        reason = f"{outcome.authid} is no administrator" if isinstance(outcome, Success) else outcome.reason
        log.warning("badlogin: %s [%s]", self.connection.peer, reason)
        if isinstance(outcome, Success):
            guessing.withdrawn(address)  # but it is answered like a wrong password, and as late
        elif not outcome.pause:
            guessing.withdrawn(address)
            raise Refused(answers.CANCELLED)
        await self.service.sleep(self.service.failed_login_pause)
        self._failed_logins += 1
        if self._failed_logins >= _FAILED_LOGINS:
            self.stop(answers.CONFUSED)
        else:
            self._complain(Answer(535, "5.7.8", "authentication failure"))

    def _layer(self) -> Layer:
        return Layer.of(self.connection)

    # -- small things

    def _address(self) -> str:
        return f"[client={self.connection.peer} session={self._id}]"

    def _expect_within(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.service.reactor.callLater(seconds, self.stop, answers.IDLE)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


_Handler = Callable[[Session, bytes], Coroutine[Any, Any, None]]

_COMMANDS: dict[str, _Handler] = {
    "LHLO": Session._lhlo,
    "MAIL": Session._mail,
    "RCPT": Session._rcpt,
    "DATA": Session._data,
    "BDAT": Session._bdat,
    "RSET": Session._rset,
    "NOOP": Session._noop,
    "VRFY": Session._vrfy,
    "QUIT": Session._quit,
    "STARTTLS": Session._starttls,
    "AUTH": Session._auth,
}
